//! Configuration documents and Secrets from a directory of YAML files, for one machine without a cluster.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Documents;

/// Secrets by name, each with its values by key.
pub type Secrets = HashMap<String, HashMap<String, SecretString>>;

/// Reads every `*.yaml` and `*.yml` file of a directory, in the order of their names.
///
/// # Errors
/// The first file, document and field that cannot be used, and what to do about it.
pub fn read(directory: &Path) -> anyhow::Result<(Documents, Secrets)> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("{} is not a readable directory of configuration", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| {
        path.extension().and_then(|extension| extension.to_str()).is_some_and(|end| end == "yaml" || end == "yml")
    });
    files.sort();
    let mut read = Reader::default();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        read.text(&text).with_context(|| file.display().to_string())?;
    }
    Ok((read.documents, read.secrets))
}

/// Reads one YAML stream.
///
/// # Errors
/// The first document and field that cannot be used.
pub fn parse(text: &str) -> anyhow::Result<(Documents, Secrets)> {
    let mut read = Reader::default();
    read.text(text)?;
    Ok((read.documents, read.secrets))
}

#[derive(Default)]
struct Reader {
    documents: Documents,
    secrets: Secrets,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default, rename = "stringData")]
    string_data: HashMap<String, String>,
    #[serde(default)]
    data: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

impl Reader {
    fn text(&mut self, text: &str) -> anyhow::Result<()> {
        let values: Vec<Option<Value>> =
            serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("not YAML: {error}"))?;
        for (index, value) in values.into_iter().flatten().enumerate() {
            if value.is_null() {
                continue;
            }
            let head: Head = serde_json::from_value(value)
                .with_context(|| format!("document {} has no usable kind, metadata.name or spec", index + 1))?;
            let (kind, name) = (head.kind.clone(), head.metadata.name.clone());
            self.document(head).with_context(|| format!("{kind} {name}"))?;
        }
        Ok(())
    }

    fn document(&mut self, head: Head) -> anyhow::Result<()> {
        let name = head.metadata.name;
        if name.is_empty() {
            anyhow::bail!("metadata.name is missing");
        }
        let twice = match head.kind.as_str() {
            "RunnerSource" => self.documents.sources.insert(name, spec(head.spec)?).is_some(),
            "RunnerClass" => self.documents.classes.insert(name, spec(head.spec)?).is_some(),
            "RunnerPlace" => self.documents.places.insert(name, spec(head.spec)?).is_some(),
            "Secret" => {
                let mut values: HashMap<String, SecretString> = HashMap::new();
                for (key, text) in head.data {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(text.trim())
                        .with_context(|| format!("data.{key} is not base64: write plain text under stringData"))?;
                    let text = String::from_utf8(bytes).with_context(|| format!("data.{key} is not text"))?;
                    values.insert(key, text.into());
                }
                values.extend(head.string_data.into_iter().map(|(key, text)| (key, text.into())));
                self.secrets.insert(name, values).is_some()
            }
            other => anyhow::bail!(
                "kind {other:?} is not known here: it must be RunnerSource, RunnerClass, RunnerPlace or Secret"
            ),
        };
        if twice {
            anyhow::bail!("a document of this kind and name stands twice");
        }
        Ok(())
    }
}

fn spec<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    // By way of text, so that the error names the path.
    serde_json::from_value(value).map_err(|error| anyhow::anyhow!("spec: {error}"))
}

#[cfg(test)]
mod tests;
