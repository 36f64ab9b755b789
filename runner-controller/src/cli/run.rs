//! `stint run`: the controller's settings, and its signals.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::signal::unix::{SignalKind, signal};

use crate::azure::{ArmOptions, CredentialKind};
use crate::config::{Callback, Installation, limit, quantity};
use crate::ledger::{LedgerLocation, PostgresSettings};
use crate::reconcile::wiring::{Controller, RecordsSettings, RunSettings};
use crate::sqlite::Location;
use crate::telemetry::{LogFormat, init_logging};

/// A group's name is `<namespace>-<runner>`, at most 63 characters; a runner's takes up to 25 of them.
const LONGEST_NAMESPACE: usize = 63 - 1 - 25;

/// Arguments of `stint run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    installation: InstallationArguments,
    /// Kubeconfig file. Default: the pod's service account, KUBECONFIG, or ~/.kube/config.
    #[arg(long, env = "STINT_KUBECONFIG", conflicts_with = "local")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of documents, records and runners.
    #[arg(long, env = "STINT_NAMESPACE", default_value = "stint")]
    namespace: String,
    /// Work without a cluster: directory with the documents, read again when they change.
    #[arg(long, env = "STINT_LOCAL", value_name = "DIRECTORY")]
    local: Option<PathBuf>,
    /// Directory for what must outlive the process: the ledger, unless --ledger says otherwise, and the records of --local.
    #[arg(long, env = "STINT_STATE_DIRECTORY", default_value = "stint-state", value_name = "DIRECTORY")]
    state_directory: PathBuf,
    /// Where bills are kept: a SQLite file, or postgres://ROLE@HOST/DATABASE, which several replicas may share; without
    /// `sslmode` a server elsewhere must prove who it is. Default: ledger.db in the state directory.
    #[arg(long, env = "STINT_LEDGER", value_name = "FILE|URL", hide_env_values = true)]
    ledger: Option<SecretString>,
    /// File with the password of --ledger, read again for new connections.
    #[arg(long, env = "STINT_LEDGER_PASSWORD_FILE", value_name = "FILE", requires = "ledger")]
    ledger_password_file: Option<PathBuf>,
    /// Take over although the rows of this installation are in another ledger, which is lost for good.
    #[arg(long, env = "STINT_ADOPT_LEDGER")]
    adopt_ledger: bool,
    /// How many jobs are stored at most; deliveries beyond that are answered 503.
    #[arg(long, env = "STINT_MAX_STORED_JOBS", default_value_t = 20_000)]
    max_stored_jobs: usize,
    /// Seconds for which deliveries are still taken after SIGTERM, while whoever routes them learns of the end.
    #[arg(long, env = "STINT_SHUTDOWN_DELAY", default_value_t = 5, value_name = "SECONDS")]
    shutdown_delay: u64,
    /// Who this replica is, for the Lease. Default: the host's name.
    #[arg(long, env = "STINT_IDENTITY")]
    identity: Option<String>,
    /// Address for webhooks and the agents' call-backs. Plain HTTP: TLS ends in front of it.
    #[arg(long, env = "STINT_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Address for probes and metrics.
    #[arg(long, env = "STINT_INTERNAL_LISTEN", default_value = "0.0.0.0:9090")]
    internal_listen: SocketAddr,
    /// Address of the API that `stint logs`, `stint bill` and others ask. Keep it on loopback.
    #[arg(long, env = "STINT_API_LISTEN", default_value = "127.0.0.1:9091")]
    api_listen: SocketAddr,
    /// How Stint signs in to Azure.
    #[arg(long, env = "STINT_AZURE_CREDENTIAL", value_enum, default_value_t = Credential::Auto)]
    azure_credential: Credential,
    /// Client id of a user-assigned managed identity.
    #[arg(long, env = "STINT_AZURE_CLIENT_ID")]
    azure_client_id: Option<String>,
    /// Base URL of Azure Resource Manager; another one for sovereign clouds.
    #[arg(long, env = "STINT_AZURE_ENDPOINT", default_value = "https://management.azure.com")]
    azure_endpoint: String,
    /// HTTP proxy for calls to Azure, as http://[user:password@]host:port.
    #[arg(long, env = "STINT_AZURE_PROXY", hide_env_values = true)]
    azure_proxy: Option<String>,
    /// PEM file with certificates to trust for calls to Azure besides the public ones.
    #[arg(long, env = "STINT_AZURE_CA_FILE")]
    azure_ca_file: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, env = "STINT_LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
    /// What is logged, as `info` or `stint=debug,kube=warn`.
    #[arg(
        long,
        env = "STINT_LOG",
        default_value = "info,kube_lease_manager=warn,azure_identity=warn,typespec_client_core=warn"
    )]
    log: String,
}

