//! Two replicas of the controller, each the real code in a process that may crash, and who of them acts.
//!
//! Leadership is as adversarial as a Lease allows: it does not fence, so that one who lost it may not know it yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stint::config::{Callback, Installation};
use stint::kubernetes::{Cluster, KubernetesPods, KubernetesRecords};
use stint::ports::{CallErrorKind, Ledger, Pods, Provider, Records};
use stint::reconcile::Reconciler;
use stint::reconcile::assembly::{Assembly, Parts};
use stint::telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arm::{Arm, ArmLink, RESOURCE_GROUP, SUBSCRIPTION};
use crate::board::Board;
use crate::chance::Chance;
use crate::cluster::{Gated, Writes};
use crate::fault::{Fault, Peer, Trouble};
use crate::front::Front;
use crate::github::{GitHub, GitHubLink};
use crate::kubernetes::ApiServer;
use crate::ledger::{LEDGER, LedgerLink, MemoryLedger};
use crate::process::Process;
use crate::scenario::Setup;
use crate::time::pause;
use crate::virtual_node::NAMESPACE;

/// Installation id.
pub const INSTALLATION: &str = "sim";
/// How long a Lease holds that is not renewed.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is looked at.
const LOOK_EVERY: u64 = 500;
/// How long a replica that may not act waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// All that the replicas share.
pub struct Replicas {
    /// The faults.
    pub board: Arc<Board>,
    /// Kubernetes.
    pub server: ApiServer,
    /// What becomes of writes to it.
    pub writes: Arc<Writes>,
    /// What stands before them.
    pub front: Arc<Front>,
    /// GitHub.
    pub github: Arc<GitHub>,
    /// Azure.
    pub arm: Arc<Arm>,
    /// The ledger.
    pub ledger: Arc<MemoryLedger>,
    /// The configuration.
    pub setup: Setup,
    /// Those that live.
    pub live: Mutex<Vec<(Arc<Process>, watch::Sender<bool>)>>,
}

impl Replicas {
    /// Runs a replica: one process after another, for ever.
    pub async fn run(self: Arc<Self>, name: &'static str) {
        for number in 1_u32.. {
            let process = Arc::new(Process::new(format!("{name}.{number}"), self.board.clone()));
            self.board.journal.note(&process.name, "starts");
            let tasks = self.start(&process);
            process.dies().await;
            drop(tasks);
            self.front.forget_dead();
            self.lock().retain(|(process, _)| !process.is_dead());
            let again =
                Chance::of(self.board.seed, &format!("restart {}", process.name)).between(1_000, 30_000);
            pause(again).await;
            self.board.troubled(Duration::ZERO);
        }
    }

