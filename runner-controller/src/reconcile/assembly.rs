//! The controller put together from its ports, whatever stands behind them: adapters in a process, models in a simulation.
//!
//! It makes no adapter, opens no listener and spawns nothing: whoever assembles decides what runs when.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use runner_core::budget::Figures;
use runner_core::forecast::Waiting;
use tokio::sync::watch;

use super::Reconciler;
use super::sources::{Connect, Sources};
use crate::config::{Installation, Resolved};
use crate::execute::{Origin, Outside, SpendingMemory};
use crate::intake::{self, IntakeState};
use crate::observe::Observer;
use crate::observe::group_machines::GroupMachines;
use crate::ports::{Groups, Ledger, Pods, Records};
use crate::telemetry::Metrics;
use crate::web::agent::{self, AgentState};

/// How often documents are resolved again for intake and providers.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);

/// What a controller is made from.
#[derive(Clone)]
pub struct Parts {
    /// Records and documents.
    pub records: Arc<dyn Records>,
    /// Pods and nodes; `None` without a cluster.
    pub pods: Option<Arc<dyn Pods>>,
    /// Container groups.
    pub groups: Arc<dyn Groups>,
    /// Ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Makes the clients of sources.
    pub connect: Arc<Connect>,
    /// What documents fall back on.
    pub installation: Installation,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// A controller put together. Dropping all of it stops it.
pub struct Assembly {
    /// The loop; only one of all replicas may run it.
    pub reconciler: Reconciler,
    /// Webhooks and agents' call-backs, on every replica.
    pub public: Router,
    /// Why jobs wait, as of the last pass.
    pub waiting: watch::Receiver<Arc<Waiting>>,
    /// How budgets stand, as of the last pass.
    pub budgets: watch::Receiver<Arc<[Figures]>>,
    /// Sources in use.
    pub sources: Arc<Sources>,
    observer: Arc<Observer>,
    groups: Arc<dyn Groups>,
    group_machines: Arc<GroupMachines>,
    resolved: watch::Sender<Option<Arc<Resolved>>>,
}

impl Assembly {
    /// Puts a controller together.
    pub fn of(parts: Parts) -> Self {
        let Parts { records, pods, groups, ledger, connect, installation, metrics } = parts;
        let group_machines = Arc::new(GroupMachines::default());
        let sources = Arc::new(Sources::new(records.clone(), connect, metrics.clone()));
        let resolved = watch::Sender::new(None);
        let waiting = watch::Sender::default();
        let budgets = watch::Sender::default();
        let intake = IntakeState::new(records.clone(), sources.rules(), metrics.clone());
        let put_off = intake.put_off();
        let public =
            intake::router(intake).merge(agent::router(AgentState::new(records.clone(), ledger.clone())));
        let observer = Arc::new(Observer::new(
            records.clone(),
            pods.clone(),
            group_machines.clone(),
            installation.clone(),
        ));
        let (waiting_seen, budgets_seen) = (waiting.subscribe(), budgets.subscribe());
        let outside = Arc::new(Outside {
            records,
            pods,
            groups: groups.clone(),
            group_machines: group_machines.clone(),
            ledger,
            sources: sources.clone(),
            installation,
            metrics,
            waiting,
            put_off,
            spending: SpendingMemory::default(),
            budgets,
            origin: Origin::default(),
        });
        Self {
            reconciler: Reconciler::new(observer.clone(), outside, resolved.clone()),
            public,
            waiting: waiting_seen,
            budgets: budgets_seen,
            sources,
            observer,
            groups,
            group_machines,
            resolved,
        }
    }

    /// What every replica does beside receiving, acting or not: keeps in step with the documents, secrets and groups.
    /// Never completes.
    pub fn background(&self) -> impl Future<Output = ()> + Send + use<> {
        let groups = self.group_machines.clone().follow(self.observer.records.clone(), self.groups.clone());
        let sources = self.sources.clone().follow(self.resolved.subscribe());
        let documents = follow_documents(self.observer.clone(), self.resolved.clone());
        async move {
            tokio::join!(groups, sources, documents);
        }
    }
}

/// Resolves the documents for intake and providers as they change, whether or not this replica acts.
async fn follow_documents(observer: Arc<Observer>, resolved: watch::Sender<Option<Arc<Resolved>>>) {
    loop {
        if let Some(now) = observer.resolve() {
            super::publish(&resolved, &now);
        }
        tokio::time::sleep(RESOLVE_EVERY).await;
    }
}
