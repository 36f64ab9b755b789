//! What tests say of a job and see of jobs, runs and agents: the public side of the records.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Identifies one attempt of a job: what the service calls a job request.
pub type RequestId = u64;
/// Identifies a run, which the service also calls a build.
pub type RunId = u64;
/// Identifies a registered agent.
pub type AgentId = u64;
/// Identifies an agent pool.
pub type PoolId = u64;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// Waits for an agent.
    Queued,
    /// An agent is reserved for it and has not fetched it.
    Assigned,
    /// Runs.
    Running,
    /// Has ended.
    Completed,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobResult {
    /// All its steps passed.
    #[default]
    Succeeded,
    /// A step that may fail did.
    SucceededWithIssues,
    /// A step failed, or no agent could ever have it.
    Failed,
    /// Someone cancelled it, or it ran for too long.
    Canceled,
    /// Its condition was false.
    Skipped,
    /// Its agent was lost.
    Abandoned,
}

impl JobResult {
    /// The REST API's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::SucceededWithIssues => "succeededWithIssues",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
            Self::Abandoned => "abandoned",
        }
    }

    /// The result as service hooks and builds tell it, which know fewer.
    pub(crate) fn outcome(self) -> Self {
        match self {
            Self::SucceededWithIssues => Self::Succeeded,
            Self::Abandoned => Self::Failed,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Skipped => self,
        }
    }
}

/// A job to queue. In JSON, only `pool` is required.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    /// The name of the agent pool, which must exist.
    pub pool: String,
    /// What it demands: `name`, or `name -equals value`.
    #[serde(default)]
    pub demands: Vec<String>,
    /// The project; added where it does not exist yet.
    #[serde(default = "default_project")]
    pub project: String,
    /// The pipeline's name; added where it does not exist yet.
    #[serde(default = "default_pipeline")]
    pub pipeline: String,
    /// The stage's name.
    #[serde(default = "default_stage")]
    pub stage: String,
    /// The job's name.
    #[serde(default = "default_job")]
    pub job: String,
    /// The branch that it builds.
    #[serde(default = "default_branch")]
    pub branch: String,
    /// What started the run.
    #[serde(default = "default_reason")]
    pub reason: String,
    /// The run that it belongs to; absent: one of its own.
    #[serde(default)]
    pub run: Option<RunId>,
    /// Requests with a higher priority are given agents first.
    #[serde(default)]
    pub priority: i32,
    /// How long it runs; absent: until [`finish_job`](crate::AzureDevOpsControl::finish_job) is called.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// How it ends when its time is over.
    #[serde(default)]
    pub result: JobResult,
    /// Its `timeoutInMinutes`, in milliseconds; multiplied by the time scale. Absent: none.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// What it logs.
    #[serde(default)]
    pub log_lines: Vec<String>,
    /// Whatever else the stand-in agent shall be told, passed on in the job message's `script`.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

fn default_project() -> String {
    "app".to_owned()
}
fn default_pipeline() -> String {
    "CI".to_owned()
}
fn default_stage() -> String {
    "__default".to_owned()
}
fn default_job() -> String {
    "build".to_owned()
}
fn default_branch() -> String {
    "refs/heads/main".to_owned()
}
fn default_reason() -> String {
    "individualCI".to_owned()
}

impl JobSpec {
    /// A job for `pool` that makes `demands`, runs until it is finished by hand and then succeeds.
    pub fn new(pool: &str, demands: &[&str]) -> Self {
        Self {
            pool: pool.to_owned(),
            demands: demands.iter().map(|demand| (*demand).to_owned()).collect(),
            project: default_project(),
            pipeline: default_pipeline(),
            stage: default_stage(),
            job: default_job(),
            branch: default_branch(),
            reason: default_reason(),
            run: None,
            priority: 0,
            duration_ms: None,
            result: JobResult::Succeeded,
            timeout_ms: None,
            log_lines: Vec::new(),
            extra: BTreeMap::new(),
        }
    }

    /// What tells it apart from the other jobs of its run: stage and job, in lower case.
    pub(crate) fn full_name(&self) -> (String, String) {
        (self.stage.to_lowercase(), self.job.to_lowercase())
    }

    /// Runs for `duration`.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration_ms = Some(milliseconds(duration));
        self
    }

    /// Ends as `result`.
    #[must_use]
    pub fn ending(mut self, result: JobResult) -> Self {
        self.result = result;
        self
    }

    /// Is called `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.job);
        self
    }

    /// Belongs to the stage `name`.
    #[must_use]
    pub fn in_stage(mut self, name: &str) -> Self {
        name.clone_into(&mut self.stage);
        self
    }

    /// Belongs to the project `name`.
    #[must_use]
    pub fn in_project(mut self, name: &str) -> Self {
        name.clone_into(&mut self.project);
        self
    }

    /// Is part of the run `run`.
    #[must_use]
    pub fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Has a priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// May run for `limit`.
    #[must_use]
    pub fn limited_to(mut self, limit: Duration) -> Self {
        self.timeout_ms = Some(milliseconds(limit));
        self
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A job as tests and `/_emulator/jobs` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its request.
    pub request_id: RequestId,
    /// Its run.
    pub run_id: RunId,
    /// Its id, the same in hooks, requests and the timeline.
    pub job_id: String,
    /// Which attempt of the job it is.
    pub attempt: u32,
    /// Its project's name.
    pub project: String,
    /// Its stage's name.
    pub stage: String,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool_id: PoolId,
    /// What it demands, the service's own demand included.
    pub demands: Vec<String>,
    /// Where it stands.
    pub state: JobState,
    /// How it ended.
    pub result: Option<JobResult>,
    /// The agent that is reserved for it.
    pub agent_id: Option<AgentId>,
    /// That agent's name.
    pub agent_name: Option<String>,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When an agent was reserved for it, last.
    pub assigned_at: Option<Timestamp>,
    /// When its agent fetched it.
    pub received_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How often an agent was reserved for it.
    pub assignments: u32,
    /// What the service complains of.
    pub issues: Vec<String>,
    /// What its agent logged.
    pub log: Vec<String>,
}

/// A run as tests and `/_emulator/runs` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Its id, which is the build's.
    pub id: RunId,
    /// Its number, such as `20261124.1`.
    pub number: String,
    /// Its project's name.
    pub project: String,
    /// Its pipeline's name.
    pub pipeline: String,
    /// `inProgress`, `cancelling` or `completed`.
    pub status: String,
    /// How it ended.
    pub result: Option<JobResult>,
    /// The requests of all its jobs and attempts.
    pub requests: Vec<RequestId>,
}

/// An agent as tests and `/_emulator/agents` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool_id: PoolId,
    /// Its version.
    pub version: Option<String>,
    /// Whether it may be given jobs.
    pub enabled: bool,
    /// Whether it is connected.
    pub online: bool,
    /// Capabilities that people or controllers gave it.
    pub user_capabilities: BTreeMap<String, String>,
    /// Capabilities that it found itself.
    pub system_capabilities: BTreeMap<String, String>,
    /// The request that it has.
    pub request: Option<RequestId>,
    /// When it was registered.
    pub created_at: Timestamp,
}
