//! What the tests of the API server share: a runtime in virtual time, scripted faults, and examples.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::job::{JobAction, JobDescription, JobFact, JobKey, Told};
use runner_core::labels::Matched;
use runner_core::lifecycle::Runner;
use runner_core::plan::NewRunner;
use runner_core::setup::{PlaceKind, Scope, Size};
use simulation::kubernetes::{
    ApiServer, Lag, NAMESPACE, Verb, Verdict, WriteFaults, WriteSeen, seed_backoff,
};
use stint::config::{Installation, directory, resolve};
use stint::kubernetes::{Cluster, KubernetesPods, KubernetesRecords};
use stint::ports::{PodOrder, VirtualNodeSeen};
use tokio::time::{Instant, sleep, timeout};

/// Runs a test on this thread, in virtual time.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        stint::clock::set(move || start + Instant::now().duration_since(began));
        seed_backoff(7);
        test.await
    })
}

/// Waits in virtual time until something holds.
#[track_caller]
pub fn until(holds: impl Fn() -> bool) -> impl Future<Output = ()> {
    let from = std::panic::Location::caller();
    async move {
        let wait = async {
            while !holds() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("{from}: it never holds"));
    }
}

/// Verdicts for the writes of a kind, each used once; lag by client; and a journal of all writes.
#[derive(Default)]
pub struct Script {
    pub verdicts: Mutex<VecDeque<(Verb, &'static str, Verdict)>>,
    pub reads: Mutex<VecDeque<u16>>,
    pub lag: Mutex<BTreeMap<String, Duration>>,
    pub journal: Mutex<Vec<String>>,
}

impl Script {
    pub fn next(&self, verb: Verb, kind: &'static str, verdict: Verdict) {
        self.verdicts.lock().unwrap().push_back((verb, kind, verdict));
    }

    pub fn lags(&self, who: &str, lag: Duration) {
        self.lag.lock().unwrap().insert(who.to_owned(), lag);
    }

    pub fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap().clone()
    }
}

#[async_trait]
impl WriteFaults for Script {
    async fn verdict(&self, _who: &str, write: &WriteSeen) -> Verdict {
        let mut verdicts = self.verdicts.lock().unwrap();
        let meant = verdicts.iter().position(|(verb, kind, _)| (*verb, *kind) == (write.verb, write.kind));
        meant.and_then(|at| verdicts.remove(at)).map_or(Verdict::Allow, |(_, _, verdict)| verdict)
    }

    async fn committed(&self, who: &str, write: &WriteSeen, code: u16) {
        let line = format!(
            "{} {who} {:?} {} {} {code} {}",
            stint::clock::now(),
            write.verb,
            write.kind,
            write.name,
            write.body
        );
        self.journal.lock().unwrap().push(line);
    }

    fn read(&self, _who: &str, _kind: &'static str) -> Option<u16> {
        self.reads.lock().unwrap().pop_front()
    }
}

impl Lag for Script {
    fn of(&self, who: &str, _kind: &str) -> Duration {
        self.lag.lock().unwrap().get(who).copied().unwrap_or_default()
    }
}

/// A server, and what goes wrong with it.
pub fn server() -> (ApiServer, Arc<Script>) {
    let script = Arc::<Script>::default();
    (ApiServer::new(script.clone(), script.clone()), script)
}

pub fn cluster(server: &ApiServer, who: &str) -> Cluster {
    Cluster::of_client(server.client(who), NAMESPACE, "sim")
}

/// A replica's records, once it has read all lists.
pub async fn records(server: &ApiServer, who: &str) -> KubernetesRecords {
    use stint::ports::Records;
    let records = KubernetesRecords::watch(cluster(server, who), 10_000);
    until(|| records.observe().is_some() && records.documents().is_some()).await;
    records
}

/// A replica's pods, once it has read all lists.
pub async fn pods(server: &ApiServer, who: &str) -> KubernetesPods {
    use stint::ports::Pods;
    let pods = KubernetesPods::watch(cluster(server, who));
    until(|| pods.observe().is_some()).await;
    pods
}

pub fn key(id: &str) -> JobKey {
    JobKey { source: "acme".to_owned(), id: id.to_owned(), attempt: 1 }
}

pub fn told(job: &str, delivery: &str, action: JobAction) -> Told {
    let description = JobDescription {
        created_at: None,
        owner: "acme".to_owned(),
        repository: "acme/web".to_owned(),
        public: false,
        name: "build".to_owned(),
        workflow: None,
        url: None,
        labels: vec!["stint".to_owned()],
        run: None,
        head_sha: None,
        head_branch: None,
    };
    let heard_at = stint::clock::now();
    let fact = JobFact { id: delivery.to_owned(), action, heard_at, runner: None, conclusion: None };
    Told { key: key(job), description, fact }
}

pub fn new_runner(name: &str) -> NewRunner {
    NewRunner {
        name: name.to_owned(),
        job: key("1"),
        ordinal: 1,
        scope: Scope::Repository("acme/web".to_owned()),
        matched: Matched { class: "stint".to_owned(), size: String::new() },
        labels: vec!["stint".to_owned()],
        size: Size { cpu_millis: 1000, memory_bytes: 2 << 30, max_runners: None },
        place: "vn".to_owned(),
        kind: PlaceKind::VirtualNode,
    }
}

pub fn runner(name: &str) -> Runner {
    new_runner(name).record(stint::clock::now())
}

/// What documents and a virtual node come to.
pub fn order(name: &str) -> PodOrder {
    let text = "kind: RunnerClass\nmetadata: {name: stint}\nspec: {resources: {cpu: \"1\", memory: 2Gi}}\n";
    let (documents, _) = directory::parse(text).unwrap();
    let labels =
        [("type", "virtual-kubelet"), ("kubernetes.io/role", "agent"), ("kubernetes.io/os", "linux")];
    let node = VirtualNodeSeen {
        name: "vn".to_owned(),
        ready: true,
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        taints: Vec::new(),
    };
    let installation = Installation { id: "sim".to_owned(), ..Installation::default() };
    let resolved = resolve(&documents, &[node], &installation);
    PodOrder {
        runner: runner(name),
        class: resolved.classes["stint"].clone(),
        place: resolved.places["vn"].clone(),
    }
}
