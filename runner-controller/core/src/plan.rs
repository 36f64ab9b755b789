//! One planning pass: what is known goes in, what to do comes out.
//!
//! Level-triggered: a pass looks at all there is and nothing else, so that a lost or repeated event changes when
//! something happens, never what.

mod admissions;
mod branches;
mod in_use;
mod jobs;
mod keeping;
mod kinds;
mod reading;
mod registrations;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use branches::Branches;
use foldhash::HashMapExt as _;
use jiff::Timestamp;
use kinds::Views;
use registrations::Left;
use sha2::{Digest, Sha256};

use crate::budget::{Budgets, Spending};
use crate::health::{Health, Rooms};
use crate::job::{Job, JobKey, JobReport};
use crate::labels::Matched;
use crate::lifecycle::{Machine, Runner, RunnerFacts, Step};
use crate::pairing::{self, JobView};
use crate::placement;
use crate::quota::{AzureUse, Changes, Quotas};
use crate::reason::Reason;
use crate::setup::{Class, Place, PlaceKind, Scope, Setup, Size};

/// All that a planning pass looks at.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The configuration, resolved.
    pub setup: Setup,
    /// Every job that is stored.
    pub jobs: Vec<Job>,
    /// Every runner that is recorded.
    pub runners: Vec<Runner>,
    /// Machines by runner name.
    pub machines: HashMap<String, Machine>,
    /// What is remembered of places that had no room.
    pub health: Health,
    /// What is remembered of groups that were made and deleted.
    pub changes: Changes,
    /// What Azure says of each quota that it was asked about.
    pub azure: HashMap<String, AzureUse>,
    /// What the ledger tells that budgets need.
    pub spending: Spending,
    /// Names reserved in the `Admission` object.
    pub reserved: BTreeSet<String>,
    /// Actions that are under way, or that a failure holds back until a moment, by what they are held under
    /// ([`Action::held_under`], [`held_branches_of`]).
    pub held: HashMap<String, Hold>,
}

/// Why a runner or job is left alone for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// An action is under way.
    InFlight,
    /// The last action failed; not before this moment.
    Until(Timestamp),
}

/// What a pass decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do. Actions are independent, and no two of them are held under the same name.
    pub actions: Vec<Action>,
    /// Why each job that waits, is refused or was given up is so.
    pub reasons: BTreeMap<JobKey, Arc<Reason>>,
    /// The jobs that wait for room, in the order in which they get it, each by its place among those that have a reason.
    line: Vec<usize>,
    /// When the next pass is due at the latest, if time alone can change the plan.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    /// The jobs that wait for room, in the order in which they get it.
    pub fn line(&self) -> Vec<&JobKey> {
        let keys: Vec<&JobKey> = self.reasons.keys().collect();
        self.line.iter().filter_map(|place| keys.get(*place).copied()).collect()
    }
}

/// Something to do to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reserve a runner and write its record.
    Start(Box<NewRunner>),
    /// Take the next step in a runner's life.
    Step {
        /// Name of the runner.
        runner: String,
        /// The step.
        step: Step,
        /// The reason to tear it down, where that is new.
        because: Option<Reason>,
    },
    /// Write what is to be known of a job.
    Report {
        /// The job.
        job: JobKey,
        /// What to write.
        report: JobReport,
    },
    /// Ask the job's source how it stands.
    ReadJob {
        /// The job.
        job: JobKey,
    },
    /// Ask the job's source whether it runs the code of a protected branch.
    ReadBranch {
        /// The job.
        job: JobKey,
    },
    /// Delete the job's record.
    Expire {
        /// The job.
        job: JobKey,
    },
    /// Give back a reservation that no record followed.
    Unreserve {
        /// Name of the runner.
        runner: String,
    },
}

impl Action {
    /// What an action is held under while it is under way or held back: the name of its runner, before that has a record
    /// as after, or the key of its job. Calls to a job's source are held apart from what its record is told: either may
    /// end first, or fail, without a word about the other.
    pub fn held_under(&self) -> String {
        match self {
            Action::Start(new) => new.name.clone(),
            Action::Step { runner, .. } | Action::Unreserve { runner } => runner.clone(),
            Action::Report { job, .. } | Action::Expire { job } => job.to_string(),
            Action::ReadJob { job } => held_reading(job),
            Action::ReadBranch { job } => format!("{job}{BRANCH}"),
        }
    }
}

/// How the name ends under which the reading of a job's branch is held.
const BRANCH: &str = " branch";
/// How the name ends under which all readings of a source's branches are held back.
const BRANCHES: &str = " branches";

/// What the reading of a job is held under.
fn held_reading(job: &JobKey) -> String {
    format!("{job} reading")
}

/// What all readings of a source's branches are held back under, where it can be asked about none of them.
pub fn held_branches_of(source: &str) -> String {
    format!("{source}{BRANCHES}")
}

/// A runner to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRunner {
    /// Its name.
    pub name: String,
    /// The job that it is started for.
    pub job: JobKey,
    /// Which of the job's runners it is.
    pub ordinal: u32,
    /// Where it registers.
    pub scope: Scope,
    /// Its class and size.
    pub matched: Matched,
    /// The labels that it registers with.
    pub labels: Vec<String>,
    /// Its resources.
    pub size: Size,
    /// Where it runs.
    pub place: String,
    /// What that place is.
    pub kind: PlaceKind,
}

impl NewRunner {
    /// The record that follows from it, without any fact yet.
    #[must_use]
    pub fn record(self, created_at: Timestamp) -> Runner {
        let Self { name, job, ordinal, scope, matched, labels, size, place, kind } = self;
        Runner {
            name,
            job,
            ordinal,
            scope,
            matched,
            labels,
            size,
            place,
            kind,
            created_at,
            deleted: false,
            facts: RunnerFacts::default(),
        }
    }
}

