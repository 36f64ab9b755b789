//! What a job's commit shows of it: why it waits and its place in line, that it runs, and at the end what it cost.
//!
//! For people who see the repository and nothing else. No text here may name a job, repository or owner other than the
//! job's own, nor repeat what a peer answered: [`told_to_all`] decides about each reason. Publishes nothing.

mod text;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

pub use self::text::{Text, ended};
use crate::job::{Job, JobKey, JobState};
use crate::lifecycle::Runner;
use crate::reason::Reason;
use crate::setup::{Setup, saturating_add};

/// A notice is changed at most this often, since a place in line changes all the time.
pub const EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Where only figures have changed, not before the wait has grown by this part of itself.
const PART: i32 = 4;
/// How long the last word waits for the bill of a runner.
const BILL_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// How far a job is, as its notice shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// It waits, or no runner is started for it.
    Waiting,
    /// A runner has it.
    Running,
    /// It is over: the notice's last word.
    Ended,
}

/// Something to say of a job now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The job.
    pub job: JobKey,
    /// How far it is.
    pub stage: Stage,
    /// The code of the reason for which it waits.
    pub code: Option<&'static str>,
    /// What to say; `None` at the end, where [`ended`] tells once the ledger was read.
    pub text: Option<Text>,
}

/// What was last said of a job, as far as this process remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How far it was.
    pub stage: Stage,
    /// The code of the reason for which it waited.
    pub code: Option<&'static str>,
    /// What was said.
    pub text: Text,
    /// When.
    pub at: Timestamp,
}

/// What a runner cost, as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The money.
    pub amount: Decimal,
    /// Its currency.
    pub currency: String,
    /// Billed seconds.
    pub seconds: u64,
    /// Whether the job ran on this runner; else it was started for the job and ran nothing.
    pub ran: bool,
}

/// All that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The configuration.
    pub setup: &'a Setup,
    /// Jobs.
    pub jobs: &'a [Job],
    /// Runners.
    pub runners: &'a [Runner],
    /// Why jobs wait, as the plan says.
    pub reasons: &'a BTreeMap<JobKey, Arc<Reason>>,
    /// The jobs that wait for room, in the order in which they get it ([`crate::plan::Plan::line`]).
    pub line: &'a [JobKey],
    /// What was last said of each job.
    pub said: &'a HashMap<JobKey, Said>,
}

/// What became of a look at one job.
enum Look {
    Nothing,
    /// Not before this moment.
    Later(Timestamp),
    Now(Due),
}

/// What to say now, the most urgent first, and when to look again if time alone can change that. `busy`: jobs of which
/// something is being said, or that a failure holds back.
pub fn due(
    known: Known<'_>,
    busy: impl Fn(&JobKey) -> bool,
    most: usize,
    now: Timestamp,
) -> (Vec<Due>, Option<Timestamp>) {
    let (mut found, mut wake): (Vec<(u8, Timestamp, Due)>, Option<Timestamp>) = (Vec::new(), None);
    let mut ranks: Option<HashMap<&JobKey, usize>> = None;
    let unbilled = Unbilled::of(known.runners);
    for job in known.jobs.iter().filter(|job| !busy(&job.key)) {
        match known.look(job, &unbilled, &mut ranks, now) {
            Look::Nothing => {}
            Look::Later(at) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
            Look::Now(due) => {
                // Last words first: whoever reads should not find a job waiting that is over.
                let urgency = match (due.stage, job.found.notice_begun) {
                    (Stage::Ended, _) => 0,
                    (Stage::Running, _) => 1,
                    (Stage::Waiting, None) => 2,
                    (Stage::Waiting, Some(_)) => 3,
                };
                found.push((urgency, job.state_since(), due));
            }
        }
    }
    found.sort_by(|a, b| (a.0, a.1, &a.2.job).cmp(&(b.0, b.1, &b.2.job)));
    found.truncate(most);
    (found.into_iter().map(|(_, _, due)| due).collect(), wake)
}

/// Runners whose container groups the ledger does not have yet.
struct Unbilled<'a> {
    names: HashSet<&'a str>,
    /// The jobs that those of them were started for which are being torn down.
    jobs: HashSet<&'a JobKey>,
}

impl<'a> Unbilled<'a> {
    fn of(runners: &'a [Runner]) -> Self {
        let mut all = Self { names: HashSet::new(), jobs: HashSet::new() };
        for runner in runners {
            let facts = &runner.facts;
            if runner.kind.has_group() && facts.launching.is_some() && facts.billed.is_none() {
                all.names.insert(&runner.name);
                all.jobs.extend(runner.ending().then_some(&runner.job));
            }
        }
        all
    }

    /// Whether one of them is a job's.
    fn has(&self, job: &JobKey, ran_on: Option<&str>) -> bool {
        ran_on.is_some_and(|name| self.names.contains(name)) || self.jobs.contains(job)
    }
}

fn at_the_end(job: &Job, unbilled: bool, at: Timestamp, now: Timestamp) -> Look {
    let latest = saturating_add(at, BILL_WITHIN);
    if unbilled && now < latest {
        return Look::Later(latest);
    }
    Look::Now(Due { job: job.key.clone(), stage: Stage::Ended, code: None, text: None })
}

