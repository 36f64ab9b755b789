//! `/_emulator`: the controls by hand. It has no credentials; never expose it.
//!
//! ```text
//! GET  /_emulator                          address, pools, projects
//! GET  /_emulator/jobs[/{request}]         POST /_emulator/jobs  {"pool":"Default","demands":["stint -equals small"],"durationMs":5000}
//! POST /_emulator/jobs/{request}/cancel · /finish {"result":"succeeded"} · /next
//! GET  /_emulator/runs                     POST /_emulator/runs  [jobs of one run, each as above]
//!                                          POST /_emulator/runs/{run}/cancel · /retry {"stage":"__default","all":true}
//! GET  /_emulator/agents                   POST /_emulator/agents {"pool":"Default","name":"placeholder","capabilities":{"stint":"small"}}
//! POST /_emulator/pools                    {"name":"linux"}
//! PUT  /_emulator/pools/{name}/blank-lists {"count":1}
//! GET  /_emulator/hooks                    POST /_emulator/hooks, a subscription as in the REST API
//! PUT  /_emulator/hooks/{id}/status        "enabled"
//! GET  /_emulator/notifications
//! PUT  /_emulator/assignment               {"held":true}
//! PUT  /_emulator/parallel-jobs            {"licences":2}
//! POST /_emulator/consumption              {"identity":"controller","units":150}
//! POST /_emulator/clock                    {"advanceMs":3600000}
//! ```
//! `/_emulator/faults` and `/_emulator/requests` are those of every emulator.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::hooks::{HookStatus, NotificationView, SubscriptionSpec, SubscriptionView};
use crate::shared::Shared;
use crate::spec::{AgentView, JobResult, JobSpec, JobView, RequestId, RunId, RunView};
use crate::steer::AzureDevOpsControl;

type Control = State<AzureDevOpsControl>;
type Done = Result<StatusCode, Failure>;

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
        .route("/_emulator/jobs/{request}", get(job))
        .route("/_emulator/jobs/{request}/cancel", post(cancel))
        .route("/_emulator/jobs/{request}/finish", post(finish))
        .route("/_emulator/jobs/{request}/next", post(next))
        .route("/_emulator/runs", get(runs).post(queue_run))
        .route("/_emulator/runs/{run}/cancel", post(cancel_run))
        .route("/_emulator/runs/{run}/retry", post(retry))
        .route("/_emulator/agents", get(agents).post(add_agent))
        .route("/_emulator/pools", post(add_pool))
        .route("/_emulator/pools/{name}/blank-lists", put(blank_lists))
        .route("/_emulator/hooks", get(hooks).post(subscribe))
        .route("/_emulator/hooks/{id}/status", put(hook_status))
        .route("/_emulator/notifications", get(notifications))
        .route("/_emulator/assignment", put(assignment))
        .route("/_emulator/parallel-jobs", put(parallel_jobs))
        .route("/_emulator/consumption", post(consumption))
        .route("/_emulator/clock", post(clock))
        .with_state(AzureDevOpsControl { shared: Arc::clone(shared) })
}

async fn about(State(control): Control) -> Json<Value> {
    let (pools, projects): (Value, Value) = control.shared.read(|state| {
        (
            state.pools.values().map(|pool| (pool.name.clone(), json!(pool.id))).collect(),
            state.projects.iter().map(|project| (project.name.clone(), json!(project.id))).collect(),
        )
    });
    Json(json!({"url": control.organization_url(), "pools": pools, "projects": projects}))
}

async fn jobs(State(control): Control) -> Json<Vec<JobView>> {
    Json(control.jobs())
}

async fn job(State(control): Control, Path(request): Path<RequestId>) -> Result<Json<JobView>, Failure> {
    Ok(Json(control.job(request)?))
}

async fn queue(
    State(control): Control,
    Json(spec): Json<JobSpec>,
) -> Result<(StatusCode, Json<JobView>), Failure> {
    let request = control.queue_job(spec)?;
    Ok((StatusCode::CREATED, Json(control.job(request)?)))
}

async fn queue_run(
    State(control): Control,
    Json(jobs): Json<Vec<JobSpec>>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    Ok((StatusCode::CREATED, Json(json!({"requests": control.queue_run(jobs)?}))))
}

async fn cancel(State(control): Control, Path(request): Path<RequestId>) -> Done {
    control.cancel_job(request)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Finish {
    #[serde(default)]
    result: JobResult,
}

async fn finish(State(control): Control, Path(request): Path<RequestId>, Json(how): Json<Finish>) -> Done {
    control.finish_job(request, how.result)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn next(State(control): Control, Path(request): Path<RequestId>) -> Done {
    control.run_next(request)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn runs(State(control): Control) -> Json<Vec<RunView>> {
    Json(control.runs())
}

async fn cancel_run(State(control): Control, Path(run): Path<RunId>) -> Done {
    control.cancel_run(run)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Retry {
    stage: String,
    #[serde(default)]
    all: bool,
}

async fn retry(
    State(control): Control,
    Path(run): Path<RunId>,
    Json(what): Json<Retry>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({"requests": control.retry_stage(run, &what.stage, what.all)?})))
}

async fn agents(State(control): Control) -> Json<Vec<AgentView>> {
    Json(control.agents())
}

#[derive(Deserialize)]
struct Placeholder {
    pool: String,
    name: String,
    #[serde(default)]
    capabilities: BTreeMap<String, String>,
}

async fn add_agent(State(control): Control, Json(what): Json<Placeholder>) -> Result<Json<Value>, Failure> {
    let given: Vec<(&str, &str)> =
        what.capabilities.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(Json(json!({"id": control.add_offline_agent(&what.pool, &what.name, &given)?})))
}

#[derive(Deserialize)]
struct NewPool {
    name: String,
}

async fn add_pool(State(control): Control, Json(pool): Json<NewPool>) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({"id": control.add_pool(&pool.name)?})))
}

#[derive(Deserialize)]
struct Count {
    count: u32,
}

async fn blank_lists(State(control): Control, Path(pool): Path<String>, Json(lists): Json<Count>) -> Done {
    control.blank_lists(&pool, lists.count)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn hooks(State(control): Control) -> Json<Vec<SubscriptionView>> {
    Json(control.hooks())
}

async fn subscribe(
    State(control): Control,
    Json(spec): Json<SubscriptionSpec>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({"id": control.subscribe(spec)?})))
}

async fn hook_status(
    State(control): Control,
    Path(id): Path<String>,
    Json(status): Json<HookStatus>,
) -> StatusCode {
    control.set_hook_status(&id, status);
    StatusCode::NO_CONTENT
}

async fn notifications(State(control): Control) -> Json<Vec<NotificationView>> {
    Json(control.notifications())
}

#[derive(Deserialize)]
struct Held {
    held: bool,
}

async fn assignment(State(control): Control, Json(wanted): Json<Held>) -> StatusCode {
    control.hold_assignment(wanted.held);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Licences {
    licences: Option<u32>,
}

async fn parallel_jobs(State(control): Control, Json(wanted): Json<Licences>) -> StatusCode {
    control.set_parallel_jobs(wanted.licences);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Consumption {
    identity: String,
    units: f64,
}

async fn consumption(State(control): Control, Json(spent): Json<Consumption>) -> StatusCode {
    control.consume(&spent.identity, spent.units);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advance {
    advance_ms: i64,
}

async fn clock(State(control): Control, Json(by): Json<Advance>) -> StatusCode {
    control.clock().advance(SignedDuration::from_millis(by.advance_ms));
    StatusCode::NO_CONTENT
}
