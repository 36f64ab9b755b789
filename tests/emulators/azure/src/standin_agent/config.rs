//! Where the agent finds what it needs: environment and mounted files, as the real image's entrypoint does.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::groups::process::EMULATED_ROOT;
use crate::groups::volumes::inside;

pub(crate) type Environment = BTreeMap<String, String>;

/// The agent's settings.
#[derive(Debug)]
pub(crate) struct Config {
    root: Option<PathBuf>,
    pub(crate) runner: String,
    jit_file: String,
    pub(crate) callback: Option<CallbackConfig>,
    ca_pem: Option<Vec<u8>>,
}

/// Where call-backs go.
pub(crate) struct CallbackConfig {
    pub(crate) url: String,
    pub(crate) token: String,
}

impl fmt::Debug for CallbackConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a JIT config holds for the agent.
pub(crate) struct Jit {
    pub(crate) server_url: String,
    pub(crate) token: String,
}

impl Config {
    pub(crate) fn load(environment: &Environment) -> Result<Self> {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let file = |name: &str, default: &str| get(name).unwrap_or_else(|| default.to_owned());
        let root = get(EMULATED_ROOT).map(PathBuf::from);
        let mut config = Self {
            root,
            runner: get("STINT_RUNNER").unwrap_or_else(|| "unnamed".to_owned()),
            jit_file: file("STINT_JITCONFIG_FILE", "/run/stint/jitconfig"),
            callback: None,
            ca_pem: None,
        };
        if let Some(path) = get("STINT_CALLBACK_CA_FILE") {
            config.ca_pem = Some(config.read(&path)?);
        }
        if let Some(url) = get("STINT_CALLBACK_URL") {
            let token = config.read(&file("STINT_CALLBACK_TOKEN_FILE", "/run/stint/callback-token"))?;
            let token =
                String::from_utf8(token).context("the call-back token is not text")?.trim().to_owned();
            config.callback = Some(CallbackConfig { url: url.trim_end_matches('/').to_owned(), token });
        }
        Ok(config)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let at = match &self.root {
            Some(root) => inside(root, path)?,
            None => Path::new(path).to_owned(),
        };
        std::fs::read(&at).with_context(|| format!("reading '{}'", at.display()))
    }

    pub(crate) fn client(&self) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(2);
        if let Some(pem) = &self.ca_pem {
            let roots = reqwest::Certificate::from_pem_bundle(pem).context("reading the call-back's CA")?;
            builder = builder.tls_certs_merge(roots);
        }
        builder.build().context("making the HTTP client")
    }

    /// Takes the JIT config apart: base64 of `{".runner": base64 JSON, ".credentials": base64 JSON}`.
    pub(crate) fn jit(&self) -> Result<Jit> {
        #[derive(Deserialize)]
        struct Files {
            #[serde(rename = ".runner")]
            runner: String,
            #[serde(rename = ".credentials")]
            credentials: String,
        }
        #[derive(Deserialize)]
        struct Runner {
            #[serde(rename = "serverUrl")]
            server_url: String,
        }
        #[derive(Deserialize)]
        struct Credentials {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            data: BTreeMap<String, serde_json::Value>,
        }
        let text = self.read(&self.jit_file)?;
        let files: Files = decode(&text).context("reading the JIT config")?;
        let runner: Runner = decode(files.runner.as_bytes()).context("reading '.runner'")?;
        let credentials: Credentials =
            decode(files.credentials.as_bytes()).context("reading '.credentials'")?;
        let in_data = || credentials.data.get("token").and_then(|token| token.as_str()).map(str::to_owned);
        let token = credentials.token.clone().or_else(in_data).context("'.credentials' has no token")?;
        Ok(Jit { server_url: runner.server_url.trim_end_matches('/').to_owned(), token })
    }
}

fn decode<T: for<'de> Deserialize<'de>>(text: &[u8]) -> Result<T> {
    let bytes = STANDARD.decode(text.trim_ascii()).context("not base64")?;
    // Real ones begin with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(bytes).context("not the JSON that was expected")
}
