//! The loop: observe → plan → execute → record.
//!
//! It is woken by whatever changes and by the clock, looks at everything each time, and keeps nothing between passes
//! but what is under way and which places had no room, which it may forget.

mod acting;
mod advice;
pub mod assembly;
mod budgets;
mod housekeeping;
mod notices;
mod quotas;
pub mod sources;
mod strays;
mod sweep;
mod timed;
pub mod wiring;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::forecast::Waiting;
use runner_core::health::Health;
use runner_core::isolation::{Advisory, Isolation};
use runner_core::job::{JobKey, JobReport, Standing};
use runner_core::lifecycle::Runner;
use runner_core::plan::{Action, Plan, plan};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::config::{Problem, Resolved};
use crate::execute::{Executor, Outside};
use crate::observe::{Observer, View};
use crate::ports::{CallErrorKind, CallResult};
use crate::telemetry::{Metrics, RunnerState};
use advice::Advice;
use budgets::BudgetTeller;
use housekeeping::Housekeeping;
use notices::Notices;
use quotas::Quotas;
use strays::Strays;

/// How long what has changed is collected before the next pass.
const COLLECT: Duration = Duration::from_millis(10);
/// The longest pause between two passes.
const LONGEST: SignedDuration = SignedDuration::from_secs(30);
/// The pause after a pass that broke off.
const BROKEN_OFF: SignedDuration = SignedDuration::from_secs(1);

/// The loop's own state.
pub struct Reconciler {
    observer: Arc<Observer>,
    executor: Executor,
    outside: Arc<Outside>,
    resolved: watch::Sender<Option<Arc<Resolved>>>,
    noted: Vec<Problem>,
    unready: BTreeMap<String, String>,
    advisories: Vec<Advisory>,
    housekeeping: Housekeeping,
    notices: Notices,
    quotas: Quotas,
    health: Health,
    budgets: BudgetTeller,
    strays: Strays,
    advice: Advice,
}

impl Reconciler {
    /// A loop that has not begun.
    pub fn new(
        observer: Arc<Observer>,
        outside: Arc<Outside>,
        resolved: watch::Sender<Option<Arc<Resolved>>>,
    ) -> Self {
        Self {
            observer,
            executor: Executor::new(outside.clone()),
            outside,
            resolved,
            noted: Vec::new(),
            unready: BTreeMap::new(),
            advisories: Vec::new(),
            housekeeping: Housekeeping::default(),
            notices: Notices::default(),
            quotas: Quotas::default(),
            health: Health::default(),
            budgets: BudgetTeller::default(),
            strays: Strays::default(),
            advice: Advice::default(),
        }
    }

