//! The REST API, route by route, as GitHub's OpenAPI description names them. Each is served under `/` and, as GitHub
//! Enterprise Server does, under `/api/v3`.

mod app;
mod branches;
mod checks;
mod deliveries;
mod meta;
mod runners;
mod runs;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::answer::ApiError;
use crate::gate::{Principal, guard};
use crate::model::Scope;
use crate::shared::Shared;

type Query = axum::extract::Query<Vec<(String, String)>>;
type Path<T> = axum::extract::Path<T>;
type Shares = axum::extract::State<Arc<Shared>>;
type By = axum::Extension<crate::gate::Principal>;

/// The whole API behind its gate.
pub(crate) fn api(shared: &Arc<Shared>) -> Router {
    let runs = "/repos/{owner}/{repo}/actions/runs";
    let routes = Router::new()
        .route("/meta", get(meta::meta))
        .route("/rate_limit", get(meta::rate_limit))
        .route("/app", get(app::app))
        .route("/app/installations", get(app::installations))
        .route("/app/installations/{id}", get(app::installation))
        .route("/app/installations/{id}/access_tokens", post(app::access_token))
        .route("/orgs/{org}/installation", get(app::of_organization))
        .route("/users/{user}/installation", get(app::of_organization))
        .route("/repos/{owner}/{repo}/installation", get(app::of_repository))
        .route("/installation/repositories", get(app::repositories))
        .route("/orgs/{org}/repos", get(app::organization_repositories))
        .route("/repos/{owner}/{repo}", get(app::repository))
        .route("/orgs/{org}", get(app::organization))
        .route("/orgs/{org}/actions/runners", get(runners::list_of_organization))
        .route("/repos/{owner}/{repo}/actions/runners", get(runners::list_of_repository))
        .route("/orgs/{org}/actions/runners/generate-jitconfig", post(runners::jit_of_organization))
        .route("/repos/{owner}/{repo}/actions/runners/generate-jitconfig", post(runners::jit_of_repository))
        .route(
            "/orgs/{org}/actions/runners/{id}",
            get(runners::get_of_organization).delete(runners::delete_of_organization),
        )
        .route(
            "/repos/{owner}/{repo}/actions/runners/{id}",
            get(runners::get_of_repository).delete(runners::delete_of_repository),
        )
        .route("/orgs/{org}/actions/runner-groups", get(runners::groups))
        .route("/orgs/{org}/actions/runner-groups/{id}", get(runners::group))
        .route("/repos/{owner}/{repo}/actions/jobs/{id}", get(runs::job))
        .route("/repos/{owner}/{repo}/actions/jobs/{id}/rerun", post(runs::rerun_job))
        .route(runs, get(runs::list))
        .route(&format!("{runs}/{{id}}"), get(runs::run))
        .route(&format!("{runs}/{{id}}/jobs"), get(runs::jobs))
        .route(&format!("{runs}/{{id}}/attempts/{{n}}/jobs"), get(runs::jobs_of_attempt))
        .route(&format!("{runs}/{{id}}/cancel"), post(runs::cancel))
        .route(&format!("{runs}/{{id}}/rerun"), post(runs::rerun))
        .route(&format!("{runs}/{{id}}/rerun-failed-jobs"), post(runs::rerun_failed))
        .route("/repos/{owner}/{repo}/check-runs", post(checks::create))
        .route("/repos/{owner}/{repo}/check-runs/{id}", get(checks::get).patch(checks::update))
        .route("/repos/{owner}/{repo}/commits/{sha}/check-runs", get(checks::of_commit))
        .route("/repos/{owner}/{repo}/branches/{*name}", get(branches::branch))
        .route("/repos/{owner}/{repo}/compare/{*basehead}", get(branches::compare))
        .route("/app/hook/config", get(deliveries::app_config))
        .route("/app/hook/deliveries", get(deliveries::list_of_app))
        .route("/app/hook/deliveries/{id}", get(deliveries::get_of_app))
        .route("/app/hook/deliveries/{id}/attempts", post(deliveries::attempt_of_app))
        .route("/orgs/{org}/hooks", get(deliveries::hooks_of_organization))
        .route("/repos/{owner}/{repo}/hooks", get(deliveries::hooks_of_repository))
        .route("/orgs/{org}/hooks/{hook}/deliveries", get(deliveries::list_of_organization))
        .route("/orgs/{org}/hooks/{hook}/deliveries/{id}", get(deliveries::get_of_organization))
        .route("/orgs/{org}/hooks/{hook}/deliveries/{id}/attempts", post(deliveries::attempt_of_organization))
        .route("/repos/{owner}/{repo}/hooks/{hook}/deliveries", get(deliveries::list_of_repository))
        .route("/repos/{owner}/{repo}/hooks/{hook}/deliveries/{id}", get(deliveries::get_of_repository))
        .route(
            "/repos/{owner}/{repo}/hooks/{hook}/deliveries/{id}/attempts",
            post(deliveries::attempt_of_repository),
        )
        .fallback(|| async { ApiError::not_found() })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .with_state(Arc::clone(shared))
        .layer(from_fn_with_state(Arc::clone(shared), guard));
    Router::new().nest("/api/v3", routes.clone()).merge(routes)
}

/// The organization `login`, which must exist.
fn organization(shared: &Shared, login: &str) -> Result<Scope, ApiError> {
    let key = login.to_lowercase();
    let there = shared.read(|state| state.owners.get(&key).is_some_and(|owner| owner.organization));
    if there { Ok(Scope::Organization(key)) } else { Err(ApiError::not_found()) }
}

/// The repository `owner/name`, which must exist.
fn repository(shared: &Shared, owner: &str, name: &str) -> Result<Scope, ApiError> {
    let key = format!("{owner}/{name}").to_lowercase();
    let there = shared.read(|state| state.repositories.contains_key(&key));
    if there { Ok(Scope::Repository(key)) } else { Err(ApiError::not_found()) }
}

/// The key of the repository `owner/name`, where `by` may read (or `write`) what a permission of this name is about.
fn allowed(
    shared: &Shared,
    by: &Principal,
    (owner, name): (&str, &str),
    permission: &str,
    write: bool,
) -> Result<String, ApiError> {
    let scope = repository(shared, owner, name)?;
    by.may(&scope, permission, write)?;
    Ok(scope.word().to_owned())
}

/// An id in a path; whatever is not a number is not found.
fn number(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| ApiError::not_found())
}
