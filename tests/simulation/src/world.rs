//! One run: the models and two replicas, put together, and watched until all has come to rest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::agent::Agents;
use crate::arm::Arm;
use crate::board::Board;
use crate::cluster::{Late, Writes};
use crate::fault::{Fault, Peer};
use crate::front::Front;
use crate::github::{GitHub, State, WEBHOOK_SECRET};
use crate::invariants::{Invariants, SOURCE_SECRET};
use crate::journal::{Counts, Journal, Violation};
use crate::kubernetes::ApiServer;
use crate::ledger::MemoryLedger;
use crate::replicas::Replicas;
use crate::scenario::{Scenario, Setup};
use crate::time::Clock;
use crate::virtual_node::{NAMESPACE, VirtualNode};

/// How often invariants are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same once all has come to rest.
const LOOK_SELDOM: Duration = Duration::from_secs(6);
/// How long after the last fault and job all must have come to rest: a runner whose image cannot be pulled takes 15 min,
/// three times, with pauses.
const AT_REST_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// What may still be written once nothing is left: reports of it.
const SETTLES: Duration = Duration::from_secs(300);
/// How many passes then write nothing: the node is touched before each.
const QUIET_PASSES: u32 = 100;
/// How long nothing is written then, so that whatever is done from time to time is done.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// How long what belonged to an object outlives it.
const GARBAGE_AFTER: Duration = Duration::from_secs(2);

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// At GitHub: its conclusion; empty while it is not over.
    pub conclusion: String,
    /// Whether it was cancelled or taken by a foreign runner.
    pub meddled: bool,
    /// Where its record stands, and why.
    pub record: (String, String),
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which invariants did not hold.
    pub violations: Vec<Violation>,
    /// What it covered.
    pub counts: Counts,
    /// A hash of its journal.
    pub hash: String,
    /// How each job ended.
    pub endings: BTreeMap<u64, Ending>,
    /// How many groups were made.
    pub groups: u64,
    /// How many writes there were to each peer.
    pub writes: BTreeMap<Peer, u64>,
    /// The whole journal.
    pub journal: String,
    /// The journal about the first violation, or all of it.
    pub story: String,
}

impl Scenario {
    /// Runs it.
    ///
    /// # Errors
    /// When no runtime can be had.
    pub fn run(&self) -> Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .context("no runtime")?;
        crate::kubernetes::seed_backoff(self.seed);
        Ok(runtime.block_on(async { World::of(self).run(self).await }))
    }
}

/// Everything there is.
struct World {
    board: Arc<Board>,
    server: ApiServer,
    github: Arc<GitHub>,
    arm: Arc<Arm>,
    node: Arc<VirtualNode>,
    replicas: Arc<Replicas>,
    invariants: Arc<Invariants>,
}

impl World {
    fn of(scenario: &Scenario) -> Self {
        let clock = Clock::begin();
        let journal = Journal::new(clock.clone());
        let board = Arc::new(Board::new(clock, journal, scenario.seed, scenario.faults.clone()));
        let front: Arc<Front> = Arc::default();
        let github = GitHub::new(board.clone(), front.clone());
        let agents = Agents {
            board: board.clone(),
            github: github.clone(),
            front: front.clone(),
            callbacks: scenario.setup.callbacks,
        };
        let arm = Arm::new(board.clone(), github.clone(), agents);
        let writes = Arc::new(Writes::new(board.clone()));
        let server = ApiServer::new(writes.clone(), Arc::new(Late(board.clone())));
        for (kind, object) in documents(&scenario.setup) {
            server.put(kind, object);
        }
        let node = VirtualNode::new(board.clone(), server.clone(), arm.clone());
        let ledger: Arc<MemoryLedger> = Arc::default();
        let replicas = Arc::new(Replicas {
            board: board.clone(),
            server: server.clone(),
            writes,
            front,
            github: github.clone(),
            arm: arm.clone(),
            ledger: ledger.clone(),
            setup: scenario.setup.clone(),
            live: Mutex::default(),
        });
        let invariants = Arc::new(Invariants {
            board: board.clone(),
            server: server.clone(),
            github: github.clone(),
            arm: arm.clone(),
            ledger,
            setup: scenario.setup.clone(),
        });
        Self { board, server, github, arm, node, replicas, invariants }
    }

    async fn run(self, scenario: &Scenario) -> Outcome {
        tokio::spawn(self.node.clone().work());
        let server = self.server.clone();
        tokio::spawn(async move { server.collect_garbage(GARBAGE_AFTER).await });
        tokio::spawn(self.replicas.clone().run("a"));
        tokio::spawn(self.replicas.clone().run("b"));
        tokio::spawn(self.replicas.clone().elect());
        for job in &scenario.jobs {
            tokio::spawn(self.github.clone().live(job.clone()));
        }
        for fault in &scenario.faults {
            match fault {
                Fault::WatchesExpire { at } => drop(tokio::spawn(self.store().expire_watches(*at))),
                Fault::Restored { at, back } => drop(tokio::spawn(self.store().put_back(*at, *back))),
                Fault::Emptied { at } => drop(tokio::spawn(self.store().empty(*at))),
                Fault::Write { .. }
                | Fault::While { .. }
                | Fault::Killed { .. }
                | Fault::Group { .. }
                | Fault::Agent { .. }
                | Fault::Webhooks { .. }
                | Fault::Stolen { .. } => {}
            }
        }
        self.watch(scenario).await;
        self.outcome()
    }

    fn store(&self) -> Store {
        Store { board: self.board.clone(), server: self.server.clone(), replicas: self.replicas.clone() }
    }

