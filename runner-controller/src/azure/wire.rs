//! What ARM sends and wants, as JSON, and what it means. Fields may be absent or null: a listing has no instance view,
//! and a group in its first moments has no containers' states.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rust_decimal::prelude::ToPrimitive;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::{CONTAINER, VOLUME};
use crate::ports::{Group, GroupOrder, Usage};

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) groups: Vec<Group>,
    pub(super) next_link: Option<String>,
}

pub(super) fn read_group(body: &[u8]) -> serde_json::Result<Group> {
    serde_json::from_slice::<GroupWire>(body).map(Group::from)
}

pub(super) fn read_page(body: &[u8]) -> serde_json::Result<Page> {
    let page: PageWire = serde_json::from_slice(body)?;
    Ok(Page {
        groups: page.value.into_iter().map(Group::from).collect(),
        next_link: page.next_link.filter(|link| !link.is_empty()),
    })
}

pub(super) fn read_log(body: &[u8]) -> serde_json::Result<String> {
    serde_json::from_slice::<LogWire>(body).map(|log| log.content.unwrap_or_default())
}

/// The usages of a region. Others than those of groups and standard cores (Spot, GPUs) say nothing of runners.
pub(super) fn read_usage(body: &[u8]) -> serde_json::Result<Usage> {
    let wire: UsagesWire = serde_json::from_slice(body)?;
    let find = |name: &str| {
        let mut known = wire.value.iter().filter(|one| one.name.value.eq_ignore_ascii_case(name));
        known.find_map(|one| Some((one.current_value?, one.limit?)))
    };
    Ok(Usage { groups: find("ContainerGroups"), cores: find("StandardCores") })
}

/// The code and message of an error, if the body holds one.
pub(super) fn read_error(body: &[u8]) -> Option<(String, String)> {
    let error = serde_json::from_slice::<ErrorWire>(body).ok()?.error?;
    Some((error.code?, error.message.unwrap_or_default()))
}

/// The body that creates a group.
///
/// Requests equal limits: Azure refuses limits above what the group asks for in total
/// (`ContainerLimitGreaterThanContainerGroupTotalRequest`).
pub(super) fn create_body(order: &GroupOrder) -> serde_json::Result<Vec<u8>> {
    let (cpu, memory) = (order.size.0.to_f64(), order.size.1.to_f64());
    let size = json!({ "cpu": cpu, "memoryInGB": memory });
    let files: BTreeMap<&str, String> = order
        .files
        .iter()
        .map(|(name, content)| (name.as_str(), BASE64_STANDARD.encode(content.expose_secret())))
        .collect();
    let (volumes, mounts) = if files.is_empty() {
        (json!([]), json!([]))
    } else {
        let mount = json!({ "name": VOLUME, "mountPath": order.mount_path, "readOnly": true });
        (json!([{ "name": VOLUME, "secret": files }]), json!([mount]))
    };
    let env: Vec<_> = order.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let registries: Vec<_> = order
        .registries
        .iter()
        .map(|(server, username, password)| {
            json!({ "server": server, "username": username, "password": password.expose_secret() })
        })
        .collect();
    serde_json::to_vec(&json!({
        "location": order.region,
        "tags": order.tags,
        "properties": {
            "sku": "Standard",
            "osType": "Linux",
            "restartPolicy": "Never",
            "containers": [{
                "name": CONTAINER,
                "properties": {
                    "image": order.image,
                    "environmentVariables": env,
                    "resources": { "requests": size, "limits": size },
                    "volumeMounts": mounts,
                },
            }],
            "volumes": volumes,
            "imageRegistryCredentials": registries,
        },
    }))
}

