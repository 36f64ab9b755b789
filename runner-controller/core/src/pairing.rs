//! Which runner has which job, and which runners no job needs.
//!
//! A source may hand a runner any job that its labels cover, so the pairing is learned from what the source tells
//! and never assumed. A runner without a job stands for the queued job that it was started for, else for the oldest
//! other one of the same source, class, size and scope. A runner that took a job stands for none but its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::job::{Job, JobKey, JobState};
use crate::labels::{Matched, covers};
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
    pub wants: Result<Arc<Wants>, Arc<Reason>>,
    /// Which of the runners, in the order of their jobs and numbers, were started for it.
    pub(crate) own: Range<usize>,
}

impl JobView<'_> {
    /// Whether the job will never need another runner, since it has or had one, or is over without.
    pub(crate) fn needs_no_more(&self) -> bool {
        match self.state {
            JobState::Running { .. } | JobState::Ended { .. } => true,
            JobState::Queued { .. } | JobState::Waiting => false,
        }
    }
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

/// Pairs jobs and runners. About linear in both.
pub fn pair<'a>(jobs: &'a [JobView<'a>], runners: &'a [Runner]) -> Pairing<'a> {
    let mut pairing = Pairing { occupations: told(jobs, runners), covered: HashMap::new() };
    let by_key: HashMap<&JobKey, &JobView<'_>> = jobs.iter().map(|view| (&view.job.key, view)).collect();
    let mut live: Vec<&Runner> = runners.iter().filter(|runner| !runner.ending()).collect();
    live.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    let newest = newest_ordinals(runners);

    let mut free: Vec<&Runner> = Vec::new();
    for runner in live {
        if pairing.occupations.contains_key(runner.name.as_str()) {
            continue;
        }
        if let Some(since) = runner.facts.agent.job_completed {
            pairing.occupations.insert(&runner.name, Occupation::Done { since });
            continue;
        }
        let Some(since) = runner.start_sign() else {
            free.push(runner);
            continue;
        };
        // It takes no other job. Until the source says which one it took, that is taken to be its own, unless the
        // source was asked and says otherwise: a second runner for a job that runs would cost more than a wait.
        let own = by_key.get(&runner.job).filter(|view| {
            let newest = newest.get(&runner.job).copied().max(Some(view.job.report.runners_started));
            wants_runner(view) && newest == Some(runner.ordinal) && !view.job.read_since(since)
        });
        if let Some(view) = own {
            pairing.covered.entry(&view.job.key).or_insert(&runner.name);
        }
        let occupation = match (runner.facts.agent.job_started, own) {
            (Some(_), _) => Occupation::Busy,
            (None, Some(_)) => Occupation::Wanted,
            (None, None) => Occupation::Unwanted { since },
        };
        pairing.occupations.insert(&runner.name, occupation);
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
        let kind = (runner.job.source.as_str(), &runner.matched, &runner.scope);
        let taken = open.get_mut(&kind).and_then(|views| {
            // The class's labels may have changed since the runner registered.
            let at = views.iter().position(|view| covers(&runner.labels, &view.job.description.labels))?;
            views.remove(at)
        });
        let occupation = match taken {
            Some(view) => {
                pairing.covered.insert(&view.job.key, &runner.name);
                Occupation::Wanted
            }
            None => {
                let own = by_key.get(&runner.job).map(|view| view.job.state_since());
                Occupation::Unwanted {
                    since: own.map_or(runner.created_at, |since| since.max(runner.created_at)),
                }
            }
        };
        pairing.occupations.insert(&runner.name, occupation);
    }
    pairing
}

/// What the source tells of runners. One that has a job by any telling has one.
fn told<'a>(jobs: &[JobView<'_>], runners: &'a [Runner]) -> HashMap<&'a str, Occupation> {
    let known: HashMap<&str, &Runner> = runners.iter().map(|runner| (runner.name.as_str(), runner)).collect();
    let mut occupations: HashMap<&str, Occupation> = HashMap::new();
    for view in jobs {
        let (name, at) = match &view.state {
            JobState::Running { runner: Some(name) } => (name, None),
            JobState::Ended { runner: Some(name), at, .. } => (name, Some(*at)),
            JobState::Running { runner: None }
            | JobState::Ended { runner: None, .. }
            | JobState::Queued { .. }
            | JobState::Waiting => continue,
        };
        let Some(runner) = known.get(name.as_str()).filter(|runner| runner.job.source == view.job.key.source)
        else {
            continue;
        };
        let now = match (at, occupations.get(runner.name.as_str())) {
            (None, _) | (Some(_), Some(Occupation::Busy)) => Occupation::Busy,
            (Some(at), Some(Occupation::Done { since })) => Occupation::Done { since: at.max(*since) },
            (Some(at), Some(Occupation::Wanted | Occupation::Unwanted { .. }) | None) => {
                Occupation::Done { since: at }
            }
        };
        occupations.insert(&runner.name, now);
    }
    occupations
}

/// The number of the last runner that was started for each job.
fn newest_ordinals(runners: &[Runner]) -> HashMap<&JobKey, u32> {
    let mut newest: HashMap<&JobKey, u32> = HashMap::new();
    for runner in runners {
        let ordinal = newest.entry(&runner.job).or_default();
        *ordinal = runner.ordinal.max(*ordinal);
    }
    newest
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

#[cfg(test)]
mod tests;
