use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

const CREATED: &str = "2026-03-01T10:00:00Z";
const STARTED: &str = "2026-03-01T10:01:00Z";
const FINISHED: &str = "2026-03-01T10:09:00Z";
const NOW: &str = "2026-03-01T11:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn pod(spec: Value, status: Value) -> TrimmedPod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "prod1-x", "uid": "uid-1", "creationTimestamp": CREATED},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn seen(status: Value) -> Machine {
    machine(&pod(json!({"nodeName": "vn"}), status), at(NOW))
}

fn container(state: Value) -> Value {
    json!([{"name": "runner", "state": state}])
}

#[test]
fn phases_are_what_the_platform_means_by_its_own() {
    #[track_caller]
    fn check(status: Value, phase: MachinePhase, since: &str) {
        let machine = seen(status.clone());
        assert_eq!((machine.phase, machine.since), (phase, at(since)), "{status}");
    }
    let running = container(json!({"running": {"startedAt": STARTED}}));
    let terminated =
        container(json!({"terminated": {"startedAt": STARTED, "finishedAt": FINISHED, "exitCode": 0}}));
    let never_ran = container(json!({"terminated": {"finishedAt": FINISHED, "exitCode": -137}}));
    let waiting = container(json!({"waiting": {"reason": "ContainerCreating"}}));

    check(json!({}), MachinePhase::Pending, CREATED);
    check(json!({"phase": "Pending"}), MachinePhase::Pending, CREATED);
    check(json!({"phase": "Pending", "containerStatuses": waiting}), MachinePhase::Pending, CREATED);
    check(json!({"phase": "Running", "containerStatuses": running}), MachinePhase::Running, STARTED);
    check(json!({"phase": "Running", "startTime": STARTED}), MachinePhase::Running, STARTED);
    check(json!({"phase": "Running", "containerStatuses": terminated}), MachinePhase::Ended, FINISHED);
    check(json!({"phase": "Succeeded", "containerStatuses": terminated}), MachinePhase::Ended, FINISHED);
    check(json!({"phase": "Failed", "containerStatuses": terminated}), MachinePhase::Ended, FINISHED);
    check(json!({"phase": "Failed", "reason": "ProviderFailed"}), MachinePhase::StartFailed, CREATED);
    check(
        json!({"phase": "Failed", "reason": "ProviderFailed", "containerStatuses": waiting}),
        MachinePhase::StartFailed,
        CREATED,
    );
    check(json!({"phase": "Failed", "containerStatuses": never_ran}), MachinePhase::StartFailed, CREATED);
    check(
        json!({"phase": "Failed", "reason": "NotFound", "containerStatuses": never_ran}),
        MachinePhase::Ended,
        FINISHED,
    );
    // A group that is Stopped or Unhealthy, and one of which nothing is known yet.
    check(json!({"phase": "Unknown", "containerStatuses": terminated}), MachinePhase::Ended, FINISHED);
    check(json!({"phase": "Unknown", "containerStatuses": running}), MachinePhase::Running, STARTED);
    check(json!({"phase": "Unknown"}), MachinePhase::Pending, CREATED);
}

#[test]
fn an_end_without_a_time_began_when_it_was_seen() {
    assert_eq!(seen(json!({"phase": "Succeeded"})).since, at(NOW));
    assert_eq!(seen(json!({"phase": "Failed", "reason": "NotFound"})).since, at(NOW));
}

#[test]
fn a_pod_is_scheduled_once_a_node_has_it() {
    let check = |spec: Value, condition: Option<&str>, expect: bool| {
        let conditions: Vec<Value> =
            condition.iter().map(|status| json!({"type": "PodScheduled", "status": status})).collect();
        let pod = pod(spec.clone(), json!({"phase": "Pending", "conditions": conditions}));
        assert_eq!(machine(&pod, at(NOW)).scheduled, expect, "{spec} {condition:?}");
    };
    check(json!({"nodeName": "vn"}), None, true);
    check(json!({}), Some("True"), true);
    check(json!({}), Some("False"), false);
    check(json!({"nodeName": ""}), None, false);
    check(json!({}), None, false);
}

#[test]
fn why_is_the_first_word_that_the_pod_has_for_it() {
    #[track_caller]
    fn check(status: Value, expect: Option<&str>) {
        assert_eq!(seen(status.clone()).why.as_deref(), expect, "{status}");
    }
    let unschedulable = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]);
    let pulling = container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}));
    check(json!({"phase": "Running"}), None);
    check(
        json!({"reason": "ProviderFailed", "message": "quota\nreached"}),
        Some("ProviderFailed: quota reached"),
    );
    check(json!({"reason": "NotFound"}), Some("NotFound"));
    check(json!({"message": "gone"}), Some("gone"));
    check(json!({"containerStatuses": pulling}), Some("ImagePullBackOff: no such image"));
    check(json!({"conditions": unschedulable}), Some("Unschedulable: 0/3 nodes"));
    let all = json!({"reason": "ProviderFailed", "containerStatuses": pulling, "conditions": unschedulable});
    check(all, Some("ProviderFailed"));
    check(json!({"conditions": [{"type": "PodScheduled", "status": "True", "reason": "Bound"}]}), None);
}

