//! Azure Resource Manager with container groups: made and deleted with delays, metered, and by the plan unruly.

mod life;
mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use stint::ports::Group;
use tokio::task::AbortHandle;

pub use port::ArmLink;

use crate::agent::Agents;
use crate::board::Board;
use crate::fault::{GroupFate, Trouble};
use crate::github::GitHub;
use crate::time::pause;

/// Azure subscription.
pub const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
/// Resource group of the container groups.
pub const RESOURCE_GROUP: &str = "simulated";
/// How many groups Azure lets be at once, by default.
const GROUPS: u64 = 100;

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Creating,
    Unprovisioned,
    Running,
    Stopped,
    Deleting,
}

struct Inner {
    serial: u64,
    runner: String,
    tags: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    restarts: u32,
    files: BTreeMap<String, String>,
    fates: Vec<GroupFate>,
    phase: Phase,
    pull_started: Option<Timestamp>,
    started: Option<Timestamp>,
    stopped: Option<Timestamp>,
    stopped_after: Option<Duration>,
    delete_asked: Option<Duration>,
    /// What runs in it, and the runner that it registered as.
    agent: Option<(AbortHandle, Option<u64>)>,
}

/// What the meter counted of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metered {
    /// The group's resource id.
    pub id: String,
    /// Its runner.
    pub runner: String,
    /// The UID of its pod, if it has one.
    pub pod: Option<String>,
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
    /// Whether the controller was ever shown that its meter runs.
    pub shown: bool,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<String, Inner>,
    created: u64,
    meter: Vec<Metered>,
    shown: BTreeSet<String>,
}

/// A group as invariants look at it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How long after the beginning its container stopped.
    pub stopped_after: Option<Duration>,
    /// How long after the beginning its deletion was first asked for.
    pub delete_asked: Option<Duration>,
}

/// What a group is made of.
pub struct MadeOf {
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The environment of its container.
    pub env: BTreeMap<String, String>,
    /// The files of its secret volume.
    pub files: BTreeMap<String, String>,
}

/// Why a group was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 409: the quota is reached.
    Quota,
    /// 503, and it was created all the same.
    CreatedAllTheSame,
}

/// Azure Resource Manager.
pub struct Arm {
    board: Arc<Board>,
    github: Arc<GitHub>,
    agents: Agents,
    state: Mutex<State>,
}

impl Arm {
    /// No groups.
    pub fn new(board: Arc<Board>, github: Arc<GitHub>, agents: Agents) -> Arc<Self> {
        Arc::new(Self { board, github, agents, state: Mutex::default() })
    }

    /// Creates a group, unless there is one of that name.
    pub fn put(
        self: &Arc<Self>,
        name: &str,
        runner: &str,
        made_of: MadeOf,
        fates: Vec<GroupFate>,
    ) -> Result<(), Refused> {
        let (serial, said_to_fail) = {
            let mut state = self.lock();
            if state.groups.contains_key(name) {
                return Ok(());
            }
            if state.groups.len() as u64 >= self.most_groups() {
                drop(state);
                self.board.journal.note("Azure", format_args!("refuses group {name}: quota"));
                return Err(Refused::Quota);
            }
            state.created += 1;
            let serial = state.created;
            let said_to_fail = fates.contains(&GroupFate::SaidToFail);
            let group = Inner {
                serial,
                runner: runner.to_owned(),
                tags: made_of.tags,
                env: made_of.env,
                restarts: 0,
                files: made_of.files,
                fates,
                phase: Phase::Creating,
                pull_started: None,
                started: None,
                stopped: None,
                stopped_after: None,
                delete_asked: None,
                agent: None,
            };
            state.groups.insert(name.to_owned(), group);
            (serial, said_to_fail)
        };
        self.board.journal.note("Azure", format_args!("creates group {name}"));
        tokio::spawn(life::live(self.clone(), name.to_owned(), serial));
        if said_to_fail { Err(Refused::CreatedAllTheSame) } else { Ok(()) }
    }