/// What documents fall back on.
#[derive(Debug, Args)]
pub(super) struct InstallationArguments {
    /// Installation id: it starts the name of everything that Stint makes. 1 to 8 of a-z0-9, beginning with a letter.
    #[arg(long, env = "STINT_INSTALLATION", default_value = "stint")]
    installation: String,
    /// How many runners there may be at once, over all classes.
    #[arg(long, env = "STINT_MAX_RUNNERS", default_value_t = 50)]
    max_runners: u32,
    /// YAML file with the list of priorities, each as {match: {repositories: [acme/*]}, priority: 10}; the first one
    /// that matches a job holds, 0 where none does, and a higher one goes first.
    #[arg(long, env = "STINT_PRIORITIES", value_name = "FILE")]
    priorities: Option<PathBuf>,
    /// How long a job waits for each step that its priority rises, up to the highest of the list. Default: 10m.
    #[arg(long, env = "STINT_AGE_EVERY", value_name = "DURATION")]
    age_every: Option<String>,
    /// How long a job waits before room is kept for it that smaller ones would take. Default: 10m.
    #[arg(long, env = "STINT_RESERVE_AFTER", value_name = "DURATION")]
    reserve_after: Option<String>,
    /// Base URL at which the agents in runners reach --listen; a virtual node's pods reach no ClusterIP.
    #[arg(long, env = "STINT_CALLBACK_URL")]
    callback_url: Option<String>,
    /// PEM file with certificates that agents trust for --callback-url.
    #[arg(long, env = "STINT_CALLBACK_CA_FILE", requires = "callback_url")]
    callback_ca_file: Option<PathBuf>,
    /// Azure subscription id of the container groups.
    #[arg(long, env = "STINT_AZURE_SUBSCRIPTION")]
    azure_subscription: Option<String>,
    /// Resource group of the container groups.
    #[arg(long, env = "STINT_AZURE_RESOURCE_GROUP")]
    azure_resource_group: Option<String>,
    /// Azure region, such as westeurope.
    #[arg(long, env = "STINT_AZURE_REGION")]
    azure_region: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Credential {
    /// Workload identity where its token file is set, else managed identity, else the developer's own sign-in.
    Auto,
    /// AKS workload identity.
    WorkloadIdentity,
    /// The machine's or the App Service's managed identity.
    ManagedIdentity,
    /// The Azure CLI's sign-in.
    AzureCli,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl InstallationArguments {
    pub(super) fn resolve(&self) -> anyhow::Result<Installation> {
        let id = &self.installation;
        let fine = (1..=8).contains(&id.len())
            && id.starts_with(|first: char| first.is_ascii_lowercase())
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        anyhow::ensure!(
            fine,
            "--installation {id:?}: it must be 1 to 8 of a-z0-9, beginning with a letter, such as \"prod1\""
        );
        let ca_bundle = match &self.callback_ca_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("--callback-ca-file {}: cannot be read", path.display()))?,
            ),
            None => None,
        };
        let priorities = match &self.priorities {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--priorities {}: cannot be read", path.display()))?;
                limit::priorities(&text)
                    .map_err(|error| anyhow::anyhow!("--priorities {}: {error}", path.display()))?
            }
            None => Vec::new(),
        };
        let duration = |flag: &str, given: &Option<String>| {
            let value = given.as_deref().map(quantity::duration).transpose();
            value.map_err(|error| anyhow::anyhow!("{flag}: {error}"))
        };
        Ok(Installation {
            priorities,
            age_every: duration("--age-every", &self.age_every)?,
            reserve_after: duration("--reserve-after", &self.reserve_after)?,
            id: id.clone(),
            max_runners: self.max_runners,
            callback: self.callback_url.clone().map(|url| Callback { url, ca_bundle }),
            subscription: self.azure_subscription.clone(),
            resource_group: self.azure_resource_group.clone(),
            region: self.azure_region.clone(),
        })
    }
}

