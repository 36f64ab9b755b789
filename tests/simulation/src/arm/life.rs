//! A container group's life, from its creation until it is gone.

use std::sync::Arc;
use std::time::Duration;

use super::{Arm, Inner, Metered, Phase, a_while, id_of};
use crate::fault::GroupFate;

/// Lets a group live until its container has stopped.
pub(super) async fn live(arm: Arc<Arm>, name: String, serial: u64) {
    let board = arm.board.clone();
    a_while(&board, &format!("provisioning {serial}"), 1_000, 10_000).await;
    let now = board.clock.now();
    let fates = arm.with(&name, serial, |group| group.fates.clone()).unwrap_or_default();
    if fates.contains(&GroupFate::NotProvisioned) {
        arm.with_in(&name, serial, Phase::Creating, |group| group.phase = Phase::Unprovisioned);
        return;
    }
    if fates.contains(&GroupFate::NotPulled) {
        return;
    }
    if arm.with_in(&name, serial, Phase::Creating, |group| group.pull_started = Some(now)).is_none() {
        return;
    }
    a_while(&board, &format!("pull {serial}"), 2_000, 30_000).await;
    let now = board.clock.now();
    let began = arm.with_in(&name, serial, Phase::Creating, |group| {
        group.started = Some(now);
        group.phase = Phase::Running;
    });
    if began.is_none() {
        return;
    }
    board.journal.note("Azure", format_args!("group {name} runs"));
    for fate in &fates {
        match fate {
            GroupFate::Vanishes(after) => {
                drop(tokio::spawn(vanish(arm.clone(), name.clone(), serial, *after)))
            }
            GroupFate::Restarts(after) => {
                drop(tokio::spawn(restart(arm.clone(), name.clone(), serial, *after)))
            }
            GroupFate::SaidToFail
            | GroupFate::NotProvisioned
            | GroupFate::NotPulled
            | GroupFate::TakenUpLate(_)
            | GroupFate::OutlivesItsDeletion
            | GroupFate::StuckDeleting(_)
            | GroupFate::DeletionForgotten
            | GroupFate::PullForgotten => {}
        }
    }
    run(arm, name, serial).await;
}

/// Runs the container until it ends; then the meter stops.
async fn run(arm: Arc<Arm>, name: String, serial: u64) {
    let Some((runner, files)) = arm.with(&name, serial, |group| (group.runner.clone(), group.files.clone()))
    else {
        return;
    };
    let registered: Option<u64> = files.get(stint::ports::agent::JIT_CONFIG).and_then(|id| id.parse().ok());
    let agent = tokio::spawn(arm.agents.clone().run(runner, files));
    arm.with(&name, serial, |group| group.agent = Some((agent.abort_handle(), registered)));
    if agent.await.is_err() {
        // Killed, by whoever then says what becomes of the group.
        return;
    }
    let (now, passed) = (arm.board.clock.now(), arm.board.clock.passed());
    let ended = arm.with_in(&name, serial, Phase::Running, |group| {
        group.agent = None;
        group.stopped = Some(now);
        group.stopped_after = Some(passed);
        group.phase = Phase::Stopped;
    });
    if ended.is_some() {
        arm.board.journal.note("Azure", format_args!("the container of group {name} has ended"));
    }
}

/// Takes a group away that is being deleted.
pub(super) async fn delete(arm: Arc<Arm>, name: String, serial: u64) {
    a_while(&arm.board, &format!("stopping {serial}"), 300, 3_000).await;
    arm.kill(&name, serial);
    let stuck = arm.with(&name, serial, |group| group.fates.iter().find_map(stuck_for)).flatten();
    if let Some(seconds) = stuck {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    a_while(&arm.board, &format!("deleting {serial}"), 500, 8_000).await;
    arm.gone(&name, serial);
}

fn stuck_for(fate: &GroupFate) -> Option<u64> {
    if let GroupFate::StuckDeleting(seconds) = fate { Some(*seconds) } else { None }
}

async fn vanish(arm: Arc<Arm>, name: String, serial: u64, after: u64) {
    tokio::time::sleep(Duration::from_secs(after)).await;
    if arm.with(&name, serial, |_| ()).is_some() {
        arm.board.journal.fault(format_args!("group {name} vanishes"));
        arm.board.troubled(Duration::ZERO);
        arm.kill(&name, serial);
        arm.gone(&name, serial);
    }
}

async fn restart(arm: Arc<Arm>, name: String, serial: u64, after: u64) {
    tokio::time::sleep(Duration::from_secs(after)).await;
    let stopped = arm.with_in(&name, serial, Phase::Running, |group| {
        group.restarts += u32::from(group.agent.is_some());
        group.agent.take()
    });
    let Some(agent) = stopped.flatten() else { return };
    arm.board.journal.fault(format_args!("the container of group {name} is started again"));
    arm.board.troubled(Duration::ZERO);
    agent.0.abort();
    if let Some(id) = agent.1 {
        arm.github.disconnect(id);
    }
    a_while(&arm.board, &format!("restart {serial}"), 1_000, 5_000).await;
    if arm.with_in(&name, serial, Phase::Running, |_| ()).is_some() {
        run(arm, name, serial).await;
    }
}

impl Arm {
    /// Changes a group, if it is still the same one.
    fn with<T>(&self, name: &str, serial: u64, change: impl FnOnce(&mut Inner) -> T) -> Option<T> {
        self.lock().groups.get_mut(name).filter(|group| group.serial == serial).map(change)
    }

    /// The same, if it is also still in this phase.
    fn with_in<T>(
        &self,
        name: &str,
        serial: u64,
        phase: Phase,
        change: impl FnOnce(&mut Inner) -> T,
    ) -> Option<T> {
        let same = |group: &&mut Inner| group.serial == serial && group.phase == phase;
        self.lock().groups.get_mut(name).filter(same).map(change)
    }

    /// Ends what runs in a group, and with it the meter.
    fn kill(&self, name: &str, serial: u64) {
        let (now, passed) = (self.board.clock.now(), self.board.clock.passed());
        let agent = self.with(name, serial, |group| {
            if group.pull_started.is_some() && group.stopped.is_none() {
                group.stopped = Some(now);
                group.stopped_after = Some(passed);
            }
            group.agent.take()
        });
        if let Some((agent, registered)) = agent.flatten() {
            agent.abort();
            if let Some(id) = registered {
                self.github.disconnect(id);
            }
        }
    }

    fn gone(&self, name: &str, serial: u64) {
        {
            let mut state = self.lock();
            let Some(group) = state.groups.get(name).filter(|group| group.serial == serial) else { return };
            if let (Some(from), Some(until)) = (group.pull_started, group.stopped) {
                let row = Metered {
                    id: id_of(name),
                    runner: group.runner.clone(),
                    pod: group.tags.get("UID").cloned(),
                    from,
                    until,
                    shown: false,
                };
                state.meter.push(row);
            }
            state.groups.remove(name);
        }
        self.board.journal.note("Azure", format_args!("group {name} is gone"));
    }
}