    /// Looks at the invariants until all has come to rest and stayed so.
    async fn watch(&self, scenario: &Scenario) {
        let journal = &self.board.journal;
        let mut skew = 0;
        let mut at_rest: Option<Duration> = None;
        let mut touched = 0;
        loop {
            // With nothing left, there is little to look at.
            tokio::time::sleep(if at_rest.is_some() { LOOK_SELDOM } else { LOOK_EVERY }).await;
            let now_skew = self.skew();
            if now_skew != skew {
                skew = now_skew;
                journal.fault(format_args!("the controller's clock is {skew} s off"));
                self.board.clock.set_skew(skew);
            }
            self.invariants.check();
            let now = self.board.clock.passed();
            if now.as_secs() < scenario.ends() {
                continue;
            }
            match at_rest {
                None => {
                    let left = self.invariants.left();
                    if left.is_empty() {
                        at_rest = Some(now);
                        journal.note("world", "is at rest");
                    } else if now > Duration::from_secs(scenario.ends()) + AT_REST_WITHIN {
                        let invariant =
                            if left.iter().all(|one| one.starts_with("job")) { "I8" } else { "I5" };
                        journal
                            .violate(invariant, format_args!("does not come to rest: {}", left.join(", ")));
                        return;
                    }
                }
                Some(since) => {
                    let (quiet, last) = journal.quiet_for();
                    touched = if quiet < LOOK_SELDOM { 0 } else { touched + 1 };
                    self.node.touch();
                    if quiet >= QUIET && touched > QUIET_PASSES {
                        break;
                    }
                    if now > since + SETTLES + QUIET + LOOK_SELDOM * 4 {
                        journal.violate("I5", format_args!("written though all is at rest: {last}"));
                        return;
                    }
                }
            }
        }
        let left = self.invariants.left();
        if !left.is_empty() {
            journal.violate("I5", format_args!("came to rest, and then: {}", left.join(", ")));
        }
        self.invariants.check_end();
    }

    fn skew(&self) -> i64 {
        let clock = |trouble| if let crate::fault::Trouble::Clock(by) = trouble { Some(by) } else { None };
        self.board.now().find_map(clock).unwrap_or(0)
    }

    fn outcome(&self) -> Outcome {
        let journal = &self.board.journal;
        let violations = journal.violations();
        let records = self.invariants.job_records();
        let ending = |job: crate::github::Job| {
            let conclusion = if let State::Over(conclusion) = job.state { conclusion } else { "" };
            let ending = Ending {
                conclusion: conclusion.to_owned(),
                meddled: job.meddled,
                record: records.get(&job.id).cloned().unwrap_or_default(),
            };
            (job.id, ending)
        };
        Outcome {
            counts: journal.counts(),
            hash: journal.hash(),
            endings: self.github.jobs().into_iter().map(ending).collect(),
            groups: self.arm.created(),
            writes: Peer::ALL.into_iter().map(|peer| (peer, self.board.writes(peer))).collect(),
            journal: journal.tell(None),
            story: journal.tell(violations.first().map(|first| first.line)),
            violations,
        }
    }
}

/// The cluster's store, to which things happen.
struct Store {
    board: Arc<Board>,
    server: ApiServer,
    replicas: Arc<Replicas>,
}

impl Store {
    async fn expire_watches(self, at: u64) {
        self.board.clock.until(at).await;
        self.board.journal.fault("all watches expire");
        for name in self.replicas.names() {
            self.server.expire_watches(&name);
        }
    }

    async fn put_back(self, at: u64, back: u64) {
        self.board.clock.until(at.saturating_sub(back)).await;
        let before = self.server.snapshot();
        self.board.clock.until(at).await;
        self.board.journal.fault(format_args!("the cluster's store is put back by {back} s"));
        self.server.restore(&before);
    }

    async fn empty(self, at: u64) {
        self.board.clock.until(at).await;
        self.board.journal.fault("all records, pods and credentials are deleted");
        for kind in ["Runner", "RunnerJob", "Admission", "Pod", "Secret"] {
            for object in self.server.list(kind) {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                if name != SOURCE_SECRET {
                    self.server.remove(kind, name);
                }
            }
        }
    }
}

/// What an admin applies.
fn documents(setup: &Setup) -> Vec<(&'static str, Value)> {
    let document = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        })
    };
    let size = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let place = if setup.without_node { json!({"order": ["groups"]}) } else { json!({"order": ["virtual"]}) };
    let mut documents = vec![
        (
            "Secret",
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": SOURCE_SECRET, "namespace": NAMESPACE},
                "data": {"webhookSecret": base64::Engine::encode(
                    &base64::engine::general_purpose::STANDARD,
                    WEBHOOK_SECRET,
                )},
            }),
        ),
        (
            "RunnerSource",
            document(
                "RunnerSource",
                "acme",
                json!({"github": {"owners": ["acme"], "secretRef": SOURCE_SECRET}}),
            ),
        ),
        (
            "RunnerClass",
            document(
                "RunnerClass",
                "stint",
                json!({"resources": size("1500m", "2Gi"), "maxRunners": setup.max_of_class, "places": place}),
            ),
        ),
        (
            "RunnerClass",
            document(
                "RunnerClass",
                "big",
                json!({
                    "sizes": {"s": size("2", "4Gi"), "l": size("4", "8Gi")},
                    "labels": ["fast"], "places": place,
                }),
            ),
        ),
        ("RunnerPlace", document("RunnerPlace", "virtual", json!({"virtualNode": {}}))),
        ("RunnerPlace", document("RunnerPlace", "groups", json!({"containerInstances": {}}))),
    ];
    if let Some(most) = setup.max_per_repository {
        let spec = json!({"groupBy": ["repository"], "max": {"runners": most}});
        documents.push(("ConcurrencyLimit", document("ConcurrencyLimit", "per-repository", spec)));
    }
    documents
}
