//! The adapter to Kubernetes: records and documents as custom resources, runners as pods, one acting replica by Lease.
//!
//! No kube type leaves this folder, save those of the API types in `config`.

mod announcer;
mod cache;
mod documents;
mod errors;
mod found;
pub mod lease;
mod limited;
pub mod pod;
mod pods;
mod records;
mod reservations;
mod seen;
mod trimmed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource};

pub use pods::KubernetesPods;
pub use records::KubernetesRecords;

/// Label on everything that Stint makes: the installation's id.
pub const INSTALLATION_LABEL: &str = "stint.dev/installation";
/// Label on a runner's pod and Secret: the runner's name.
pub const RUNNER_LABEL: &str = "stint.dev/runner";
/// Finalizer on a `Runner` until its group is confirmed gone and billed.
pub const FINALIZER: &str = "stint.dev/group";

/// How long an answer may take. A webhook of the cluster's may take 10 s of it, if nobody allows it more.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// A connection to a cluster, and the namespace in which Stint works.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    installation: String,
}

impl Cluster {
    /// Connects by kubeconfig file, or as the environment says (a pod's service account, `KUBECONFIG`, ~/.kube/config).
    ///
    /// # Errors
    /// A configuration that cannot be read.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        namespace: &str,
        installation: &str,
    ) -> anyhow::Result<Self> {
        let config = match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("--kubeconfig {}: cannot be read", path.display()))?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .with_context(|| format!("--kubeconfig {}: cannot be used", path.display()))?
            }
            None => kube::Config::infer().await.context(
                "no cluster is configured: pass --kubeconfig, set KUBECONFIG, or run inside a cluster",
            )?,
        };
        let client = Client::try_from(config).context("the cluster's configuration cannot be used")?;
        Ok(Self::of_client(client, namespace, installation))
    }

    /// A connection by a client that is there already, within a runtime.
    pub fn of_client(client: Client, namespace: &str, installation: &str) -> Self {
        let client = limited::limited(&client, ANSWERED_WITHIN, |_, _| {});
        Self { client, namespace: namespace.to_owned(), installation: installation.to_owned() }
    }

    /// The namespace in which Stint works.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The labels of everything that belongs to one runner.
    fn labels(&self, runner: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), "stint".to_owned()),
            (INSTALLATION_LABEL.to_owned(), self.installation.clone()),
            (RUNNER_LABEL.to_owned(), runner.to_owned()),
        ])
    }
}
