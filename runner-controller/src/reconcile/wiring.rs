//! Wiring: the one place where adapters are made and put together, and where the process begins and ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::acting::Acting;
use super::assembly::{Assembly, Parts};
use super::sources::client;
use super::timed::TimedGroups;
use crate::azure::{ArmClient, ArmOptions, CredentialKind};
use crate::config::{Installation, directory};
use crate::kubernetes::{Cluster, KubernetesPods, KubernetesRecords};
use crate::ledger::LedgerLocation;
use crate::local::LocalRecords;
use crate::ports::{Groups, Ledger, Pods, Records};
use crate::sqlite::Location;
use crate::telemetry::Metrics;
use crate::web::api::ApiState;
use crate::web::internal::{InternalState, Readiness};
use crate::web::serve::{ServeLimits, serve};
use crate::web::{api, internal};

/// How often configuration files are read again.
const FILES_EVERY: Duration = Duration::from_secs(2);

/// All that a controller is started with.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// What documents fall back on.
    pub installation: Installation,
    /// Where records and documents are.
    pub records: RecordsSettings,
    /// The ledger.
    pub ledger: LedgerLocation,
    /// Azure Resource Manager.
    pub azure: ArmOptions,
    /// As whom Stint speaks to it.
    pub azure_credential: CredentialKind,
    /// Who this process is among its replicas.
    pub identity: String,
    /// Take over although the installation's rows are in another ledger.
    pub adopt_ledger: bool,
    /// How many jobs are stored at most.
    pub most_jobs: usize,
    /// How long deliveries are still taken once the process is to end: others learn of that with a delay.
    pub shutdown_delay: Duration,
    /// Listener for webhooks and call-backs.
    pub listen: SocketAddr,
    /// Listener for probes and metrics.
    pub internal_listen: SocketAddr,
    /// Listener for the API; loopback.
    pub api_listen: SocketAddr,
}

/// Where records and documents are.
#[derive(Clone, Debug)]
pub enum RecordsSettings {
    /// In a cluster.
    Kubernetes {
        /// Kubeconfig; `None`: as the environment says.
        kubeconfig: Option<PathBuf>,
        /// Namespace.
        namespace: String,
    },
    /// On this machine.
    Local {
        /// Directory with the documents.
        documents: PathBuf,
        /// The records' file.
        state: Location,
    },
}

/// A controller that runs.
pub struct Controller {
    /// Where webhooks and call-backs arrive.
    pub address: SocketAddr,
    /// Where probes and metrics are.
    pub internal_address: SocketAddr,
    /// Where the API is.
    pub api_address: SocketAddr,
    /// The records.
    pub records: Arc<dyn Records>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    stop: CancellationToken,
    main: tokio::task::JoinHandle<()>,
}

impl Controller {
    /// Starts a controller; it runs until it is stopped.
    ///
    /// # Errors
    /// What of the settings cannot be used, and what to do about it.
    pub async fn start(settings: RunSettings) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        // The one ends acting, the other everything else.
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let ledger = settings.ledger.open().await.context("the ledger cannot be opened")?;
        let groups = ArmClient::new(&settings.azure, &settings.azure_credential).context("Azure")?;
        let groups: Arc<dyn Groups> =
            Arc::new(TimedGroups { groups: Arc::new(groups), metrics: metrics.clone() });
        let Store { records, pods, cluster } = Store::open(&settings, &close, &tasks).await?;

        let assembly = Assembly::of(Parts {
            records: records.clone(),
            pods,
            groups,
            ledger: ledger.clone(),
            connect: Arc::new(client),
            installation: settings.installation.clone(),
            metrics: metrics.clone(),
        });
        tasks.spawn(cancelled(&close, assembly.background()));
        let Assembly { reconciler, public, waiting, budgets, sources, .. } = assembly;

