//! How records of jobs and runners stand in SQLite as JSON. Core's types carry no serde, so that the form on disk is
//! decided here.
//!
//! Each `…Form` names the fields of one type of core; the compiler refuses one that is missing. A field that is added
//! to a type later gets `#[serde(default)]`, since older files lack it.

use jiff::Timestamp;
use runner_core::job::{Findings, JobAction, JobDescription, JobKey, JobReport, Standing};
use runner_core::labels::Matched;
use runner_core::lifecycle::{AgentFacts, GroupFacts, Launched, Registered, Runner, RunnerFacts, Teardown};
use runner_core::setup::{PlaceKind, Scope, Size};
use serde::{Deserialize, Serialize};

/// A type of core that stands in a column as JSON.
pub(super) trait Json: Sized {
    /// The text for the column.
    fn to_json(&self) -> serde_json::Result<String>;
    /// Reads it back.
    fn from_json(text: &str) -> serde_json::Result<Self>;
}

/// Implements [`Json`] for a type by its form.
macro_rules! json {
    ($type:ty, $form:ident) => {
        impl Json for $type {
            fn to_json(&self) -> serde_json::Result<String> {
                let mut text = Vec::new();
                $form::serialize(self, &mut serde_json::Serializer::new(&mut text))?;
                String::from_utf8(text).map_err(serde::ser::Error::custom)
            }

            fn from_json(text: &str) -> serde_json::Result<Self> {
                let mut reader = serde_json::Deserializer::from_str(text);
                let value = $form::deserialize(&mut reader)?;
                reader.end()?;
                Ok(value)
            }
        }
    };
}

/// A module for `#[serde(with)]` that stands for an optional value of a type, by its form.
macro_rules! optional {
    ($module:ident, $type:ty, $form:literal) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: serde::Serializer>(
                value: &Option<$type>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                struct Borrowed<'a>(#[serde(with = $form)] &'a $type);
                value.as_ref().map(Borrowed).serialize(serializer)
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<$type>, D::Error> {
                #[derive(Deserialize)]
                struct Owned(#[serde(with = $form)] $type);
                Ok(Option::<Owned>::deserialize(deserializer)?.map(|owned| owned.0))
            }
        }
    };
}

json!(JobDescription, DescriptionForm);
json!(JobReport, ReportForm);
json!(Findings, FindingsForm);
json!(Runner, RunnerForm);
optional!(optional_registered, Registered, "RegisteredForm");
optional!(optional_launched, Launched, "LaunchedForm");
optional!(optional_teardown, Teardown, "TeardownForm");
optional!(optional_group, GroupFacts, "GroupForm");

/// The word that stands for an action.
pub(super) fn action_word(action: JobAction) -> &'static str {
    match action {
        JobAction::Queued => "queued",
        JobAction::Waiting => "waiting",
        JobAction::InProgress => "in_progress",
        JobAction::Completed => "completed",
    }
}

/// The action that a word stands for.
pub(super) fn action_of(word: &str) -> Option<JobAction> {
    [JobAction::Queued, JobAction::Waiting, JobAction::InProgress, JobAction::Completed]
        .into_iter()
        .find(|action| action_word(*action) == word)
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "JobKey", rename_all = "camelCase")]
struct KeyForm {
    source: String,
    id: String,
    attempt: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "JobDescription", rename_all = "camelCase")]
struct DescriptionForm {
    owner: String,
    repository: String,
    public: bool,
    name: String,
    workflow: Option<String>,
    url: Option<String>,
    labels: Vec<String>,
    #[serde(default)]
    created_at: Option<Timestamp>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    head_sha: Option<String>,
    #[serde(default)]
    head_branch: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "JobReport", rename_all = "camelCase")]
struct ReportForm {
    #[serde(with = "StandingForm")]
    standing: Standing,
    reason: Option<String>,
    class: Option<String>,
    runner: Option<String>,
    conclusion: Option<String>,
    runners_started: u32,
    failed: u32,
    counted: u32,
    retry_after: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Findings", rename_all = "camelCase")]
struct FindingsForm {
    #[serde(default)]
    protected_branch: Option<bool>,
    #[serde(default)]
    notice_begun: Option<Timestamp>,
    #[serde(default)]
    notice_id: Option<String>,
    #[serde(default)]
    notice_ended: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Standing")]
enum StandingForm {
    Stored,
    Waiting,
    Refused,
    Starting,
    Running,
    Ended,
    GivenUp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Runner", rename_all = "camelCase")]
struct RunnerForm {
    name: String,
    #[serde(with = "KeyForm")]
    job: JobKey,
    ordinal: u32,
    #[serde(with = "ScopeForm")]
    scope: Scope,
    #[serde(with = "MatchedForm")]
    matched: Matched,
    labels: Vec<String>,
    #[serde(with = "SizeForm")]
    size: Size,
    place: String,
    #[serde(with = "PlaceKindForm")]
    kind: PlaceKind,
    created_at: Timestamp,
    deleted: bool,
    #[serde(with = "FactsForm")]
    facts: RunnerFacts,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Scope", rename_all = "camelCase")]
enum ScopeForm {
    Owner(String),
    Repository(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Matched", rename_all = "camelCase")]
struct MatchedForm {
    class: String,
    size: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Size", rename_all = "camelCase")]
struct SizeForm {
    cpu_millis: u32,
    memory_bytes: u64,
    max_runners: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PlaceKind", rename_all = "camelCase")]
enum PlaceKindForm {
    VirtualNode,
    ContainerInstances,
    NodePool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunnerFacts", rename_all = "camelCase")]
struct FactsForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<Timestamp>,
    registering: Option<Timestamp>,
    #[serde(with = "optional_registered")]
    registered: Option<Registered>,
    launching: Option<Timestamp>,
    #[serde(with = "optional_launched")]
    launched: Option<Launched>,
    busy_seen: Option<Timestamp>,
    #[serde(with = "AgentForm")]
    agent: AgentFacts,
    #[serde(with = "optional_teardown")]
    teardown: Option<Teardown>,
    #[serde(with = "optional_group")]
    group: Option<GroupFacts>,
    captured: Option<Timestamp>,
    deleting: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stuck: Option<Timestamp>,
    gone: Option<Timestamp>,
    billed: Option<Timestamp>,
    deregistered: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Registered", rename_all = "camelCase")]
struct RegisteredForm {
    id: u64,
    callback_hash: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Launched", rename_all = "camelCase")]
struct LaunchedForm {
    uid: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AgentFacts", rename_all = "camelCase")]
struct AgentForm {
    booted: Option<Timestamp>,
    job_started: Option<Timestamp>,
    job_completed: Option<Timestamp>,
    exiting: Option<Timestamp>,
    exit_code: Option<i32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Teardown", rename_all = "camelCase")]
struct TeardownForm {
    code: String,
    sentence: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GroupFacts", rename_all = "camelCase")]
struct GroupForm {
    id: String,
    pull_started: Option<Timestamp>,
    started: Option<Timestamp>,
    stopped: Option<Timestamp>,
    seen_at: Option<Timestamp>,
    #[serde(default)]
    failed: Option<String>,
}

#[cfg(test)]
mod tests;
