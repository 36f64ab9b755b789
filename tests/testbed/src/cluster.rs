//! A test's handle on a cluster: it runs the supervisor and holds the pipe whose end takes everything down.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};

use crate::options::Options;
use crate::wire::{ClusterInfo, Command, Component, Reply, log_file};

/// Names the supervisor's program, where a test cannot find it by itself.
const PROGRAM_VARIABLE: &str = "STINT_TESTBED_BIN";

/// A running cluster. Dropping it takes everything down and waits until it is gone; so does the end of the test's process,
/// even by SIGKILL.
#[derive(Debug)]
pub struct Cluster {
    info: ClusterInfo,
    supervisor: Child,
    channel: Mutex<Option<Channel>>,
}

#[derive(Debug)]
struct Channel {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Channel {
    fn read(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("cannot read what the supervisor says")?;
        ensure!(!line.is_empty(), "the supervisor of the test bed ended; its message is on standard error");
        serde_json::from_str(&line).with_context(|| format!("not a reply of the supervisor: {line}"))
    }

    fn ask(&mut self, command: &Command) -> Result<BTreeMap<String, u32>> {
        let line = serde_json::to_string(command)?;
        writeln!(self.stdin, "{line}").context("the supervisor of the test bed has ended")?;
        match self.read()? {
            Reply::Done(pids) => Ok(pids),
            Reply::Failed(message) => bail!("{message}"),
            Reply::Ready(_) => bail!("the supervisor answered a command with Ready"),
        }
    }
}

impl Cluster {
    /// Starts a cluster and waits until it is ready, some seconds. Blocks the thread; see [`Cluster::start_async`].
    ///
    /// # Errors
    /// When the programs are not built or something does not come up; the message holds the end of the log that tells why.
    pub fn start(options: Options) -> Result<Self> {
        let program = supervisor_program()?;
        let mut supervisor = std::process::Command::new(&program)
            .arg("up")
            .arg("--options")
            .arg(serde_json::to_string(&options)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // whoever kills the test's group must leave this one time to clean up
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let stdin = supervisor.stdin.take().context("the supervisor has no standard input")?;
        let stdout = supervisor.stdout.take().context("the supervisor has no standard output")?;
        let mut channel = Channel { stdin, stdout: BufReader::new(stdout) };

        let info = match channel.read() {
            Ok(Reply::Ready(info)) => *info,
            other => {
                drop(channel);
                supervisor.wait()?;
                match other? {
                    Reply::Failed(message) => bail!("{message}"),
                    Reply::Ready(_) | Reply::Done(_) => bail!("the supervisor answered out of turn"),
                }
            }
        };
        Ok(Self { info, supervisor, channel: Mutex::new(Some(channel)) })
    }

    /// [`Cluster::start`] for async tests: the runtime goes on meanwhile, as it must when it serves the ARM endpoint.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_async(options: Options) -> Result<Self> {
        tokio::task::spawn_blocking(|| Self::start(options)).await?
    }

    /// How to reach the cluster.
    #[must_use]
    pub fn info(&self) -> &ClusterInfo {
        &self.info
    }

    /// The admin's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.info.kubeconfig
    }

    /// The kubeconfig of one of [`Options::users`].
    #[must_use]
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.info.kubeconfig_of(user)
    }

    /// Runs kubectl as the admin and returns what it prints.
    ///
    /// # Errors
    /// When kubectl fails; the message holds what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "")
    }

    /// Applies manifests, in YAML or JSON.
    ///
    /// # Errors
    /// When kubectl fails; the message holds what it said.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], manifests)
    }

    /// Runs kubectl as the admin with something on its standard input.
    ///
    /// # Errors
    /// When kubectl fails; the message holds what it said.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut kubectl = std::process::Command::new(&self.info.kubectl)
            .arg("--kubeconfig")
            .arg(&self.info.kubeconfig)
            .arg("--cache-dir") // kubectl's own is by address, which another cluster may have had
            .arg(self.info.directory.join("kubectl-cache"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        if let Some(mut stdin) = kubectl.stdin.take() {
            // A kubectl that does not read its input ends before it is written, and says by its status how that went.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = kubectl.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("kubectl printed something that is not text")
    }

    /// Kills a process, as an outage would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self, component: Component) -> Result<()> {
        self.ask(&Command::Stop(component)).map(drop)
    }

    /// Starts a stopped process again as it was and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already or does not become ready.
    pub fn restart(&self, component: Component) -> Result<()> {
        self.ask(&Command::Start(component)).map(drop)
    }

    /// Kills the first virtual node's process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_virtual_node(&self) -> Result<()> {
        self.stop(self.first_virtual_node()?)
    }

    /// Starts the first virtual node's process again.
    ///
    /// # Errors
    /// When it runs already or does not become ready.
    pub fn start_virtual_node(&self) -> Result<()> {
        self.restart(self.first_virtual_node()?)
    }

    /// Kills the API server.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_apiserver(&self) -> Result<()> {
        self.stop(Component::Apiserver)
    }

    /// Starts the API server again.
    ///
    /// # Errors
    /// When it runs already or does not become ready.
    pub fn start_apiserver(&self) -> Result<()> {
        self.restart(Component::Apiserver)
    }

    /// Keeps a copy of everything that the cluster holds now, without anybody noticing.
    ///
    /// # Errors
    /// When etcd does not run or the copy cannot be written.
    pub fn save_store(&self, name: &str) -> Result<()> {
        self.ask(&Command::SaveStore(name.to_owned())).map(drop)
    }

    /// Puts the cluster back to a copy, as after a disaster: etcd and the API server are stopped and started again from the
    /// copy, and so is the rest of the control plane, as Kubernetes' documentation asks for. Virtual nodes go on running.
    ///
    /// # Errors
    /// When there is no such copy or something does not become ready.
    pub fn restore_store(&self, name: &str) -> Result<()> {
        self.ask(&Command::RestoreStore(name.to_owned())).map(drop)
    }

    /// The log of a component so far.
    #[must_use]
    pub fn logs(&self, component: &Component) -> String {
        let bytes = std::fs::read(log_file(&self.info.directory, component)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn first_virtual_node(&self) -> Result<Component> {
        let name = self.info.virtual_nodes.first().context("this cluster has no virtual node")?;
        Ok(Component::VirtualNode(name.clone()))
    }

    fn ask(&self, command: &Command) -> Result<BTreeMap<String, u32>> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.as_mut().context("the cluster has been taken down")?.ask(command)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.channel.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.supervisor.wait();
    }
}

/// The program that `cargo build -p testbed` makes: named by the environment, or beside the test's own program.
fn supervisor_program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM_VARIABLE).filter(|program| !program.is_empty()) {
        return Ok(program.into());
    }
    let test = std::env::current_exe()?;
    // Tests are in target/debug/deps, programs in target/debug.
    let beside = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("testbed"))
        .find(|path| path.is_file());
    beside.with_context(|| {
        format!(
            "the supervisor of the test bed is not beside {}: run `cargo build -p testbed`, or set {PROGRAM_VARIABLE}",
            test.display()
        )
    })
}
