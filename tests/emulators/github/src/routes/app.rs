//! The App, its installations and their tokens, and the repositories that they see.

use std::collections::{BTreeMap, BTreeSet};

use axum::Extension;
use axum::extract::{Path as FromPath, Query as FromQuery, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    By, Path, Query, Shares, number, organization as find_organization, repository as find_repository,
};
use crate::answer::{Answer, ApiError, Page, body, ok, with_status};
use crate::gate::{Principal, Token};
use crate::model::{Owner, Scope};
use crate::payload::time;
use crate::shared::Shared;
use crate::state::State as Everything;

pub(super) async fn app(State(shared): Shares, Extension(by): By) -> Answer {
    by.is_app()?;
    shared.read(|state| ok(app_json(&shared, state)))
}

/// The App as it is shown.
pub(super) fn app_json(shared: &Shared, state: &Everything) -> Value {
    let options = &shared.options;
    let base = shared.base();
    json!({
            "id": options.app_id,
            "slug": options.app_slug,
            "client_id": format!("Iv23li{}", options.app_id),
            "node_id": format!("A_kwDO{:x}", options.app_id),
            "owner": state.writer().sender(),
            "name": options.app_slug,
            "description": "",
            "external_url": base,
            "html_url": format!("{base}/apps/{}", options.app_slug),
            "created_at": "2024-01-01T00:00:00Z",
            "updated_at": "2024-01-01T00:00:00Z",
            "permissions": options.permissions,
            "events": ["workflow_job"],
            "installations_count": state.owners.len(),
    })
}

fn installation_json(shared: &Shared, owner: &Owner, account: &Value) -> Value {
    let base = shared.base();
    let kind = if owner.organization { "Organization" } else { "User" };
    json!({
        "id": owner.installation,
        "client_id": format!("Iv23li{}", shared.options.app_id),
        "account": account,
        "repository_selection": "all",
        "access_tokens_url": format!("{base}/app/installations/{}/access_tokens", owner.installation),
        "repositories_url": format!("{base}/installation/repositories"),
        "html_url": format!("{base}/organizations/{}/settings/installations/{}", owner.login, owner.installation),
        "app_id": shared.options.app_id,
        "app_slug": shared.options.app_slug,
        "target_id": owner.id,
        "target_type": kind,
        "permissions": shared.options.permissions,
        "events": ["workflow_job"],
        "created_at": time(owner.created_at),
        "updated_at": time(owner.created_at),
        "single_file_name": null,
        "has_multiple_single_files": false,
        "single_file_paths": [],
        "suspended_by": null,
        "suspended_at": null,
    })
}

pub(super) async fn installations(
    State(shared): Shares,
    Extension(by): By,
    FromQuery(query): Query,
) -> Answer {
    by.is_app()?;
    let url = format!("{}/app/installations", shared.base());
    shared.read(|state| {
        let all: Vec<&Owner> = state.owners.values().collect();
        let json = |owner: &&Owner| installation_json(&shared, owner, &state.writer().account(owner));
        Page::from_query(&query).list(&all, json, &url, &query)
    })
}

fn one_installation(shared: &Shared, find: impl Fn(&Owner) -> bool) -> Answer {
    let found = shared.read(|state| {
        let owner = state.owners.values().find(|owner| find(owner))?;
        Some(installation_json(shared, owner, &state.writer().account(owner)))
    });
    ok(found.ok_or_else(ApiError::not_found)?)
}

pub(super) async fn installation(
    State(shared): Shares,
    Extension(by): By,
    FromPath(id): Path<String>,
) -> Answer {
    by.is_app()?;
    let id = number(&id)?;
    one_installation(&shared, |owner| owner.installation == id)
}

pub(super) async fn of_organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath(login): Path<String>,
) -> Answer {
    by.is_app()?;
    one_installation(&shared, |owner| owner.login.eq_ignore_ascii_case(&login))
}

pub(super) async fn of_repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
) -> Answer {
    by.is_app()?;
    find_repository(&shared, &owner, &repo)?;
    one_installation(&shared, |found| found.login.eq_ignore_ascii_case(&owner))
}

#[derive(Deserialize)]
struct TokenRequest {
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    repository_ids: Vec<u64>,
    permissions: Option<BTreeMap<String, String>>,
}