/// Decides what to do now. Deterministic: the same snapshot and moment give the same plan, in whatever order jobs and
/// runners stand.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut pass = Pass::new(snapshot, now);
    let views = Views::new(snapshot, &pass.by_job);
    let pairing = pairing::pair(&views.list, &snapshot.runners);
    let mut in_use = pass.in_use(&views);
    pass.quotas = pass.quotas(&views, &in_use);
    pass.registrations = pass.registrations(&views, &in_use);
    pass.upkeep(&views, &pairing, &mut in_use.usage);
    pass.jobs(&views, &pairing, in_use);
    pass.finish(&views)
}

/// The name of a job's runner with this number: the installation's id and a hash, within what pods, container groups
/// and GitHub allow together (facts: at most 63 with the namespace, lower case, no dots).
pub fn runner_name(installation: &str, job: &JobKey, ordinal: u32) -> String {
    let digest = Sha256::digest(format!("{}\n{}\n{}\n{ordinal}", job.source, job.id, job.attempt));
    let hash = digest.iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    format!("{installation}-{hash:016x}")
}

struct Pass<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    /// Recorded runners by name.
    by_name: foldhash::HashMap<&'a str, &'a Runner>,
    /// Recorded runners by the job that they were started for, and their number.
    by_job: Vec<&'a Runner>,
    /// Which places have room.
    rooms: Rooms<'a>,
    /// How much is asked about branches.
    branches: Branches<'a>,
    /// What is used of Azure's quotas.
    quotas: Quotas<'a>,
    /// How many more runners may register.
    registrations: Left<'a>,
    /// Why jobs wait, by their place in the list of all.
    reasons: Vec<(usize, Arc<Reason>)>,
    /// The jobs that competed for room and wait, in the order in which they did, by their place in that list.
    line: Vec<usize>,
    /// What budgets have left, before this pass starts anything.
    budgets: Budgets<'a>,
    plan: Plan,
}

impl<'a> Pass<'a> {
    fn new(snapshot: &'a Snapshot, now: Timestamp) -> Self {
        let mut by_name = foldhash::HashMap::with_capacity(snapshot.runners.len());
        let mut by_job: Vec<&Runner> = snapshot.runners.iter().collect();
        by_job.sort_by(|a, b| (&a.job, a.ordinal).cmp(&(&b.job, b.ordinal)));
        for runner in &snapshot.runners {
            by_name.insert(runner.name.as_str(), runner);
        }
        let rooms = Rooms::of(&snapshot.setup, &snapshot.health, &snapshot.runners, &snapshot.machines, now);
        let budgets = Budgets::of(snapshot, now);
        Self {
            snapshot,
            now,
            by_name,
            by_job,
            rooms,
            branches: Branches::of(snapshot),
            quotas: Quotas::default(),
            registrations: Left::default(),
            budgets,
            reasons: Vec::new(),
            line: Vec::new(),
            plan: Plan::default(),
        }
    }

    /// The plan, with the reasons in the order of their jobs.
    fn finish(mut self, views: &Views<'a>) -> Plan {
        self.reasons.sort_by_key(|(index, _)| *index);
        let mut places: Vec<usize> = vec![0; views.list.len()];
        for (place, (index, _)) in self.reasons.iter().enumerate() {
            if let Some(known) = places.get_mut(*index) {
                *known = place;
            }
        }
        self.plan.line = self.line.into_iter().filter_map(|index| places.get(index).copied()).collect();
        let keyed = self.reasons.into_iter().filter_map(|(index, reason)| {
            let view = views.list.get(index)?;
            Some((view.job.key.clone(), reason))
        });
        self.plan.reasons = keyed.collect();
        self.plan
    }

    /// The runners that were started for a job and are recorded, by their number.
    fn own(&self, view: &JobView<'_>) -> &[&'a Runner] {
        self.by_job.get(view.own.clone()).unwrap_or_default()
    }

    /// The number that the job's next runner has.
    fn next_ordinal(&self, view: &JobView<'_>) -> u32 {
        let recorded = self.own(view).last().map_or(0, |runner| runner.ordinal);
        recorded.max(view.job.report.runners_started).saturating_add(1)
    }

    /// The first of the class's places, but for the one given, that can start a runner of this size now.
    fn place_for(
        &mut self,
        class: &Class,
        size: Size,
        not: Option<&str>,
        mut limits: impl FnMut(&'a Place) -> Result<(), Reason>,
    ) -> Result<&'a Place, Reason> {
        let mut again: Option<Timestamp> = None;
        let found = placement::choose(&self.snapshot.setup, class, |place| {
            let full = |until| Reason::PlaceFull { place: place.name.clone(), until };
            if not == Some(place.name.as_str()) {
                return Err(full(None));
            }
            self.rooms.room(&place.name, size).map_err(|until| {
                again = again.into_iter().chain(until).min();
                full(until)
            })?;
            self.quotas.room(place, size).map_err(|exceeded| {
                again = again.into_iter().chain(exceeded.until).min();
                let (place, of) = (place.name.clone(), self.quotas.name(place).to_owned());
                Reason::QuotaReached { place, of, exceeded }
            })?;
            limits(place)
        });
        // A place that comes before the one found, or that stands for none, may have room again by then.
        self.wake(again);
        found
    }

    fn is_held(&mut self, name: &str) -> bool {
        match self.snapshot.held.get(name).copied() {
            Some(Hold::InFlight) => true,
            Some(Hold::Until(until)) if until > self.now => {
                self.wake(Some(until));
                true
            }
            Some(Hold::Until(_)) | None => false,
        }
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.plan.wake_at = match (self.plan.wake_at, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(test)]
mod tests;
