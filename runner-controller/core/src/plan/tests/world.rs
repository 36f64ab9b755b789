//! A small world in simulated time: a source that hands out jobs as GitHub does, machines that run them or do not, and
//! an executor that carries plans out, at once or later, and may lose what came of a call.
//!
//! Every invariant that holds at all times is asserted here, when it could break.

mod checks;
mod executor;
mod machines;
mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::health::Health;
use crate::job::{JobAction, JobFact, JobKey, JobReport};
use crate::lifecycle::{GroupFacts, Machine, MachinePhase, RunnerFact};
use crate::plan::{Action, Hold, Snapshot, plan};
use crate::setup::{Scope, Setup};
use crate::testing::{at, secs};

/// A reproducible source of chance.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How much goes wrong, in percent of the occasions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) webhook_lost: u64,
    pub(super) webhook_twice: u64,
    /// The longest delay of a webhook, in seconds.
    pub(super) webhook_late: u64,
    pub(super) crash: u64,
    pub(super) call_fails: u64,
    pub(super) registration_refused: u64,
    pub(super) bad_machine: u64,
    /// Agents call back.
    pub(super) callbacks: bool,
    /// Actions take up to this many seconds.
    pub(super) slow_actions: u64,
    /// What is shown of machines is this many seconds old.
    pub(super) watch_lag: u64,
}

/// What a job does in the end.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) id: String,
    pub(super) labels: Vec<String>,
    pub(super) repository: String,
    pub(super) arrives: i64,
    pub(super) runs_for: i64,
    /// An approval holds it back until then.
    pub(super) approved: Option<i64>,
    /// It is cancelled then, unless it runs or is over.
    pub(super) cancelled: Option<i64>,
    /// A runner that is not ours takes it then, if it still waits.
    pub(super) taken_elsewhere: Option<i64>,
}

impl Script {
    pub(super) fn new(id: &str, arrives: i64, runs_for: i64) -> Self {
        Self {
            id: id.to_owned(),
            labels: vec!["stint".to_owned()],
            repository: "acme/web".to_owned(),
            arrives,
            runs_for,
            approved: None,
            cancelled: None,
            taken_elsewhere: None,
        }
    }
}

/// What becomes of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Works,
    StartFails,
    /// The platform says that it failed, and it works.
    SaidToFail,
    NeverScheduled,
    NeverRuns,
    /// Its group cannot be provisioned, of which its pod shows nothing.
    NotProvisioned,
    NeverOnline,
    /// It works, and its group does not tell when its pull began.
    PullForgotten,
    VanishesEarly,
    VanishesLater,
    EndsWithoutJob,
    HangsAfterJob,
    /// Azure has no group to give.
    Refused,
}

const BAD: [Fate; 11] = [
    Fate::StartFails,
    Fate::SaidToFail,
    Fate::NeverScheduled,
    Fate::NeverRuns,
    Fate::NotProvisioned,
    Fate::NeverOnline,
    Fate::PullForgotten,
    Fate::VanishesEarly,
    Fate::VanishesLater,
    Fate::EndsWithoutJob,
    Fate::HangsAfterJob,
];

#[derive(Clone, Debug)]
enum TrueState {
    HeldBack,
    Queued,
    Running(String),
    Over { conclusion: String, runner: Option<String> },
}

struct TrueJob {
    script: Script,
    state: TrueState,
}

struct Registration {
    scope: Scope,
    labels: Vec<String>,
    online: bool,
    job: Option<JobKey>,
}

struct TrueMachine {
    shown: Machine,
    fate: Fate,
    running: bool,
    group: GroupFacts,
    place: String,
    /// It takes room at its place.
    placed: bool,
}

