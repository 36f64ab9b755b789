//! Runners as pods of one namespace, and the virtual nodes that run them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use runner_core::lifecycle::{Machine, Runner};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::cache::{Cache, follow};
use super::errors::call_error;
use super::{Cluster, INSTALLATION_LABEL, RUNNER_LABEL, pod, trimmed};
use crate::clock;
use crate::config::pod_template::CONTAINER;
use crate::ports::{
    CallError, CallErrorKind, CallResult, PodFound, PodOrder, Pods, PodsObserved, VirtualNodeSeen,
};

/// How many pods are listed at a time: a whole one takes some 37 KiB.
const PAGE: u32 = 200;

/// Pods of runners in a namespace of a cluster.
pub struct KubernetesPods {
    cluster: Cluster,
    pods: Arc<Cache<SeenPod>>,
    nodes: Arc<Cache<Option<VirtualNodeSeen>>>,
    changed: Arc<Notify>,
    _watches: [AbortOnDropHandle<()>; 2],
}

#[derive(Clone, PartialEq)]
struct SeenPod {
    machine: Machine,
    version: String,
}

fn seen(pod: &trimmed::TrimmedPod) -> SeenPod {
    SeenPod {
        machine: trimmed::machine(pod, clock::now()),
        version: pod.metadata.resource_version.clone().unwrap_or_default(),
    }
}

impl KubernetesPods {
    /// Begins to watch.
    pub fn watch(cluster: Cluster) -> Self {
        let changed = Arc::new(Notify::new());
        let (pods, nodes) = (Cache::new(changed.clone()), Cache::new(changed.clone()));
        let selector = format!("{INSTALLATION_LABEL}={}", cluster.installation);
        let watches = [
            follow(
                pods.clone(),
                trimmed::pods(&cluster.client, &cluster.namespace),
                Some(selector),
                |pod: Result<&trimmed::TrimmedPod, String>| pod.ok().map(seen),
            ),
            follow(
                nodes.clone(),
                trimmed::nodes(&cluster.client),
                None,
                |node: Result<&trimmed::TrimmedNode, String>| Some(trimmed::virtual_node(node.ok()?)),
            ),
        ];
        Self { cluster, pods, nodes, changed, _watches: watches }
    }
}

#[async_trait]
impl Pods for KubernetesPods {
    fn observe(&self) -> Option<PodsObserved> {
        let machines: HashMap<String, Machine> =
            self.pods.all()?.into_iter().map(|(name, seen)| (name, seen.machine)).collect();
        let nodes = self.nodes.all()?.into_iter().filter_map(|(_, node)| node).collect();
        Some(PodsObserved { machines, nodes })
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn create(&self, order: &PodOrder) -> CallResult<String> {
        let name = &order.runner.name;
        let wanted = pod::build(&self.cluster, order)
            .map_err(|problem| CallError::new(CallErrorKind::Refused, format!("pod of {name}: {problem}")))?;
        let created = match self.cluster.api::<Pod>().create(&PostParams::default(), &wanted).await {
            Ok(created) => created,
            Err(error) => {
                let error = call_error("create a runner's pod", &error);
                if error.kind == CallErrorKind::Conflict
                    && let Some(uid) = self.find(&order.runner).await?
                {
                    return Ok(uid);
                }
                return Err(error);
            }
        };
        // What was created shows at once, so that the next pass does not take it for vanished.
        let value = serde_json::to_value(&created).unwrap_or_default();
        if let Ok(trimmed) = serde_json::from_value::<trimmed::TrimmedPod>(value) {
            self.pods.apply(name, super::cache::version_of(&created), seen(&trimmed));
        }
        Ok(created.metadata.uid.unwrap_or_default())
    }

    async fn find(&self, runner: &Runner) -> CallResult<Option<String>> {
        let found = self
            .cluster
            .api::<Pod>()
            .get_opt(&runner.name)
            .await
            .map_err(|error| call_error("read a runner's pod", &error))?;
        Ok(found
            .filter(|pod| {
                pod.metadata.labels.as_ref().and_then(|labels| labels.get(RUNNER_LABEL)) == Some(&runner.name)
            })
            .and_then(|pod| pod.metadata.uid))
    }

    async fn delete(&self, runner: &Runner) -> CallResult<()> {
        let uid = match &runner.facts.launched {
            Some(launched) => launched.uid.clone(),
            // Its creation was not seen to succeed, yet it may have: whatever bears the runner's label is its pod.
            None => match self.find(runner).await? {
                Some(uid) => uid,
                None => return Ok(()),
            },
        };
        let seen = self.pods.get(&runner.name);
        // A pod that no node has may get one at this very moment: then it is looked at again before it goes.
        let version = seen.filter(|seen| !seen.machine.scheduled).map(|seen| seen.version);
        let params = DeleteParams {
            grace_period_seconds: Some(u32::try_from(pod::grace_seconds(runner.kind)).unwrap_or_default()),
            preconditions: Some(Preconditions { uid: Some(uid), resource_version: version.clone() }),
            ..DeleteParams::default()
        };
        match self.cluster.api::<Pod>().delete(&runner.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = call_error("delete a runner's pod", &error);
                match error.kind {
                    CallErrorKind::NotFound => Ok(()),
                    // Without a version in question, another UID: the runner's own pod is gone.
                    CallErrorKind::Conflict if version.is_none() => Ok(()),
                    CallErrorKind::Conflict
                    | CallErrorKind::Refused
                    | CallErrorKind::Throttled(_)
                    | CallErrorKind::Unavailable => Err(error),
                }
            }
        }
    }

    fn group_name(&self, runner: &str) -> String {
        // azure-aci names a group after namespace and pod.
        format!("{}-{runner}", self.cluster.namespace)
    }

    fn namespace(&self) -> &str {
        &self.cluster.namespace
    }

    async fn list(&self) -> CallResult<Vec<PodFound>> {
        let selector = format!("{INSTALLATION_LABEL}={}", self.cluster.installation);
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = self.cluster.api::<Pod>().list(&params).await;
            let page = page.map_err(|error| call_error("list runners' pods", &error))?;
            found.extend(page.items.into_iter().map(pod_found));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(found),
            }
        }
    }
}

/// What a pod shows of the runner that it was made for.
fn pod_found(pod: Pod) -> PodFound {
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    let own = containers.into_iter().find(|container| container.name == CONTAINER);
    let variables = own.and_then(|container| container.env).unwrap_or_default();
    PodFound {
        name: pod.metadata.name.unwrap_or_default(),
        uid: pod.metadata.uid.unwrap_or_default(),
        created_at: pod.metadata.creation_timestamp.map(|time| time.0),
        // Of two of a name the later one counts, as in the container.
        env: variables.into_iter().filter_map(|one| Some((one.name, one.value?))).collect(),
    }
}
