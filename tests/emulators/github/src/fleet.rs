//! Runners, their agents' sessions, and which of them gets which job.
//!
//! Guarantees, as on GitHub: any connected runner without a job may be given any queued job of its scope whose labels
//! it covers, whatever it was registered for; it gets one job and is gone afterwards.

use std::sync::Arc;

use emulator_common::ids::random_hex;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::model::{Job, JobRunner, Runner, Scope, Session};
use crate::options::Assignment;
use crate::spec::{JobId, JobStatus, RunnerId};
use crate::state::State;

/// What a JIT request asks for, already validated.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
}

/// Why an agent gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// The registration was deleted, or never was.
    Gone,
    /// The JIT config has been used.
    Conflict,
}

impl State {
    /// Registers a runner; nothing if its scope has one of that name.
    pub(crate) fn register(&mut self, wanted: Registration, now: Timestamp) -> Option<RunnerId> {
        let name_key = (wanted.scope.clone(), wanted.name.to_lowercase());
        if self.names.contains_key(&name_key) {
            return None;
        }
        let id = self.next("runner");
        let mut labels = wanted.labels;
        if self.add_self_hosted_label && !labels.iter().any(|label| label.eq_ignore_ascii_case("self-hosted"))
        {
            labels.insert(0, "self-hosted".to_owned());
        }
        let token = random_hex(32);
        self.names.insert(name_key, id);
        self.credentials.insert(token.clone(), id);
        let runner = Runner {
            id,
            name: wanted.name,
            scope: wanted.scope,
            group_id: wanted.group_id,
            covers: labels.iter().map(|label| label.to_lowercase()).collect(),
            labels,
            os: "unknown".to_owned(),
            version: None,
            token,
            created_at: now,
            idle_since: now,
            session: None,
            used: false,
            online: false,
            job: None,
        };
        self.runners.insert(id, runner);
        Some(id)
    }

    /// Forgets a runner; its agent finds the registration gone at its next request.
    pub(crate) fn remove_runner(&mut self, id: RunnerId) {
        let Some(runner) = self.runners.remove(&id) else { return };
        self.names.remove(&(runner.scope, runner.name.to_lowercase()));
        self.credentials.remove(&runner.token);
        self.idle.remove(&id);
        if let Some(session) = runner.session.and_then(|session| self.sessions.remove(&session)) {
            session.wake.notify_one();
        }
    }

    /// Connects an agent that shows the credential of its JIT config.
    pub(crate) fn open_session(
        &mut self,
        token: &str,
        os: &str,
        version: &str,
        now: Timestamp,
    ) -> Result<(String, RunnerId), NoSession> {
        let id = *self.credentials.get(token).ok_or(NoSession::Gone)?;
        let runner = self.runners.get_mut(&id).ok_or(NoSession::Gone)?;
        if runner.used {
            return Err(NoSession::Conflict);
        }
        let session = random_hex(16);
        runner.used = true;
        runner.online = true;
        runner.idle_since = now;
        os.clone_into(&mut runner.os);
        runner.version = Some(version.to_owned());
        runner.session = Some(session.clone());
        let opened = Session {
            runner: id,
            token: token.to_owned(),
            last_seen: now,
            polling: 0,
            next_message: 1,
            messages: Vec::new(),
            wake: Arc::new(Notify::new()),
        };
        self.sessions.insert(session.clone(), opened);
        self.idle.insert(id);
        self.offer_runner(id, now);
        Ok((session, id))
    }

    /// Disconnects an agent. The registration stays, used up, until it is deleted or purged.
    pub(crate) fn close_session(&mut self, session: &str) {
        let Some(closed) = self.sessions.remove(session) else { return };
        self.idle.remove(&closed.runner);
        if let Some(runner) = self.runners.get_mut(&closed.runner) {
            runner.online = false;
            runner.session = None;
        }
    }

    /// Notes that an agent is there.
    pub(crate) fn seen(&mut self, session: &str, now: Timestamp) {
        let Some(open) = self.sessions.get_mut(session) else { return };
        open.last_seen = now;
        let id = open.runner;
        let Some(runner) = self.runners.get_mut(&id).filter(|runner| !runner.online) else { return };
        runner.online = true;
        if runner.job.is_none() {
            runner.idle_since = now;
            self.idle.insert(id);
            self.offer_runner(id, now);
        }
    }

    /// The oldest message that the agent has not had. Fetching a job starts it.
    ///
    /// An agent that names the last message that it `had` gets later ones again until it names them; one that does not
    /// gets each once.
    pub(crate) fn fetch(&mut self, session: &str, had: Option<u64>, now: Timestamp) -> Option<Value> {
        let open = self.sessions.get_mut(session)?;
        if let Some(had) = had {
            open.messages.retain(|(number, _)| *number > had);
        }
        let (number, mut message) = open.messages.first().cloned()?;
        if had.is_none() {
            open.messages.remove(0);
        }
        message["messageId"] = json!(number);
        if message["type"] == "job"
            && let Some(id) = message["jobId"].as_u64()
        {
            self.start_job(id, now);
        }
        Some(message)
    }

