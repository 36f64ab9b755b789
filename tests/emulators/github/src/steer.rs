//! Steers a running emulator: queues jobs, sends webhooks, waits, looks.
//!
//! Nothing in it panics. Everything that it can do is also served under `/_emulator` for use by hand.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use emulator_common::{Clock, Faults, Journal};
use serde_json::Value;

use crate::commits::CheckRunView;
use crate::hooks::{Chaos, Delivery, DeliveryView, Hook, HookKind, WebhookRule};
use crate::jobs::Rerun;
use crate::model::{Job, Runner};
use crate::options::OwnerSpec;
use crate::shared::Shared;
use crate::spec::{Conclusion, JobId, JobSpec, JobStatus, JobView, RunId, RunnerId, RunnerView};

/// The id of the App's hook.
const APP_HOOK: u64 = 1;

/// The controls of an emulator; clones steer the same one.
#[derive(Clone, Debug)]
pub struct GitHubControl {
    pub(crate) shared: Arc<Shared>,
}

impl GitHubControl {
    /// The address in answers and JIT configs.
    pub fn public_url(&self) -> String {
        self.shared.base()
    }

    /// The App's id.
    pub fn app_id(&self) -> u64 {
        self.shared.options.app_id
    }

    /// The App's private key, made for this emulator.
    pub fn app_private_key_pem(&self) -> &str {
        self.shared.key.private_pem()
    }

    /// The id of the App's installation on an account, which is added as an organization where it is new.
    pub fn installation_id(&self, owner: &str) -> u64 {
        let spec = OwnerSpec::organization(owner);
        self.shared.change(|state, now| state.owner(&spec, now).installation)
    }

    /// Faults on the REST API and the agents' protocol.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Requests that arrived.
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// The emulator's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Adds an account.
    pub fn add_owner(&self, owner: &OwnerSpec) {
        self.shared.change(|state, now| drop(state.owner(owner, now).login.clone()));
    }

    /// Adds a repository, and its owner as an organization where it is new.
    ///
    /// # Errors
    /// The name is not `owner/name`.
    pub fn add_repository(&self, full_name: &str, public: bool) -> anyhow::Result<()> {
        self.shared.change(|state, now| state.repository(full_name, public, now).map(drop))
    }

    /// Removes a repository as if it had been deleted: it is not found from then on.
    pub fn remove_repository(&self, full_name: &str) {
        let key = full_name.to_lowercase();
        self.shared.change(|state, _| {
            state.repositories.remove(&key);
            state.repository_changed(&key);
        });
    }

    /// Adds a branch to a repository, which is added where it is new, or changes whether the branch is protected.
    ///
    /// # Errors
    /// The repository's name is not `owner/name`.
    pub fn set_branch(&self, full_name: &str, branch: &str, protected: bool) -> anyhow::Result<()> {
        self.shared.change(|state, now| {
            let key = state.repository(full_name, false, now)?;
            state.set_branch(&key, branch, protected);
            Ok(())
        })
    }

    /// Deletes a branch.
    pub fn delete_branch(&self, full_name: &str, branch: &str) {
        let key = (full_name.to_lowercase(), branch.to_owned());
        self.shared.change(|state, _| drop(state.branches.remove(&key)));
    }

    /// The commit that a job builds.
    ///
    /// # Errors
    /// There is no such job.
    pub fn head_sha(&self, id: JobId) -> anyhow::Result<String> {
        let found = self.shared.read(|state| state.jobs.get(&id).map(|job| job.head_sha.clone()));
        found.with_context(|| format!("there is no job {id}"))
    }

    /// All check-runs, oldest first.
    pub fn check_runs(&self) -> Vec<CheckRunView> {
        self.shared.read(|state| state.check_runs.values().cloned().collect())
    }

    /// Sends the App's events to `url` from now on, beginning with a ping.
    pub fn set_webhook(&self, url: &str, secret: &str) {
        self.put_hook(APP_HOOK, HookKind::App, url, secret);
    }

    /// Adds a hook besides the App's; its id.
    pub fn add_hook(&self, kind: HookKind, url: &str, secret: &str) -> u64 {
        let id = APP_HOOK + self.shared.change(|state, _| state.next("hook"));
        self.put_hook(id, kind, url, secret);
        id
    }

    fn put_hook(&self, id: u64, kind: HookKind, url: &str, secret: &str) {
        let hook = Hook {
            id,
            kind,
            url: url.to_owned(),
            secret: secret.to_owned(),
            active: true,
            created_at: self.shared.clock.now(),
        };
        self.shared.hooks.put(hook.clone());
        self.shared.ping(&hook);
    }

    /// Makes chosen deliveries go wrong.
    pub fn add_webhook_rule(&self, rule: WebhookRule) {
        self.shared.hooks.add_rule(rule);
    }

    /// Removes every such rule.
    pub fn clear_webhook_rules(&self) {
        self.shared.hooks.clear_rules();
    }

    /// Replaces the mischief on every delivery.
    pub fn set_chaos(&self, chaos: Chaos) {
        self.shared.hooks.set_chaos(chaos);
    }

    /// Sends what [`WebhookEffect::Hold`](crate::WebhookEffect::Hold) held back.
    pub fn release_webhooks(&self) {
        self.shared.hooks.release.send_modify(|generation| *generation += 1);
    }

    /// Sends `payload` unchanged as an event, with a valid signature.
    pub fn send_raw(&self, event: &str, payload: &Value) {
        self.shared.send_raw(event, payload);
    }

