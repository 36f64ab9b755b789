//! Steers a running emulator: queues jobs, adds agents, looks, waits, provokes the service's quirks.
//!
//! Nothing in it panics. Everything that it can do is also served under `/_emulator` for use by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use emulator_common::{Clock, Faults, Journal};
use jiff::Timestamp;

use crate::fleet::Registration;
use crate::hooks::{HookStatus, NotificationView, SubscriptionSpec, SubscriptionView};
use crate::options::Identity;
use crate::shared::Shared;
use crate::spec::{
    AgentId, AgentView, JobResult, JobSpec, JobState, JobView, PoolId, RequestId, RunId, RunView,
};

/// The controls of an emulator; clones steer the same one.
#[derive(Clone, Debug)]
pub struct AzureDevOpsControl {
    pub(crate) shared: Arc<Shared>,
}

impl AzureDevOpsControl {
    /// The organization's address, as in answers; what a client is given.
    pub fn organization_url(&self) -> String {
        self.shared.base()
    }

    /// The faults, to add some.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The requests that came.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// The clock, to move it.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Lets somebody in; one of the same name loses their secret.
    pub fn add_identity(&self, identity: Identity) {
        let mut identities = self.shared.identities();
        identities.retain(|one| one.name != identity.name);
        identities.push(identity);
    }

    /// Lets somebody in no longer; says whether they were.
    pub fn remove_identity(&self, name: &str) -> bool {
        let mut identities = self.shared.identities();
        let before = identities.len();
        identities.retain(|one| one.name != name);
        identities.len() < before
    }

    /// Sets when somebody's secret expires.
    pub fn expire_identity(&self, name: &str, at: Timestamp) {
        for identity in self.shared.identities().iter_mut().filter(|one| one.name == name) {
            identity.expires_at = Some(at);
        }
    }

    /// Lets somebody have consumed `units` (TSTU) just now.
    pub fn consume(&self, identity: &str, units: f64) {
        let now = self.shared.clock.now();
        self.shared.with_usage(identity, |usage| usage.spend(units, now));
    }

