//! Deliveries of the App's, an organization's and a repository's hook, and how they are sent again.

use std::sync::Arc;

use axum::extract::{Path as FromPath, Query as FromQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::{By, Path, Query, Shares, number, organization, repository};
use crate::answer::{Answer, ApiError, Page, ok, query_value, with_status};
use crate::hooks::{Delivery, Hook, HookKind};
use crate::payload::time;
use crate::shared::Shared;

fn item(delivery: &Delivery) -> Value {
    let attempt = &delivery.attempt;
    json!({
        "id": delivery.id,
        "guid": attempt.guid,
        "delivered_at": time(delivery.delivered_at),
        "redelivery": attempt.redelivery,
        "duration": delivery.duration.as_secs_f64(),
        "status": delivery.status,
        "status_code": delivery.status_code,
        "event": attempt.event,
        "action": attempt.action,
        "installation_id": attempt.installation,
        "repository_id": attempt.repository,
        "throttled_at": null,
    })
}

/// A page of deliveries, newest first, from the one that the cursor names.
fn list(shared: &Shared, hook: &Hook, query: &[(String, String)], url: &str) -> Answer {
    let size: usize =
        query_value(query, "per_page").and_then(|size| size.parse().ok()).unwrap_or(30).clamp(1, 100);
    let status = query_value(query, "status");
    let range = match status {
        None => 0..1000,
        Some("success") => 200..400,
        Some("failure") => 400..600,
        Some(_) => return Err(ApiError::invalid("Invalid request.\n\nNo such status.")),
    };
    let from = match query_value(query, "cursor") {
        None => u64::MAX,
        Some(cursor) => {
            let id = cursor.strip_prefix("v1_").and_then(|id| id.parse().ok());
            id.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "Invalid cursor"))?
        }
    };
    let found = shared.recent_deliveries(|delivery| {
        delivery.attempt.hook == hook.id && delivery.id <= from && range.contains(&delivery.status_code)
    });
    let page: Vec<Value> = found.iter().take(size).map(item).collect();
    let mut response = Json(page).into_response();
    if let Some(next) = found.get(size) {
        let mut pairs = vec![format!("per_page={size}"), format!("cursor=v1_{}", next.id)];
        pairs.extend(status.map(|status| format!("status={status}")));
        if let Ok(link) = HeaderValue::try_from(format!("<{url}?{}>; rel=\"next\"", pairs.join("&"))) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

fn find(shared: &Shared, hook: &Hook, id: &str) -> Result<Delivery, ApiError> {
    let id = number(id)?;
    let mut found =
        shared.recent_deliveries(|delivery| delivery.id == id && delivery.attempt.hook == hook.id);
    found.pop().ok_or_else(ApiError::not_found)
}

fn get(shared: &Shared, hook: &Hook, id: &str) -> Answer {
    let delivery = find(shared, hook, id)?;
    let mut json = item(&delivery);
    let payload: Value = serde_json::from_slice(&delivery.attempt.body).unwrap_or(Value::Null);
    json["url"] = json!(delivery.url);
    json["request"] = json!({"headers": delivery.request_headers, "payload": payload});
    json["response"] = json!({"headers": delivery.response_headers, "payload": delivery.response_body});
    ok(json)
}

fn attempt(shared: &Arc<Shared>, hook: &Hook, id: &str) -> Answer {
    let delivery = find(shared, hook, id)?;
    shared.redeliver(delivery.id).map_err(|error| ApiError::invalid(error.to_string()))?;
    with_status(StatusCode::ACCEPTED, json!({}))
}

fn app_hook(shared: &Shared, by: &crate::gate::Principal) -> Result<Hook, ApiError> {
    by.is_app()?;
    shared.hooks.of_kind(&HookKind::App).ok_or_else(ApiError::not_found)
}

fn organization_hook(
    shared: &Shared,
    by: &crate::gate::Principal,
    org: &str,
    hook: &str,
) -> Result<Hook, ApiError> {
    by.may(&organization(shared, org)?, "organization_hooks", false)?;
    let found = shared.hooks.hook(number(hook)?);
    found
        .filter(|hook| matches!(&hook.kind, HookKind::Organization(login) if login.eq_ignore_ascii_case(org)))
        .ok_or_else(ApiError::not_found)
}

fn repository_hook(
    shared: &Shared,
    by: &crate::gate::Principal,
    owner: &str,
    repo: &str,
    hook: &str,
) -> Result<Hook, ApiError> {
    by.may(&repository(shared, owner, repo)?, "repository_hooks", false)?;
    let full = format!("{owner}/{repo}");
    let found = shared.hooks.hook(number(hook)?);
    found
        .filter(|hook| matches!(&hook.kind, HookKind::Repository(name) if name.eq_ignore_ascii_case(&full)))
        .ok_or_else(ApiError::not_found)
}

/// A hook, as GitHub lists it to whom administers it.
fn hook_json(shared: &Shared, hook: &Hook, path: &str) -> Value {
    let url = format!("{}/{path}/{}", shared.base(), hook.id);
    let created_at = time(hook.created_at);
    let mut json = json!({
        "id": hook.id,
        "url": url,
        "ping_url": format!("{url}/pings"),
        "deliveries_url": format!("{url}/deliveries"),
        "name": "web",
        "events": ["workflow_job"],
        "active": hook.active,
        "config": {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": hook.url},
        "updated_at": created_at,
        "created_at": created_at,
        "type": if path.starts_with("orgs/") { "Organization" } else { "Repository" },
    });
    if path.starts_with("repos/") {
        json["test_url"] = json!(format!("{url}/tests"));
        json["last_response"] = json!({"code": null, "status": "unused", "message": null});
    }
    json
}

fn hooks_at(
    shared: &Shared,
    path: &str,
    query: &[(String, String)],
    kind: impl Fn(&HookKind) -> bool,
) -> Answer {
    let all: Vec<Hook> = shared.hooks.all().into_iter().filter(|hook| kind(&hook.kind)).collect();
    let url = format!("{}/{path}", shared.base());
    Page::from_query(query).list(&all, |hook| hook_json(shared, hook, path), &url, query)
}

pub(super) async fn hooks_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath(org): Path<String>,
    FromQuery(query): Query,
) -> Answer {
    by.may(&organization(&shared, &org)?, "organization_hooks", false)?;
    let path = format!("orgs/{org}/hooks");
    hooks_at(
        &shared,
        &path,
        &query,
        |kind| matches!(kind, HookKind::Organization(login) if login.eq_ignore_ascii_case(&org)),
    )
}

pub(super) async fn hooks_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
    FromQuery(query): Query,
) -> Answer {
    by.may(&repository(&shared, &owner, &repo)?, "repository_hooks", false)?;
    let full = format!("{owner}/{repo}");
    let path = format!("repos/{full}/hooks");
    hooks_at(
        &shared,
        &path,
        &query,
        |kind| matches!(kind, HookKind::Repository(name) if name.eq_ignore_ascii_case(&full)),
    )
}