impl<'a> Known<'a> {
    fn look(
        &self,
        job: &'a Job,
        unbilled: &Unbilled<'_>,
        ranks: &mut Option<HashMap<&'a JobKey, usize>>,
        now: Timestamp,
    ) -> Look {
        let begun = job.found.notice_begun.is_some();
        // Nothing is begun for a job that does not wait, which most do not.
        let open = begun || self.reasons.contains_key(&job.key);
        if !open || job.found.notice_ended.is_some() || job.description.head_sha.is_none() {
            return Look::Nothing;
        }
        let after = self.setup.sources.get(&job.key.source).and_then(|source| source.notice_after);
        match job.state() {
            // What was begun gets its last word even where notices are switched off by now.
            JobState::Ended { runner, at, .. } if begun => {
                at_the_end(job, unbilled.has(&job.key, runner.as_deref()), at, now)
            }
            JobState::Running { .. } if begun && after.is_some() => {
                let due = Due {
                    job: job.key.clone(),
                    stage: Stage::Running,
                    code: None,
                    text: Some(text::running(job)),
                };
                match self.said.get(&job.key) {
                    Some(said) if said.stage == Stage::Running => Look::Nothing,
                    Some(_) | None => Look::Now(due),
                }
            }
            JobState::Queued { .. } | JobState::Waiting => match after {
                Some(after) => self.in_wait(job, after, ranks, now),
                None => Look::Nothing,
            },
            JobState::Running { .. } | JobState::Ended { .. } => Look::Nothing,
        }
    }

    fn in_wait(
        &self,
        job: &'a Job,
        after: SignedDuration,
        ranks: &mut Option<HashMap<&'a JobKey, usize>>,
        now: Timestamp,
    ) -> Look {
        let since = job.state_since();
        let reason = self.reasons.get(&job.key);
        let told = reason.and_then(|reason| told_to_all(reason).map(|sentence| (reason, sentence)));
        if job.found.notice_begun.is_none() {
            // Nothing is begun for a job whose runner is on its way.
            if told.is_none() {
                return Look::Nothing;
            }
            let due = saturating_add(since, after);
            if now < due {
                return Look::Later(due);
            }
        }
        let (code, text) = match told {
            Some((reason, sentence)) => {
                let ranks = ranks.get_or_insert_with(|| {
                    self.line.iter().enumerate().map(|(rank, key)| (key, rank)).collect()
                });
                let place = ranks.get(&job.key).map(|rank| (rank.saturating_add(1), self.line.len()));
                (Some(reason.code()), text::waiting(reason, &sentence, place, since))
            }
            // Why it waits is not for everybody; nothing new is said.
            None if reason.is_some() => return Look::Nothing,
            None => (None, text::starting(since)),
        };
        if let Some(said) = self.said.get(&job.key) {
            if said.text == text {
                return Look::Nothing;
            }
            let same = said.stage == Stage::Waiting && said.code == code;
            let grown = said.at.duration_since(since).checked_div(PART).unwrap_or(EVERY);
            let next = saturating_add(said.at, if same { grown.max(EVERY) } else { EVERY });
            if now < next {
                return Look::Later(next);
            }
        }
        Look::Now(Due { job: job.key.clone(), stage: Stage::Waiting, code, text: Some(text) })
    }
}

/// The sentence of a reason as everybody may read it who sees the job's repository; `None` where its commit is to show
/// nothing: the source shows it itself, or the job may be meant for somebody else's runners.
///
/// Names of classes, places, sizes, sources and limits are the admins' own; a group of a limit is the job's own.
pub fn told_to_all(reason: &Reason) -> Option<String> {
    match reason {
        Reason::ReservedForAnother { limit, .. } => Some(format!(
            "what room limit {limit} has is kept for another job, which is larger and has waited for long"
        )),
        // Why is what a peer answered, perhaps about another repository.
        Reason::SourceUnavailable { source, .. } => {
            Some(format!("no runner can register with source {source} now; its admins see why"))
        }
        Reason::PlaceNotReady { place, .. } => {
            Some(format!("place {place} cannot start a runner now; its admins see why"))
        }
        // Which quota names a subscription.
        Reason::QuotaReached { place, .. } if reason.never_fits() => {
            Some(format!("place {place} has too little quota in Azure for a runner of this size"))
        }
        Reason::QuotaReached { place, .. } => Some(format!("place {place} has no quota left in Azure for now")),
        // What is spent is for admins.
        Reason::BudgetSpent { budget, .. } if reason.never_fits() => {
            Some(format!("budget {budget} has no room for this job, whatever is spent of it"))
        }
        Reason::BudgetSpent { budget, figures } => {
            Some(format!("budget {budget} has no room for this job until {}", figures.until))
        }
        Reason::InstallationFull { .. }
        | Reason::ClassFull { .. }
        | Reason::SizeFull { .. }
        | Reason::LimitReached { .. }
        | Reason::LimitPaused { .. }
        | Reason::BudgetUnknown { .. }
        | Reason::ConfirmingWithSource
        | Reason::ReadingBranch
        | Reason::RegistrationsSpent { .. }
        | Reason::NoPlace
        | Reason::PlaceUnknown { .. }
        | Reason::PlaceAmbiguous { .. }
        | Reason::PlaceUnsuitable { .. }
        | Reason::CustomSizeRefused { .. }
        | Reason::PlaceFull { .. }
        | Reason::RetryPause { .. }
        | Reason::SeveralClassesNamed { .. }
        | Reason::SizeMissing { .. }
        | Reason::SizeUnknown { .. }
        | Reason::LabelNotCarried { .. }
        | Reason::PublicRepository { .. }
        | Reason::AttemptsExhausted { .. } => Some(reason.sentence()),
        Reason::AwaitingApproval
        | Reason::NoClassNamed { .. }
        | Reason::SourceMissing { .. }
        | Reason::RepositoryNotServed { .. }
        // Of runners, never of a job.
        | Reason::ContainerEnded
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
        | Reason::Deleted => None,
    }
}

#[cfg(test)]
mod tests;
