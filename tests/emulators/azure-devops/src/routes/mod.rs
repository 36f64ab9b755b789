//! The REST API, by resource. Paths arrive without organization and project, from `_apis` on and in lower case
//! (`gate`); who asks and the project are in the request's extensions.

mod agents;
mod builds;
mod discovery;
mod hooks;
mod pools;

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, options, patch, put};
use axum::{Extension, Router};

use crate::answer::{ApiError, Pairs};
use crate::gate::{Caller, InProject};
use crate::shared::Shared;

type Shares = State<Arc<Shared>>;
type By = Extension<Caller>;
type Within = Extension<InProject>;
type Asked = Query<Pairs>;

pub(crate) fn api(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/_apis/{area}", options(discovery::locations))
        .route("/_apis/resourceareas", get(discovery::areas))
        .route("/_apis/resourceareas/{area}", get(discovery::area))
        .route("/_apis/connectiondata", get(discovery::connection))
        .route("/_apis/projects", get(discovery::projects))
        .route("/_apis/projects/{project}", get(discovery::project))
        .route("/_apis/distributedtask/pools", get(pools::list))
        .route("/_apis/distributedtask/pools/{pool}", get(pools::get))
        .route("/_apis/distributedtask/pools/{pool}/jobrequests", get(pools::requests))
        .route("/_apis/distributedtask/pools/{pool}/jobrequests/{request}", get(pools::request))
        .route("/_apis/distributedtask/pools/{pool}/agents", get(agents::list).post(agents::add))
        .route(
            "/_apis/distributedtask/pools/{pool}/agents/{agent}",
            get(agents::get).put(agents::replace).patch(agents::update).delete(agents::delete),
        )
        .route(
            "/_apis/distributedtask/pools/{pool}/agents/{agent}/usercapabilities",
            put(agents::user_capabilities),
        )
        .route("/_apis/build/builds", get(builds::list))
        .route("/_apis/build/builds/{build}", get(builds::get).patch(builds::update))
        .route("/_apis/build/builds/{build}/timeline", get(builds::timeline))
        .route("/_apis/build/builds/{build}/timeline/{timeline}", get(builds::timeline_by_id))
        .route("/_apis/build/builds/{build}/stages/{stage}", patch(builds::update_stage))
        .route("/_apis/pipelines/{pipeline}/runs/{run}", get(builds::pipeline_run))
        .route("/_apis/hooks/subscriptions", get(hooks::list).post(hooks::create))
        .route(
            "/_apis/hooks/subscriptions/{subscription}",
            get(hooks::get).put(hooks::replace).delete(hooks::delete),
        )
        .route("/_apis/hooks/subscriptions/{subscription}/notifications", get(hooks::notifications))
        .method_not_allowed_fallback(wrong_method)
        .fallback(missing)
        .with_state(Arc::clone(shared))
}

async fn missing(request: Request) -> ApiError {
    ApiError::no_route(request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "VssRequestMethodNotSupportedException",
        format!("The requested resource does not support http method '{}'.", request.method()),
    )
}

/// A number in a path.
fn number(text: &str, name: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request("VssPropertyValidationException", format!("{name} {text:?} is not a number"))
    })
}

/// Refuses whoever does not administer the pools.
fn manages_pools(by: &Caller) -> Result<(), ApiError> {
    if by.0.manages_pools {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "AccessDeniedException",
        format!("Access denied. {} needs Manage permissions for the pool to perform the action.", by.0.name),
    ))
}

pub(crate) use hooks::validate as validate_subscription;