#[derive(Debug, Default, Deserialize)]
struct UsagesWire {
    #[serde(default)]
    value: Vec<UsageWire>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageWire {
    #[serde(default)]
    name: UsageName,
    current_value: Option<u64>,
    limit: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct UsageName {
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageWire {
    value: Vec<GroupWire>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct LogWire {
    content: Option<String>,
}

#[derive(Deserialize)]
struct ErrorWire {
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct GroupWire {
    id: String,
    name: String,
    tags: Option<BTreeMap<String, Option<String>>>,
    properties: Option<GroupProperties>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupProperties {
    provisioning_state: Option<String>,
    containers: Option<Vec<ContainerWire>>,
    instance_view: Option<InstanceView>,
}

#[derive(Deserialize)]
struct ContainerWire {
    properties: Option<ContainerProperties>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerProperties {
    instance_view: Option<InstanceView>,
    environment_variables: Option<Vec<VariableWire>>,
}

/// A variable of a container's environment; a secure one comes without its value.
#[derive(Default, Deserialize)]
#[serde(default)]
struct VariableWire {
    name: Option<String>,
    value: Option<String>,
}

/// Of a group it has a state, of a container a current state, of both events.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct InstanceView {
    state: Option<String>,
    restart_count: Option<u32>,
    current_state: Option<StateWire>,
    events: Option<Vec<EventWire>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StateWire {
    state: Option<String>,
    start_time: Option<String>,
    finish_time: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventWire {
    name: Option<String>,
    message: Option<String>,
    first_timestamp: Option<String>,
    last_timestamp: Option<String>,
}

impl From<GroupWire> for Group {
    fn from(wire: GroupWire) -> Self {
        let properties = wire.properties.unwrap_or_default();
        let mut env = BTreeMap::new();
        let containers: Vec<InstanceView> = properties
            .containers
            .unwrap_or_default()
            .into_iter()
            .map(|container| {
                let container = container.properties.unwrap_or_default();
                let variables = container.environment_variables.unwrap_or_default();
                env.extend(variables.into_iter().filter_map(|one| Some((one.name?, one.value?))));
                container.instance_view.unwrap_or_default()
            })
            .collect();
        let view = properties.instance_view.unwrap_or_default();
        let states = || containers.iter().filter_map(|container| container.current_state.as_ref());
        let events = || containers.iter().flat_map(InstanceView::events);
        let ended = !containers.is_empty()
            && containers.iter().all(|container| {
                container
                    .current_state
                    .as_ref()
                    .is_some_and(|state| state.state.as_deref() == Some("Terminated"))
            });
        Group {
            pull_started: events()
                .filter(|event| event.name.as_deref() == Some("Pulling"))
                .filter_map(|event| moment(event.first_timestamp.as_deref()))
                .min(),
            started: states().filter_map(|state| moment(state.start_time.as_deref())).min(),
            stopped: states()
                .filter_map(|state| moment(state.finish_time.as_deref()))
                .max()
                .filter(|_| ended),
            message: view
                .events()
                .chain(events())
                .max_by_key(|event| event.last_seen())
                .and_then(EventWire::words),
            id: wire.id,
            name: wire.name,
            tags: wire
                .tags
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.unwrap_or_default()))
                .collect(),
            provisioning_state: properties.provisioning_state.unwrap_or_default(),
            state: view.state.unwrap_or_default(),
            restarts: containers
                .iter()
                .filter_map(|container| container.restart_count)
                .fold(0, u32::saturating_add),
            env,
        }
    }
}

impl InstanceView {
    fn events(&self) -> impl Iterator<Item = &EventWire> {
        self.events.iter().flatten()
    }
}

impl EventWire {
    fn last_seen(&self) -> Option<Timestamp> {
        moment(self.last_timestamp.as_deref()).or_else(|| moment(self.first_timestamp.as_deref()))
    }

    fn words(&self) -> Option<String> {
        match (self.name.as_deref(), self.message.as_deref()) {
            (Some(name), Some(message)) => Some(format!("{name}: {message}")),
            (Some(words), None) | (None, Some(words)) => Some(words.to_owned()),
            (None, None) => None,
        }
    }
}

/// A moment as Azure writes it, with or without the zone, which is UTC. The year 1 stands for none.
fn moment(text: Option<&str>) -> Option<Timestamp> {
    let text = text?;
    let at = text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<DateTime>().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    });
    at.filter(|at| *at > Timestamp::UNIX_EPOCH)
}