pub(super) async fn access_token(
    State(shared): Shares,
    Extension(by): By,
    FromPath(id): Path<String>,
    bytes: Bytes,
) -> Answer {
    by.is_app()?;
    let id = number(&id)?;
    let wanted: TokenRequest = body(&bytes)?;
    let owner = shared
        .read(|state| state.installation_owner(id).map(|owner| owner.login.to_lowercase()))
        .ok_or_else(ApiError::not_found)?;
    let granted = &shared.options.permissions;
    let permissions = wanted.permissions.unwrap_or_else(|| granted.clone());
    let exceeds = |(name, level): (&String, &String)| {
        granted.get(name).is_none_or(|granted| level == "write" && granted == "read")
    };
    if permissions.iter().any(exceeds) {
        return Err(ApiError::invalid("The permissions requested are not granted to this installation."));
    }
    let repositories = confined_to(&shared, &owner, &wanted.repositories, &wanted.repository_ids)?;
    let now = shared.clock.now();
    let expires_at = now.checked_add(shared.options.timing.token_lifetime).unwrap_or(now);
    let selection = if repositories.is_some() { "selected" } else { "all" };
    let token = Token { owner, installation: id, expires_at, permissions: permissions.clone(), repositories };
    let text = shared.gate.issue(token, now);
    let answer = json!({
        "token": text,
        "expires_at": time(expires_at),
        "permissions": permissions,
        "repository_selection": selection,
    });
    with_status(StatusCode::CREATED, answer)
}

fn confined_to(
    shared: &Shared,
    owner: &str,
    names: &[String],
    ids: &[u64],
) -> Result<Option<BTreeSet<String>>, ApiError> {
    if names.is_empty() && ids.is_empty() {
        return Ok(None);
    }
    let missing =
        || ApiError::invalid("There is at least one repository that does not exist or is not accessible.");
    shared.read(|state| {
        let mut keys = BTreeSet::new();
        for name in names {
            let key = format!("{owner}/{}", name.to_lowercase());
            keys.insert(state.repositories.contains_key(&key).then_some(key).ok_or_else(missing)?);
        }
        for id in ids {
            let found = state.repositories.iter().find(|(_, repository)| repository.id == *id);
            keys.insert(found.map(|(key, _)| key.clone()).ok_or_else(missing)?);
        }
        Ok(Some(keys))
    })
}

/// The keys of the repositories that a token sees, in the order of their names.
fn visible<'a>(state: &'a Everything, owner: &str, only: Option<&BTreeSet<String>>) -> Vec<&'a String> {
    let keys = state.repositories.keys().filter(|key| key.split('/').next() == Some(owner));
    keys.filter(|key| only.is_none_or(|only| only.contains(*key))).collect()
}

pub(super) async fn repositories(
    State(shared): Shares,
    Extension(by): By,
    FromQuery(query): Query,
) -> Answer {
    let Principal::Installation(token) = by else { return Err(ApiError::forbidden()) };
    let url = format!("{}/installation/repositories", shared.base());
    shared.read(|state| {
        let all = visible(state, &token.owner, token.repositories.as_ref());
        let json = |key: &&String| state.repository_json(key);
        Page::from_query(&query).answer("repositories", &all, json, &url, &query)
    })
}

pub(super) async fn organization(
    State(shared): Shares,
    Extension(by): By,
    FromPath(org): Path<String>,
) -> Answer {
    let scope = find_organization(&shared, &org)?;
    by.may(&scope, "metadata", false)?;
    let found = shared.read(|state| {
        let owner = state.owners.get(scope.word())?;
        let mut json = state.writer().organization(owner);
        for (field, value) in [
            ("html_url", json!(format!("{}/{}", shared.base(), owner.login))),
            ("type", json!("Organization")),
            ("has_organization_projects", json!(true)),
            ("has_repository_projects", json!(true)),
            ("public_repos", json!(0)),
            ("public_gists", json!(0)),
            ("followers", json!(0)),
            ("following", json!(0)),
            ("created_at", json!(time(owner.created_at))),
            ("updated_at", json!(time(owner.created_at))),
            ("archived_at", Value::Null),
        ] {
            json[field] = value;
        }
        Some(json)
    });
    ok(found.ok_or_else(ApiError::not_found)?)
}

pub(super) async fn organization_repositories(
    State(shared): Shares,
    Extension(by): By,
    FromPath(org): Path<String>,
    FromQuery(query): Query,
) -> Answer {
    let scope = find_organization(&shared, &org)?;
    by.may(&scope, "metadata", false)?;
    let only = match &by {
        Principal::Installation(token) => token.repositories.as_ref(),
        Principal::App | Principal::Person | Principal::Anonymous => None,
    };
    let url = format!("{}/orgs/{org}/repos", shared.base());
    shared.read(|state| {
        let all = visible(state, scope.word(), only);
        Page::from_query(&query).list(&all, |key: &&String| state.repository_json(key), &url, &query)
    })
}

pub(super) async fn repository(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
) -> Answer {
    let scope = find_repository(&shared, &owner, &repo)?;
    by.may(&scope, "metadata", false)?;
    let Scope::Repository(key) = scope else { return Err(ApiError::not_found()) };
    let mut json = shared.read(|state| state.repository_json(&key));
    json["network_count"] = json!(0);
    json["subscribers_count"] = json!(0);
    ok(json)
}
