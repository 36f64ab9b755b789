//! What Stint serves over HTTP besides webhooks: the agents' call-backs, probes and metrics, and a small API.
//!
//! Nothing here decides anything: what agents say becomes facts in the records, and what people ask for is read from
//! memory or the ledger. TLS ends in front of Stint (an Ingress, a gateway); the listeners speak plain HTTP.

pub mod agent;
pub mod api;
pub(crate) mod body;
pub mod internal;
pub mod serve;
pub(crate) mod why;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// How long a peer is asked to wait where the trouble is ours and nobody knows how long it lasts.
const RETRY_SECONDS: u64 = 30;

/// One line of text.
pub(crate) fn line(status: StatusCode, text: impl std::fmt::Display) -> Response {
    let mut answer = (status, format!("{text}\n")).into_response();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// 503, with how long to wait.
pub(crate) fn unavailable(text: impl std::fmt::Display, seconds: Option<u64>) -> Response {
    let mut answer = line(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.unwrap_or(RETRY_SECONDS).max(1)));
    answer
}
