//! A small world in simulated time: a source that hands out jobs as GitHub does, machines that run them or do not, and
//! an executor that carries plans out, at once or later, and may lose what came of a call.
//!
//! Every invariant that holds at all times is asserted here, when it could break.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::billing;
use crate::job::{Job, JobAction, JobDescription, JobFact, JobKey, JobReport, Standing};
use crate::labels;
use crate::lifecycle::{GroupFacts, Launched, Machine, MachinePhase, Registered, Runner, RunnerFact, Step};
use crate::plan::{Action, Hold, NewRunner, Plan, Snapshot, plan};
use crate::reason::Reason;
use crate::setup::{Price, Scope, Setup};
use crate::testing::{at, record_of, secs, teardown};

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
    NeverOnline,
    VanishesEarly,
    VanishesLater,
    EndsWithoutJob,
    HangsAfterJob,
}

const BAD: [Fate; 9] = [
    Fate::StartFails,
    Fate::SaidToFail,
    Fate::NeverScheduled,
    Fate::NeverRuns,
    Fate::NeverOnline,
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

    /// Nothing that was planned is left, nothing outside is left, and all is accounted for.
    pub(super) fn check_end(&self) {
        let log = &self.log;
        assert!(self.snapshot.jobs.is_empty(), "jobs are left: {:?}\n{log}", self.snapshot.jobs);
        assert!(self.snapshot.runners.is_empty(), "runners are left: {:?}\n{log}", self.snapshot.runners);
        assert!(
            self.snapshot.reserved.is_empty(),
            "reservations are left: {:?}\n{log}",
            self.snapshot.reserved
        );
        assert!(self.machines.is_empty(), "machines are left: {:?}\n{log}", self.machines.keys());
        assert!(self.registrations.is_empty(), "left registered: {:?}\n{log}", self.registrations.keys());
        for key in self.jobs.keys() {
            let end = self.finals.get(key).unwrap_or_else(|| panic!("{key} has no end\n{log}"));
            match end.standing {
                Standing::Ended => {}
                Standing::Refused | Standing::GivenUp => {
                    assert!(end.reason.is_some(), "{key}: {end:?}\n{log}")
                }
                Standing::Stored | Standing::Waiting | Standing::Starting | Standing::Running => {
                    panic!("{key} ended as {end:?}\n{log}")
                }
            }
        }
        for (name, ran) in &self.launched {
            let rows = self.ledger.get(name).copied().unwrap_or(0);
            assert!(rows <= 1, "{name} was billed {rows} times\n{log}");
            if *ran && self.captured.contains(name) {
                assert_eq!(rows, 1, "{name} ran and was not billed\n{log}");
            }
        }
        for pass in 0..100 {
            assert_eq!(plan(&self.snapshot, self.now + secs(pass)), Plan::default());
        }
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

    // Time.

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
                self.snapshot.held.remove(&held_under(&action));
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
        self.assign();
    }

    // The source.

    fn set(&mut self, key: &JobKey, state: TrueState) {
        self.jobs.get_mut(key).unwrap().state = state;
    }

    fn over_if_waiting(&mut self, key: &JobKey, conclusion: &str) {
        if matches!(self.jobs[key].state, TrueState::HeldBack | TrueState::Queued) {
            self.finish(key, conclusion, None);
        }
    }

    fn finish(&mut self, key: &JobKey, conclusion: &str, runner: Option<String>) {
        self.note(&format!("job {key} is over: {conclusion}"));
        self.set(key, TrueState::Over { conclusion: conclusion.to_owned(), runner });
        self.tell(key, JobAction::Completed);
    }

    fn begin_job(&mut self, key: &JobKey, runner: &str) {
        self.note(&format!("job {key} runs on {runner}"));
        self.set(key, TrueState::Running(runner.to_owned()));
        self.tell(key, JobAction::InProgress);
        let runs_for = u64::try_from(self.jobs[key].script.runs_for).unwrap();
        self.after(runs_for, Event::JobDone(key.clone()));
    }

    /// Hands queued jobs to whatever idle runner covers them.
    fn assign(&mut self) {
        let queued: Vec<JobKey> = self
            .jobs
            .iter()
            .filter(|(_, job)| matches!(job.state, TrueState::Queued))
            .map(|(key, _)| key.clone())
            .collect();
        for key in queued {
            let script = &self.jobs[&key].script;
            let owner = script.repository.split('/').next().unwrap_or_default();
            let fit: Vec<String> = self
                .registrations
                .iter()
                .filter(|(_, registration)| registration.online && registration.job.is_none())
                .filter(|(_, registration)| registration.scope.serves(owner, &script.repository))
                .filter(|(_, registration)| labels::covers(&registration.labels, &script.labels))
                .map(|(name, _)| name.clone())
                .collect();
            if fit.is_empty() {
                continue;
            }
            let which = usize::try_from(self.dice.below(fit.len() as u64)).unwrap();
            let name = fit[which].clone();
            self.registrations.get_mut(&name).unwrap().job = Some(key.clone());
            self.call_back(&name, RunnerFact::AgentJobStarted);
            self.begin_job(&key, &name);
        }
    }

    fn job_done(&mut self, key: &JobKey) {
        let TrueState::Running(runner) = self.jobs[key].state.clone() else { return };
        let lost =
            runner != "elsewhere" && !self.machines.get(&runner).is_some_and(|machine| machine.running);
        if lost {
            return;
        }
        self.registrations.remove(&runner);
        self.call_back(&runner, RunnerFact::AgentJobCompleted);
        self.finish(key, "success", Some(runner.clone()));
        let hangs = self.machines.get(&runner).is_some_and(|machine| machine.fate == Fate::HangsAfterJob);
        if !hangs {
            self.call_back(&runner, |at| RunnerFact::AgentExiting(at, Some(0)));
            self.after(2, Event::Ends(runner));
        }
    }

    /// Sends a webhook of how the job stands, as lossy and late as the faults say.
    fn tell(&mut self, key: &JobKey, action: JobAction) {
        self.counter += 1;
        let mut fact = self.fact(key, format!("hook-{}", self.counter));
        fact.action = action;
        if self.dice.chance(self.faults.webhook_lost) {
            return;
        }
        let copies = if self.dice.chance(self.faults.webhook_twice) { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.dice.below(self.faults.webhook_late + 1);
            self.after(late, Event::Told(key.clone(), fact.clone()));
        }
    }

    fn fact(&self, key: &JobKey, id: String) -> JobFact {
        let (action, runner, conclusion) = match &self.jobs[key].state {
            TrueState::HeldBack => (JobAction::Waiting, None, None),
            TrueState::Queued => (JobAction::Queued, None, None),
            TrueState::Running(runner) => (JobAction::InProgress, Some(runner.clone()), None),
            TrueState::Over { conclusion, runner } => {
                (JobAction::Completed, runner.clone(), Some(conclusion.clone()))
            }
        };
        JobFact { id, action, heard_at: self.now, runner, conclusion }
    }

    fn read(&mut self, key: &JobKey) {
        self.counter += 1;
        let fact = self.fact(key, format!("read-{}", self.counter));
        self.store(key, fact);
    }

    fn store(&mut self, key: &JobKey, mut fact: JobFact) {
        fact.heard_at = self.now;
        if self.finals.contains_key(key) {
            return;
        }
        let script = &self.jobs[key].script;
        let place = match self.snapshot.jobs.iter().position(|job| job.key == *key) {
            Some(place) => place,
            None => {
                self.snapshot.jobs.push(Job {
                    key: key.clone(),
                    description: JobDescription {
                        owner: script.repository.split('/').next().unwrap_or_default().to_owned(),
                        repository: script.repository.clone(),
                        public: false,
                        name: script.id.clone(),
                        workflow: None,
                        url: None,
                        labels: script.labels.clone(),
                    },
                    stored_at: self.now,
                    facts: Vec::new(),
                    report: JobReport::default(),
                });
                self.snapshot.jobs.len() - 1
            }
        };
        let job = &mut self.snapshot.jobs[place];
        if job.facts.iter().all(|known| known.id != fact.id) {
            job.facts.push(fact);
        }
    }

    // Machines and agents.

    fn show(&mut self, name: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get_mut(name) {
            change(&mut machine.shown);
            self.show_later(name);
        }
    }

    fn show_later(&mut self, name: &str) {
        let shown = self.machines.get(name).map(|machine| machine.shown.clone());
        self.after(self.faults.watch_lag, Event::Shown(name.to_owned(), shown));
    }

    fn machine_runs(&mut self, name: &str) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(name) else { return };
        let fate = machine.fate;
        if fate == Fate::StartFails || machine.shown.deleting {
            let why = Some("ProviderFailed".to_owned());
            self.show(name, |shown| (shown.phase, shown.why) = (MachinePhase::StartFailed, why));
            return;
        }
        machine.running = true;
        machine.group.pull_started = Some(now - secs(5));
        machine.group.started = Some(now);
        self.launched.insert(name.to_owned(), true);
        self.note(&format!("{name} runs"));
        if fate == Fate::SaidToFail {
            self.after(20, Event::SaidToFail(name.to_owned()));
        } else {
            self.show(name, |shown| (shown.phase, shown.since) = (MachinePhase::Running, now));
        }
        match fate {
            Fate::NeverOnline => {}
            Fate::EndsWithoutJob => self.after(4, Event::Ends(name.to_owned())),
            Fate::Works
            | Fate::StartFails
            | Fate::SaidToFail
            | Fate::NeverScheduled
            | Fate::NeverRuns
            | Fate::VanishesEarly
            | Fate::VanishesLater
            | Fate::HangsAfterJob => self.after(3, Event::Online(name.to_owned())),
        }
    }

    fn machine_ends(&mut self, name: &str) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(name).filter(|machine| machine.running) else { return };
        machine.running = false;
        machine.group.stopped = Some(now);
        self.note(&format!("{name} ends"));
        self.show(name, |shown| (shown.phase, shown.since) = (MachinePhase::Ended, now));
        self.agent_lost(name);
    }

    /// The agent is not there any more; if it had a job, its source notices in time.
    fn agent_lost(&mut self, name: &str) {
        if let Some(registration) = self.registrations.get_mut(name) {
            registration.online = false;
            if let Some(job) = registration.job.clone() {
                self.after(600, Event::SourceNotices(job));
            }
        }
    }

    fn call_back(&mut self, name: &str, fact: impl FnOnce(Timestamp) -> RunnerFact) {
        if self.faults.callbacks {
            let fact = fact(self.now);
            self.record(name, vec![fact]);
        }
    }

    // The executor.

    fn record(&mut self, name: &str, facts: Vec<RunnerFact>) {
        if let Some(runner) = self.snapshot.runners.iter_mut().find(|runner| runner.name == name) {
            for fact in facts {
                runner.facts.apply(fact);
            }
        }
    }

    fn begin(&mut self, action: Action) {
        let under = held_under(&action);
        if self.snapshot.held.contains_key(&under) {
            // Another action of the same plan is under way there.
            return;
        }
        if self.dice.chance(self.faults.call_fails) {
            self.snapshot.held.insert(under, Hold::Until(self.now + secs(10)));
            return;
        }
        let slow = self.dice.below(self.faults.slow_actions + 1);
        if slow == 0 {
            self.carry_out(action);
        } else {
            self.snapshot.held.insert(under, Hold::InFlight);
            self.after(slow, Event::CarryOut(action));
        }
    }

    fn crash(&mut self) -> bool {
        self.dice.chance(self.faults.crash)
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start(new) => self.start(&new),
            Action::Step { runner, step, because } => self.step(&runner, &step, because),
            Action::Report { job, report } => {
                if let Some(stored) = self.snapshot.jobs.iter_mut().find(|stored| stored.key == job) {
                    let line = format!(
                        "report {job}: {} {}",
                        report.standing.as_str(),
                        report.reason.as_deref().or(report.runner.as_deref()).unwrap_or("-")
                    );
                    stored.report = report;
                    self.note(&line);
                }
            }
            Action::ReadJob { job } => {
                self.note(&format!("read {job}"));
                self.read(&job);
            }
            Action::Expire { job } => {
                let place = self.snapshot.jobs.iter().position(|stored| stored.key == job).unwrap();
                let stored = self.snapshot.jobs.remove(place);
                self.finals.insert(job, stored.report);
            }
            Action::Unreserve { runner } => {
                self.snapshot.reserved.remove(&runner);
            }
        }
        self.assign();
    }

    fn start(&mut self, new: &NewRunner) {
        self.snapshot.reserved.insert(new.name.clone());
        if self.crash() {
            return;
        }
        self.note(&format!("start {} for {}, number {}", new.name, new.job, new.ordinal));
        assert!(!self.launched.contains_key(&new.name), "name {} is used again\n{}", new.name, self.log);
        assert!(!self.registered.contains(&new.name), "name {} is used again\n{}", new.name, self.log);
        self.snapshot.runners.push(record_of(new, self.now));
    }

    fn step(&mut self, name: &str, step: &Step, because: Option<Reason>) {
        let now = self.now;
        let why = because.as_ref().map(|reason| format!(" because {}", reason.code())).unwrap_or_default();
        self.note(&format!("{step:?} {name}{why}"));
        let torn_down = because.map(|reason| RunnerFact::Teardown(teardown(&reason, now)));
        if *step != Step::Deregister {
            self.record(name, torn_down.clone().into_iter().collect());
        }
        match step {
            Step::Register => self.register(name),
            Step::Launch => self.launch(name),
            Step::Recover => {
                let fact = if self.machines.contains_key(name) {
                    RunnerFact::Launched(Launched { uid: format!("uid-{name}"), at: now })
                } else {
                    let call = "created its machine".to_owned();
                    RunnerFact::Teardown(teardown(&Reason::Interrupted { call }, now))
                };
                self.record(name, vec![fact]);
            }
            Step::Capture { last } => self.capture(name, *last),
            Step::DeleteMachine => {
                self.delete_machine(name);
                if !self.crash() {
                    self.record(name, vec![RunnerFact::Deleting(now)]);
                }
            }
            Step::ConfirmGone => {
                if self.machines.contains_key(name) {
                    self.snapshot.held.insert(name.to_owned(), Hold::Until(now + secs(2)));
                } else {
                    self.record(name, vec![RunnerFact::Gone(now)]);
                }
            }
            Step::Bill => {
                let runner = self.snapshot.runners.iter().find(|runner| runner.name == name).unwrap();
                if billing::bill(runner, name, &Price::default()).is_some() {
                    // The same row again changes nothing.
                    self.ledger.entry(name.to_owned()).or_insert(1);
                }
                if !self.crash() {
                    self.record(name, vec![RunnerFact::Billed(now)]);
                }
            }
            Step::Deregister => {
                if self.registrations.get(name).is_some_and(|registration| registration.job.is_some()) {
                    self.record(name, vec![RunnerFact::BusySeen(now)]);
                    return;
                }
                self.registrations.remove(name);
                if !self.crash() {
                    self.record(name, torn_down.into_iter().chain([RunnerFact::Deregistered(now)]).collect());
                    // The agent finds that it is known no longer.
                    self.after(5, Event::Ends(name.to_owned()));
                }
            }
            Step::Release => {
                let runner = self.snapshot.runners.iter().find(|runner| runner.name == name).unwrap();
                assert!(
                    runner.facts.launching.is_none()
                        || (runner.facts.gone.is_some() && runner.facts.billed.is_some()),
                    "released too early: {runner:?}\n{}",
                    self.log
                );
                self.snapshot.runners.retain(|runner| runner.name != name);
                if !self.crash() {
                    self.snapshot.reserved.remove(name);
                }
            }
        }
    }

    fn register(&mut self, name: &str) {
        let now = self.now;
        self.record(name, vec![RunnerFact::Registering(now)]);
        if self.crash() {
            return;
        }
        assert!(self.registered.insert(name.to_owned()), "{name} is registered twice\n{}", self.log);
        if self.dice.chance(self.faults.registration_refused) {
            let reason = Reason::RegistrationFailed { why: "403".to_owned() };
            self.record(name, vec![RunnerFact::Teardown(teardown(&reason, now))]);
            return;
        }
        let runner = self.snapshot.runners.iter().find(|runner| runner.name == name).unwrap();
        let registration = Registration {
            scope: runner.scope.clone(),
            labels: runner.labels.clone(),
            online: false,
            job: None,
        };
        self.registrations.insert(name.to_owned(), registration);
        if !self.crash() {
            let registered = Registered { id: 1, callback_hash: String::new(), at: now };
            self.record(name, vec![RunnerFact::Registered(registered)]);
        }
    }

    fn launch(&mut self, name: &str) {
        let now = self.now;
        self.record(name, vec![RunnerFact::Launching(now)]);
        if self.crash() {
            return;
        }
        assert!(
            self.launched.insert(name.to_owned(), false).is_none(),
            "{name} is created twice\n{}",
            self.log
        );
        let diced = if self.dice.chance(self.faults.bad_machine) {
            BAD[usize::try_from(self.dice.below(BAD.len() as u64)).unwrap()]
        } else {
            Fate::Works
        };
        let fate = self.fates.pop_front().unwrap_or(diced);
        let shown = Machine {
            uid: format!("uid-{name}"),
            phase: MachinePhase::Pending,
            scheduled: false,
            since: now,
            why: None,
            deleting: false,
        };
        let group = GroupFacts { id: format!("/groups/{name}"), ..GroupFacts::default() };
        self.machines.insert(name.to_owned(), TrueMachine { shown, fate, running: false, group });
        self.show_later(name);
        if fate != Fate::NeverScheduled {
            self.after(1, Event::Scheduled(name.to_owned()));
            let starts = 10 + self.dice.below(30);
            match fate {
                Fate::NeverRuns => {}
                Fate::VanishesEarly => self.after(5, Event::Vanishes(name.to_owned())),
                Fate::VanishesLater => {
                    self.after(starts, Event::Runs(name.to_owned()));
                    self.after(starts + 60, Event::Vanishes(name.to_owned()));
                }
                Fate::Works
                | Fate::StartFails
                | Fate::SaidToFail
                | Fate::NeverScheduled
                | Fate::NeverOnline
                | Fate::EndsWithoutJob
                | Fate::HangsAfterJob => self.after(starts, Event::Runs(name.to_owned())),
            }
        }
        if !self.crash() {
            let launched = Launched { uid: format!("uid-{name}"), at: now };
            self.record(name, vec![RunnerFact::Launched(launched)]);
        }
    }

    fn capture(&mut self, name: &str, last: bool) {
        let now = self.now;
        let read =
            self.machines.get(name).map(|machine| GroupFacts { seen_at: Some(now), ..machine.group.clone() });
        let mut facts: Vec<RunnerFact> = Vec::new();
        if let Some(group) = read {
            if group.pull_started.is_some() {
                self.captured.insert(name.to_owned());
            }
            facts.push(RunnerFact::Group(group));
        } else if !last {
            self.snapshot.held.insert(name.to_owned(), Hold::Until(now + secs(5)));
        }
        if last {
            facts.push(RunnerFact::Captured(now));
        }
        if !self.crash() {
            self.record(name, facts);
        }
    }

    fn delete_machine(&mut self, name: &str) {
        let busy = self.registrations.get(name).is_some_and(|registration| registration.job.is_some());
        let Some(machine) = self.machines.get_mut(name) else { return };
        assert!(!(busy && machine.running), "busy {name} is deleted\n{}", self.log);
        machine.running = false;
        machine.group.stopped = machine.group.stopped.or(machine.group.started.map(|_| self.now));
        machine.shown.deleting = true;
        self.show_later(name);
        self.after(3, Event::GroupGone(name.to_owned()));
    }

    // What holds at all times.

    fn check(&self, plan: &Plan) {
        let log = &self.log;
        let mut started_for: BTreeSet<&JobKey> = BTreeSet::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut starts: Vec<&NewRunner> = Vec::new();
        for action in &plan.actions {
            match action {
                Action::Start(new) => {
                    assert!(started_for.insert(&new.job), "two starts for {}\n{log}", new.job);
                    assert!(!self.snapshot.held.contains_key(&new.name), "started while held\n{log}");
                    assert!(names.insert(&new.name), "two actions on {}\n{log}", new.name);
                    starts.push(new);
                }
                Action::Step { runner, .. } | Action::Unreserve { runner } => {
                    assert!(!self.snapshot.held.contains_key(runner), "a step while held\n{log}");
                    assert!(names.insert(runner), "two actions on {runner}\n{log}");
                }
                Action::Report { job, .. } | Action::ReadJob { job } | Action::Expire { job } => {
                    assert!(!self.snapshot.held.contains_key(&job.to_string()), "{job} is held\n{log}");
                }
            }
        }
        if starts.is_empty() {
            return;
        }
        // Those whose start is under way count too, even where they have no record yet.
        let in_flight = self.events.values().filter_map(|event| match event {
            Event::CarryOut(Action::Start(new)) => Some(new.as_ref()),
            _ => None,
        });
        let mut by_class: HashMap<&str, u32> = HashMap::new();
        let recorded =
            self.snapshot.runners.iter().filter(|runner| runner.counts()).map(|runner| &runner.matched);
        let coming = starts.iter().copied().chain(in_flight).map(|new| &new.matched);
        for matched in recorded.chain(coming) {
            *by_class.entry(&matched.class).or_default() += 1;
        }
        let setup = &self.snapshot.setup;
        let total: u32 = by_class.values().sum();
        assert!(total <= setup.settings.max_runners, "{total} runners\n{log}");
        for new in starts {
            let limit = setup.classes[&new.matched.class].max_runners;
            let count = by_class[new.matched.class.as_str()];
            assert!(count <= limit, "{count} of {limit} runners of {}\n{log}", new.matched.class);
        }
        for name in self.machines.keys() {
            assert!(
                self.snapshot.runners.iter().any(|runner| runner.name == *name && runner.counts()),
                "machine {name} is not counted\n{log}"
            );
        }
    }

    /// The plan stays empty until it said that it would not.
    fn nothing_before(&self, next: Timestamp) {
        let span = next.duration_since(self.now);
        for part in [3, 2] {
            let between = self.now + span / part;
            if between > self.now && between < next {
                let plan = plan(&self.snapshot, between);
                assert!(
                    plan.actions.is_empty(),
                    "woke too late: {:?} at {between}\n{}",
                    plan.actions,
                    self.log
                );
            }
        }
    }

    fn note(&mut self, line: &str) {
        let passed = self.now.duration_since(at(0)).as_secs();
        writeln!(self.log, "{:02}:{:02}:{:02} {line}", passed / 3600, passed / 60 % 60, passed % 60).unwrap();
    }
}

fn held_under(action: &Action) -> String {
    match action {
        Action::Start(new) => new.name.clone(),
        Action::Step { runner, .. } | Action::Unreserve { runner } => runner.clone(),
        Action::Report { job, .. } | Action::ReadJob { job } | Action::Expire { job } => job.to_string(),
    }
}
