//! The processes of a cluster while it lives: started in order, watched, stopped and started by a test, taken down.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::components::{Components, vm_node_object};
use super::credentials::{ADMIN, Credentials};
use super::directory::Directory;
use super::ports::Ports;
use super::process::{Exit, Process, log_tail};
use super::store;
use crate::options::Options;
use crate::programs::{Program, Programs};
use crate::wire::{ClusterInfo, Component, kubeconfig_file};

/// How long any one thing may take to become ready. Generous, since test machines are shared.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a virtual node stays away after it ended by itself.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// What is stopped while etcd is put back to an earlier state, in the order in which it starts.
const CONTROL_PLANE: [Component; 5] = [
    Component::Etcd,
    Component::Apiserver,
    Component::ControllerManager,
    Component::Scheduler,
    Component::Kwok,
];
const POLL: Duration = Duration::from_millis(50);

/// A cluster and its processes.
#[derive(Debug)]
pub(super) struct Running {
    // Declared, and so dropped, first: the processes end before their directory goes.
    processes: BTreeMap<Component, Process>,
    components: Components,
    options: Options,
    credentials: Credentials,
    api: Api,
    kubectl: std::path::PathBuf,
    exits_sender: mpsc::UnboundedSender<Exit>,
    exits: mpsc::UnboundedReceiver<Exit>,
    directory: Directory,
    _ports: Ports,
}

impl Running {
    /// Prepares a cluster; nothing runs yet.
    pub(super) fn new(programs: &Programs, options: &Options) -> Result<Self> {
        let directory = Directory::new()?;
        let mut ports = Ports::new();
        let credentials = Credentials::new(directory.path(), &options.users)?;
        let components = Components::new(programs, options, directory.path(), &credentials, &mut ports)?;
        let url = format!("https://127.0.0.1:{}", components.ports.apiserver);
        let token = credentials.tokens.get(ADMIN).cloned().unwrap_or_default();
        let api = Api::new(url, &credentials.ca_certificate, token)?;
        let (exits_sender, exits) = mpsc::unbounded_channel();
        Ok(Self {
            processes: BTreeMap::new(),
            components,
            options: options.clone(),
            credentials,
            api,
            kubectl: programs.path(Program::Kubectl)?,
            exits_sender,
            exits,
            directory,
            _ports: ports,
        })
    }

    /// Starts everything and waits until it is ready.
    pub(super) async fn start(&mut self) -> Result<()> {
        self.launch(&Component::Etcd)?;
        self.launch(&Component::Apiserver)?;
        self.wait_until_ready(&Component::Apiserver).await?;

        let others: Vec<_> = self
            .components
            .command_lines
            .keys()
            .filter(|component| !matches!(component, Component::Etcd | Component::Apiserver))
            .cloned()
            .collect();
        for component in &others {
            self.launch(component)?;
        }
        for node in &self.options.vm_nodes {
            self.api.create("/api/v1/nodes", &vm_node_object(node)).await?;
        }
        for component in &others {
            self.wait_until_ready(component).await?;
        }
        Ok(())
    }

    /// Kills a process, as an outage would.
    pub(super) async fn stop(&mut self, component: &Component) -> Result<()> {
        let process =
            self.processes.remove(component).with_context(|| format!("{component} does not run"))?;
        process.kill().await;
        Ok(())
    }

    /// Starts a process again as it was and waits until it is ready.
    pub(super) async fn start_again(&mut self, component: &Component) -> Result<()> {
        ensure!(!self.processes.contains_key(component), "{component} runs already");
        self.launch(component)?;
        self.wait_until_ready(component).await
    }

    /// Keeps a copy of what etcd holds.
    pub(super) fn save_store(&self, name: &str) -> Result<()> {
        let etcd = self.processes.get(&Component::Etcd).context("etcd does not run")?;
        store::save(self.directory.path(), name, etcd.pid)
    }

    /// Puts the control plane back to a copy, and waits until it is ready.
    pub(super) async fn restore_store(&mut self, name: &str) -> Result<()> {
        store::ensure_copied(self.directory.path(), name)?;
        let mut stopped = Vec::new();
        // What has seen the present would take the past for a mistake, so it is started again, too.
        for component in CONTROL_PLANE {
            if let Some(process) = self.processes.remove(&component) {
                process.kill().await;
                stopped.push(component);
            }
        }
        store::restore(self.directory.path(), name)?;
        for component in stopped {
            self.launch(&component)?;
            self.wait_until_ready(&component).await?;
        }
        Ok(())
    }

