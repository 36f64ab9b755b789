//! Agents, their sessions, and which of them gets which job.
//!
//! Guarantees, as in the service: a job goes to any connected, enabled, idle agent of its pool whose capabilities meet its
//! demands, whatever the agent was registered for; requests with a higher priority first, then the oldest; no more jobs at
//! the same time than there are parallel-job licences, even if agents are free.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use emulator_common::ids::{guid, random_hex};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::demand::unmet;
use crate::endings::finish_message;
use crate::model::{Agent, Job, Session};
use crate::spec::{AgentId, JobState, PoolId, RequestId};
use crate::state::State;

/// What is said of an agent when it is registered or replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registration {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) os: Option<String>,
    pub(crate) enabled: Option<bool>,
    pub(crate) max_parallelism: Option<u64>,
    pub(crate) user_capabilities: Option<BTreeMap<String, String>>,
    pub(crate) system_capabilities: Option<BTreeMap<String, String>>,
}

/// Why an agent gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// The agent was deleted, or never was.
    Gone,
    /// It has a session.
    Conflict,
}

impl State {
    pub(crate) fn agent_named(&self, pool: PoolId, name: &str) -> Option<&Agent> {
        self.agents.values().find(|agent| agent.pool == pool && agent.name.eq_ignore_ascii_case(name))
    }

    /// Registers an agent; nothing if the pool has one of that name.
    pub(crate) fn register(&mut self, pool: PoolId, wanted: Registration, now: Timestamp) -> Option<AgentId> {
        if self.agent_named(pool, &wanted.name).is_some() {
            return None;
        }
        let id = self.next("agent");
        let mut agent = Agent {
            id,
            pool,
            name: wanted.name,
            version: wanted.version,
            os: wanted.os,
            enabled: wanted.enabled.unwrap_or(true),
            online: false,
            max_parallelism: wanted.max_parallelism.unwrap_or(1),
            user_capabilities: wanted.user_capabilities.unwrap_or_default(),
            system_capabilities: wanted.system_capabilities.unwrap_or_default(),
            capabilities: BTreeMap::new(),
            client_id: guid(),
            created_at: now,
            status_changed_at: now,
            request: None,
            last_request: None,
            session: None,
        };
        agent.note_capabilities();
        self.agents.insert(id, agent);
        Some(id)
    }

    /// Changes what `wanted` says of an agent and leaves the rest.
    pub(crate) fn change_agent(&mut self, id: AgentId, wanted: Registration, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if !wanted.name.is_empty() {
            agent.name = wanted.name;
        }
        agent.version = wanted.version.or(agent.version.take());
        agent.os = wanted.os.or(agent.os.take());
        agent.enabled = wanted.enabled.unwrap_or(agent.enabled);
        agent.max_parallelism = wanted.max_parallelism.unwrap_or(agent.max_parallelism);
        if let Some(given) = wanted.user_capabilities {
            agent.user_capabilities = given;
        }
        if let Some(given) = wanted.system_capabilities {
            agent.system_capabilities = given;
        }
        agent.note_capabilities();
        self.refresh_idle(id);
        self.match_up(now);
    }

    /// A new credential with which the agent's sessions are opened; the former one is void.
    pub(crate) fn issue_credential(&mut self, id: AgentId) -> String {
        self.credentials.retain(|_, agent| *agent != id);
        let token = random_hex(32);
        self.credentials.insert(token.clone(), id);
        token
    }

    /// Forgets an agent; it finds the registration gone at its next request.
    ///
    /// # Errors
    /// It has a job.
    pub(crate) fn delete_agent(&mut self, id: AgentId) -> anyhow::Result<()> {
        let agent = self.agents.get(&id).with_context(|| format!("there is no agent {id}"))?;
        if agent.request.is_some() {
            bail!("Agent {} is still running a job", agent.name);
        }
        let session = agent.session.clone();
        self.agents.remove(&id);
        self.idle.remove(&id);
        self.credentials.retain(|_, agent| *agent != id);
        if let Some(session) = session.and_then(|session| self.sessions.remove(&session)) {
            session.wake.notify_one();
        }
        Ok(())
    }

