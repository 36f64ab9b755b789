//! The body of a PUT: what ACI checks about it, and what the emulator needs out of it.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use crate::arm::error::ArmError;
use crate::options::Limits;

/// When a container is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A container as asked for.
#[derive(Debug, Clone)]
pub(crate) struct RequestedContainer {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Volume name to mount path.
    pub(crate) mounts: Vec<(String, String)>,
    pub(crate) cpu: Decimal,
    pub(crate) memory_gb: Decimal,
}

/// A volume as asked for.
#[derive(Debug, Clone)]
pub(crate) enum Volume {
    /// Files, already decoded.
    Secret(BTreeMap<String, Vec<u8>>),
    /// A directory that the containers share. Azure Files and git volumes are treated alike.
    Directory,
}

/// A group as asked for.
#[derive(Debug, Clone)]
pub(crate) struct Requested {
    /// `properties` as sent, secrets included; [`super::view`] leaves them out.
    pub(crate) properties: Map<String, Value>,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) spot: bool,
    pub(crate) init_containers: Vec<RequestedContainer>,
    pub(crate) containers: Vec<RequestedContainer>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) cpu: Decimal,
    pub(crate) memory_gb: Decimal,
}

impl Requested {
    /// Checks `body` as ACI does.
    ///
    /// The codes `ContainerLimitGreaterThanContainerGroupTotalRequest` and `DuplicateVolumes` are as reported by users
    /// (facts/aci.md); the other codes of this function are the emulator's wording of documented rules.
    pub(crate) fn parse(name: &str, body: &Value, limits: &Limits) -> Result<Self, ArmError> {
        if !is_name(name) {
            return Err(ArmError::bad_request(
                "InvalidContainerGroupName",
                format!(
                    "The container group name '{name}' is invalid: 1 to 63 lower-case letters, digits and hyphens."
                ),
            ));
        }
        let Some(properties) = body.get("properties").and_then(Value::as_object) else {
            return Err(ArmError::bad_request("InvalidRequestContent", "The request has no 'properties'."));
        };
        let os = text(properties.get("osType"));
        if !["linux", "windows"].contains(&os.to_lowercase().as_str()) {
            return Err(ArmError::bad_request("InvalidOsType", format!("The osType '{os}' is invalid.")));
        }
        let restart_policy = match text(properties.get("restartPolicy")).as_str() {
            "" | "Always" => RestartPolicy::Always,
            "OnFailure" => RestartPolicy::OnFailure,
            "Never" => RestartPolicy::Never,
            other => {
                return Err(ArmError::bad_request(
                    "InvalidRestartPolicy",
                    format!("The restartPolicy '{other}' is invalid."),
                ));
            }
        };
        let containers = list(properties.get("containers"))
            .iter()
            .map(|container| parse_container(container, true))
            .collect::<Result<Vec<_>, _>>()?;
        if containers.is_empty() {
            return Err(ArmError::bad_request("MissingContainers", "A container group needs a container."));
        }
        let init_containers = list(properties.get("initContainers"))
            .iter()
            .map(|container| parse_container(container, false))
            .collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        for container in init_containers.iter().chain(&containers) {
            if !names.insert(&container.name) {
                return Err(ArmError::bad_request(
                    "DuplicateContainerName",
                    format!("The container name '{}' is used twice.", container.name),
                ));
            }
        }
        let volumes = parse_volumes(properties, &init_containers, &containers)?;
        let cpu = containers.iter().map(|container| container.cpu).sum();
        let memory_gb = containers.iter().map(|container| container.memory_gb).sum();
        check_resources(name, properties, cpu, memory_gb, limits)?;
        Ok(Self {
            properties: properties.clone(),
            restart_policy,
            spot: text(properties.get("priority")) == "Spot",
            init_containers,
            containers,
            volumes,
            cpu,
            memory_gb,
        })
    }

    /// Whole cores, as quota counts them and the bill rounds them (azure-docs#66379).
    pub(crate) fn whole_cores(&self) -> u32 {
        u32::try_from(self.cpu.ceil()).unwrap_or(u32::MAX).max(1)
    }

