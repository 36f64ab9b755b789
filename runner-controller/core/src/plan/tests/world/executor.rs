//! Carries plans out, at once or later, and loses what came of a call now and then.

use super::{BAD, Event, Fate, Registration, TrueMachine, World};
use crate::billing;
use crate::lifecycle::{GroupFacts, Launched, Machine, MachinePhase, Registered, RunnerFact, Step};
use crate::plan::{Action, Hold, NewRunner};
use crate::reason::Reason;
use crate::setup::{PlaceKind, Price};
use crate::testing::{secs, teardown};

impl World {
    pub(super) fn record(&mut self, name: &str, facts: Vec<RunnerFact>) {
        if let Some(runner) = self.snapshot.runners.iter_mut().find(|runner| runner.name == name) {
            for fact in facts {
                runner.facts.apply(fact);
            }
        }
    }

    pub(super) fn begin(&mut self, action: Action) {
        let under = action.held_under();
        assert!(!self.snapshot.held.contains_key(&under), "{under} is held\n{}", self.log);
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

    pub(super) fn crash(&mut self) -> bool {
        self.dice.chance(self.faults.crash)
    }

    pub(super) fn carry_out(&mut self, action: Action) {
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
            Action::ReadBranch { job } => {
                let stored = self.snapshot.jobs.iter_mut().find(|stored| stored.key == job).unwrap();
                stored.found.add(crate::job::Finding::ProtectedBranch(false));
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

    pub(super) fn start(&mut self, new: &NewRunner) {
        self.snapshot.reserved.insert(new.name.clone());
        if self.crash() {
            return;
        }
        let place = match new.kind {
            PlaceKind::NodePool => format!(" at {}", new.place),
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => String::new(),
        };
        self.note(&format!("start {} for {}, number {}{place}", new.name, new.job, new.ordinal));
        assert!(!self.launched.contains_key(&new.name), "name {} is used again\n{}", new.name, self.log);
        assert!(!self.registered.contains(&new.name), "name {} is used again\n{}", new.name, self.log);
        self.snapshot.runners.push(new.clone().record(self.now));
    }

    pub(super) fn step(&mut self, name: &str, step: &Step, because: Option<Reason>) {
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

    pub(super) fn register(&mut self, name: &str) {
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

    pub(super) fn launch(&mut self, name: &str) {
        let now = self.now;
        let runner = self.snapshot.runners.iter().find(|runner| runner.name == name).unwrap().clone();
        let group = GroupFacts { id: format!("/groups/{name}"), ..GroupFacts::default() };
        let told = runner.kind.has_group().then(|| RunnerFact::Group(group.clone()));
        self.record(name, [RunnerFact::Launching(now)].into_iter().chain(told).collect());
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
        let room = self.has_room(&runner.place);
        let stuck = !room && runner.kind == PlaceKind::NodePool;
        let fate = if room || stuck { fate } else { Fate::Refused };
        let shown = Machine {
            uid: format!("uid-{name}"),
            phase: MachinePhase::Pending,
            scheduled: false,
            since: now,
            why: stuck.then(|| "Unschedulable: no node has room".to_owned()),
            deleting: false,
            restarts: 0,
        };
        self.machines.insert(
            name.to_owned(),
            TrueMachine { shown, fate, running: false, group, place: runner.place, placed: room },
        );
        self.show_later(name);
        if stuck {
            self.note(&format!("{name} finds no node"));
        } else {
            self.scheduled(name, fate);
        }
        if !self.crash() {
            let launched = Launched { uid: format!("uid-{name}"), at: now };
            self.record(name, vec![RunnerFact::Launched(launched)]);
        }
    }

    /// A node has the machine; what becomes of it then is its fate.
    pub(super) fn scheduled(&mut self, name: &str, fate: Fate) {
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
                | Fate::NotProvisioned
                | Fate::NeverOnline
                | Fate::PullForgotten
                | Fate::Refused
                | Fate::EndsWithoutJob
                | Fate::HangsAfterJob => self.after(starts, Event::Runs(name.to_owned())),
            }
        }
    }

    pub(super) fn capture(&mut self, name: &str, last: bool) {
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

    pub(super) fn delete_machine(&mut self, name: &str) {
        let busy = self.registrations.get(name).is_some_and(|registration| registration.job.is_some());
        let Some(machine) = self.machines.get_mut(name) else { return };
        assert!(!(busy && machine.running), "busy {name} is deleted\n{}", self.log);
        machine.running = false;
        machine.group.stopped = machine.group.stopped.or(machine.group.started.map(|_| self.now));
        machine.shown.deleting = true;
        self.show_later(name);
        self.after(3, Event::GroupGone(name.to_owned()));
    }
}
