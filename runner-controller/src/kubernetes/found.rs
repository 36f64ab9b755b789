//! What is there without a record, and writing the record of it again.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{ListParams, PostParams};
use runner_core::lifecycle::RunnerFact;
use runner_core::stray::Foundling;

use super::cache::version_of;
use super::errors::call_error;
use super::records::KubernetesRecords;
use super::seen::SeenRunner;
use super::{Cluster, FINALIZER, INSTALLATION_LABEL, RUNNER_LABEL};
use crate::config::found::FoundRecord;
use crate::config::records::RunnerSpec;
use crate::config::{Runner, convert};
use crate::ports::{CallError, CallErrorKind, CallResult, Records};

/// The namespace that every cluster has, from its first moment to its last.
const OF_THE_CLUSTER: &str = "kube-system";
/// How many Secrets are listed at a time.
const PAGE: u32 = 500;

impl KubernetesRecords {
    /// Writes the record of a runner. One that exists already is no error.
    pub(super) async fn write_runner(&self, name: &str, spec: RunnerSpec) -> CallResult<()> {
        let mut record = Runner::new(name, spec);
        record.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        record.metadata.labels = Some(self.cluster.labels(name));
        match self.cluster.api::<Runner>().create(&PostParams::default(), &record).await {
            Ok(stored) => {
                self.runners.apply(name, version_of(&stored), SeenRunner::of(&stored));
                Ok(())
            }
            Err(error) => {
                let error = call_error("create Runner", &error);
                if error.kind == CallErrorKind::Conflict { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Writes a record again. What makes it one of a machine that is there goes with its spec; the rest follows.
    pub(super) async fn write_found(&self, foundling: &Foundling) -> CallResult<()> {
        let mut spec = convert::runner_spec(&foundling.new, foundling.created_at);
        spec.found = FoundRecord::of(&foundling.facts);
        if spec.found.is_none() {
            let message = format!("Runner {}: nothing tells of its machine", foundling.new.name);
            return Err(CallError::new(CallErrorKind::Refused, message));
        }
        self.write_runner(&foundling.new.name, spec).await?;
        let read = foundling.facts.iter().filter(|fact| matches!(fact, RunnerFact::Group(_)));
        let read: Vec<RunnerFact> = read.cloned().collect();
        self.record(&foundling.new.name, &read).await
    }
}

/// The names of all runners for which there is a Secret. Of the Secrets, only what they are called is asked for.
pub(super) async fn credentials(cluster: &Cluster) -> CallResult<Vec<String>> {
    let selector = format!("{INSTALLATION_LABEL}={},{RUNNER_LABEL}", cluster.installation);
    let mut params = ListParams::default().labels(&selector).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = cluster.api::<Secret>().list_metadata(&params).await;
        let page = page.map_err(|error| call_error("list runners' Secrets", &error))?;
        found.extend(page.items.into_iter().filter_map(|secret| secret.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// What tells this cluster and namespace from any other. It outlives a restored state of the cluster's store, and the
/// namespace.
pub(super) async fn identity(cluster: &Cluster) -> CallResult<String> {
    let found = Api::<Namespace>::all(cluster.client.clone()).get_metadata(OF_THE_CLUSTER).await;
    let found = found.map_err(|error| {
        let error = call_error(&format!("read namespace {OF_THE_CLUSTER}"), &error);
        let message = format!(
            "{}; what Stint makes is marked with its uid: let Stint get that one namespace, as docs/install/rbac.yaml does",
            error.message
        );
        CallError { message, ..error }
    })?;
    let uid = found.metadata.uid.unwrap_or_default();
    Ok(format!("{uid}/{}", cluster.namespace))
}
