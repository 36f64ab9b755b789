//! The life of a run: jobs are queued, perhaps fail at once for want of an agent, end, are cancelled and tried again.

use anyhow::{Context, bail};
use emulator_common::ids::guid;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use crate::demand::{Demand, unmet};
use crate::events::EventKind;
use crate::model::{Job, Progress, Run, Stage};
use crate::spec::{JobResult, JobSpec, JobState, RequestId, RunId, RunView};
use crate::state::{State, stable_guid};

impl State {
    /// Makes a job as `spec` says, in a new run unless it names one.
    ///
    /// # Errors
    /// There is no such pool or run, or a demand is malformed.
    pub(crate) fn queue_job(&mut self, spec: JobSpec, now: Timestamp) -> anyhow::Result<RequestId> {
        self.pool_named(&spec.pool)?;
        for demand in &spec.demands {
            Demand::parse(demand)?;
        }
        let project = self.project(&spec.project)?;
        let run_id = match spec.run {
            Some(id) => {
                let run = self.runs.get(&id).with_context(|| format!("there is no run {id}"))?;
                if run.project.id != project.id {
                    bail!("the run {id} is of the project {:?}", run.project.name);
                }
                id
            }
            None => self.new_run(&spec, now)?,
        };
        self.enter_stage(run_id, &spec.stage);
        let request = self.new_request(spec, run_id, 1, now)?;
        self.match_up(now);
        Ok(request)
    }

    fn new_run(&mut self, spec: &JobSpec, now: Timestamp) -> anyhow::Result<RunId> {
        let project = self.project(&spec.project)?;
        let definition = self.definition(&project, &spec.pipeline);
        let (id, count) = (self.next("run"), self.next("run number"));
        let date = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d");
        let run = Run {
            id,
            number: format!("{date}.{count}"),
            project,
            definition,
            plan_id: guid(),
            branch: spec.branch.clone(),
            commit: stable_guid(&format!("commit {id}")).replace('-', ""),
            reason: spec.reason.clone(),
            created_at: now,
            finished_at: None,
            cancelling: false,
            result: None,
            stages: Vec::new(),
            requests: Vec::new(),
        };
        self.runs.insert(id, run);
        self.publish(EventKind::Run, id, None, now);
        Ok(id)
    }

    /// Makes sure that the run has the stage, and that neither counts as over while a job is added.
    fn enter_stage(&mut self, run_id: RunId, name: &str) {
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        (run.result, run.finished_at) = (None, None);
        match run.stages.iter_mut().find(|stage| stage.name.eq_ignore_ascii_case(name)) {
            Some(stage) => {
                if matches!(stage.progress, Progress::Completed(_)) {
                    (stage.progress, stage.finished_at) = (Progress::Waiting, None);
                }
            }
            None => run.stages.push(Stage {
                id: stable_guid(&format!("{run_id} {}", name.to_lowercase())),
                name: name.to_owned(),
                attempt: 1,
                progress: Progress::Waiting,
                started_at: None,
                finished_at: None,
            }),
        }
    }

    fn new_request(
        &mut self,
        spec: JobSpec,
        run_id: RunId,
        attempt: u32,
        now: Timestamp,
    ) -> anyhow::Result<RequestId> {
        let pool = self.pool_named(&spec.pool)?;
        let request = self.next("request");
        let mut demands = spec.demands.clone();
        if let Some(minimum) = &self.minimum_agent_version {
            demands.push(format!("Agent.Version -gtVersion {minimum}"));
        }
        let first = attempt == 1;
        let fresh = self.runs.get(&run_id).and_then(|run| run.stage(&spec.stage)).is_some_and(|stage| {
            // The stage's first job announces it.
            stage.progress == Progress::Waiting
                && (!first || self.jobs_of_stage(run_id, &stage.name).is_empty())
        });
        let stage = spec.stage.clone();
        let job = Job {
            request,
            run: run_id,
            pool,
            job_id: stable_guid(&format!("{run_id} {} {} {attempt}", spec.stage, spec.job)),
            attempt,
            demands,
            priority: spec.priority,
            spec,
            queued_at: now,
            assigned_at: None,
            received_at: None,
            finished_at: None,
            cancel_requested_at: None,
            result: None,
            agent: None,
            assignments: 0,
            finish_with: None,
            issues: Vec::new(),
            log: Vec::new(),
        };
        let unmet = self.nobody_could(&job);
        self.jobs.insert(request, job);
        self.waiting.insert(request);
        if let Some(run) = self.runs.get_mut(&run_id) {
            run.requests.push(request);
        }
        if fresh {
            self.publish(EventKind::Stage(stage), run_id, None, now);
        }
        self.publish(EventKind::Job, run_id, Some(request), now);
        if let Some(complaint) = unmet {
            self.fail_with(request, JobResult::Failed, complaint, now);
        }
        Ok(request)
    }

