//! The records that an emulator keeps. No behaviour beyond what a record knows of itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use crate::spec::{Conclusion, JobId, JobSpec, JobStatus, JobView, RunId, RunnerId, RunnerView};

/// An account.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    pub(crate) login: String,
    pub(crate) organization: bool,
    pub(crate) installation: u64,
    pub(crate) created_at: Timestamp,
}

/// A repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) id: u64,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) public: bool,
    pub(crate) fork: bool,
    pub(crate) created_at: Timestamp,
}

impl Repository {
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// A run of a workflow.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) number: u64,
    pub(crate) repository: String,
    pub(crate) head_repository: String,
    pub(crate) attempt: u32,
    pub(crate) workflow_name: String,
    pub(crate) workflow_id: u64,
    pub(crate) head_branch: String,
    pub(crate) head_sha: String,
    pub(crate) event: String,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) jobs: Vec<JobId>,
}

/// The runner that a job was given to, as it was then: the job outlives it.
#[derive(Clone, Debug)]
pub(crate) struct JobRunner {
    pub(crate) id: RunnerId,
    pub(crate) name: String,
    pub(crate) group_id: u64,
    pub(crate) group_name: String,
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) run_id: RunId,
    pub(crate) attempt: u32,
    /// The repository's key: `owner/name` in lower case.
    pub(crate) repository: String,
    pub(crate) spec: JobSpec,
    /// Its place in the queue, while it is there.
    pub(crate) place: u64,
    pub(crate) wanted: BTreeSet<String>,
    pub(crate) head_sha: String,
    pub(crate) status: JobStatus,
    pub(crate) conclusion: Option<Conclusion>,
    pub(crate) runner: Option<JobRunner>,
    pub(crate) created_at: Timestamp,
    pub(crate) queued_at: Timestamp,
    pub(crate) assigned_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) completed_at: Option<Timestamp>,
    pub(crate) cancel_requested_at: Option<Timestamp>,
    pub(crate) assignments: u32,
    pub(crate) log: Vec<String>,
}

/// Where a runner is registered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    /// An organization, by its login in lower case.
    Organization(String),
    /// A repository, by its `owner/name` in lower case.
    Repository(String),
}

impl Scope {
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Organization(key) | Self::Repository(key) => key,
        }
    }

    /// Whether a runner of this scope can serve `repository` at all.
    pub(crate) fn reaches(&self, repository: &str) -> bool {
        match self {
            Self::Organization(login) => repository.split_once('/').is_some_and(|(owner, _)| owner == login),
            Self::Repository(key) => key == repository,
        }
    }
}

/// A registered runner.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    pub(crate) id: RunnerId,
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) covers: BTreeSet<String>,
    pub(crate) os: String,
    pub(crate) version: Option<String>,
    /// The credential in its JIT config.
    pub(crate) token: String,
    pub(crate) created_at: Timestamp,
    pub(crate) idle_since: Timestamp,
    pub(crate) session: Option<String>,
    /// A JIT config is used up by the first session.
    pub(crate) used: bool,
    pub(crate) online: bool,
    pub(crate) job: Option<JobId>,
}

/// An agent's connection.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) runner: RunnerId,
    pub(crate) token: String,
    pub(crate) last_seen: Timestamp,
    /// Long polls that are open now; an agent that holds one is there.
    pub(crate) polling: u32,
    pub(crate) next_message: u64,
    pub(crate) messages: Vec<(u64, Value)>,
    /// Wakes the agent's long poll.
    pub(crate) wake: Arc<Notify>,
}

impl Job {
    pub(crate) fn view(&self) -> JobView {
        JobView {
            id: self.id,
            run_id: self.run_id,
            attempt: self.attempt,
            repository: self.spec.repository.clone(),
            name: self.spec.job_name.clone(),
            labels: self.spec.labels.clone(),
            status: self.status,
            conclusion: self.conclusion,
            runner_id: self.runner.as_ref().map(|runner| runner.id),
            runner_name: self.runner.as_ref().map(|runner| runner.name.clone()),
            created_at: self.created_at,
            queued_at: self.queued_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
            assignments: self.assignments,
            log: self.log.clone(),
        }
    }
}

impl Runner {
    pub(crate) fn view(&self) -> RunnerView {
        RunnerView {
            id: self.id,
            name: self.name.clone(),
            scope: self.scope.word().to_owned(),
            group_id: self.group_id,
            labels: self.labels.clone(),
            online: self.online,
            connected: self.used,
            job: self.job,
            created_at: self.created_at,
        }
    }
}
