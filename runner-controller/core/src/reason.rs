//! Why a job waits, is refused or was given up, and why a runner is torn down.
//!
//! Every reason has a stable code, one sentence, a remedy, and a page `docs/errors/<code>.md`; a test compares.

mod gist;
mod remedy;
mod sentence;

use jiff::Timestamp;

pub use self::gist::gist;
use crate::budget::Shortage;
use crate::limit::Capped;
use crate::quota::Exceeded;
use crate::setup::Need;

/// Why something is as it is, with the figures that the sentence needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the figures that `sentence` names")]
pub enum Reason {
    // A job waits.
    /// The installation's limit on runners is reached.
    InstallationFull { running: u32, limit: u32 },
    /// The class's limit on runners is reached.
    ClassFull { class: String, running: u32, limit: u32 },
    /// The limit of one size of the class is reached.
    SizeFull { label: String, running: u32, limit: u32 },
    /// A limit that the job comes under has no room for it, in the job's group of those that the limit tells apart.
    LimitReached { limit: String, group: String, what: Capped, used: u64, cap: u64, needs: u64 },
    /// A limit that the job comes under is paused.
    LimitPaused { limit: String },
    /// What room a limit has is kept for a job that has waited for long.
    ReservedForAnother { limit: String, job: String },
    /// A budget that the job would cost under has no room for what it is expected to cost.
    BudgetSpent { budget: String, figures: Box<Shortage> },
    /// It is not known what is spent of a budget that the job would cost under.
    BudgetUnknown { budget: String },
    /// The source says that the job waits for something else than a runner.
    AwaitingApproval,
    /// It was queued long ago, or had a runner already; the source is asked whether it still waits.
    ConfirmingWithSource,
    /// A limit or priority asks whether it runs the code of a protected branch; the source is asked.
    ReadingBranch,
    /// No runner can register with the source now.
    SourceUnavailable { source: String, why: String },
    /// As many runners register with the source as it lets register for now.
    RegistrationsSpent { source: String, until: Timestamp },
    /// There is no place where a runner could run.
    NoPlace,
    /// The class names a place that does not exist.
    PlaceUnknown { class: String, place: String },
    /// There are several places and the class does not say which to use.
    PlaceAmbiguous { class: String, places: Vec<String> },
    /// No place that the class may use can start a runner now.
    PlaceNotReady { place: String, why: String },
    /// The place that would be next cannot give what runners of the class need.
    PlaceUnsuitable { place: String, class: String, need: Need },
    /// The place that would be next has no room, as a runner found there a moment ago.
    PlaceFull { place: String, until: Option<Timestamp> },
    /// Azure's quota has no room for a container group of the place that would be next.
    QuotaReached { place: String, of: String, exceeded: Exceeded },
    /// The runner started for it failed; the next one comes after a pause.
    RetryPause { until: Timestamp, started: u32, limit: u32 },

    // A job is refused.
    /// None of its labels names a class.
    NoClassNamed { labels: Vec<String> },
    /// Its labels name more than one class or size.
    SeveralClassesNamed { labels: Vec<String> },
    /// It names a class with sizes, but no size.
    SizeMissing { class: String, sizes: Vec<String> },
    /// It names a size that the class does not have.
    SizeUnknown { class: String, size: String, sizes: Vec<String> },
    /// It asks for a size of its own that the class does not give.
    CustomSizeRefused { label: String, why: String },
    /// It asks for a label that the class's runners do not carry.
    LabelNotCarried { class: String, label: String },
    /// Its source is no longer configured.
    SourceMissing { source: String },
    /// Its source does not serve the repository.
    RepositoryNotServed { source: String, repository: String },
    /// The repository is public, and its source does not allow that.
    PublicRepository { source: String, repository: String },

    // A job is given up.
    /// As many runners as allowed were started for it, and none took it.
    AttemptsExhausted { started: u32, limit: u32 },

    // A runner is torn down.
    /// Its container ended.
    ContainerEnded,
    /// Its agent said that it is exiting.
    AgentExited,
    /// Its agent ended since its source takes no runner of that version.
    RunnerTooOld,
    /// Its agent ended after it had waited long for a job, as it does when its source removes an idle registration.
    IdleRemoved,
    /// The platform started its container again.
    Restarted,
    /// Its container never started.
    StartFailed { why: String },
    /// The platform has no room or no quota for its container now.
    NoCapacity { why: String },
    /// No node of its pool has room for its pod.
    Unschedulable { why: String },
    /// Its pod or group vanished.
    Vanished,
    /// A call that cannot be repeated was begun by a process that did not live to record the result.
    Interrupted { call: String },
    /// The source refused to register it.
    RegistrationFailed { why: String },
    /// Its name is another one's at its source or in Azure.
    NameTaken { why: String },
    /// No node took its pod in time.
    NotScheduled,
    /// Its container did not run in time.
    NotRunning,
    /// Its agent was not seen by the source in time.
    NotOnline,
    /// It got no job in time.
    Idle,
    /// No job needs it.
    Surplus,
    /// An admin deleted its record.
    Deleted,
}

