//! What a container group is in the emulator: its request as given, its containers' states and the times that both ARM's
//! answers and the meter are made from.
//!
//! Nothing here talks HTTP or starts a process; [`life`] does the moving, [`crate::arm`] the talking.

pub(crate) mod life;
pub(crate) mod meter;
pub(crate) mod process;
pub(crate) mod request;
pub(crate) mod view;
pub(crate) mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use self::process::Logs;
use self::request::Requested;

/// Where a group is, without regard to case (ARM compares so).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) subscription: String,
    pub(crate) resource_group: String,
    pub(crate) name: String,
}

impl GroupKey {
    pub(crate) fn new(subscription: &str, resource_group: &str, name: &str) -> Self {
        Self {
            subscription: subscription.to_lowercase(),
            resource_group: resource_group.to_lowercase(),
            name: name.to_lowercase(),
        }
    }
}

/// ARM's `provisioningState` (virtual-kubelet's mapping of them: facts/aci.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisioningState {
    /// Accepted, not yet deployed.
    Pending,
    /// Deployed, pulling and starting.
    Creating,
    /// Every container has started once.
    Succeeded,
    /// Will never run.
    Failed,
    /// A DELETE is under way.
    Deleting,
}

/// `instanceView.state` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// No container has started.
    Pending,
    /// At least one container has not ended.
    Running,
    /// All ended with 0.
    Succeeded,
    /// All ended, one of them with another code; or provisioning failed.
    Failed,
    /// Stopped by `POST …/stop`.
    Stopped,
}

/// `currentState.state` of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerStatus {
    /// Not started, or about to be restarted.
    Waiting,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Terminated,
}

/// One `currentState` or `previousState`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerState {
    pub(crate) status: ContainerStatus,
    pub(crate) detail: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: Option<i32>,
}

impl ContainerState {
    pub(crate) fn waiting(detail: &str) -> Self {
        Self {
            status: ContainerStatus::Waiting,
            detail: detail.to_owned(),
            started_at: None,
            finished_at: None,
            exit_code: None,
        }
    }
}

/// An entry of `instanceView.events`.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) count: u32,
}

/// One container (or init container) of a group.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) current: ContainerState,
    pub(crate) previous: Option<ContainerState>,
    pub(crate) restart_count: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) logs: Arc<Mutex<Logs>>,
    pub(crate) pid: Option<u32>,
}

impl Container {
    pub(crate) fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            current: ContainerState::waiting("Waiting"),
            previous: None,
            restart_count: 0,
            events: Vec::new(),
            logs: Arc::default(),
            pid: None,
        }
    }

    /// Adds an event, or counts it onto the last one when that says the same.
    pub(crate) fn event(&mut self, name: &'static str, kind: &'static str, message: String, at: Timestamp) {
        let at = to_second(at);
        match self.events.last_mut() {
            Some(last) if last.name == name && last.message == message => {
                last.last = at;
                last.count = last.count.saturating_add(1);
            }
            Some(_) | None => self.events.push(Event { name, kind, message, first: at, last: at, count: 1 }),
        }
    }
}

/// What others ask of a group's life while it goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    /// End every process, with the modelled grace.
    pub(crate) stop: bool,
    /// End every process at once: the group is gone.
    pub(crate) vanish: bool,
    /// Counts forced restarts of each container.
    pub(crate) restarts: BTreeMap<String, u32>,
}

/// A container group, live or in the history.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Distinguishes groups of one name over time.
    pub(crate) number: u64,
    /// Counts its runs: a life of an earlier run no longer has a say.
    pub(crate) run: u64,
    pub(crate) subscription: String,
    pub(crate) resource_group: String,
    pub(crate) name: String,
    pub(crate) location: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) identity: Option<Value>,
    pub(crate) requested: Requested,
    pub(crate) provisioning: ProvisioningState,
    pub(crate) state: GroupState,
    pub(crate) events: Vec<Event>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    pub(crate) created_at: Timestamp,
    pub(crate) deleted_at: Option<Timestamp>,
    /// Stretches of billed time: start of the first pull, stop of the whole group.
    pub(crate) billed: Vec<(Timestamp, Option<Timestamp>)>,
    pub(crate) orders: watch::Sender<Orders>,
    /// Whether the life that was started last has ended.
    pub(crate) idle: watch::Sender<bool>,
    /// The operation that deletes it.
    pub(crate) deletion: Option<String>,
}

impl Group {
    pub(crate) fn key(&self) -> GroupKey {
        GroupKey::new(&self.subscription, &self.resource_group, &self.name)
    }

    pub(crate) fn arm_id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerInstance/containerGroups/{}",
            self.subscription, self.resource_group, self.name
        )
    }

    /// Whether its cores count against the quota: it has not ended, or may yet start.
    pub(crate) fn holds_cores(&self) -> bool {
        self.deleted_at.is_none() && matches!(self.state, GroupState::Pending | GroupState::Running)
    }

    /// Whether ARM refuses changes other than DELETE with `ContainerGroupTransitioning`.
    pub(crate) fn in_transition(&self) -> bool {
        matches!(
            self.provisioning,
            ProvisioningState::Pending | ProvisioningState::Creating | ProvisioningState::Deleting
        )
    }

    /// Closes the stretch of billed time that is open, if any.
    pub(crate) fn stop_billing(&mut self, at: Timestamp) {
        if let Some((started, stopped @ None)) = self.billed.last_mut() {
            *stopped = Some(at.max(*started));
        }
    }

    pub(crate) fn all_containers(&mut self) -> impl Iterator<Item = &mut Container> {
        self.init_containers.iter_mut().chain(&mut self.containers)
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> Option<&mut Container> {
        self.all_containers().find(|container| container.name == name)
    }
}

/// ARM's events have whole seconds.
pub(crate) fn to_second(at: Timestamp) -> Timestamp {
    truncate(at, Unit::Second)
}

/// ARM's container states have milliseconds.
pub(crate) fn to_millisecond(at: Timestamp) -> Timestamp {
    truncate(at, Unit::Millisecond)
}

fn truncate(at: Timestamp, unit: Unit) -> Timestamp {
    at.round(TimestampRound::new().smallest(unit).mode(jiff::RoundMode::Trunc)).unwrap_or(at)
}
