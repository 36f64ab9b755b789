//! What the loop needs of the outside: one trait per kind of adapter, and the error that all of them answer with.
//!
//! No type of an SDK (kube, octocrab, azure, sqlx) appears here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub mod agent;
mod error;
mod ledger;
mod provider;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::budget::Figures;
use runner_core::job::{Finding, Job, JobKey, JobReport, Standing, Told};
use runner_core::lifecycle::{Machine, Runner, RunnerFact};
use runner_core::plan::NewRunner;
use runner_core::quota::Past;
use runner_core::reason::Reason;
use runner_core::stray::Foundling;
use secrecy::SecretString;

pub use self::error::{CallError, CallErrorKind, CallResult, another_ledger};
pub use self::ledger::{Charges, KeptLogs, Ledger, LedgerRow};
pub use self::provider::{
    CheckRun, Credential, Delivery, DeliveryPage, Deregistered, HooksWanted, JobReading, OpenRun, Provider,
    Published, RateLimit, RegisteredRunner, Registration, RepositorySeen,
};
use crate::config::{Documents, Problem};

/// The records: jobs, runners and reservations, durable; and the configuration documents that stand beside them.
///
/// What is read by the `fn`s that are not async comes from memory: watches in a cluster, with this process's own
/// writes laid over them.
#[async_trait]
pub trait Records: Send + Sync {
    /// All records as last seen, or `None` while not every list has been read once.
    fn observe(&self) -> Option<Observed>;
    /// All documents as last seen, or `None` while not every list has been read once.
    fn documents(&self) -> Option<Arc<Documents>>;
    /// One runner, as last seen.
    fn runner(&self, name: &str) -> Option<Runner>;
    /// Whether a job is stored, as last seen.
    fn knows_job(&self, key: &JobKey) -> bool;
    /// Completes when anything that `observe` shows may have changed since the last completion.
    async fn changed(&self);

    /// The ledger that holds this installation's rows, if any process has acted yet.
    async fn ledger_in_use(&self) -> CallResult<Option<String>>;
    /// Makes this process the one that may reserve: whoever was before gets `Conflict` from then on. `ledger`: the id
    /// of the ledger that this process writes; `adopt`: let it replace another one.
    ///
    /// # Errors
    /// `Refused` where the installation's rows are in another ledger.
    async fn take_over(&self, holder: &str, ledger: &str, adopt: bool) -> CallResult<()>;

    /// Stores a fact, durably, and the job with it if it is new.
    ///
    /// # Errors
    /// `Refused` where no more jobs can be stored; otherwise what the store said. On any error the fact is not
    /// known to be stored, and telling it again is harmless.
    async fn tell(&self, told: &Told) -> CallResult<Stored>;
    /// Tells people who watch a job that its reason is another one now. Best effort: never waits, may be dropped.
    fn announce(&self, _job: &JobKey, _standing: Standing, _reason: &Reason) {}
    /// Writes what is to be known of a job.
    async fn report(&self, job: &JobKey, report: &JobReport) -> CallResult<()>;
    /// Adds to what Stint found out about a job; what is set stays. Of a job whose record is gone, nothing is kept.
    async fn note(&self, job: &JobKey, finding: &Finding) -> CallResult<()>;
    /// Deletes a job's record. One that is gone already is no error.
    async fn expire(&self, job: &JobKey) -> CallResult<()>;

    /// Adds names to the reservations, all or none, by compare-and-swap.
    ///
    /// # Errors
    /// `Conflict` where another process has changed the reservations: this one must stop to act.
    async fn reserve(&self, runners: &[String]) -> CallResult<()>;
    /// What earlier writes of reservations remembered of groups that were made and deleted.
    fn remembered(&self) -> Past;
    /// What the next write of reservations is to remember beside them.
    fn remember(&self, past: &Past);
    /// Whether a name is reserved, as far as this process has written.
    fn is_reserved(&self, runner: &str) -> bool;
    /// Takes names out of the reservations. Names that are not in them are no error.
    async fn unreserve(&self, runners: &[String]) -> CallResult<()>;