    /// Whether an existing group may take on `new` without being deleted first.
    pub(crate) fn allows_update_to(&self, new: &Self) -> bool {
        let os = |requested: &Self| text(requested.properties.get("osType")).to_lowercase();
        self.restart_policy == new.restart_policy
            && self.cpu == new.cpu
            && self.memory_gb == new.memory_gb
            && os(self) == os(new)
    }
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A JSON number without the detour over binary fractions.
fn decimal(value: Option<&Value>) -> Option<Decimal> {
    let number = value?.as_number()?.to_string();
    number.parse().ok().or_else(|| Decimal::from_scientific(&number).ok())
}

fn parse_container(container: &Value, resources_required: bool) -> Result<RequestedContainer, ArmError> {
    let name = text(container.get("name"));
    if !is_name(&name) {
        return Err(ArmError::bad_request(
            "InvalidContainerName",
            format!(
                "The container name '{name}' is invalid: 1 to 63 lower-case letters, digits and hyphens."
            ),
        ));
    }
    let nothing = Value::Null;
    let properties = container.get("properties").unwrap_or(&nothing);
    let image = text(properties.get("image"));
    if image.is_empty() {
        return Err(ArmError::bad_request("MissingImage", format!("The container '{name}' has no image.")));
    }
    let requests = properties.pointer("/resources/requests");
    let cpu = decimal(requests.and_then(|requests| requests.get("cpu")));
    let memory = decimal(requests.and_then(|requests| requests.get("memoryInGB")));
    let (cpu, memory_gb) = match (cpu, memory) {
        (Some(cpu), Some(memory)) if cpu > Decimal::ZERO && memory > Decimal::ZERO => (cpu, memory),
        _ if !resources_required => (Decimal::ZERO, Decimal::ZERO),
        _ => {
            return Err(ArmError::bad_request(
                "MissingContainerResources",
                format!("The container '{name}' must request cpu and memoryInGB."),
            ));
        }
    };
    let environment = list(properties.get("environmentVariables"))
        .iter()
        .map(|variable| {
            let value =
                variable.get("secureValue").filter(|value| value.is_string()).or(variable.get("value"));
            (text(variable.get("name")), text(value))
        })
        .collect();
    let command =
        list(properties.get("command")).iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    let mounts = list(properties.get("volumeMounts"))
        .iter()
        .map(|mount| (text(mount.get("name")), text(mount.get("mountPath"))))
        .collect();
    Ok(RequestedContainer { name, image, command, environment, mounts, cpu, memory_gb })
}

fn parse_volumes(
    properties: &Map<String, Value>,
    init_containers: &[RequestedContainer],
    containers: &[RequestedContainer],
) -> Result<BTreeMap<String, Volume>, ArmError> {
    let mut volumes = BTreeMap::new();
    for volume in list(properties.get("volumes")) {
        let name = text(volume.get("name"));
        if volumes.contains_key(&name) {
            return Err(ArmError::bad_request(
                "DuplicateVolumes",
                format!("The volume '{name}' is given twice."),
            ));
        }
        let parsed = match volume.get("secret").and_then(Value::as_object) {
            None => Volume::Directory,
            Some(files) => {
                let decode = |(file, value): (&String, &Value)| {
                    STANDARD
                        .decode(value.as_str().unwrap_or_default())
                        .map(|bytes| (file.clone(), bytes))
                        .map_err(|_| {
                            ArmError::bad_request(
                                "InvalidSecretVolume",
                                format!("'{file}' of the volume '{name}' is not base64."),
                            )
                        })
                };
                Volume::Secret(files.iter().map(decode).collect::<Result<_, _>>()?)
            }
        };
        volumes.insert(name, parsed);
    }
    for container in init_containers.iter().chain(containers) {
        if let Some((volume, _)) = container.mounts.iter().find(|(volume, _)| !volumes.contains_key(volume)) {
            return Err(ArmError::bad_request(
                "VolumeMountNotFound",
                format!(
                    "The container '{}' mounts the volume '{volume}', which does not exist.",
                    container.name
                ),
            ));
        }
    }
    Ok(volumes)
}

fn check_resources(
    name: &str,
    properties: &Map<String, Value>,
    cpu: Decimal,
    memory_gb: Decimal,
    limits: &Limits,
) -> Result<(), ArmError> {
    for container in list(properties.get("containers")) {
        let limit = |what: &str| decimal(container.pointer(&format!("/properties/resources/limits/{what}")));
        if limit("cpu").is_some_and(|limit| limit > cpu)
            || limit("memoryInGB").is_some_and(|limit| limit > memory_gb)
        {
            return Err(ArmError::bad_request(
                "ContainerLimitGreaterThanContainerGroupTotalRequest",
                format!(
                    "The limit of the container '{}' is greater than the total request ({cpu} CPU, {memory_gb} GB) of the \
                     container group '{name}'.",
                    text(container.get("name"))
                ),
            ));
        }
    }
    if cpu > Decimal::from(limits.group_vcpu) || memory_gb > Decimal::from(limits.group_memory_gb) {
        return Err(ArmError::new(
            StatusCode::CONFLICT,
            "ServiceUnavailable",
            format!(
                "The requested resource ({cpu} CPU, {memory_gb} GB) is not available in this location: the maximum is \
                 {} CPU and {} GB.",
                limits.group_vcpu, limits.group_memory_gb
            ),
        ));
    }
    Ok(())
}
