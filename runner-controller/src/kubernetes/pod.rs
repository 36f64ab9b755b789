//! The pod of a runner: what it selects and tolerates, what it may use, and how its credential reaches it.
//!
//! Facts about azure-aci that shape it: secret values in the environment reach Azure in plain text, so the credential
//! comes as a Secret volume; requests must equal limits; an absent Secret drops its volume silently unless `optional`
//! is false; a finalizer or owner on the pod would block or end the wrong thing, so it has neither.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, LocalObjectReference, Pod, PodSpec, PodTemplateSpec, ResourceRequirements,
    SecretVolumeSource, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use runner_core::setup::{PlaceKind, Size};

use super::Cluster;
use crate::config::ResolvedPlace;
use crate::config::place::TolerationSpec;
use crate::config::pod_template::CONTAINER;
use crate::ports::{PodOrder, agent};

/// Name of the volume with the credential; azure-aci wants at least five characters.
const VOLUME: &str = "stint-runner";
/// Seconds after which Kubernetes ends the pod whatever happens: GitHub ends a self-hosted job after five days.
const ACTIVE_DEADLINE_SECONDS: i64 = 5 * 24 * 3600 + 3600;

/// Builds the pod.
///
/// # Errors
/// What in the class's `podTemplate` is not of a pod template's form.
pub(super) fn build(cluster: &Cluster, order: &PodOrder) -> Result<Pod, String> {
    let (runner, class, place) = (&order.runner, &order.class, &order.place);
    let template: PodTemplateSpec = match &class.pod_template {
        Some(value) => {
            serde_json::from_value(value.clone()).map_err(|error| format!("podTemplate: {error}"))?
        }
        None => PodTemplateSpec::default(),
    };
    let extra_meta = template.metadata.unwrap_or_default();
    let mut extra = template.spec.unwrap_or_default();
    let own = std::mem::take(&mut extra.containers).into_iter().find(|container| container.name == CONTAINER);
    let own = own.unwrap_or_default();

    let mut labels = extra_meta.labels.unwrap_or_default();
    labels.extend(cluster.labels(&runner.name));
    labels.insert("stint.dev/class".to_owned(), runner.matched.class.clone());
    let mut annotations = extra_meta.annotations.unwrap_or_default();
    // Neither of the two autoscalers may end a busy job.
    annotations.insert("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), "false".to_owned());
    annotations.insert("karpenter.sh/do-not-disrupt".to_owned(), "true".to_owned());
    if place.v2 {
        // A sidecar would keep the group, and the meter, running after the job.
        annotations
            .insert("microsoft.containerinstance.virtualnode.injectkubeproxy".to_owned(), "false".to_owned());
    }

    let mut env = own.env.unwrap_or_default();
    env.extend(
        agent::environment(runner, &order.origin, place.callback.as_ref())
            .into_iter()
            .map(|(name, value)| EnvVar { name, value: Some(value), value_from: None }),
    );
    let mut mounts = own.volume_mounts.unwrap_or_default();
    mounts.push(VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: agent::DIRECTORY.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let mut volumes = extra.volumes.take().unwrap_or_default();
    volumes.push(Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(runner.name.clone()),
            optional: Some(false),
            default_mode: Some(0o400),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let mut tolerations = tolerations(place);
    tolerations.extend(extra.tolerations.take().unwrap_or_default());
    let quantities = quantities(runner.size, class.gpu);

    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(runner.name.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(grace_seconds(place.place.kind)),
            active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
            node_selector: Some(place.node_selector.clone()).filter(|selector| !selector.is_empty()),
            tolerations: Some(tolerations),
            image_pull_secrets: Some(
                class
                    .image_pull_secrets
                    .iter()
                    .map(|name| LocalObjectReference { name: name.clone() })
                    .collect(),
            )
            .filter(|secrets: &Vec<LocalObjectReference>| !secrets.is_empty()),
            volumes: Some(volumes),
            containers: vec![Container {
                name: CONTAINER.to_owned(),
                image: Some(class.image.clone()),
                resources: Some(ResourceRequirements {
                    requests: Some(quantities.clone()),
                    limits: Some(quantities),
                    ..ResourceRequirements::default()
                }),
                env: Some(env),
                volume_mounts: Some(mounts),
                ..own
            }],
            ..extra
        }),
        ..Pod::default()
    })
}

/// The resource by which nodes offer GPUs (NVIDIA device plugin, as AKS installs it).
const GPU: &str = "nvidia.com/gpu";

fn quantities(size: Size, gpu: bool) -> BTreeMap<String, Quantity> {
    let own = [
        ("cpu".to_owned(), Quantity(format!("{}m", size.cpu_millis))),
        ("memory".to_owned(), Quantity(size.memory_bytes.to_string())),
    ];
    own.into_iter().chain(gpu.then(|| (GPU.to_owned(), Quantity("1".to_owned())))).collect()
}

/// How long a pod that is being deleted may take to end. Only a node pool's kubelet heeds it: with no time at all, the pod
/// would be gone before its containers are.
pub(super) fn grace_seconds(kind: PlaceKind) -> i64 {
    match kind {
        PlaceKind::VirtualNode | PlaceKind::ContainerInstances => 0,
        PlaceKind::NodePool => 1,
    }
}

/// What the place's nodes are tainted with (virtual nodes now and formerly), and what a node in trouble gets: a node's
/// trouble must not end a busy job, hence no time limit.
fn tolerations(place: &ResolvedPlace) -> Vec<Toleration> {
    let exists = |key: &str, effect: &str| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let mut all = match place.place.kind {
        PlaceKind::VirtualNode | PlaceKind::ContainerInstances => {
            vec![exists("virtual-kubelet.io/provider", "NoSchedule"), exists("azure.com/aci", "NoSchedule")]
        }
        PlaceKind::NodePool => place.tolerations.iter().map(toleration).collect(),
    };
    all.push(exists("node.kubernetes.io/not-ready", "NoExecute"));
    all.push(exists("node.kubernetes.io/unreachable", "NoExecute"));
    all
}

fn toleration(spec: &TolerationSpec) -> Toleration {
    Toleration {
        key: Some(spec.key.clone()),
        operator: Some(if spec.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: spec.value.clone(),
        effect: spec.effect.map(|effect| format!("{effect:?}")),
        ..Toleration::default()
    }
}

#[cfg(test)]
mod tests;
