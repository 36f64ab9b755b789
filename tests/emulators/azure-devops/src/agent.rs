//! What a stand-in agent speaks.
//!
//! This is **not** the protocol between Microsoft's agent and the service, which encrypts its messages for the agent's key; it
//! carries the same facts: an agent registers with somebody's credential and keeps a credential of its own, has one
//! session at a time, may be given any job of its pool that it meets the demands of, and stays registered when it leaves.
//!
//! ```text
//! POST   /_agent/agents                            {pool, name, version, osDescription, capabilities, replace}; basic or bearer,
//!        of somebody who manages the pools; 200 {agentId, poolId, token}; 409 the name is taken and `replace` is not set
//! POST   /_agent/sessions                          {once}; bearer with that token
//!        201 {sessionId, agentId, agentName}; 409 it has a session and is online; 404 it was deleted
//! GET    /_agent/sessions/{id}/message?wait=N      200 a message, 204 none within N seconds, 404 the agent was deleted
//!        {type: job, requestId, jobId, runId, attempt, project, pipeline, stage, name, demands, script: {durationMs, result, logLines, …}}
//!        {type: cancel, requestId} and {type: finish, requestId, result}
//!        with `&last=M`, messages up to number M count as received and later ones are repeated until they are named
//! POST   /_agent/sessions/{id}/jobs/{request}/log       {lines: [text, …]}
//! POST   /_agent/sessions/{id}/jobs/{request}/complete  {result}
//! DELETE /_agent/sessions/{id}                     the agent leaves; it stays registered, offline
//! ```
//! An absent `durationMs` means: run until `finish`. Agents poll while a job runs, for that is how they are told to cancel it
//! and how the emulator knows that they live. One that said `once` is given no second job and leaves after its first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, ApiError, body, ok};
use crate::fleet::{NoSession, Registration};
use crate::gate::identify;
use crate::shared::Shared;
use crate::spec::{JobResult, JobState, RequestId};

/// The longest poll.
const LONGEST_WAIT: u64 = 50;
/// Log lines that are kept of a job.
const KEPT_LINES: usize = 10_000;

pub(crate) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/_agent/agents", post(register))
        .route("/_agent/sessions", post(open))
        .route("/_agent/sessions/{session}", delete(close))
        .route("/_agent/sessions/{session}/message", get(message))
        .route("/_agent/sessions/{session}/jobs/{request}/complete", post(complete))
        .route("/_agent/sessions/{session}/jobs/{request}/log", post(log))
        .with_state(Arc::clone(shared))
}

fn gone() -> ApiError {
    ApiError::not_found(
        "TaskAgentNotFoundException",
        "The agent has been deleted from the server, or its session has ended.",
    )
}

fn unauthorized() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "UnauthorizedRequestException",
        "TF400813: The credential is not authorized to access this resource.",
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAgent {
    pool: String,
    name: String,
    #[serde(default = "default_version")]
    version: String,
    #[serde(default)]
    os_description: Option<String>,
    #[serde(default)]
    capabilities: BTreeMap<String, String>,
    #[serde(default)]
    replace: bool,
}

fn default_version() -> String {
    "4.261.0".to_owned()
}

async fn register(State(shared): State<Arc<Shared>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let by = identify(&shared, &headers).map_err(|_| unauthorized())?;
    if !by.manages_pools {
        let message = format!("Access denied. {} needs Manage permissions for the pool.", by.name);
        return Err(ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", message));
    }
    let wanted: NewAgent = body(&bytes)?;
    shared.change(|state, now| {
        let pool = state
            .pool_named(&wanted.pool)
            .map_err(|error| ApiError::not_found("TaskAgentPoolNotFoundException", error.to_string()))?;
        let existing = state.agent_named(pool, &wanted.name).map(|agent| agent.id);
        let registration = Registration {
            name: wanted.name.clone(),
            version: Some(wanted.version),
            os: wanted.os_description,
            system_capabilities: Some(wanted.capabilities),
            ..Registration::default()
        };
        let id = match existing {
            None => state.register(pool, registration, now).ok_or_else(gone)?,
            Some(id) if wanted.replace => {
                state.change_agent(id, registration, now);
                id
            }
            Some(_) => {
                let message = format!("The agent name {} is already in use in this pool.", wanted.name);
                return Err(ApiError::new(StatusCode::CONFLICT, "TaskAgentExistsException", message));
            }
        };
        ok(json!({"agentId": id, "poolId": pool, "token": state.issue_credential(id)}))
    })
}

fn credential(headers: &HeaderMap) -> Result<&str, ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given
        .and_then(|given| given.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
        .ok_or_else(unauthorized)
}

/// Checks that the session is there and the caller's; notes that its agent lives.
fn enter(shared: &Arc<Shared>, session: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let token = credential(headers)?;
    shared.change(|state, now| {
        let open = state.sessions.get(session).ok_or_else(gone)?;
        if open.token != token {
            return Err(unauthorized());
        }
        state.seen(session, now);
        Ok(())
    })
}

#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    once: bool,
}

