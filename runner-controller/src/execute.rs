//! Execute: carries out what was planned. The only code that writes to the outside.
//!
//! Every action is idempotent or preceded by a recorded intent, so that a crash at any point leaves something that
//! the next pass can go on from. Nothing is retried here: a failed action is held back for a while and planned again.

mod address;
mod bill;
mod deregister;
mod holds;
mod jobs;
mod origin;
mod spending;
mod start;
mod teardown;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use runner_core::budget::Figures;
use runner_core::forecast::Waiting;
use runner_core::job::{Job, JobKey, JobState};
use runner_core::lifecycle::{Machine, MachinePhase, Runner, RunnerFact, Step, Teardown};
use runner_core::plan::{Action, Hold, NewRunner, Plan, held_branches_of};
use runner_core::reason::Reason;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::{Installation, Resolved, ResolvedClass, ResolvedPlace};
use crate::observe::View;
use crate::observe::group_machines::GroupMachines;
use crate::ports::{CallResult, Groups, Ledger, Pods, Provider, Records};
use crate::reconcile::sources::Sources;
use crate::telemetry::Metrics;
pub use address::address_of;
use holds::Holds;
pub use origin::Origin;
pub use spending::SpendingMemory;
pub use teardown::as_read;

/// How many records of new runners are written at once.
const CREATES_AT_ONCE: usize = 16;

/// All that actions write to.
pub struct Outside {
    /// Records.
    pub records: Arc<dyn Records>,
    /// Pods; `None` without a cluster.
    pub pods: Option<Arc<dyn Pods>>,
    /// Container groups.
    pub groups: Arc<dyn Groups>,
    /// Groups that Stint creates itself, as seen.
    pub group_machines: Arc<GroupMachines>,
    /// Ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Sources.
    pub sources: Arc<Sources>,
    /// What documents fall back on.
    pub installation: Installation,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Why jobs wait, are refused or were given up, as of the last pass.
    pub waiting: watch::Sender<Arc<Waiting>>,
    /// How many deliveries this process's intake has put off, as it grows.
    pub put_off: watch::Receiver<u64>,
    /// What the ledger has charged to budgets.
    pub spending: SpendingMemory,
    /// How budgets stand, as of the last pass.
    pub budgets: watch::Sender<Arc<[Figures]>>,
    /// What tells this installation from any other.
    pub origin: Origin,
}

/// What came of an action.
enum Outcome {
    /// It is done, or what came of it is recorded.
    Done,
    /// Nothing went wrong, but it must be looked at again after this.
    Again(Duration),
    /// The source is to be asked about no branch before this has passed.
    NoBranches { source: String, after: Duration },
}

/// Carries out plans.
pub struct Executor {
    outside: Arc<Outside>,
    holds: Arc<Holds>,
    tasks: TaskTracker,
    finished: Arc<Notify>,
}

/// One step of one runner, with all that it needs to know.
struct StepOrder {
    runner: Runner,
    step: Step,
    because: Option<Reason>,
    /// The job that ran on it, as far as is known.
    ran: Option<Job>,
    /// The job that it was started for.
    own: Option<Job>,
    class: Option<Arc<ResolvedClass>>,
    place: Option<Arc<ResolvedPlace>>,
    /// Whether its machine shows as running.
    runs: bool,
}

impl Executor {
    /// An executor that has nothing under way.
    pub fn new(outside: Arc<Outside>) -> Self {
        Self {
            outside,
            holds: Arc::new(Holds::default()),
            tasks: TaskTracker::new(),
            finished: Arc::new(Notify::new()),
        }
    }

    /// What is under way or held back.
    pub fn holds(&self) -> HashMap<String, Hold> {
        self.holds.all(clock::now())
    }

    /// Completes when an action has ended since the last completion.
    pub async fn finished(&self) {
        self.finished.notified().await;
    }