    /// Waits for a process to end by itself, and starts it again where Kubernetes would, or says what went wrong.
    ///
    /// azure-aci ends with a nil pointer when Azure does not answer one of its lists, on AKS as here; there the kubelet starts
    /// the virtual node's pod again. No other process has a reason to end.
    pub(super) async fn after_unexpected_exit(&mut self) -> Result<()> {
        let Some(exit) = self.exits.recv().await else {
            bail!("nobody watches the processes"); // cannot be: `self` holds a sender
        };
        let error = self.exit_error(&exit);
        self.processes.remove(&exit.component);
        if !matches!(exit.component, Component::VirtualNode(_)) {
            return Err(error);
        }
        eprintln!("test bed: {error:#}\ntest bed: starting {} again", exit.component);
        sleep(RESTART_AFTER).await;
        self.launch(&exit.component)
    }

    /// Whether a process ended because somebody else had its port.
    pub(super) fn lost_a_port(&self) -> bool {
        let logs = || {
            self.components.command_lines.keys().map(|component| log_tail(self.directory.path(), component))
        };
        logs().any(|log| log.contains("address already in use"))
    }

    /// Kills everything, waits until it is gone, and removes the directory.
    pub(super) async fn tear_down(mut self) {
        // Backwards: what serves goes after what it serves.
        while let Some((_, process)) = self.processes.pop_last() {
            process.kill().await;
        }
    }

    /// How to reach the cluster.
    pub(super) fn info(&self) -> ClusterInfo {
        ClusterInfo {
            kubeconfig: kubeconfig_file(self.directory.path(), ADMIN),
            directory: self.directory.path().to_owned(),
            apiserver: format!("https://127.0.0.1:{}", self.components.ports.apiserver),
            ca_certificate: self.credentials.ca_certificate.clone(),
            tokens: self.credentials.tokens.clone(),
            pids: self.pids(),
            virtual_nodes: self.options.virtual_nodes.iter().map(|node| node.node_name.clone()).collect(),
            kubectl: self.kubectl.clone(),
        }
    }

    /// The process ids of now.
    pub(super) fn pids(&self) -> BTreeMap<String, u32> {
        let components =
            self.processes.iter().map(|(component, process)| (component.to_string(), process.pid));
        components.chain([("supervisor".to_owned(), std::process::id())]).collect()
    }

    fn launch(&mut self, component: &Component) -> Result<()> {
        let command = self
            .components
            .command_lines
            .get(component)
            .with_context(|| format!("this cluster has no {component}"))?;
        let process = Process::start(self.directory.path(), component, command, self.exits_sender.clone())?;
        self.processes.insert(component.clone(), process);
        Ok(())
    }

    async fn wait_until_ready(&mut self, component: &Component) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(component).await {
            if let Ok(exit) = self.exits.try_recv() {
                return Err(self.exit_error(&exit));
            }
            ensure!(
                Instant::now() < deadline,
                "{component} was not ready within {} s; the end of its log:\n{}",
                PATIENCE.as_secs(),
                log_tail(self.directory.path(), component)
            );
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn is_ready(&self, component: &Component) -> bool {
        let ports = &self.components.ports;
        match component {
            Component::Etcd => true, // the API server is not ready before it
            Component::Apiserver => self.api.is_ready().await,
            Component::ControllerManager => {
                self.api.is_healthy(ports.controller_manager, "/healthz").await
                    && self.api.exists("/api/v1/namespaces/default/serviceaccounts/default").await
            }
            Component::Scheduler => self.api.is_healthy(ports.scheduler, "/readyz").await,
            Component::Kwok => {
                for node in &self.options.vm_nodes {
                    if !self.api.node_takes_pods(&node.name).await {
                        return false;
                    }
                }
                true
            }
            Component::VirtualNode(name) => self.api.node_takes_pods(name).await,
        }
    }

    fn exit_error(&self, exit: &Exit) -> Error {
        let how = match &exit.status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let tail = log_tail(self.directory.path(), &exit.component);
        anyhow!("{} ended by itself ({how}); the end of its log:\n{tail}", exit.component)
    }
}