async fn open(State(shared): State<Arc<Shared>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let hello: Hello = body(&bytes)?;
    let token = credential(&headers)?;
    let opened = shared.change(|state, now| {
        let (session, id) = state.open_session(token, hello.once, now)?;
        let name = state.agents.get(&id).map(|agent| agent.name.clone()).unwrap_or_default();
        Ok(json!({"sessionId": session, "agentId": id, "agentName": name}))
    });
    match opened {
        Ok(session) => Ok((StatusCode::CREATED, Json(session)).into_response()),
        Err(NoSession::Gone) => Err(gone()),
        Err(NoSession::Conflict) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "TaskAgentSessionConflictException",
            "The agent has an active session.",
        )),
    }
}

async fn close(
    State(shared): State<Arc<Shared>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    enter(&shared, &session, &headers)?;
    shared.change(|state, now| state.close_session(&session, now));
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Poll {
    #[serde(default)]
    wait: u64,
    last: Option<u64>,
}

/// Counts a long poll as open until it ends, however it ends.
struct Polling {
    shared: Arc<Shared>,
    session: String,
}

impl Polling {
    fn begin(shared: &Arc<Shared>, session: &str) -> Option<(Self, Arc<Notify>)> {
        let wake = shared.change(|state, _| {
            let open = state.sessions.get_mut(session)?;
            open.polling += 1;
            Some(Arc::clone(&open.wake))
        })?;
        Some((Self { shared: Arc::clone(shared), session: session.to_owned() }, wake))
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.shared.change(|state, now| {
            if let Some(open) = state.sessions.get_mut(&self.session) {
                open.polling = open.polling.saturating_sub(1);
                open.last_seen = now;
            }
        });
    }
}

async fn message(
    State(shared): State<Arc<Shared>>,
    Path(session): Path<String>,
    Query(poll): Query<Poll>,
    headers: HeaderMap,
) -> Answer {
    enter(&shared, &session, &headers)?;
    let until = Instant::now() + Duration::from_secs(poll.wait.min(LONGEST_WAIT));
    let (_polling, wake) = Polling::begin(&shared, &session).ok_or_else(gone)?;
    loop {
        match shared.read(|state| state.sessions.get(&session).map(|open| open.messages.len())) {
            None => return Err(gone()),
            Some(0) => {}
            Some(_) => {
                if let Some(message) = shared.change(|state, now| state.fetch(&session, poll.last, now)) {
                    return ok(message);
                }
            }
        }
        if timeout_at(until, wake.notified()).await.is_err() {
            return Ok(no_content());
        }
    }
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Whether the session's agent runs the job.
fn runs(state: &crate::state::State, session: &str, request: RequestId) -> Result<(), ApiError> {
    let agent = state.sessions.get(session).map(|open| open.agent).ok_or_else(gone)?;
    let has = state.agents.get(&agent).and_then(|agent| agent.request) == Some(request);
    let running = state.jobs.get(&request).is_some_and(|job| job.state() == JobState::Running);
    if has && running {
        return Ok(());
    }
    Err(ApiError::not_found(
        "TaskAgentJobNotFoundException",
        format!("The request {request} is not, or no longer, the agent's."),
    ))
}

#[derive(Deserialize)]
struct Completion {
    result: JobResult,
}

async fn complete(
    State(shared): State<Arc<Shared>>,
    Path((session, request)): Path<(String, RequestId)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    enter(&shared, &session, &headers)?;
    let completion: Completion = body(&bytes)?;
    shared.change(|state, now| {
        runs(state, &session, request)?;
        state.complete(request, completion.result, now);
        Ok(())
    })?;
    ok(json!({}))
}

#[derive(Deserialize)]
struct Log {
    lines: Vec<String>,
}

async fn log(
    State(shared): State<Arc<Shared>>,
    Path((session, request)): Path<(String, RequestId)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    enter(&shared, &session, &headers)?;
    let log: Log = body(&bytes)?;
    shared.change(|state, _| {
        runs(state, &session, request)?;
        if let Some(job) = state.jobs.get_mut(&request) {
            let room = KEPT_LINES.saturating_sub(job.log.len());
            job.log.extend(log.lines.into_iter().take(room));
        }
        Ok(())
    })?;
    Ok(no_content())
}
