//! Which places have room: what runners found there, remembered between passes.
//!
//! Nobody tells beforehand whether Azure has a group to give or a pool a node; a runner that is turned away does. A place
//! that turned one away gets no further one for a pause, so that jobs go on to their next place at once, and then one at
//! a time until one starts. The end of a runner there makes room, and cuts the pause short.
//!
//! The memory is derived from the records of runners while they last, and is no record itself: a process that restarts
//! forgets it, and finds out anew with a runner or a few at each full place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::lifecycle::{Machine, MachinePhase, Runner, Teardown, UNSCHEDULABLE_CODE};
use crate::setup::{PlaceKind, Setup, Size, saturating_add};

/// The pause after the first runner that was turned away; doubled for each further one where Azure has no room.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// Code of the reason for which a runner leaves a place where Azure has no room.
const NO_CAPACITY_CODE: &str = "NoCapacity";

/// What is remembered of places that turned a runner away, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    refusals: BTreeMap<String, Refusal>,
}

/// A place that turned a runner away.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    /// When it last did. What is older changes nothing any more.
    at: Timestamp,
    /// How often in a row, runners that were on their way together counted as one; 0: one has started since.
    times: u32,
    /// Until when it gets no runner.
    until: Timestamp,
    /// What the smallest of the runners turned away asked for: what is smaller may fit.
    size: Size,
}

impl Health {
    /// Learns from the runners there are. Seeing the same ones again changes nothing.
    pub fn note(&mut self, runners: &[Runner], machines: &HashMap<String, Machine>) {
        let mut refused: Vec<(&Teardown, &Runner)> =
            runners.iter().filter_map(|runner| Some((turned_away(runner)?, runner))).collect();
        refused.sort_by(|a, b| (a.0.at, &a.1.name).cmp(&(b.0.at, &b.1.name)));
        for (teardown, runner) in refused {
            self.refuse(runner, teardown);
        }
        for runner in runners {
            let Some(refusal) = self.refusals.get_mut(&runner.place) else { continue };
            let machine = machines.get(&runner.name);
            // What is smaller than the one that was turned away may start while that would not.
            if runner.facts.launching.is_some_and(|at| at > refusal.at)
                && !is_smaller(runner.size, refusal.size)
                && has_started(runner, machine)
            {
                refusal.times = 0;
            }
            if let Some(gone) = runner.facts.gone.filter(|gone| *gone > refusal.at)
                && turned_away(runner).is_none()
            {
                // Azure counts what is asked for too often as well: there, the first pause is always kept.
                let earliest = match runner.kind {
                    PlaceKind::NodePool => gone,
                    PlaceKind::VirtualNode | PlaceKind::ContainerInstances => {
                        gone.max(saturating_add(refusal.at, FIRST_PAUSE))
                    }
                };
                refusal.until = refusal.until.min(earliest);
            }
        }
    }

    fn refuse(&mut self, runner: &Runner, teardown: &Teardown) {
        let before = self.refusals.get(&runner.place);
        if before.is_some_and(|before| teardown.at <= before.at) {
            return;
        }
        let lasting = before.filter(|before| before.times > 0);
        let times = match lasting {
            // What was launched before anything was known says the same thing once more.
            Some(before) if runner.facts.launching <= Some(before.at) => before.times,
            Some(before) => before.times.saturating_add(1),
            None => 1,
        };
        let smaller = lasting.map(|before| before.size).filter(|size| is_smaller(*size, runner.size));
        let doublings = match runner.kind {
            // Its nodes are paid for: whether one has room again costs a pod to find out, and no more.
            PlaceKind::NodePool => 0,
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => times.saturating_sub(1),
        };
        let pause = FIRST_PAUSE.saturating_mul(1_i32 << doublings.min(16)).min(LONGEST_PAUSE);
        let until = saturating_add(teardown.at, pause);
        let refusal = Refusal { at: teardown.at, times, until, size: smaller.unwrap_or(runner.size) };
        self.refusals.insert(runner.place.clone(), refusal);
    }
}

/// Why the runner left its place, if that was for want of room; one whose machine was never asked for found out nothing.
fn turned_away(runner: &Runner) -> Option<&Teardown> {
    let teardown = runner.facts.teardown.as_ref().filter(|_| runner.facts.launching.is_some())?;
    [NO_CAPACITY_CODE, UNSCHEDULABLE_CODE].contains(&teardown.code.as_str()).then_some(teardown)
}

