//! The internal listener: probes and metrics, for the cluster and nobody else.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::watch;

use super::line;
use crate::telemetry::Metrics;

/// Whether Stint is ready to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is not, and why, in one line.
    NotReady(String),
    /// It is.
    Ready,
}

/// What the internal listener needs.
#[derive(Clone)]
pub struct InternalState {
    /// Whether Stint is ready.
    pub readiness: watch::Receiver<Readiness>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// `GET /healthz`, `/readyz`, `/metrics`.
pub fn router(state: InternalState) -> Router {
    Router::new()
        .route("/healthz", get(async || line(StatusCode::OK, "ok")))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn ready(State(state): State<InternalState>) -> Response {
    match &*state.readiness.borrow() {
        Readiness::Ready => line(StatusCode::OK, "ok"),
        Readiness::NotReady(why) => line(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(state): State<InternalState>) -> Response {
    match state.metrics.render() {
        Ok(text) => {
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => line(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"),
    }
}