    /// Deliveries that were made, oldest first.
    pub fn deliveries(&self) -> Vec<DeliveryView> {
        let mut found: Vec<_> = self.shared.recent_deliveries(|_| true).iter().map(Delivery::view).collect();
        found.reverse();
        found
    }

    /// The body of a delivery.
    ///
    /// # Errors
    /// There is no such delivery.
    pub fn delivery_payload(&self, id: u64) -> anyhow::Result<Value> {
        let found = self.shared.recent_deliveries(|delivery| delivery.id == id).pop();
        let delivery = found.with_context(|| format!("there is no delivery {id}"))?;
        Ok(serde_json::from_slice(&delivery.attempt.body)?)
    }

    /// Sends a delivery again under the same GUID.
    ///
    /// # Errors
    /// There is no such delivery.
    pub fn redeliver(&self, id: u64) -> anyhow::Result<()> {
        self.shared.redeliver(id)
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The repository's name is malformed, or the run that the job shall belong to does not exist.
    pub fn queue_job(&self, spec: JobSpec) -> anyhow::Result<JobId> {
        self.shared.change(|state, now| state.queue_job(spec, now))
    }

    /// Approves a job that waits for it.
    ///
    /// # Errors
    /// There is no such job, or it does not wait.
    pub fn approve_job(&self, id: JobId) -> anyhow::Result<()> {
        self.shared.change(|state, now| state.approve_job(id, now))
    }

    /// Cancels a job as a person would.
    ///
    /// # Errors
    /// There is no such job.
    pub fn cancel_job(&self, id: JobId) -> anyhow::Result<()> {
        self.shared.change(|state, now| state.cancel_job(id, now))
    }

    /// Lets a job end: its agent is told to, or will be as soon as it has it.
    ///
    /// # Errors
    /// There is no such job, or it has ended.
    pub fn finish_job(&self, id: JobId, conclusion: Conclusion) -> anyhow::Result<()> {
        self.shared.change(|state, _| state.finish_job(id, conclusion))
    }

    /// Runs all jobs of a run again.
    ///
    /// # Errors
    /// There is no such run, or it has not ended.
    pub fn rerun(&self, run: RunId) -> anyhow::Result<Vec<JobId>> {
        self.shared.change(|state, now| {
            state.rerun(run, Rerun::All, now)?;
            let run = state.runs.get(&run).with_context(|| format!("there is no run {run}"))?;
            let latest = |id: &&JobId| state.jobs.get(id).is_some_and(|job| job.attempt == run.attempt);
            Ok(run.jobs.iter().filter(latest).copied().collect())
        })
    }

    /// A job.
    ///
    /// # Errors
    /// There is no such job.
    pub fn job(&self, id: JobId) -> anyhow::Result<JobView> {
        self.shared
            .read(|state| state.jobs.get(&id).map(Job::view))
            .with_context(|| format!("there is no job {id}"))
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<JobView> {
        self.shared.read(|state| state.jobs.values().map(Job::view).collect())
    }

    /// All registered runners, oldest first.
    pub fn runners(&self) -> Vec<RunnerView> {
        self.shared.read(|state| state.runners.values().map(Runner::view).collect())
    }

    /// Removes a runner by force, as a person does in the settings: busy or not, its agent finds it gone.
    pub fn remove_runner(&self, id: RunnerId) {
        self.shared.change(|state, _| state.remove_runner(id));
    }

    /// Stops giving jobs to runners, or starts again.
    pub fn hold_assignment(&self, held: bool) {
        self.shared.change(|state, now| {
            state.assignment_held = held;
            state.offer_all(now);
        });
    }

    /// Gives a queued job to an idle runner of choice.
    ///
    /// # Errors
    /// The job is not queued, the runner is not connected and idle, or it could not have the job on GitHub either.
    pub fn assign(&self, job: JobId, runner_name: &str) -> anyhow::Result<()> {
        self.shared.change(|state, now| {
            let runner = state.runners.values().find(|runner| runner.name == runner_name);
            let runner = runner.with_context(|| format!("there is no runner {runner_name}"))?;
            let wanted = state.jobs.get(&job).with_context(|| format!("there is no job {job}"))?;
            if wanted.status != JobStatus::Queued || wanted.runner.is_some() {
                bail!("job {job} is not waiting for a runner");
            }
            if !state.idle.contains(&runner.id) || !state.fits(wanted, runner) {
                bail!("the runner {runner_name} cannot have job {job}");
            }
            state.assign(job, runner.id, now);
            Ok(())
        })
    }

    /// Makes every installation token invalid at once.
    pub fn revoke_tokens(&self) {
        self.shared.gate.revoke_all();
    }

    /// Waits until a job is as `wanted` says.
    ///
    /// # Errors
    /// There is no such job, or `deadline` passed first; the error then says how the job stands.
    pub async fn wait_for_job(
        &self,
        id: JobId,
        wanted: impl Fn(&JobView) -> bool,
        deadline: Duration,
    ) -> anyhow::Result<JobView> {
        let done = self.wait_until(|handle| handle.job(id).map(|job| wanted(&job).then_some(job)), deadline);
        match done.await? {
            Some(job) => Ok(job),
            None => bail!("job {id} is not as wanted after {deadline:?}: {:?}", self.job(id)?),
        }
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// As [`Self::wait_for_job`].
    pub async fn wait_for_end(&self, id: JobId, deadline: Duration) -> anyhow::Result<JobView> {
        self.wait_for_job(id, |job| job.status == JobStatus::Completed, deadline).await
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
