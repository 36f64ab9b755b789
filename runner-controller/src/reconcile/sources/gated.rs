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
use runner_core::sweep::Page;

use super::{Entry, PAUSE, UNSAID};
use crate::clock;
use crate::ports::{
    CallError, CallErrorKind, CallResult, CheckRun, Credential, Delivery, DeliveryPage, Deregistered,
    HooksWanted, JobReading, OpenRun, Provider, Published, RateLimit, RegisteredRunner, Registration,
    RepositorySeen,
};
use crate::telemetry::{Metrics, Peer};

/// How many branches are read at a source in a minute. Each takes one to four calls, and GitHub allows 900 in a minute
/// (GitHub documentation, "Rate limits for the REST API"); whoever makes more is refused all, those for runners too.
pub(super) const BRANCHES_A_MINUTE: usize = 100;
/// How many calls about hooks are made in a minute: a thousand lost deliveries are recovered within two.
const HOOK_CALLS_A_MINUTE: usize = 600;
/// How many lists of repositories, runs and jobs are read in a minute, which nobody waits for.
const LISTS_A_MINUTE: usize = 150;
/// The longest pause where the source refuses again and again without saying for how long.
const LONGEST_UNSAID: Duration = Duration::from_secs(3600);
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
        self.note(result)
    }

    /// Notes that the source wants no calls for a while, or that it answers again.
    pub(super) fn note<T>(&self, result: CallResult<T>) -> CallResult<T> {
        let now = clock::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&self.source) else { return result };
        let under_way = entry.throttled_until.is_some_and(|until| until > now);
        let Err(CallError { kind: CallErrorKind::Throttled(after), message, of_credentials }) = result else {
            if result.is_ok() && !under_way {
                entry.unsaid = 0;
            }
            return result;
        };
        let pause = after.unwrap_or_else(|| {
            // Calls that were under way together are refused together, which counts once.
            if !under_way {
                entry.unsaid = entry.unsaid.saturating_add(1);
            }
            let doublings = entry.unsaid.saturating_sub(1).min(6);
            UNSAID.saturating_mul(1 << doublings).min(LONGEST_UNSAID)
        });
        let until =
            now.saturating_add(SignedDuration::try_from(pause).unwrap_or(PAUSE)).unwrap_or(Timestamp::MAX);
        entry.throttled_until = entry.throttled_until.max(Some(until));
        Err(CallError { kind: CallErrorKind::Throttled(Some(pause)), message, of_credentials })
    }

    fn spared(&self, left: Duration) -> CallError {
        let message = format!("source {} has few calls left, which runners may need", self.source);
        CallError::new(CallErrorKind::Throttled(Some(left)), message)
    }

    /// Counts a call that can wait, if another one of its kind may begin by now.
    pub(super) fn paced(&self, kind: Kind, now: Timestamp) -> CallResult<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&self.source) else { return Ok(()) };
        let (most, what) = kind.most();
        match entry.paces.of(kind).next(most, now) {
            None => Ok(()),
            Some(left) => {
                let message = format!("source {}: {most} {what} within a minute", self.source);
                Err(CallError::new(CallErrorKind::Throttled(Some(left)), message))
            }
        }
    }

    /// Makes a call that can wait, unless it should.
    async fn waitable<T>(
        &self,
        (kind, call): (Kind, &'static str),
        spares: Option<Duration>,
        work: impl Future<Output = CallResult<T>>,
    ) -> CallResult<T> {
        self.open()?;
        if let Some(left) = spares {
            return Err(self.spared(left));
        }
        self.paced(kind, clock::now())?;
        self.minded(call, work).await
    }

    /// Whether the source takes calls at all: a client may be held for longer than one call.
    fn open(&self) -> CallResult<()> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(&self.source).map_or(Ok(()), |entry| entry.open(&self.source))
    }
}

/// What is counted apart of the calls that can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Hook,
    List,
}

impl Kind {
    fn most(self) -> (usize, &'static str) {
        match self {
            Kind::Branch => (BRANCHES_A_MINUTE, "branches were read"),
            Kind::Hook => (HOOK_CALLS_A_MINUTE, "calls about hooks were made"),
            Kind::List => (LISTS_A_MINUTE, "lists were read"),
        }
    }
}