    /// Asks for a group's deletion. `whose`: who asks, for the journal.
    pub fn delete(self: &Arc<Self>, name: &str, whose: &str) {
        let serial = {
            let mut state = self.lock();
            let Some(group) = state.groups.get_mut(name).filter(|group| group.phase != Phase::Deleting)
            else {
                return;
            };
            let first = group.delete_asked.is_none();
            group.delete_asked.get_or_insert(self.board.clock.passed());
            let outlives = group.fates.contains(&GroupFate::OutlivesItsDeletion);
            if first && outlives && group.phase == Phase::Creating {
                drop(state);
                let text =
                    format_args!("is asked by {whose} to delete group {name}, which goes on all the same");
                self.board.journal.note("Azure", text);
                return;
            }
            group.phase = Phase::Deleting;
            // The virtual node deletes what has no pod, and knows nothing of records that were lost.
            let by_stint = whose == "Stint" || self.board.records_lost().is_none();
            if let Some(job) = self.github.running_on(&group.runner).filter(|_| by_stint) {
                let text = format!("group {name} is deleted by {whose} while its runner runs job {job}");
                self.board.journal.violate("I6", text);
            }
            group.serial
        };
        self.board.journal.note("Azure", format_args!("is asked by {whose} to delete group {name}"));
        tokio::spawn(life::delete(self.clone(), name.to_owned(), serial));
    }

    /// A group as Azure shows it.
    pub fn get(&self, name: &str) -> Option<Group> {
        self.lock().groups.get(name).map(|group| show(name, group))
    }

    /// The same, for the controller, so that its bill can be held against what it was shown.
    fn get_for_controller(&self, name: &str) -> Option<Group> {
        let group = self.get(name)?;
        if group.pull_started.is_some() || group.started.is_some() {
            self.lock().shown.insert(name.to_owned());
        }
        Some(group)
    }

    /// All groups, without their instance views.
    pub fn list(&self) -> Vec<Group> {
        let bare = |(name, group): (&String, &Inner)| Group {
            state: String::new(),
            pull_started: None,
            started: None,
            stopped: None,
            restarts: 0,
            ..show(name, group)
        };
        self.lock().groups.iter().map(bare).collect()
    }

    /// All groups there are, by name.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        let seen =
            |group: &Inner| Seen { stopped_after: group.stopped_after, delete_asked: group.delete_asked };
        self.lock().groups.iter().map(|(name, group)| (name.clone(), seen(group))).collect()
    }

    /// How many groups were ever created.
    pub fn created(&self) -> u64 {
        self.lock().created
    }

    /// What the meter counted of all groups that are gone.
    pub fn meter(&self) -> Vec<Metered> {
        let state = self.lock();
        let with_shown =
            |row: &Metered| Metered { shown: state.shown.contains(name_of(&row.id)), ..row.clone() };
        state.meter.iter().map(with_shown).collect()
    }

    /// How many groups Azure lets be right now.
    fn most_groups(&self) -> u64 {
        let quota = |trouble| if let Trouble::Quota(most) = trouble { Some(most) } else { None };
        self.board.now().find_map(quota).unwrap_or(GROUPS)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group's resource id.
pub fn id_of(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.ContainerInstance/containerGroups/{name}"
    )
}

fn name_of(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

fn show(name: &str, group: &Inner) -> Group {
    let (provisioning, state) = match group.phase {
        Phase::Creating => ("Creating", "Pending"),
        Phase::Unprovisioned => ("Failed", ""),
        Phase::Running => ("Succeeded", "Running"),
        Phase::Stopped => ("Succeeded", "Succeeded"),
        Phase::Deleting => ("Deleting", ""),
    };
    let forgets = group.fates.contains(&GroupFate::PullForgotten);
    let instance_view = group.phase != Phase::Deleting;
    Group {
        id: id_of(name),
        name: name.to_owned(),
        tags: group.tags.clone(),
        provisioning_state: provisioning.to_owned(),
        state: state.to_owned(),
        pull_started: group.pull_started.filter(|_| instance_view && !forgets),
        started: group.started.filter(|_| instance_view),
        stopped: group.stopped.filter(|_| instance_view),
        env: group.env.clone(),
        restarts: if instance_view { group.restarts } else { 0 },
        message: (group.phase == Phase::Unprovisioned).then(|| "the subnet is full".to_owned()),
    }
}

/// Waits a little, as everything in Azure does.
async fn a_while(board: &Board, what: &str, least: u64, most: u64) {
    pause(crate::chance::Chance::of(board.seed, what).between(least, most)).await;
}
