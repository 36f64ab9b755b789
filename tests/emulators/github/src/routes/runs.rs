//! Workflow runs and their jobs: lists, single ones, cancelling, re-running.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path as FromPath, Query as FromQuery, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{By, Path, Query, Shares, allowed, number};
use crate::answer::{Answer, ApiError, Page, ok, query_value, with_status};
use crate::jobs::Rerun;
use crate::model::{Job, Run};
use crate::payload::run_status;
use crate::shared::Shared;
use crate::spec::{Conclusion, RunId};
use crate::state::State as Everything;

/// GitHub lists no more than this when a filter is given.
const LISTED: usize = 1_000;

fn jobs_of<'a>(state: &'a Everything, run: &Run, attempt: u32) -> Vec<&'a Job> {
    run.jobs.iter().filter_map(|id| state.jobs.get(id)).filter(|job| job.attempt == attempt).collect()
}

fn run_json(state: &Everything, run: &Run) -> Value {
    let repository = state.repository_json(&run.repository.to_lowercase());
    let head = state.repository_json(&run.head_repository.to_lowercase());
    state.writer().run(run, &jobs_of(state, run, run.attempt), &repository, &head)
}

fn find_run<'a>(state: &'a Everything, key: &str, id: RunId) -> Result<&'a Run, ApiError> {
    let run = state.runs.get(&id).filter(|run| run.repository.eq_ignore_ascii_case(key));
    run.ok_or_else(ApiError::not_found)
}

pub(super) async fn job(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", false)?;
    let id = number(&id)?;
    let found = shared.read(|state| {
        let job = state.jobs.get(&id).filter(|job| job.repository == key)?;
        Some(state.writer().job(job, state.runs.get(&job.run_id)?))
    });
    ok(found.ok_or_else(ApiError::not_found)?)
}

pub(super) async fn list(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo)): Path<(String, String)>,
    FromQuery(query): Query,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", false)?;
    let is = |name: &str, value: &str| query_value(&query, name).is_none_or(|wanted| wanted == value);
    let wanted = query_value(&query, "status");
    let url = format!("{}/repos/{owner}/{repo}/actions/runs", shared.base());
    shared.read(|state| {
        let newest_first = state.runs.values().rev().filter(|run| run.repository.eq_ignore_ascii_case(&key));
        let found: Vec<&Run> = newest_first
            .filter(|run| {
                is("branch", &run.head_branch) && is("event", &run.event) && is("head_sha", &run.head_sha)
            })
            .filter(|run| {
                wanted.is_none_or(|wanted| {
                    let (status, conclusion) = run_status(&jobs_of(state, run, run.attempt));
                    wanted == status.word() || conclusion.map(Conclusion::word) == Some(wanted)
                })
            })
            .take(LISTED)
            .collect();
        let json = |run: &&Run| run_json(state, run);
        Page::from_query(&query).answer("workflow_runs", &found, json, &url, &query)
    })
}

pub(super) async fn run(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", false)?;
    let id = number(&id)?;
    ok(shared.read(|state| Ok::<_, ApiError>(run_json(state, find_run(state, &key, id)?)))?)
}

pub(super) async fn jobs(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
    FromQuery(query): Query,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", false)?;
    let id = number(&id)?;
    let every = query_value(&query, "filter") == Some("all");
    let url = format!("{}/repos/{owner}/{repo}/actions/runs/{id}/jobs", shared.base());
    shared.read(|state| {
        let run = find_run(state, &key, id)?;
        let all = run.jobs.iter().filter_map(|id| state.jobs.get(id));
        let chosen: Vec<&Job> = all.filter(|job| every || job.attempt == run.attempt).collect();
        let json = |job: &&Job| state.writer().job(job, run);
        Page::from_query(&query).answer("jobs", &chosen, json, &url, &query)
    })
}

pub(super) async fn jobs_of_attempt(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id, attempt)): Path<(String, String, String, String)>,
    FromQuery(query): Query,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", false)?;
    let id = number(&id)?;
    let attempt = u32::try_from(number(&attempt)?).map_err(|_| ApiError::not_found())?;
    let url = format!("{}/repos/{owner}/{repo}/actions/runs/{id}/attempts/{attempt}/jobs", shared.base());
    shared.read(|state| {
        let run = find_run(state, &key, id)?;
        if attempt == 0 || attempt > run.attempt {
            return Err(ApiError::not_found());
        }
        let json = |job: &&Job| state.writer().job(job, run);
        Page::from_query(&query).answer("jobs", &jobs_of(state, run, attempt), json, &url, &query)
    })
}

pub(super) async fn cancel(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", true)?;
    let id = number(&id)?;
    shared.change(|state, now| {
        let run = find_run(state, &key, id)?;
        let jobs: Vec<_> = jobs_of(state, run, run.attempt)
            .into_iter()
            .filter(|job| job.completed_at.is_none())
            .map(|job| job.id)
            .collect();
        if jobs.is_empty() {
            return Err(ApiError::conflict("Cannot cancel a workflow run that is completed."));
        }
        for job in jobs {
            state.cancel_job(job, now).map_err(|error| ApiError::conflict(error.to_string()))?;
        }
        Ok(())
    })?;
    with_status(StatusCode::ACCEPTED, json!({}))
}

fn again(shared: &Arc<Shared>, key: &str, id: RunId, which: Rerun) -> Answer {
    shared.change(|state, now| {
        find_run(state, key, id)?;
        // GitHub's words for a run that is not over yet.
        state.rerun(id, which, now).map_err(|error| {
            ApiError::new(StatusCode::FORBIDDEN, format!("This workflow run cannot be rerun: {error}"))
        })
    })?;
    with_status(StatusCode::CREATED, json!({}))
}

pub(super) async fn rerun(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", true)?;
    again(&shared, &key, number(&id)?, Rerun::All)
}

pub(super) async fn rerun_failed(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", true)?;
    again(&shared, &key, number(&id)?, Rerun::Failed)
}

pub(super) async fn rerun_job(
    State(shared): Shares,
    Extension(by): By,
    FromPath((owner, repo, id)): Path<(String, String, String)>,
) -> Answer {
    let key = allowed(&shared, &by, (&owner, &repo), "actions", true)?;
    let id = number(&id)?;
    let run =
        shared.read(|state| state.jobs.get(&id).filter(|job| job.repository == key).map(|job| job.run_id));
    again(&shared, &key, run.ok_or_else(ApiError::not_found)?, Rerun::One(id))
}
