//! A job: one attempt of one CI job, and how the facts that its source tells of it merge into one state.
//!
//! Facts only accumulate. Their order of arrival must not matter, since webhooks come late, twice and out of
//! order (GitHub documentation, "Best practices for using webhooks").

mod findings;

use std::fmt;

use jiff::{SignedDuration, Timestamp};

pub use self::findings::{Finding, Findings};
use crate::setup::saturating_add;

/// How the id of a fact begins that Stint read from the source itself. Each reading has an id of its own.
pub const READ_PREFIX: &str = "read-";

/// How long after a runner's sign the source is asked about its job: an event that is not lost arrives within it, and
/// an answer that was under way at the sign tells nothing of it.
pub(crate) const READ_AFTER_SIGN: SignedDuration = SignedDuration::from_secs(15);

/// What identifies a job: its source, the source's id of it, and the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// Name of the `RunnerSource` that told of the job.
    pub source: String,
    /// The source's own id of the job (GitHub: `workflow_job.id`).
    pub id: String,
    /// Attempt, from 1. Re-running a job makes a new attempt.
    pub attempt: u32,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.source, self.id, self.attempt)
    }
}

/// What a source says has happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobAction {
    /// It waits for a runner.
    Queued,
    /// It waits for something else than a runner, such as an approval.
    Waiting,
    /// A runner has it.
    InProgress,
    /// It is over, whether or not it ever ran.
    Completed,
}

/// One thing that a source told of a job, set once and never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFact {
    /// What identifies the telling: the delivery's GUID, which a redelivery keeps, or `read-…` for an answer that
    /// Stint asked for.
    pub id: String,
    /// What happened.
    pub action: JobAction,
    /// When Stint heard of it, by Stint's clock.
    pub heard_at: Timestamp,
    /// Name of the runner that has the job, where the source says so.
    pub runner: Option<String>,
    /// How the job ended, in the source's words (`success`, `failure`, `cancelled`, `skipped`, …).
    pub conclusion: Option<String>,
}

/// What a source tells of a job: what the job is, and one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The job.
    pub key: JobKey,
    /// What it is. Only the first telling's is kept.
    pub description: JobDescription,
    /// What happened.
    pub fact: JobFact,
}

/// What a job is, which never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDescription {
    /// The account that owns the repository.
    pub owner: String,
    /// The repository, as `owner/name`.
    pub repository: String,
    /// Whether anybody may read the repository, as far as the source says.
    pub public: bool,
    /// Name of the job, for people.
    pub name: String,
    /// Name of the workflow, for people.
    pub workflow: Option<String>,
    /// Where people see the job.
    pub url: Option<String>,
    /// The labels that the job asks for, as written.
    pub labels: Vec<String>,
    /// When its source made the job, by the source's clock, where it says so.
    pub created_at: Option<Timestamp>,
    /// The source's id of the run that it is part of (GitHub: `workflow_job.run_id`).
    pub run: Option<String>,
    /// The commit that it builds, in hexadecimal.
    pub head_sha: Option<String>,
    /// Name of the branch that it says it builds. Forks choose theirs: never trusted alone.
    pub head_branch: Option<String>,
}

/// A job as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its identity.
    pub key: JobKey,
    /// What it is.
    pub description: JobDescription,
    /// When Stint stored the job.
    pub stored_at: Timestamp,
    /// All that was heard of it.
    pub facts: Vec<JobFact>,
    /// What the planner last wrote about it.
    pub report: JobReport,
    /// What Stint found out about it.
    pub found: Findings,
}

/// What the planner writes about a job for people to read, and for itself to remember.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Where the job stands.
    pub standing: Standing,
    /// Code of the reason, where the job waits, is refused or was given up ([`crate::reason::Reason::code`]).
    pub reason: Option<String>,
    /// The class and size that the job matched, as `class` or `class-size`.
    pub class: Option<String>,
    /// The runner that has the job or is meant for it.
    pub runner: Option<String>,
    /// How the job ended.
    pub conclusion: Option<String>,
    /// How many runners were started for it; the next one has this number plus one.
    pub runners_started: u32,
    /// How many of them failed before they had a job, as far as that counts against the class's limit.
    pub failed: u32,
    /// The number of the last runner that was looked at for `failed`.
    pub counted: u32,
    /// No further runner is started before this moment.
    pub retry_after: Option<Timestamp>,
    /// When the job was first seen to have ended.
    pub ended_at: Option<Timestamp>,
}

/// Where a job stands, in the words of `kubectl get runnerjobs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// Stored, and not yet looked at.
    #[default]
    Stored,
    /// Waits; the reason says for what.
    Waiting,
    /// No runner will be started under the present configuration.
    Refused,
    /// A runner is being started for it.
    Starting,
    /// A runner has it.
    Running,
    /// It is over.
    Ended,
    /// Stint gave up starting runners for it.
    GivenUp,
}