/// When calls that can wait were made at a source within the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Paces {
    branches: Pace,
    hooks: Pace,
    lists: Pace,
}

impl Paces {
    fn of(&mut self, kind: Kind) -> &mut Pace {
        match kind {
            Kind::Branch => &mut self.branches,
            Kind::Hook => &mut self.hooks,
            Kind::List => &mut self.lists,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Pace(VecDeque<Timestamp>);

impl Pace {
    /// Counts another one, or tells how long it has to wait.
    fn next(&mut self, most: usize, now: Timestamp) -> Option<Duration> {
        let left = |at: &Timestamp| Duration::try_from(MINUTE - now.duration_since(*at)).unwrap_or_default();
        while self.0.front().is_some_and(|at| left(at).is_zero()) {
            self.0.pop_front();
        }
        if self.0.len() >= most {
            return self.0.front().map(left);
        }
        self.0.push_back(now);
        None
    }
}

#[async_trait]
impl Provider for Gated {
    async fn register(&self, registration: &Registration) -> CallResult<Credential> {
        let started = std::time::Instant::now();
        let result = self.provider.register(registration).await;
        self.metrics.call(Peer::Provider, "register", started.elapsed());
        let throttled = matches!(&result, Err(CallError { kind: CallErrorKind::Throttled(_), .. }));
        let spent = |limit: RateLimit| limit.remaining == 0 && limit.reset > clock::now();
        if throttled && self.provider.registrations().is_some_and(spent) {
            // Registrations have a limit of their own: other calls go on.
            return result;
        }
        self.note(result)
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
        let spares = self.provider.spares_calls_for();
        let work = self.provider.is_of_protected_branch(what);
        self.waitable((Kind::Branch, "read-branch"), spares, work).await
    }

    async fn publish(&self, notice: &CheckRun) -> CallResult<Published> {
        // Not minded by all: runners go on while calls are spared for them.
        if let Some(left) = self.provider.spares_calls_for() {
            return Err(self.spared(left));
        }
        self.minded("publish", self.provider.publish(notice)).await
    }

    async fn repositories(&self, owner: &str) -> CallResult<Vec<RepositorySeen>> {
        let spares = self.provider.spares_calls_for();
        let work = self.provider.repositories(owner);
        self.waitable((Kind::List, "list-repositories"), spares, work).await
    }

    async fn hooks(&self, wanted: &HooksWanted) -> CallResult<Vec<String>> {
        let spares = self.provider.spares_calls_about_hooks_for();
        self.waitable((Kind::Hook, "list-hooks"), spares, self.provider.hooks(wanted)).await
    }

    async fn deliveries(&self, hook: &str, page: &Page) -> CallResult<DeliveryPage> {
        let spares = self.provider.spares_calls_about_hooks_for();
        let work = self.provider.deliveries(hook, page);
        self.waitable((Kind::Hook, "list-deliveries"), spares, work).await
    }

    async fn delivery(&self, hook: &str, id: u64) -> CallResult<Option<Delivery>> {
        let spares = self.provider.spares_calls_about_hooks_for();
        self.waitable((Kind::Hook, "read-delivery"), spares, self.provider.delivery(hook, id)).await
    }

    async fn open_runs(&self, repository: &str) -> CallResult<Vec<OpenRun>> {
        let spares = self.provider.spares_calls_for();
        self.waitable((Kind::List, "list-runs"), spares, self.provider.open_runs(repository)).await
    }

    async fn queued_jobs(&self, repository: &str, run: &OpenRun) -> CallResult<Vec<Vec<u8>>> {
        let spares = self.provider.spares_calls_for();
        let work = self.provider.queued_jobs(repository, run);
        self.waitable((Kind::List, "list-jobs"), spares, work).await
    }

    fn rate_limits(&self) -> Vec<RateLimit> {
        self.provider.rate_limits()
    }

    fn spares_calls_for(&self) -> Option<Duration> {
        self.provider.spares_calls_for()
    }

    fn spares_calls_about_hooks_for(&self) -> Option<Duration> {
        self.provider.spares_calls_about_hooks_for()
    }

    fn registrations(&self) -> Option<RateLimit> {
        self.provider.registrations()
    }

    fn known_of_protected_branch(&self, what: &JobDescription) -> Option<bool> {
        self.provider.known_of_protected_branch(what)
    }
}
