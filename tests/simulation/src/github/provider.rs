//! A process's way to GitHub: the port that the controller asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::job::{JobAction, JobDescription, JobKey};
use runner_core::setup::Scope;
use runner_core::sweep::Page;
use stint::ports::{
    CallError, CallErrorKind, CallResult, CheckRun, Credential, Delivery, DeliveryPage, Deregistered,
    HooksWanted, JobReading, OpenRun, Provider, Published, RegisteredRunner, Registration, RepositorySeen,
    agent,
};

use super::hook::HOOK;
use super::webhooks::payload;
use super::{GitHub, Runner, State};
use crate::fault::Peer;
use crate::process::Process;
use crate::scenario::REPOSITORIES;

/// The link.
pub struct GitHubLink {
    /// GitHub.
    pub github: Arc<GitHub>,
    /// The process.
    pub process: Arc<Process>,
    /// Until when GitHub wants no calls, and by which clock's error.
    pub wants_none_until: Arc<Mutex<Duration>>,
    /// The same for calls about hooks, which have a limit of their own.
    pub wants_none_about_hooks_until: Arc<Mutex<Duration>>,
}

impl GitHubLink {
    async fn write<T>(&self, what: &str, act: impl FnOnce() -> CallResult<T>) -> CallResult<T> {
        self.minds_retry_after(&self.wants_none_until, what);
        let result = self.process.write(Peer::GitHub, what, act).await;
        self.heed(&self.wants_none_until, &result);
        result
    }

    async fn read_of_hook<T>(&self, what: &str, act: impl FnOnce() -> CallResult<T>) -> CallResult<T> {
        self.minds_retry_after(&self.wants_none_about_hooks_until, what);
        let result = self.process.read(Peer::GitHub, act).await;
        self.heed(&self.wants_none_about_hooks_until, &result);
        result
    }

    /// Notes until when GitHub wants no calls, where it says so.
    fn heed<T>(&self, until: &Mutex<Duration>, result: &CallResult<T>) {
        if let Err(CallError { kind: CallErrorKind::Throttled(Some(after)), .. }) = result {
            let at = self.process.board.clock.passed() + *after;
            *until.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
    }

    /// No call may begin before GitHub's Retry-After has passed, as far as the controller's clock can tell.
    fn minds_retry_after(&self, until: &Mutex<Duration>, what: &str) {
        let board = &self.process.board;
        let until = *until.lock().unwrap_or_else(PoisonError::into_inner);
        let clock_wrong = board.clock_error() > 0;
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

    async fn repositories(&self, owner: &str) -> CallResult<Vec<RepositorySeen>> {
        let of_owner = |name: &&&str| name.split('/').next() == Some(owner);
        let seen = |name: &&str| RepositorySeen { full_name: (*name).to_owned(), pushed_at: None };
        let read = || Ok(REPOSITORIES.iter().filter(of_owner).map(seen).collect());
        self.process.read(Peer::GitHub, read).await
    }

    async fn runners(&self, scope: &Scope) -> CallResult<Vec<RegisteredRunner>> {
        let read = || {
            let inner = self.github.lock();
            let there = inner.runners.iter().filter(|(_, runner)| runner.scope == *scope);
            Ok(there.map(listed).collect())
        };
        self.process.read(Peer::GitHub, read).await
    }

    async fn named(&self, scope: &Scope, name: &str) -> CallResult<Option<RegisteredRunner>> {
        let read = || {
            let inner = self.github.lock();
            let mut there = inner.runners.iter();
            Ok(there.find(|(_, runner)| runner.scope == *scope && runner.name == name).map(listed))
        };
        self.process.read(Peer::GitHub, read).await
    }

    async fn hooks(&self, _wanted: &HooksWanted) -> CallResult<Vec<String>> {
        let read = || self.github.spend_on_hooks().map(|()| vec![HOOK.to_owned()]);
        self.read_of_hook("the hook is looked for", read).await
    }

    async fn deliveries(&self, _hook: &str, page: &Page) -> CallResult<DeliveryPage> {
        self.read_of_hook("deliveries are listed", || self.github.page(page)).await
    }

    async fn delivery(&self, _hook: &str, id: u64) -> CallResult<Option<Delivery>> {
        self.read_of_hook("a delivery is read", || self.github.read_delivery(id)).await
    }

    async fn open_runs(&self, repository: &str) -> CallResult<Vec<OpenRun>> {
        let read = || {
            let open = |state: &State| match state {
                State::Queued | State::Assigned(_) | State::Running(_) => true,
                // The run of a job that is held back is listed as waiting.
                State::HeldBack | State::Over(_) => false,
            };
            let inner = self.github.lock();
            let jobs = inner.jobs.values().filter(|job| job.repository == repository && open(&job.state));
            Ok(jobs.map(|job| OpenRun { id: job.run(), repository: repository.to_owned() }).collect())
        };
        self.process.read(Peer::GitHub, read).await
    }

    async fn queued_jobs(&self, _repository: &str, run: &OpenRun) -> CallResult<Vec<Vec<u8>>> {
        let read = || {
            let inner = self.github.lock();
            let queued = inner
                .jobs
                .values()
                .filter(|job| job.run() == run.id && matches!(job.state, State::Queued | State::Assigned(_)));
            Ok(queued.map(|job| payload(job, "queued").to_string().into_bytes()).collect())
        };
        self.process.read(Peer::GitHub, read).await
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

fn listed((id, runner): (&u64, &Runner)) -> RegisteredRunner {
    let Runner { name, labels, online, job, .. } = runner;
    RegisteredRunner {
        id: *id,
        name: name.clone(),
        busy: job.is_some(),
        online: *online,
        labels: labels.clone(),
    }
}
