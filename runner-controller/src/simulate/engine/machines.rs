//! Machines: how they start, or find no room, and what becomes of them.

use jiff::SignedDuration;
use runner_core::billing::group_size;
use runner_core::lifecycle::{
    GroupFacts, Launched, Machine, MachinePhase, Registered, Runner, RunnerFact, RunnerFacts, Teardown,
    start_failure,
};
use runner_core::plan::NewRunner;
use runner_core::setup::{PlaceKind, Size};
use rust_decimal::prelude::ToPrimitive;

use super::super::chance::Chance;
use super::super::github::RunnerKind;
use super::super::record::STARTING;
use super::{Engine, Event, Live, later};

/// What a place says to a machine.
enum Answer {
    Takes,
    /// No node has room; one may later.
    NoNode,
    /// Azure refuses, in its words.
    Refuses(String),
}

impl Engine<'_> {
    /// Starts a runner: recorded, registered and asked for at once, since nothing is decided in between.
    pub(super) fn start(&mut self, new: &NewRunner) {
        let now = self.now;
        let Some(job) = self.job(&new.job) else { return };
        let Some(past) = self.past.get(job) else { return };
        let id = self.runners.len();
        let mut chance = Chance::of(self.scenario.seed, job as u64, new.ordinal.into());
        let draw = self.scenario.model.draw(new.kind, &mut chance);
        let kind = RunnerKind {
            source: new.job.source.clone(),
            scope: new.scope.clone(),
            labels: new.labels.clone(),
        };
        let shares = self.gauges.take(self.scenario, new, past, now);
        self.runners.push(Live {
            name: new.name.clone(),
            position: Some(self.snapshot.runners.len()),
            own_job: job,
            kind: self.github.runner_kind(kind),
            draw,
            registered: true,
            job: None,
            busy: false,
            exists: false,
            placed: false,
            shares,
        });
        self.runner_ids.insert(new.name.clone(), id);
        let facts = RunnerFacts {
            registering: Some(now),
            registered: Some(Registered { id: id as u64, callback_hash: String::new(), at: now }),
            launching: Some(now),
            group: new
                .kind
                .has_group()
                .then(|| GroupFacts { id: format!("groups/{}", new.name), ..GroupFacts::default() }),
            ..RunnerFacts::default()
        };
        self.snapshot.runners.push(Runner { facts, ..new.clone().record(now) });
        if let Some(tracked) = self.tracked.get_mut(job) {
            tracked.own_runners += 1;
            tracked.record.runners += 1;
        }
        self.waits_for(job, STARTING);
        self.launch(id, new);
    }

    fn launch(&mut self, id: usize, new: &NewRunner) {
        let now = self.now;
        let scheduled = match self.ask_place(new) {
            Answer::Takes => true,
            Answer::NoNode => false,
            Answer::Refuses(why) => {
                let reason = start_failure(why);
                let teardown =
                    Teardown { code: reason.code().to_owned(), sentence: reason.sentence(), at: now };
                self.tear_down(id, teardown);
                self.advance(id);
                return;
            }
        };
        self.record(id, RunnerFact::Launched(Launched { uid: new.name.clone(), at: now }));
        let machine = Machine {
            uid: new.name.clone(),
            phase: MachinePhase::Pending,
            scheduled,
            since: now,
            why: (!scheduled).then(|| "Unschedulable: no node of the pool has room".to_owned()),
            deleting: false,
            restarts: 0,
        };
        self.snapshot.machines.insert(new.name.clone(), machine);
        if let Some(live) = self.runners.get_mut(id) {
            (live.exists, live.placed) = (true, scheduled);
        }
        if scheduled {
            self.starts_up(id);
        } else {
            self.pools.entry(new.place.clone()).or_default().stuck.push_back(id);
            self.shake(&new.place);
        }
    }

    fn ask_place(&mut self, new: &NewRunner) -> Answer {
        match new.kind {
            PlaceKind::NodePool => {
                let pool = self.pools.entry(new.place.clone()).or_default();
                let has_room = self.scenario.pools.get(&new.place).is_none_or(|most| pool.used < *most);
                if !has_room {
                    return Answer::NoNode;
                }
                pool.used += 1;
                Answer::Takes
            }
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => {
                let Some(region) = self.scenario.regions.get(&new.place) else { return Answer::Takes };
                match self.regions.create(region, cores(new.size), &self.scenario.quota, self.now) {
                    Ok(()) => Answer::Takes,
                    Err(why) => Answer::Refuses(why),
                }
            }
        }
    }

    /// A machine that has its room starts.
    fn starts_up(&mut self, id: usize) {
        let now = self.now;
        let Some((draw, recorded)) = self
            .runners
            .get(id)
            .and_then(|live| Some((live.draw, self.snapshot.runners.get(live.position?)?)))
        else {
            return;
        };
        let share = self.gauges.take_place(&recorded.place, now);
        let runs_at = later(later(now, draw.deploy), draw.pull);
        let deadlines = self.scenario.setup.classes.get(&recorded.matched.class).map(|class| class.deadlines);
        if recorded.kind.has_group() {
            // Reading it before it runs would show nothing: the planner need not ask.
            let seen_at = Some(runs_at);
            self.record(id, RunnerFact::Group(GroupFacts { seen_at, ..GroupFacts::default() }));
        }
        if let Some(live) = self.runners.get_mut(id) {
            live.shares.push(share);
        }
        self.at(runs_at, Event::Runs(id));
        // A start that takes too long is the planner's to end.
        if let Some(deadline) = deadlines.map(|deadlines| later(now, deadlines.running))
            && deadline < runs_at
        {
            self.at(deadline, Event::Look);
        }
    }

    pub(super) fn runs(&mut self, id: usize) {
        let now = self.now;
        let Some(live) = self.runners.get(id).filter(|live| live.exists) else { return };
        let (draw, name) = (live.draw, live.name.clone());
        let Some(machine) = self.snapshot.machines.get_mut(&name).filter(|machine| !machine.deleting) else {
            return;
        };
        (machine.phase, machine.since) = (MachinePhase::Running, now);
        let pull_started = now.saturating_sub(draw.pull).unwrap_or(now);
        self.group_times(id, |group| {
            group.pull_started = Some(pull_started);
            group.started = Some(now);
        });
        self.after(draw.agent, Event::Online(id));
        if draw.agent >= SignedDuration::from_mins(1) {
            // Its class's deadline for this may be over before.
            self.dirty = true;
        }
        // From now on it is known since when its creation counts.
        self.dirty |= self.waits_for_quota;
        self.if_shaken(id);
    }

    pub(super) fn online(&mut self, id: usize) {
        let now = self.now;
        let Some(live) = self.runners.get(id).filter(|live| live.exists && live.registered) else { return };
        let kind = live.kind;
        self.record(id, RunnerFact::AgentBooted(now));
        match self.github.job_for(kind) {
            Some(job) => self.begins(job, id),
            None => {
                self.github.idle(id, kind);
                self.dirty = true;
            }
        }
    }

    pub(super) fn container_ended(&mut self, id: usize) {
        let now = self.now;
        let Some(live) = self.runners.get(id).filter(|live| live.exists) else { return };
        let name = live.name.clone();
        if let Some(machine) = self.snapshot.machines.get_mut(&name) {
            (machine.phase, machine.since) = (MachinePhase::Ended, now);
        }
        self.group_times(id, |group| group.stopped = Some(now));
        self.record(id, RunnerFact::AgentExiting(now, Some(0)));
        self.advance(id);
    }

    /// What Azure knows of a runner's group.
    pub(super) fn group_times(&mut self, id: usize, change: impl FnOnce(&mut GroupFacts)) {
        let position = self.runners.get(id).and_then(|live| live.position);
        let runner = position.and_then(|position| self.snapshot.runners.get_mut(position));
        if let Some(group) = runner.and_then(|runner| runner.facts.group.as_mut()) {
            change(group);
        }
    }

    /// Gives back the room that a machine took of its pool, or of Azure's quota.
    pub(super) fn free_room(&mut self, id: usize) {
        let Some(live) = self.runners.get_mut(id) else { return };
        let placed = std::mem::take(&mut live.placed);
        let Some(recorded) = live.position.and_then(|position| self.snapshot.runners.get(position)) else {
            return;
        };
        let (place, kind, size) = (recorded.place.clone(), recorded.kind, recorded.size);
        match kind {
            PlaceKind::NodePool => {
                let pool = self.pools.entry(place).or_default();
                pool.stuck.retain(|stuck| *stuck != id);
                if !placed {
                    return;
                }
                pool.used = pool.used.saturating_sub(1);
                let next = pool.stuck.pop_front();
                if next.is_some() {
                    pool.used += 1;
                }
                if let Some(next) = next {
                    self.finds_node(next);
                }
            }
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => {
                if let Some(region) = self.scenario.regions.get(&place).filter(|_| placed) {
                    self.regions.free(region, cores(size));
                }
            }
        }
    }

    /// A pod that found no node gets one that has become free.
    fn finds_node(&mut self, id: usize) {
        let Some(live) = self.runners.get_mut(id) else { return };
        live.placed = true;
        if let Some(machine) = self.snapshot.machines.get_mut(&live.name) {
            (machine.scheduled, machine.why) = (true, None);
        }
        self.starts_up(id);
        self.dirty = true;
    }

    /// Adds a fact to a runner's record.
    pub(super) fn record(&mut self, id: usize, fact: RunnerFact) {
        let position = self.runners.get(id).and_then(|live| live.position);
        if let Some(runner) = position.and_then(|position| self.snapshot.runners.get_mut(position)) {
            runner.facts.apply(fact);
        }
    }

    /// What happens to a runner at a place that had no room lately may change what is planned for jobs that wait.
    pub(super) fn if_shaken(&mut self, id: usize) {
        if !self.waiting || !self.any_shaken() {
            return;
        }
        let position = self.runners.get(id).and_then(|live| live.position);
        let recorded = position.and_then(|position| self.snapshot.runners.get(position));
        self.dirty |= recorded.is_some_and(|recorded| self.is_shaken(&recorded.place));
    }
}

/// What Azure counts against its quota: whole cores.
fn cores(size: Size) -> u32 {
    group_size(size).0.ceil().to_u32().unwrap_or(u32::MAX)
}