        let (address, internal_address, api_address, readiness) = {
            let readiness =
                watch::Sender::new(Readiness::NotReady("the configuration is being read".to_owned()));
            let internal = internal::router(InternalState {
                readiness: readiness.subscribe(),
                metrics: metrics.clone(),
            });
            let api =
                api::router(ApiState { records: records.clone(), ledger: ledger.clone(), waiting, budgets });
            let listen = async |flag: &str, at: SocketAddr, router| -> anyhow::Result<SocketAddr> {
                let listener =
                    TcpListener::bind(at).await.with_context(|| format!("{flag} {at} cannot be bound"))?;
                let bound = listener.local_addr()?;
                tasks.spawn(serve(listener, router, ServeLimits::default(), close.clone()));
                Ok(bound)
            };
            let public = listen("--listen", settings.listen, public).await?;
            let internal = listen("--internal-listen", settings.internal_listen, internal).await?;
            let api = listen("--api-listen", settings.api_listen, api).await?;
            (public, internal, api, readiness)
        };

        let unready = readiness.clone();
        let acting = Acting {
            reconciler,
            records: records.clone(),
            ledger: ledger.clone(),
            cluster,
            rules: sources.rules(),
            metrics,
            readiness,
            identity: settings.identity.clone(),
            adopt_ledger: settings.adopt_ledger,
            acts_with: String::new(),
        };
        tracing::info!(%address, %internal_address, %api_address, "Stint listens for webhooks on {address}");
        let (stopping, shutdown_delay) = (stop.clone(), settings.shutdown_delay);
        let main = tokio::spawn(async move {
            let act = async {
                acting.run(&stopping).await;
                stopping.cancel();
            };
            // Whoever routes deliveries here learns with a delay that it must not: until then they are taken.
            let linger = async {
                stopping.cancelled().await;
                unready.send_replace(Readiness::NotReady("it is stopping".to_owned()));
                tokio::time::sleep(shutdown_delay).await;
            };
            tokio::join!(act, linger);
            close.cancel();
            tasks.close();
            tasks.wait().await;
        });
        Ok(Self { address, internal_address, api_address, records, ledger, stop, main })
    }

    /// Stops: no new work, what is under way is finished, the Lease is given back.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.main.await {
            tracing::error!(%error, "the controller did not end in order");
        }
    }

    /// Completes when the controller has ended by itself.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.main).await {
            tracing::error!(%error, "the controller did not end in order");
        }
    }
}

/// Where records are kept, and what goes with that.
struct Store {
    records: Arc<dyn Records>,
    pods: Option<Arc<dyn Pods>>,
    cluster: Option<Cluster>,
}

impl Store {
    async fn open(
        settings: &RunSettings,
        close: &CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        match &settings.records {
            RecordsSettings::Kubernetes { kubeconfig, namespace } => {
                let cluster =
                    Cluster::connect(kubeconfig.as_deref(), namespace, &settings.installation.id).await?;
                let records: Arc<dyn Records> =
                    Arc::new(KubernetesRecords::watch(cluster.clone(), settings.most_jobs));
                let pods: Arc<dyn Pods> = Arc::new(KubernetesPods::watch(cluster.clone()));
                Ok(Self { records, pods: Some(pods), cluster: Some(cluster) })
            }
            RecordsSettings::Local { documents, state } => {
                let (read, secrets) = directory::read(documents)?;
                let records = LocalRecords::open(state, settings.most_jobs)
                    .await
                    .context("the records cannot be opened")?;
                records.set_documents(read);
                records.set_secrets(secrets);
                let records = Arc::new(records);
                tasks.spawn(cancelled(close, follow_files(documents.clone(), records.clone())));
                Ok(Self { records, pods: None, cluster: None })
            }
        }
    }
}

/// Reads the documents again every few seconds; those in force stay so while a file cannot be used.
async fn follow_files(directory: PathBuf, records: Arc<LocalRecords>) {
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(FILES_EVERY).await;
        let from = directory.clone();
        let read = tokio::task::spawn_blocking(move || directory::read(&from)).await;
        match read {
            Ok(Ok((documents, secrets))) => {
                records.set_documents(documents);
                records.set_secrets(secrets);
                complaint.clear();
            }
            Ok(Err(error)) => {
                let text = format!("{error:#}");
                if text != complaint {
                    tracing::error!(error = text, "the configuration is not taken up: {text}");
                    complaint = text;
                }
            }
            Err(error) => tracing::error!(%error, "the configuration cannot be read"),
        }
    }
}

fn cancelled<W>(stop: &CancellationToken, work: W) -> impl Future<Output = ()> + Send + use<W>
where
    W: Future<Output = ()> + Send,
{
    let stop = stop.clone();
    async move {
        let _ended = stop.run_until_cancelled(work).await;
    }
}