    /// Writes the record of a new runner. One that exists already is no error.
    async fn create_runner(&self, new: &NewRunner, at: Timestamp) -> CallResult<()>;
    /// Adds facts to a runner's record.
    ///
    /// # Errors
    /// `NotFound` where there is no such record; otherwise what the store said.
    async fn record(&self, runner: &str, facts: &[RunnerFact]) -> CallResult<()>;
    /// Stores what the runner's machine must be handed, by file name; it must be read by nobody else.
    async fn put_credential(&self, runner: &str, files: &BTreeMap<String, SecretString>) -> CallResult<()>;
    /// Deletes that. Gone already is no error.
    async fn delete_credential(&self, runner: &str) -> CallResult<()>;
    /// Reads that, for a machine that Stint creates without a cluster. `NotFound` if there is none.
    async fn credential(&self, runner: &str) -> CallResult<BTreeMap<String, SecretString>>;
    /// The names of all runners for which a credential is stored.
    async fn credentials(&self) -> CallResult<Vec<String>> {
        Ok(Vec::new())
    }
    /// Writes the record of a runner of which only its machine is left, with what is certain of it. One that exists already
    /// is no error. A record without these facts would pass for a runner that is yet to be started: both are written at
    /// once, or such a half is never taken for a whole.
    async fn adopt(&self, foundling: &Foundling) -> CallResult<()> {
        self.create_runner(&foundling.new, foundling.created_at).await?;
        self.record(&foundling.new.name, &foundling.facts).await
    }
    /// Lets a runner's record go: the last thing that is ever done for it. Gone already is no error.
    async fn release(&self, runner: &str) -> CallResult<()>;

    /// The values of a secret that a document names, by key.
    ///
    /// # Errors
    /// `NotFound` where there is none of that name.
    async fn secret(&self, name: &str) -> CallResult<HashMap<String, SecretString>>;
    /// Writes beside each document what keeps it from being used, or that nothing does.
    async fn note_problems(&self, problems: &[Problem]) -> CallResult<()>;
    /// How far the deliveries of a source's hooks are accounted for, by the hook's name, as read from the store itself.
    /// Nothing where the records have no place for that: then all that the source keeps is looked at again.
    async fn swept(&self, _source: &str) -> CallResult<BTreeMap<String, Timestamp>> {
        Ok(BTreeMap::new())
    }
    /// Keeps how far one hook's are.
    async fn note_swept(&self, _source: &str, _hook: &str, _to: Timestamp) -> CallResult<()> {
        Ok(())
    }
    /// Writes beside each document what people should know of it, although it is in use; and takes back what no longer is so.
    async fn note_advisories(&self, _advisories: &[Problem]) -> CallResult<()> {
        Ok(())
    }
    /// What tells the place where these records are from any other such place, as long as that is there: it must outlive a
    /// restored or lost state of the records themselves, where something does.
    async fn identity(&self) -> CallResult<String> {
        Ok(String::new())
    }
    /// Writes beside each budget's document how it stands, where documents have a place for that; not at every change.
    async fn note_budgets(&self, _figures: &[Figures]) -> CallResult<()> {
        Ok(())
    }
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is the first of its job.
    NewJob,
    /// It was added to its job.
    Added,
    /// It was stored before.
    Known,
}

/// Everything that the records show.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Jobs.
    pub jobs: Vec<Job>,
    /// Runners.
    pub runners: Vec<Runner>,
    /// Reserved names.
    pub reserved: std::collections::BTreeSet<String>,
}

/// Pods, and the virtual nodes that run them.
#[async_trait]
pub trait Pods: Send + Sync {
    /// Machines by runner name, and virtual nodes, as last seen; `None` while not every list has been read once.
    fn observe(&self) -> Option<PodsObserved>;
    /// Completes when anything that `observe` shows may have changed since the last completion.
    async fn changed(&self);
    /// Creates a runner's pod, and answers its UID. One of the same runner that exists already counts.
    async fn create(&self, order: &PodOrder) -> CallResult<String>;
    /// The UID of a runner's pod, read from the server itself; `None` if there is none.
    async fn find(&self, runner: &Runner) -> CallResult<Option<String>>;
    /// Deletes a runner's pod at once. Gone already is no error.
    async fn delete(&self, runner: &Runner) -> CallResult<()>;
    /// Name of the container group that a runner's pod becomes.
    fn group_name(&self, runner: &str) -> String;
    /// The namespace that such groups are tagged with.
    fn namespace(&self) -> &str {
        ""
    }
    /// All pods that carry this installation's label, read from the server itself.
    async fn list(&self) -> CallResult<Vec<PodFound>> {
        Ok(Vec::new())
    }
}

