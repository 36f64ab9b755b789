//! Which runner has which job, and which runners no job needs.
//!
//! A source may hand a runner any job that its labels cover, so the pairing is learned from what the source tells
//! and never assumed. A runner without a job stands for the queued job that it was started for, else for the oldest
//! other one of the same source, class, size and scope.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use jiff::Timestamp;

use crate::job::{Job, JobKey, JobState};
use crate::labels::Matched;
use crate::lifecycle::{Occupation, Runner};
use crate::reason::Reason;
use crate::setup::Scope;

/// A job with what follows from its facts and the configuration.
#[derive(Clone, Debug)]
pub struct JobView<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its merged state.
    pub state: JobState,
    /// What it asks for, or why it gets no runner.
    pub wants: Result<Wants, Reason>,
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wants {
    /// Class and size.
    pub matched: Matched,
    /// Where a runner for it registers.
    pub scope: Scope,
}

/// Who has whom.
#[derive(Clone, Debug, Default)]
pub struct Pairing<'a> {
    /// What each runner has to do with jobs, by runner name.
    pub occupations: HashMap<&'a str, Occupation>,
    /// The runner that stands for each queued job.
    pub covered: HashMap<&'a JobKey, &'a str>,
}

/// Pairs jobs and runners. Linear in both.
pub fn pair<'a>(jobs: &'a [JobView<'a>], runners: &'a [Runner]) -> Pairing<'a> {
    let mut pairing = Pairing::default();
    let known: HashMap<&str, &Runner> = runners.iter().map(|runner| (runner.name.as_str(), runner)).collect();
    let by_key: HashMap<&JobKey, &JobView<'_>> = jobs.iter().map(|view| (&view.job.key, view)).collect();

    for view in jobs {
        match &view.state {
            JobState::Running { runner: Some(name) } => {
                if let Some(runner) = known.get(name.as_str()) {
                    pairing.occupations.insert(&runner.name, Occupation::Busy);
                }
            }
            JobState::Ended { runner: Some(name), at, .. } => {
                if let Some(runner) = known.get(name.as_str()) {
                    pairing.occupations.insert(&runner.name, Occupation::Done { since: *at });
                }
            }
            JobState::Running { runner: None }
            | JobState::Ended { runner: None, .. }
            | JobState::Queued { .. }
            | JobState::Waiting => {}
        }
    }

    let mut free: Vec<&Runner> = Vec::new();
    for runner in runners.iter().filter(|runner| !runner.ending()) {
        let told = pairing.occupations.contains_key(runner.name.as_str());
        match (runner.facts.agent.job_started, runner.facts.agent.job_completed) {
            (_, Some(since)) => {
                pairing.occupations.entry(&runner.name).or_insert(Occupation::Done { since });
            }
            (Some(_), None) => {
                pairing.occupations.entry(&runner.name).or_insert(Occupation::Busy);
                // Until the source says which job it took, it is taken to be its own: a second runner for a job that
                // runs would cost more than a wait for one that does not.
                if !told && let Some(view) = by_key.get(&runner.job) && wants_runner(view) {
                    pairing.covered.entry(&view.job.key).or_insert(&runner.name);
                }
            }
            (None, None) if !told => free.push(runner),
            (None, None) => {}
        }
    }

    let mut left: Vec<&Runner> = Vec::new();
    for runner in free {
        match by_key.get(&runner.job) {
            Some(view) if wants_runner(view) && !pairing.covered.contains_key(&view.job.key) => {
                pairing.covered.insert(&view.job.key, &runner.name);
                pairing.occupations.insert(&runner.name, Occupation::Wanted);
            }
            Some(_) | None => left.push(runner),
        }
    }

    if left.is_empty() {
        return pairing;
    }
    let mut open = uncovered(jobs, &pairing);
    for runner in left {
        let key = (runner.job.source.as_str(), &runner.matched, &runner.scope);
        match open.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(view) => {
                pairing.covered.insert(&view.job.key, &runner.name);
                pairing.occupations.insert(&runner.name, Occupation::Wanted);
            }
            None => {
                let since = unwanted_since(runner, by_key.get(&runner.job).copied());
                pairing.occupations.insert(&runner.name, Occupation::Unwanted { since });
            }
        }
    }
    pairing
}

type Kind<'a> = (&'a str, &'a Matched, &'a Scope);

fn uncovered<'a>(
    jobs: &'a [JobView<'a>],
    pairing: &Pairing<'a>,
) -> BTreeMap<Kind<'a>, VecDeque<&'a JobView<'a>>> {
    let mut open: BTreeMap<Kind<'a>, Vec<(Timestamp, &JobView<'_>)>> = BTreeMap::new();
    let covered: HashSet<&JobKey> = pairing.covered.keys().copied().collect();
    for view in jobs {
        if let (JobState::Queued { since, .. }, Ok(wants)) = (&view.state, &view.wants)
            && !covered.contains(&view.job.key)
        {
            let kind = (view.job.key.source.as_str(), &wants.matched, &wants.scope);
            open.entry(kind).or_default().push((*since, view));
        }
    }
    open.into_iter()
        .map(|(kind, mut views)| {
            views.sort_by(|a, b| (a.0, &a.1.job.key).cmp(&(b.0, &b.1.job.key)));
            (kind, views.into_iter().map(|(_, view)| view).collect())
        })
        .collect()
}

fn wants_runner(view: &JobView<'_>) -> bool {
    matches!(view.state, JobState::Queued { .. }) && view.wants.is_ok()
}

/// Since when the runner's own job has not needed it.
fn unwanted_since(runner: &Runner, own: Option<&JobView<'_>>) -> Timestamp {
    let since = match own.map(|view| (&view.state, view.job)) {
        Some((JobState::Ended { at, .. }, _)) => *at,
        Some((JobState::Running { .. } | JobState::Waiting | JobState::Queued { .. }, job)) => job.last_fact_at(),
        None => runner.created_at,
    };
    since.max(runner.created_at)
}
