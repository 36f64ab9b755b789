//! `/_emulator`: the controls by hand. It has no credentials; never expose it.
//!
//! ```text
//! GET  /_emulator                       address, App id, private key, installations
//! GET  /_emulator/jobs[/{id}]           POST /_emulator/jobs  {"repository":"acme/app","labels":["stint"],"durationMs":5000}
//! POST /_emulator/jobs/{id}/approve · /cancel · /finish {"conclusion":"success"} · /assign {"runner":"name"}
//! GET  /_emulator/check-runs            PUT  /_emulator/branches {"repository":"acme/app","branch":"main","protected":true}
//! GET  /_emulator/runners               DELETE /_emulator/runners/{id}
//! GET  /_emulator/deliveries            POST /_emulator/deliveries/{id}/redeliver
//! PUT  /_emulator/webhook               {"url":"http://localhost:8080/webhooks/github","secret":"s"}
//! POST /_emulator/webhooks/rules        {"action":"queued","count":1,"effect":"lose"}   DELETE removes all
//! POST /_emulator/webhooks/release      PUT /_emulator/webhooks/chaos {"lose":0.3,"duplicate":0.2,"maxDelayMs":500}
//! POST /_emulator/webhooks/raw          {"event":"workflow_job","payload":{…}}
//! PUT  /_emulator/assignment            {"held":true}
//! POST /_emulator/clock                 {"advanceMs":3600000}
//! POST /_emulator/tokens/revoke
//! ```
//! `/_emulator/faults` and `/_emulator/requests` are those of every emulator.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commits::CheckRunView;
use crate::hooks::{Chaos, DeliveryView, WebhookRule};
use crate::shared::Shared;
use crate::spec::{Conclusion, JobSpec, JobView, RunnerView};
use crate::steer::GitHubControl;

type Control = State<GitHubControl>;

/// A failure in words.
struct Failure(anyhow::Error);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::CONFLICT, Json(json!({"message": format!("{:#}", self.0)}))).into_response()
    }
}

pub(crate) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/_emulator", get(about))
        .route("/_emulator/jobs", get(jobs).post(queue))
        .route("/_emulator/jobs/{id}", get(job))
        .route("/_emulator/jobs/{id}/approve", post(approve))
        .route("/_emulator/jobs/{id}/cancel", post(cancel))
        .route("/_emulator/jobs/{id}/finish", post(finish))
        .route("/_emulator/jobs/{id}/assign", post(assign))
        .route("/_emulator/runs/{id}/rerun", post(rerun))
        .route("/_emulator/check-runs", get(check_runs))
        .route("/_emulator/branches", put(branch))
        .route("/_emulator/runners", get(runners))
        .route("/_emulator/runners/{id}", delete(remove_runner))
        .route("/_emulator/deliveries", get(deliveries))
        .route("/_emulator/deliveries/{id}", get(payload))
        .route("/_emulator/deliveries/{id}/redeliver", post(redeliver))
        .route("/_emulator/webhook", put(webhook))
        .route("/_emulator/webhooks/rules", post(add_rule).delete(clear_rules))
        .route("/_emulator/webhooks/release", post(release))
        .route("/_emulator/webhooks/chaos", put(chaos))
        .route("/_emulator/webhooks/raw", post(raw))
        .route("/_emulator/assignment", put(assignment))
        .route("/_emulator/clock", post(clock))
        .route("/_emulator/tokens/revoke", post(revoke))
        .with_state(GitHubControl { shared: Arc::clone(shared) })
}

async fn about(State(control): Control) -> Json<Value> {
    let installations: Value = control.shared.read(|state| {
        state.owners.values().map(|owner| (owner.login.clone(), json!(owner.installation))).collect()
    });
    Json(json!({
        "url": control.public_url(),
        "appId": control.app_id(),
        "privateKey": control.app_private_key_pem(),
        "installations": installations,
    }))
}

async fn jobs(State(control): Control) -> Json<Vec<JobView>> {
    Json(control.jobs())
}

