//! What holds at all times, and at the end.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::{Event, World};
use crate::job::{JobKey, Standing};
use crate::lifecycle::Step;
use crate::plan::{Action, NewRunner, Plan, plan};
use crate::setup::saturating_add;
use crate::testing::{Counted, exceeded, secs};

impl World {
    /// Nothing that was planned is left, nothing outside is left, and all is accounted for.
    pub(in crate::plan::tests) fn check_end(&self) {
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

    pub(super) fn check(&self, plan: &Plan) {
        let log = &self.log;
        let mut started_for: BTreeSet<&JobKey> = BTreeSet::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut others: BTreeSet<String> = BTreeSet::new();
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
                Action::Report { .. }
                | Action::ReadJob { .. }
                | Action::ReadBranch { .. }
                | Action::Expire { .. } => {
                    let held = action.held_under();
                    assert!(!self.snapshot.held.contains_key(&held), "{held} is held\n{log}");
                    assert!(others.insert(held), "two actions of one plan\n{log}");
                }
            }
        }
        for action in &plan.actions {
            let (place, size) = match action {
                Action::Start(new) => (&new.place, new.size),
                Action::Step { runner, step: Step::Launch, .. } => {
                    let runner = self.snapshot.runners.iter().find(|one| one.name == *runner).unwrap();
                    (&runner.place, runner.size)
                }
                Action::Step { .. }
                | Action::Report { .. }
                | Action::ReadJob { .. }
                | Action::ReadBranch { .. }
                | Action::Expire { .. }
                | Action::Unreserve { .. } => continue,
            };
            for runner in self.snapshot.runners.iter().filter(|runner| runner.place == *place) {
                let machine = self.snapshot.machines.get(&runner.name);
                // An autoscaler that may still add a node is told by further pods how many.
                let patience = self.snapshot.setup.places.get(place).map(|place| place.burst_after);
                let waited = runner.facts.launched.as_ref().is_some_and(|launched| {
                    saturating_add(launched.at, patience.unwrap_or_default()) <= self.now
                });
                let stuck = waited && machine.is_some_and(|machine| machine.unschedulable().is_some());
                assert!(!stuck || size != runner.size, "one more at {place}, which is full\n{log}");
            }
        }
        if starts.is_empty() {
            return;
        }
        // Those whose start is under way count too, even where they have no record yet.
        let in_flight: Vec<&NewRunner> = self
            .events
            .values()
            .filter_map(|event| {
                if let Event::CarryOut(Action::Start(new)) = event { Some(new.as_ref()) } else { None }
            })
            .collect();
        self.check_limits(&starts, &in_flight);
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

    /// No ConcurrencyLimit that a start comes under is exceeded with it.
    fn check_limits(&self, starts: &[&NewRunner], in_flight: &[&NewRunner]) {
        let job_of = |key: &JobKey| self.snapshot.jobs.iter().find(|job| job.key == *key);
        let counted = |new: &&NewRunner| {
            job_of(&new.job).map(|job| Counted::new(job, &new.matched.class, &new.place, new.size))
        };
        let recorded = self.snapshot.runners.iter().filter(|runner| runner.counts()).filter_map(|runner| {
            let job = job_of(&runner.job)?;
            Some(Counted::new(job, &runner.matched.class, &runner.place, runner.size))
        });
        let new: Vec<Counted> = starts.iter().filter_map(counted).collect();
        let coming = in_flight.iter().filter_map(counted);
        let all: Vec<Counted> = recorded.chain(coming).chain(new.iter().cloned()).collect();
        let over = exceeded(&self.snapshot.setup, &all, &new);
        assert!(over.is_empty(), "{over:?}\n{}", self.log);
    }

    /// The plan stays empty until it said that it would not.
    pub(super) fn nothing_before(&self, next: Timestamp) {
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
}
