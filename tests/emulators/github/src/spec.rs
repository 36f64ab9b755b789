//! What tests say of a job and see of jobs and runners: the public side of the records.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Identifies one execution of a job: a re-run has a new one.
pub type JobId = u64;
/// Identifies a run; its re-runs share it.
pub type RunId = u64;
/// Identifies a registered runner.
pub type RunnerId = u64;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waits for a runner.
    Queued,
    /// Waits for an environment's approval.
    Waiting,
    /// Runs.
    InProgress,
    /// Has ended.
    Completed,
}

impl JobStatus {
    /// GitHub's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// All its steps passed.
    #[default]
    Success,
    /// A step failed, or its runner was lost.
    Failure,
    /// Someone cancelled it.
    Cancelled,
    /// Its condition was false.
    Skipped,
    /// It ran into its own time limit.
    TimedOut,
    /// Neither good nor bad.
    Neutral,
}

impl Conclusion {
    /// GitHub's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::TimedOut => "timed_out",
            Self::Neutral => "neutral",
        }
    }
}

/// A job to be queued.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    /// `owner/name`; both are added where they do not exist yet.
    pub repository: String,
    /// What `runs-on` asks for.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The runner group that `runs-on` names.
    #[serde(default)]
    pub runner_group: Option<String>,
    /// The workflow's name.
    #[serde(default = "default_workflow")]
    pub workflow_name: String,
    /// The job's name.
    #[serde(default = "default_job")]
    pub job_name: String,
    /// The branch that it builds.
    #[serde(default = "default_branch")]
    pub head_branch: String,
    /// Whether `head_branch` is the name of a tag: GitHub does not tell the two apart there.
    #[serde(default)]
    pub tag: bool,
    /// What started the run.
    #[serde(default = "default_event")]
    pub event: String,
    /// The repository that a pull request comes from, as `owner/name`; absent: the job's own.
    #[serde(default)]
    pub head_repository: Option<String>,
    /// Whether the repository is public; only looked at when the job is the first of its repository.
    #[serde(default)]
    pub public: bool,
    /// The run that it belongs to; absent: one of its own.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Held back until [`approve_job`](crate::GitHubControl::approve_job) is called.
    #[serde(default)]
    pub waiting: bool,
    /// Its condition is false: it completes as skipped without ever needing a runner.
    #[serde(default)]
    pub skipped: bool,
    /// How long it runs; absent: until [`finish_job`](crate::GitHubControl::finish_job) is called.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// How it ends when its time is over.
    #[serde(default)]
    pub conclusion: Conclusion,
    /// What it logs.
    #[serde(default)]
    pub log_lines: Vec<String>,
    /// Whatever else the stand-in agent shall be told, passed on in the job message's `script`.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

fn default_workflow() -> String {
    "CI".to_owned()
}
fn default_job() -> String {
    "build".to_owned()
}
fn default_branch() -> String {
    "main".to_owned()
}
fn default_event() -> String {
    "push".to_owned()
}

impl JobSpec {
    /// A job of `repository` (`owner/name`) that asks for `labels`, runs until it is finished by hand and then succeeds.
    pub fn new(repository: &str, labels: &[&str]) -> Self {
        Self {
            repository: repository.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            runner_group: None,
            workflow_name: default_workflow(),
            job_name: default_job(),
            head_branch: default_branch(),
            tag: false,
            event: default_event(),
            head_repository: None,
            public: false,
            run_id: None,
            waiting: false,
            skipped: false,
            duration_ms: None,
            conclusion: Conclusion::Success,
            log_lines: Vec::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Runs for `duration`.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration_ms = Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Ends as `conclusion`.
    #[must_use]
    pub fn ending(mut self, conclusion: Conclusion) -> Self {
        self.conclusion = conclusion;
        self
    }

    /// Is called `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.job_name = name.to_owned();
        self
    }

    /// Belongs to a workflow called `name`.
    #[must_use]
    pub fn workflow(mut self, name: &str) -> Self {
        self.workflow_name = name.to_owned();
        self
    }

    /// Builds `branch`.
    #[must_use]
    pub fn branch(mut self, branch: &str) -> Self {
        self.head_branch = branch.to_owned();
        self
    }

    /// Builds the tag `name`.
    #[must_use]
    pub fn of_tag(mut self, name: &str) -> Self {
        (self.head_branch, self.tag) = (name.to_owned(), true);
        self
    }

    /// Is of a run that `event` started.
    #[must_use]
    pub fn on(mut self, event: &str) -> Self {
        self.event = event.to_owned();
        self
    }

    /// Is part of the run `run_id`.
    #[must_use]
    pub fn in_run(mut self, run_id: RunId) -> Self {
        self.run_id = Some(run_id);
        self
    }

    /// Comes from a pull request of the fork `repository`.
    #[must_use]
    pub fn from_fork(mut self, repository: &str) -> Self {
        self.head_repository = Some(repository.to_owned());
        self.event = "pull_request".to_owned();
        self
    }

    /// Is the first job of a public repository.
    #[must_use]
    pub fn of_public_repository(mut self) -> Self {
        self.public = true;
        self
    }

    /// Waits for approval first.
    #[must_use]
    pub fn awaiting_approval(mut self) -> Self {
        self.waiting = true;
        self
    }
}

/// A job as tests and `/_emulator/jobs` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Which attempt of the run it belongs to.
    pub attempt: u32,
    /// `owner/name`.
    pub repository: String,
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub labels: Vec<String>,
    /// Where it stands.
    pub status: JobStatus,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// The runner that it was given to.
    pub runner_id: Option<RunnerId>,
    /// That runner's name.
    pub runner_name: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was queued, last.
    pub queued_at: Timestamp,
    /// When its agent fetched it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// How often it was given to a runner.
    pub assignments: u32,
    /// What its agent logged.
    pub log: Vec<String>,
}

/// A runner as tests and `/_emulator/runners` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerView {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: String,
    /// The organization or `owner/name` that it is registered with, in lower case.
    pub scope: String,
    /// Its group.
    pub group_id: u64,
    /// Its labels.
    pub labels: Vec<String>,
    /// Whether its agent is connected.
    pub online: bool,
    /// Whether its agent ever was.
    pub connected: bool,
    /// The job that it has.
    pub job: Option<JobId>,
    /// When it was registered.
    pub created_at: Timestamp,
}
