//! The engine: virtual time, a snapshot in memory, and `runner-core`'s planner asked whenever its answer may have changed.
//!
//! What only carries out what is decided already (a runner's start, the steps of its teardown) happens without a pass of
//! its own; which step comes next is asked of `lifecycle` all the same. Jobs that are over and runners that are gone leave
//! the snapshot, so that a pass costs as much as there is at that moment.

mod jobs;
mod machines;
mod teardown;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use runner_core::job::{JobKey, Standing};
use runner_core::plan::{Action, Plan, Snapshot, plan};
use runner_core::reason::Reason;

use super::gauges::{Gauges, Share, Timeline};
use super::github::Github;
use super::history::PastJob;
use super::quota::Regions;
use super::record::{BillRecord, JobRecord, Outcome, Ran, STARTING};
use super::scenario::Scenario;
use super::spending::Bills;
use super::start_model::Draw;

/// About how many stretches the timeline has up to the last job.
const STRETCHES: i32 = 240;
/// More passes at one moment than any plan needs, as far as it comes to rest at all.
const MOST_PASSES_AT_ONCE: u32 = 10_000;
/// For so long after a place had no room, whatever happens there may change what is planned: longer than any pause.
const SHAKEN: SignedDuration = SignedDuration::from_hours(1);

/// What happens at a moment. Numbers are indices of jobs and runners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Somebody cancels the job, unless an agent has it.
    Cancelled(usize),
    /// GitHub gives the job up, which waited for a day.
    GivenUpBySource(usize),
    /// The runner's container runs.
    Runs(usize),
    /// Its agent is online.
    Online(usize),
    /// Its job is over.
    JobDone(usize),
    /// Its container has ended.
    Ended(usize),
    /// Its machine is gone.
    Gone(usize),
    /// A deadline may be over.
    Look,
}

