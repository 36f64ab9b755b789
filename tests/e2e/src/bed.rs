//! The bed itself: everything started, the documents applied, and the questions that tests ask of it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use emulator_azure::{Azure, AzureHandle};
use emulator_github::{GitHub, GitHubHandle, JobSpec, OwnerSpec, RateLimits};
use serde_json::{Value, json};
use testbed::{Cluster, VirtualNode};

use crate::agent::agent_program;
use crate::interposer::{Interposer, Peer};
use crate::stint::Stint;

/// Namespace of everything.
pub const NAMESPACE: &str = "stint";
/// Installation id.
pub const INSTALLATION: &str = "e2e";
/// Azure subscription.
pub const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
/// Resource group of the container groups.
pub const RESOURCE_GROUP: &str = "testbed";
/// Webhook secret; of no use anywhere else.
const WEBHOOK_SECRET: &str = "e2e webhook";
/// The user as whom `stint` works in the cluster.
const USER: &str = "stint";

/// The kubeconfig with which `stint` comes by way of the interposer.
const KUBECONFIG: &str = "kubeconfig";

/// What a test may want otherwise.
pub struct BedOptions {
    /// The emulator of GitHub.
    pub github: emulator_github::Options,
    /// Changes the emulator of Azure.
    pub azure: Box<dyn FnOnce(&mut emulator_azure::Options) + Send>,
    /// The cluster, besides its virtual node.
    pub cluster: testbed::Options,
    /// Spec of the `RunnerClass` named `stint`.
    pub class: Value,
    /// More fields for the source's `github`.
    pub source: Value,
    /// Further arguments of `stint run`.
    pub arguments: Vec<String>,
    /// Whether a proxy of the tests' own stands between `stint` and each of its peers.
    pub interposed: bool,
}

impl Default for BedOptions {
    fn default() -> Self {
        Self {
            github: emulator_github::Options {
                owners: vec![OwnerSpec::organization("acme")],
                limits: RateLimits::unlimited(),
                ..emulator_github::Options::default()
            },
            azure: Box::new(|_| {}),
            cluster: testbed::Options::default(),
            class: json!({"resources": {"cpu": "1500m", "memory": "2Gi"}, "maxRunners": 60}),
            source: json!({}),
            arguments: vec!["--max-runners".to_owned(), "60".to_owned()],
            interposed: false,
        }
    }
}

/// Everything that a test needs, until it is dropped.
pub struct Bed {
    /// GitHub.
    pub github: GitHubHandle,
    /// Azure.
    pub azure: AzureHandle,
    /// Kubernetes.
    pub cluster: Cluster,
    /// The controller.
    pub stint: Stint,
    /// The test's directory.
    pub directory: tempfile::TempDir,
    /// What stands between `stint` and its peers.
    interposer: Option<Interposer>,
}

impl Bed {
    /// Starts everything, with `stint` ready.
    ///
    /// # Errors
    /// What could not be started.
    pub async fn start(options: BedOptions) -> Result<Self> {
        let mut bed = Self::prepare(options).await?;
        bed.stint.start()?;
        bed.stint.ready(Duration::from_secs(30)).await?;
        Ok(bed)
    }

    /// Starts everything but `stint` itself.
    ///
    /// # Errors
    /// What could not be started.
    pub async fn prepare(options: BedOptions) -> Result<Self> {
        // Both TLS stacks are linked; one is chosen for clients that do not say.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let agent = agent_program()?;
        let mut azure = emulator_azure::Options::fast([agent.display().to_string()]);
        (options.azure)(&mut azure);
        let azure = Azure::start(azure).await?;
        let github = GitHub::start(options.github).await?;
        let node = VirtualNode {
            subscription: SUBSCRIPTION.to_owned(),
            resource_group: RESOURCE_GROUP.to_owned(),
            ..VirtualNode::new(azure.url())
        };
        let cluster = options
            .cluster
            .virtual_node(node)
            .user(testbed::User { name: USER.to_owned(), groups: Vec::new() });
        let cluster = Cluster::start_async(cluster).await?;

        let directory = tempfile::tempdir()?;
        let interposer = match options.interposed {
            true => Some(interpose(&github, &azure, &cluster, directory.path()).await?),
            false => None,
        };
        let (kubeconfig, arm) = match &interposer {
            Some(interposer) => (directory.path().join(KUBECONFIG), interposer.url(Peer::Azure)?),
            None => (cluster.kubeconfig_of(USER), azure.url()),
        };
        let arguments = ["--installation", INSTALLATION, "--namespace", NAMESPACE]
            .into_iter()
            .chain(["--azure-subscription", SUBSCRIPTION, "--azure-resource-group", RESOURCE_GROUP])
            .chain(["--azure-endpoint", arm, "--azure-credential", "managed-identity"])
            .chain(["--log", "stint=debug,runner_core=debug,info"])
            .map(str::to_owned)
            .chain(["--kubeconfig".to_owned(), kubeconfig.display().to_string()])
            .chain(options.arguments)
            .collect();
        let environment = vec![
            ("IDENTITY_ENDPOINT".to_owned(), azure.msi_endpoint()),
            ("IDENTITY_HEADER".to_owned(), azure.identity_header().to_owned()),
        ];
        let stint = Stint::new(directory.path(), "e2e-0", arguments, environment)?;
        github.set_webhook(&format!("{}/webhooks/acme", stint.url()), WEBHOOK_SECRET);
        let bed = Self { github, azure, cluster, stint, directory, interposer };
        bed.install(&options.class, &options.source)?;
        Ok(bed)
    }

