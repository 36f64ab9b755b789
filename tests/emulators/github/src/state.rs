//! Everything an emulator knows, behind one lock. Here: accounts, repositories, identifiers, and the events that a
//! change leaves behind to be delivered. Jobs are in `jobs`, runners and sessions in `fleet`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::commits::{Branch, CheckRunView};
use crate::model::{Job, Owner, Repository, Run, Runner, Scope, Session};
use crate::options::{Assignment, OwnerSpec, RunnerGroupSpec};
use crate::payload::Writer;
use crate::spec::{JobId, RunId, RunnerId};

/// Something that hooks are told of.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) action: Option<String>,
    /// The body, as JSON text of an object.
    pub(crate) payload: String,
    /// Whether an App's hook finds its installation in the body.
    pub(crate) with_installation: bool,
    pub(crate) job: Option<JobId>,
    pub(crate) owner: Option<String>,
    pub(crate) repository: Option<String>,
}

/// What the lock guards. Keys of owners and repositories are in lower case: GitHub compares them so.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) base: String,
    pub(crate) add_self_hosted_label: bool,
    pub(crate) assignment: Assignment,
    /// While set, no job is given to a runner.
    pub(crate) assignment_held: bool,
    pub(crate) random: u64,
    pub(crate) groups: Vec<RunnerGroupSpec>,
    pub(crate) owners: BTreeMap<String, Owner>,
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) runs: BTreeMap<RunId, Run>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// By repository and name.
    pub(crate) branches: BTreeMap<(String, String), Branch>,
    pub(crate) check_runs: BTreeMap<u64, CheckRunView>,
    /// Jobs that wait for a runner, in the order in which they were queued.
    pub(crate) queue: BTreeSet<(u64, JobId)>,
    /// Jobs that a runner has.
    pub(crate) held_jobs: BTreeSet<JobId>,
    pub(crate) runners: BTreeMap<RunnerId, Runner>,
    pub(crate) names: HashMap<(Scope, String), RunnerId>,
    pub(crate) credentials: HashMap<String, RunnerId>,
    /// Connected runners without a job.
    pub(crate) idle: BTreeSet<RunnerId>,
    pub(crate) sessions: HashMap<String, Session>,
    /// Events since the lock was taken.
    pub(crate) outbox: Vec<Event>,
    /// The parts of an event that are the same for every job of a repository: a hundred fields, written once.
    common: HashMap<String, String>,
    counters: BTreeMap<&'static str, u64>,
}

impl State {
    pub(crate) fn new(base: String) -> Self {
        let default_group = RunnerGroupSpec {
            id: 1,
            name: "Default".to_owned(),
            allows_public_repositories: false,
            repositories: None,
        };
        Self { base, random: 1, groups: vec![default_group], ..Self::default() }
    }

    /// The next number of `kind`; each kind begins where its numbers are on github.com, so that none fits in 32 bits by
    /// chance.
    pub(crate) fn next(&mut self, kind: &'static str) -> u64 {
        let first = match kind {
            "job" => 29_679_449_000,
            "run" => 10_711_256_000,
            "repository" => 804_000_000,
            "owner" => 170_000_000,
            "installation" => 52_000_000,
            "workflow" => 90_000_000,
            "delivery" => 15_000_000_000,
            _ => 1,
        };
        let counter = self.counters.entry(kind).or_insert(first);
        let number = *counter;
        *counter += 1;
        number
    }

    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer { base: &self.base }
    }

    /// The account `login`, added where it is new.
    pub(crate) fn owner(&mut self, spec: &OwnerSpec, now: Timestamp) -> &Owner {
        let key = spec.login.to_lowercase();
        if !self.owners.contains_key(&key) {
            let (id, installation) = (self.next("owner"), self.next("installation"));
            let owner = Owner {
                id,
                login: spec.login.clone(),
                organization: spec.organization,
                installation,
                created_at: now,
            };
            self.owners.insert(key.clone(), owner);
        }
        &self.owners[&key]
    }

    /// The key of the repository `full_name`, which is added where it is new, as is its owner.
    ///
    /// # Errors
    /// The name is not `owner/name`.
    pub(crate) fn repository(
        &mut self,
        full_name: &str,
        public: bool,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let Some((owner, name)) =
            full_name.split_once('/').filter(|(owner, name)| !owner.is_empty() && !name.is_empty())
        else {
            anyhow::bail!("{full_name:?} is not owner/name");
        };
        let key = full_name.to_lowercase();
        if !self.repositories.contains_key(&key) {
            let owner = self.owner(&OwnerSpec::organization(owner), now).login.clone();
            let id = self.next("repository");
            let repository =
                Repository { id, owner, name: name.to_owned(), public, fork: false, created_at: now };
            self.repositories.insert(key.clone(), repository);
        }
        Ok(key)
    }

    pub(crate) fn repository_json(&self, key: &str) -> Value {
        let Some(repository) = self.repositories.get(key) else { return Value::Null };
        let Some(owner) = self.owners.get(&repository.owner.to_lowercase()) else { return Value::Null };
        self.writer().repository(repository, owner)
    }

    pub(crate) fn installation_owner(&self, installation: u64) -> Option<&Owner> {
        self.owners.values().find(|owner| owner.installation == installation)
    }

    pub(crate) fn group(&self, id: u64) -> Option<&RunnerGroupSpec> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// Leaves a `workflow_job` event of the job as it is now.
    pub(crate) fn emit(&mut self, id: JobId, action: &str) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(run) = self.runs.get(&job.run_id) else { return };
        let owner_key = job.repository.split('/').next().unwrap_or_default().to_owned();
        let common = match self.common.get(&job.repository) {
            Some(written) => written.clone(),
            None => self.common_parts(&job.repository, &owner_key),
        };
        let payload = format!(
            "{{\"action\":{},\"workflow_job\":{},{common}}}",
            json!(action),
            self.writer().job(job, run)
        );
        self.common.insert(job.repository.clone(), common);
        let event = Event {
            name: "workflow_job".to_owned(),
            action: Some(action.to_owned()),
            payload,
            with_installation: true,
            job: Some(id),
            owner: Some(owner_key),
            repository: Some(job.repository.clone()),
        };
        self.outbox.push(event);
    }

    fn common_parts(&self, repository: &str, owner: &str) -> String {
        let mut parts = vec![
            format!("\"repository\":{}", self.repository_json(repository)),
            format!("\"sender\":{}", self.writer().sender()),
        ];
        if let Some(owner) = self.owners.get(owner).filter(|owner| owner.organization) {
            parts.push(format!("\"organization\":{}", self.writer().organization(owner)));
        }
        parts.join(",")
    }

    /// Forgets what was written of a repository, since it has changed.
    pub(crate) fn repository_changed(&mut self, key: &str) {
        self.common.remove(key);
    }

    /// The next number of a small generator, for choices that shall look random and be the same each time.
    pub(crate) fn pick(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % u64::try_from(below.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}
