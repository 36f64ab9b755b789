//! A container's process: how it starts, what it says, and that it never outlives the emulator.
//!
//! Each process leads a process group of its own, which is killed as a whole. Its standard input is a pipe whose other end
//! only the emulator holds: when the emulator is gone for whatever reason, the stand-in agent (or the supervisor around
//! another command) reads the end of it, and ends everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emulator_common::Clock;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

/// Environment variable that tells a process where `/` of its container is.
pub const EMULATED_ROOT: &str = "EMULATED_ROOT";

/// Kept of a running container's log, and of an ended one's (facts/aci.md).
const RUNNING_LOG_BYTES: usize = 4 << 20;
const ENDED_LOG_BYTES: usize = 16 << 10;
const ENDED_LOG_LINES: usize = 1000;
/// Longer lines are cut.
const LINE_BYTES: usize = 16 << 10;

/// What a container wrote to its standard output and error, the newest part.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    lines: VecDeque<(Timestamp, String)>,
    bytes: usize,
}

impl Logs {
    fn push(&mut self, at: Timestamp, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push_back((at, line));
        self.shrink(RUNNING_LOG_BYTES, usize::MAX);
    }

    /// Forgets what Azure forgets once the container has ended.
    pub(crate) fn ended(&mut self) {
        self.shrink(ENDED_LOG_BYTES, ENDED_LOG_LINES);
    }

    fn shrink(&mut self, bytes: usize, lines: usize) {
        while self.bytes > bytes || self.lines.len() > lines {
            let Some((_, line)) = self.lines.pop_front() else { break };
            self.bytes -= line.len() + 1;
        }
    }

    /// The last `tail` lines, or all.
    pub(crate) fn text(&self, tail: Option<usize>, timestamps: bool) -> String {
        let skip = tail.map_or(0, |tail| self.lines.len().saturating_sub(tail));
        let mut text = String::new();
        for (at, line) in self.lines.iter().skip(skip) {
            if timestamps {
                text.push_str(&format!("{at:.9} "));
            }
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The process groups that are alive, so that all can be killed without the runtime's help.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessGroups(Arc<Mutex<Alive>>);

#[derive(Debug, Default)]
struct Alive {
    groups: BTreeSet<i32>,
    closed: bool,
}

impl ProcessGroups {
    fn lock(&self) -> MutexGuard<'_, Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills every process of every container, and lets none start any more.
    pub(crate) fn close(&self) {
        let mut alive = self.lock();
        alive.closed = true;
        for group in &alive.groups {
            signal(*group, Signal::KILL);
        }
    }
}

fn signal(group: i32, signal: Signal) {
    // Fails only when every process of the group has ended, which is what is wanted.
    let _ = Pid::from_raw(group).map(|pid| kill_process_group(pid, signal));
}

/// What to start.
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a [String],
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) root: &'a Path,
    pub(crate) logs: &'a Arc<Mutex<Logs>>,
    pub(crate) clock: &'a Clock,
    pub(crate) groups: &'a ProcessGroups,
}

/// A running process; killed on drop.
pub(crate) struct Process {
    child: Child,
    group: i32,
    /// Held open for as long as the process may live.
    stdin: Option<ChildStdin>,
    readers: Vec<JoinHandle<()>>,
    groups: ProcessGroups,
}

impl Process {
    pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Self> {
        let (program, arguments) = launch.command.split_first().context("the command is empty")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .envs(launch.environment)
            .env(EMULATED_ROOT, launch.root)
            .current_dir(launch.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        // Under the lock, so that a concurrent `close` sees either no process or one that it can kill.
        let mut alive = launch.groups.lock();
        ensure!(!alive.closed, "the emulator is shutting down");
        let mut child = command.spawn().with_context(|| format!("starting '{program}'"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).context("the process has no id")?;
        alive.groups.insert(group);
        drop(alive);
        let stdin = child.stdin.take();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(tokio::spawn(read(
                BufReader::new(stdout),
                launch.logs.clone(),
                launch.clock.clone(),
            )));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(tokio::spawn(read(
                BufReader::new(stderr),
                launch.logs.clone(),
                launch.clock.clone(),
            )));
        }
        Ok(Self { child, group, stdin, readers, groups: launch.groups.clone() })
    }

    pub(crate) fn id(&self) -> Option<u32> {
        u32::try_from(self.group).ok()
    }

    /// Waits for the end; the exit code as a container's is: 128 plus the signal when one ended it.
    pub(crate) async fn wait(&mut self) -> i32 {
        let status = self.child.wait().await;
        // Anything that the container left behind ends with it.
        signal(self.group, Signal::KILL);
        self.groups.lock().groups.remove(&self.group);
        self.stdin = None;
        while let Some(reader) = self.readers.pop() {
            // A process that left the group may hold the pipe; its output is of no interest.
            let _ = tokio::time::timeout(Duration::from_millis(500), reader).await;
        }
        match status {
            Ok(status) => exit_code(status),
            Err(error) => {
                tracing::warn!(%error, "a container's end could not be waited for");
                255
            }
        }
    }

    /// Ends it: SIGTERM, and SIGKILL after `grace`.
    pub(crate) async fn terminate(&mut self, grace: Duration) -> i32 {
        if !grace.is_zero() {
            signal(self.group, Signal::TERM);
            if let Ok(code) = tokio::time::timeout(grace, self.wait()).await {
                return code;
            }
        }
        signal(self.group, Signal::KILL);
        self.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.groups.lock().groups.remove(&self.group) {
            signal(self.group, Signal::KILL);
        }
        for reader in &self.readers {
            reader.abort();
        }
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

async fn read(mut from: impl AsyncBufRead + Unpin, logs: Arc<Mutex<Logs>>, clock: Clock) {
    let mut line = Vec::new();
    let push = |line: &[u8]| {
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]).into_owned();
        logs.lock().unwrap_or_else(PoisonError::into_inner).push(clock.now(), text);
    };
    loop {
        let (taken, whole) = match from.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let part = &bytes[..end.unwrap_or(bytes.len())];
                line.extend_from_slice(&part[..part.len().min(LINE_BYTES.saturating_sub(line.len()))]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        from.consume(taken);
        if whole {
            push(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        push(&line);
    }
}
