//! Maximum matching between kinds of jobs and kinds of runners.
//!
//! Knows nothing of what makes a kind. Of all matchings of the largest size it finds one that keeps the most pairs of
//! a job and the runner that was started for it. Kinds are few, so that the cost is about that of reading the input.

/// Which kind of job a kind of runner may be handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Kind of job.
    pub(super) job: usize,
    /// Kind of runner.
    pub(super) runner: usize,
    /// How many runners of the one kind were started for jobs of the other. No job and no runner counts twice.
    pub(super) own: usize,
}

/// Kinds with the number of their members that are in no pair yet, and who goes with whom.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    /// Jobs left, by kind.
    jobs: Vec<usize>,
    /// Runners left, by kind.
    runners: Vec<usize>,
    edges: Vec<Edge>,
    /// How many pairs each edge has.
    pairs: Vec<usize>,
    /// The edges of each kind of job.
    of_job: Vec<Vec<usize>>,
    /// The edges of each kind of runner.
    of_runner: Vec<Vec<usize>>,
}

/// One step of a path from a job that is left to a runner that is left.
#[derive(Clone, Copy, Debug)]
enum Hop {
    /// One more pair of this edge.
    Make(usize),
    /// One pair of this edge less.
    Undo(usize),
}

/// How a kind was reached, and how many pairs of jobs with their own runners that costs.
#[derive(Clone, Copy, Debug)]
struct Reached {
    cost: i64,
    by: Option<Hop>,
}

impl Matching {
    /// The matching that has all own pairs and no other. The numbers are those of all members of each kind.
    pub(super) fn of_own(mut jobs: Vec<usize>, mut runners: Vec<usize>, edges: Vec<Edge>) -> Self {
        let (mut of_job, mut of_runner) = (vec![Vec::new(); jobs.len()], vec![Vec::new(); runners.len()]);
        for (at, edge) in edges.iter().enumerate() {
            take(&mut jobs, edge.job, edge.own);
            take(&mut runners, edge.runner, edge.own);
            push(&mut of_job, edge.job, at);
            push(&mut of_runner, edge.runner, at);
        }
        let pairs = edges.iter().map(|edge| edge.own).collect();
        Self { jobs, runners, edges, pairs, of_job, of_runner }
    }

    /// Pairs one more job of a kind with a runner that is left, if there is one that it may be handed to.
    pub(super) fn pair(&mut self, job: usize) {
        let free = |edge: &Edge| self.runners.get(edge.runner).is_some_and(|left| *left > 0);
        let found = self.of_job.get(job).into_iter().flatten().copied();
        let found = found.filter_map(|at| self.edges.get(at).map(|edge| (at, *edge)));
        let Some((at, edge)) = found.into_iter().find(|(_, edge)| free(edge)) else { return };
        if self.jobs.get(job).is_some_and(|left| *left > 0) {
            take(&mut self.jobs, job, 1);
            take(&mut self.runners, edge.runner, 1);
            if let Some(pairs) = self.pairs.get_mut(at) {
                *pairs += 1;
            }
        }
    }

    /// Makes it maximum: as long as there is a path from a job that is left to a runner that is left, the cheapest one
    /// is taken. A matching that keeps the most own pairs of its size does so after each (successive shortest paths);
    /// that of all own pairs does, and direct pairs break none.
    pub(super) fn complete(mut self) -> Vec<usize> {
        while let Some((runner, reached)) = self.cheapest() {
            let mut path = Vec::new();
            let (mut on_runner, mut node) = (true, runner);
            let mut start = None;
            // Bounded, although a shortest path visits each kind once.
            for _ in 0..=self.jobs.len() + self.runners.len() {
                let side = if on_runner { &reached.1 } else { &reached.0 };
                let Some(Some(step)) = side.get(node) else { break };
                let Some(hop) = step.by else {
                    start = Some(node);
                    break;
                };
                path.push(hop);
                let Some(edge) = self.edges.get(hop.edge()) else { break };
                (on_runner, node) = if on_runner { (false, edge.job) } else { (true, edge.runner) };
            }
            let Some(start) = start else { break };
            let left = self.jobs.get(start).copied().unwrap_or(0);
            let left = left.min(self.runners.get(runner).copied().unwrap_or(0));
            let most = path.iter().map(|hop| self.hop(*hop).map_or(0, |(_, most)| most)).min().unwrap_or(0);
            let many = left.min(most);
            if many == 0 {
                break;
            }
            take(&mut self.jobs, start, many);
            take(&mut self.runners, runner, many);
            for hop in path {
                if let Some(pairs) = self.pairs.get_mut(hop.edge()) {
                    *pairs = match hop {
                        Hop::Make(_) => *pairs + many,
                        Hop::Undo(_) => pairs.saturating_sub(many),
                    };
                }
            }
        }
        self.pairs
    }