#[test]
fn a_long_word_is_cut_between_characters() {
    let why = seen(json!({"reason": "ProviderFailed", "message": "ü".repeat(5000)})).why.unwrap();
    assert_eq!(why.chars().count(), 500);
    assert!(why.starts_with("ProviderFailed: ü"));
}

#[test]
fn a_deletion_under_way_shows() {
    let mut pod = pod(json!({"nodeName": "vn"}), json!({"phase": "Running"}));
    assert!(!machine(&pod, at(NOW)).deleting);
    pod.metadata.deletion_timestamp = Some(Time(at(NOW)));
    let machine = machine(&pod, at(NOW));
    assert!(machine.deleting);
    assert_eq!(machine.uid, "uid-1");
}

/// A pod as an API server hands it out: most of it is of no use here.
#[test]
fn a_whole_pod_is_trimmed_to_what_decisions_need() {
    let fields: Value = (0..300).map(|index| (format!("f:field{index}"), json!({}))).collect();
    let whole = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "prod1-x", "namespace": "stint", "uid": "uid-1", "resourceVersion": "9",
            "creationTimestamp": CREATED, "labels": {"stint.dev/runner": "prod1-x"},
            "managedFields": [{"manager": "stint", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}],
        },
        "spec": {
            "nodeName": "vn",
            "containers": [{"name": "runner", "image": "canary-image", "env": [{"name": "A", "value": "canary-env"}]}],
            "volumes": [{"name": "canary-volume", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.9", "qosClass": "Guaranteed",
            "containerStatuses": [{
                "name": "runner", "imageID": "canary-id", "restartCount": 0,
                "state": {"running": {"startedAt": STARTED}},
            }],
        },
    });
    let trimmed: TrimmedPod = serde_json::from_value(whole).unwrap();
    assert_eq!(machine(&trimmed, at(NOW)).phase, MachinePhase::Running);
    let spec_and_status = serde_json::to_string(&(&trimmed.spec, &trimmed.status)).unwrap();
    assert!(!spec_and_status.contains("canary"), "{spec_and_status}");
    assert!(spec_and_status.len() < 600, "{spec_and_status}");
}

/// What is kept of a pod for as long as it lives does not hold the metadata, hence no `managedFields` either.
#[test]
fn a_machine_is_small() {
    assert!(size_of::<Machine>() <= 128, "{}", size_of::<Machine>());
}

fn node(labels: Value, taints: Value, conditions: Value) -> Option<VirtualNodeSeen> {
    let node: TrimmedNode = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "vn", "labels": labels},
        "spec": {"taints": taints}, "status": {"conditions": conditions, "images": [{"names": ["x"]}]},
    }))
    .unwrap();
    virtual_node(&node)
}

#[test]
fn a_virtual_node_is_known_by_its_labels_or_its_taint() {
    let check = |labels: Value, taints: Value, expect: bool| {
        assert_eq!(node(labels.clone(), taints.clone(), json!([])).is_some(), expect, "{labels} {taints}");
    };
    let taint = |key: &str| json!([{"key": key, "value": "azure", "effect": "NoSchedule"}]);
    check(json!({"type": "virtual-kubelet"}), json!([]), true);
    check(json!({"virtualization": "virtualnode2"}), json!([]), true);
    check(json!({}), taint("virtual-kubelet.io/provider"), true);
    check(json!({"type": "gpu"}), json!([]), false);
    check(json!({"kubernetes.io/role": "agent"}), json!([]), false);
    check(json!({}), taint("node.kubernetes.io/not-ready"), false);
    check(json!({}), json!([]), false);
}

#[test]
fn a_node_is_ready_by_its_condition_alone() {
    let ready =
        |conditions: Value| node(json!({"type": "virtual-kubelet"}), json!([]), conditions).unwrap().ready;
    assert!(ready(json!([{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}])));
    assert!(!ready(json!([{"type": "Ready", "status": "False"}])));
    assert!(!ready(json!([{"type": "Ready", "status": "Unknown"}])));
    assert!(!ready(json!([{"type": "DiskPressure", "status": "True"}])));
    assert!(!ready(json!([])));
}

#[test]
fn a_nodes_labels_and_taints_are_kept() {
    let taints = json!([{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]);
    let seen = node(json!({"type": "virtual-kubelet", "a": "b"}), taints, json!([])).unwrap();
    assert_eq!((seen.name.as_str(), seen.labels.len()), ("vn", 2));
    let taint = |key: &str, value: &str, effect: &str| (key.to_owned(), value.to_owned(), effect.to_owned());
    assert_eq!(
        seen.taints,
        [taint("virtual-kubelet.io/provider", "azure", "NoSchedule"), taint("a", "", "NoExecute")]
    );
}

#[test]
fn only_the_restarts_of_the_runners_own_container_count() {
    let running = json!({"running": {"startedAt": STARTED}});
    let status = json!({"phase": "Running", "containerStatuses": [
        {"name": "runner", "restartCount": 2, "state": running},
        {"name": "injected", "restartCount": 7, "state": running},
    ]});
    assert_eq!(seen(status).restarts, 2);
    assert_eq!(seen(json!({"phase": "Pending"})).restarts, 0);
}
