//! Self-hosted runners of organizations and repositories: JIT configs, lists, deletion, groups.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path as FromPath, Query as FromQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use emulator_common::ids::random_hex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{By, Path, Query, Shares, number, organization, repository};
use crate::answer::{Answer, ApiError, Page, body, ok, query_value, with_status};
use crate::fleet::Registration;
use crate::gate::Principal;
use crate::model::{Runner, Scope};
use crate::options::RunnerGroupSpec;
use crate::shared::Shared;

/// The permission that governs runners of a scope.
fn permission(scope: &Scope) -> &'static str {
    match scope {
        Scope::Organization(_) => "organization_self_hosted_runners",
        Scope::Repository(_) => "administration",
    }
}

fn address(shared: &Shared, scope: &Scope) -> String {
    let kind = match scope {
        Scope::Organization(_) => "orgs",
        Scope::Repository(_) => "repos",
    };
    format!("{}/{kind}/{}/actions/runners", shared.base(), scope.word())
}

#[derive(Deserialize)]
struct JitRequest {
    name: Option<String>,
    runner_group_id: Option<u64>,
    labels: Option<Vec<String>>,
    work_folder: Option<String>,
}

/// What GitHub forbids in a runner's name.
const FORBIDDEN_IN_NAMES: &[char] = &['"', '/', ':', '<', '>', '\\', '|', '*', '?'];

fn validated(shared: &Shared, scope: Scope, wanted: &JitRequest) -> Result<Registration, ApiError> {
    let missing =
        |field: &str| ApiError::invalid(format!("Invalid request.\n\n\"{field}\" wasn't supplied."));
    let name = wanted.name.clone().ok_or_else(|| missing("name"))?;
    let group_id = wanted.runner_group_id.ok_or_else(|| missing("runner_group_id"))?;
    let labels = wanted.labels.clone().ok_or_else(|| missing("labels"))?;
    if name.is_empty() || name.chars().count() > 64 || name.contains(FORBIDDEN_IN_NAMES) {
        return Err(ApiError::invalid(
            "Invalid request.\n\nRunner names must have 1 to 64 characters and none of \" / : < > \\ | * ?",
        ));
    }
    if labels.is_empty() || labels.len() > 100 {
        return Err(ApiError::invalid("Invalid request.\n\nBetween 1 and 100 labels must be supplied."));
    }
    if labels
        .iter()
        .any(|label| label.trim().is_empty() || label.chars().count() > 256 || label.contains(','))
    {
        return Err(ApiError::invalid(
            "Invalid request.\n\nLabels must have 1 to 256 characters and no comma.",
        ));
    }
    if shared.read(|state| state.group(group_id).is_none()) {
        return Err(ApiError::not_found());
    }
    Ok(Registration { name, scope, group_id, labels })
}

fn generate(shared: &Arc<Shared>, by: &Principal, scope: Scope, bytes: &[u8]) -> Answer {
    by.may(&scope, permission(&scope), true)?;
    let request: JitRequest = body(bytes)?;
    let wanted = validated(shared, scope.clone(), &request)?;
    let name = wanted.name.clone();
    let limits = &shared.options.limits;
    let now = shared.clock.now();
    shared.gate.with_buckets(|buckets| buckets.register(scope.word(), limits, now)).map_err(|after| {
        let status = StatusCode::from_u16(limits.status).unwrap_or(StatusCode::FORBIDDEN);
        ApiError::new(status, "You have exceeded a secondary rate limit.").header("retry-after", after)
    })?;
    let made = shared.change(|state, now| {
        let id = state.register(wanted, now)?;
        let runner = state.runners.get(&id)?;
        Some((runner.clone(), state.writer().runner(runner)))
    });
    let Some((runner, json)) = made else {
        return Err(ApiError::conflict(format!(
            "Already exists - A runner with the name {name} already exists."
        )));
    };
    let config = jit_config(shared, &runner, request.work_folder.as_deref().unwrap_or("_work"));
    with_status(StatusCode::CREATED, json!({"runner": json, "encoded_jit_config": config}))
}

/// The three files that GitHub's runner would otherwise write when it is configured, packed as it unpacks them. The
/// fields are those of `RunnerSettings` and of an OAuth credential in actions/runner; the authorization and
/// the server behind the addresses are the emulator's own.
fn jit_config(shared: &Shared, runner: &Runner, work_folder: &str) -> String {
    let base = shared.base();
    let file = |content: Value| STANDARD.encode(content.to_string());
    let settings = json!({
        "AgentId": runner.id.to_string(),
        "AgentName": runner.name,
        "PoolId": runner.group_id.to_string(),
        "PoolName": "Default",
        "DisableUpdate": "true",
        "Ephemeral": "true",
        "ServerUrl": base,
        "GitHubUrl": format!("{base}/{}", runner.scope.word()),
        "WorkFolder": work_folder,
        "agentId": runner.id,
        "agentName": runner.name,
        "poolId": runner.group_id,
        "serverUrl": base,
        "gitHubUrl": format!("{base}/{}", runner.scope.word()),
        "workFolder": work_folder,
    });
    let credentials = json!({
        "scheme": "OAuth",
        "data": {
            "clientId": random_hex(16),
            "authorizationUrl": format!("{base}/_agent/token"),
            "token": runner.token,
        },
    });
    let parameters = json!({"exponent": "AQAB", "modulus": random_hex(16)});
    let files = json!({
        ".runner": file(settings),
        ".credentials": file(credentials),
        ".credentials_rsaparams": file(parameters),
    });
    STANDARD.encode(files.to_string())
}

