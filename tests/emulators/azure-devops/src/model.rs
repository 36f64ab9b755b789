//! The records: pools, agents, jobs, stages, runs, sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use crate::spec::{AgentId, AgentView, JobResult, JobSpec, JobState, JobView, PoolId, RequestId, RunId};

/// A project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A pipeline's definition.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) id: u64,
    pub(crate) project: String,
    pub(crate) name: String,
}

/// An agent pool of the organization.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    /// How many reads of its requests are still answered with an empty list.
    pub(crate) blank_lists: u32,
}

/// A registered agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) pool: PoolId,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) os: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) online: bool,
    pub(crate) max_parallelism: u64,
    pub(crate) user_capabilities: BTreeMap<String, String>,
    pub(crate) system_capabilities: BTreeMap<String, String>,
    /// Everything that demands are compared with, names in lower case.
    pub(crate) capabilities: BTreeMap<String, String>,
    pub(crate) client_id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) status_changed_at: Timestamp,
    pub(crate) request: Option<RequestId>,
    pub(crate) last_request: Option<RequestId>,
    pub(crate) session: Option<String>,
}

impl Agent {
    /// Works out what demands are compared with, after any of it has changed.
    pub(crate) fn note_capabilities(&mut self) {
        let own = [("agent.name", Some(&self.name)), ("agent.version", self.version.as_ref())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
        let given = self.system_capabilities.iter().chain(&self.user_capabilities);
        self.capabilities =
            own.chain(given.map(|(name, value)| (name.to_lowercase(), value.clone()))).collect();
    }

    pub(crate) fn view(&self) -> AgentView {
        AgentView {
            id: self.id,
            name: self.name.clone(),
            pool_id: self.pool,
            version: self.version.clone(),
            enabled: self.enabled,
            online: self.online,
            user_capabilities: self.user_capabilities.clone(),
            system_capabilities: self.system_capabilities.clone(),
            request: self.request,
            created_at: self.created_at,
        }
    }
}

/// One attempt of a job, which is one request for an agent.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) request: RequestId,
    pub(crate) run: RunId,
    pub(crate) pool: PoolId,
    pub(crate) job_id: String,
    pub(crate) attempt: u32,
    pub(crate) spec: JobSpec,
    /// The job's own demands and the service's.
    pub(crate) demands: Vec<String>,
    pub(crate) priority: i32,
    pub(crate) queued_at: Timestamp,
    pub(crate) assigned_at: Option<Timestamp>,
    pub(crate) received_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) cancel_requested_at: Option<Timestamp>,
    pub(crate) result: Option<JobResult>,
    /// The reserved agent; what is known of it stays when the agent is deleted.
    pub(crate) agent: Option<(AgentId, String)>,
    pub(crate) assignments: u32,
    /// The result that its agent shall end it with as soon as it has it.
    pub(crate) finish_with: Option<JobResult>,
    pub(crate) issues: Vec<String>,
    pub(crate) log: Vec<String>,
}

impl Job {
    pub(crate) fn state(&self) -> JobState {
        match (self.result, self.received_at, self.assigned_at) {
            (Some(_), _, _) => JobState::Completed,
            (None, Some(_), _) => JobState::Running,
            (None, None, Some(_)) => JobState::Assigned,
            (None, None, None) => JobState::Queued,
        }
    }

    pub(crate) fn view(&self) -> JobView {
        JobView {
            request_id: self.request,
            run_id: self.run,
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            project: self.spec.project.clone(),
            stage: self.spec.stage.clone(),
            name: self.spec.job.clone(),
            pool_id: self.pool,
            demands: self.demands.clone(),
            state: self.state(),
            result: self.result,
            agent_id: self.agent.as_ref().map(|(id, _)| *id),
            agent_name: self.agent.as_ref().map(|(_, name)| name.clone()),
            queued_at: self.queued_at,
            assigned_at: self.assigned_at,
            received_at: self.received_at,
            finished_at: self.finished_at,
            assignments: self.assignments,
            issues: self.issues.clone(),
            log: self.log.clone(),
        }
    }
}

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Running,
    Completed(JobResult),
}

/// A stage of a run, in its latest attempt.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) progress: Progress,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

/// A run, also called a build.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) number: String,
    pub(crate) project: Project,
    pub(crate) definition: Definition,
    pub(crate) plan_id: String,
    pub(crate) branch: String,
    pub(crate) commit: String,
    pub(crate) reason: String,
    pub(crate) created_at: Timestamp,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) cancelling: bool,
    pub(crate) result: Option<JobResult>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) requests: Vec<RequestId>,
}

impl Run {
    /// The build API's word for where it stands.
    pub(crate) fn status(&self) -> &'static str {
        match (self.result, self.cancelling) {
            (Some(_), _) => "completed",
            (None, true) => "cancelling",
            (None, false) => "inProgress",
        }
    }

    pub(crate) fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name.eq_ignore_ascii_case(name))
    }
}

/// A connected agent.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) agent: AgentId,
    pub(crate) token: String,
    /// Whether the agent leaves after one job.
    pub(crate) once: bool,
    /// Whether it has had one.
    pub(crate) used: bool,
    pub(crate) last_seen: Timestamp,
    /// Long polls that are open now.
    pub(crate) polling: u32,
    pub(crate) next_message: u64,
    pub(crate) messages: Vec<(u64, Value)>,
    pub(crate) wake: Arc<Notify>,
}
