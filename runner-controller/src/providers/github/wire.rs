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
    pub(super) runner: Made,
    #[serde(deserialize_with = "secret")]
    pub(super) encoded_jit_config: SecretString,
}

/// The runner that was made. Nothing else of it is read.
#[derive(Deserialize)]
pub(super) struct Made {
    pub(super) id: u64,
}

/// A runner, as listed.
#[derive(Deserialize)]
pub(super) struct Runner {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) busy: bool,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default, deserialize_with = "labels")]
    pub(super) labels: Vec<String>,
}

/// The names of a runner's labels. What has another form names none: the rest of the list must be readable all the same.
fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    let names = value.as_array().into_iter().flatten().filter_map(|label| label["name"].as_str());
    Ok(names.map(str::to_owned).collect())
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

/// What is written of a check-run: all of it to make one, the rest to change one.
#[derive(Serialize)]
pub(super) struct WrittenCheckRun<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) head_sha: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) details_url: Option<&'a str>,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conclusion: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completed_at: Option<String>,
    pub(super) output: CheckOutput<'a>,
}

/// What a check-run says.
#[derive(Serialize)]
pub(super) struct CheckOutput<'a> {
    pub(super) title: &'a str,
    pub(super) summary: &'a str,
}

/// A check-run, as answered.
#[derive(Deserialize)]
pub(super) struct CheckRun {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) external_id: Option<String>,
}

/// A page of check-runs.
#[derive(Deserialize)]
pub(super) struct CheckRuns {
    #[serde(default)]
    pub(super) check_runs: Vec<CheckRun>,
}

/// A run, as far as it tells whose code it runs.
#[derive(Deserialize)]
pub(super) struct Run {
    #[serde(default)]
    pub(super) event: String,
    #[serde(default)]
    pub(super) head_branch: Option<String>,
    #[serde(default)]
    pub(super) head_sha: String,
    /// Null where a fork was deleted.
    #[serde(default)]
    pub(super) head_repository: Option<Repository>,
}

/// A repository.
#[derive(Deserialize)]
pub(super) struct Repository {
    #[serde(default)]
    pub(super) full_name: String,
}

/// A repository, as listed.
#[derive(Deserialize)]
pub(super) struct ListedRepository {
    pub(super) full_name: String,
    #[serde(default)]
    pub(super) pushed_at: Option<String>,
    /// Nobody can push to one, nor run anything of it.
    #[serde(default)]
    pub(super) archived: bool,
}

/// A page of an installation's repositories.
#[derive(Deserialize)]
pub(super) struct Repositories {
    #[serde(default)]
    pub(super) repositories: Vec<ListedRepository>,
}

/// Where a hook's deliveries go.
#[derive(Deserialize)]
pub(super) struct HookConfig {
    #[serde(default)]
    pub(super) url: Option<String>,
}

/// A hook of an organization or repository.
#[derive(Deserialize)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) config: HookConfig,
}

/// An attempt to deliver, as listed.
#[derive(Deserialize)]
pub(super) struct ListedDelivery {
    pub(super) id: u64,
    pub(super) guid: String,
    #[serde(default)]
    pub(super) delivered_at: Option<String>,
    #[serde(default)]
    pub(super) status_code: u16,
    pub(super) event: String,
    #[serde(default)]
    pub(super) action: Option<String>,
}

/// An attempt to deliver, with what was sent.
#[derive(Deserialize)]
pub(super) struct Delivery {
    pub(super) guid: String,
    pub(super) event: String,
    pub(super) request: DeliveryRequest,
}

/// What was sent.
#[derive(Deserialize)]
pub(super) struct DeliveryRequest {
    #[serde(default)]
    pub(super) payload: serde_json::Value,
}

/// A page of runs.
#[derive(Deserialize)]
pub(super) struct Runs {
    #[serde(default)]
    pub(super) workflow_runs: Vec<ListedRun>,
}

/// A run, as listed.
#[derive(Deserialize)]
pub(super) struct ListedRun {
    pub(super) id: u64,
    pub(super) repository: serde_json::Value,
}

/// A page of jobs.
#[derive(Deserialize)]
pub(super) struct Jobs {
    #[serde(default)]
    pub(super) jobs: Vec<serde_json::Value>,
}

/// A branch.
#[derive(Clone, Deserialize)]
pub(super) struct Branch {
    pub(super) protected: bool,
    pub(super) commit: Commit,
}

/// A commit.
#[derive(Clone, Deserialize)]
pub(super) struct Commit {
    pub(super) sha: String,
}

/// How one commit stands to another.
#[derive(Deserialize)]
pub(super) struct Comparison {
    pub(super) status: String,
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
