//! Jobs and idle runners, grouped by what decides who may be handed whom.
//!
//! A source decides by scope and labels alone; core knows nothing of a runner group's list of repositories, which is the
//! same for all runners of a source.

use std::collections::BTreeSet;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use jiff::Timestamp;

use super::matching::{Edge, Matching};
use super::{JobView, Pairing, wants_runner};
use crate::job::{JobKey, JobState};
use crate::labels::covers;
use crate::lifecycle::{Occupation, Runner};
use crate::setup::Scope;

/// Idle runners that may be handed the same jobs.
struct RunnerKind<'a> {
    /// In the order in which they were made.
    members: Vec<&'a Runner>,
    /// Whether a refused job may be handed one.
    meets_refused: bool,
}

/// Queued jobs that may be handed to the same runners.
struct JobKind<'a> {
    /// In the order in which they were queued.
    members: Vec<&'a JobView<'a>>,
    runners: Vec<usize>,
}

/// What tells the kinds of jobs apart, as written.
type Asked<'a> = (&'a str, &'a str, &'a str, &'a [String]);

/// Jobs that want a runner, and runners that have no job.
pub(super) struct Kinds<'a> {
    runners: Vec<RunnerKind<'a>>,
    jobs: Vec<JobKind<'a>>,
    /// Each job's place in the list above, in the order in which they were queued.
    in_line: Vec<(usize, &'a JobView<'a>)>,
    /// The runner that was started for a job, with both their kinds.
    own: HashMap<&'a JobKey, (usize, &'a Runner)>,
    /// Since when each runner's own job has been in its state, where that job is known.
    since: HashMap<&'a str, Timestamp>,
    /// Runners whose own job is queued.
    awaited: HashSet<&'a str>,
}