enum Event {
    Arrives(JobKey),
    Approved(JobKey),
    Cancelled(JobKey),
    TakenElsewhere(JobKey),
    FailsAfterADay(JobKey),
    Polled(JobKey),
    Told(JobKey, JobFact),
    Scheduled(String),
    Runs(String),
    Online(String),
    JobDone(JobKey),
    SourceNotices(JobKey),
    SaidToFail(String),
    Ends(String),
    Vanishes(String),
    GroupGone(String),
    Shown(String, Option<Machine>),
    CarryOut(Action),
    RecordDeleted,
    Setup(Box<Setup>),
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) faults: Faults,
    /// What becomes of the next machines; then it is diced.
    pub(super) fates: VecDeque<Fate>,
    /// How many machines there can be at a place at once, where that is limited.
    pub(super) capacity: BTreeMap<String, usize>,
    pub(super) log: String,
    snapshot: Snapshot,
    dice: Dice,
    events: BTreeMap<(Timestamp, u64), Event>,
    counter: u64,
    jobs: BTreeMap<JobKey, TrueJob>,
    registrations: BTreeMap<String, Registration>,
    machines: BTreeMap<String, TrueMachine>,
    registered: BTreeSet<String>,
    launched: BTreeMap<String, bool>,
    ledger: BTreeMap<String, u32>,
    captured: BTreeSet<String>,
    /// How each job's record ended.
    pub(super) finals: BTreeMap<JobKey, JobReport>,
}

impl World {
    pub(super) fn new(setup: Setup, seed: u64, faults: Faults, scripts: Vec<Script>) -> Self {
        let mut world = Self {
            now: at(0),
            faults,
            fates: VecDeque::new(),
            capacity: BTreeMap::new(),
            log: String::new(),
            snapshot: Snapshot { setup, ..Snapshot::default() },
            dice: Dice::new(seed),
            events: BTreeMap::new(),
            counter: 0,
            jobs: BTreeMap::new(),
            registrations: BTreeMap::new(),
            machines: BTreeMap::new(),
            registered: BTreeSet::new(),
            launched: BTreeMap::new(),
            ledger: BTreeMap::new(),
            captured: BTreeSet::new(),
            finals: BTreeMap::new(),
        };
        for script in scripts {
            let key = JobKey { source: "acme".to_owned(), id: script.id.clone(), attempt: 1 };
            world.at(at(script.arrives), Event::Arrives(key.clone()));
            world.at(at(script.arrives + 86_400), Event::FailsAfterADay(key.clone()));
            world.at(at(script.arrives + 120), Event::Polled(key.clone()));
            for (when, event) in [
                (script.approved, Event::Approved(key.clone())),
                (script.cancelled, Event::Cancelled(key.clone())),
                (script.taken_elsewhere, Event::TakenElsewhere(key.clone())),
            ] {
                if let Some(when) = when {
                    world.at(at(when), event);
                }
            }
            world.jobs.insert(key, TrueJob { script, state: TrueState::HeldBack });
        }
        world
    }

    /// Somebody deletes the record of some runner then.
    pub(super) fn delete_a_record(&mut self, second: i64) {
        self.at(at(second), Event::RecordDeleted);
    }

    /// The configuration becomes this then.
    pub(super) fn change_setup(&mut self, second: i64, setup: Setup) {
        self.at(at(second), Event::Setup(Box::new(setup)));
    }

    /// Lets time pass until nothing is left to happen.
    pub(super) fn run(&mut self) {
        let mut passes_at_once = 0;
        for _ in 0..50_000 {
            self.happen();
            if self.faults.crash > 0 && self.crash() {
                self.snapshot.health = Health::default();
            }
            self.snapshot.health.note(&self.snapshot.runners, &self.snapshot.machines);
            let plan = plan(&self.snapshot, self.now);
            self.check(&plan);
            if !plan.actions.is_empty() {
                passes_at_once += 1;
                assert!(
                    passes_at_once < 500,
                    "no end of plans at one moment: {:?}\n{}",
                    plan.actions,
                    self.log
                );
                for action in plan.actions {
                    self.begin(action);
                }
                continue;
            }
            passes_at_once = 0;
            let event = self.events.keys().next().map(|(at, _)| *at);
            let next = match (event, plan.wake_at) {
                (Some(event), Some(wake)) => event.min(wake),
                (Some(next), None) | (None, Some(next)) => next,
                (None, None) => return,
            };
            assert!(next > self.now, "woken without cause at {}\n{}", self.now, self.log);
            self.nothing_before(next);
            self.now = next;
        }
        panic!("the world does not come to rest\n{}", self.log);
    }

    /// How many machines were created in all.
    pub(super) fn machines_created(&self) -> usize {
        self.launched.len()
    }

