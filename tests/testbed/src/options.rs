//! What a cluster shall hold. Everything has a default; `Options::default()` is a control plane without nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a cluster shall hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The AKS virtual nodes, each served by a process of its own.
    pub virtual_nodes: Vec<VirtualNode>,
    /// The VM nodes, all served by one kwok.
    pub vm_nodes: Vec<VmNode>,
    /// Users besides the admin. They may do nothing until a test binds a role to them.
    pub users: Vec<User>,
    /// Further flags of kube-apiserver.
    pub apiserver_flags: Vec<String>,
    /// Further flags of kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
}

impl Options {
    /// Adds a virtual node.
    #[must_use]
    pub fn virtual_node(mut self, node: VirtualNode) -> Self {
        self.virtual_nodes.push(node);
        self
    }

    /// Adds a VM node.
    #[must_use]
    pub fn vm_node(mut self, node: VmNode) -> Self {
        self.vm_nodes.push(node);
        self
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }
}

/// An AKS virtual node: the azure-aci provider against an ARM endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VirtualNode {
    /// Name of the node.
    pub node_name: String,
    /// URL of Azure Resource Manager.
    pub arm_endpoint: String,
    /// The bearer token that it sends there.
    pub arm_token: String,
    /// Subscription id.
    pub subscription: String,
    /// Resource group of the container groups.
    pub resource_group: String,
    /// A region that azure-aci knows.
    pub region: String,
    /// Labels besides those that Virtual Kubelet sets.
    pub labels: BTreeMap<String, String>,
}

impl Default for VirtualNode {
    fn default() -> Self {
        let aks_labels = [
            ("kubernetes.azure.com/managed", "false"),
            ("kubernetes.azure.com/role", "agent"),
            ("node.kubernetes.io/exclude-from-external-load-balancers", "true"),
        ];
        Self {
            node_name: "virtual-node-aci-linux".to_owned(),
            arm_endpoint: String::new(),
            arm_token: "virtual-node".to_owned(),
            subscription: "00000000-0000-0000-0000-000000000001".to_owned(),
            resource_group: "testbed".to_owned(),
            region: "westeurope".to_owned(),
            labels: aks_labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }
}

impl VirtualNode {
    /// A virtual node with AKS's default name and labels.
    #[must_use]
    pub fn new(arm_endpoint: impl Into<String>) -> Self {
        Self { arm_endpoint: arm_endpoint.into(), ..Self::default() }
    }
}

/// A node whose pods are run by kwok: Ready at once, Running at once, ended when a test says so.
///
/// A pod there ends when it gets the annotation [`EXIT_CODE_ANNOTATION`]: code 0 makes it Succeeded, another one Failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VmNode {
    /// Name of the node.
    pub name: String,
    /// CPUs for pods, as a Kubernetes quantity.
    pub cpu: String,
    /// Memory for pods, as a Kubernetes quantity.
    pub memory: String,
    /// How many pods fit.
    pub pods: u32,
    /// Labels besides hostname, OS and architecture.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
}

impl Default for VmNode {
    fn default() -> Self {
        Self {
            name: "vm-0".to_owned(),
            cpu: "4".to_owned(),
            memory: "16Gi".to_owned(),
            pods: 110,
            labels: BTreeMap::new(),
            taints: Vec::new(),
        }
    }
}

impl VmNode {
    /// A node of a given size without further labels.
    #[must_use]
    pub fn new(name: impl Into<String>, cpu: impl Into<String>, memory: impl Into<String>) -> Self {
        Self { name: name.into(), cpu: cpu.into(), memory: memory.into(), ..Self::default() }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

/// The annotation that ends a pod on a VM node; its value is the exit code of all its containers.
pub const EXIT_CODE_ANNOTATION: &str = "testbed.stint.dev/exit-code";

/// A node's taint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A user that the API server knows by a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name, as in a role binding's subject.
    pub name: String,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<String>,
}
