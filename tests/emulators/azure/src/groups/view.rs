//! How a group looks from outside: as ARM's JSON, which never gives a secret back, and as a typed snapshot for tests.
//!
//! What azure-aci v1.6.4 insists on in a GET (its `pkg/validation`): name, id, tags, containers, `instanceView.state`, and per
//! container image, non-null `ports`, `instanceView.{currentState,restartCount,events}`; without `currentState.startTime` it
//! leaves the pod Pending. It also follows `detailStatus` and, for failed states, `exitCode` without a nil check.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Container, ContainerState, ContainerStatus, Event, Group, GroupState, ProvisioningState};

/// The group as a test sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// Distinguishes groups that had the same name one after the other.
    pub number: u64,
    /// Subscription as in the PUT's path.
    pub subscription: String,
    /// Resource group as in the PUT's path.
    pub resource_group: String,
    /// Name of the group.
    pub name: String,
    /// Region.
    pub location: String,
    /// ARM tags.
    pub tags: BTreeMap<String, String>,
    /// ARM's `provisioningState`.
    pub provisioning_state: ProvisioningState,
    /// `instanceView.state`.
    pub state: GroupState,
    /// Its containers, without init containers.
    pub containers: Vec<ContainerView>,
    /// When the PUT was accepted.
    pub created_at: Timestamp,
    /// Start of the first image pull.
    pub pull_started_at: Option<Timestamp>,
    /// When the whole group stopped.
    pub stopped_at: Option<Timestamp>,
    /// When ARM began to answer 404.
    pub deleted_at: Option<Timestamp>,
}

/// A container as a test sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// `currentState.state`.
    pub status: ContainerStatus,
    /// `currentState.detailStatus`.
    pub detail: String,
    /// `currentState.startTime`.
    pub started_at: Option<Timestamp>,
    /// `currentState.finishTime`.
    pub finished_at: Option<Timestamp>,
    /// `currentState.exitCode`.
    pub exit_code: Option<i32>,
    /// How often it was started again.
    pub restart_count: u32,
    /// The process that stands for it, while it runs.
    pub pid: Option<u32>,
}

/// The snapshot of `group`.
pub(crate) fn snapshot(group: &Group) -> GroupView {
    GroupView {
        number: group.number,
        subscription: group.subscription.clone(),
        resource_group: group.resource_group.clone(),
        name: group.name.clone(),
        location: group.location.clone(),
        tags: group.tags.clone(),
        provisioning_state: group.provisioning,
        state: group.state,
        containers: group.containers.iter().map(snapshot_container).collect(),
        created_at: group.created_at,
        pull_started_at: group.billed.first().map(|(started, _)| *started),
        stopped_at: group.billed.last().and_then(|(_, stopped)| *stopped),
        deleted_at: group.deleted_at,
    }
}

fn snapshot_container(container: &Container) -> ContainerView {
    ContainerView {
        name: container.name.clone(),
        image: container.image.clone(),
        status: container.current.status,
        detail: container.current.detail.clone(),
        started_at: container.current.started_at,
        finished_at: container.current.finished_at,
        exit_code: container.current.exit_code,
        restart_count: container.restart_count,
        pid: container.pid,
    }
}

/// The group as ARM shows it; lists leave `instanceView` out.
pub(crate) fn arm(group: &Group, with_instance_view: bool) -> Value {
    let mut properties = group.requested.properties.clone();
    for key in ["instanceView", "provisioningState"] {
        properties.remove(key);
    }
    for (key, default) in [("sku", "Standard"), ("restartPolicy", "Always")] {
        properties.entry(key).or_insert_with(|| json!(default));
    }
    properties.insert("provisioningState".to_owned(), json!(group.provisioning));
    redact_volumes(&mut properties);
    redact_registry_passwords(&mut properties);
    show_containers(&mut properties, "initContainers", &group.init_containers, with_instance_view);
    show_containers(&mut properties, "containers", &group.containers, with_instance_view);
    if let Some(Value::Object(address)) = properties.get_mut("ipAddress")
        && group.state == GroupState::Running
    {
        address.insert("ip".to_owned(), json!(address_of(group)));
    }
    if with_instance_view {
        let view = json!({ "state": group.state, "events": events(&group.events) });
        properties.insert("instanceView".to_owned(), view);
    }
    let mut shown = json!({
        "id": group.arm_id(),
        "name": group.name,
        "type": "Microsoft.ContainerInstance/containerGroups",
        "location": group.location,
        "tags": group.tags,
        "properties": properties,
    });
    if let (Some(identity), Some(object)) = (&group.identity, shown.as_object_mut()) {
        object.insert("identity".to_owned(), identity.clone());
    }
    shown
}

/// A made-up address that differs between groups.
fn address_of(group: &Group) -> String {
    format!("10.240.{}.{}", group.number / 250 % 250, group.number % 250 + 4)
}

fn redact_volumes(properties: &mut Map<String, Value>) {
    for volume in each_mut(properties, "volumes") {
        if let Some(secret) = volume.get_mut("secret") {
            *secret = json!({});
        }
        if let Some(share) = volume.get_mut("azureFile").and_then(Value::as_object_mut) {
            share.remove("storageAccountKey");
        }
    }
}

fn redact_registry_passwords(properties: &mut Map<String, Value>) {
    for credential in each_mut(properties, "imageRegistryCredentials") {
        if let Some(credential) = credential.as_object_mut() {
            credential.remove("password");
        }
    }
}

fn each_mut<'a>(properties: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Value> {
    properties.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn show_containers(
    properties: &mut Map<String, Value>,
    key: &str,
    containers: &[Container],
    with_instance_view: bool,
) {
    for (shown, container) in each_mut(properties, key).zip(containers) {
        let Some(shown) = shown.get_mut("properties").and_then(Value::as_object_mut) else { continue };
        if shown.get("ports").is_none_or(Value::is_null) {
            shown.insert("ports".to_owned(), json!([]));
        }
        for variable in each_mut(shown, "environmentVariables") {
            if let Some(variable) = variable.as_object_mut() {
                variable.remove("secureValue");
            }
        }
        shown.remove("instanceView");
        if with_instance_view {
            let mut view = json!({
                "restartCount": container.restart_count,
                "currentState": state(&container.current),
                "events": events(&container.events),
            });
            if let (Some(previous), Some(view)) = (&container.previous, view.as_object_mut()) {
                view.insert("previousState".to_owned(), state(previous));
            }
            shown.insert("instanceView".to_owned(), view);
        }
    }
}

fn state(state: &ContainerState) -> Value {
    json!({
        "state": state.status,
        "detailStatus": state.detail,
        "startTime": state.started_at,
        "finishTime": state.finished_at,
        "exitCode": state.exit_code,
    })
}

fn events(events: &[Event]) -> Value {
    let one = |event: &Event| {
        json!({
            "name": event.name,
            "type": event.kind,
            "message": event.message,
            "count": event.count,
            "firstTimestamp": event.first,
            "lastTimestamp": event.last,
        })
    };
    events.iter().map(one).collect()
}
