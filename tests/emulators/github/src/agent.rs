//! What a stand-in agent speaks under the JIT config's `serverUrl`.
//!
//! This is **not** GitHub's protocol between its runner and its broker, which is not public; it carries the same facts: one
//! session per registration, one job per session, a deleted registration noticed at the next request.
//!
//! ```text
//! POST   /_agent/sessions                          {os, version}; the token of the JIT config's `.credentials`
//!        201 {sessionId, agentId, agentName}; 409 the config has been used; 404 the registration no longer exists
//! GET    /_agent/sessions/{id}/message?wait=N      200 a message, 204 none within N seconds, 404 the registration is gone
//!        {type: job, jobId, runId, attempt, name, repository, labels, script: {durationMs, conclusion, logLines, …}}
//!        {type: cancel, jobId} and {type: finish, jobId, conclusion}
//!        with `&last=M`, messages up to number M count as received and later ones are repeated until they are named
//! POST   /_agent/sessions/{id}/jobs/{job}/log      {lines: [text, …]}
//! POST   /_agent/sessions/{id}/jobs/{job}/complete {conclusion}; the runner is gone afterwards
//! DELETE /_agent/sessions/{id}                     the agent leaves without a job
//! ```
//! An absent `durationMs` means: run until `finish`. Agents poll while a job runs, for that is how they are told to cancel it
//! and how the emulator knows that they live.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, ApiError, body, ok, with_status};
use crate::fleet::NoSession;
use crate::shared::Shared;
use crate::spec::{Conclusion, JobStatus};

/// The longest poll.
const LONGEST_WAIT: u64 = 50;
/// Log lines that are kept of a job.
const KEPT_LINES: usize = 10_000;

pub(crate) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/_agent/sessions", post(open))
        .route("/_agent/sessions/{session}", delete(close))
        .route("/_agent/sessions/{session}/message", get(message))
        .route("/_agent/sessions/{session}/jobs/{job}/complete", post(complete))
        .route("/_agent/sessions/{session}/jobs/{job}/log", post(log))
        .with_state(Arc::clone(shared))
}

fn gone() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "The runner registration has been deleted from the server: it no longer exists on the server.",
    )
}

fn credential(headers: &HeaderMap) -> Result<&str, ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given
        .and_then(|given| given.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
        .ok_or_else(|| ApiError::unauthorized("Bad credentials"))
}

/// Checks that the session is there and the caller's; notes that its agent lives.
fn enter(shared: &Arc<Shared>, session: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let token = credential(headers)?;
    shared.change(|state, now| {
        let open = state.sessions.get(session).ok_or_else(gone)?;
        if open.token != token {
            return Err(ApiError::unauthorized("Bad credentials"));
        }
        state.seen(session, now);
        Ok(())
    })
}

#[derive(Deserialize)]
struct Hello {
    #[serde(default = "default_os")]
    os: String,
    #[serde(default = "default_version")]
    version: String,
}

fn default_os() -> String {
    "linux".to_owned()
}
fn default_version() -> String {
    "2.336.0".to_owned()
}

async fn open(State(shared): State<Arc<Shared>>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let hello: Hello = body(&bytes)?;
    let token = credential(&headers)?;
    let opened = shared.change(|state, now| {
        let (session, id) = state.open_session(token, &hello.os, &hello.version, now)?;
        let name = state.runners.get(&id).map(|runner| runner.name.clone()).unwrap_or_default();
        Ok((session, id, name))
    });
    match opened {
        Ok((session, id, name)) => {
            with_status(StatusCode::CREATED, json!({"sessionId": session, "agentId": id, "agentName": name}))
        }
        Err(NoSession::Gone) => Err(gone()),
        Err(NoSession::Conflict) => Err(ApiError::conflict(
            "A session for this runner already exists. (session conflict: a JIT config is used once)",
        )),
    }
}

async fn close(
    State(shared): State<Arc<Shared>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    enter(&shared, &session, &headers)?;
    shared.change(|state, _| state.close_session(&session));
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
        let there = shared.read(|state| state.sessions.get(&session).map(|open| open.messages.len()));
        match there {
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

#[derive(Deserialize)]
struct Completion {
    conclusion: Conclusion,
}

async fn complete(
    State(shared): State<Arc<Shared>>,
    Path((session, job)): Path<(String, u64)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    enter(&shared, &session, &headers)?;
    let completion: Completion = body(&bytes)?;
    shared.change(|state, now| {
        let runner = state.sessions.get(&session).map(|open| open.runner).ok_or_else(gone)?;
        let has = state.runners.get(&runner).and_then(|runner| runner.job) == Some(job);
        let runs = state.jobs.get(&job).is_some_and(|job| job.status == JobStatus::InProgress);
        if !has || !runs {
            return Err(ApiError::not_found());
        }
        state.complete(job, completion.conclusion, now);
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
    Path((session, job)): Path<(String, u64)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    enter(&shared, &session, &headers)?;
    let log: Log = body(&bytes)?;
    shared.change(|state, _| {
        let runner = state.sessions.get(&session).map(|open| open.runner).ok_or_else(gone)?;
        let has = state.runners.get(&runner).and_then(|runner| runner.job) == Some(job);
        let found = state.jobs.get_mut(&job).filter(|_| has).ok_or_else(ApiError::not_found)?;
        let room = KEPT_LINES.saturating_sub(found.log.len());
        found.log.extend(log.lines.into_iter().take(room));
        Ok(())
    })?;
    Ok(no_content())
}
