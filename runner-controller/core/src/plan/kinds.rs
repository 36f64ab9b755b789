//! Kinds of jobs: what the configuration makes of a job depends on little of it, so it is found once for all that are
//! alike.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::Snapshot;
use crate::isolation::Isolation;
use crate::job::{Job, JobKey};
use crate::labels::{self, Matched};
use crate::lifecycle::Runner;
use crate::pairing::{JobView, Wants};
use crate::reason::Reason;
use crate::setup::{Class, Setup, Size, Source};

/// All of a job that its kind depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Alike<'a> {
    source: &'a str,
    owner: &'a str,
    repository: &'a str,
    public: bool,
    workflow: Option<&'a str>,
    labels: &'a [String],
    protected_branch: bool,
}

impl<'a> Alike<'a> {
    fn of(job: &'a Job) -> Self {
        let what = &job.description;
        Self {
            source: &job.key.source,
            owner: &what.owner,
            repository: &what.repository,
            public: what.public,
            workflow: what.workflow.as_deref(),
            labels: &what.labels,
            protected_branch: job.found.protected_branch.unwrap_or_default(),
        }
    }
}

/// What follows from the configuration for all jobs of a kind.
pub(super) struct Kind<'a> {
    /// What they ask for, or why they get no runner.
    pub(super) wants: Result<Arc<Wants>, Arc<Reason>>,
    /// Their source.
    pub(super) source: Option<&'a Source>,
    /// Their class, and how large a runner of theirs is.
    pub(super) class: Option<(&'a Class, Size)>,
    /// The label that asks for their class and size.
    pub(super) label: Option<String>,
}

impl<'a> Kind<'a> {
    fn of(setup: &'a Setup, job: &'a Job, isolation: &mut Isolation<'a>) -> Self {
        let wants = wants(setup, job, isolation).map(Arc::new).map_err(Arc::new);
        let matched = wants.as_ref().ok().map(|wants| &wants.matched);
        let class = matched.and_then(|matched| {
            let class = setup.classes.get(&matched.class)?;
            Some((class, matched.size_in(class)?))
        });
        let label = matched.map(Matched::label);
        Self { source: setup.sources.get(&job.key.source), class, label, wants }
    }
}

/// A kind, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KindId(pub(super) usize);

/// What a job asks for under this configuration.
fn wants<'a>(setup: &'a Setup, job: &'a Job, isolation: &mut Isolation<'a>) -> Result<Wants, Reason> {
    let what = &job.description;
    let source = setup
        .sources
        .get(&job.key.source)
        .ok_or_else(|| Reason::SourceMissing { source: job.key.source.clone() })?;
    let listed = source.scope_of(&what.owner, &what.repository).ok_or_else(|| {
        Reason::RepositoryNotServed { source: source.name.clone(), repository: what.repository.clone() }
    })?;
    let matched = labels::match_class(setup, &what.labels)?;
    if what.public && !source.allow_public {
        return Err(Reason::PublicRepository {
            source: source.name.clone(),
            repository: what.repository.clone(),
        });
    }
    let class = setup.classes.get(&matched.class).map_or("", |class| class.name.as_str());
    let scope = isolation.scope(source, listed, &what.owner, &what.repository, class);
    Ok(Wants { matched, scope })
}

/// All jobs with what follows from facts and configuration, in the order of their keys.
pub(super) struct Views<'a> {
    pub(super) list: Vec<JobView<'a>>,
    /// The kind of each.
    of: Vec<KindId>,
    kinds: Vec<Kind<'a>>,
}

impl<'a> Views<'a> {
    /// Of all jobs. `runners`: all there are, by job and number.
    pub(super) fn new(snapshot: &'a Snapshot, runners: &[&'a Runner]) -> Self {
        let mut jobs: Vec<&'a Job> = snapshot.jobs.iter().collect();
        jobs.sort_by(|a, b| a.key.cmp(&b.key));
        let mut kinds: Vec<Kind<'a>> = Vec::new();
        let mut ids: HashMap<Alike<'a>, KindId> = HashMap::new();
        let mut of = Vec::with_capacity(jobs.len());
        let mut isolation = Isolation::of(&snapshot.setup);
        let mut next = 0;
        let list = jobs.into_iter().map(|job| {
            let id = *ids.entry(Alike::of(job)).or_insert_with(|| {
                kinds.push(Kind::of(&snapshot.setup, job, &mut isolation));
                KindId(kinds.len() - 1)
            });
            of.push(id);
            let wants = match kinds.get(id.0) {
                Some(kind) => kind.wants.clone(),
                None => Err(Arc::new(Reason::NoPlace)),
            };
            let rest = runners.get(next..).unwrap_or_default();
            let begin = next + rest.iter().take_while(|runner| runner.job < job.key).count();
            let rest = runners.get(begin..).unwrap_or_default();
            next = begin + rest.iter().take_while(|runner| runner.job == job.key).count();
            JobView { job, state: job.state(), wants, own: begin..next }
        });
        let list = list.collect();
        Self { list, of, kinds }
    }

    /// The kind of the job at this place of the list.
    pub(super) fn kind(&self, index: usize) -> Option<(KindId, &Kind<'a>)> {
        let id = self.of.get(index)?;
        Some((*id, self.kinds.get(id.0)?))
    }

    /// How many kinds there are.
    pub(super) fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// The place of a job in the list, if it is stored.
    pub(super) fn find(&self, key: &JobKey) -> Option<usize> {
        self.list.binary_search_by(|view| view.job.key.cmp(key)).ok()
    }

    /// A job, if it is stored.
    pub(super) fn get(&self, key: &JobKey) -> Option<&JobView<'a>> {
        self.find(key).and_then(|index| self.list.get(index))
    }
}
