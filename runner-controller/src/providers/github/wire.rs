//! What is written to and read of GitHub's REST API: only the fields that are used, and lenient about the rest.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

/// Body of `generate-jitconfig`.
#[derive(Serialize)]
pub(super) struct GenerateJitConfig<'a> {
    pub(super) name: &'a str,
    pub(super) runner_group_id: u64,
    pub(super) labels: &'a [String],
    pub(super) work_folder: &'a str,
}

/// Answer of `generate-jitconfig`.
#[derive(Deserialize)]
pub(super) struct JitConfig {
    pub(super) runner: Runner,
    #[serde(deserialize_with = "secret")]
    pub(super) encoded_jit_config: SecretString,
}

/// A runner, as listed.
#[derive(Deserialize)]
pub(super) struct Runner {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
}

/// A page of runners.
#[derive(Deserialize)]
pub(super) struct Runners {
    #[serde(default)]
    pub(super) runners: Vec<Runner>,
}

/// A job.
#[derive(Deserialize)]
pub(super) struct Job {
    pub(super) status: String,
    #[serde(default)]
    pub(super) run_attempt: Option<u32>,
    #[serde(default)]
    pub(super) conclusion: Option<String>,
    #[serde(default)]
    pub(super) runner_id: Option<u64>,
    #[serde(default)]
    pub(super) runner_name: Option<String>,
}

/// An installation of a GitHub App.
#[derive(Deserialize)]
pub(super) struct Installation {
    pub(super) id: u64,
}

/// The body of a refusal.
#[derive(Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) message: String,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}
