//! What admins configured, resolved: every default filled in, every name looked up.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use crate::budget::Budget;
use crate::limit::{ConcurrencyLimit, PriorityRule};
use crate::quota::Quota;

/// The whole configuration of an installation, as the planner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Settings of the installation.
    pub settings: Settings,
    /// Sources by name.
    pub sources: BTreeMap<String, Source>,
    /// Classes by name.
    pub classes: BTreeMap<String, Class>,
    /// Places by name.
    pub places: BTreeMap<String, Place>,
    /// Limits by name.
    pub limits: BTreeMap<String, ConcurrencyLimit>,
    /// Azure's quotas, by subscription and region.
    pub quotas: BTreeMap<String, Quota>,
    /// Budgets by name.
    pub budgets: BTreeMap<String, Budget>,
}

/// Settings of the installation as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Installation id: 1 to 8 of `a-z0-9`. It starts every runner's name.
    pub installation: String,
    /// How many runners there may be at once, over all classes.
    pub max_runners: u32,
    /// A `queued` older than this is confirmed with its source before a runner is started for it.
    pub confirm_after: SignedDuration,
    /// How long an ended job's record is kept.
    pub ttl_after_end: SignedDuration,
    /// How long a runner that no job needs is kept for one that may come.
    pub surplus_grace: SignedDuration,
    /// Wait before a job's second runner; doubled for each further one.
    pub retry_base: SignedDuration,
    /// Which jobs go first: the first rule that matches holds.
    pub priorities: Vec<PriorityRule>,
    /// How long a job waits for each step that its priority rises, at most to the highest that a rule gives.
    pub age_every: SignedDuration,
    /// How long a job waits before room is kept for it that smaller ones would take.
    pub reserve_after: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            installation: "stint".to_owned(),
            max_runners: 50,
            confirm_after: SignedDuration::from_mins(10),
            ttl_after_end: SignedDuration::from_hours(24),
            surplus_grace: SignedDuration::from_secs(30),
            retry_base: SignedDuration::from_secs(10),
            priorities: Vec::new(),
            age_every: SignedDuration::from_mins(10),
            reserve_after: SignedDuration::from_mins(10),
        }
    }
}

/// Where jobs come from and runners register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Why no runner can register there now, in one line, if so.
    pub unavailable: Option<String>,
    /// How many more runners it lets register, where it has told.
    pub registrations: Option<Registrations>,
    /// Whether jobs of public repositories get runners.
    pub allow_public: bool,
    /// How long a job waits before its commit shows why; `None`: it never does.
    pub notice_after: Option<SignedDuration>,
    /// Accounts whose jobs are served.
    pub owners: Vec<String>,
    /// Repositories (`owner/name`) whose jobs are served; their runners register at the repository.
    pub repositories: Vec<String>,
    /// Where runners for jobs of `owners` register.
    pub register_at: RegisterAt,
}

/// What a source lets register (GitHub: the limit of its own that `generate-jitconfig` has).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registrations {
    /// How many runners more, until `reset`.
    pub left: u64,
    /// How many from then on.
    pub limit: u64,
    /// When the limit is given anew.
    pub reset: Timestamp,
}

/// Where runners for jobs of an owner register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RegisterAt {
    /// At the owner, but at the repository where a limit tells the owner's repositories apart.
    #[default]
    Auto,
    /// At the owner. A job that a limit holds back may be handed a runner of another repository's.
    Owner,
    /// At the repository.
    Repository,
}

impl Source {
    /// Where a runner for a job of this repository registers by the source's lists alone, or `None` if the repository
    /// is not served. [`crate::isolation`] has the last word.
    ///
    /// A repository that is listed itself registers at the repository, else at its owner. Names compare without
    /// regard to case, as GitHub's do.
    pub fn scope_of(&self, owner: &str, repository: &str) -> Option<Scope> {
        if self.repositories.iter().any(|listed| listed.eq_ignore_ascii_case(repository)) {
            return Some(Scope::Repository(repository.to_owned()));
        }
        if self.owners.iter().any(|listed| listed.eq_ignore_ascii_case(owner)) {
            return Some(Scope::Owner(owner.to_owned()));
        }
        None
    }
}

/// Where a runner registers, hence which jobs its source may hand it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// An organization.
    Owner(String),
    /// One repository, as `owner/name`.
    Repository(String),
}

impl Scope {
    /// Whether a runner registered here may be handed a job of this repository.
    pub fn serves(&self, owner: &str, repository: &str) -> bool {
        match self {
            Scope::Owner(name) => name.eq_ignore_ascii_case(owner),
            Scope::Repository(name) => name.eq_ignore_ascii_case(repository),
        }
    }
}

