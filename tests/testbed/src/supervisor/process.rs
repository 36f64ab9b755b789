//! One process of a cluster: its log, its end, and its life tied to the supervisor's.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::wire::{Component, log_file};

/// How a process is started, as often as needed.
#[derive(Debug, Clone)]
pub(super) struct CommandLine {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// A process that ended though nobody had stopped it.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) component: Component,
    pub(super) status: std::io::Result<ExitStatus>,
}

/// A process that runs. Dropping it kills it; [`Process::kill`] waits for its end too.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    kill: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Process {
    /// Starts a process whose unexpected end is told to `exits`.
    pub(super) fn start(
        directory: &Path,
        component: &Component,
        command: &CommandLine,
        exits: mpsc::UnboundedSender<Exit>,
    ) -> Result<Self> {
        let log = open_log(directory, component)?;
        // setpriv asks the kernel to kill the process when the supervisor ends, then becomes the program.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&command.program)
            .args(&command.arguments)
            .current_dir(directory)
            .env("HOME", directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {component} by way of setpriv (Debian package util-linux)")
            })?;
        let pid = child.id().context("the process ended at once")?;

        let (kill, killed) = oneshot::channel();
        let component = component.clone();
        let ended = tokio::spawn(async move {
            tokio::select! {
                status = child.wait() => {
                    let _ = exits.send(Exit { component, status });
                }
                _ = killed => {
                    let _ = child.kill().await;
                }
            }
        });
        Ok(Self { pid, kill, ended })
    }

    /// Kills the process at once, as an outage would, and waits until it is gone.
    pub(super) async fn kill(self) {
        let _ = self.kill.send(());
        let _ = self.ended.await;
    }
}

/// The end of a component's log.
pub(super) fn log_tail(directory: &Path, component: &Component) -> String {
    const LINES: usize = 25;
    let bytes = fs::read(log_file(directory, component)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn open_log(directory: &Path, component: &Component) -> Result<File> {
    let path = log_file(directory, component);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write the log {}", path.display()))
}