    /// Passes again and again until `stop`, then waits for what is under way.
    ///
    /// # Errors
    /// `Conflict` where another process has taken over.
    pub async fn run(&mut self, stop: &CancellationToken) -> CallResult<()> {
        self.outside.spending.forget().await;
        self.quotas.forget(&*self.outside.records);
        let sweeping = sweep::run(self.outside.clone(), self.resolved.subscribe());
        let sweeping = AbortOnDropHandle::new(tokio::spawn(sweeping));
        self.strays.begin(clock::now()).await;
        let result = loop {
            let wake_at = match self.pass().await {
                Ok(wake_at) => wake_at,
                Err(error) if error.kind == CallErrorKind::Conflict => break Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a pass broke off, and is made again: {error}");
                    clock::now().saturating_add(BROKEN_OFF).ok()
                }
            };
            let now = clock::now();
            let latest = now.saturating_add(LONGEST).unwrap_or(Timestamp::MAX);
            let pause = wake_at.map_or(latest, |at| at.min(latest)).duration_since(now);
            tokio::select! {
            biased;
                () = stop.cancelled() => break Ok(()),
                () = self.observer.changed() => {}
                () = self.executor.finished() => {}
                () = self.outside.sources.changed() => {}
                () = self.strays.looked() => {}
                () = tokio::time::sleep(Duration::try_from(pause).unwrap_or_default()) => {}
            }
            tokio::time::sleep(COLLECT).await;
        };
        drop(sweeping);
        self.strays.stop().await;
        self.housekeeping.stop();
        self.notices.stop().await;
        self.executor.drain().await;
        result
    }

    /// One pass. Answers when the next is due at the latest.
    async fn pass(&mut self) -> CallResult<Option<Timestamp>> {
        let now = clock::now();
        let troubles = self.outside.sources.troubles(now);
        let registrations = self.outside.sources.registrations();
        let observed = self.observer.observe(self.executor.holds(), &troubles, &registrations);
        let Some(mut view) = observed else {
            return Ok(None);
        };
        self.health.note(&view.snapshot.runners, &view.snapshot.machines);
        view.snapshot.health.clone_from(&self.health);
        self.quotas.look(&*self.outside.records, &mut view.snapshot, now);
        let (ledger, budgets) = (&*self.outside.ledger, &view.snapshot.setup.budgets);
        let (spending, ask_again) = self.outside.spending.keep_up(ledger, budgets, now).await;
        view.snapshot.spending = spending;
        let started = std::time::Instant::now();
        let mut plan = plan(&view.snapshot, now);
        self.outside.metrics.planned(started.elapsed());
        self.show(&view, &plan, now);
        let held_until = self.strays.hold_until(now);
        if held_until.is_some() {
            plan.actions.retain(|action| !strays::begins(action));
        }
        let wake_at = plan.wake_at.into_iter().chain(ask_again).chain(held_until).min();
        let waiting = Arc::new(Waiting::of(&mut plan));
        self.outside.waiting.send_replace(waiting.clone());
        self.executor.begin(plan, &view).await?;
        self.publish(&view).await;
        self.budgets.tell(&self.outside, &view, now).await;
        self.housekeeping.keep(&self.outside, now);
        let look_at = self.strays.keep(&self.outside, &view, now);
        self.quotas.ask(&self.outside, &view, now);
        let tell_at = self.notices.keep(&self.outside, &view, &waiting, now);
        Ok(wake_at.into_iter().chain(tell_at).chain(look_at).min())
    }

    /// Tells the rest of the program, and the documents, what the documents resolve to.
    async fn publish(&mut self, view: &View) {
        publish(&self.resolved, &view.resolved);
        let mut problems = view.resolved.problems.clone();
        problems.extend(self.outside.sources.problems());
        problems.extend(self.strays.problems(&view.resolved.setup));
        problems.sort();
        match self.outside.records.note_problems(&problems).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "a problem cannot be written beside its document"),
        }
        let mut advisories = self.advice.of(view);
        advisories.extend(self.strays.advisories());
        if let Err(error) = self.outside.records.note_advisories(&advisories).await {
            tracing::warn!(%error, "an advisory cannot be written beside its document");
        }
        let unready: BTreeMap<String, String> = view
            .resolved
            .setup
            .places
            .iter()
            .filter_map(|(name, place)| place.unready.clone().map(|why| (name.clone(), why)))
            .collect();
        for (place, why) in unready.iter().filter(|(place, why)| self.unready.get(*place) != Some(why)) {
            tracing::warn!(place, "nothing can start at place {place}: {why}");
        }
        for place in self.unready.keys().filter(|place| !unready.contains_key(*place)) {
            tracing::info!(place, "place {place} can start runners again");
        }
        self.unready = unready;
        let setup = &view.resolved.setup;
        let advisories = Isolation::of(setup).advisories(setup);
        for advisory in advisories.iter().filter(|advisory| !self.advisories.contains(advisory)) {
            let (kind, name) = (advisory.kind, &advisory.name);
            tracing::warn!(kind, name, "{kind} {name}: {advisory}");
        }
        self.advisories = advisories;
        if problems != self.noted {
            for problem in problems.iter().filter(|problem| !self.noted.contains(problem)) {
                tracing::error!(
                    kind = problem.kind,
                    name = problem.name,
                    "{} {}: {}",
                    problem.kind,
                    problem.name,
                    problem.message
                );
            }
            self.noted = problems;
        }
    }

    /// Counts jobs and runners for the metrics, and says why jobs wait where that is new.
    fn show(&self, view: &View, plan: &Plan, now: Timestamp) {
        let metrics: &Metrics = &self.outside.metrics;
        let mut standings: BTreeMap<Standing, usize> =
            Standing::ALL.into_iter().map(|one| (one, 0)).collect();
        for job in &view.snapshot.jobs {
            *standings.entry(job.report.standing).or_default() += 1;
        }
        metrics.set_jobs(standings);
        let stuck = |runner: &&Runner| runner.facts.stuck.is_some() && runner.facts.gone.is_none();
        metrics.set_stuck(view.snapshot.runners.iter().filter(stuck).count());
        metrics.set_runners(view.snapshot.runners.iter().map(|runner| {
            let state = if runner.ending() {
                RunnerState::Ending
            } else if runner.facts.agent.job_started.is_some() {
                RunnerState::Busy
            } else if runner.facts.agent.booted.is_some() {
                RunnerState::Idle
            } else {
                RunnerState::Starting
            };
            (runner.matched.class.as_str(), runner.place.as_str(), state)
        }));
        let reports: HashMap<&JobKey, &JobReport> = plan
            .actions
            .iter()
            .filter_map(
                |action| if let Action::Report { job, report } = action { Some((job, report)) } else { None },
            )
            .collect();
        metrics.set_waiting(view.snapshot.jobs.iter().filter_map(|job| {
            let reason = plan.reasons.get(&job.key)?;
            let report = reports.get(&job.key).copied().unwrap_or(&job.report);
            let waited = Duration::try_from(now.duration_since(job.state_since())).unwrap_or_default();
            Some((reason.code(), report.class.as_deref(), waited))
        }));
        // What a job waits for is said when it changes; its figures change all the time.
        for job in view.snapshot.jobs.iter().filter(|_| !reports.is_empty()) {
            if let (Some(report), Some(reason)) = (reports.get(&job.key), plan.reasons.get(&job.key))
                && job.report.reason != report.reason
            {
                let sentence = reason.sentence();
                tracing::info!(job = %job.key, reason = reason.code(), "job {}: {sentence}", job.key);
                self.outside.records.announce(&job.key, report.standing, reason);
            }
        }
    }
}

/// Sends what the documents resolve to, where that concerns intake or providers and is new.
fn publish(to: &watch::Sender<Option<Arc<Resolved>>>, resolved: &Arc<Resolved>) {
    to.send_if_modified(|known| {
        let same = known
            .as_ref()
            .is_some_and(|known| known.sources == resolved.sources && known.classes == resolved.classes);
        if !same {
            *known = Some(resolved.clone());
        }
        !same
    });
}