impl Reason {
    /// Every code, in the order of the enum.
    pub const CODES: [&str; 49] = [
        "InstallationFull",
        "ClassFull",
        "SizeFull",
        "LimitReached",
        "LimitPaused",
        "ReservedForAnother",
        "BudgetSpent",
        "BudgetUnknown",
        "AwaitingApproval",
        "ConfirmingWithSource",
        "ReadingBranch",
        "SourceUnavailable",
        "RegistrationsSpent",
        "NoPlace",
        "PlaceUnknown",
        "PlaceAmbiguous",
        "PlaceNotReady",
        "PlaceUnsuitable",
        "PlaceFull",
        "QuotaReached",
        "RetryPause",
        "NoClassNamed",
        "SeveralClassesNamed",
        "SizeMissing",
        "SizeUnknown",
        "CustomSizeRefused",
        "LabelNotCarried",
        "SourceMissing",
        "RepositoryNotServed",
        "PublicRepository",
        "AttemptsExhausted",
        "ContainerEnded",
        "AgentExited",
        "RunnerTooOld",
        "IdleRemoved",
        "Restarted",
        "StartFailed",
        "NoCapacity",
        "Unschedulable",
        "Vanished",
        "Interrupted",
        "RegistrationFailed",
        "NameTaken",
        "NotScheduled",
        "NotRunning",
        "NotOnline",
        "Idle",
        "Surplus",
        "Deleted",
    ];

    /// The stable code: what is stored, and the name of the page in docs/errors.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::InstallationFull { .. } => "InstallationFull",
            Reason::ClassFull { .. } => "ClassFull",
            Reason::SizeFull { .. } => "SizeFull",
            Reason::LimitReached { .. } => "LimitReached",
            Reason::LimitPaused { .. } => "LimitPaused",
            Reason::ReservedForAnother { .. } => "ReservedForAnother",
            Reason::BudgetSpent { .. } => "BudgetSpent",
            Reason::BudgetUnknown { .. } => "BudgetUnknown",
            Reason::AwaitingApproval => "AwaitingApproval",
            Reason::ConfirmingWithSource => "ConfirmingWithSource",
            Reason::ReadingBranch => "ReadingBranch",
            Reason::SourceUnavailable { .. } => "SourceUnavailable",
            Reason::RegistrationsSpent { .. } => "RegistrationsSpent",
            Reason::NoPlace => "NoPlace",
            Reason::PlaceUnknown { .. } => "PlaceUnknown",
            Reason::PlaceAmbiguous { .. } => "PlaceAmbiguous",
            Reason::PlaceNotReady { .. } => "PlaceNotReady",
            Reason::PlaceUnsuitable { .. } => "PlaceUnsuitable",
            Reason::PlaceFull { .. } => "PlaceFull",
            Reason::QuotaReached { .. } => "QuotaReached",
            Reason::RetryPause { .. } => "RetryPause",
            Reason::NoClassNamed { .. } => "NoClassNamed",
            Reason::SeveralClassesNamed { .. } => "SeveralClassesNamed",
            Reason::SizeMissing { .. } => "SizeMissing",
            Reason::SizeUnknown { .. } => "SizeUnknown",
            Reason::CustomSizeRefused { .. } => "CustomSizeRefused",
            Reason::LabelNotCarried { .. } => "LabelNotCarried",
            Reason::SourceMissing { .. } => "SourceMissing",
            Reason::RepositoryNotServed { .. } => "RepositoryNotServed",
            Reason::PublicRepository { .. } => "PublicRepository",
            Reason::AttemptsExhausted { .. } => "AttemptsExhausted",
            Reason::ContainerEnded => "ContainerEnded",
            Reason::AgentExited => "AgentExited",
            Reason::RunnerTooOld => "RunnerTooOld",
            Reason::IdleRemoved => "IdleRemoved",
            Reason::Restarted => "Restarted",
            Reason::StartFailed { .. } => "StartFailed",
            Reason::NoCapacity { .. } => "NoCapacity",
            Reason::Unschedulable { .. } => "Unschedulable",
            Reason::Vanished => "Vanished",
            Reason::Interrupted { .. } => "Interrupted",
            Reason::RegistrationFailed { .. } => "RegistrationFailed",
            Reason::NameTaken { .. } => "NameTaken",
            Reason::NotScheduled => "NotScheduled",
            Reason::NotRunning => "NotRunning",
            Reason::NotOnline => "NotOnline",
            Reason::Idle => "Idle",
            Reason::Surplus => "Surplus",
            Reason::Deleted => "Deleted",
        }
    }

    /// Whether the job alone is more than a limit, budget or quota allows, so that no room that comes is enough.
    pub(crate) fn never_fits(&self) -> bool {
        matches!(self, Reason::LimitReached { needs, cap, .. } if needs > cap)
            || matches!(self, Reason::BudgetSpent { figures, .. } if figures.never_fits())
            || matches!(self, Reason::QuotaReached { exceeded, .. } if exceeded.never_fits())
    }
}

#[cfg(test)]
mod tests;