fn list(shared: &Shared, by: &Principal, scope: &Scope, query: &[(String, String)]) -> Answer {
    by.may(scope, permission(scope), false)?;
    let name = query_value(query, "name");
    let url = address(shared, scope);
    shared.read(|state| {
        let here = state.runners.values().filter(|runner| runner.scope == *scope);
        let found: Vec<&Runner> =
            here.filter(|runner| name.is_none_or(|name| runner.name.eq_ignore_ascii_case(name))).collect();
        let json = |runner: &&Runner| state.writer().runner(runner);
        Page::from_query(query).answer("runners", &found, json, &url, query)
    })
}

fn get(shared: &Shared, by: &Principal, scope: &Scope, id: &str) -> Answer {
    by.may(scope, permission(scope), false)?;
    let id = number(id)?;
    let found = shared.read(|state| {
        let runner = state.runners.get(&id).filter(|runner| runner.scope == *scope)?;
        Some(state.writer().runner(runner))
    });
    ok(found.ok_or_else(ApiError::not_found)?)
}

fn delete(shared: &Arc<Shared>, by: &Principal, scope: &Scope, id: &str) -> Answer {
    by.may(scope, permission(scope), true)?;
    let id = number(id)?;
    shared.change(|state, _| {
        let runner = state.runners.get(&id).filter(|runner| runner.scope == *scope);
        let runner = runner.ok_or_else(ApiError::not_found)?;
        if runner.job.is_some() {
            return Err(ApiError::invalid(format!(
                "Bad request - Runner \"{}\" is still running a job\"",
                runner.name
            )));
        }
        state.remove_runner(id);
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

pub(super) async fn jit_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath(org): Path<String>,
    bytes: Bytes,
) -> Answer {
    generate(&shared, &by, organization(&shared, &org)?, &bytes)
}

pub(super) async fn jit_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    generate(&shared, &by, repository(&shared, &owner, &repo)?, &bytes)
}

pub(super) async fn list_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath(org): Path<String>,
    FromQuery(query): Query,
) -> Answer {
    list(&shared, &by, &organization(&shared, &org)?, &query)
}

pub(super) async fn list_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
    FromQuery(query): Query,
) -> Answer {
    list(&shared, &by, &repository(&shared, &owner, &repo)?, &query)
}

pub(super) async fn get_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath((org, id)): Path<(String, String)>,
) -> Answer {
    get(&shared, &by, &organization(&shared, &org)?, &id)
}

pub(super) async fn get_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    get(&shared, &by, &repository(&shared, &owner, &repo)?, &id)
}

pub(super) async fn delete_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath((org, id)): Path<(String, String)>,
) -> Answer {
    delete(&shared, &by, &organization(&shared, &org)?, &id)
}

pub(super) async fn delete_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    delete(&shared, &by, &repository(&shared, &owner, &repo)?, &id)
}

fn group_json(shared: &Shared, org: &str, group: &RunnerGroupSpec) -> Value {
    let url = format!("{}/orgs/{org}/actions/runner-groups/{}", shared.base(), group.id);
    json!({
        "id": group.id,
        "name": group.name,
        "visibility": if group.repositories.is_some() { "selected" } else { "all" },
        "default": group.id == 1,
        "runners_url": format!("{url}/runners"),
        "hosted_runners_url": format!("{url}/hosted-runners"),
        "selected_repositories_url": format!("{url}/repositories"),
        "inherited": false,
        "allows_public_repositories": group.allows_public_repositories,
        "workflow_restrictions_read_only": false,
        "restricted_to_workflows": false,
        "selected_workflows": [],
    })
}

pub(super) async fn groups(
    State(shared): Shares,
    Extension(by): By,
    FromPath(org): Path<String>,
    FromQuery(query): Query,
) -> Answer {
    let scope = organization(&shared, &org)?;
    by.may(&scope, permission(&scope), false)?;
    let url = format!("{}/orgs/{org}/actions/runner-groups", shared.base());
    shared.read(|state| {
        let json = |group: &RunnerGroupSpec| group_json(&shared, &org, group);
        Page::from_query(&query).answer("runner_groups", &state.groups, json, &url, &query)
    })
}

pub(super) async fn group(
    State(shared): Shares,
    Extension(by): By,
    FromPath((org, id)): Path<(String, String)>,
) -> Answer {
    let scope = organization(&shared, &org)?;
    by.may(&scope, permission(&scope), false)?;
    let id = number(&id)?;
    let found = shared.read(|state| state.group(id).map(|group| group_json(&shared, &org, group)));
    ok(found.ok_or_else(ApiError::not_found)?)
}
