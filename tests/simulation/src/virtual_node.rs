//! The scheduler and the virtual node: azure-aci's rules for what a pod becomes in Azure and what of it the pod shows.
//!
//! A group is created from the pod as it is then, its Secret included. The node tells a pod's state every 5 s. It deletes
//! a group once the pod object is gone, at once or, if it was away or forgot, by its sweep every 5 minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stint::ports::Group;

use crate::arm::{Arm, MadeOf, Refused};
use crate::board::Board;
use crate::chance::Chance;
use crate::fault::{GroupFate, Trouble};
use crate::kubernetes::ApiServer;
use crate::time::pause;

/// The node's name.
pub const NODE: &str = "virtual-node-aci-linux";
/// Namespace of everything.
pub const NAMESPACE: &str = "ci";
/// How often the node tells a pod's state.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often it looks for groups whose pods are gone.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// How soon it sees that a pod is there or gone.
const SEES_WITHIN: Duration = Duration::from_millis(400);

/// The node and the scheduler.
pub struct VirtualNode {
    board: Arc<Board>,
    server: ApiServer,
    arm: Arc<Arm>,
    /// UIDs of pods that it looks after. All are forgotten as its process starts.
    known: Mutex<BTreeSet<String>>,
}

impl VirtualNode {
    /// A node that is ready.
    pub fn new(board: Arc<Board>, server: ApiServer, arm: Arc<Arm>) -> Arc<Self> {
        // The cluster's identity: its uid is what installations are told apart by.
        let system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}});
        server.put("Namespace", system);
        let node = Self { board, server, arm, known: Mutex::default() };
        node.show(true);
        Arc::new(node)
    }

    fn show(&self, ready: bool) {
        let labels = json!({
            "type": "virtual-kubelet", "kubernetes.io/role": "agent", "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": NODE,
        });
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "labels": labels},
            "spec": {"taints": [{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        });
        self.server.put("Node", node);
    }

    /// Changes something of the node that concerns nobody, so that the controller passes once more.
    pub fn touch(&self) {
        let now = json!(self.board.clock.passed().as_secs().to_string());
        self.server.change("Node", NODE, |node| {
            if let Some(labels) = node.pointer_mut("/metadata/labels") {
                set(labels, "touched", now);
            }
        });
    }

    /// Schedules pods and looks after them, for ever.
    pub async fn work(self: Arc<Self>) {
        let mut away = false;
        let mut swept = tokio::time::Instant::now();
        loop {
            let now_away = self.board.is(Trouble::NodeAway);
            if now_away != away {
                away = now_away;
                self.board
                    .journal
                    .fault(format_args!("the virtual node is {}", if away { "away" } else { "back" }));
                self.show(!away);
                if !away {
                    self.lock().clear();
                    self.sweep();
                    swept = tokio::time::Instant::now();
                }
            }
            if away {
                self.find_no_node();
            } else {
                if swept.elapsed() >= SWEEP_EVERY {
                    self.sweep();
                    swept = tokio::time::Instant::now();
                }
                self.look();
            }
            // Bounded, since nothing else tells of a pod that is gone while the node was away.
            let _either = tokio::time::timeout(Duration::from_secs(2), self.server.changed()).await;
            tokio::time::sleep(SEES_WITHIN).await;
        }
    }

    /// Schedules what is not scheduled, and begins to look after what is new.
    fn look(self: &Arc<Self>) {
        for pod in self.server.list("Pod") {
            let (Some(name), Some(uid)) = (text(&pod, "/metadata/name"), text(&pod, "/metadata/uid")) else {
                continue;
            };
            if text(&pod, "/spec/nodeName").is_none() {
                self.server.change("Pod", &name, schedule);
                continue;
            }
            if self.lock().insert(uid.clone()) {
                tokio::spawn(self.clone().look_after(name, uid));
            }
        }
    }

    /// Says of each pod that is not scheduled that there is no node for it.
    fn find_no_node(&self) {
        for pod in self.server.list("Pod") {
            let name = text(&pod, "/metadata/name").filter(|_| text(&pod, "/spec/nodeName").is_none());
            if let Some(name) = name.filter(|_| text(&pod, "/status/phase").is_none()) {
                let condition = json!({
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/1 nodes are available",
                });
                let status = json!({"phase": "Pending", "conditions": [condition]});
                self.server.change("Pod", &name, |pod| set(pod, "status", status));
            }
        }
    }

    /// Looks after one pod until its group's deletion was asked for.
    async fn look_after(self: Arc<Self>, name: String, uid: String) {
        let mut chance = Chance::of(self.board.seed, &format!("virtual node {name}"));
        pause(chance.between(50, 1_200)).await;
        let group = format!("{NAMESPACE}-{name}");
        let mut fates = Vec::new();
        let to_create = self.pod(&name, &uid).filter(|pod| self.arm.get(&group).is_none() && !is_over(pod));
        if let Some(pod) = to_create {
            fates = self.board.group();
            if let Some(late) = fates.iter().find_map(late_by) {
                tokio::time::sleep(Duration::from_secs(late)).await;
            }
            if self.cares_no_more(&uid) {
                return;
            }
            // A creation that has begun is carried out, though the pod be gone meanwhile.
            if let Some((runner, files)) = self.credential(&name) {
                let tags = BTreeMap::from([
                    ("PodName".to_owned(), name.clone()),
                    ("NodeName".to_owned(), NODE.to_owned()),
                    ("Namespace".to_owned(), NAMESPACE.to_owned()),
                    ("UID".to_owned(), uid.clone()),
                    ("CreationTimestamp".to_owned(), created(&pod)),
                ]);
                let made_of = MadeOf { tags, env: environment(&pod), files };
                let put = self.arm.put(&group, &runner, made_of, fates.clone());
                match put {
                    Ok(()) => {}
                    Err(Refused::Quota) => self.fail(&name, &uid, "ContainerGroupQuotaReached"),
                    Err(Refused::CreatedAllTheSame) => self.fail(&name, &uid, "503"),
                }
            } else {
                self.fail(&name, &uid, "its Secret is missing");
            }
        }
        let forgets = fates.contains(&GroupFate::DeletionForgotten);
        let mut told = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(SEES_WITHIN).await;
            if self.cares_no_more(&uid) {
                return;
            }
            match self.pod(&name, &uid) {
                None => break,
                Some(pod) if told.elapsed() >= STATUS_EVERY => {
                    told = tokio::time::Instant::now();
                    self.tell(&name, &pod, self.arm.get(&group).as_ref());
                }
                Some(_) => {}
            }
        }
        if !forgets {
            pause(chance.between(20, 400)).await;
            if self.arm.get(&group).is_some() {
                self.arm.delete(&group, "the virtual node");
            }
        }
    }

    /// Deletes the groups of this node whose pods are gone.
    fn sweep(&self) {
        for group in self.arm.list() {
            let own = group.tags.get("NodeName").is_some_and(|node| node == NODE);
            let pod = group.tags.get("PodName").cloned().unwrap_or_default();
            if own && self.server.get("Pod", &pod).is_none() {
                self.arm.delete(&group.name, "the virtual node's sweep");
            }
        }
    }

    /// Whether the node's process that looked after a pod is gone.
    fn cares_no_more(&self, uid: &str) -> bool {
        self.board.is(Trouble::NodeAway) || !self.lock().contains(uid)
    }

    fn pod(&self, name: &str, uid: &str) -> Option<Value> {
        self.server.get("Pod", name).filter(|pod| text(pod, "/metadata/uid").as_deref() == Some(uid))
    }

    /// The runner of a pod and the files of its Secret; `None` if that is missing.
    fn credential(&self, pod: &str) -> Option<(String, BTreeMap<String, String>)> {
        let secret = self.server.get("Secret", pod)?;
        let mut files = BTreeMap::new();
        for (file, value) in secret.get("data").and_then(Value::as_object).into_iter().flatten() {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
            files.insert(file.clone(), String::from_utf8_lossy(&bytes).into_owned());
        }
        for (file, value) in secret.get("stringData").and_then(Value::as_object).into_iter().flatten() {
            files.insert(file.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        Some((pod.to_owned(), files))
    }

    fn fail(&self, name: &str, uid: &str, why: &str) {
        self.board
            .journal
            .note("virtual node", format_args!("could not create the group of pod {name}: {why}"));
        if self.pod(name, uid).is_some() {
            let status = json!({"phase": "Failed", "reason": "ProviderFailed", "message": why});
            self.server.change("Pod", name, |pod| set(pod, "status", status));
        }
    }

    /// Writes what a group shows into its pod's status, where that is new.
    fn tell(&self, name: &str, pod: &Value, group: Option<&Group>) {
        let phase = text(pod, "/status/phase");
        if matches!(phase.as_deref(), Some("Succeeded" | "Failed")) {
            return;
        }
        let was_running = phase.as_deref() == Some("Running");
        let Some(status) = status(group, was_running) else { return };
        let mut after = pod.get("status").cloned().unwrap_or_else(|| json!({}));
        if let (Some(after), Some(status)) = (after.as_object_mut(), status.as_object()) {
            after.extend(status.clone());
        }
        if pod.get("status") != Some(&after) {
            let shown = status.get("phase").and_then(Value::as_str).unwrap_or_default();
            self.board.journal.note("virtual node", format_args!("says that pod {name} is {shown}"));
            self.server.change("Pod", name, |pod| set(pod, "status", after));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pod has ended.
fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase").as_deref(), Some("Succeeded" | "Failed"))
}

/// When a pod was created, as azure-aci writes it: Go's own form of a time.
fn created(pod: &Value) -> String {
    let at = text(pod, "/metadata/creationTimestamp").unwrap_or_default();
    format!("{} +0000 UTC", at.trim_end_matches('Z').replace('T', " "))
}

/// The plain values of the environment of a pod's container: a group's is made of them.
fn environment(pod: &Value) -> BTreeMap<String, String> {
    let env = pod.pointer("/spec/containers/0/env").and_then(Value::as_array);
    let one = |one: &Value| Some((text(one, "/name")?, text(one, "/value")?));
    env.into_iter().flatten().filter_map(one).collect()
}

/// What a pod's status becomes. A group that vanishes counts only where the pod ran.
fn status(group: Option<&Group>, was_running: bool) -> Option<Value> {
    let Some(group) = group else {
        let gone = json!({
            "phase": "Failed", "reason": "NotFound",
            "containerStatuses": [{"name": "runner", "state": {"terminated": {"exitCode": -137}}}],
        });
        return was_running.then_some(gone);
    };
    let started = group.started.map(|at| at.to_string());
    let (phase, state) = match (group.provisioning_state.as_str(), group.state.as_str()) {
        ("Succeeded", "Running") => ("Running", json!({"running": {"startedAt": started}})),
        ("Succeeded", "Succeeded") => {
            let finished = group.stopped.map(|at| at.to_string());
            let state = json!({
                "terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": finished},
            });
            ("Succeeded", state)
        }
        _ => ("Pending", json!({"waiting": {"reason": "Waiting"}})),
    };
    let container = json!({"name": "runner", "state": state, "restartCount": group.restarts});
    Some(json!({"phase": phase, "containerStatuses": [container]}))
}

fn schedule(pod: &mut Value) {
    if let Some(spec) = pod.get_mut("spec") {
        set(spec, "nodeName", json!(NODE));
    }
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]});
    set(pod, "status", status);
}

fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn late_by(fate: &GroupFate) -> Option<u64> {
    if let GroupFate::TakenUpLate(seconds) = fate { Some(*seconds) } else { None }
}
