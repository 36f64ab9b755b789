//! How GitHub is reached, and as whom. Sends nothing.

use std::fmt;

use secrecy::SecretString;

use super::DEFAULT_GROUP;

/// How to reach GitHub, and as whom.
#[derive(Clone)]
pub struct GitHubSettings {
    /// Where its REST API is: `https://api.github.com`, or `https://HOST/api/v3` for an Enterprise Server.
    pub api_url: String,
    /// As whom.
    pub auth: GitHubAuth,
    /// The runner group in which runners of an organization register.
    pub runner_group_id: u64,
    /// A proxy to go through, as `http://[user:password@]host:port`.
    pub proxy: Option<String>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_bundle: Option<String>,
    /// What to call ourselves; GitHub refuses calls without it.
    pub user_agent: String,
}

impl GitHubSettings {
    /// Settings for github.com, with defaults for all but the account.
    pub fn new(auth: GitHubAuth) -> Self {
        Self {
            api_url: "https://api.github.com".to_owned(),
            auth,
            runner_group_id: DEFAULT_GROUP,
            proxy: None,
            ca_bundle: None,
            user_agent: concat!("stint/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl fmt::Debug for GitHubSettings {
    /// Leaves the proxy's address out, which may carry a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubSettings")
            .field("api_url", &self.api_url)
            .field("auth", &self.auth)
            .field("runner_group_id", &self.runner_group_id)
            .field("proxy", &self.proxy.is_some())
            .field("ca_bundle", &self.ca_bundle.is_some())
            .field("user_agent", &self.user_agent)
            .finish()
    }
}

/// As whom Stint speaks to GitHub.
#[derive(Clone, Debug)]
pub enum GitHubAuth {
    /// A GitHub App, which must be installed on the owners that it serves.
    App {
        /// Its id.
        app_id: u64,
        /// Its RSA private key, in PEM.
        private_key: SecretString,
    },
    /// A personal access token.
    Token(SecretString),
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct GitHubSettingsError {
    /// The setting, as the `RunnerSource` document spells it.
    pub field: &'static str,
    /// What is wrong with it, in one line. Never its value.
    pub problem: String,
}

impl GitHubSettingsError {
    pub(super) fn new(field: &'static str, problem: impl fmt::Display) -> Self {
        Self { field, problem: problem.to_string() }
    }
}