impl Standing {
    /// Every standing, for tests and for adapters that translate.
    pub const ALL: [Standing; 7] = [
        Standing::Stored,
        Standing::Waiting,
        Standing::Refused,
        Standing::Starting,
        Standing::Running,
        Standing::Ended,
        Standing::GivenUp,
    ];

    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Stored => "Stored",
            Standing::Waiting => "Waiting",
            Standing::Refused => "Refused",
            Standing::Starting => "Starting",
            Standing::Running => "Running",
            Standing::Ended => "Ended",
            Standing::GivenUp => "GivenUp",
        }
    }
}

/// The facts of a job, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It wants a runner, and has since the moment given.
    Queued {
        /// When Stint first heard that it is queued (again).
        since: Timestamp,
        /// When that was last heard or confirmed.
        confirmed_at: Timestamp,
    },
    /// It waits for something else than a runner.
    Waiting,
    /// A runner has it.
    Running {
        /// Name of the runner, where the source says so.
        runner: Option<String>,
    },
    /// It is over.
    Ended {
        /// How, in the source's words.
        conclusion: Option<String>,
        /// The runner that had it, if one did.
        runner: Option<String>,
        /// When Stint first heard so.
        at: Timestamp,
    },
}

impl Job {
    /// Merges the facts: an end outweighs a start, a start outweighs a wait, and between waiting and queued what
    /// was heard last holds (an approval gate goes queued → waiting → queued).
    pub fn state(&self) -> JobState {
        let first = |action| {
            self.facts
                .iter()
                .filter(|fact| fact.action == action)
                .min_by(|a, b| (a.heard_at, &a.id).cmp(&(b.heard_at, &b.id)))
        };
        // A completed job keeps its runner's name; an in_progress that was lost leaves only that trace.
        let runner = || {
            self.facts
                .iter()
                .filter(|fact| matches!(fact.action, JobAction::InProgress | JobAction::Completed))
                .filter_map(|fact| {
                    fact.runner.as_ref().map(|runner| (fact.action, fact.heard_at, &fact.id, runner))
                })
                .max_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)))
                .map(|found| found.3.clone())
        };
        if let Some(end) = first(JobAction::Completed) {
            return JobState::Ended {
                conclusion: end.conclusion.clone(),
                runner: runner(),
                at: end.heard_at,
            };
        }
        if first(JobAction::InProgress).is_some() {
            return JobState::Running { runner: runner() };
        }
        let waited = self.last_heard(JobAction::Waiting);
        let queued = self
            .facts
            .iter()
            .filter(|fact| fact.action == JobAction::Queued)
            .filter(|fact| waited.is_none_or(|waited| fact.heard_at > waited))
            .map(|fact| fact.heard_at);
        match (queued.clone().min(), queued.max()) {
            (Some(since), Some(confirmed_at)) => JobState::Queued { since, confirmed_at },
            (None, _) | (_, None) => JobState::Waiting,
        }
    }

    /// Whether a `queued` must be confirmed with the source before it is acted on: it is older than `after`, and its
    /// delivery, which may be late or a repeated one, makes it no younger where its source told when it made the job;
    /// or an approval held the job back before it, so that it may be an old one.
    pub fn needs_confirmation(&self, confirmed_at: Timestamp, after: SignedDuration, now: Timestamp) -> bool {
        let reads = self
            .facts
            .iter()
            .filter(|fact| fact.action == JobAction::Queued && fact.id.starts_with(READ_PREFIX))
            .map(|fact| fact.heard_at);
        let known_since = match self.description.created_at {
            Some(created_at) => reads.chain([created_at]).max().unwrap_or(created_at).min(confirmed_at),
            None => confirmed_at,
        };
        if now > saturating_add(known_since, after) {
            return true;
        }
        self.last_heard(JobAction::Waiting).is_some_and(|waited| {
            !self.facts.iter().any(|fact| {
                fact.action == JobAction::Queued && fact.heard_at > waited && fact.id.starts_with(READ_PREFIX)
            })
        })
    }

    /// When anything was last heard of the job.
    pub fn last_fact_at(&self) -> Timestamp {
        self.facts.iter().map(|fact| fact.heard_at).max().unwrap_or(self.stored_at)
    }

    /// Whether the source itself was asked about the job well after the moment given.
    pub(crate) fn read_since(&self, sign: Timestamp) -> bool {
        let after = saturating_add(sign, READ_AFTER_SIGN);
        self.facts.iter().any(|fact| fact.id.starts_with(READ_PREFIX) && fact.heard_at >= after)
    }

    /// Since when the job has been in its state. Hearing the same again does not move it.
    pub fn state_since(&self) -> Timestamp {
        let first = |action, after: Option<Timestamp>| {
            self.facts
                .iter()
                .filter(|fact| fact.action == action && after.is_none_or(|after| fact.heard_at >= after))
                .map(|fact| fact.heard_at)
                .min()
                .unwrap_or(self.stored_at)
        };
        match self.state() {
            JobState::Queued { since, .. } => since,
            JobState::Waiting => first(JobAction::Waiting, self.last_heard(JobAction::Queued)),
            JobState::Running { .. } => first(JobAction::InProgress, None),
            JobState::Ended { at, .. } => at,
        }
    }

    fn last_heard(&self, action: JobAction) -> Option<Timestamp> {
        self.facts.iter().filter(|fact| fact.action == action).map(|fact| fact.heard_at).max()
    }
}

#[cfg(test)]
mod tests;
