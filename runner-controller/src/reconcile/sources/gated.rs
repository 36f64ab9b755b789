//! A source's client that minds how often the source may be called: calls that can wait leave enough for runners.
//!
//! Makes no call of its own, and waits for nothing: what must wait is told for how long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runner_core::job::{JobDescription, JobKey};
use runner_core::setup::Scope;

use super::{Entry, PAUSE, UNSAID};
use crate::clock;
use crate::ports::{
    CallError, CallErrorKind, CallResult, CheckRun, Credential, Deregistered, JobReading, Provider,
    Published, RateLimit, RegisteredRunner, Registration,
};
use crate::telemetry::{Metrics, Peer};

/// How many branches are read at a source in a minute. Each takes one to four calls, and GitHub allows 900 in a minute
/// (GitHub documentation, "Rate limits for the REST API"); whoever makes more is refused all, those for runners too.
pub(super) const BRANCHES_A_MINUTE: usize = 100;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A client that minds what its source said of being called too often.
pub(super) struct Gated {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    pub(super) source: String,
    pub(super) metrics: Arc<Metrics>,
}

impl Gated {
    async fn minded<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = CallResult<T>>,
    ) -> CallResult<T> {
        let started = std::time::Instant::now();
        let result = work.await;
        self.metrics.call(Peer::Provider, call, started.elapsed());
        if let Err(CallError { kind: CallErrorKind::Throttled(after), .. }) = &result {
            let pause = SignedDuration::try_from(after.unwrap_or(UNSAID)).unwrap_or(PAUSE);
            let until = clock::now().saturating_add(pause).unwrap_or(Timestamp::MAX);
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = entries.get_mut(&self.source) {
                entry.throttled_until = entry.throttled_until.max(Some(until));
            }
        }
        result
    }

    fn spared(&self, left: Duration) -> CallError {
        let message = format!("source {} has few calls left, which runners may need", self.source);
        CallError::new(CallErrorKind::Throttled(Some(left)), message)
    }

    /// Counts the reading of a branch, if another one may begin by now.
    pub(super) fn paced(&self, now: Timestamp) -> CallResult<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&self.source) else { return Ok(()) };
        match entry.branches_read.next(now) {
            None => Ok(()),
            Some(left) => {
                let message =
                    format!("source {}: {BRANCHES_A_MINUTE} branches were read within a minute", self.source);
                Err(CallError::new(CallErrorKind::Throttled(Some(left)), message))
            }
        }
    }
}

/// When branches were read at a source within the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(VecDeque<Timestamp>);

impl Pace {
    /// Counts another one, or tells how long it has to wait.
    fn next(&mut self, now: Timestamp) -> Option<Duration> {
        let left = |at: &Timestamp| Duration::try_from(MINUTE - now.duration_since(*at)).unwrap_or_default();
        while self.0.front().is_some_and(|at| left(at).is_zero()) {
            self.0.pop_front();
        }
        if self.0.len() >= BRANCHES_A_MINUTE {
            return self.0.front().map(left);
        }
        self.0.push_back(now);
        None
    }
}

#[async_trait]
impl Provider for Gated {
    async fn register(&self, registration: &Registration) -> CallResult<Credential> {
        self.minded("register", self.provider.register(registration)).await
    }

    async fn deregister(&self, scope: &Scope, name: &str, id: Option<u64>) -> CallResult<Deregistered> {
        self.minded("deregister", self.provider.deregister(scope, name, id)).await
    }

    async fn runners(&self, scope: &Scope) -> CallResult<Vec<RegisteredRunner>> {
        if let Some(left) = self.provider.spares_calls_for() {
            return Err(self.spared(left));
        }
        self.minded("list-runners", self.provider.runners(scope)).await
    }

    async fn named(&self, scope: &Scope, name: &str) -> CallResult<Option<RegisteredRunner>> {
        self.minded("find-runner", self.provider.named(scope, name)).await
    }

    async fn read_job(&self, job: &JobKey, what: &JobDescription) -> CallResult<Option<JobReading>> {
        self.minded("read-job", self.provider.read_job(job, what)).await
    }

    async fn is_of_protected_branch(&self, what: &JobDescription) -> CallResult<bool> {
        if let Some(known) = self.provider.known_of_protected_branch(what) {
            return Ok(known);
        }
        if let Some(left) = self.provider.spares_calls_for() {
            return Err(self.spared(left));
        }
        self.paced(clock::now())?;
        self.minded("read-branch", self.provider.is_of_protected_branch(what)).await
    }

    async fn publish(&self, notice: &CheckRun) -> CallResult<Published> {
        // Not minded by all: runners go on while calls are spared for them.
        if let Some(left) = self.provider.spares_calls_for() {
            return Err(self.spared(left));
        }
        self.minded("publish", self.provider.publish(notice)).await
    }

    fn rate_limits(&self) -> Vec<RateLimit> {
        self.provider.rate_limits()
    }

    fn spares_calls_for(&self) -> Option<Duration> {
        self.provider.spares_calls_for()
    }

    fn known_of_protected_branch(&self, what: &JobDescription) -> Option<bool> {
        self.provider.known_of_protected_branch(what)
    }
}