    /// Why no agent of the pool, whether connected or not, could ever have the job; nothing if one could.
    fn nobody_could(&self, job: &Job) -> Option<String> {
        let here = self.agents.values().filter(|agent| agent.pool == job.pool);
        let mut lacking = None;
        for agent in here {
            lacking = Some(unmet(&job.demands, &agent.capabilities)?);
        }
        let all = job.demands.join(", ");
        Some(match lacking {
            Some(demand) => format!(
                "No agent found in pool {} which satisfies the following demand: {}. All demands: {all}",
                job.spec.pool,
                demand.split_whitespace().next().unwrap_or_default()
            ),
            None => format!(
                "No agent found in pool {} which satisfies the specified demands: {all}",
                job.spec.pool
            ),
        })
    }

    /// The latest attempts of a stage's jobs.
    pub(crate) fn jobs_of_stage(&self, run: RunId, stage: &str) -> Vec<&Job> {
        let of_stage = |job: &&Job| job.spec.stage.eq_ignore_ascii_case(stage);
        self.latest_jobs(run).into_iter().filter(of_stage).collect()
    }

    /// The latest attempt of each of a run's jobs.
    pub(crate) fn latest_jobs(&self, run: RunId) -> Vec<&Job> {
        let requests = self.runs.get(&run).map(|run| run.requests.as_slice()).unwrap_or_default();
        let jobs: Vec<&Job> = requests.iter().filter_map(|request| self.jobs.get(request)).collect();
        let same =
            |one: &Job, other: &Job| one.spec.stage == other.spec.stage && one.spec.job == other.spec.job;
        jobs.iter()
            .filter(|job| !jobs.iter().any(|other| same(job, other) && other.attempt > job.attempt))
            .copied()
            .collect()
    }