/// A pod, as the server lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFound {
    /// Its name: its runner's.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// The environment of its runner's container, as far as it is plain values.
    pub env: BTreeMap<String, String>,
}

/// What pods and nodes show.
#[derive(Clone, Debug, Default)]
pub struct PodsObserved {
    /// Machines by runner name.
    pub machines: HashMap<String, Machine>,
    /// Virtual nodes.
    pub nodes: Vec<VirtualNodeSeen>,
}

/// A virtual node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualNodeSeen {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints, as (key, value, effect).
    pub taints: Vec<(String, String, String)>,
}

/// All that a runner's machine is made from.
#[derive(Clone, Debug)]
pub struct PodOrder {
    /// The runner.
    pub runner: Runner,
    /// Its class.
    pub class: Arc<crate::config::ResolvedClass>,
    /// Its place.
    pub place: Arc<crate::config::ResolvedPlace>,
    /// What tells this installation from any other.
    pub origin: String,
}

/// Container groups in Azure.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Reads a group; `None` if there is none (404).
    async fn get(&self, group: &GroupAddress) -> CallResult<Option<Group>>;
    /// Creates a group.
    async fn create(&self, group: &GroupAddress, order: &GroupOrder) -> CallResult<()>;
    /// Asks for a group's deletion. Gone already is no error.
    async fn delete(&self, group: &GroupAddress) -> CallResult<()>;
    /// The last lines of a container's log, at most 64 KiB; empty if there is none.
    async fn logs(&self, group: &GroupAddress, container: &str) -> CallResult<String>;
    /// All groups of a resource group, without their instance views.
    async fn list(&self, subscription: &str, resource_group: &str) -> CallResult<Vec<Group>>;
    /// What Azure says is in use of a region's quotas, by everybody in the subscription, and may be.
    async fn usage(&self, subscription: &str, region: &str) -> CallResult<Usage>;
}

/// What is in use of a region's quotas, as (in use, limit), where Azure says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Container groups.
    pub groups: Option<(u64, u64)>,
    /// Cores of standard groups.
    pub cores: Option<(u64, u64)>,
}

/// Where a container group is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupAddress {
    /// Azure subscription id.
    pub subscription: String,
    /// Resource group.
    pub resource_group: String,
    /// Name of the container group.
    pub name: String,
}

impl GroupAddress {
    /// The group's resource id.
    pub fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerInstance/containerGroups/{}",
            self.subscription, self.resource_group, self.name
        )
    }
}

/// A container group as Azure shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Resource id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// `provisioningState`, as Azure writes it.
    pub provisioning_state: String,
    /// `instanceView.state`; empty where it is not shown.
    pub state: String,
    /// When the first image pull began, from the containers' events.
    pub pull_started: Option<Timestamp>,
    /// When the first container started.
    pub started: Option<Timestamp>,
    /// When the last container stopped, if all have.
    pub stopped: Option<Timestamp>,
    /// The last event or error, for people.
    pub message: Option<String>,
    /// The environment of its containers, as far as Azure shows it: never a secure value.
    pub env: BTreeMap<String, String>,
    /// How often its containers were started again.
    pub restarts: u32,
}

/// Tag of a group that Stint creates itself: the installation's id.
pub const INSTALLATION_TAG: &str = "stint-installation";
/// Tag of such a group: the runner's name.
pub const RUNNER_TAG: &str = "stint-runner";

/// What a group that Stint creates itself is made from: one container, and the credential as a secret volume.
#[derive(Clone, Debug)]
pub struct GroupOrder {
    /// Region, such as `westeurope`.
    pub region: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Image.
    pub image: String,
    /// CPU and memory, as ([cores], [GB]).
    pub size: (rust_decimal::Decimal, rust_decimal::Decimal),
    /// Environment of the container. No secrets.
    pub env: BTreeMap<String, String>,
    /// Files of the secret volume, mounted at `mount_path`.
    pub files: BTreeMap<String, SecretString>,
    /// Where the secret volume is mounted.
    pub mount_path: String,
    /// Registry credentials, as (server, username, password).
    pub registries: Vec<(String, String, SecretString)>,
}
