//! Everything an emulator knows, behind one lock. Here: the organization, projects, pipelines, pools and identifiers. Jobs
//! are in `runs`, agents and sessions in `fleet`, service hooks in `hooks`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, bail};
use emulator_common::ids::{guid_of_hex, hex};
use jiff::Timestamp;

use crate::hooks::Hooks;
use crate::model::{Agent, Definition, Job, Pool, Project, Run, Session};
use crate::options::{Options, Quirks};
use crate::spec::{AgentId, PoolId, RequestId, RunId};

/// What the lock guards.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The address in answers, the organization included.
    pub(crate) base: String,
    pub(crate) organization: String,
    pub(crate) organization_id: String,
    pub(crate) quirks: Quirks,
    pub(crate) minimum_agent_version: Option<String>,
    pub(crate) parallel_jobs: Option<u32>,
    /// While set, no agent is reserved for a job.
    pub(crate) assignment_held: bool,
    pub(crate) projects: Vec<Project>,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) pools: BTreeMap<PoolId, Pool>,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    /// Connected, enabled agents without a job.
    pub(crate) idle: BTreeSet<AgentId>,
    pub(crate) credentials: HashMap<String, AgentId>,
    pub(crate) sessions: HashMap<String, Session>,
    pub(crate) runs: BTreeMap<RunId, Run>,
    pub(crate) jobs: BTreeMap<RequestId, Job>,
    /// Requests that wait for an agent.
    pub(crate) waiting: BTreeSet<RequestId>,
    /// Requests that have one.
    pub(crate) held: BTreeSet<RequestId>,
    pub(crate) hooks: Hooks,
    counters: BTreeMap<&'static str, u64>,
}

impl State {
    pub(crate) fn new(base: String, options: &Options, now: Timestamp) -> anyhow::Result<Self> {
        let mut state = Self {
            base,
            organization: options.organization.clone(),
            organization_id: stable_guid(&options.organization),
            quirks: options.quirks,
            minimum_agent_version: options.minimum_agent_version.clone(),
            parallel_jobs: options.parallel_jobs,
            hooks: Hooks::new(options),
            ..Self::default()
        };
        for name in &options.projects {
            state.project(name)?;
        }
        for name in &options.pools {
            state.add_pool(name, now)?;
        }
        Ok(state)
    }

    /// The next number of `kind`.
    pub(crate) fn next(&mut self, kind: &'static str) -> u64 {
        let first = match kind {
            "request" => 890_650,
            "run" => 673_580,
            "agent" => 11_730,
            "pool" => 40,
            _ => 1,
        };
        let counter = self.counters.entry(kind).or_insert(first);
        let number = *counter;
        *counter += 1;
        number
    }

    /// The project `name`, added where it is new.
    ///
    /// # Errors
    /// The name is empty or holds a slash.
    pub(crate) fn project(&mut self, name: &str) -> anyhow::Result<Project> {
        if name.is_empty() || name.contains('/') {
            bail!("{name:?} cannot name a project");
        }
        if let Some(project) = self.find_project(name) {
            return Ok(project.clone());
        }
        let project =
            Project { id: stable_guid(&format!("{}/{name}", self.organization)), name: name.to_owned() };
        self.projects.push(project.clone());
        Ok(project)
    }

    /// The project with this id or name.
    pub(crate) fn find_project(&self, wanted: &str) -> Option<&Project> {
        self.projects.iter().find(|project| {
            project.name.eq_ignore_ascii_case(wanted) || project.id.eq_ignore_ascii_case(wanted)
        })
    }

    /// The pipeline `name` of a project, added where it is new.
    pub(crate) fn definition(&mut self, project: &Project, name: &str) -> Definition {
        let found = self.definitions.iter().find(|one| one.project == project.id && one.name == name);
        if let Some(found) = found {
            return found.clone();
        }
        let made =
            Definition { id: self.next("definition"), project: project.id.clone(), name: name.to_owned() };
        self.definitions.push(made.clone());
        made
    }

    /// Adds an agent pool.
    ///
    /// # Errors
    /// There is one of that name.
    pub(crate) fn add_pool(&mut self, name: &str, now: Timestamp) -> anyhow::Result<PoolId> {
        if self.pool_named(name).is_ok() {
            bail!("there is a pool {name:?} already");
        }
        let id = self.next("pool");
        self.pools.insert(id, Pool { id, name: name.to_owned(), created_at: now, blank_lists: 0 });
        Ok(id)
    }

    /// # Errors
    /// There is no such pool.
    pub(crate) fn pool_named(&self, name: &str) -> anyhow::Result<PoolId> {
        let found = self.pools.values().find(|pool| pool.name.eq_ignore_ascii_case(name));
        found.map(|pool| pool.id).with_context(|| format!("there is no pool {name:?}: add it first"))
    }
}

/// An identifier that is the same for the same text.
pub(crate) fn stable_guid(text: &str) -> String {
    guid_of_hex(&hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref()))
}
