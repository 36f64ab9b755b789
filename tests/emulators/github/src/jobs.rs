//! The life of a job: queued, perhaps waiting for approval, given to a runner, completed; cancelled and re-run.

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::json;

use crate::model::{Job, Run};
use crate::payload::commit_sha;
use crate::spec::{Conclusion, JobId, JobSpec, JobStatus, RunId};
use crate::state::State;

/// Which jobs of a run a re-run repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rerun {
    All,
    Failed,
    One(JobId),
}

impl State {
    /// Makes a job as `spec` says, in a new run unless it names one.
    ///
    /// # Errors
    /// The repository's name is malformed, or the run does not exist.
    pub(crate) fn queue_job(&mut self, spec: JobSpec, now: Timestamp) -> anyhow::Result<JobId> {
        let repository = self.repository(&spec.repository, spec.public, now)?;
        let run_id = match spec.run_id {
            Some(id) => {
                let run = self.runs.get(&id).with_context(|| format!("there is no run {id}"))?;
                if run.repository.to_lowercase() != repository {
                    bail!("the run {id} is of another repository");
                }
                id
            }
            None => self.new_run(&spec, now)?,
        };
        let attempt = self.runs.get(&run_id).map_or(1, |run| run.attempt);
        Ok(self.new_job(spec, repository, run_id, attempt, now))
    }

    fn new_run(&mut self, spec: &JobSpec, now: Timestamp) -> anyhow::Result<RunId> {
        let head_repository = spec.head_repository.clone().unwrap_or_else(|| spec.repository.clone());
        let head_key = self.repository(&head_repository, spec.public, now)?;
        if spec.head_repository.is_some()
            && let Some(head) = self.repositories.get_mut(&head_key)
        {
            head.fork = true;
            self.repository_changed(&head_key);
        }
        let (id, number, workflow_id) = (self.next("run"), self.next("run number"), self.next("workflow"));
        let head_sha = commit_sha(number);
        if spec.head_repository.is_none() && !spec.tag && spec.event == "push" {
            self.push_to(&head_key, &spec.head_branch, &head_sha);
        }
        let run = Run {
            id,
            number,
            repository: spec.repository.clone(),
            head_repository,
            attempt: 1,
            workflow_name: spec.workflow_name.clone(),
            workflow_id,
            head_branch: spec.head_branch.clone(),
            head_sha,
            event: spec.event.clone(),
            created_at: now,
            started_at: now,
            updated_at: now,
            jobs: Vec::new(),
        };
        self.runs.insert(id, run);
        Ok(id)
    }

    fn new_job(
        &mut self,
        spec: JobSpec,
        repository: String,
        run_id: RunId,
        attempt: u32,
        now: Timestamp,
    ) -> JobId {
        let id = self.next("job");
        let head_sha = self.runs.get(&run_id).map(|run| run.head_sha.clone()).unwrap_or_default();
        let (waiting, skipped) = (spec.waiting, spec.skipped);
        let job = Job {
            id,
            run_id,
            attempt,
            repository,
            wanted: spec.labels.iter().map(|label| label.to_lowercase()).collect(),
            spec,
            place: 0,
            head_sha,
            status: if waiting { JobStatus::Waiting } else { JobStatus::Queued },
            conclusion: None,
            runner: None,
            created_at: now,
            queued_at: now,
            assigned_at: None,
            started_at: None,
            completed_at: None,
            cancel_requested_at: None,
            assignments: 0,
            log: Vec::new(),
        };
        self.jobs.insert(id, job);
        if let Some(run) = self.runs.get_mut(&run_id) {
            run.jobs.push(id);
        }
        if skipped {
            self.complete(id, Conclusion::Skipped, now);
        } else if waiting {
            self.emit(id, "queued");
            self.emit(id, "waiting");
        } else {
            self.enqueue(id);
            self.emit(id, "queued");
            self.offer_job(id, now);
        }
        id
    }

    pub(crate) fn enqueue(&mut self, id: JobId) {
        let place = self.next("place in the queue");
        if let Some(job) = self.jobs.get_mut(&id) {
            job.place = place;
            self.queue.insert((place, id));
        }
    }

