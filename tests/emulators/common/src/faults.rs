//! Scripted faults: which requests go wrong, how, and how often.
//!
//! Each fault names a method and a path pattern, lets the first `skip` matching requests through and then hits the
//! next `count`. Delays add up; of the other actions the first in order of arrival decides. Faults are added from
//! Rust with [`Faults::add`] or over HTTP:
//!
//! ```text
//! GET    /_emulator/faults        lists them with how often each has matched and hit
//! POST   /_emulator/faults        {"method":"POST","path":"/orgs/*","count":1,"action":{"fail":{"status":502}}}
//! DELETE /_emulator/faults[/id]   removes all, or one
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::glob::glob_matches;
use crate::is_control;
use crate::server::CutConnection;

/// One scripted fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// The HTTP method that is hit, without regard to case; absent: every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path that is hit, in which `*` stands for any run of characters. A pattern that holds a `?` is compared
    /// with path and query, any other with the path alone.
    pub path: String,
    /// How many requests are hit; absent: all from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How many matching requests pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// What goes wrong.
    pub action: FaultAction,
}

/// What goes wrong with a request that a fault hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultAction {
    /// Nothing is carried out; this is answered instead.
    Fail {
        /// The status of the answer.
        status: u16,
        /// Its headers, such as `retry-after`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Its body; sent as JSON unless `headers` names another content type.
        #[serde(default)]
        body: String,
    },
    /// The request is carried out after a pause.
    Delay {
        /// The pause in milliseconds.
        ms: u64,
    },
    /// The request is carried out fully, then the connection is cut without one byte of answer: lost after the commit.
    DropAnswer,
    /// The connection is cut before anything is done.
    Refuse,
}

impl Fault {
    /// Begins a fault for requests of `method` (`*` or nothing: every method) whose path matches `path`; it refuses
    /// every one until another action and count are given.
    pub fn on(method: &str, path: &str) -> Self {
        let method = Some(method).filter(|name| !matches!(*name, "" | "*")).map(str::to_owned);
        Self { method, path: path.to_owned(), count: None, skip: 0, action: FaultAction::Refuse }
    }

    /// Hits `count` requests only.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Lets `skip` matching requests through first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Answers with `status` and an empty body.
    #[must_use]
    pub fn fail(self, status: u16) -> Self {
        self.fail_with(status, &[], "")
    }

    /// Answers with `status`, `headers` and `body`.
    #[must_use]
    pub fn fail_with(mut self, status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.action = FaultAction::Fail { status, headers, body: body.to_owned() };
        self
    }

    /// Pauses for `by` before the request is carried out.
    #[must_use]
    pub fn delay(mut self, by: Duration) -> Self {
        self.action = FaultAction::Delay { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) };
        self
    }

    /// Carries the request out and loses the answer.
    #[must_use]
    pub fn drop_answer(mut self) -> Self {
        self.action = FaultAction::DropAnswer;
        self
    }

    /// Cuts the connection before anything is done.
    #[must_use]
    pub fn refuse(mut self) -> Self {
        self.action = FaultAction::Refuse;
        self
    }

    fn matches(&self, method: &str, path: &str, path_and_query: &str) -> bool {
        let text = if self.path.contains('?') { path_and_query } else { path };
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && glob_matches(&self.path, text)
    }
}

/// A fault with what it has done so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultState {
    /// Names the fault in [`Faults::remove`].
    pub id: u64,
    /// The fault as it was added.
    pub fault: Fault,
    /// How many requests matched it.
    pub seen: u32,
    /// How many of them it hit.
    pub hits: u32,
}

/// The faults of one emulator; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    faults: Vec<FaultState>,
}

impl Faults {
    /// Adds a fault and returns its id.
    pub fn add(&self, fault: Fault) -> u64 {
        let mut inner = self.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        inner.faults.push(FaultState { id, fault, seen: 0, hits: 0 });
        id
    }

    /// Removes one fault; says whether it was there.
    pub fn remove(&self, id: u64) -> bool {
        let mut inner = self.lock();
        let before = inner.faults.len();
        inner.faults.retain(|state| state.id != id);
        inner.faults.len() < before
    }

    /// Removes every fault.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// All faults, spent ones included, in the order in which they were added.
    pub fn list(&self) -> Vec<FaultState> {
        self.lock().faults.clone()
    }

    /// How many requests the fault `id` has hit.
    pub fn hits(&self, id: u64) -> u32 {
        self.lock().faults.iter().find(|state| state.id == id).map_or(0, |state| state.hits)
    }

    /// Counts a request against every fault that it matches; the pause and the action that it suffers.
    fn decide(&self, method: &str, path: &str, path_and_query: &str) -> (Duration, Option<FaultAction>) {
        let mut pause = Duration::ZERO;
        let mut decided = None;
        for state in &mut self.lock().faults {
            if !state.fault.matches(method, path, path_and_query) {
                continue;
            }
            state.seen = state.seen.saturating_add(1);
            if state.seen <= state.fault.skip || state.fault.count.is_some_and(|count| state.hits >= count) {
                continue;
            }
            match &state.fault.action {
                FaultAction::Delay { ms } => pause += Duration::from_millis(*ms),
                action @ (FaultAction::Fail { .. } | FaultAction::DropAnswer | FaultAction::Refuse) => {
                    // A fault behind the deciding one keeps its count for a later request.
                    if decided.is_some() {
                        continue;
                    }
                    decided = Some(action.clone());
                }
            }
            state.hits = state.hits.saturating_add(1);
        }
        (pause, decided)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The middleware: what happens to one request.
pub(crate) async fn apply(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    if is_control(request.uri().path()) {
        return next.run(request).await;
    }
    let uri = request.uri();
    let path_and_query = uri.path_and_query().map_or(uri.path(), |full| full.as_str());
    let (pause, action) = faults.decide(request.method().as_str(), uri.path(), path_and_query);
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    match action {
        None | Some(FaultAction::Delay { .. }) => next.run(request).await,
        Some(FaultAction::Refuse) => CutConnection::response(),
        Some(FaultAction::DropAnswer) => {
            // Carried out in its own task, so that a client that hangs up early does not undo "carried out fully".
            if let Err(error) = tokio::spawn(next.run(request)).await {
                tracing::warn!(%error, "the request whose answer was to be lost did not end");
            }
            CutConnection::response()
        }
        Some(FaultAction::Fail { status, headers, body }) => fail(status, &headers, body),
    }
}

fn fail(status: u16, headers: &BTreeMap<String, String>, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(response.headers_mut().insert(name, value)),
            (Err(_), _) | (_, Err(_)) => {
                tracing::warn!(name, "a fault's header is not valid and is left out")
            }
        }
    }
    response
}

pub(crate) fn control_routes(faults: Faults) -> Router {
    Router::new()
        .route("/_emulator/faults", get(list).post(add).delete(clear))
        .route("/_emulator/faults/{id}", delete(remove))
        .with_state(faults)
}

async fn list(State(faults): State<Faults>) -> Json<Vec<FaultState>> {
    Json(faults.list())
}

async fn add(
    State(faults): State<Faults>,
    Json(fault): Json<Fault>,
) -> (StatusCode, Json<serde_json::Value>) {
    (StatusCode::CREATED, Json(serde_json::json!({ "id": faults.add(fault) })))
}

async fn clear(State(faults): State<Faults>) -> StatusCode {
    faults.clear();
    StatusCode::NO_CONTENT
}

async fn remove(State(faults): State<Faults>, Path(id): Path<u64>) -> StatusCode {
    if faults.remove(id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}
