//! `RunnerPlace`: where a runner can run.

#![expect(clippy::duplicated_attributes, reason = "every printer column of a kind names its own type")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::DocumentStatus;

/// Where a runner can run.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "RunnerPlace",
    namespaced,
    category = "stint",
    derive = "PartialEq",
    derive = "Default",
    status = "DocumentStatus",
    doc = "Where a runner can run. A virtual node that no place names becomes a place by itself, named as the node.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.virtualNode.nodeName"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.nodePool.nodeSelector", priority = 1),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.problem"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("[has(self.virtualNode), has(self.containerInstances), has(self.nodePool)].filter(given, given).size() == 1").message("give exactly one of virtualNode, containerInstances and nodePool"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerPlaceSpec {
    /// An AKS virtual node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_node: Option<VirtualNodeSpec>,
    /// Azure Container Instances without a cluster: Stint creates the groups itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_instances: Option<ContainerInstancesSpec>,
    /// A pool of virtual machines in the cluster. No container group stands behind a runner there, so that subscription,
    /// resource group, region and price say nothing, and the ledger has no row: its machines are paid for anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_pool: Option<NodePoolSpec>,
    /// Azure subscription id of the container groups. Default: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// Resource group of the container groups. Default: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// Azure region, such as `westeurope`. Default: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where the agents of runners here reach Stint. Default: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// Whether new runners may start here. Default: Active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateSpec>,
    /// What may be used of Azure's quota for container groups, which belongs to the subscription and region: what several
    /// places there say holds together. Default: Azure's own defaults, or what Azure answers when it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaSpec>,
    /// What a runner costs here. Default: Azure Container Instances, Linux, East US, pay as you go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceSpec>,
}

/// An AKS virtual node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualNodeSpec {
    /// Name of the node. Default: the only virtual node there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Labels by which pods select the node. Default: those that the node carries of the documented ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
}

/// Azure Container Instances without a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerInstancesSpec {}

/// A pool of virtual machines in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePoolSpec {
    /// Labels that only the pool's nodes carry, such as `kubernetes.azure.com/agentpool: ci`.
    #[schemars(extend("minProperties" = 1))]
    pub node_selector: BTreeMap<String, String>,
    /// What the pool's nodes are tainted with, and runners' pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tolerations: Vec<TolerationSpec>,
    /// Whether the pool gets more nodes when pods wait for one. Default: Fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingSpec>,
    /// How long a pod may find no node, as `30s`, before the job goes on to its class's next place. Default: 0s for a
    /// Fixed pool, 2m for an Autoscaled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_after: Option<String>,
}

/// A taint that is tolerated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TolerationSpec {
    /// The taint's key.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// The taint's value. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The taint's effect. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffectSpec>,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffectSpec {
    /// They are not scheduled.
    NoSchedule,
    /// They are not scheduled if they fit elsewhere.
    PreferNoSchedule,
    /// They are evicted.
    NoExecute,
}

/// Whether a pool gets more nodes when pods wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingSpec {
    /// It does not: it is full when it is full.
    #[default]
    Fixed,
    /// It does, by the cluster autoscaler or by Karpenter, which takes some minutes.
    Autoscaled,
}

/// Where agents reach Stint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Callback {
    /// Base URL, as an address that runners can reach: a virtual node's pods may reach neither cluster DNS nor
    /// ClusterIPs, so usually an internal load balancer.
    #[schemars(regex(pattern = "^https?://"))]
    pub url: String,
    /// PEM certificates that agents trust for that URL. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// Whether new runners may start at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateSpec {
    /// They may.
    #[default]
    Active,
    /// They may not; those that run go on. For a place that is to be removed.
    Draining,
    /// They may not, for now; those that run go on.
    Paused,
}

/// What may be used of Azure's quota for container groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuotaSpec {
    /// Groups at once, whether or not they have ended. Default: 100, or what Azure answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<u32>,
    /// Cores at once, whole ones for each group. Default: 100, or what Azure answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// How many groups may be made in a while, and as many deleted; Azure does not tell. Default: 100 in 5m, 300 in 1h.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub changes: Vec<ChangeRateSpec>,
}

/// How many groups may be made in a while, and as many deleted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeRateSpec {
    /// So many.
    #[schemars(range(min = 1))]
    pub count: u32,
    /// In any stretch of this length, as `5m` or `1h`.
    pub per: String,
}

/// What a runner costs at a place. Decimal numbers in quotes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceSpec {
    /// ISO 4217 code. Default: USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: Option<String>,
    /// For one vCPU for an hour.
    #[schemars(regex(pattern = "^[0-9]+([.][0-9]+)?$"))]
    pub vcpu_hour: String,
    /// For one GB of memory for an hour.
    #[schemars(regex(pattern = "^[0-9]+([.][0-9]+)?$"))]
    pub gb_hour: String,
}
