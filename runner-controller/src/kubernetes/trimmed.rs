//! Pods and nodes, of which only what decisions need is ever parsed: a whole pod takes some 37 KiB in memory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::Object;
use kube::core::{ApiResource, DeserializeGuard};
use kube::{Api, Client};
use runner_core::lifecycle::{Machine, MachinePhase};
use serde::{Deserialize, Serialize};

use crate::config::pod_template::CONTAINER;
use crate::ports::VirtualNodeSeen;

pub(super) type TrimmedPod = Object<PodSpecPart, PodStatusPart>;
pub(super) type TrimmedNode = Object<NodeSpecPart, NodeStatusPart>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpecPart {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatusPart {
    phase: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    start_time: Option<Time>,
    conditions: Vec<ConditionPart>,
    container_statuses: Vec<ContainerPart>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConditionPart {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPart {
    name: String,
    state: ContainerStatePart,
    restart_count: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ContainerStatePart {
    waiting: Option<WhyPart>,
    running: Option<RunningPart>,
    terminated: Option<TerminatedPart>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct WhyPart {
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunningPart {
    started_at: Option<Time>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TerminatedPart {
    started_at: Option<Time>,
    finished_at: Option<Time>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpecPart {
    unschedulable: bool,
    taints: Vec<TaintPart>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TaintPart {
    key: String,
    value: Option<String>,
    effect: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatusPart {
    conditions: Vec<ConditionPart>,
}

/// Pods of a namespace, trimmed.
pub(super) fn pods(client: &Client, namespace: &str) -> Api<DeserializeGuard<TrimmedPod>> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()))
}

/// Nodes, trimmed.
pub(super) fn nodes(client: &Client) -> Api<DeserializeGuard<TrimmedNode>> {
    Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()))
}

/// What a pod shows of a runner's machine.
pub(super) fn machine(pod: &TrimmedPod, now: jiff::Timestamp) -> Machine {
    let meta = &pod.metadata;
    let empty = PodStatusPart::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let state =
        status.container_statuses.first().map(|container| container.state.clone()).unwrap_or_default();
    let ever_ran = state.running.is_some()
        || state.terminated.as_ref().is_some_and(|terminated| terminated.started_at.is_some());
    let phase = match status.phase.as_deref() {
        Some("Succeeded") => MachinePhase::Ended,
        // A pod whose node object went is Failed, too, while its container may run on.
        Some("Failed") if state.terminated.is_some() && ever_ran => MachinePhase::Ended,
        Some("Failed") if status.reason.as_deref() == Some("NotFound") => MachinePhase::Ended,
        Some("Failed") => MachinePhase::StartFailed,
        Some("Running" | "Unknown") if state.terminated.is_some() => MachinePhase::Ended,
        Some("Running") => MachinePhase::Running,
        // azure-aci maps a group that is Stopped or Unhealthy to Unknown; a node that is away leaves the phase alone.
        Some("Unknown") if ever_ran => MachinePhase::Running,
        Some(_) | None => MachinePhase::Pending,
    };
    let scheduled_condition = status.conditions.iter().find(|condition| condition.kind == "PodScheduled");
    let scheduled = pod.spec.node_name.as_deref().is_some_and(|node| !node.is_empty())
        || scheduled_condition.is_some_and(|condition| condition.status == "True");
    let since = match phase {
        MachinePhase::Running => {
            state.running.and_then(|running| running.started_at).or_else(|| status.start_time.clone())
        }
        MachinePhase::Ended => {
            state.terminated.as_ref().and_then(|terminated| terminated.finished_at.clone())
        }
        MachinePhase::Pending | MachinePhase::StartFailed => meta.creation_timestamp.clone(),
    };
    let words = [
        (status.reason.clone(), status.message.clone()),
        state.waiting.map(|waiting| (waiting.reason, waiting.message)).unwrap_or_default(),
        scheduled_condition
            .filter(|condition| condition.status == "False")
            .map(|condition| (condition.reason.clone(), condition.message.clone()))
            .unwrap_or_default(),
    ];
    Machine {
        uid: meta.uid.clone().unwrap_or_default(),
        phase,
        scheduled,
        since: since.map_or(now, |time| time.0),
        why: words.into_iter().find_map(join),
        deleting: meta.deletion_timestamp.is_some(),
        restarts: status
            .container_statuses
            .iter()
            // What others inject may restart as it likes.
            .find(|container| container.name == CONTAINER)
            .map_or(0, |container| container.restart_count),
    }
}

fn join((reason, message): (Option<String>, Option<String>)) -> Option<String> {
    let text = match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    // Events of a provider can be long; the record keeps what fits on a screen.
    Some(text.replace('\n', " ").chars().take(500).collect())
}

/// A virtual node, if the node is one.
pub(super) fn virtual_node(node: &TrimmedNode) -> Option<VirtualNodeSeen> {
    let ObjectMeta { name, labels, .. } = &node.metadata;
    let labels: BTreeMap<String, String> = labels.clone().unwrap_or_default();
    let taints: Vec<(String, String, String)> = node
        .spec
        .taints
        .iter()
        .map(|taint| (taint.key.clone(), taint.value.clone().unwrap_or_default(), taint.effect.clone()))
        .collect();
    let is_one = labels.get("type").is_some_and(|kind| kind == "virtual-kubelet")
        || labels.contains_key("virtualization")
        || taints.iter().any(|(key, _, _)| key == "virtual-kubelet.io/provider");
    let conditions = node.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
        // Cordoned: it runs what it has, and takes nothing new.
        && !node.spec.unschedulable;
    is_one.then(|| VirtualNodeSeen { name: name.clone().unwrap_or_default(), ready, labels, taints })
}

#[cfg(test)]
mod tests;
