//! The next step of every runner, and what reservations without a record come to.
//!
//! Plans nothing for jobs.

use std::collections::HashSet;

use jiff::SignedDuration;

use super::kinds::Views;
use super::{Action, Pass};
use crate::admission::{Purpose, Usage};
use crate::lifecycle::{Next, Occupation, Runner, Step, Surroundings};
use crate::limit::Amount;
use crate::pairing::Pairing;
use crate::setup::Place;

impl<'a> Pass<'a> {
    /// The next step of every runner; reservations that no record followed are given back.
    pub(super) fn upkeep<'v>(&mut self, views: &'v Views<'a>, pairing: &Pairing<'_>, usage: &mut Usage<'v>)
    where
        'a: 'v,
    {
        let mut runners: Vec<&Runner> = self.snapshot.runners.iter().collect();
        runners.sort_by(|a, b| a.name.cmp(&b.name));
        let needed = self.records_needed(views);
        for runner in &runners {
            if self.is_held(&runner.name) {
                continue;
            }
            let settings = &self.snapshot.setup.settings;
            let class = self.snapshot.setup.classes.get(&runner.matched.class);
            let leave_after = self.leave_after(runner, views, usage);
            let surroundings = Surroundings {
                machine: self.snapshot.machines.get(&runner.name),
                occupation: pairing
                    .occupations
                    .get(runner.name.as_str())
                    .copied()
                    .unwrap_or(Occupation::Unwanted { since: runner.created_at }),
                deadlines: class.map(|class| class.deadlines).unwrap_or_default(),
                // What a refused job may be handed is not kept for one that may come.
                surplus_grace: if pairing.exposed.contains(runner.name.as_str()) {
                    SignedDuration::ZERO
                } else {
                    settings.surplus_grace
                },
                leave_after,
                now: self.now,
            };
            match self.unless_full(runner, surroundings.occupation, runner.next(surroundings)) {
                Next::Do { step: Step::Release, .. } if needed.contains(runner.name.as_str()) => {}
                Next::Do { step, because } => {
                    self.plan.actions.push(Action::Step { runner: runner.name.clone(), step, because });
                }
                Next::Wait(until) => self.wake(until),
            }
        }
        for name in &self.snapshot.reserved {
            if !self.by_name.contains_key(name.as_str()) && !self.is_held(name) {
                self.plan.actions.push(Action::Unreserve { runner: name.clone() });
            }
        }
    }

    /// How long a runner's pod may find no node before it is given up: where another place could start the runner now, as
    /// long as its own place allows; else, as long as any pod may take to be scheduled.
    fn leave_after<'v>(
        &mut self,
        runner: &'a Runner,
        views: &'v Views<'a>,
        usage: &mut Usage<'v>,
    ) -> SignedDuration
    where
        'a: 'v,
    {
        let setup = &self.snapshot.setup;
        let own = setup.places.get(&runner.place).map(|place| place.burst_after).unwrap_or_default();
        let stuck = self.snapshot.machines.get(&runner.name).is_some_and(|one| one.unschedulable().is_some());
        let Some(class) = setup.classes.get(&runner.matched.class).filter(|_| stuck) else { return own };
        let job = views.get(&runner.job).map(|view| view.job);
        let profile = usage.profile(&Purpose::of_runner(runner, job));
        // What counts wherever it runs it takes already; its own machine is given back before the next is asked for. Only
        // pods of node pools leave early, which take nothing of Azure's quota or of a budget.
        let amount = Amount::of(runner.size);
        let mut limits = |place: &'a Place| usage.room_to_move(profile, amount, &runner.place, &place.name);
        match self.place_for(class, runner.size, Some(&runner.place), &mut limits) {
            Ok(_) => own,
            Err(_) => own.max(class.deadlines.scheduled),
        }
    }

    /// Turns a runner away that is about to be started at a place which had no room for another one meanwhile.
    fn unless_full(&self, runner: &Runner, occupation: Occupation, next: Next) -> Next {
        let starts = matches!(&next, Next::Do { step: Step::Register | Step::Launch, because: None });
        if starts
            && occupation == Occupation::Wanted
            && self.rooms.is_open(&runner.place, runner.size).is_err()
        {
            return runner.turned_away();
        }
        next
    }

    /// The runners whose records a job still needs: its own record does not show yet that there was such a runner, or
    /// the source is still to be asked what came of the job.
    fn records_needed(&self, views: &Views<'a>) -> HashSet<&'a str> {
        let mut needed: HashSet<&str> = HashSet::new();
        for runner in &self.snapshot.runners {
            let Some(view) = views.get(&runner.job).filter(|view| !view.needs_no_more()) else { continue };
            let report = &view.job.report;
            // What ends for a reason not recorded yet is counted from its record once that is.
            let known = if runner.ending() { report.counted } else { report.runners_started };
            if known < runner.ordinal {
                needed.insert(&runner.name);
            }
        }
        for view in &views.list {
            for runner in self.silent(view) {
                needed.insert(&runner.name);
            }
        }
        needed
    }
}
