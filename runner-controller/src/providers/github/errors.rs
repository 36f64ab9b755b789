//! What a call is, what came back, and what to make of it where that is no success.
//!
//! Messages are one line, name the call, repeat GitHub's own words with anything that looks like a secret masked,
//! and say what to do where that is known.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::de::DeserializeOwned;

use super::rate_limits::{date, number, reset, text};
use super::wire::Refusal;
use crate::ports::{CallError, CallErrorKind, CallResult};
use crate::telemetry::redact;

/// The longest pause that is believed: GitHub's limits are given anew each hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How much of GitHub's own words is repeated.
const WORDS: usize = 300;

/// One call.
#[derive(Clone)]
pub(super) struct Call {
    /// What it does, for people.
    pub(super) what: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Vec<u8>>,
    /// The tag of the answer that is remembered: GitHub answers 304, which costs nothing, where it would give the same.
    pub(super) unless: Option<String>,
}

impl Call {
    pub(super) fn new(what: &'static str, method: Method, path: String, body: Option<Vec<u8>>) -> Self {
        Self { what, method, path, body, unless: None }
    }

    pub(super) fn get(what: &'static str, path: String) -> Self {
        Self::new(what, Method::GET, path, None)
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) what: &'static str,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// Reads what a success carries.
    pub(super) fn read<T: DeserializeOwned>(&self) -> CallResult<T> {
        // The position alone: serde's own message may repeat a value, and the value may be a secret.
        serde_json::from_slice(&self.body).map_err(|error| {
            self.unreadable(&format!("unexpected JSON at line {}, column {}", error.line(), error.column()))
        })
    }

    /// A success that says nothing usable: the call was carried out, perhaps.
    pub(super) fn unreadable(&self, problem: &str) -> CallError {
        CallError::new(CallErrorKind::Unavailable, format!("{}: {problem}", self.what))
    }

    /// Whether GitHub refuses since the runner is running a job.
    pub(super) fn says_busy(&self) -> bool {
        let said = self.words().to_ascii_lowercase();
        said.contains("running a job") || said.contains("busy")
    }

    /// What to make of an answer that is no success. `remedy`: what is needed where GitHub says that it may not be.
    pub(super) fn error(&self, remedy: &str) -> CallError {
        refusal(self.what, self.status, &self.headers, &self.words(), remedy)
    }

    fn words(&self) -> String {
        serde_json::from_slice::<Refusal>(&self.body).unwrap_or_default().message
    }
}

/// What to make of a call that octocrab did not complete: its own token request was refused, or nothing came back.
pub(super) fn failure(what: &'static str, error: &octocrab::Error) -> CallError {
    if let octocrab::Error::GitHub { source, .. } = error {
        let headers = source.headers.clone().unwrap_or_default();
        let remedy = "the App's installation may be suspended or removed";
        return refusal("get installation token", source.status_code, &headers, &source.message, remedy);
    }
    let said = if let octocrab::Error::Service { source, .. } = error {
        with_causes(source.as_ref())
    } else if let octocrab::Error::JWT { .. } = error {
        "the App's private key cannot sign".to_owned()
    } else {
        // Failures to build a request or to read an answer, whose words may carry values.
        "the call could not be made or its answer not be read".to_owned()
    };
    CallError::new(CallErrorKind::Unavailable, format!("{what}: {}", one_line(&said)))
}

/// An error of the connection and what caused it: "client error (Connect)" alone says nothing.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut said: Vec<String> = Vec::new();
    for cause in causes {
        if !said.iter().any(|earlier| earlier.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

fn refusal(what: &str, status: StatusCode, headers: &HeaderMap, words: &str, remedy: &str) -> CallError {
    let said = match one_line(words) {
        words if words.is_empty() => format!("{what}: GitHub answered {}", status.as_u16()),
        words => format!("{what}: GitHub answered {}: {words}", status.as_u16()),
    };
    if let Some(pause) = pause(status, headers, words) {
        let message = match pause {
            Some(pause) => {
                format!("{said}; a rate limit is used up, to be tried again in {} s", pause.as_secs())
            }
            None => format!("{said}; a rate limit is used up, to be tried again after a pause"),
        };
        return CallError::new(CallErrorKind::Throttled(pause), message);
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            let message = format!("{said}; the token, or the App's id and private key, are not valid");
            CallError { of_credentials: true, ..CallError::new(CallErrorKind::Refused, message) }
        }
        StatusCode::FORBIDDEN => CallError::new(CallErrorKind::Refused, format!("{said}; {remedy}")),
        StatusCode::NOT_FOUND => {
            CallError::new(CallErrorKind::NotFound, format!("{said}; it does not exist, or {remedy}"))
        }
        StatusCode::CONFLICT => CallError::new(CallErrorKind::Conflict, said),
        StatusCode::REQUEST_TIMEOUT => CallError::new(CallErrorKind::Unavailable, said),
        status if status.is_server_error() => CallError::new(CallErrorKind::Unavailable, said),
        status if status.is_redirection() => CallError::new(
            CallErrorKind::Refused,
            format!("{said}; it has moved: name it as it is called now"),
        ),
        _ => CallError::new(CallErrorKind::Refused, said),
    }
}

/// The pause that GitHub asks for, if it does; within, `None` where it does not say how long: at least a minute, and
/// longer each time (GitHub documentation, "Rate limits for the REST API").
fn pause(status: StatusCode, headers: &HeaderMap, words: &str) -> Option<Option<Duration>> {
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let now = date(headers).unwrap_or_else(crate::clock::now);
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    let asked = match text(headers, "retry-after") {
        Some(value) => match value.trim().parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => rfc2822::parse(value).ok().map(|at| until(at.timestamp())),
        },
        None => None,
    };
    let used_up = number(headers, "x-ratelimit-remaining") == Some(0);
    let limited = used_up
        || asked.is_some()
        || status == StatusCode::TOO_MANY_REQUESTS
        || words.to_ascii_lowercase().contains("rate limit");
    let said = asked.or_else(|| reset(headers).filter(|_| used_up).map(until));
    limited.then(|| said.map(|pause| pause.clamp(Duration::from_secs(1), LONGEST_PAUSE)))
}

fn one_line(words: &str) -> String {
    let words: String = words.chars().take(4 * WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    redact::shapes(&words).chars().take(WORDS).collect()
}
