//! The real `stint` process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::LedgerRow;

/// Names the program, where a test cannot find it by itself.
const PROGRAM_VARIABLE: &str = "STINT_BIN";

/// The built `stint` program.
///
/// # Errors
/// When it is not built.
pub fn program() -> Result<PathBuf> {
    beside("stint", PROGRAM_VARIABLE, "cargo build -p stint")
}

/// A program of the workspace, built into the same directory as the test.
pub(crate) fn beside(name: &str, variable: &str, build: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let found =
        test.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run `{build}`, or set {variable}"))
}

/// A port of the loopback address that is free now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// How a `stint run` is started; it keeps its ports and state over restarts.
#[derive(Debug)]
pub struct Stint {
    arguments: Vec<String>,
    identity: String,
    state: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    port: u16,
    internal_port: u16,
    api_port: u16,
    child: Option<Child>,
}

impl Stint {
    /// A process that has not been started. It logs into a file of `directory` and keeps its state there.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(
        directory: &Path,
        identity: &str,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        Ok(Self {
            arguments,
            identity: identity.to_owned(),
            state: directory.join("state"),
            environment,
            log: directory.join("stint.log"),
            port: free_port()?,
            internal_port: free_port()?,
            api_port: free_port()?,
            child: None,
        })
    }

    /// Another replica of the same installation, with a state of its own.
    pub(crate) fn like(&self, directory: &Path, identity: &str) -> Result<Self> {
        Self::new(directory, identity, self.arguments.clone(), self.environment.clone())
    }

    /// Where webhooks and call-backs go.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where probes and metrics are.
    pub fn internal_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.internal_port)
    }

    /// Where the API is.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// The rows of its ledger.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ledger(&self) -> Result<Vec<LedgerRow>> {
        let answer = reqwest::get(format!("{}/api/v1/ledger", self.api_url())).await?;
        ensure!(answer.status().is_success(), "the ledger answers {}", answer.status());
        let text = answer.text().await?;
        serde_json::from_str(&text).with_context(|| format!("not a ledger: {text}"))
    }

    /// Starts the process.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "stint runs already");
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        // Killed with the test, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program()?)
            .arg("run")
            .args(&self.arguments)
            .args(["--identity", &self.identity])
            .arg("--state-directory")
            .arg(&self.state)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--internal-listen", &format!("127.0.0.1:{}", self.internal_port)])
            .args(["--api-listen", &format!("127.0.0.1:{}", self.api_port)])
            .args(["--callback-url", &self.url()])
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv of util-linux cannot be run")?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message holds its log.
    pub async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + deadline;
        let url = format!("{}/readyz", self.internal_url());
        loop {
            let answer = reqwest::get(&url).await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.exited()? {
                bail!("stint ended with {status}:\n{}", self.log_tail());
            }
            if tokio::time::Instant::now() >= end {
                let said = match answer {
                    Ok(answer) => answer.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                bail!("stint is not ready after {deadline:?}: {said}\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn exited(&mut self) -> Result<Option<std::process::ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// The process's id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref().context("stint does not run")?;
        Pid::from_raw(child.id().cast_signed()).context("a process has an id")
    }

    /// Stops the process where it is, or lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, paused: bool) -> Result<()> {
        kill_process(self.pid()?, if paused { Signal::STOP } else { Signal::CONT })?;
        Ok(())
    }

    /// Kills the process as the kernel would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("stint does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the process to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not run or does not end in time.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<std::process::ExitStatus> {
        let pid = self.child.as_ref().context("stint does not run")?.id();
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
        ensure!(asked.success(), "SIGTERM cannot be sent");
        let end = tokio::time::Instant::now() + deadline;
        loop {
            if let Some(status) = self.exited()? {
                self.child = None;
                return Ok(status);
            }
            ensure!(tokio::time::Instant::now() < end, "stint does not end on SIGTERM:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything that it has logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Stint {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- the end of stint's log ---\n{}", self.log_tail());
        }
    }
}
