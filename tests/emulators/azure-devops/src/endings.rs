//! How jobs start and end, and with them their stages and runs: by their agent, by force, by being cancelled.

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::json;

use crate::events::EventKind;
use crate::model::{Job, Progress};
use crate::spec::{JobResult, JobState, RequestId, RunId};
use crate::state::State;

impl State {
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

    /// Gives up a job whose agent can no longer have it, if it runs.
    pub(crate) fn abandon_running(&mut self, request: RequestId, complaint: String, now: Timestamp) {
        if self.jobs.get(&request).is_some_and(|job| job.state() == JobState::Running) {
            self.fail_with(request, JobResult::Abandoned, complaint, now);
        }
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
}

/// What an agent is told that shall end its job.
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
