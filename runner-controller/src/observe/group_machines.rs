//! Container groups that Stint creates itself, watched by reading each from Azure every few seconds.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_core::lifecycle::{Machine, MachinePhase, Runner};
use runner_core::setup::PlaceKind;
use tokio::sync::Notify;

use crate::clock;
use crate::execute::address_of;
use crate::ports::{Group, Groups, Records};

/// How often each live group is read.
const EVERY: Duration = Duration::from_secs(2);

/// The machines that are container groups of Stint's own making.
#[derive(Default)]
pub struct GroupMachines {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    machines: HashMap<String, Machine>,
    /// Runners whose group was read at least once, or was created by this process.
    read: BTreeSet<String>,
}

impl GroupMachines {
    /// Machines of these runners by name; `None` while one that should exist has not been read once.
    pub fn observe(&self, runners: &[Runner]) -> Option<HashMap<String, Machine>> {
        let seen = self.lock();
        let all_read =
            runners.iter().filter(|runner| is_live(runner)).all(|runner| seen.read.contains(&runner.name));
        all_read.then(|| seen.machines.clone())
    }

    /// Completes when anything that `observe` shows may have changed since the last completion.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes a group that was just created.
    pub fn note_created(&self, runner: &str, id: &str) {
        let machine = Machine {
            uid: id.to_owned(),
            phase: MachinePhase::Pending,
            scheduled: true,
            since: clock::now(),
            why: None,
            deleting: false,
            restarts: 0,
        };
        let mut seen = self.lock();
        seen.read.insert(runner.to_owned());
        seen.machines.entry(runner.to_owned()).or_insert(machine);
    }

    /// Reads all live groups again and again.
    pub async fn follow(self: Arc<Self>, records: Arc<dyn Records>, groups: Arc<dyn Groups>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Said once each, not every two seconds.
        let mut unreadable: BTreeSet<String> = BTreeSet::new();
        loop {
            ticks.tick().await;
            let Some(observed) = records.observe() else { continue };
            let live: Vec<&Runner> = observed.runners.iter().filter(|runner| is_live(runner)).collect();
            let mut changed = self.keep_only(&live);
            unreadable.retain(|name| live.iter().any(|runner| runner.name == *name));
            for runner in live {
                match groups.get(&address_of(runner, None)).await {
                    Ok(group) => {
                        if unreadable.remove(&runner.name) {
                            tracing::info!(
                                runner = runner.name,
                                "the group of {} can be read again",
                                runner.name
                            );
                        }
                        changed |= self.note_read(&runner.name, group.as_ref());
                    }
                    Err(error) => {
                        if unreadable.insert(runner.name.clone()) {
                            tracing::warn!(runner = runner.name, %error, "the group of {} cannot be read", runner.name);
                        }
                        changed |= self.note_unreadable(&runner.name);
                    }
                }
            }
            if changed {
                self.changed.notify_one();
            }
        }
    }

    fn note_read(&self, runner: &str, group: Option<&Group>) -> bool {
        let mut seen = self.lock();
        let first = seen.read.insert(runner.to_owned());
        let before = seen.machines.get(runner).cloned();
        let after = group.map(|group| machine(group, before.as_ref()));
        if after == before {
            return first;
        }
        match after {
            Some(machine) => seen.machines.insert(runner.to_owned(), machine),
            None => seen.machines.remove(runner),
        };
        true
    }

    /// Takes a group that was never read to run, until it can be read: that ends nothing without its source being asked,
    /// and keeps no other runner from being looked after.
    fn note_unreadable(&self, runner: &str) -> bool {
        let mut seen = self.lock();
        if !seen.read.insert(runner.to_owned()) {
            return false;
        }
        let machine = Machine {
            uid: String::new(),
            phase: MachinePhase::Running,
            scheduled: true,
            since: clock::now(),
            why: Some("its group cannot be read".to_owned()),
            deleting: false,
            restarts: 0,
        };
        seen.machines.insert(runner.to_owned(), machine);
        true
    }

    fn keep_only(&self, live: &[&Runner]) -> bool {
        let names: BTreeSet<&str> = live.iter().map(|runner| runner.name.as_str()).collect();
        let mut seen = self.lock();
        let before = seen.machines.len();
        seen.machines.retain(|name, _| names.contains(name.as_str()));
        seen.read.retain(|name| names.contains(name.as_str()));
        seen.machines.len() != before
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the runner's group is there or may be.
fn is_live(runner: &Runner) -> bool {
    runner.kind == PlaceKind::ContainerInstances
        && runner.facts.launched.is_some()
        && runner.facts.gone.is_none()
}

fn machine(group: &Group, before: Option<&Machine>) -> Machine {
    let phase = match (group.provisioning_state.as_str(), group.state.as_str()) {
        ("Failed" | "Canceled", _) => MachinePhase::StartFailed,
        (_, "Succeeded" | "Failed" | "Stopped") => MachinePhase::Ended,
        (_, "Running") if group.stopped.is_some() => MachinePhase::Ended,
        (_, "Running") => MachinePhase::Running,
        _ => MachinePhase::Pending,
    };
    let told = match phase {
        MachinePhase::Running => group.started,
        MachinePhase::Ended => group.stopped,
        MachinePhase::Pending | MachinePhase::StartFailed => None,
    };
    let same = before.filter(|before| before.phase == phase).map(|before| before.since);
    Machine {
        uid: group.id.clone(),
        phase,
        scheduled: true,
        since: told.or(same).unwrap_or_else(clock::now),
        why: group.message.clone(),
        deleting: group.provisioning_state == "Deleting",
        restarts: group.restarts,
    }
}