    /// Applies what an admin applies: kinds, rights, and the two documents with their Secret.
    fn install(&self, class: &Value, source: &Value) -> Result<()> {
        self.cluster.apply(include_str!("../../../docs/install/crds.yaml"))?;
        self.cluster.apply(include_str!("../../../docs/install/rbac.yaml"))?;
        // The manifests bind the service account; outside a pod, `stint` comes as a user.
        let namespace = NAMESPACE;
        for (kind, flag) in [("rolebinding", "--role"), ("clusterrolebinding", "--clusterrole")] {
            self.cluster.kubectl(&[
                "create",
                kind,
                "stint-user",
                flag,
                "stint",
                "--user",
                USER,
                "-n",
                namespace,
            ])?;
        }
        for kind in ["runnersources", "runnerclasses", "runners", "runnerjobs", "runnerplaces", "admissions"]
        {
            self.cluster.kubectl(&[
                "wait",
                "--for=condition=Established",
                "--timeout=20s",
                &format!("crd/{kind}.stint.dev"),
            ])?;
        }
        let api = match &self.interposer {
            Some(interposer) => interposer.url(Peer::GitHub)?,
            None => self.github.url(),
        };
        let mut github = json!({"owners": ["acme"], "secretRef": "acme-app", "apiUrl": api});
        if let (Some(fields), Some(more)) = (github.as_object_mut(), source.as_object()) {
            fields.extend(more.clone());
        }
        let documents = [
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme-app", "namespace": NAMESPACE},
                "stringData": {
                    "appId": self.github.app_id().to_string(),
                    "privateKey": self.github.app_private_key_pem(),
                    "webhookSecret": WEBHOOK_SECRET,
                },
            }),
            json!({
                "apiVersion": "stint.dev/v1alpha1", "kind": "RunnerSource",
                "metadata": {"name": "acme", "namespace": NAMESPACE}, "spec": {"github": github},
            }),
            json!({
                "apiVersion": "stint.dev/v1alpha1", "kind": "RunnerClass",
                "metadata": {"name": "stint", "namespace": NAMESPACE}, "spec": class,
            }),
        ];
        for document in documents {
            self.cluster.apply(&document.to_string())?;
        }
        Ok(())
    }

    /// What stands between `stint` and its peers.
    ///
    /// # Errors
    /// When the bed was started without.
    pub fn interposer(&self) -> Result<&Interposer> {
        self.interposer.as_ref().context("BedOptions::interposed was not set")
    }

    /// Another replica, which keeps its state in `directory`; not started.
    ///
    /// # Errors
    /// When no port is free.
    pub fn another(&self, directory: &std::path::Path, identity: &str) -> Result<Stint> {
        self.stint.like(directory, identity)
    }

    /// A job of the repository `acme/app` that asks for the class `stint`.
    pub fn job(&self) -> JobSpec {
        JobSpec::new("acme/app", &["self-hosted", "stint"])
    }

    /// The webhook secret.
    pub fn webhook_secret(&self) -> &'static str {
        WEBHOOK_SECRET
    }

    /// Asks again and again until there is an answer.
    ///
    /// # Errors
    /// Those of `ask`, and the last state it told once the deadline has passed.
    pub async fn eventually<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut ask: impl FnMut(&Self) -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            // kubectl blocks; the emulators on this runtime's other threads go on.
            let answer = tokio::task::block_in_place(|| ask(self))?;
            match answer {
                Ok(found) => return Ok(found),
                Err(state) if tokio::time::Instant::now() >= end => {
                    bail!(
                        "waited {deadline:?} for {what}; now: {state}\nstint's log ends:\n{}",
                        self.stint.log_tail()
                    );
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// All objects of a kind in the namespace.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn objects(&self, kind: &str) -> Result<Vec<Value>> {
        let text = self.cluster.kubectl(&["get", kind, "-n", NAMESPACE, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Runs the `stint` program with arguments, and returns what it prints.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = std::process::Command::new(crate::program()?)
            .args(arguments)
            .env("STINT_API", self.stint.api_url())
            .output()?;
        ensure!(
            output.status.success(),
            "stint {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Stands between `stint` and its peers, and writes the kubeconfig that leads there.
async fn interpose(
    github: &GitHubHandle,
    azure: &AzureHandle,
    cluster: &Cluster,
    directory: &std::path::Path,
) -> Result<Interposer> {
    let info = cluster.info();
    let peers = [
        (Peer::Kubernetes, info.apiserver.as_str()),
        (Peer::GitHub, github.url()),
        (Peer::Azure, azure.url()),
    ];
    let interposer = Interposer::start(&peers, &info.ca_certificate).await?;
    let token = info.tokens.get(USER).context("the cluster has no such user")?;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {"server": interposer.url(Peer::Kubernetes)?}}],
        "users": [{"name": USER, "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": USER}}],
    });
    std::fs::write(directory.join(KUBECONFIG), kubeconfig.to_string())?;
    Ok(interposer)
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A test that fails by an error has no other way to tell what stint did.
        if std::env::var_os("STINT_E2E_LOG").is_some() {
            eprintln!("--- stint's log ---\n{}", self.stint.log());
        }
    }
}