/// What a runner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name; also the label that asks for it where it has a single size.
    pub name: String,
    /// Its sizes by name. A class with a single size names it with the empty string.
    pub sizes: BTreeMap<String, Size>,
    /// Within which bounds jobs may ask for a size of their own, if they may.
    pub custom_size: Option<CustomSize>,
    /// What its runners need that not every place can give.
    pub needs: BTreeSet<Need>,
    /// Labels that its runners carry besides the one that asks for it, in lower case.
    pub labels: Vec<String>,
    /// How many of its runners there may be at once, over all sizes.
    pub max_runners: u32,
    /// Names of the places where its runners may run, in order; `None`: the only place there is.
    pub places: Option<Vec<String>>,
    /// How long each stage of a runner's life may take.
    pub deadlines: Deadlines,
    /// How many runners may be started for one job.
    pub max_attempts: u32,
    /// How long one of its runners is expected to take, from its image's pull to its end, where an admin says so.
    pub expected_duration: Option<SignedDuration>,
}

/// Within which bounds jobs may ask for a size of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomSize {
    /// The least and the most CPU, in thousandths of a core.
    pub cpu_millis: (u32, u32),
    /// The least and the most memory, in bytes.
    pub memory_bytes: (u64, u64),
}

/// What a runner may need that not every place can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// A container engine in the job, which needs privileges that Azure Container Instances never grants.
    Docker,
    /// A privileged container. Classic virtual nodes ignore the wish silently.
    Privileged,
    /// A GPU.
    Gpu,
    /// Windows.
    Windows,
    /// A PersistentVolumeClaim or the like.
    PersistentVolumes,
    /// Something of the node itself: its paths, its network, what a DaemonSet runs there.
    Node,
}

impl Need {
    /// Its word in a RunnerClass.
    pub fn as_str(self) -> &'static str {
        match self {
            Need::Docker => "Docker",
            Need::Privileged => "Privileged",
            Need::Gpu => "Gpu",
            Need::Windows => "Windows",
            Need::PersistentVolumes => "PersistentVolumes",
            Need::Node => "Node",
        }
    }
}

/// How large a runner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// CPU in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// How many runners of this size there may be at once, if that is limited.
    pub max_runners: Option<u32>,
}

/// How long each stage of a runner's life may take. Each has its reason in [`crate::reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the pod's creation until a node has it.
    pub scheduled: SignedDuration,
    /// From then until its container runs (image pull included).
    pub running: SignedDuration,
    /// From then until the agent is known to its source.
    pub online: SignedDuration,
    /// From then until it has a job.
    pub idle: SignedDuration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            scheduled: SignedDuration::from_mins(2),
            running: SignedDuration::from_mins(15),
            online: SignedDuration::from_mins(5),
            idle: SignedDuration::from_mins(5),
        }
    }
}

/// Where a runner can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: PlaceKind,
    /// Whether new runners may start there.
    pub state: PlaceState,
    /// Why nothing can start there now, in one line, if so (such as a node that is not ready).
    pub unready: Option<String>,
    /// What a runner costs there. Nothing is billed for a node pool.
    pub price: Price,
    /// How long a runner's pod may find no node there before the next place is tried. Of node pools only.
    pub burst_after: SignedDuration,
    /// Which of the quotas its container groups come under. None where none stand behind its runners.
    pub quota: Option<String>,
    /// Whether its node is of virtual nodes v2, which can do more than classic ones.
    pub v2: bool,
}

impl Place {
    /// Whether runners here can have it (facts of azure-aci 1.6.4 and of Azure's documentation: virtual nodes run Linux
    /// containers without privileges or devices; v2 mounts claims on Azure Files).
    pub fn gives(&self, need: Need) -> bool {
        match self.kind {
            PlaceKind::NodePool => true,
            PlaceKind::VirtualNode => self.v2 && need == Need::PersistentVolumes,
            PlaceKind::ContainerInstances => false,
        }
    }
}

/// What a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceKind {
    /// An AKS virtual node: a pod there becomes a container group.
    VirtualNode,
    /// Azure Container Instances without a cluster: Stint creates the group itself.
    ContainerInstances,
    /// A pool of virtual machines in the cluster: a pod there is a pod, and nothing in Azure stands behind it alone.
    NodePool,
}

impl PlaceKind {
    /// Whether a container group in Azure stands behind each runner: it has a meter, and may outlive its pod.
    pub fn has_group(self) -> bool {
        match self {
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => true,
            PlaceKind::NodePool => false,
        }
    }
}

/// Whether new runners may start at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlaceState {
    /// They may.
    #[default]
    Active,
    /// They may not; those that run go on.
    Draining,
    /// They may not, for now; those that run go on.
    Paused,
}

/// What a container group costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// ISO 4217 code.
    pub currency: String,
    /// For one vCPU for an hour.
    pub vcpu_hour: Decimal,
    /// For one GB of memory (10^9 bytes, as azure-aci sizes groups) for an hour.
    pub gb_hour: Decimal,
}

impl Default for Price {
    /// Azure Container Instances, Linux, East US, pay as you go (Azure Retail Prices API, product "Container
    /// Instances", sku "Standard").
    fn default() -> Self {
        Self { currency: "USD".to_owned(), vcpu_hour: Decimal::new(405, 4), gb_hour: Decimal::new(445, 5) }
    }
}

/// Adds a duration to a moment, and stays at the last moment there is instead of failing.
pub(crate) fn saturating_add(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}