    /// Adds a project, unless it is there; its id.
    ///
    /// # Errors
    /// The name is empty or holds a slash.
    pub fn add_project(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.shared.change(|state, _| state.project(name))?.id)
    }

    /// Adds an agent pool.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn add_pool(&self, name: &str) -> anyhow::Result<PoolId> {
        self.shared.change(|state, now| state.add_pool(name, now))
    }

    /// The id of a pool.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn pool_id(&self, name: &str) -> anyhow::Result<PoolId> {
        self.shared.read(|state| state.pool_named(name))
    }

    /// Registers an agent that never connects, as a placeholder for capabilities. It has a current version.
    ///
    /// # Errors
    /// There is no such pool, or it has an agent of that name.
    pub fn add_offline_agent(
        &self,
        pool: &str,
        name: &str,
        capabilities: &[(&str, &str)],
    ) -> anyhow::Result<AgentId> {
        let given = capabilities.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let wanted = Registration {
            name: name.to_owned(),
            version: Some("4.261.0".to_owned()),
            user_capabilities: Some(given.collect::<BTreeMap<_, _>>()),
            ..Registration::default()
        };
        self.shared.change(|state, now| {
            let pool = state.pool_named(pool)?;
            state.register(pool, wanted, now).with_context(|| format!("the pool has an agent {name:?}"))
        })
    }

    /// All agents.
    pub fn agents(&self) -> Vec<AgentView> {
        self.shared.read(|state| state.agents.values().map(crate::model::Agent::view).collect())
    }

    /// Queues a job, in a run of its own unless it names one.
    ///
    /// # Errors
    /// As [`Self::queue_run`].
    pub fn queue_job(&self, spec: JobSpec) -> anyhow::Result<RequestId> {
        self.queue_run(vec![spec])?.pop().context("no job was queued")
    }

    /// Queues the jobs of one run together: the run that the first of them names, or a new one.
    ///
    /// # Errors
    /// There are none, there is no such pool or run, a demand is malformed, or a stage has two jobs of one name.
    pub fn queue_run(&self, jobs: Vec<JobSpec>) -> anyhow::Result<Vec<RequestId>> {
        self.shared.change(|state, now| state.queue_jobs(jobs, now))
    }

    /// Cancels a job as a person would.
    ///
    /// # Errors
    /// There is no such request.
    pub fn cancel_job(&self, request: RequestId) -> anyhow::Result<()> {
        self.shared.change(|state, now| state.cancel_job(request, now))
    }

    /// Cancels all of a run.
    ///
    /// # Errors
    /// There is no such run, or it has ended.
    pub fn cancel_run(&self, run: RunId) -> anyhow::Result<()> {
        self.shared.change(|state, now| state.cancel_run(run, now))
    }

    /// Lets a job end: its agent is told to, or will be as soon as it has it.
    ///
    /// # Errors
    /// There is no such request, or it has ended.
    pub fn finish_job(&self, request: RequestId, result: JobResult) -> anyhow::Result<()> {
        self.shared.change(|state, _| state.finish_job(request, result))
    }

    /// Tries those jobs of a stage again that did not succeed, or all of them. The new requests.
    ///
    /// # Errors
    /// There is no such run or stage, it has not ended, or every job has succeeded.
    pub fn retry_stage(&self, run: RunId, stage: &str, all: bool) -> anyhow::Result<Vec<RequestId>> {
        self.shared.change(|state, now| state.retry_stage(run, stage, all, now))
    }

    /// How a job stands.
    ///
    /// # Errors
    /// There is no such request.
    pub fn job(&self, request: RequestId) -> anyhow::Result<JobView> {
        let job = self.shared.read(|state| state.jobs.get(&request).map(crate::model::Job::view));
        job.with_context(|| format!("there is no request {request}"))
    }

    /// All jobs.
    pub fn jobs(&self) -> Vec<JobView> {
        self.shared.read(|state| state.jobs.values().map(crate::model::Job::view).collect())
    }

    /// All runs.
    pub fn runs(&self) -> Vec<RunView> {
        self.shared.read(|state| state.runs.values().map(|run| state.run_view(run)).collect())
    }

    /// Lets a waiting job go before all others, as by "run next".
    ///
    /// # Errors
    /// There is no such request, or it does not wait.
    pub fn run_next(&self, request: RequestId) -> anyhow::Result<()> {
        self.shared.change(|state, now| {
            let highest = state.jobs.values().map(|job| job.priority).max().unwrap_or(0);
            let job =
                state.jobs.get_mut(&request).with_context(|| format!("there is no request {request}"))?;
            if job.state() != JobState::Queued {
                bail!("the request {request} does not wait");
            }
            job.priority = highest.saturating_add(1);
            state.match_up(now);
            Ok(())
        })
    }

    /// Reserves no agent for any job, or does so again.
    pub fn hold_assignment(&self, held: bool) {
        self.shared.change(|state, now| {
            state.assignment_held = held;
            state.match_up(now);
        });
    }

    /// Sets how many self-hosted jobs may run at the same time; nothing: any number.
    pub fn set_parallel_jobs(&self, licences: Option<u32>) {
        self.shared.change(|state, now| {
            state.parallel_jobs = licences;
            state.match_up(now);
        });
    }

    /// Answers the next `count` reads of a pool's requests with an empty list, as the service does at times.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn blank_lists(&self, pool: &str, count: u32) -> anyhow::Result<()> {
        self.shared.change(|state, _| {
            let id = state.pool_named(pool)?;
            if let Some(pool) = state.pools.get_mut(&id) {
                pool.blank_lists = count;
            }
            Ok(())
        })
    }

    /// Makes a subscription; its id.
    ///
    /// # Errors
    /// Publisher, event or consumer are not known, or there is no address.
    pub fn subscribe(&self, spec: SubscriptionSpec) -> anyhow::Result<String> {
        if crate::routes::validate_subscription(&spec).is_err() {
            bail!(
                "the subscription to {:?} for {:?} cannot be made",
                spec.event_type,
                spec.consumer_inputs.get("url")
            );
        }
        Ok(self.shared.change(|state, now| state.hooks.add(spec, now)))
    }

    /// Sets where a subscription stands, as a person would.
    pub fn set_hook_status(&self, id: &str, status: HookStatus) {
        self.shared.change(|state, _| {
            if let Some(hook) = state.hooks.subscriptions.get_mut(id) {
                hook.status = status;
            }
        });
    }

    /// All subscriptions.
    pub fn hooks(&self) -> Vec<SubscriptionView> {
        self.shared.read(|state| state.hooks.subscriptions.values().cloned().collect())
    }

    /// All notifications, oldest first.
    pub fn notifications(&self) -> Vec<NotificationView> {
        self.shared.read(|state| state.hooks.notifications().cloned().collect())
    }

    /// Waits until a job is as `wanted` says.
    ///
    /// # Errors
    /// There is no such request, or `deadline` passed first; the error then says how the job stands.
    pub async fn wait_for_job(
        &self,
        request: RequestId,
        wanted: impl Fn(&JobView) -> bool,
        deadline: Duration,
    ) -> anyhow::Result<JobView> {
        let look = |control: &Self| control.job(request).map(|job| wanted(&job).then_some(job));
        match self.wait_until(look, deadline).await? {
            Some(job) => Ok(job),
            None => bail!("request {request} is not as wanted after {deadline:?}: {:?}", self.job(request)?),
        }
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// As [`Self::wait_for_job`].
    pub async fn wait_for_end(&self, request: RequestId, deadline: Duration) -> anyhow::Result<JobView> {
        self.wait_for_job(request, |job| job.state == JobState::Completed, deadline).await
    }

    /// Waits until `look` finds something; looks again after every change. Nothing once `deadline` has passed.
    ///
    /// # Errors
    /// Those of `look`.
    pub async fn wait_until<T>(
        &self,
        look: impl Fn(&Self) -> anyhow::Result<Option<T>>,
        deadline: Duration,
    ) -> anyhow::Result<Option<T>> {
        self.shared.changes.wait_until(|| look(self), deadline).await
    }
}
