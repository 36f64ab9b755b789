//! An API server of Kubernetes in memory: what the controller's own client sees of one, and nothing that acts by itself.
//!
//! It keeps objects, orders all writes by one version, and tells watches of them. Scheduler, kubelet and controllers are
//! models of the harness, which reach it directly. It draws no random number, reads no clock but the simulation's and
//! starts no task.

mod failure;
mod faults;
mod kinds;
mod object;
mod request;
mod selector;
mod service;
mod state;
mod watch;
mod writes;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub use faults::{Faultless, Lag, Verb, Verdict, WriteFaults, WriteSeen};
use kinds::{KINDS, Kind};
use object::{set, text_of};
pub use state::Snapshot;
use state::State;

/// The only namespace that the server has.
pub const NAMESPACE: &str = "ci";

/// The server; clones are the same one.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    faults: Arc<dyn WriteFaults>,
    lag: Arc<dyn Lag>,
    changed: Arc<Notify>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the harness that something may have been written.
    fn announce(&self) {
        self.changed.notify_waiters();
    }
}

impl ApiServer {
    /// An empty server.
    pub fn new(faults: Arc<dyn WriteFaults>, lag: Arc<dyn Lag>) -> Self {
        let (state, changed) = (Mutex::new(State::new()), Arc::new(Notify::new()));
        Self { inner: Arc::new(Inner { state, faults, lag, changed }) }
    }

    /// A client of it, to be made within a runtime. `who` names it to faults and lag.
    pub fn client(&self, who: &str) -> kube::Client {
        let (server, who) = (self.inner.clone(), Arc::<str>::from(who));
        let service = tower::service_fn(move |request| service::call(server.clone(), who.clone(), request));
        kube::Client::new(service, NAMESPACE)
    }

    /// An object, if it is there.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.inner.state().get(named(kind), name).map(|object| object.value.clone())
    }

    /// All objects of a kind, in the order of their names.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let state = self.inner.state();
        state.table(named(kind)).objects.values().map(|object| object.value.clone()).collect()
    }

    /// Looks at all objects of a kind in the order of their names, without copying them.
    pub fn each(&self, kind: &str, mut look: impl FnMut(&str, &Value)) {
        for (name, object) in &self.inner.state().table(named(kind)).objects {
            look(name, &object.value);
        }
    }

    /// Creates an object, or replaces it whole, with its status. Who it is and since when stays, unless it says so itself.
    pub fn put(&self, kind: &str, mut object: Value) {
        let kind = named(kind);
        {
            let mut state = self.inner.state();
            let name = text_of(&object, "name").to_owned();
            if let Some(known) = state.get(kind, &name).cloned() {
                for field in ["uid", "creationTimestamp"] {
                    if text_of(&object, field).is_empty() {
                        set(&mut object, field, json!(text_of(&known.value, field)));
                    }
                }
            }
            state.complete(kind, &mut object);
            state.store(kind, &name, object);
        }
        self.inner.announce();
    }

    /// Changes an object as it is. Returns whether it is there.
    pub fn change(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> bool {
        let kind = named(kind);
        {
            let mut state = self.inner.state();
            let Some(known) = state.get(kind, name).cloned() else { return false };
            let mut object = known.value.clone();
            change(&mut object);
            if object == known.value {
                return true;
            }
            state.store(kind, name, object);
        }
        self.inner.announce();
        true
    }

    /// Takes an object away at once, whatever holds it. Returns whether it was there.
    pub fn remove(&self, kind: &str, name: &str) -> bool {
        let removed = self.inner.state().remove(named(kind), name).is_some();
        self.inner.announce();
        removed
    }

    /// The version of the last write.
    pub fn version(&self) -> u64 {
        self.inner.state().version
    }

    /// All objects as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.state().snapshot()
    }

    /// Sets objects and version back, as a restored etcd does: watches end; one that goes on from before the snapshot is
    /// refused as too old, and one from after it is told nothing until the server has reached that version again.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.restore_raised(snapshot, 0);
    }

    /// Sets the objects back, and lets versions go on by so much above the snapshot's, as `etcdutl snapshot restore
    /// --bump-revision --mark-compacted` does.
    pub fn restore_raised(&self, snapshot: &Snapshot, raised: u64) {
        self.inner.state().restore(snapshot, raised);
        self.inner.announce();
    }

    /// Cuts a client off: its watches break, and its calls fail, until then or until [`Self::connect`].
    pub fn disconnect(&self, who: &str, until: Option<Instant>) {
        let mut state = self.inner.state();
        let client = state.client(who);
        client.away = Some(until);
        client.breaks += 1;
        state.wake_all();
    }

    /// Ends a partition.
    pub fn connect(&self, who: &str) {
        self.inner.state().client(who).away = None;
    }

    /// Ends a client's watches, or its next ones, with 410 Gone, so that it lists again.
    pub fn expire_watches(&self, who: &str) {
        let mut state = self.inner.state();
        state.client(who).expired = KINDS.iter().map(|kind| kind.at).collect();
        state.wake_all();
    }

    /// Has every watch ask again how late its events are; to be called when lag became less.
    pub fn lag_changed(&self) {
        self.inner.state().wake_all();
    }

    /// Completes at the next write after this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.inner.changed.clone().notified_owned()
    }

    /// Collects garbage for as long as it is polled: what belonged to an object that is gone goes so much later.
    pub async fn collect_garbage(&self, after: Duration) {
        loop {
            let changed = self.changed();
            let version = self.version();
            let next = self.inner.state().collect(after);
            if self.version() != version {
                self.inner.announce();
            }
            tokio::pin!(changed);
            match next {
                Some(due) => sleep_until(due).await,
                None => changed.await,
            }
        }
    }
}

/// Makes the pauses before failed watches are taken up again the same in every run: kube draws their random part from this
/// thread's generator. To be called before the adapter begins to watch.
pub fn seed_backoff(seed: u64) {
    fastrand::seed(seed);
}

#[expect(clippy::panic, reason = "a harness that misspells a kind shall fail at once")]
fn named(kind: &str) -> &'static Kind {
    match kinds::find(kind) {
        Some(kind) => kind,
        None => panic!("the simulated API server knows no kind {kind}"),
    }
}
