//! A process's way to GitHub: the port that the controller asks. Listings of deliveries, repositories and runners belong
//! here, too, once the port has them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::job::{JobAction, JobDescription, JobKey};
use runner_core::setup::Scope;
use stint::ports::{
    CallError, CallErrorKind, CallResult, CheckRun, Credential, Deregistered, JobReading, Provider,
    Published, Registration, RepositorySeen, agent,
};

use super::{GitHub, State};
use crate::fault::Peer;
use crate::process::Process;

/// The link.
pub struct GitHubLink {
    /// GitHub.
    pub github: Arc<GitHub>,
    /// The process.
    pub process: Arc<Process>,
    /// Until when GitHub wants no calls, and by which clock's error.
    pub wants_none_until: Arc<Mutex<Duration>>,
}

impl GitHubLink {
    async fn write<T>(&self, what: &str, act: impl FnOnce() -> CallResult<T>) -> CallResult<T> {
        self.minds_retry_after(what);
        let result = self.process.write(Peer::GitHub, what, act).await;
        if let Err(CallError { kind: CallErrorKind::Throttled(Some(after)), .. }) = &result {
            let until = self.process.board.clock.passed() + *after;
            *self.wants_none_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
        result
    }

    /// No call may begin before GitHub's Retry-After has passed, as far as the controller's clock can tell.
    fn minds_retry_after(&self, what: &str) {
        let board = &self.process.board;
        let until = *self.wants_none_until.lock().unwrap_or_else(PoisonError::into_inner);
        let clock_wrong = board.faults().iter().any(|fault| format!("{fault}").contains("Clock"));
        // What was already under way when GitHub said so is not called back.
        if board.clock.passed() + Duration::from_secs(1) < until && !clock_wrong {
            board.journal.violate("I5", format_args!("{what} before GitHub's Retry-After has passed"));
        }
    }
}

#[async_trait]
impl Provider for GitHubLink {
    async fn register(&self, registration: &Registration) -> CallResult<Credential> {
        let Registration { scope, name, labels } = registration;
        let act = || match self.github.register(name, scope, labels) {
            Some(runner_id) => Ok(Credential {
                runner_id,
                files: BTreeMap::from([(agent::JIT_CONFIG.to_owned(), runner_id.to_string().into())]),
            }),
            None => Err(CallError::new(CallErrorKind::Conflict, "Already exists")),
        };
        self.write(&format!("the registration of {name}"), act).await
    }

    async fn deregister(&self, _scope: &Scope, name: &str, id: Option<u64>) -> CallResult<Deregistered> {
        let act = || {
            let gone = self.github.deregister(name, id);
            Ok(if gone { Deregistered::Gone } else { Deregistered::Busy })
        };
        self.write(&format!("the deregistration of {name}"), act).await
    }

    async fn read_job(&self, job: &JobKey, _what: &JobDescription) -> CallResult<Option<JobReading>> {
        let read = || {
            let Some(found) = job.id.parse().ok().and_then(|id| self.github.job(id)) else { return Ok(None) };
            let (action, conclusion) = match found.state {
                State::HeldBack => (JobAction::Waiting, None),
                State::Queued | State::Assigned(_) => (JobAction::Queued, None),
                State::Running(_) => (JobAction::InProgress, None),
                State::Over(conclusion) => (JobAction::Completed, Some(conclusion.to_owned())),
            };
            let told = matches!(action, JobAction::InProgress | JobAction::Completed);
            let runner = found.runner.filter(|_| told).map(|(_, name)| name);
            Ok(Some(JobReading { action, runner, conclusion }))
        };
        self.process.read(Peer::GitHub, read).await
    }

    async fn is_of_protected_branch(&self, _what: &JobDescription) -> CallResult<bool> {
        self.process.read(Peer::GitHub, || Ok(false)).await
    }

    async fn repositories(&self, _owner: &str) -> CallResult<Vec<RepositorySeen>> {
        Ok(Vec::new())
    }

    async fn publish(&self, notice: &CheckRun) -> CallResult<Published> {
        let key = notice.job.to_string();
        let act = || {
            let mut inner = self.github.lock();
            let next = inner.check_runs.len() as u64 + 1;
            let id = *inner.check_runs.entry(key.clone()).or_insert(next);
            Ok(Published::As(id.to_string()))
        };
        self.process.write(Peer::GitHub, &format!("the check-run of {key}"), act).await
    }
}
