//! What the agents inside runners report. The fastest signal there is, and never a needed one.
//!
//! A call-back proves itself with the token that its runner was given; it can only add facts about that runner, and
//! keep the last lines of its log.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use runner_core::lifecycle::{Runner, RunnerFact};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::body::{self, BodyBounds, BodyError};
use super::{line, unavailable};
use crate::ports::{CallError, CallErrorKind, KeptLogs, Ledger, Records};
use crate::telemetry::redact;

/// The longest call-back.
const MAX_BODY: usize = 128 << 10;
/// Until it must have come.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Memory for all call-backs that are being read.
const MEMORY: usize = 64 << 20;
/// How much of a log is kept.
const MAX_LOGS: usize = 64 << 10;
/// Where such logs came from, as the ledger says it.
const ORIGIN: &str = "call-back";

/// What the call-backs need.
#[derive(Clone)]
pub struct AgentState {
    records: Arc<dyn Records>,
    ledger: Arc<dyn Ledger>,
    memory: Arc<Semaphore>,
}

impl AgentState {
    /// The call-backs add facts to `records`, and keep logs in `ledger`.
    pub fn new(records: Arc<dyn Records>, ledger: Arc<dyn Ledger>) -> Self {
        Self { records, ledger, memory: Arc::new(body::memory(MEMORY)) }
    }
}

/// `POST /agent/v1/runners/{name}/events`.
pub fn router(state: AgentState) -> Router {
    Router::new().route("/agent/v1/runners/{name}/events", post(receive)).with_state(state)
}

#[derive(Deserialize)]
struct Report {
    event: Event,
    #[serde(rename = "exitCode")]
    exit_code: Option<i32>,
    logs: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Event {
    Booted,
    JobStarted,
    JobCompleted,
    Exiting,
}

async fn receive(State(state): State<AgentState>, Path(name): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Before the body is read: nobody but a runner makes Stint hold one.
    let Some((runner, token)) = authenticate(&*state.records, &name, &parts.headers) else {
        let mut answer = line(StatusCode::UNAUTHORIZED, "the token is not this runner's");
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    };
    let bounds = BodyBounds { limit: MAX_BODY, within: BODY_WITHIN, memory: &state.memory };
    let (bytes, _memory) = match body::read(&parts.headers, body, bounds).await {
        Ok(read) => read,
        Err(BodyError::TooLarge) => return line(StatusCode::PAYLOAD_TOO_LARGE, "more than 128 KiB"),
        Err(BodyError::TooSlow) => {
            return line(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s");
        }
        Err(BodyError::Crowded) => return unavailable("too many requests at once", Some(1)),
        Err(BodyError::Broken) => return line(StatusCode::BAD_REQUEST, "the body broke off"),
    };
    let report: Report = match serde_json::from_slice(&bytes) {
        Ok(report) => report,
        Err(error) => {
            // Not serde's own words, which may repeat a value.
            let at = format!("line {}, column {}", error.line(), error.column());
            return line(StatusCode::BAD_REQUEST, format_args!("not a report: {at}"));
        }
    };
    match store(&state, &runner, &token, report).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&name, &error),
    }
}

/// Stores what was reported: logs first, so that they are there when the fact ends the runner.
///
/// The fact is stored even where the logs are not; the agent is then told to report again, which is harmless.
async fn store(state: &AgentState, runner: &Runner, token: &str, report: Report) -> Result<(), CallError> {
    let now = crate::clock::now();
    let kept = match report.logs.filter(|logs| !logs.is_empty()) {
        Some(logs) => {
            let logs = KeptLogs {
                runner: runner.name.clone(),
                job: runner.job.clone(),
                kept_at: now,
                origin: ORIGIN.to_owned(),
                text: last_part(&redact::text(&logs, &[token])).to_owned(),
            };
            state.ledger.keep_logs(&logs).await
        }
        None => Ok(()),
    };
    let fact = match report.event {
        Event::Booted => RunnerFact::AgentBooted(now),
        Event::JobStarted => RunnerFact::AgentJobStarted(now),
        Event::JobCompleted => RunnerFact::AgentJobCompleted(now),
        Event::Exiting => RunnerFact::AgentExiting(now, report.exit_code),
    };
    state.records.record(&runner.name, &[fact]).await?;
    kept
}

fn refuse(name: &str, error: &CallError) -> Response {
    tracing::warn!(runner = name, error = %error, "call-back not stored: {name}");
    match error.kind {
        CallErrorKind::NotFound => line(StatusCode::GONE, "the runner is no longer on record"),
        CallErrorKind::Throttled(pause) => unavailable("not stored", pause.map(|pause| pause.as_secs())),
        CallErrorKind::Unavailable | CallErrorKind::Conflict | CallErrorKind::Refused => {
            unavailable("not stored", None)
        }
    }
}

/// The runner of this name and the token, if the token is the runner's.
fn authenticate(records: &dyn Records, name: &str, headers: &HeaderMap) -> Option<(Runner, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return None;
    }
    let given = hex::encode(Sha256::digest(token.as_bytes()));
    let runner = records.runner(name)?;
    let expected = &runner.facts.registered.as_ref()?.callback_hash;
    let same: bool = given.as_bytes().ct_eq(expected.as_bytes()).into();
    same.then(|| (runner, token.to_owned()))
}

/// The last 64 KiB, from the beginning of a character.
fn last_part(logs: &str) -> &str {
    let from = logs.len().saturating_sub(MAX_LOGS);
    (from..=logs.len()).find_map(|at| logs.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_cut_to_their_last_part_at_a_character() {
        assert_eq!(last_part("short"), "short");
        let long = format!("{}{}", "ä".repeat(MAX_LOGS), "z");
        let cut = last_part(&long);
        assert!(cut.len() <= MAX_LOGS && cut.len() > MAX_LOGS - 3 && cut.ends_with("äz"), "{}", cut.len());
    }
}
