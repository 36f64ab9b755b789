//! How runs begin: jobs are queued, perhaps fail at once for want of an agent, and are tried again. `endings` has the rest.

use anyhow::{Context, bail};
use emulator_common::ids::guid;
use jiff::{Timestamp, tz::TimeZone};

use crate::demand::{Demand, unmet};
use crate::events::EventKind;
use crate::model::{Job, Progress, Run, Stage};
use crate::spec::{JobResult, JobSpec, RequestId, RunId, RunView};
use crate::state::{State, stable_guid};

impl State {
    /// Makes jobs of one run: the one that the first of them names, or a new one.
    ///
    /// # Errors
    /// There are none, there is no such pool or run, a demand is malformed, or a stage has two jobs of one name.
    pub(crate) fn queue_jobs(
        &mut self,
        specs: Vec<JobSpec>,
        now: Timestamp,
    ) -> anyhow::Result<Vec<RequestId>> {
        let first = specs.first().context("a run has at least one job")?;
        let project = self.project(&first.project)?;
        if let Some(id) = first.run {
            let run = self.runs.get(&id).with_context(|| format!("there is no run {id}"))?;
            if run.project.id != project.id {
                bail!("the run {id} is of the project {:?}", run.project.name);
            }
        }
        let mut names: Vec<(String, String)> = Vec::new();
        for job in first.run.map(|run| self.latest_jobs(run)).unwrap_or_default() {
            names.push(job.spec.full_name());
        }
        for spec in &specs {
            self.pool_named(&spec.pool)?;
            for demand in &spec.demands {
                Demand::parse(demand)?;
            }
            let name = spec.full_name();
            if names.contains(&name) {
                bail!("the stage {:?} of the run has a job {:?} already: name it otherwise", name.0, name.1);
            }
            names.push(name);
        }
        let run_id = match first.run {
            Some(id) => id,
            None => self.new_run(first, now)?,
        };
        for spec in &specs {
            self.enter_stage(run_id, &spec.stage, now);
        }
        let made = specs.into_iter().map(|spec| (spec, 1)).collect();
        self.new_requests(run_id, &project.name, made, now)
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
    fn enter_stage(&mut self, run_id: RunId, name: &str, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let again = run.result.take().is_some();
        run.finished_at = None;
        let opened = match run.stages.iter_mut().find(|stage| stage.name.eq_ignore_ascii_case(name)) {
            Some(stage) => {
                let over = matches!(stage.progress, Progress::Completed(_));
                if over {
                    (stage.progress, stage.finished_at) = (Progress::Waiting, None);
                }
                over
            }
            None => {
                run.stages.push(Stage {
                    id: stable_guid(&format!("{run_id} {}", name.to_lowercase())),
                    name: name.to_owned(),
                    attempt: 1,
                    progress: Progress::Waiting,
                    started_at: None,
                    finished_at: None,
                });
                true
            }
        };
        if again {
            self.publish(EventKind::Run, run_id, None, now);
        }
        if opened {
            self.publish(EventKind::Stage(name.to_owned()), run_id, None, now);
        }
    }

    /// Makes attempts of jobs, then fails those that no agent could ever have: only now, so that none of them ends the run
    /// while others are still to come.
    fn new_requests(
        &mut self,
        run: RunId,
        project: &str,
        wanted: Vec<(JobSpec, u32)>,
        now: Timestamp,
    ) -> anyhow::Result<Vec<RequestId>> {
        let mut requests = Vec::new();
        for (spec, attempt) in wanted {
            let spec = JobSpec { run: Some(run), project: project.to_owned(), ..spec };
            requests.push(self.new_request(spec, run, attempt, now)?);
        }
        for request in &requests {
            let hopeless = self.jobs.get(request).and_then(|job| self.nobody_could(job));
            if let Some(complaint) = hopeless {
                self.fail_with(*request, JobResult::Failed, complaint, now);
            }
        }
        self.match_up(now);
        Ok(requests)
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
        self.jobs.insert(request, job);
        self.waiting.insert(request);
        if let Some(run) = self.runs.get_mut(&run_id) {
            run.requests.push(request);
        }
        self.publish(EventKind::Job, run_id, Some(request), now);
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
            .map(|job| (job.spec.clone(), job.attempt + 1))
            .collect();
        if repeated.is_empty() {
            bail!("every job of the stage {name:?} has succeeded");
        }
        let project = run.project.name.clone();
        let stage = self
            .runs
            .get_mut(&id)
            .and_then(|run| run.stages.iter_mut().find(|stage| stage.name.eq_ignore_ascii_case(name)));
        if let Some(stage) = stage {
            stage.attempt += 1;
            stage.started_at = None;
        }
        self.enter_stage(id, name, now);
        self.new_requests(id, &project, repeated, now)
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
