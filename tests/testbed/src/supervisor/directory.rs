//! The directory of a cluster, and the removal of those whose supervisor was killed.
//!
//! A supervisor holds a lock on a file in its directory for as long as it lives. A directory whose lock is free belongs
//! to nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

const LOCK: &str = "supervisor.lock";

/// A cluster's directory; removed when dropped.
#[derive(Debug)]
pub(super) struct Directory {
    directory: TempDir,
    _lock: File,
}

impl Directory {
    /// Makes a directory, and removes those that killed supervisors left.
    pub(super) fn new() -> Result<Self> {
        let parent = clusters();
        fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        // One supervisor at a time: a directory between its creation and its lock must not look abandoned.
        let door = File::create(parent.join("door.lock"))?;
        door.lock()?;
        remove_abandoned(&parent);
        let directory = tempfile::Builder::new().prefix("cluster-").tempdir_in(&parent)?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Where all clusters of this machine have what they share.
pub(super) fn clusters() -> PathBuf {
    std::env::temp_dir().join("stint-testbed")
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let abandoned = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            let _ = fs::remove_dir_all(path);
        }
    }
}
