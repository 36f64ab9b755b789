//! About how long a job still waits, and where it stands in line: for the person who asks, never for a decision.
//!
//! An estimate from what a pass found and from jobs that ended lately. It supposes that jobs go on as they came: that as
//! much ends in a given time as typical run times say, and that the line stays as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::job::{Job, JobAction, JobKey, JobState};
use crate::limit::Capped;
use crate::plan::Plan;
use crate::reason::Reason;

/// How many ended jobs a typical run time is taken from, the latest first.
const RECENT: usize = 20;
/// From how many ended jobs of the repository on its own run time is taken, rather than that of the class.
const ENOUGH: usize = 3;
/// How long an answer of a source takes at most, where it can be reached.
const ANSWER: SignedDuration = SignedDuration::from_secs(60);

/// What can be said of a job's wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Where it stands in line, if it waits in one.
    pub place: Option<PlaceInLine>,
    /// How long it still waits.
    pub wait: Wait,
}

/// Where a job stands among those that wait for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceInLine {
    /// From 1.
    pub rank: usize,
    /// How many wait for it.
    pub of: usize,
    /// What they wait for, such as `limit nightly`.
    pub what: String,
}

/// How long a job still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// About this long.
    About(SignedDuration),
    /// Nobody can say, for this reason.
    Unknown(&'static str),
    /// For ever, unless something changes: see [`Reason::remedy`].
    Never,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::About(wait) => {
                // Rounded to the next minute: an estimate knows no more.
                let minutes = wait.as_secs().max(0).saturating_add(30) / 60;
                match (minutes / 60, minutes % 60) {
                    (0, 0) => f.write_str("less than a minute"),
                    (0, minutes) => write!(f, "about {minutes} min"),
                    (hours, 0) => write!(f, "about {hours} h"),
                    (hours, minutes) => write!(f, "about {hours} h {minutes} min"),
                }
            }
            Wait::Unknown(why) => write!(f, "unknown: {why}"),
            Wait::Never => f.write_str("never, unless that changes"),
        }
    }
}

/// What a pass found of the jobs that have no runner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Why each of them waits, is refused or was given up.
    pub reasons: BTreeMap<JobKey, Arc<Reason>>,
    /// The order in which they would be admitted; those missing in it come last. Empty: by age.
    pub line: Vec<JobKey>,
}

impl Waiting {
    /// What a plan says of them, taken out of it.
    pub fn of(plan: &mut Plan) -> Self {
        let line = plan.line().into_iter().cloned().collect();
        Self { reasons: std::mem::take(&mut plan.reasons), line }
    }
}

/// What is said of jobs that have a reason.
pub struct Forecaster<'a> {
    jobs: &'a [Job],
    reasons: &'a BTreeMap<JobKey, Arc<Reason>>,
    /// Each job's place in the order of admission.
    in_line: BTreeMap<&'a JobKey, usize>,
    now: Timestamp,
}

impl<'a> Forecaster<'a> {
    /// Of all jobs on record, and what the last pass found.
    pub fn new(jobs: &'a [Job], waiting: &'a Waiting, now: Timestamp) -> Self {
        let order = if waiting.line.is_empty() {
            by_age(jobs, &waiting.reasons)
        } else {
            waiting.line.iter().collect()
        };
        let in_line = order.into_iter().enumerate().map(|(at, key)| (key, at)).collect();
        Self { jobs, reasons: &waiting.reasons, in_line, now }
    }

