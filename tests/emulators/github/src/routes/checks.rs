//! Check-runs, which GitHub lets Apps alone write.

use axum::Extension;
use axum::extract::{Path as FromPath, Query as FromQuery, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::app::app_json;
use super::{By, Path, Query, Shares, allowed, number, repository};
use crate::answer::{Answer, ApiError, Page, body, ok, query_value, with_status};
use crate::commits::{CheckRunView, given_time};
use crate::gate::Principal;
use crate::shared::Shared;

const STATUSES: [&str; 3] = ["queued", "in_progress", "completed"];
const CONCLUSIONS: [&str; 7] =
    ["action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"];

#[derive(Deserialize)]
struct Written {
    name: Option<String>,
    head_sha: Option<String>,
    external_id: Option<String>,
    details_url: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
    started_at: Option<String>,
    completed_at: Option<String>,
    output: Option<Output>,
}

#[derive(Deserialize)]
struct Output {
    title: Option<String>,
    summary: Option<String>,
    text: Option<String>,
}

/// The repository's key, where `by` may read (or write) its check-runs.
fn with_checks(
    shared: &Shared,
    by: &Principal,
    (owner, repo): (&str, &str),
    write: bool,
) -> Result<String, ApiError> {
    if write && matches!(by, Principal::Person) {
        repository(shared, owner, repo)?;
        return Err(ApiError::new(StatusCode::FORBIDDEN, "You must authenticate via a GitHub App."));
    }
    allowed(shared, by, (owner, repo), "checks", write)
}

fn missing(field: &str) -> ApiError {
    ApiError::invalid(format!("Invalid request.\n\n\"{field}\" wasn't supplied."))
}

/// Applies what was given, as GitHub does: what is absent stays.
fn apply(run: &mut CheckRunView, given: Written, now: jiff::Timestamp) -> Result<(), ApiError> {
    let of = |field: &str, value: &Option<String>, allowed: &[&str]| match value {
        Some(value) if !allowed.contains(&value.as_str()) => Err(ApiError::invalid(format!(
            "Invalid request.\n\n{value} is not a member of {allowed:?} for {field}."
        ))),
        Some(_) | None => Ok(()),
    };
    of("status", &given.status, &STATUSES)?;
    of("conclusion", &given.conclusion, &CONCLUSIONS)?;
    let completed = given.status.as_deref() == Some("completed") || given.completed_at.is_some();
    if completed && given.conclusion.is_none() {
        return Err(missing("conclusion"));
    }
    for (field, value) in [("started_at", &given.started_at), ("completed_at", &given.completed_at)] {
        if value.as_deref().is_some_and(|value| given_time(value).is_none()) {
            return Err(ApiError::invalid(format!("Invalid request.\n\n{field} is not a valid date-time.")));
        }
    }
    if let Some(output) = given.output {
        let (Some(title), Some(summary)) = (output.title, output.summary) else {
            return Err(missing("output.title and output.summary"));
        };
        if title.chars().count() > 255 || summary.len() > 65_535 {
            return Err(ApiError::invalid("Invalid request.\n\noutput is too long."));
        }
        (run.title, run.summary, run.text) = (Some(title), Some(summary), output.text);
    }
    if let Some(name) = given.name {
        run.name = name;
    }
    run.external_id = given.external_id.or(run.external_id.take());
    run.details_url = given.details_url.or(run.details_url.take());
    run.started_at = given.started_at.as_deref().and_then(given_time).or(run.started_at);
    match (given.conclusion, given.status) {
        (Some(conclusion), _) => {
            run.status = "completed".to_owned();
            run.conclusion = Some(conclusion);
            run.completed_at = given.completed_at.as_deref().and_then(given_time).or(Some(now));
        }
        (None, Some(status)) => {
            run.status = status;
            (run.conclusion, run.completed_at) = (None, None);
        }
        (None, None) => {}
    }
    run.writes += 1;
    Ok(())
}

pub(super) async fn create(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let key = with_checks(&shared, &by, (&owner, &repo), true)?;
    let given: Written = body(&bytes)?;
    let name = given.name.clone().ok_or_else(|| missing("name"))?;
    let sha = given.head_sha.clone().ok_or_else(|| missing("head_sha"))?;
    let made = shared.change(|state, now| {
        if !state.has_commit(&key, &sha) {
            return Err(ApiError::invalid(format!("No commit found for SHA: {sha}")));
        }
        let mut run = CheckRunView {
            id: state.next("job"),
            repository: key.clone(),
            head_sha: sha,
            name,
            external_id: None,
            details_url: None,
            status: "queued".to_owned(),
            conclusion: None,
            started_at: Some(now),
            completed_at: None,
            title: None,
            summary: None,
            text: None,
            writes: 0,
        };
        apply(&mut run, given, now)?;
        state.check_runs.insert(run.id, run.clone());
        Ok(run)
    })?;
    with_status(StatusCode::CREATED, json_of(&shared, &made))
}

pub(super) async fn update(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Answer {
    let key = with_checks(&shared, &by, (&owner, &repo), true)?;
    let (id, given) = (number(&id)?, body::<Written>(&bytes)?);
    let changed = shared.change(|state, now| {
        let run = state.check_runs.get_mut(&id).filter(|run| run.repository == key);
        let run = run.ok_or_else(ApiError::not_found)?;
        let mut after = run.clone();
        apply(&mut after, given, now)?;
        run.clone_from(&after);
        Ok::<_, ApiError>(after)
    })?;
    ok(json_of(&shared, &changed))
}

pub(super) async fn get(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = with_checks(&shared, &by, (&owner, &repo), false)?;
    let id = number(&id)?;
    let found = shared.read(|state| state.check_runs.get(&id).filter(|run| run.repository == key).cloned());
    ok(json_of(&shared, &found.ok_or_else(ApiError::not_found)?))
}

/// The check-runs of a commit: the latest of each name, or all.
pub(super) async fn of_commit(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, sha)): Path<(String, String, String)>,
    FromQuery(query): Query,
) -> Answer {
    let key = with_checks(&shared, &by, (&owner, &repo), false)?;
    let name = query_value(&query, "check_name");
    let every = query_value(&query, "filter") == Some("all");
    let url = format!("{}/repos/{owner}/{repo}/commits/{sha}/check-runs", shared.base());
    let found: Vec<CheckRunView> = shared.read(|state| {
        if !state.has_commit(&key, &sha) {
            return Err(ApiError::invalid(format!("No commit found for SHA: {sha}")));
        }
        let mut found: Vec<CheckRunView> = Vec::new();
        for run in state.check_runs.values().rev() {
            let fits = run.repository == key
                && run.head_sha == sha
                && name.is_none_or(|name| run.name == name)
                && (every || found.iter().all(|newer| newer.name != run.name));
            if fits {
                found.push(run.clone());
            }
        }
        Ok(found)
    })?;
    let render = |run: &CheckRunView| json_of(&shared, run);
    Page::from_query(&query).answer("check_runs", &found, render, &url, &query)
}

fn json_of(shared: &Shared, run: &CheckRunView) -> Value {
    shared.read(|state| state.writer().check_run(run, &app_json(shared, state)))
}