async fn job(State(control): Control, Path(id): Path<u64>) -> Result<Json<JobView>, Failure> {
    Ok(Json(control.job(id)?))
}

async fn queue(
    State(control): Control,
    Json(spec): Json<JobSpec>,
) -> Result<(StatusCode, Json<JobView>), Failure> {
    let id = control.queue_job(spec)?;
    Ok((StatusCode::CREATED, Json(control.job(id)?)))
}

async fn approve(State(control): Control, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    control.approve_job(id)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn cancel(State(control): Control, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    control.cancel_job(id)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Finish {
    #[serde(default)]
    conclusion: Conclusion,
}

async fn finish(
    State(control): Control,
    Path(id): Path<u64>,
    Json(finish): Json<Finish>,
) -> Result<StatusCode, Failure> {
    control.finish_job(id, finish.conclusion)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Assign {
    runner: String,
}

async fn assign(
    State(control): Control,
    Path(id): Path<u64>,
    Json(assign): Json<Assign>,
) -> Result<StatusCode, Failure> {
    control.assign(id, &assign.runner)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rerun(State(control): Control, Path(id): Path<u64>) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({"jobs": control.rerun(id)?})))
}

async fn check_runs(State(control): Control) -> Json<Vec<CheckRunView>> {
    Json(control.check_runs())
}

#[derive(Deserialize)]
struct BranchSpec {
    repository: String,
    branch: String,
    #[serde(default)]
    protected: bool,
}

async fn branch(State(control): Control, Json(spec): Json<BranchSpec>) -> Result<StatusCode, Failure> {
    control.set_branch(&spec.repository, &spec.branch, spec.protected)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn runners(State(control): Control) -> Json<Vec<RunnerView>> {
    Json(control.runners())
}

async fn remove_runner(State(control): Control, Path(id): Path<u64>) -> StatusCode {
    control.remove_runner(id);
    StatusCode::NO_CONTENT
}

async fn deliveries(State(control): Control) -> Json<Vec<DeliveryView>> {
    Json(control.deliveries())
}

async fn payload(State(control): Control, Path(id): Path<u64>) -> Result<Json<Value>, Failure> {
    Ok(Json(control.delivery_payload(id)?))
}

async fn redeliver(State(control): Control, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    control.redeliver(id)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Webhook {
    url: String,
    #[serde(default)]
    secret: String,
}

async fn webhook(State(control): Control, Json(webhook): Json<Webhook>) -> StatusCode {
    control.set_webhook(&webhook.url, &webhook.secret);
    StatusCode::NO_CONTENT
}

async fn add_rule(State(control): Control, Json(rule): Json<WebhookRule>) -> StatusCode {
    control.add_webhook_rule(rule);
    StatusCode::NO_CONTENT
}

async fn clear_rules(State(control): Control) -> StatusCode {
    control.clear_webhook_rules();
    StatusCode::NO_CONTENT
}

async fn release(State(control): Control) -> StatusCode {
    control.release_webhooks();
    StatusCode::NO_CONTENT
}

async fn chaos(State(control): Control, Json(chaos): Json<Chaos>) -> StatusCode {
    control.set_chaos(chaos);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Raw {
    event: String,
    payload: Value,
}

async fn raw(State(control): Control, Json(raw): Json<Raw>) -> StatusCode {
    control.send_raw(&raw.event, &raw.payload);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Held {
    held: bool,
}

async fn assignment(State(control): Control, Json(held): Json<Held>) -> StatusCode {
    control.hold_assignment(held.held);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advance {
    advance_ms: i64,
}

async fn clock(State(control): Control, Json(advance): Json<Advance>) -> StatusCode {
    control.clock().advance(SignedDuration::from_millis(advance.advance_ms));
    StatusCode::NO_CONTENT
}

async fn revoke(State(control): Control) -> StatusCode {
    control.revoke_tokens();
    StatusCode::NO_CONTENT
}