    /// Connects an agent that shows its credential.
    pub(crate) fn open_session(
        &mut self,
        token: &str,
        once: bool,
        now: Timestamp,
    ) -> Result<(String, AgentId), NoSession> {
        let id = *self.credentials.get(token).ok_or(NoSession::Gone)?;
        let agent = self.agents.get(&id).ok_or(NoSession::Gone)?;
        let (former, interrupted) = (agent.session.clone(), agent.request);
        if let Some(former) = former {
            // The session of an agent that has crashed is in nobody's way once it counts as offline.
            if agent.online {
                return Err(NoSession::Conflict);
            }
            self.close_session(&former, now);
        }
        if let Some(request) = interrupted {
            let complaint = "The agent has started anew and lost its job.".to_owned();
            self.abandon_running(request, complaint, now);
        }
        let agent = self.agents.get_mut(&id).ok_or(NoSession::Gone)?;
        let session = guid();
        agent.session = Some(session.clone());
        (agent.online, agent.status_changed_at) = (true, now);
        let opened = Session {
            agent: id,
            token: token.to_owned(),
            once,
            used: false,
            last_seen: now,
            polling: 0,
            next_message: 1,
            messages: Vec::new(),
            wake: Arc::new(Notify::new()),
        };
        self.sessions.insert(session.clone(), opened);
        self.refresh_idle(id);
        self.match_up(now);
        Ok((session, id))
    }

    /// Disconnects an agent, which stays registered. A job that it has not fetched waits for another one.
    pub(crate) fn close_session(&mut self, session: &str, now: Timestamp) {
        let Some(closed) = self.sessions.remove(session) else { return };
        closed.wake.notify_one();
        let Some(agent) = self.agents.get_mut(&closed.agent) else { return };
        agent.session = None;
        (agent.online, agent.status_changed_at) = (false, now);
        let unfetched = agent.request;
        self.idle.remove(&closed.agent);
        if let Some(request) = unfetched {
            self.take_back(request);
        }
        self.match_up(now);
    }

    /// Notes that an agent is there.
    pub(crate) fn seen(&mut self, session: &str, now: Timestamp) {
        let Some(open) = self.sessions.get_mut(session) else { return };
        open.last_seen = now;
        let id = open.agent;
        let Some(agent) = self.agents.get_mut(&id).filter(|agent| !agent.online) else { return };
        (agent.online, agent.status_changed_at) = (true, now);
        self.refresh_idle(id);
        self.match_up(now);
    }