    pub(crate) fn unqueue(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            self.queue.remove(&(job.place, id));
        }
    }

    /// Approves a job that waits: it is queued (again).
    ///
    /// # Errors
    /// There is no such job, or it does not wait.
    pub(crate) fn approve_job(&mut self, id: JobId, now: Timestamp) -> anyhow::Result<()> {
        let job = self.jobs.get_mut(&id).with_context(|| format!("there is no job {id}"))?;
        if job.status != JobStatus::Waiting {
            bail!("job {id} is {} and does not wait for approval", job.status.word());
        }
        job.status = JobStatus::Queued;
        job.queued_at = now;
        self.enqueue(id);
        self.emit(id, "queued");
        self.offer_job(id, now);
        Ok(())
    }

    /// Cancels a job: at once where no agent has it, else by a message to its agent.
    ///
    /// # Errors
    /// There is no such job.
    pub(crate) fn cancel_job(&mut self, id: JobId, now: Timestamp) -> anyhow::Result<()> {
        let job = self.jobs.get_mut(&id).with_context(|| format!("there is no job {id}"))?;
        match job.status {
            JobStatus::Completed => {}
            JobStatus::InProgress => {
                job.cancel_requested_at = Some(now);
                self.tell_agent(id, json!({"type": "cancel", "jobId": id}));
            }
            JobStatus::Queued | JobStatus::Waiting => {
                let freed = self.take_back(id, now);
                self.complete(id, Conclusion::Cancelled, now);
                if let Some(runner) = freed {
                    self.offer_runner(runner, now);
                }
            }
        }
        Ok(())
    }

    /// Tells the agent of a running job to end it now.
    ///
    /// # Errors
    /// There is no such job, or no agent has it.
    pub(crate) fn finish_job(&mut self, id: JobId, conclusion: Conclusion) -> anyhow::Result<()> {
        let job = self.jobs.get_mut(&id).with_context(|| format!("there is no job {id}"))?;
        match job.status {
            JobStatus::InProgress => {
                self.tell_agent(id, json!({"type": "finish", "jobId": id, "conclusion": conclusion.word()}));
                Ok(())
            }
            // Finished before it was fetched: it will end as soon as an agent has it.
            JobStatus::Queued | JobStatus::Waiting => {
                job.spec.duration_ms = Some(0);
                job.spec.conclusion = conclusion;
                Ok(())
            }
            JobStatus::Completed => bail!("job {id} has ended already"),
        }
    }

    /// Ends a job; its runner, being ephemeral, is gone with it.
    pub(crate) fn complete(&mut self, id: JobId, conclusion: Conclusion, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.status != JobStatus::Completed) else {
            return;
        };
        let was_queued = job.status == JobStatus::Queued;
        job.status = JobStatus::Completed;
        job.conclusion = Some(conclusion);
        job.completed_at = Some(now);
        let runner = job.runner.as_ref().map(|runner| runner.id);
        if let Some(run) = self.runs.get_mut(&job.run_id) {
            run.updated_at = now;
        }
        if was_queued {
            self.unqueue(id);
        }
        self.held_jobs.remove(&id);
        self.emit(id, "completed");
        if let Some(runner) = runner {
            self.remove_runner(runner);
        }
    }

    /// Runs the jobs of a run again, as its next attempt and under new ids; jobs that are not repeated are carried over.
    ///
    /// # Errors
    /// There is no such run, it has not ended, or the job is not one of its latest attempt.
    pub(crate) fn rerun(&mut self, run_id: RunId, which: Rerun, now: Timestamp) -> anyhow::Result<()> {
        let run = self.runs.get(&run_id).with_context(|| format!("there is no run {run_id}"))?;
        let latest: Vec<Job> = run
            .jobs
            .iter()
            .filter_map(|id| self.jobs.get(id))
            .filter(|job| job.attempt == run.attempt)
            .cloned()
            .collect();
        if latest.iter().any(|job| job.status != JobStatus::Completed) {
            bail!("the run {run_id} has not ended");
        }
        if let Rerun::One(id) = which
            && !latest.iter().any(|job| job.id == id)
        {
            bail!("job {id} is not of the latest attempt of run {run_id}");
        }
        let run = self.runs.get_mut(&run_id).with_context(|| format!("there is no run {run_id}"))?;
        run.attempt += 1;
        run.started_at = now;
        run.updated_at = now;
        let attempt = run.attempt;
        for old in latest {
            let again = match which {
                Rerun::All => true,
                Rerun::Failed => !matches!(old.conclusion, Some(Conclusion::Success | Conclusion::Skipped)),
                Rerun::One(id) => old.id == id,
            };
            if again {
                self.new_job(old.spec, old.repository, run_id, attempt, now);
            } else {
                let id = self.next("job");
                self.jobs.insert(id, Job { id, attempt, ..old });
                if let Some(run) = self.runs.get_mut(&run_id) {
                    run.jobs.push(id);
                }
            }
        }
        Ok(())
    }
}
