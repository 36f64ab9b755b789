//! All that the emulator knows, behind one lock, and the tasks that change it.
//!
//! Invariant: the lock is never held across an await. Every change bumps a version that `wait_for` watches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::arm::identity::Tokens;
use crate::groups::process::ProcessGroups;
use crate::groups::{Group, GroupKey};
use crate::options::{Limits, Options, Timings};
use crate::quota::Quotas;
use crate::scripts::Scripts;

/// The state that requests and lives share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) live: BTreeMap<GroupKey, Group>,
    pub(crate) gone: Vec<Group>,
    pub(crate) operations: BTreeMap<String, Operation>,
    pub(crate) quotas: Quotas,
    pub(crate) scripts: Scripts,
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    pub(crate) timings: Timings,
    /// Regions that groups were asked for in.
    pub(crate) regions: BTreeSet<String>,
    last_number: u64,
}

impl Inner {
    /// A number that no group or operation had before.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// All groups there ever were, oldest first.
    pub(crate) fn all_groups(&self) -> Vec<&Group> {
        let mut groups: Vec<_> = self.gone.iter().chain(self.live.values()).collect();
        groups.sort_by_key(|group| group.number);
        groups
    }
}

/// A long-running operation, as `Azure-AsyncOperation` tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) kind: OperationKind,
    pub(crate) key: GroupKey,
    pub(crate) number: u64,
    pub(crate) started_at: Timestamp,
}

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationKind {
    /// Until the group runs or has failed.
    Deploy,
    /// Until the group is gone.
    Delete,
}

const DIRECTORY_PREFIX: &str = "emulator-azure-";

/// Removes directories of emulators that were killed before a process of theirs could do it.
fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX)?.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if Path::new("/proc/self").exists() && !Path::new("/proc").join(pid.to_string()).exists() {
            // Somebody else's, if it fails, and theirs to remove.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The emulator's state and its running tasks.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) processes: ProcessGroups,
    /// Holds the groups' directories; exists only while there are any.
    pub(crate) directory: PathBuf,
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
    tasks: Mutex<JoinSet<()>>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let world = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{DIRECTORY_PREFIX}{}-{world}", std::process::id());
        remove_leftovers();
        let inner = Inner {
            live: BTreeMap::new(),
            gone: Vec::new(),
            operations: BTreeMap::new(),
            quotas: Quotas::default(),
            scripts: Scripts::default(),
            tokens: Tokens::default(),
            limits: options.limits,
            timings: options.timings,
            regions: BTreeSet::new(),
            last_number: 0,
        };
        Self {
            options,
            processes: ProcessGroups::default(),
            directory: std::env::temp_dir().join(name),
            inner: Mutex::new(inner),
            version: watch::Sender::new(0),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(crate) fn timings(&self) -> Timings {
        self.lock().timings
    }

    /// How long pulling `image` takes.
    pub(crate) fn pull_time(&self, image: &str) -> Duration {
        let timings = self.timings();
        let mb = self.options.image(image).and_then(|rule| rule.size_mb).unwrap_or(timings.image_mb);
        self.options.scaled(timings.pull + timings.pull_per_mb * mb)
    }

    /// Changes a live group in its run, unless that is over or another group has taken the name.
    pub(crate) fn update<R>(
        &self,
        key: &GroupKey,
        (number, run): (u64, u64),
        change: impl FnOnce(&mut Group, Timestamp) -> R,
    ) -> Option<R> {
        let mut inner = self.lock();
        let now = self.now();
        let group = inner.live.get_mut(key).filter(|group| (group.number, group.run) == (number, run))?;
        let result = change(group, now);
        drop(inner);
        self.changed();
        Some(result)
    }

    /// Wakes those who wait for a state.
    pub(crate) fn changed(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Moves a live group into the history.
    pub(crate) fn bury(&self, key: &GroupKey, number: u64) {
        let mut inner = self.lock();
        let now = self.now();
        if inner.live.get(key).is_none_or(|group| group.number != number) {
            return;
        }
        if let Some(mut group) = inner.live.remove(key) {
            group.stop_billing(crate::groups::to_millisecond(now));
            group.deleted_at = Some(now);
            inner.gone.push(group);
        }
        drop(inner);
        self.changed();
    }

    /// Runs a task for as long as the emulator is there.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends every task and process at once.
    pub(crate) fn shut_down(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.processes.close();
        // Containers' directories go with their lives; an aborted life may not get to run again to do it.
        if let Err(error) = std::fs::remove_dir_all(&self.directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the emulator's directory could not be removed");
        }
    }
}
