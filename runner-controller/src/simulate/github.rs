//! GitHub's part: it keeps queued jobs and idle runners, and hands a runner the oldest job that it covers, whichever job
//! the runner was started for. Which of several GitHub would take is nowhere promised; the oldest is the model's choice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use runner_core::labels;
use runner_core::setup::Scope;

/// Jobs that runners cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct JobKind {
    pub(super) source: String,
    pub(super) owner: String,
    pub(super) repository: String,
    pub(super) labels: Vec<String>,
}

/// Runners that jobs cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RunnerKind {
    pub(super) source: String,
    pub(super) scope: Scope,
    pub(super) labels: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Github {
    job_kinds: Kinds<JobKind>,
    runner_kinds: Kinds<RunnerKind>,
    /// Queued jobs of each kind that has any, oldest first.
    queued: BTreeMap<usize, BTreeSet<(Timestamp, usize)>>,
    /// Runners that are online without a job, with their kinds.
    idle: BTreeMap<usize, usize>,
    covers: HashMap<(usize, usize), bool>,
}

#[derive(Debug)]
struct Kinds<T> {
    all: Vec<T>,
    ids: HashMap<T, usize>,
}

impl<T> Default for Kinds<T> {
    fn default() -> Self {
        Self { all: Vec::new(), ids: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Kinds<T> {
    fn id(&mut self, kind: T) -> usize {
        if let Some(known) = self.ids.get(&kind) {
            return *known;
        }
        self.all.push(kind.clone());
        self.ids.insert(kind, self.all.len() - 1);
        self.all.len() - 1
    }
}

impl Github {
    pub(super) fn job_kind(&mut self, kind: JobKind) -> usize {
        self.job_kinds.id(kind)
    }

    pub(super) fn runner_kind(&mut self, kind: RunnerKind) -> usize {
        self.runner_kinds.id(kind)
    }

    /// A job waits from now on.
    pub(super) fn queue(&mut self, job: usize, kind: usize, since: Timestamp) {
        self.queued.entry(kind).or_default().insert((since, job));
    }

    /// A job waits no more.
    pub(super) fn unqueue(&mut self, job: usize, kind: usize, since: Timestamp) {
        if let Some(queue) = self.queued.get_mut(&kind) {
            queue.remove(&(since, job));
            if queue.is_empty() {
                self.queued.remove(&kind);
            }
        }
    }

    /// A runner is online, and has no job.
    pub(super) fn idle(&mut self, runner: usize, kind: usize) {
        self.idle.insert(runner, kind);
    }

    /// A runner has a job, or is known no more.
    pub(super) fn not_idle(&mut self, runner: usize) {
        self.idle.remove(&runner);
    }

    /// The job that a runner of this kind is handed.
    pub(super) fn job_for(&mut self, runner_kind: usize) -> Option<usize> {
        let (mut found, kinds): (Option<(Timestamp, usize)>, Vec<_>) = (
            None,
            self.queued
                .iter()
                .filter_map(|(kind, queue)| queue.first().map(|first| (*kind, *first)))
                .collect(),
        );
        for (kind, first) in kinds {
            if found.is_none_or(|best| first < best) && self.covers(runner_kind, kind) {
                found = Some(first);
            }
        }
        found.map(|(_, job)| job)
    }

    /// The idle runner that is handed a job of this kind.
    pub(super) fn runner_for(&mut self, job_kind: usize) -> Option<usize> {
        let idle: Vec<(usize, usize)> = self.idle.iter().map(|(runner, kind)| (*runner, *kind)).collect();
        idle.into_iter().find(|(_, kind)| self.covers(*kind, job_kind)).map(|(runner, _)| runner)
    }

    fn covers(&mut self, runner_kind: usize, job_kind: usize) -> bool {
        if let Some(known) = self.covers.get(&(runner_kind, job_kind)) {
            return *known;
        }
        let fits = match (self.runner_kinds.all.get(runner_kind), self.job_kinds.all.get(job_kind)) {
            (Some(runner), Some(job)) => {
                runner.source == job.source
                    && runner.scope.serves(&job.owner, &job.repository)
                    && labels::covers(&runner.labels, &job.labels)
            }
            (None, _) | (_, None) => false,
        };
        self.covers.insert((runner_kind, job_kind), fits);
        fits
    }
}