    /// Waits until nothing is under way.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Begins to carry out a plan. Reservations and new records are written before this returns; everything else goes
    /// on beside the following passes, which leave the runner or job alone meanwhile.
    ///
    /// # Errors
    /// `Conflict` where another process has taken over: nothing more may be done.
    pub async fn begin(&self, plan: Plan, view: &View) -> CallResult<()> {
        if plan.actions.is_empty() {
            return Ok(());
        }
        let mut starts: Vec<NewRunner> = Vec::new();
        let mut unreserve: Vec<String> = Vec::new();
        let context = Context::of(view);
        for action in plan.actions {
            let held = action.held_under();
            match action {
                Action::Start(new) => starts.push(*new),
                Action::Unreserve { runner } => unreserve.push(runner),
                Action::Step { runner, step, because } => {
                    if let Some(order) = context.order(&runner, step, because) {
                        let outside = self.outside.clone();
                        self.spawn(held, step_name(&order.step), async move { outside.step(order).await });
                    }
                }
                Action::Report { job, report } => {
                    let outside = self.outside.clone();
                    self.spawn(held, "report", async move {
                        outside.records.report(&job, &report).await.map(|()| Outcome::Done)
                    });
                }
                Action::ReadJob { job } => {
                    if let Some(known) = context.jobs.get(&job).map(|job| (*job).clone()) {
                        let outside = self.outside.clone();
                        self.spawn(held, "read-job", async move { outside.read_job(&known).await });
                    }
                }
                Action::ReadBranch { job } => {
                    if let Some(known) = context.jobs.get(&job).map(|job| (*job).clone()) {
                        let outside = self.outside.clone();
                        let failing = self.holds.failing(&held);
                        let work = async move { outside.read_branch(&known, failing).await };
                        self.spawn(held, "read-branch", work);
                    }
                }
                Action::Expire { job } => {
                    let outside = self.outside.clone();
                    self.spawn(held, "expire", async move {
                        outside.records.expire(&job).await.map(|()| Outcome::Done)
                    });
                }
            }
        }
        if !unreserve.is_empty() {
            self.outside.records.unreserve(&unreserve).await?;
        }
        self.start(starts).await
    }

    /// Reserves new runners, all in one write, then writes their records.
    async fn start(&self, starts: Vec<NewRunner>) -> CallResult<()> {
        if starts.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = starts.iter().map(|new| new.name.clone()).collect();
        self.outside.records.reserve(&names).await?;
        let at = clock::now();
        let created: Vec<(NewRunner, CallResult<()>)> = futures::stream::iter(starts)
            .map(|new| {
                let records = self.outside.records.clone();
                async move {
                    let result = records.create_runner(&new, at).await;
                    (new, result)
                }
            })
            .buffer_unordered(CREATES_AT_ONCE)
            .collect()
            .await;
        for (new, result) in created {
            self.outside.metrics.action("start", outcome_word(result.is_ok()));
            match result {
                Ok(()) => tracing::info!(
                    runner = new.name,
                    job = %new.job,
                    class = new.matched.label(),
                    place = new.place,
                    "runner {} of job {} is reserved at {}",
                    new.ordinal,
                    new.job,
                    new.place
                ),
                Err(error) => {
                    tracing::warn!(runner = new.name, job = %new.job, %error, "a runner's record cannot be written");
                    self.holds.failed(&new.name, &error, clock::now());
                }
            }
        }
        Ok(())
    }

    fn spawn(
        &self,
        name: String,
        action: &'static str,
        work: impl Future<Output = CallResult<Outcome>> + Send + 'static,
    ) {
        self.holds.begin(&name);
        let (holds, finished, metrics) =
            (self.holds.clone(), self.finished.clone(), self.outside.metrics.clone());
        self.tasks.spawn(async move {
            let guard = holds::Guard::new(holds.clone(), name.clone(), finished.clone());
            let result = work.await;
            guard.disarm();
            metrics.action(action, outcome_word(result.is_ok()));
            match result {
                Ok(Outcome::Done) => holds.done(&name),
                Ok(Outcome::Again(after)) => holds.again(&name, clock::now(), after),
                Ok(Outcome::NoBranches { source, after }) => {
                    holds.again(&held_branches_of(&source), clock::now(), after);
                    holds.undone(&name, clock::now());
                }
                Err(error) => {
                    let until = holds.failed(&name, &error, clock::now());
                    tracing::warn!(subject = name, action, %error, again_at = %until, "{action} of {name} failed");
                }
            }
            finished.notify_one();
        });
    }
}