/// A job, as the engine follows it.
struct Tracked {
    state: TrueState,
    /// Where it is in the snapshot, if it is.
    position: Option<usize>,
    kind: usize,
    /// Jobs with the same number here want the same kind of runner.
    wants: Option<usize>,
    /// The class that it matched.
    class: Option<String>,
    /// How many runners that were started for it are recorded.
    own_runners: u32,
    /// Why it waits, and since when.
    why: (&'static str, Timestamp),
    refused: Option<&'static str>,
    given_up: bool,
    record: JobRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrueState {
    NotYet,
    Queued,
    Running,
    Over,
}

/// A runner, as the engine follows it.
struct Live {
    name: String,
    /// Where it is in the snapshot, if it is.
    position: Option<usize>,
    /// The job that it was started for.
    own_job: usize,
    kind: usize,
    draw: Draw,
    registered: bool,
    /// The job that it has or had.
    job: Option<usize>,
    /// Whether that runs.
    busy: bool,
    /// Whether its machine exists.
    exists: bool,
    /// Whether it takes room of its pool, or of Azure's quota.
    placed: bool,
    shares: Vec<Share>,
}

/// A node pool.
#[derive(Default)]
struct Pool {
    used: u32,
    /// Runners whose pods found no node.
    stuck: VecDeque<usize>,
}

struct Engine<'a> {
    scenario: &'a Scenario,
    past: &'a [PastJob],
    now: Timestamp,
    snapshot: Snapshot,
    tracked: Vec<Tracked>,
    runners: Vec<Live>,
    runner_ids: HashMap<String, usize>,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    sequence: u64,
    /// How many jobs have been queued.
    arrived: usize,
    github: Github,
    regions: Regions,
    pools: BTreeMap<String, Pool>,
    gauges: Gauges,
    timeline: Timeline,
    thorough: bool,
    /// Whether the planner may decide anything new.
    dirty: bool,
    /// Whether any job waited for something at the last pass.
    waiting: bool,
    /// Whether any waited for Azure's quota.
    waits_for_quota: bool,
    /// When time alone may change the plan.
    wake: Option<Timestamp>,
    /// Places that had no room lately, and until when that matters.
    shaken: BTreeMap<String, Timestamp>,
    bills: Vec<BillRecord>,
    spending: Bills,
    runner_ends: BTreeMap<String, u64>,
    passes: u64,
    last: Timestamp,
}

/// Replays jobs, which are in the order in which they were queued, until the last one is over.
///
/// # Errors
/// A planner that does not come to rest, which is a bug.
pub fn run(scenario: &Scenario, jobs: &[PastJob]) -> anyhow::Result<Ran> {
    replay(scenario, jobs, false)
}

/// Replays jobs. `thorough`: the planner is asked at every moment at which anything happens, as a controller asks it. It
/// then says the same, but for which of several jobs of one kind a runner stands for.
fn replay(scenario: &Scenario, jobs: &[PastJob], thorough: bool) -> anyhow::Result<Ran> {
    let from = jobs.first().map_or(Timestamp::UNIX_EPOCH, |job| job.queued_at);
    let to = jobs.last().map_or(from, |job| job.queued_at);
    let mut setup = scenario.setup.clone();
    // No event is lost or late here, so that GitHub's answer to whether an old job still waits is known without asking.
    setup.settings.confirm_after = SignedDuration::MAX;
    scenario.quota.told(&mut setup);
    let azure = setup.quotas.keys().map(|name| (name.clone(), scenario.quota.answer())).collect();
    let mut engine = Engine {
        scenario,
        past: jobs,
        now: from,
        snapshot: Snapshot { setup, azure, ..Snapshot::default() },
        tracked: Vec::with_capacity(jobs.len()),
        runners: Vec::with_capacity(jobs.len()),
        runner_ids: HashMap::new(),
        events: BinaryHeap::new(),
        sequence: 0,
        arrived: 0,
        github: Github::default(),
        regions: Regions::default(),
        pools: BTreeMap::new(),
        gauges: Gauges::new(scenario, from),
        timeline: Timeline::new(from, to, STRETCHES),
        thorough,
        dirty: false,
        waiting: false,
        waits_for_quota: false,
        wake: None,
        shaken: BTreeMap::new(),
        bills: Vec::new(),
        spending: Bills::default(),
        runner_ends: BTreeMap::new(),
        passes: 0,
        last: to,
    };
    engine.track_all();
    engine.run()?;
    Ok(engine.finish(from))
}

impl Engine<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.happen();
            self.dirty |= self.thorough;
            self.settle()?;
            let arrival = self.past.get(self.arrived).map(|job| job.queued_at);
            let event = self.events.peek().map(|Reverse((at, _, _))| *at);
            // Time alone changes nothing once nothing is left.
            let wake =
                self.wake.filter(|_| !(self.snapshot.jobs.is_empty() && self.snapshot.runners.is_empty()));
            let Some(next) = arrival.into_iter().chain(event).chain(wake).min() else { return Ok(()) };
            if wake.is_some_and(|wake| wake <= next) {
                self.wake = None;
                self.dirty = true;
            }
            self.now = self.now.max(next);
        }
    }

    /// All that happens up to now.
    fn happen(&mut self) {
        while self.past.get(self.arrived).is_some_and(|job| job.queued_at <= self.now) {
            self.arrives(self.arrived);
            self.arrived += 1;
        }
        while let Some(Reverse((at, _, _))) = self.events.peek() {
            if *at > self.now {
                return;
            }
            let Some(Reverse((_, _, event))) = self.events.pop() else { return };
            match event {
                Event::Cancelled(job) => self.ends_waiting(job, Some(Outcome::Cancelled)),
                Event::GivenUpBySource(job) => self.ends_waiting(job, None),
                Event::Runs(runner) => self.runs(runner),
                Event::Online(runner) => self.online(runner),
                Event::JobDone(runner) => self.job_done(runner),
                Event::Ended(runner) => self.container_ended(runner),
                Event::Gone(runner) => self.machine_gone(runner),
                Event::Look => self.dirty = true,
            }
        }
    }

    /// Asks the planner until it has nothing more to change.
    fn settle(&mut self) -> anyhow::Result<()> {
        let mut passes = 0;
        while self.dirty {
            self.dirty = false;
            passes += 1;
            anyhow::ensure!(
                passes <= MOST_PASSES_AT_ONCE,
                "the planner does not come to rest at {}: please report this as a bug of Stint",
                self.now
            );
            self.snapshot.health.note(&self.snapshot.runners, &self.snapshot.machines);
            let Snapshot { setup, runners, changes, spending, .. } = &mut self.snapshot;
            changes.note(setup, runners, self.now);
            self.spending.tell(setup, self.now, spending);
            let plan = plan(&self.snapshot, self.now);
            self.passes += 1;
            self.carry_out_plan(plan);
        }
        Ok(())
    }

    fn carry_out_plan(&mut self, plan: Plan) {
        self.waiting = !plan.reasons.is_empty();
        self.waits_for_quota =
            plan.reasons.values().any(|reason| matches!(**reason, Reason::QuotaReached { .. }));
        self.wake = plan.wake_at.map(|at| at.max(later(self.now, SignedDuration::from_secs(1))));
        for (key, reason) in &plan.reasons {
            if let Some(job) = self.job(key) {
                self.waits_for(job, reason.code());
            }
        }
        for action in plan.actions {
            match action {
                Action::Start(new) => self.start(&new),
                Action::Step { runner, step, because } => {
                    if let Some(runner) = self.runner_ids.get(&runner).copied() {
                        self.carry_out(runner, &step, because);
                        self.advance(runner);
                    }
                }
                Action::Report { job, report } => {
                    let Some(job) = self.job(&job) else { continue };
                    match report.standing {
                        Standing::Refused => self.refused(job, report.reason.as_deref()),
                        Standing::GivenUp => self.given_up(job),
                        Standing::Starting => self.waits_for(job, STARTING),
                        Standing::Stored | Standing::Waiting | Standing::Running | Standing::Ended => {}
                    }
                    if let Some(stored) = self.stored(job) {
                        stored.report = report;
                    }
                }
                Action::ReadJob { job } => {
                    if let Some(job) = self.job(&job) {
                        self.read(job);
                    }
                }
                Action::Expire { job } => {
                    if let Some(job) = self.job(&job) {
                        self.forget(job);
                    }
                }
                // Nothing is reserved by name alone here: a start has its record at once. Branches are told beforehand.
                Action::Unreserve { .. } | Action::ReadBranch { .. } => {}
            }
        }
    }

    fn finish(mut self, from: Timestamp) -> Ran {
        let to = self.last;
        let (timeline, bin) = self.timeline.finish(to);
        let jobs = self.tracked.into_iter().map(|tracked| tracked.record).collect();
        self.bills.sort_by(|a, b| (a.bill.stopped_at, &a.runner).cmp(&(b.bill.stopped_at, &b.runner)));
        Ran {
            jobs,
            bills: self.bills,
            gauges: self.gauges.finish(from, to),
            timeline,
            bin,
            runner_ends: self.runner_ends,
            from,
            to,
            passes: self.passes,
        }
    }

    fn at(&mut self, when: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((when, self.sequence, event)));
    }

    fn after(&mut self, by: SignedDuration, event: Event) {
        self.at(later(self.now, by), event);
    }

    /// The job of a key: keys hold the job's index.
    fn job(&self, key: &JobKey) -> Option<usize> {
        key.id.parse().ok().filter(|job| *job < self.tracked.len())
    }

    /// A place had no room.
    fn shake(&mut self, place: &str) {
        self.shaken.insert(place.to_owned(), later(self.now, SHAKEN));
        self.dirty = true;
    }

    fn any_shaken(&self) -> bool {
        self.shaken.values().any(|until| self.now < *until)
    }

    fn is_shaken(&self, place: &str) -> bool {
        self.shaken.get(place).is_some_and(|until| self.now < *until)
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
