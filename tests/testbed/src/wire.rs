//! What passes between a test and its supervisor: one JSON document a line, in both directions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The store behind the API server.
    Etcd,
    /// kube-apiserver.
    Apiserver,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// What runs the VM nodes' pods.
    Kwok,
    /// A virtual node, by the node's name.
    VirtualNode(String),
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd => f.write_str("etcd"),
            Self::Apiserver => f.write_str("kube-apiserver"),
            Self::ControllerManager => f.write_str("kube-controller-manager"),
            Self::Scheduler => f.write_str("kube-scheduler"),
            Self::Kwok => f.write_str("kwok"),
            Self::VirtualNode(node) => write!(f, "virtual-node-{node}"),
        }
    }
}

/// What a supervisor says. The first line is `Ready` or `Failed`; then one line answers each [`Command`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// The cluster is up.
    Ready(Box<ClusterInfo>),
    /// The command was carried out; the process ids are those of now.
    Done(BTreeMap<String, u32>),
    /// It could not be done, and why.
    Failed(String),
}

/// What a test tells its supervisor. The end of input means: take everything down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Kill a process, as an outage would.
    Stop(Component),
    /// Start it again as it was and wait until it is ready.
    Start(Component),
    /// Keep a copy of what etcd holds, under this name.
    SaveStore(String),
    /// Put the control plane back to a copy.
    RestoreStore(String),
}

/// How to reach a running cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// A kubeconfig of the admin.
    pub kubeconfig: PathBuf,
    /// The directory that holds everything of this cluster; removed at its end.
    pub directory: PathBuf,
    /// URL of the API server.
    pub apiserver: String,
    /// The authority that signed the API server's certificate (PEM).
    pub ca_certificate: String,
    /// Bearer tokens by user; the admin's is under `admin`.
    pub tokens: BTreeMap<String, String>,
    /// Process ids by component, and the supervisor's under `supervisor`.
    pub pids: BTreeMap<String, u32>,
    /// Names of the virtual nodes.
    pub virtual_nodes: Vec<String>,
    /// The kubectl that was built with the API server.
    pub kubectl: PathBuf,
}

impl ClusterInfo {
    /// The kubeconfig of a user.
    #[must_use]
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        kubeconfig_file(&self.directory, user)
    }
}

/// Where a user's kubeconfig lies in a cluster's directory.
pub(crate) fn kubeconfig_file(directory: &std::path::Path, user: &str) -> PathBuf {
    directory.join(format!("kubeconfig-{}", user.replace(['/', ':'], "_")))
}

/// Where a component's log lies in a cluster's directory.
pub(crate) fn log_file(directory: &std::path::Path, component: &Component) -> PathBuf {
    directory.join(format!("{component}.log"))
}