    /// What is said of one, or `None` if it has no reason.
    pub fn forecast(&self, key: &JobKey) -> Option<Forecast> {
        let end = end_of(self.reasons.get(key)?);
        let mut place: Option<PlaceInLine> = None;
        let mut wanted = 0_u64;
        if let Some(counter) = end.counter {
            let at = |key: &JobKey| self.in_line.get(key).copied().unwrap_or(usize::MAX);
            let mut others: Vec<(usize, &JobKey, u64)> = self
                .reasons
                .iter()
                .map(|(key, reason)| (key, end_of(reason)))
                .filter(|(_, other)| other.counter == Some(counter))
                .map(|(key, other)| (at(key), key, end.needs_of(&other)))
                .collect();
            others.sort_unstable();
            let rank = others.iter().position(|(_, other, _)| *other == key)?;
            wanted = others.iter().take(rank + 1).map(|(_, _, needs)| *needs).fold(0, u64::saturating_add);
            place = Some(PlaceInLine { rank: rank + 1, of: others.len(), what: counter.to_string() });
        }
        let wait = match end.when {
            When::Never => Wait::Never,
            When::Unknown(why) => Wait::Unknown(why),
            When::Within(wait) => Wait::About(wait),
            When::At(at) => Wait::About(at.duration_since(self.now).max(SignedDuration::ZERO)),
            When::Room { used: 0, .. } => Wait::Unknown("nothing that counts there runs"),
            When::Room { used, cap, .. } => {
                let job = self.jobs.iter().find(|job| job.key == *key);
                match job.and_then(|job| typical(job, self.jobs)) {
                    None => Wait::Unknown("no job of the class has ended yet"),
                    Some(run) => {
                        // So much must end before there is room for it, and so much ends in the time of one run.
                        let free = cap.saturating_sub(used);
                        let millis = u128::try_from(run.as_millis()).unwrap_or(0);
                        let wait = millis.saturating_mul(wanted.saturating_sub(free).max(1).into());
                        let wait = i64::try_from(wait / u128::from(used)).unwrap_or(i64::MAX);
                        Wait::About(SignedDuration::from_millis(wait))
                    }
                }
            }
        };
        Some(Forecast { place, wait })
    }
}

/// The jobs that have a reason, the one that waited longest first.
fn by_age<'a>(jobs: &'a [Job], reasons: &BTreeMap<JobKey, Arc<Reason>>) -> Vec<&'a JobKey> {
    let waiting = jobs.iter().filter(|job| reasons.contains_key(&job.key));
    let mut line: Vec<(Timestamp, &JobKey)> = waiting.map(|job| (job.state_since(), &job.key)).collect();
    line.sort_unstable();
    line.into_iter().map(|(_, key)| key).collect()
}

/// How long jobs like this one run: the median of those of its class that ended last, of its repository where enough did.
fn typical(job: &Job, jobs: &[Job]) -> Option<SignedDuration> {
    let class = job.report.class.as_ref()?;
    let mut ended: Vec<(Timestamp, SignedDuration, bool)> = jobs
        .iter()
        .filter(|other| other.report.class.as_ref() == Some(class))
        .filter_map(|other| {
            let (at, ran) = run_of(other)?;
            let same = other.description.repository.eq_ignore_ascii_case(&job.description.repository);
            Some((at, ran, same))
        })
        .collect();
    ended.sort_unstable_by(|a, b| b.cmp(a));
    let latest = |own: bool| {
        let chosen = ended.iter().filter(|(_, _, same)| *same || !own).take(RECENT);
        chosen.map(|(_, ran, _)| *ran).collect::<Vec<_>>()
    };
    let mut runs = latest(true);
    if runs.len() < ENOUGH {
        runs = latest(false);
    }
    runs.sort_unstable();
    runs.get(runs.len() / 2).copied()
}

/// When a job that ran ended, and how long it had run, by when Stint heard of both.
fn run_of(job: &Job) -> Option<(Timestamp, SignedDuration)> {
    let JobState::Ended { at, .. } = job.state() else { return None };
    let began = job.facts.iter().filter(|fact| fact.action == JobAction::InProgress);
    let began = began.map(|fact| fact.heard_at).min()?;
    // Where the beginning was heard of with the end or later, nothing is known of the run.
    (at > began).then(|| (at, at.duration_since(began)))
}

/// What several jobs wait for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter<'a> {
    Installation,
    Class(&'a str),
    Size(&'a str),
    Limit(&'a str, &'a str),
    Place(&'a str),
    Quota(&'a str),
    Budget(&'a str),
}

impl fmt::Display for Counter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Counter::Installation => f.write_str("the installation's limit"),
            Counter::Class(class) => write!(f, "class {class}"),
            Counter::Size(label) => write!(f, "size {label}"),
            Counter::Limit(limit, "") => write!(f, "limit {limit}"),
            Counter::Limit(limit, group) => write!(f, "limit {limit} for {group}"),
            Counter::Quota(place) => write!(f, "quota at place {place}"),
            Counter::Budget(budget) => write!(f, "budget {budget}"),
            Counter::Place(place) => write!(f, "room at place {place}"),
        }
    }
}

/// How a wait for a reason ends.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    counter: Option<Counter<'a>>,
    when: When,
}