/// What orders are completed from, looked up once per plan.
struct Context<'a> {
    machines: &'a HashMap<String, Machine>,
    resolved: &'a Resolved,
    runners: HashMap<&'a str, &'a Runner>,
    jobs: HashMap<&'a JobKey, &'a Job>,
    ran: HashMap<String, &'a Job>,
}

impl<'a> Context<'a> {
    fn of(view: &'a View) -> Self {
        let mut ran = HashMap::new();
        for job in &view.snapshot.jobs {
            if let JobState::Running { runner: Some(runner) } | JobState::Ended { runner: Some(runner), .. } =
                job.state()
            {
                ran.insert(runner, job);
            }
        }
        Self {
            machines: &view.snapshot.machines,
            resolved: &view.resolved,
            runners: view.snapshot.runners.iter().map(|runner| (runner.name.as_str(), runner)).collect(),
            jobs: view.snapshot.jobs.iter().map(|job| (&job.key, job)).collect(),
            ran,
        }
    }

    fn order(&self, name: &str, step: Step, because: Option<Reason>) -> Option<StepOrder> {
        let runner = (*self.runners.get(name)?).clone();
        Some(StepOrder {
            ran: self.ran.get(name).map(|job| (*job).clone()),
            own: self.jobs.get(&runner.job).map(|job| (*job).clone()),
            class: self.resolved.classes.get(&runner.matched.class).cloned(),
            place: self.resolved.places.get(&runner.place).cloned(),
            runs: self.machines.get(name).is_some_and(|machine| machine.phase == MachinePhase::Running),
            runner,
            step,
            because,
        })
    }
}

impl StepOrder {
    /// When the runner's teardown was decided.
    fn ending_since(&self) -> Option<Timestamp> {
        self.runner.facts.teardown.as_ref().map(|teardown| teardown.at)
    }
}

fn teardown_fact(reason: &Reason) -> RunnerFact {
    RunnerFact::Teardown(Teardown {
        code: reason.code().to_owned(),
        sentence: reason.sentence(),
        at: clock::now(),
    })
}

impl Outside {
    async fn step(&self, order: StepOrder) -> CallResult<Outcome> {
        if let Some(reason) = &order.because {
            tracing::info!(
                runner = order.runner.name,
                job = %order.runner.job,
                reason = reason.code(),
                "runner {} ends: {}",
                order.runner.name,
                reason.sentence()
            );
            // With a registration in question, its source decides whether the runner ends at all.
            if order.step != Step::Deregister {
                self.records.record(&order.runner.name, &[teardown_fact(reason)]).await?;
            }
        }
        match order.step.clone() {
            Step::Register => self.register(&order).await,
            Step::Launch => self.launch(&order).await,
            Step::Recover => self.recover(&order).await,
            Step::Capture { last } => self.capture(&order, last).await,
            Step::DeleteMachine => self.delete_machine(&order).await,
            Step::ConfirmGone => self.confirm_gone(&order).await,
            Step::Bill => self.bill(&order).await,
            Step::Deregister => self.deregister(&order).await,
            Step::Release => self.release(&order).await,
        }
    }

    async fn record(&self, order: &StepOrder, facts: &[RunnerFact]) -> CallResult<()> {
        self.records.record(&order.runner.name, facts).await
    }

    fn provider(&self, source: &str) -> CallResult<Arc<dyn Provider>> {
        self.sources.provider(source)
    }

    /// The runner whose group this would be by its name, if it is one of this installation's.
    pub fn runner_of(&self, group: &str) -> Option<String> {
        let own = format!("{}-", self.installation.id);
        let runner = match &self.pods {
            Some(pods) => group.strip_prefix(&pods.group_name(""))?,
            None => group,
        };
        runner.starts_with(&own).then(|| runner.to_owned())
    }
}

fn outcome_word(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Register => "register",
        Step::Launch => "launch",
        Step::Recover => "recover",
        Step::Capture { .. } => "capture",
        Step::DeleteMachine => "delete-machine",
        Step::ConfirmGone => "confirm-gone",
        Step::Bill => "bill",
        Step::Deregister => "deregister",
        Step::Release => "release",
    }
}