    /// Notes that a job runs, and with it its stage.
    pub(crate) fn start(&mut self, request: RequestId, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&request).filter(|job| job.state() == JobState::Assigned) else {
            return;
        };
        job.received_at = Some(now);
        let (run_id, stage) = (job.run, job.spec.stage.clone());
        let stage = self
            .runs
            .get_mut(&run_id)
            .and_then(|run| run.stages.iter_mut().find(|one| one.name.eq_ignore_ascii_case(&stage)));
        if let Some(stage) = stage.filter(|stage| stage.progress == Progress::Waiting) {
            stage.progress = Progress::Running;
            stage.started_at.get_or_insert(now);
            let name = stage.name.clone();
            self.publish(EventKind::Stage(name), run_id, None, now);
        }
        self.publish(EventKind::Job, run_id, Some(request), now);
    }

    /// Ends a job with a complaint in its timeline.
    pub(crate) fn fail_with(
        &mut self,
        request: RequestId,
        result: JobResult,
        complaint: String,
        now: Timestamp,
    ) {
        if let Some(job) = self.jobs.get_mut(&request) {
            job.issues.push(complaint);
        }
        self.complete(request, result, now);
    }

    /// Ends a job, and its stage and run where it was the last.
    pub(crate) fn complete(&mut self, request: RequestId, result: JobResult, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&request).filter(|job| job.result.is_none()) else { return };
        (job.result, job.finished_at) = (Some(result), Some(now));
        let (run_id, stage) = (job.run, job.spec.stage.clone());
        let agent = job.agent.as_ref().map(|(id, _)| *id);
        self.waiting.remove(&request);
        self.held.remove(&request);
        if let Some(agent) = agent {
            self.release(agent, request);
        }
        self.publish(EventKind::Job, run_id, Some(request), now);
        self.close_stage(run_id, &stage, now);
        self.close_run(run_id, now);
        self.match_up(now);
    }

    fn close_stage(&mut self, run_id: RunId, name: &str, now: Timestamp) {
        let Some(result) = worst(&self.jobs_of_stage(run_id, name)) else { return };
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let stage = run.stages.iter_mut().find(|stage| stage.name.eq_ignore_ascii_case(name));
        let Some(stage) = stage else { return };
        (stage.progress, stage.finished_at) = (Progress::Completed(result), Some(now));
        let name = stage.name.clone();
        self.publish(EventKind::Stage(name), run_id, None, now);
    }

    fn close_run(&mut self, run_id: RunId, now: Timestamp) {
        let Some(result) = worst(&self.latest_jobs(run_id)) else { return };
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        (run.result, run.finished_at, run.cancelling) = (Some(result), Some(now), false);
        self.publish(EventKind::Run, run_id, None, now);
    }

    /// Cancels a job: at once if nobody runs it, else by telling its agent.
    ///
    /// # Errors
    /// There is no such request.
    pub(crate) fn cancel_job(&mut self, request: RequestId, now: Timestamp) -> anyhow::Result<()> {
        let job = self.jobs.get_mut(&request).with_context(|| format!("there is no request {request}"))?;
        match job.state() {
            JobState::Completed => {}
            JobState::Queued => self.complete(request, JobResult::Canceled, now),
            JobState::Assigned => {
                self.take_back(request);
                self.complete(request, JobResult::Canceled, now);
            }
            JobState::Running => {
                if job.cancel_requested_at.is_none() {
                    job.cancel_requested_at = Some(now);
                    self.tell_agent(request, json!({"type": "cancel", "requestId": request}));
                }
            }
        }
        Ok(())
    }

    /// Cancels all of a run.
    ///
    /// # Errors
    /// There is no such run, or it has ended.
    pub(crate) fn cancel_run(&mut self, id: RunId, now: Timestamp) -> anyhow::Result<()> {
        let run = self.runs.get_mut(&id).with_context(|| format!("there is no run {id}"))?;
        if run.result.is_some() {
            bail!("the run {id} has ended");
        }
        run.cancelling = true;
        let requests = run.requests.clone();
        self.publish(EventKind::Run, id, None, now);
        for request in requests {
            self.cancel_job(request, now)?;
        }
        Ok(())
    }

    /// Lets a job end: its agent is told to, or will be as soon as it has it.
    ///
    /// # Errors
    /// There is no such request, or it has ended.
    pub(crate) fn finish_job(&mut self, request: RequestId, result: JobResult) -> anyhow::Result<()> {
        let job = self.jobs.get_mut(&request).with_context(|| format!("there is no request {request}"))?;
        match job.state() {
            JobState::Completed => bail!("the request {request} has ended"),
            JobState::Queued => job.finish_with = Some(result),
            JobState::Assigned | JobState::Running => {
                job.finish_with = Some(result);
                self.tell_agent(request, finish_message(request, result));
            }
        }
        Ok(())
    }

    /// Repeats a stage that has ended: all its jobs, or those that did not succeed. The new requests.
    ///
    /// # Errors
    /// There is no such run or stage, it has not ended, or nothing of it is to be repeated.
    pub(crate) fn retry_stage(
        &mut self,
        id: RunId,
        name: &str,
        all: bool,
        now: Timestamp,
    ) -> anyhow::Result<Vec<RequestId>> {
        let run = self.runs.get(&id).with_context(|| format!("there is no run {id}"))?;
        let stage = run.stage(name).with_context(|| format!("the run {id} has no stage {name:?}"))?;
        if !matches!(stage.progress, Progress::Completed(_)) {
            bail!("the stage {name:?} of run {id} has not ended");
        }
        let again = |job: &&&Job| all || job.result.map(JobResult::outcome) != Some(JobResult::Succeeded);
        let repeated: Vec<(JobSpec, u32)> = self
            .jobs_of_stage(id, name)
            .iter()
            .filter(again)
            .map(|job| (JobSpec { run: Some(id), ..job.spec.clone() }, job.attempt + 1))
            .collect();
        if repeated.is_empty() {
            bail!("every job of the stage {name:?} has succeeded");
        }
        self.enter_stage(id, name);
        let stage = self
            .runs
            .get_mut(&id)
            .and_then(|run| run.stages.iter_mut().find(|stage| stage.name.eq_ignore_ascii_case(name)));
        if let Some(stage) = stage {
            stage.attempt += 1;
            stage.started_at = None;
        }
        self.publish(EventKind::Run, id, None, now);
        let mut requests = Vec::new();
        for (spec, attempt) in repeated {
            requests.push(self.new_request(spec, id, attempt, now)?);
        }
        self.match_up(now);
        Ok(requests)
    }

    pub(crate) fn run_view(&self, run: &Run) -> RunView {
        RunView {
            id: run.id,
            number: run.number.clone(),
            project: run.project.name.clone(),
            pipeline: run.definition.name.clone(),
            status: run.status().to_owned(),
            result: run.result,
            requests: run.requests.clone(),
        }
    }
}

pub(crate) fn finish_message(request: RequestId, result: JobResult) -> serde_json::Value {
    json!({"type": "finish", "requestId": request, "result": result.word()})
}

/// What several jobs amount to; nothing while one of them has not ended.
fn worst(jobs: &[&Job]) -> Option<JobResult> {
    let results: Option<Vec<JobResult>> = jobs.iter().map(|job| Some(job.result?.outcome())).collect();
    let results = results?;
    let order = [JobResult::Failed, JobResult::Canceled, JobResult::Succeeded, JobResult::Skipped];
    order.into_iter().find(|result| results.contains(result))
}