    /// How each job ended, a line each.
    pub(super) fn ends(&self) -> String {
        let mut out = String::new();
        for (key, end) in &self.finals {
            let reason = end.reason.as_deref().unwrap_or("-");
            let conclusion = end.conclusion.as_deref().unwrap_or("-");
            let started = end.runners_started;
            writeln!(out, "{key}: {} {conclusion} {reason}, {started} started", end.standing.as_str())
                .unwrap();
        }
        out
    }

    fn at(&mut self, when: Timestamp, event: Event) {
        self.counter += 1;
        self.events.insert((when, self.counter), event);
    }

    fn after(&mut self, seconds: u64, event: Event) {
        let when = self.now + secs(i64::try_from(seconds).unwrap());
        self.at(when, event);
    }

    fn happen(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.event(event);
        }
        let now = self.now;
        self.snapshot.held.retain(|_, hold| match hold {
            Hold::InFlight => true,
            Hold::Until(until) => *until > now,
        });
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Arrives(key) => {
                let approval = self.jobs[&key].script.approved.is_some();
                self.tell(&key, JobAction::Queued);
                if approval {
                    self.tell(&key, JobAction::Waiting);
                } else {
                    self.set(&key, TrueState::Queued);
                }
            }
            Event::Approved(key) => {
                if matches!(self.jobs[&key].state, TrueState::HeldBack) {
                    self.set(&key, TrueState::Queued);
                    self.tell(&key, JobAction::Queued);
                }
            }
            Event::Cancelled(key) => self.over_if_waiting(&key, "cancelled"),
            Event::FailsAfterADay(key) => self.over_if_waiting(&key, "failure"),
            Event::TakenElsewhere(key) => {
                if matches!(self.jobs[&key].state, TrueState::Queued) {
                    self.begin_job(&key, "elsewhere");
                }
            }
            Event::Polled(key) => {
                // A poll finds what is queued and unknown: the first webhook may be lost.
                let known = self.snapshot.jobs.iter().any(|job| job.key == key);
                if !known && !self.finals.contains_key(&key) {
                    self.read(&key);
                }
            }
            Event::Told(key, fact) => self.store(&key, fact),
            Event::Scheduled(name) => self.show(&name, |shown| shown.scheduled = true),
            Event::Runs(name) => self.machine_runs(&name),
            Event::Online(name) => {
                self.call_back(&name, RunnerFact::AgentBooted);
                if let Some(registration) = self.registrations.get_mut(&name) {
                    registration.online = true;
                } else {
                    // Deregistered while it started: its agent finds so, and ends.
                    self.after(1, Event::Ends(name));
                }
            }
            Event::JobDone(key) => self.job_done(&key),
            Event::SourceNotices(key) => {
                if let TrueState::Running(runner) = self.jobs[&key].state.clone() {
                    self.registrations.remove(&runner);
                    self.finish(&key, "failure", Some(runner));
                }
            }
            Event::SaidToFail(name) => self.show(&name, |shown| shown.phase = MachinePhase::StartFailed),
            Event::Ends(name) => self.machine_ends(&name),
            Event::Vanishes(name) => {
                self.machines.remove(&name);
                self.show_later(&name);
                self.agent_lost(&name);
            }
            Event::GroupGone(name) => {
                self.machines.remove(&name);
                self.show_later(&name);
            }
            Event::Shown(name, machine) => {
                match machine {
                    Some(machine) => self.snapshot.machines.insert(name, machine),
                    None => self.snapshot.machines.remove(&name),
                };
            }
            Event::CarryOut(action) => {
                self.snapshot.held.remove(&action.held_under());
                self.carry_out(action);
            }
            Event::RecordDeleted => {
                let count = self.snapshot.runners.len();
                let which = usize::try_from(self.dice.below(count as u64)).unwrap();
                if let Some(runner) = self.snapshot.runners.get_mut(which) {
                    runner.deleted = true;
                }
            }
            Event::Setup(setup) => self.snapshot.setup = *setup,
        }
        self.fill();
        self.assign();
    }

    fn note(&mut self, line: &str) {
        let passed = self.now.duration_since(at(0)).as_secs();
        writeln!(self.log, "{:02}:{:02}:{:02} {line}", passed / 3600, passed / 60 % 60, passed % 60).unwrap();
    }
}