#[derive(Clone, Copy, Debug)]
enum When {
    /// Once so much of what is in use there ended that there is room.
    Room {
        what: Capped,
        used: u64,
        cap: u64,
        needs: u64,
    },
    At(Timestamp),
    Within(SignedDuration),
    Unknown(&'static str),
    Never,
}

impl End<'_> {
    /// How much another one that waits for the same needs of what this one lacks. Where that one lacks something else, as
    /// cores instead of runners, it counts as one more like this.
    fn needs_of(&self, other: &End<'_>) -> u64 {
        match (self.when, other.when) {
            (When::Room { what, .. }, When::Room { what: same, needs, .. }) if what == same => needs,
            (When::Room { needs, .. }, _) => needs,
            (When::At(_) | When::Within(_) | When::Unknown(_) | When::Never, _) => 1,
        }
    }
}

fn end_of(reason: &Reason) -> End<'_> {
    let runners = |used: u32, cap: u32| match cap {
        0 => When::Never,
        _ => When::Room { what: Capped::Runners, used: used.into(), cap: cap.into(), needs: 1 },
    };
    if reason.never_fits() {
        // It stands in no line.
        return End { counter: None, when: When::Never };
    }
    let (counter, when) = match reason {
        Reason::InstallationFull { running, limit } => {
            (Some(Counter::Installation), runners(*running, *limit))
        }
        Reason::ClassFull { class, running, limit } => {
            (Some(Counter::Class(class)), runners(*running, *limit))
        }
        Reason::SizeFull { label, running, limit } => (Some(Counter::Size(label)), runners(*running, *limit)),
        Reason::LimitReached { limit, group, what, used, cap, needs } => {
            let when = When::Room { what: *what, used: *used, cap: *cap, needs: *needs };
            (Some(Counter::Limit(limit, group)), when)
        }
        Reason::ReservedForAnother { .. } => (None, When::Unknown("a larger job goes first")),
        Reason::AwaitingApproval => (None, When::Unknown("somebody must approve it")),
        Reason::ConfirmingWithSource | Reason::ReadingBranch => (None, When::Within(ANSWER)),
        Reason::SourceUnavailable { .. } => (None, When::Unknown("its source is in trouble")),
        Reason::RegistrationsSpent { until, .. } => (None, When::At(*until)),
        Reason::PlaceNotReady { .. } => (None, When::Unknown("no place is ready")),
        Reason::PlaceFull { place, until } => {
            let when = until.map_or(When::Unknown("its place has no room"), When::At);
            (Some(Counter::Place(place)), when)
        }
        Reason::QuotaReached { place, exceeded, .. } => {
            let when = exceeded.until.map_or(When::Unknown("its place has no quota left"), When::At);
            (Some(Counter::Quota(place)), when)
        }
        Reason::BudgetSpent { budget, figures } => (Some(Counter::Budget(budget)), When::At(figures.until)),
        Reason::BudgetUnknown { .. } => (None, When::Unknown("the ledger cannot be read")),
        Reason::RetryPause { until, .. } => (None, When::At(*until)),
        Reason::LimitPaused { .. }
        | Reason::NoPlace
        | Reason::PlaceUnknown { .. }
        | Reason::PlaceAmbiguous { .. }
        | Reason::PlaceUnsuitable { .. }
        | Reason::CustomSizeRefused { .. }
        | Reason::NoClassNamed { .. }
        | Reason::SeveralClassesNamed { .. }
        | Reason::SizeMissing { .. }
        | Reason::SizeUnknown { .. }
        | Reason::LabelNotCarried { .. }
        | Reason::SourceMissing { .. }
        | Reason::RepositoryNotServed { .. }
        | Reason::PublicRepository { .. }
        | Reason::AttemptsExhausted { .. } => (None, When::Never),
        Reason::ContainerEnded
        | Reason::AgentExited
        | Reason::RunnerTooOld
        | Reason::NameTaken { .. }
        | Reason::IdleRemoved
        | Reason::Restarted
        | Reason::StartFailed { .. }
        | Reason::NoCapacity { .. }
        | Reason::Unschedulable { .. }
        | Reason::Vanished
        | Reason::Interrupted { .. }
        | Reason::RegistrationFailed { .. }
        | Reason::NotScheduled
        | Reason::NotRunning
        | Reason::NotOnline
        | Reason::Idle
        | Reason::Surplus
        | Reason::Deleted => (None, When::Unknown("it is about a runner")),
    };
    End { counter, when }
}

#[cfg(test)]
mod tests;