impl<'a> Kinds<'a> {
    /// Of the runners given, which are free, and the queued jobs that no runner stands for.
    pub(super) fn of(
        jobs: &'a [JobView<'a>],
        free: Vec<&'a Runner>,
        by_key: &HashMap<&JobKey, &'a JobView<'a>>,
        pairing: &Pairing<'a>,
    ) -> Self {
        let open = |view: &JobView<'_>| wants_runner(view) && !pairing.covered.contains_key(&view.job.key);
        let mut kinds = Self {
            runners: Vec::new(),
            jobs: Vec::new(),
            in_line: Vec::new(),
            own: HashMap::new(),
            since: HashMap::new(),
            awaited: HashSet::new(),
        };
        let mut ids: HashMap<(&str, String, Vec<String>), usize> = HashMap::new();
        let mut by_scope: HashMap<(&str, String), Vec<usize>> = HashMap::new();
        for runner in free {
            let (source, scope) = (runner.job.source.as_str(), word(&runner.scope));
            let labels: BTreeSet<String> = runner.labels.iter().map(|label| label.to_lowercase()).collect();
            let next = kinds.runners.len();
            let id = *ids.entry((source, scope.clone(), labels.into_iter().collect())).or_insert(next);
            if id == next {
                by_scope.entry((source, scope)).or_default().push(id);
                kinds.runners.push(RunnerKind { members: Vec::new(), meets_refused: false });
            }
            if let Some(kind) = kinds.runners.get_mut(id) {
                kind.members.push(runner);
            }
            if let Some(view) = by_key.get(&runner.job) {
                kinds.since.insert(&runner.name, view.job.state_since());
                if matches!(view.state, JobState::Queued { .. }) {
                    kinds.awaited.insert(&runner.name);
                }
                if open(view) && may_have(runner, view) {
                    kinds.own.entry(&view.job.key).or_insert((id, runner));
                }
            }
        }
        // Where every runner has its own job there is nothing to look for.
        let free = kinds.runners.iter().map(|kind| kind.members.len()).sum::<usize>();
        if kinds.own.len() < free {
            kinds.add_jobs(jobs, &by_scope, open);
        }
        kinds
    }

    fn add_jobs(
        &mut self,
        jobs: &'a [JobView<'a>],
        by_scope: &HashMap<(&str, String), Vec<usize>>,
        open: impl Fn(&JobView<'_>) -> bool,
    ) {
        let mut asked: HashMap<Asked<'a>, Vec<usize>> = HashMap::new();
        let mut line: Vec<(Timestamp, &'a JobView<'a>, Vec<usize>)> = Vec::new();
        for view in jobs {
            let JobState::Queued { since, .. } = view.state else { continue };
            if view.wants.is_ok() && !open(view) {
                continue;
            }
            let what = &view.job.description;
            let key = (
                view.job.key.source.as_str(),
                what.owner.as_str(),
                what.repository.as_str(),
                what.labels.as_slice(),
            );
            let runners = asked.entry(key).or_insert_with(|| self.fitting(key, by_scope)).clone();
            if view.wants.is_ok() {
                line.push((since, view, runners));
                continue;
            }
            for id in runners {
                if let Some(kind) = self.runners.get_mut(id) {
                    kind.meets_refused = true;
                }
            }
        }
        line.sort_by(|a, b| (a.0, &a.1.job.key).cmp(&(b.0, &b.1.job.key)));
        let mut ids: HashMap<Vec<usize>, usize> = HashMap::new();
        for (_, view, runners) in line {
            if runners.is_empty() {
                continue;
            }
            let next = self.jobs.len();
            let id = *ids.entry(runners.clone()).or_insert(next);
            if id == next {
                self.jobs.push(JobKind { members: Vec::new(), runners });
            }
            if let Some(kind) = self.jobs.get_mut(id) {
                kind.members.push(view);
            }
            self.in_line.push((id, view));
        }
    }

    /// The kinds of runners that a job may be handed, in the order in which they were made.
    fn fitting(&self, asked: Asked<'_>, by_scope: &HashMap<(&str, String), Vec<usize>>) -> Vec<usize> {
        let (source, owner, repository, labels) = asked;
        let scopes = [Scope::Repository(repository.to_owned()), Scope::Owner(owner.to_owned())];
        let mut found: Vec<usize> = scopes
            .iter()
            .filter_map(|scope| by_scope.get(&(source, word(scope))))
            .flatten()
            .copied()
            .filter(|id| {
                let kind = self.runners.get(*id).and_then(|kind| kind.members.first());
                kind.is_some_and(|runner| covers(&runner.labels, labels))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// Matches, and writes down who stands for whom and who for nobody.
    pub(super) fn settle(self, pairing: &mut Pairing<'a>) {
        if self.in_line.is_empty() {
            for (key, (_, runner)) in &self.own {
                stands(pairing, key, runner);
            }
        } else {
            self.match_kinds(pairing);
        }
        for kind in &self.runners {
            for runner in &kind.members {
                if pairing.occupations.contains_key(runner.name.as_str()) {
                    continue;
                }
                let own = self.since.get(runner.name.as_str()).copied();
                let since = own.map_or(runner.created_at, |since| since.max(runner.created_at));
                pairing.occupations.insert(&runner.name, Occupation::Unwanted { since });
                // One whose own job is still queued is kept for its grace: what refuses that job may be a slip.
                if kind.meets_refused && !self.awaited.contains(runner.name.as_str()) {
                    pairing.exposed.insert(&runner.name);
                }
            }
        }
    }

    fn match_kinds(&self, pairing: &mut Pairing<'a>) {
        let mut edges: Vec<Edge> = Vec::new();
        let mut at: HashMap<(usize, usize), usize> = HashMap::new();
        for (job, kind) in self.jobs.iter().enumerate() {
            for runner in kind.runners.iter().copied() {
                at.insert((job, runner), edges.len());
                edges.push(Edge { job, runner, own: 0 });
            }
        }
        for (job, view) in &self.in_line {
            let own = self.own.get(&view.job.key).and_then(|(runner, _)| at.get(&(*job, *runner)));
            if let Some(edge) = own.and_then(|at| edges.get_mut(*at)) {
                edge.own += 1;
            }
        }
        let jobs = self.jobs.iter().map(|kind| kind.members.len()).collect();
        let runners = self.runners.iter().map(|kind| kind.members.len()).collect();
        let mut matching = Matching::of_own(jobs, runners, edges.clone());
        for (job, _) in self.in_line.iter().filter(|(_, view)| !self.own.contains_key(&view.job.key)) {
            matching.pair(*job);
        }
        let mut pairs = matching.complete();

        // Own pairs first, then in the order of the line.
        let mut taken: HashSet<&str> = HashSet::new();
        let mut rest: Vec<Vec<&'a JobView<'a>>> = vec![Vec::new(); self.jobs.len()];
        for (job, view) in &self.in_line {
            let own = self.own.get(&view.job.key);
            let left = own.and_then(|(runner, _)| at.get(&(*job, *runner))).and_then(|at| pairs.get_mut(*at));
            match (own, left) {
                (Some((_, runner)), Some(left)) if *left > 0 => {
                    *left -= 1;
                    taken.insert(&runner.name);
                    stands(pairing, &view.job.key, runner);
                }
                (_, _) => {
                    if let Some(rest) = rest.get_mut(*job) {
                        rest.push(view);
                    }
                }
            }
        }
        let idle = |kind: &RunnerKind<'a>| {
            let left = kind.members.iter().copied().filter(|runner| !taken.contains(runner.name.as_str()));
            left.collect::<Vec<_>>().into_iter()
        };
        let mut idle: Vec<_> = self.runners.iter().map(idle).collect();
        let mut waiting: Vec<_> = rest.into_iter().map(Vec::into_iter).collect();
        for (edge, many) in edges.iter().zip(pairs) {
            let (Some(jobs), Some(runners)) = (waiting.get_mut(edge.job), idle.get_mut(edge.runner)) else {
                continue;
            };
            for (view, runner) in jobs.zip(runners).take(many) {
                stands(pairing, &view.job.key, runner);
            }
        }
    }
}

fn stands<'a>(pairing: &mut Pairing<'a>, job: &'a JobKey, runner: &'a Runner) {
    pairing.covered.insert(job, &runner.name);
    pairing.occupations.insert(&runner.name, Occupation::Wanted);
}

/// Whether the source may hand the runner this job.
fn may_have(runner: &Runner, view: &JobView<'_>) -> bool {
    let what = &view.job.description;
    runner.scope.serves(&what.owner, &what.repository) && covers(&runner.labels, &what.labels)
}

/// A scope as it is compared.
fn word(scope: &Scope) -> String {
    match scope {
        // An owner has no slash in it, so that the two never meet.
        Scope::Owner(name) | Scope::Repository(name) => name.to_lowercase(),
    }
}
