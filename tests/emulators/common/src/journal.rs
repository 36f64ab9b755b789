//! The journal: every request that reached the emulator, for a test to count and for a person to read at
//! `GET /_emulator/requests?method=&path=`.
//!
//! Secrets do not enter it: of `authorization` and cookies only the scheme is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::glob::glob_matches;
use crate::is_control;
use crate::server::CutConnection;

/// The newest requests that are kept; older ones are forgotten, so that a long demonstration does not grow for ever.
const KEPT: usize = 200_000;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is being carried out, or its client hung up meanwhile.
    Open,
    /// It was answered.
    Answered,
    /// Its connection was cut by a fault.
    Cut,
}

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestEntry {
    /// Its number; the first one has 0.
    pub number: u64,
    /// The method, in capitals.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// The status that was answered; absent where none was.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it arrived, by the system's clock.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
    /// The request's headers, names in lower case, secrets removed.
    pub headers: BTreeMap<String, String>,
}

/// The requests of one emulator; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    entries: VecDeque<RequestEntry>,
}

impl Journal {
    /// How many of the kept requests were of `method` (`*`: any) with a path that matches `path_glob`. A pattern that
    /// holds a `?` is compared with path and query, any other with the path alone.
    pub fn count(&self, method: &str, path_glob: &str) -> usize {
        self.lock().entries.iter().filter(|entry| entry.matches(method, path_glob)).count()
    }

    /// The kept requests of `method` (`*`: any) with a path that matches `path_glob`, oldest first.
    pub fn matching(&self, method: &str, path_glob: &str) -> Vec<RequestEntry> {
        self.lock().entries.iter().filter(|entry| entry.matches(method, path_glob)).cloned().collect()
    }

    /// All kept requests, oldest first.
    pub fn entries(&self) -> Vec<RequestEntry> {
        self.lock().entries.iter().cloned().collect()
    }

    /// How many requests arrived in all, forgotten ones included.
    pub fn total(&self) -> u64 {
        self.lock().next
    }

    /// Forgets what was kept; numbers go on.
    pub fn clear(&self) {
        self.lock().entries.clear();
    }

    fn begin(&self, method: &str, path: &str, headers: &HeaderMap) -> u64 {
        let headers = visible(headers);
        let at = clock::system_now();
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.entries.push_back(RequestEntry {
            number,
            method: method.to_owned(),
            path: path.to_owned(),
            status: None,
            outcome: Outcome::Open,
            at,
            took_ms: None,
            headers,
        });
        if inner.entries.len() > KEPT {
            inner.entries.pop_front();
        }
        number
    }

    fn end(&self, number: u64, status: Option<StatusCode>, since: Instant) {
        let mut inner = self.lock();
        let found = inner.entries.binary_search_by_key(&number, |entry| entry.number);
        if let Some(entry) = found.ok().and_then(|at| inner.entries.get_mut(at)) {
            entry.status = status.map(|status| status.as_u16());
            entry.outcome = if status.is_some() { Outcome::Answered } else { Outcome::Cut };
            entry.took_ms = u64::try_from(since.elapsed().as_millis()).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestEntry {
    fn matches(&self, method: &str, path_glob: &str) -> bool {
        let path = self.path.split_once('?').map_or(self.path.as_str(), |(path, _)| path);
        let text = if path_glob.contains('?') { &self.path } else { path };
        (matches!(method, "*" | "") || self.method.eq_ignore_ascii_case(method))
            && glob_matches(path_glob, text)
    }
}

fn visible(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let value = match name.as_str() {
            "authorization" | "proxy-authorization" => {
                format!(
                    "{} [redacted]",
                    value.split(' ').next().filter(|word| value.len() > word.len()).unwrap_or("")
                )
            }
            "cookie" => "[redacted]".to_owned(),
            _ => value,
        };
        seen.insert(name.as_str().to_owned(), value);
    }
    seen
}

/// The middleware: notes one request when it arrives and again when it ends.
pub(crate) async fn record(State(journal): State<Journal>, request: Request, next: Next) -> Response {
    if is_control(request.uri().path()) {
        return next.run(request).await;
    }
    let since = Instant::now();
    let uri = request.uri();
    let path = uri.path_and_query().map_or(uri.path(), |full| full.as_str());
    let number = journal.begin(request.method().as_str(), path, request.headers());
    let response = next.run(request).await;
    let cut = response.extensions().get::<CutConnection>().is_some();
    journal.end(number, (!cut).then(|| response.status()), since);
    response
}

#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    method: String,
    path: Option<String>,
}

pub(crate) fn control_routes(journal: Journal) -> Router {
    Router::new().route("/_emulator/requests", get(list).delete(clear)).with_state(journal)
}

async fn list(State(journal): State<Journal>, Query(filter): Query<Filter>) -> Json<Vec<RequestEntry>> {
    Json(journal.matching(&filter.method, filter.path.as_deref().unwrap_or("*")))
}

async fn clear(State(journal): State<Journal>) -> StatusCode {
    journal.clear();
    StatusCode::NO_CONTENT
}