    /// Notes that an agent has not been heard of.
    pub(crate) fn gone_quiet(&mut self, id: AgentId, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id).filter(|agent| agent.online) else { return };
        (agent.online, agent.status_changed_at) = (false, now);
        self.idle.remove(&id);
    }

    /// The oldest message that the agent has not had. Fetching a job starts it. An agent that names the last message that
    /// it `had` gets later ones again until it names them; one that does not gets each once.
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
            && let Some(request) = message["requestId"].as_u64()
        {
            open.used = true;
            self.start(request, now);
        }
        Some(message)
    }

    /// Puts a message to the agent that has the job.
    pub(crate) fn tell_agent(&mut self, request: RequestId, message: Value) {
        let agent = self.jobs.get(&request).and_then(|job| job.agent.as_ref()).map(|(id, _)| *id);
        let session = agent.and_then(|id| self.agents.get(&id)).and_then(|agent| agent.session.as_ref());
        let Some(open) = session.and_then(|session| self.sessions.get_mut(session)) else { return };
        open.messages.push((open.next_message, message));
        open.next_message += 1;
        open.wake.notify_one();
    }

    fn refresh_idle(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get(&id) else { return };
        let session = agent.session.as_ref().and_then(|session| self.sessions.get(session));
        let leaves = session.is_none_or(|open| open.once && open.used);
        let stays = session.is_some() && (!leaves || self.quirks.assigns_to_leaving_agents);
        if agent.online && agent.enabled && agent.request.is_none() && stays {
            self.idle.insert(id);
        } else {
            self.idle.remove(&id);
        }
    }

    /// Notes that an agent no longer has a job.
    pub(crate) fn release(&mut self, id: AgentId, request: RequestId) {
        let Some(agent) = self.agents.get_mut(&id).filter(|agent| agent.request == Some(request)) else {
            return;
        };
        agent.request = None;
        agent.last_request = Some(request);
        self.refresh_idle(id);
    }

    /// Whether the agent meets what the job demands.
    pub(crate) fn fits(&self, job: &Job, agent: &Agent) -> bool {
        agent.pool == job.pool && unmet(&job.demands, &agent.capabilities).is_none()
    }

    /// The agents of the pool, connected or not, that meet what the job demands.
    pub(crate) fn matched_agents(&self, job: &Job) -> Vec<&Agent> {
        self.agents.values().filter(|agent| self.fits(job, agent)).collect()
    }

    /// Whether the licences allow one more job.
    pub(crate) fn licensed(&self) -> bool {
        self.parallel_jobs
            .is_none_or(|limit| u32::try_from(self.held.len()).is_ok_and(|running| running < limit))
    }

    /// Reserves an agent for every job that can have one.
    pub(crate) fn match_up(&mut self, now: Timestamp) {
        if self.assignment_held || self.idle.is_empty() || self.waiting.is_empty() {
            return;
        }
        let mut order: Vec<(i32, RequestId)> = self
            .waiting
            .iter()
            .filter_map(|request| Some((-self.jobs.get(request)?.priority, *request)))
            .collect();
        order.sort_unstable();
        for (_, request) in order {
            if self.idle.is_empty() || !self.licensed() {
                return;
            }
            let Some(job) = self.jobs.get(&request) else { continue };
            let fitting =
                self.idle.iter().find(|id| self.agents.get(id).is_some_and(|agent| self.fits(job, agent)));
            if let Some(agent) = fitting.copied() {
                self.assign(request, agent, now);
            }
        }
    }

    /// Reserves an idle agent for a waiting job, which runs once its agent fetches the message.
    pub(crate) fn assign(&mut self, request: RequestId, id: AgentId, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let Some(job) = self.jobs.get_mut(&request) else { return };
        agent.request = Some(request);
        job.agent = Some((id, agent.name.clone()));
        job.assigned_at = Some(now);
        job.assignments += 1;
        let finish = job.finish_with;
        let mut script = json!({
            "durationMs": job.spec.duration_ms,
            "result": job.spec.result.word(),
            "logLines": job.spec.log_lines,
        });
        for (name, value) in &job.spec.extra {
            script[name.as_str()] = value.clone();
        }
        let message = json!({
            "type": "job",
            "requestId": request,
            "jobId": job.job_id,
            "runId": job.run,
            "attempt": job.attempt,
            "project": job.spec.project,
            "pipeline": job.spec.pipeline,
            "stage": job.spec.stage,
            "name": job.spec.job,
            "demands": job.demands,
            "script": script,
        });
        self.waiting.remove(&request);
        self.held.insert(request);
        self.idle.remove(&id);
        self.tell_agent(request, message);
        if let Some(result) = finish {
            self.tell_agent(request, finish_message(request, result));
        }
    }

    /// Takes a job that its agent has not fetched from it: it waits again, and the agent is free.
    pub(crate) fn take_back(&mut self, request: RequestId) {
        let Some(job) = self.jobs.get_mut(&request).filter(|job| job.state() == JobState::Assigned) else {
            return;
        };
        job.assigned_at = None;
        let agent = job.agent.take().map(|(id, _)| id);
        self.held.remove(&request);
        self.waiting.insert(request);
        let Some(id) = agent else { return };
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.request = None;
        let session = agent.session.as_ref().and_then(|session| self.sessions.get_mut(session));
        if let Some(open) = session {
            open.messages.retain(|(_, message)| message["requestId"] != request);
        }
        self.refresh_idle(id);
    }
}
