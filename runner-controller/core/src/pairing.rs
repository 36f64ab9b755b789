//! Which runner has which job, and which runners no job needs.
//!
//! A source may hand a runner any job of its scope that its labels cover, so the pairing is learned from what the
//! source tells and never assumed. What is known is fixed. The rest is a maximum matching between the runners that have
//! no job and the queued jobs that they may be handed, in which a runner stays with the job that it was started for
//! unless that would leave another job without one. A runner that took a job stands for none but its own.
//!
//! Jobs that wait for room under a limit are in the matching as all others, since their source hands them runners all
//! the same; the runner goes on counting where it was started. Jobs that are refused are not: no runner is kept for
//! them. A runner that nobody needs and that such a job may be handed is [exposed](Pairing::exposed), and goes at once.
//! If one takes the runner of another job, its source tells, and that job gets the next runner.

use std::ops::Range;
use std::sync::Arc;

mod kinds;
mod matching;

use foldhash::{HashMap, HashMapExt as _, HashSet};

use crate::job::{Job, JobKey, JobState};
use crate::labels::Matched;
use crate::lifecycle::{Occupation, Runner};
use crate::reason::Reason;
use crate::setup::Scope;

use self::kinds::Kinds;

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
    /// Runners that no job needs any more and that their source may hand to a job that is refused.
    pub exposed: HashSet<&'a str>,
}

/// Pairs jobs and runners. About linear in both.
pub fn pair<'a>(jobs: &'a [JobView<'a>], runners: &'a [Runner]) -> Pairing<'a> {
    let mut pairing = Pairing { occupations: told(jobs, runners), ..Pairing::default() };
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

    let kinds = Kinds::of(jobs, free, &by_key, &pairing);
    kinds.settle(&mut pairing);
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

fn wants_runner(view: &JobView<'_>) -> bool {
    matches!(view.state, JobState::Queued { .. }) && view.wants.is_ok()
}

#[cfg(test)]
mod tests;
