//! How runners end: the steps that `lifecycle` names, carried out in memory, up to the bill.

use runner_core::billing;
use runner_core::budget::{Account, Charge};
use runner_core::lifecycle::{GroupFacts, Next, Occupation, RunnerFact, Step, Surroundings, Teardown};
use runner_core::plan::{Hold, Snapshot};
use runner_core::reason::Reason;

use super::super::record::BillRecord;
use super::{Engine, Event, TrueState};

impl Engine<'_> {
    /// Takes the steps of a teardown as far as they go, once it has begun.
    pub(super) fn advance(&mut self, id: usize) {
        loop {
            let Some(position) = self.runners.get(id).and_then(|live| live.position) else { return };
            let Some(runner) = self.snapshot.runners.get(position) else { return };
            if !runner.ending() && runner.facts.agent.exiting.is_none() {
                return;
            }
            let settings = &self.scenario.setup.settings;
            let class = self.scenario.setup.classes.get(&runner.matched.class);
            let next = runner.next(Surroundings {
                machine: self.snapshot.machines.get(&runner.name),
                // What follows does not depend on it: its end is certain.
                occupation: Occupation::Busy,
                deadlines: class.map(|class| class.deadlines).unwrap_or_default(),
                surplus_grace: settings.surplus_grace,
                leave_after: settings.surplus_grace,
                now: self.now,
            });
            let Next::Do { step, because } = next else { return };
            if step == Step::Release && !self.may_release(id) {
                // Its job still needs the record: the planner says when it does not.
                self.dirty = true;
                return;
            }
            if !self.carry_out(id, &step, because) {
                return;
            }
        }
    }

    /// Carries one step out. Answers whether the next one may follow at once.
    pub(super) fn carry_out(&mut self, id: usize, step: &Step, because: Option<Reason>) -> bool {
        let now = self.now;
        let teardown = because.map(|reason| Teardown {
            code: reason.code().to_owned(),
            sentence: reason.sentence(),
            at: now,
        });
        if *step != Step::Deregister
            && let Some(teardown) = teardown.clone()
        {
            self.tear_down(id, teardown);
        }
        match step {
            // A start takes them all at once, so that none of them is left to take.
            Step::Register | Step::Launch | Step::Recover => false,
            Step::Capture { last } => {
                let has_group = self.runners.get(id).is_some_and(|live| live.exists);
                if has_group {
                    let read = GroupFacts { seen_at: Some(now), ..GroupFacts::default() };
                    self.record(id, RunnerFact::Group(read));
                }
                if *last {
                    self.record(id, RunnerFact::Captured(now));
                }
                *last
            }
            Step::DeleteMachine => {
                self.delete_machine(id);
                true
            }
            Step::ConfirmGone => {
                let Some(live) = self.runners.get(id) else { return false };
                if live.exists {
                    self.snapshot.held.insert(live.name.clone(), Hold::InFlight);
                    return false;
                }
                self.gone(id);
                true
            }
            Step::Bill => {
                self.bill(id);
                self.record(id, RunnerFact::Billed(now));
                true
            }
            Step::Deregister => {
                let Some(live) = self.runners.get_mut(id) else { return false };
                if live.busy {
                    self.record(id, RunnerFact::BusySeen(now));
                    return false;
                }
                live.registered = false;
                self.github.not_idle(id);
                if let Some(teardown) = teardown {
                    self.tear_down(id, teardown);
                }
                self.record(id, RunnerFact::Deregistered(now));
                true
            }
            Step::Release => {
                self.release(id);
                false
            }
        }
    }

    /// Records why a runner ends.
    pub(super) fn tear_down(&mut self, id: usize, teardown: Teardown) {
        *self.runner_ends.entry(teardown.code.clone()).or_default() += 1;
        let position = self.runners.get(id).and_then(|live| live.position);
        let place = position
            .and_then(|position| self.snapshot.runners.get(position))
            .map(|recorded| recorded.place.clone());
        if let (Some(place), "NoCapacity" | "Unschedulable") = (place, teardown.code.as_str()) {
            self.shake(&place);
        }
        self.record(id, RunnerFact::Teardown(teardown));
        self.dirty = self.dirty || self.runners.get(id).is_some_and(|live| live.job.is_none());
    }

    fn delete_machine(&mut self, id: usize) {
        let now = self.now;
        let Some(live) = self.runners.get(id) else { return };
        let (exists, name, gone) = (live.exists, live.name.clone(), live.draw.gone);
        if exists {
            if let Some(machine) = self.snapshot.machines.get_mut(&name) {
                machine.deleting = true;
            }
            // Its end is what Azure notes, where it ran.
            self.group_times(id, |group| {
                if group.pull_started.is_some() {
                    group.stopped = group.stopped.or(Some(now));
                }
            });
            self.after(gone, Event::Gone(id));
        }
        self.record(id, RunnerFact::Deleting(now));
    }

    pub(super) fn machine_gone(&mut self, id: usize) {
        let Some(live) = self.runners.get_mut(id).filter(|live| live.exists) else { return };
        live.exists = false;
        let name = live.name.clone();
        self.snapshot.machines.remove(&name);
        self.snapshot.held.remove(&name);
        self.advance(id);
    }

    /// A machine is confirmed gone: all that it took is free.
    fn gone(&mut self, id: usize) {
        let now = self.now;
        self.record(id, RunnerFact::Gone(now));
        if let Some(live) = self.runners.get_mut(id) {
            let shares = std::mem::take(&mut live.shares);
            self.gauges.free(&shares, now);
        }
        // A pod that waits for a node may take the room at once.
        self.free_room(id);
        self.last = self.last.max(now);
        self.dirty |= self.waiting;
        self.if_shaken(id);
    }

    fn bill(&mut self, id: usize) {
        let Some(live) = self.runners.get(id) else { return };
        let Some(runner) = live.position.and_then(|position| self.snapshot.runners.get(position)) else {
            return;
        };
        let Some(place) = self.scenario.setup.places.get(&runner.place) else { return };
        let id = runner.facts.group.as_ref().map(|group| group.id.clone()).unwrap_or_default();
        let Some(bill) = billing::bill(runner, &id, &place.price) else { return };
        let ended = runner.facts.teardown.as_ref().map(|teardown| teardown.code.clone());
        let own = self.past.get(live.own_job);
        let charge = Charge {
            account: Account {
                source: runner.job.source.clone(),
                owner: own
                    .and_then(|job| job.repository.split_once('/'))
                    .map(|(owner, _)| owner.to_owned())
                    .unwrap_or_default(),
                repository: own.map(|job| job.repository.clone()).unwrap_or_default(),
                workflow: own.and_then(|job| job.workflow.clone()).unwrap_or_default(),
                class: runner.matched.class.clone(),
                place: runner.place.clone(),
            },
            currency: bill.currency.clone(),
            amount: bill.amount,
        };
        let record = BillRecord {
            bill,
            runner: runner.name.clone(),
            job: live.job.unwrap_or(live.own_job),
            ran: live.job.is_some(),
            class: runner.matched.label(),
            place: runner.place.clone(),
            ended_because: ended.unwrap_or_default(),
        };
        let (bill, Snapshot { setup, spending, .. }) = (&record.bill, &mut self.snapshot);
        self.spending.add(setup, &charge, bill.seconds, bill.stopped_at, spending);
        self.bills.push(record);
    }

    /// Whether no job needs a runner's record any more, as far as that is certain without the planner.
    fn may_release(&self, id: usize) -> bool {
        let own = self.runners.get(id).and_then(|live| self.tracked.get(live.own_job));
        own.is_none_or(|own| match own.state {
            TrueState::Running | TrueState::Over => true,
            TrueState::NotYet | TrueState::Queued => own.position.is_none(),
        })
    }

    fn release(&mut self, id: usize) {
        if self.any_shaken() {
            // What this runner tells of its place is learned before it goes.
            self.snapshot.health.note(&self.snapshot.runners, &self.snapshot.machines);
        }
        let Some(live) = self.runners.get_mut(id) else { return };
        let Some(position) = live.position.take() else { return };
        let own_job = live.own_job;
        self.runner_ids.remove(&live.name);
        if position < self.snapshot.runners.len() {
            self.snapshot.runners.swap_remove(position);
        }
        let moved = self.snapshot.runners.get(position).and_then(|moved| self.runner_ids.get(&moved.name));
        if let Some(moved) = moved.copied().and_then(|moved| self.runners.get_mut(moved)) {
            moved.position = Some(position);
        }
        if let Some(tracked) = self.tracked.get_mut(own_job) {
            tracked.own_runners = tracked.own_runners.saturating_sub(1);
        }
        self.forget_if_over(own_job);
    }
}