/// Whether the place had room for the runner.
fn has_started(runner: &Runner, machine: Option<&Machine>) -> bool {
    let facts = &runner.facts;
    let ran = facts.agent.booted.is_some()
        || facts.group.as_ref().is_some_and(|group| group.pull_started.is_some())
        || machine.is_some_and(|machine| match machine.phase {
            MachinePhase::Running | MachinePhase::Ended => true,
            MachinePhase::Pending | MachinePhase::StartFailed => false,
        });
    match runner.kind {
        PlaceKind::NodePool => ran || machine.is_some_and(|machine| machine.scheduled),
        // A virtual node takes every pod, whatever Azure says of it afterwards.
        PlaceKind::VirtualNode | PlaceKind::ContainerInstances => ran,
    }
}

fn is_smaller(one: Size, other: Size) -> bool {
    let no_larger = one.cpu_millis <= other.cpu_millis && one.memory_bytes <= other.memory_bytes;
    no_larger && (one.cpu_millis, one.memory_bytes) != (other.cpu_millis, other.memory_bytes)
}

/// Which places have room at the moment of one pass.
#[derive(Clone, Debug)]
pub struct Rooms<'a> {
    health: &'a Health,
    now: Timestamp,
    /// Pools in which a pod finds no node now, with the size of each such pod.
    stuck: BTreeMap<&'a str, Vec<Size>>,
    /// Places that have turned a runner away, and where another is on its way to try.
    tried: BTreeSet<String>,
}

impl<'a> Rooms<'a> {
    /// What is known at this moment.
    pub fn of(
        setup: &Setup,
        health: &'a Health,
        runners: &'a [Runner],
        machines: &HashMap<String, Machine>,
        now: Timestamp,
    ) -> Self {
        let mut rooms = Self { health, now, stuck: BTreeMap::new(), tried: BTreeSet::new() };
        for runner in runners {
            let machine = machines.get(&runner.name);
            // While an autoscaler may still add a node, further pods tell it how many.
            let patience = setup.places.get(&runner.place).map(|place| place.burst_after).unwrap_or_default();
            let waited = runner
                .facts
                .launched
                .as_ref()
                .is_some_and(|launched| saturating_add(launched.at, patience) <= now);
            if waited && machine.is_some_and(|one| one.unschedulable().is_some()) {
                rooms.stuck.entry(&runner.place).or_default().push(runner.size);
            }
            let Some(refusal) = health.refusals.get(&runner.place) else { continue };
            let tries = runner.facts.launching.is_none_or(|at| at >= refusal.at);
            if tries && runner.counts() && !runner.ending() && !has_started(runner, machine) {
                rooms.tried.insert(runner.place.clone());
            }
        }
        rooms
    }

    /// Whether a place has room for one more runner of this size, as far as is known.
    ///
    /// # Errors
    /// That it has none, with the moment at which it is tried again where that is settled.
    pub fn room(&self, place: &str, size: Size) -> Result<(), Option<Timestamp>> {
        self.is_open(place, size)?;
        let refused = self.health.refusals.get(place).is_some_and(|refusal| refusal.times > 0);
        if refused && self.tried.contains(place) { Err(None) } else { Ok(()) }
    }

    /// Whether a runner of this size that is meant for a place may be launched there: no pod waits in vain there now,
    /// and the pause since one did is over.
    ///
    /// # Errors
    /// That it may not, with the moment from which it may where that is settled.
    pub fn is_open(&self, place: &str, size: Size) -> Result<(), Option<Timestamp>> {
        if self.stuck.get(place).into_iter().flatten().any(|stuck| !is_smaller(size, *stuck)) {
            return Err(None);
        }
        match self.health.refusals.get(place) {
            Some(refusal)
                if refusal.times > 0 && self.now < refusal.until && !is_smaller(size, refusal.size) =>
            {
                Err(Some(refusal.until))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A runner is being started there.
    pub fn take(&mut self, place: &str) {
        self.tried.insert(place.to_owned());
    }
}

#[cfg(test)]
mod tests;