    /// The kind of runner with one left that costs least to reach, with how every kind is reached.
    #[expect(clippy::type_complexity, reason = "two lists, of jobs' and of runners' kinds, that go together")]
    fn cheapest(&self) -> Option<(usize, (Vec<Option<Reached>>, Vec<Option<Reached>>))> {
        if self.runners.iter().all(|left| *left == 0) {
            return None;
        }
        let start = |left: &usize| (*left > 0).then_some(Reached { cost: 0, by: None });
        let mut jobs: Vec<Option<Reached>> = self.jobs.iter().map(start).collect();
        let mut runners: Vec<Option<Reached>> = vec![None; self.runners.len()];
        // Kinds whose way became cheaper, and whose neighbours are to be looked at again.
        let mut open: Vec<usize> =
            (0..jobs.len()).filter(|at| jobs.get(*at).is_some_and(Option::is_some)).collect();
        // Without cycles that cost less than nothing, no way is longer than there are kinds.
        for _ in 0..=jobs.len() + runners.len() {
            let reached = self.relax(&open, &self.of_job, &jobs, &mut runners, true);
            open = self.relax(&reached, &self.of_runner, &runners, &mut jobs, false);
            if open.is_empty() {
                break;
            }
        }
        let found = runners
            .iter()
            .enumerate()
            .filter(|(at, _)| self.runners.get(*at).is_some_and(|left| *left > 0))
            .filter_map(|(at, reached)| reached.map(|reached| (reached.cost, at)))
            .min();
        found.map(|(_, at)| (at, (jobs, runners)))
    }

    /// Goes from these kinds over their edges, and answers which kinds of the other side are reached more cheaply.
    fn relax(
        &self,
        from: &[usize],
        edges_of: &[Vec<usize>],
        near: &[Option<Reached>],
        far: &mut [Option<Reached>],
        make: bool,
    ) -> Vec<usize> {
        let mut cheaper: Vec<usize> = Vec::new();
        for node in from {
            let Some(Some(here)) = near.get(*node) else { continue };
            for at in edges_of.get(*node).into_iter().flatten().copied() {
                let hop = if make { Hop::Make(at) } else { Hop::Undo(at) };
                let (Some((cost, _)), Some(edge)) = (self.hop(hop), self.edges.get(at)) else { continue };
                let other = if make { edge.runner } else { edge.job };
                let Some(there) = far.get_mut(other) else { continue };
                let cost = here.cost.saturating_add(cost);
                if there.is_none_or(|there| cost < there.cost) {
                    *there = Some(Reached { cost, by: Some(hop) });
                    cheaper.push(other);
                }
            }
        }
        cheaper.sort_unstable();
        cheaper.dedup();
        cheaper
    }

    /// How many own pairs a hop breaks (less than none: makes again), and how often it can be made at that cost.
    fn hop(&self, hop: Hop) -> Option<(i64, usize)> {
        let (edge, pairs) = (self.edges.get(hop.edge())?, *self.pairs.get(hop.edge())?);
        match hop {
            Hop::Make(_) if pairs < edge.own => Some((-1, edge.own - pairs)),
            Hop::Make(_) => Some((0, usize::MAX)),
            Hop::Undo(_) if pairs > edge.own => Some((0, pairs - edge.own)),
            Hop::Undo(_) => (pairs > 0).then_some((1, pairs)),
        }
    }
}

impl Hop {
    fn edge(self) -> usize {
        match self {
            Hop::Make(at) | Hop::Undo(at) => at,
        }
    }
}

fn take(left: &mut [usize], at: usize, many: usize) {
    if let Some(left) = left.get_mut(at) {
        *left = left.saturating_sub(many);
    }
}

fn push(lists: &mut [Vec<usize>], at: usize, value: usize) {
    if let Some(list) = lists.get_mut(at) {
        list.push(value);
    }
}