    fn start_job(&mut self, id: JobId, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.status == JobStatus::Queued) else { return };
        job.status = JobStatus::InProgress;
        job.started_at = Some(now);
        if let Some(run) = self.runs.get_mut(&job.run_id) {
            run.updated_at = now;
        }
        self.emit(id, "in_progress");
    }

    /// Puts a message to the agent that has the job.
    pub(crate) fn tell_agent(&mut self, job: JobId, message: Value) {
        let runner = self.jobs.get(&job).and_then(|job| job.runner.as_ref()).map(|runner| runner.id);
        let session = runner.and_then(|id| self.runners.get(&id)).and_then(|runner| runner.session.as_ref());
        let Some(open) = session.and_then(|session| self.sessions.get_mut(session)) else { return };
        open.messages.push((open.next_message, message));
        open.next_message += 1;
        open.wake.notify_one();
    }

    /// Looks for a runner for a job that was just queued.
    pub(crate) fn offer_job(&mut self, id: JobId, now: Timestamp) {
        if self.assignment_held {
            return;
        }
        let Some(job) = self.jobs.get(&id) else { return };
        let fitting: Vec<RunnerId> = self
            .idle
            .iter()
            .filter(|runner| self.runners.get(runner).is_some_and(|runner| self.fits(job, runner)))
            .copied()
            .collect();
        if let Some(runner) = self.choose(&fitting) {
            self.assign(id, runner, now);
        }
    }

    /// Looks for a job for a runner that just became idle.
    pub(crate) fn offer_runner(&mut self, id: RunnerId, now: Timestamp) {
        if self.assignment_held {
            return;
        }
        let Some(runner) = self.runners.get(&id) else { return };
        let mut fitting = Vec::new();
        for (_, job) in &self.queue {
            if self.jobs.get(job).is_some_and(|job| self.fits(job, runner)) {
                fitting.push(*job);
                if self.assignment == Assignment::OldestFirst {
                    break;
                }
            }
        }
        if let Some(job) = self.choose(&fitting) {
            self.assign(job, id, now);
        }
    }

    fn choose(&mut self, fitting: &[u64]) -> Option<u64> {
        match self.assignment {
            Assignment::OldestFirst => fitting.first().copied(),
            Assignment::NewestFirst => fitting.last().copied(),
            Assignment::Seeded(_) => {
                let at = self.pick(fitting.len());
                fitting.get(at).copied()
            }
        }
    }

    /// Gives every idle runner a job that can have one, as after assignment was held.
    pub(crate) fn offer_all(&mut self, now: Timestamp) {
        for (_, job) in self.queue.clone() {
            self.offer_job(job, now);
        }
    }

    /// Whether GitHub could give the job to the runner.
    pub(crate) fn fits(&self, job: &Job, runner: &Runner) -> bool {
        if !runner.scope.reaches(&job.repository) || !job.wanted.is_subset(&runner.covers) {
            return false;
        }
        let Some(group) = self.group(runner.group_id) else { return false };
        if job.spec.runner_group.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&group.name)) {
            return false;
        }
        // Groups govern an organization's runners; a repository's own are open to it.
        matches!(runner.scope, Scope::Repository(_)) || {
            let public = self.repositories.get(&job.repository).is_some_and(|repository| repository.public);
            let named =
                |names: &Vec<String>| names.iter().any(|name| name.eq_ignore_ascii_case(&job.repository));
            (!public || group.allows_public_repositories) && group.repositories.as_ref().is_none_or(named)
        }
    }

    /// Gives a queued job to an idle runner: it has it, and starts it when its agent fetches the message.
    pub(crate) fn assign(&mut self, job_id: JobId, runner_id: RunnerId, now: Timestamp) {
        let Some(runner) = self.runners.get_mut(&runner_id) else { return };
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        runner.job = Some(job_id);
        let group_name = self.groups.iter().find(|group| group.id == runner.group_id);
        job.runner = Some(JobRunner {
            id: runner_id,
            name: runner.name.clone(),
            group_id: runner.group_id,
            group_name: group_name.map(|group| group.name.clone()).unwrap_or_default(),
        });
        job.assigned_at = Some(now);
        job.assignments += 1;
        let mut script = json!({
            "durationMs": job.spec.duration_ms,
            "conclusion": job.spec.conclusion.word(),
            "logLines": job.spec.log_lines,
        });
        for (name, value) in &job.spec.extra {
            script[name.as_str()] = value.clone();
        }
        let message = json!({
            "type": "job",
            "jobId": job_id,
            "runId": job.run_id,
            "attempt": job.attempt,
            "name": job.spec.job_name,
            "workflow": job.spec.workflow_name,
            "repository": job.spec.repository,
            "labels": job.spec.labels,
            "script": script,
        });
        self.idle.remove(&runner_id);
        self.held_jobs.insert(job_id);
        self.unqueue(job_id);
        self.tell_agent(job_id, message);
    }

    /// Takes a job that no agent has fetched from its runner, which is idle again; the caller offers it what is next.
    pub(crate) fn take_back(&mut self, job_id: JobId, now: Timestamp) -> Option<RunnerId> {
        let job = self.jobs.get_mut(&job_id).filter(|job| job.status != JobStatus::InProgress)?;
        job.assigned_at = None;
        let runner_id = job.runner.take().map(|runner| runner.id)?;
        self.held_jobs.remove(&job_id);
        let runner = self.runners.get_mut(&runner_id)?;
        runner.job = None;
        runner.idle_since = now;
        let online = runner.online;
        let open = runner.session.as_ref().and_then(|session| self.sessions.get_mut(session))?;
        open.messages.retain(|(_, message)| message["jobId"] != job_id);
        if online {
            self.idle.insert(runner_id);
        }
        online.then_some(runner_id)
    }
}