    fn start(&self, process: &Arc<Process>) -> JoinSet<()> {
        self.writes.add(process.clone());
        let client = Gated::client(self.server.client(&process.name), process.clone(), NAMESPACE);
        let cluster = Cluster::of_client(client, NAMESPACE, INSTALLATION);
        let records: Arc<dyn Records> = Arc::new(KubernetesRecords::watch(cluster.clone(), 10_000));
        let pods: Arc<dyn Pods> = Arc::new(KubernetesPods::watch(cluster));
        let ledger: Arc<dyn Ledger> =
            Arc::new(LedgerLink { ledger: self.ledger.clone(), process: process.clone() });
        let (github, of) = (self.github.clone(), process.clone());
        let assembly = Assembly::of(Parts {
            records: records.clone(),
            pods: Some(pods),
            groups: Arc::new(ArmLink { arm: self.arm.clone(), process: process.clone() }),
            ledger,
            connect: Arc::new(move |_, _| {
                let link = GitHubLink {
                    github: github.clone(),
                    process: of.clone(),
                    wants_none_until: Arc::default(),
                    wants_none_about_hooks_until: Arc::default(),
                };
                Ok(Arc::new(link) as Arc<dyn Provider>)
            }),
            installation: self.installation(),
            metrics: Arc::new(Metrics::new()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(assembly.background());
        let Assembly { reconciler, public, sources, .. } = assembly;
        self.front.add(process.clone(), public);
        let held = watch::Sender::new(false);
        let acting = Acting { reconciler, records, process: process.clone(), held: held.subscribe() };
        self.lock().push((process.clone(), held));
        tasks.spawn(async move {
            let mut rules = sources.rules();
            if rules.wait_for(|rules| rules.ready).await.is_ok() {
                acting.run().await;
            }
        });
        tasks
    }

    fn installation(&self) -> Installation {
        Installation {
            id: INSTALLATION.to_owned(),
            max_runners: self.setup.max_runners,
            callback: self
                .setup
                .callbacks
                .then(|| Callback { url: "https://stint.example".to_owned(), ca_bundle: None }),
            subscription: Some(SUBSCRIPTION.to_owned()),
            resource_group: Some(RESOURCE_GROUP.to_owned()),
            region: Some("westeurope".to_owned()),
            ..Installation::default()
        }
    }

    /// Decides who acts, for ever.
    pub async fn elect(self: Arc<Self>) {
        let mut holder: Option<Arc<Process>> = None;
        let mut expires = Duration::ZERO;
        let mut struck: Option<Arc<Process>> = None;
        let mut killed = 0;
        loop {
            pause(LOOK_EVERY).await;
            let now = self.board.clock.passed();
            let due = |fault: &&Fault| matches!(fault, Fault::Killed { at } if *at <= now.as_secs());
            let due = self.board.faults().iter().filter(due).count();
            if due > killed {
                killed = due;
                if let Some(holder) = &holder {
                    holder.kill();
                }
            }
            let strikes = self.board.is(Trouble::Paused) || self.board.is(Trouble::LeaderCutOff);
            match (strikes, &struck, &holder) {
                (true, None, Some(holder)) => {
                    self.board.journal.fault(format_args!("{} is paused or cut off", holder.name));
                    holder.set_struck(true);
                    struck = Some(holder.clone());
                }
                (false, Some(was), _) => {
                    was.set_struck(false);
                    struck = None;
                }
                (true, None, None) | (true, Some(_), _) | (false, None, _) => {}
            }
            let fit = |process: &Arc<Process>| {
                !process.is_dead() && !process.is_paused() && process.reaches(Peer::Kubernetes)
            };
            if holder.as_ref().is_some_and(fit) {
                expires = now + LEASE;
            }
            let live = self.lock();
            if now >= expires {
                let next = live.iter().map(|(process, _)| process).find(|process| fit(process)).cloned();
                if let Some(next) = next {
                    self.board.journal.note("Lease", format_args!("{} is to act", next.name));
                    expires = now + LEASE;
                    holder = Some(next);
                }
            }
            let two = self.board.is(Trouble::TwoLeaders);
            for (process, held) in live.iter() {
                let own = holder.as_ref().is_some_and(|holder| holder.name == process.name);
                // One that stands still does not learn that it has lost the Lease.
                let wants = own || (two && fit(process)) || (process.is_paused() && *held.borrow());
                held.send_if_modified(|held| {
                    let news = *held != wants;
                    *held = wants;
                    news
                });
            }
        }
    }

    /// Names of the processes that live.
    pub fn names(&self) -> Vec<String> {
        self.lock().iter().map(|(process, _)| process.name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Process>, watch::Sender<bool>)>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `stint::reconcile::acting` does with a real Lease.
struct Acting {
    reconciler: Reconciler,
    records: Arc<dyn Records>,
    process: Arc<Process>,
    held: watch::Receiver<bool>,
}

impl Acting {
    async fn run(mut self) {
        let mut losing = self.held.clone();
        while self.held.wait_for(|held| *held).await.is_ok() {
            let board = self.process.board.clone();
            let taken = self.records.take_over(&self.process.name, LEDGER, false).await;
            if let Err(error) = taken {
                board.journal.note(&self.process.name, format_args!("does not act: {error}"));
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            board.journal.note(&self.process.name, "acts");
            let stop = CancellationToken::new();
            let result = {
                let running = self.reconciler.run(&stop);
                let lost = async { drop(losing.wait_for(|held| !*held).await) };
                tokio::pin!(running, lost);
                tokio::select! {
                    biased;
                    result = &mut running => result,
                    () = &mut lost => {
                        stop.cancel();
                        running.await
                    }
                }
            };
            board.journal.note(&self.process.name, "no longer acts");
            if let Err(error) = result {
                let conflict = error.kind == CallErrorKind::Conflict;
                board.journal.note(&self.process.name, format_args!("stops to act: {error} ({conflict})"));
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}
