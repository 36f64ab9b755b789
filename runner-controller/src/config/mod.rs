//! The configuration documents and records as API types (`stint.dev/v1alpha1`), and what the documents resolve to.
//!
//! The kinds derive their CustomResourceDefinitions; the same documents are read from a cluster and from a directory.

pub mod admission;
pub mod budget;
pub mod class;
pub mod conditions;
pub mod convert;
pub mod crds;
pub mod directory;
pub mod found;
pub mod limit;
pub mod origins;
pub mod place;
pub mod pod_template;
pub mod quantity;
pub mod records;
pub mod resolve;
mod shape;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use runner_core::limit::PriorityRule;
use runner_core::setup::{Place, Setup};

pub use admission::Admission;
pub use budget::{Budget, BudgetSpec};
pub use class::{RunnerClass, RunnerClassSpec};
pub use limit::{ConcurrencyLimit, ConcurrencyLimitSpec};
pub use place::{Callback, RunnerPlace, RunnerPlaceSpec};
pub use records::{Runner, RunnerJob};
pub use resolve::resolve;
pub use source::{RunnerSource, RunnerSourceSpec};

use origins::Origin;
use place::TolerationSpec;

/// The image of the runner that this release is made for.
pub const DEFAULT_IMAGE: &str = concat!("stint-runner:", env!("CARGO_PKG_VERSION"));

/// All configuration documents, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// `RunnerSource`s.
    pub sources: BTreeMap<String, RunnerSourceSpec>,
    /// `RunnerClass`es.
    pub classes: BTreeMap<String, RunnerClassSpec>,
    /// `RunnerPlace`s.
    pub places: BTreeMap<String, RunnerPlaceSpec>,
    /// `ConcurrencyLimit`s.
    pub limits: BTreeMap<String, ConcurrencyLimitSpec>,
    /// `Budget`s.
    pub budgets: BTreeMap<String, BudgetSpec>,
    /// Documents that are not of their kind's form.
    pub unreadable: Vec<Problem>,
}

/// Settings of the installation, from flags and environment: what documents fall back on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installation {
    /// Installation id: 1 to 8 of `a-z0-9`, beginning with a letter.
    pub id: String,
    /// How many runners there may be at once.
    pub max_runners: u32,
    /// Which jobs go first.
    pub priorities: Vec<PriorityRule>,
    /// How long a job waits for each step that its priority rises, where that is given.
    pub age_every: Option<SignedDuration>,
    /// How long a job waits before room is kept for it, where that is given.
    pub reserve_after: Option<SignedDuration>,
    /// Where agents reach Stint.
    pub callback: Option<Callback>,
    /// Azure subscription id.
    pub subscription: Option<String>,
    /// Azure resource group of the container groups.
    pub resource_group: Option<String>,
    /// Azure region.
    pub region: Option<String>,
}

/// What the documents resolve to.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// For the planner.
    pub setup: Setup,
    /// For intake and providers.
    pub sources: BTreeMap<String, Arc<ResolvedSource>>,
    /// For machines.
    pub classes: BTreeMap<String, Arc<ResolvedClass>>,
    /// For machines.
    pub places: BTreeMap<String, Arc<ResolvedPlace>>,
    /// What keeps documents from being used.
    pub problems: Vec<Problem>,
    /// Every value in force, and where it came from.
    pub origins: Vec<Origin>,
}

/// A source, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedSource {
    /// Its name.
    pub name: String,
    /// Base URL of the API.
    pub api_url: String,
    /// Name of the Secret.
    pub secret_ref: String,
    /// Runner group.
    pub runner_group_id: u64,
    /// Proxy.
    pub proxy: Option<String>,
    /// PEM certificates to trust besides the public ones.
    pub ca_bundle: Option<String>,
    /// Organizations served.
    pub owners: Vec<String>,
    /// Repositories served.
    pub repositories: Vec<String>,
    /// How Stint hears of jobs.
    pub intake: Intake,
}

/// How Stint hears of a source's jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intake {
    /// By deliveries that are sent to it.
    #[default]
    Webhook,
    /// By reading the deliveries of the hook, at this interval.
    Poll(SignedDuration),
}

/// A class, resolved, with what the planner does not need.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedClass {
    /// Its name.
    pub name: String,
    /// Image.
    pub image: String,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// Additions to the pod, validated.
    pub pod_template: Option<serde_json::Value>,
    /// Whether its runners ask for a GPU.
    pub gpu: bool,
}

/// A place, resolved, with what the planner does not need.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPlace {
    /// The planner's view.
    pub place: Place,
    /// Labels by which pods select the node. Empty without a cluster.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of a node pool that pods tolerate.
    pub tolerations: Vec<TolerationSpec>,
    /// Whether the node is of virtual nodes v2, which run real sidecars unless told not to.
    pub v2: bool,
    /// Azure subscription id.
    pub subscription: String,
    /// Resource group.
    pub resource_group: String,
    /// Region.
    pub region: String,
    /// Where agents reach Stint.
    pub callback: Option<Callback>,
}

/// What keeps a document from being used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The field, the value and the remedy, in one line.
    pub message: String,
}
