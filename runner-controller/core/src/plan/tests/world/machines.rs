//! Machines and the agents in them.

use jiff::Timestamp;

use super::{Event, Fate, World};
use crate::lifecycle::{Machine, MachinePhase, RunnerFact};
use crate::setup::{PlaceKind, Setup};
use crate::testing::secs;

impl World {
    pub(super) fn show(&mut self, name: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get_mut(name) {
            change(&mut machine.shown);
            self.show_later(name);
        }
    }

    pub(super) fn show_later(&mut self, name: &str) {
        let shown = self.machines.get(name).map(|machine| machine.shown.clone());
        self.after(self.faults.watch_lag, Event::Shown(name.to_owned(), shown));
    }

    pub(super) fn machine_runs(&mut self, name: &str) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(name) else { return };
        let fate = machine.fate;
        if fate == Fate::StartFails || machine.shown.deleting {
            let why = Some("ProviderFailed".to_owned());
            self.show(name, |shown| (shown.phase, shown.why) = (MachinePhase::StartFailed, why));
            return;
        }
        if fate == Fate::Refused {
            let why = Some("ContainerGroupQuotaReached".to_owned());
            self.show(name, |shown| (shown.phase, shown.why) = (MachinePhase::StartFailed, why));
            return;
        }
        if fate == Fate::NotProvisioned {
            machine.group.failed = Some("no reason given".to_owned());
            return;
        }
        machine.running = true;
        machine.group.pull_started = (fate != Fate::PullForgotten).then(|| now - secs(5));
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
            | Fate::NotProvisioned
            | Fate::PullForgotten
            | Fate::VanishesEarly
            | Fate::VanishesLater
            | Fate::Refused
            | Fate::HangsAfterJob => self.after(3, Event::Online(name.to_owned())),
        }
    }

    pub(super) fn machine_ends(&mut self, name: &str) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(name).filter(|machine| machine.running) else { return };
        machine.running = false;
        machine.placed &= !is_pod_alone(&self.snapshot.setup, &machine.place);
        machine.group.stopped = Some(now);
        self.note(&format!("{name} ends"));
        self.show(name, |shown| (shown.phase, shown.since) = (MachinePhase::Ended, now));
        self.agent_lost(name);
    }

    /// Whether a place can take one more machine.
    pub(super) fn has_room(&self, place: &str) -> bool {
        let taken = self.machines.values().filter(|machine| machine.placed && machine.place == place).count();
        self.capacity.get(place).is_none_or(|most| taken < *most)
    }

    /// Pods that found no node get one that has become free.
    pub(super) fn fill(&mut self) {
        let waiting: Vec<(String, String)> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.shown.unschedulable().is_some() && !machine.placed)
            .map(|(name, machine)| (name.clone(), machine.place.clone()))
            .collect();
        for (name, place) in waiting {
            if self.has_room(&place)
                && let Some(machine) = self.machines.get_mut(&name)
            {
                machine.placed = true;
                let fate = machine.fate;
                self.show(&name, |shown| shown.why = None);
                self.scheduled(&name, fate);
            }
        }
    }

    /// The agent is not there any more; if it had a job, its source notices in time.
    pub(super) fn agent_lost(&mut self, name: &str) {
        if let Some(registration) = self.registrations.get_mut(name) {
            registration.online = false;
            if let Some(job) = registration.job.clone() {
                self.after(600, Event::SourceNotices(job));
            }
        }
    }

    pub(super) fn call_back(&mut self, name: &str, fact: impl FnOnce(Timestamp) -> RunnerFact) {
        if self.faults.callbacks {
            let fact = fact(self.now);
            self.record(name, vec![fact]);
        }
    }
}

/// Whether a pod that has ended leaves its room to others while it is still there, as on a node; a group keeps its own.
fn is_pod_alone(setup: &Setup, place: &str) -> bool {
    setup.places.get(place).is_some_and(|place| place.kind == PlaceKind::NodePool)
}