impl RunArguments {
    /// Where the ledger is.
    fn ledger_location(&self) -> anyhow::Result<LedgerLocation> {
        let file = match self.ledger.as_ref().map(|given| (given, given.expose_secret())) {
            None => self.state_directory.join("ledger.db"),
            Some((url, text)) if PostgresSettings::is_url(text) => {
                let settings = PostgresSettings::new(url, self.ledger_password_file.as_deref())?;
                return Ok(LedgerLocation::Postgres(settings));
            }
            Some((_, text)) if text.is_empty() || text.contains("://") => anyhow::bail!(
                "--ledger: it must be a file or a URL that begins with postgres://, such as \
                 postgres://stint@db.example.com/stint"
            ),
            Some((_, text)) => PathBuf::from(text),
        };
        anyhow::ensure!(
            self.ledger_password_file.is_none(),
            "--ledger-password-file: --ledger is a file, which has no password; leave it out"
        );
        Ok(LedgerLocation::Sqlite(Location::File(file)))
    }

    /// Whether anything is kept in the state directory.
    fn keeps_state(&self, ledger: &LedgerLocation) -> bool {
        self.local.is_some() || matches!(ledger, LedgerLocation::Sqlite(_))
    }

    fn settings(&self) -> anyhow::Result<RunSettings> {
        let ledger = self.ledger_location()?;
        if self.keeps_state(&ledger) {
            std::fs::create_dir_all(&self.state_directory).with_context(|| {
                format!("--state-directory {}: it cannot be created", self.state_directory.display())
            })?;
        }
        let records = match &self.local {
            Some(documents) => RecordsSettings::Local {
                documents: documents.clone(),
                state: Location::File(self.state_directory.join("records.db")),
            },
            None => {
                anyhow::ensure!(
                    self.namespace.len() <= LONGEST_NAMESPACE,
                    "--namespace {:?}: at most {LONGEST_NAMESPACE} characters, since Azure allows {} for namespace and runner together",
                    self.namespace,
                    63
                );
                RecordsSettings::Kubernetes {
                    kubeconfig: self.kubeconfig.clone(),
                    namespace: self.namespace.clone(),
                }
            }
        };
        let client_id = self.azure_client_id.clone();
        let credential = match self.azure_credential {
            Credential::Auto => CredentialKind::auto(),
            Credential::WorkloadIdentity => CredentialKind::WorkloadIdentity,
            Credential::ManagedIdentity => CredentialKind::ManagedIdentity { client_id },
            Credential::AzureCli => CredentialKind::AzureCli,
        };
        let ca_bundle = match &self.azure_ca_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("--azure-ca-file {}: cannot be read", path.display()))?,
            ),
            None => None,
        };
        let identity = self
            .identity
            .clone()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .unwrap_or_else(|| format!("stint-{}", std::process::id()));
        Ok(RunSettings {
            installation: self.installation.resolve()?,
            records,
            ledger,
            azure: ArmOptions {
                endpoint: self.azure_endpoint.clone(),
                proxy: self.azure_proxy.clone().map(Into::into),
                ca_bundle,
                ..ArmOptions::default()
            },
            azure_credential: credential,
            identity,
            adopt_ledger: self.adopt_ledger,
            most_jobs: self.max_stored_jobs,
            shutdown_delay: Duration::from_secs(self.shutdown_delay),
            listen: self.listen,
            internal_listen: self.internal_listen,
            api_listen: self.api_listen,
        })
    }
}

/// Holds the state directory for this process: two on the same files could only harm each other.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("--state-directory {}: it is not writable", directory.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "--state-directory {}: another stint uses it; stop that one, or give this one a directory of its own",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => Err(error)
            .with_context(|| format!("--state-directory {}: it cannot be locked", directory.display())),
    }
}

pub(super) async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let format = match arguments.log_format {
        Format::Pretty => LogFormat::Pretty,
        Format::Json => LogFormat::Json,
    };
    init_logging(format, &arguments.log).context("--log")?;
    let settings = arguments.settings()?;
    let keeps_state = arguments.keeps_state(&settings.ledger);
    let _held = keeps_state.then(|| lock(&arguments.state_directory)).transpose()?;
    let mut controller = Controller::start(settings).await?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: Stint finishes what is under way"),
        _ = interrupt.recv() => tracing::info!("SIGINT: Stint finishes what is under way"),
        () = controller.ended() => anyhow::bail!("the controller ended by itself; its log says why"),
    }
    controller.stop().await;
    tracing::info!("Stint has stopped");
    Ok(ExitCode::SUCCESS)
}
