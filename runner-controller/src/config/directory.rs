//! Configuration documents and Secrets from a directory of YAML files, for one machine without a cluster.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use kube::CustomResourceExt;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Budget, ConcurrencyLimit, Documents, RunnerClass, RunnerPlace, RunnerSource, shape};

/// Of the kinds that Stint defines.
const API_VERSION: &str = "stint.dev/v1alpha1";
/// What a document may be.
const KINDS: &str = "it must be RunnerSource, RunnerClass, RunnerPlace, ConcurrencyLimit, Budget or Secret";

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
        path.extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|end| end == "yaml" || end == "yml")
    });
    files.sort();
    let mut read = Reader::default();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
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
    #[serde(default, rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default, rename = "stringData")]
    string_data: Option<HashMap<String, Value>>,
    #[serde(default)]
    data: Option<HashMap<String, Value>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

impl Reader {
    fn text(&mut self, text: &str) -> anyhow::Result<()> {
        // Without the snippet of an error, which may show a Secret.
        let values: Vec<Option<Value>> = serde_saphyr::from_multiple(text)
            .map_err(|error| anyhow::anyhow!("not usable as YAML: {}", error.without_snippet()))?;
        for (index, value) in values.into_iter().flatten().enumerate() {
            if value.is_null() {
                continue;
            }
            // Its cause is left out: it may quote a Secret.
            let head: Head = serde_json::from_value(value).map_err(|_| {
                anyhow::anyhow!(
                    "document {}: it needs kind, metadata.name and spec, as in Kubernetes",
                    index + 1
                )
            })?;
            if head.kind.is_empty() {
                anyhow::bail!("document {}: kind is missing: {KINDS}", index + 1);
            }
            if head.metadata.name.is_empty() {
                anyhow::bail!("document {}, a {}: metadata.name is missing", index + 1, head.kind);
            }
            let (kind, name) = (head.kind.clone(), head.metadata.name.clone());
            if !is_name(&name) {
                anyhow::bail!(
                    "{kind} {name:?}: metadata.name must be of a-z, 0-9, - and ., as in Kubernetes"
                );
            }
            self.document(head).with_context(|| format!("{kind} {name}"))?;
        }
        Ok(())
    }

    fn document(&mut self, head: Head) -> anyhow::Result<()> {
        let name = head.metadata.name;
        let version = if head.kind == "Secret" { "v1" } else { API_VERSION };
        let twice = match head.kind.as_str() {
            "RunnerSource" => {
                self.documents.sources.insert(name, spec::<RunnerSource, _>(head.spec)?).is_some()
            }
            "RunnerClass" => {
                self.documents.classes.insert(name, spec::<RunnerClass, _>(head.spec)?).is_some()
            }
            "RunnerPlace" => self.documents.places.insert(name, spec::<RunnerPlace, _>(head.spec)?).is_some(),
            "ConcurrencyLimit" => {
                self.documents.limits.insert(name, spec::<ConcurrencyLimit, _>(head.spec)?).is_some()
            }
            "Budget" => self.documents.budgets.insert(name, spec::<Budget, _>(head.spec)?).is_some(),
            "Secret" => self.secrets.insert(name, secret(head.data, head.string_data)?).is_some(),
            other => anyhow::bail!("kind {other:?} is not known: {KINDS}"),
        };
        if let Some(other) = head.api_version.filter(|given| given != version) {
            anyhow::bail!("apiVersion {other:?} is not known: write {version}");
        }
        if twice {
            anyhow::bail!("a document of this kind and name stands twice: remove or rename one");
        }
        Ok(())
    }
}

/// Whether a cluster would take the name too.
fn is_name(name: &str) -> bool {
    let at_an_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fine = |part: &str| {
        part.bytes().all(|byte| at_an_end(byte) || byte == b'-')
            && part.bytes().next().is_some_and(at_an_end)
            && part.bytes().next_back().is_some_and(at_an_end)
    };
    name.len() <= 253 && name.split('.').all(fine)
}

fn secret(
    data: Option<HashMap<String, Value>>,
    string_data: Option<HashMap<String, Value>>,
) -> anyhow::Result<HashMap<String, SecretString>> {
    let text_of = |field: &str, key: &str, value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(anyhow::anyhow!("{field}.{key} must be text: write it in quotes"))
        }
    };
    let mut values: HashMap<String, SecretString> = HashMap::new();
    for (key, value) in data.into_iter().flatten() {
        let text = text_of("data", &key, value)?;
        // The causes are left out: they would quote the value.
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.split_whitespace().collect::<String>())
            .map_err(|_| anyhow::anyhow!("data.{key} is not base64: write plain text under stringData"))?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("data.{key} is not text"))?;
        values.insert(key, text.into());
    }
    for (key, value) in string_data.into_iter().flatten() {
        let text = text_of("stringData", &key, value)?;
        values.insert(key, text.into());
    }
    Ok(values)
}

fn spec<K: CustomResourceExt, T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    if value.is_null() {
        anyhow::bail!("spec is missing");
    }
    shape::check::<K>(&value).map_err(anyhow::Error::msg)?;
    // What the schema says is what the type reads; should they differ, the type has the word.
    serde_json::from_value(value).map_err(|error| anyhow::anyhow!("spec: {error}"))
}

#[cfg(test)]
mod tests;