pub(super) async fn app_config(State(shared): Shares, Extension(by): By) -> Answer {
    let hook = app_hook(&shared, &by)?;
    ok(json!({"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": hook.url}))
}

pub(super) async fn list_of_app(State(shared): Shares, Extension(by): By, FromQuery(query): Query) -> Answer {
    let hook = app_hook(&shared, &by)?;
    list(&shared, &hook, &query, &format!("{}/app/hook/deliveries", shared.base()))
}

pub(super) async fn get_of_app(
    State(shared): Shares,
    Extension(by): By,
    FromPath(id): Path<String>,
) -> Answer {
    get(&shared, &app_hook(&shared, &by)?, &id)
}

pub(super) async fn attempt_of_app(
    State(shared): Shares,
    Extension(by): By,
    FromPath(id): Path<String>,
) -> Answer {
    attempt(&shared, &app_hook(&shared, &by)?, &id)
}

pub(super) async fn list_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath((org, hook)): Path<(String, String)>,
    FromQuery(query): Query,
) -> Answer {
    let found = organization_hook(&shared, &by, &org, &hook)?;
    list(&shared, &found, &query, &format!("{}/orgs/{org}/hooks/{hook}/deliveries", shared.base()))
}

pub(super) async fn get_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath((org, hook, id)): Path<(String, String, String)>,
) -> Answer {
    get(&shared, &organization_hook(&shared, &by, &org, &hook)?, &id)
}

pub(super) async fn attempt_of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath((org, hook, id)): Path<(String, String, String)>,
) -> Answer {
    attempt(&shared, &organization_hook(&shared, &by, &org, &hook)?, &id)
}

pub(super) async fn list_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, hook)): Path<(String, String, String)>,
    FromQuery(query): Query,
) -> Answer {
    let found = repository_hook(&shared, &by, &owner, &repo, &hook)?;
    list(&shared, &found, &query, &format!("{}/repos/{owner}/{repo}/hooks/{hook}/deliveries", shared.base()))
}

pub(super) async fn get_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, hook, id)): Path<(String, String, String, String)>,
) -> Answer {
    get(&shared, &repository_hook(&shared, &by, &owner, &repo, &hook)?, &id)
}

pub(super) async fn attempt_of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, hook, id)): Path<(String, String, String, String)>,
) -> Answer {
    attempt(&shared, &repository_hook(&shared, &by, &owner, &repo, &hook)?, &id)
}
