//! Copies of etcd's data directory, and putting one back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Where etcd keeps its data.
pub(super) fn data(directory: &Path) -> PathBuf {
    directory.join("etcd")
}

fn copy_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("etcd-{name}"))
}

/// Copies etcd's data as it lies now. The process stands still meanwhile, so that the copy is what a crash at this moment would
/// leave, which etcd can start from.
pub(super) fn save(directory: &Path, name: &str, etcd: u32) -> Result<()> {
    let pid = Pid::from_raw(etcd.cast_signed()).context("etcd has no process id")?;
    kill_process(pid, Signal::STOP).context("etcd cannot be stopped")?;
    let copied = copy(&data(directory), &copy_of(directory, name));
    kill_process(pid, Signal::CONT).context("etcd cannot go on")?;
    copied.with_context(|| format!("etcd's data cannot be copied to {name}"))
}

/// Fails where there is no such copy.
pub(super) fn ensure_copied(directory: &Path, name: &str) -> Result<()> {
    ensure!(copy_of(directory, name).is_dir(), "there is no copy {name} of etcd's data");
    Ok(())
}

/// Puts a copy in the place of etcd's data. etcd must not run.
pub(super) fn restore(directory: &Path, name: &str) -> Result<()> {
    let (copied, data) = (copy_of(directory, name), data(directory));
    fs::remove_dir_all(&data)?;
    copy(&copied, &data).with_context(|| format!("the copy {name} of etcd's data cannot be put back"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
