//! Builds, which are runs of pipelines: lists, cancelling, timelines, retries of stages.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Asked, Shares, Within, number};
use crate::answer::{Answer, ApiError, body, ok, query_value};
use crate::gate::InProject;
use crate::model::Run;
use crate::payload::list as listed;
use crate::state::State as World;

/// A run of the project that the path names, or of any where it names none.
fn find<'a>(state: &'a World, within: &InProject, build: &str) -> Result<&'a Run, ApiError> {
    let id = number(build, "buildId")?;
    let here = |run: &&Run| within.0.as_ref().is_none_or(|project| project.id == run.project.id);
    state.runs.get(&id).filter(here).ok_or_else(|| {
        ApiError::not_found("BuildNotFoundException", format!("The requested build {id} could not be found."))
    })
}

pub(super) async fn list(State(shared): Shares, Extension(within): Within, Query(query): Asked) -> Answer {
    let numbers = |name: &str| -> Option<Vec<u64>> {
        query_value(&query, name)
            .map(|text| text.split(',').filter_map(|id| id.trim().parse().ok()).collect())
    };
    let (ids, definitions) = (numbers("buildIds"), numbers("definitions"));
    // Microsoft's client sends the numbers of these flags.
    let status = query_value(&query, "statusFilter").map(|wanted| match wanted {
        "1" => "inProgress",
        "2" => "completed",
        "4" => "cancelling",
        "8" => "postponed",
        "32" => "notStarted",
        "47" => "all",
        other => other,
    });
    let top = query_value(&query, "$top").and_then(|top| top.parse().ok()).unwrap_or(1000);
    ok(shared.read(|state| {
        let found = state.runs.values().rev().filter(|run| {
            within.0.as_ref().is_none_or(|project| project.id == run.project.id)
                && ids.as_ref().is_none_or(|ids| ids.contains(&run.id))
                && definitions.as_ref().is_none_or(|ids| ids.contains(&run.definition.id))
                && status.is_none_or(|wanted| wanted == "all" || wanted.eq_ignore_ascii_case(run.status()))
        });
        listed(found.take(top).map(|run| state.build_json(run)).collect())
    }))
}

pub(super) async fn get(
    State(shared): Shares,
    Extension(within): Within,
    Path(build): Path<String>,
) -> Answer {
    shared.read(|state| ok(state.build_json(find(state, &within, &build)?)))
}

#[derive(Deserialize)]
struct BuildBody {
    status: Option<Value>,
}

/// Changes a build: only cancelling is known here.
pub(super) async fn update(
    State(shared): Shares,
    Extension(within): Within,
    Path(build): Path<String>,
    bytes: Bytes,
) -> Answer {
    let wanted = body::<BuildBody>(&bytes)?.status.unwrap_or_default();
    let cancels = wanted == 4 || wanted.as_str().is_some_and(|word| word.eq_ignore_ascii_case("cancelling"));
    shared.change(|state, now| {
        let run = find(state, &within, &build)?;
        let (id, status) = (run.id, run.status());
        let refused = |message: String| ApiError::bad_request("BuildStatusInvalidChangeException", message);
        if !cancels {
            return Err(refused(format!(
                "The status of build {id} cannot be changed from {status} to {wanted}."
            )));
        }
        state.cancel_run(id, now).map_err(|error| refused(format!("{error}.")))?;
        ok(state.runs.get(&id).map(|run| state.build_json(run)).unwrap_or_default())
    })
}

pub(super) async fn timeline(
    State(shared): Shares,
    Extension(within): Within,
    Path(build): Path<String>,
) -> Answer {
    shared.read(|state| ok(state.timeline_json(find(state, &within, &build)?)))
}

pub(super) async fn timeline_by_id(
    State(shared): Shares,
    Extension(within): Within,
    Path((build, timeline)): Path<(String, String)>,
) -> Answer {
    shared.read(|state| {
        let run = find(state, &within, &build)?;
        if !run.plan_id.eq_ignore_ascii_case(&timeline) {
            return Err(ApiError::not_found(
                "TimelineNotFoundException",
                format!("The timeline {timeline} of build {} could not be found.", run.id),
            ));
        }
        ok(state.timeline_json(run))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StageBody {
    state: Value,
    #[serde(default)]
    force_retry_all_jobs: bool,
}

/// Cancels a stage or tries it again.
pub(super) async fn update_stage(
    State(shared): Shares,
    Extension(within): Within,
    Path((build, stage)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let wanted: StageBody = body(&bytes)?;
    let says = |number: u64, word: &str| {
        wanted.state == number || wanted.state.as_str().is_some_and(|said| said.eq_ignore_ascii_case(word))
    };
    let refused = |message: String| ApiError::bad_request("StageUpdateException", message);
    shared.change(|state, now| {
        let id = find(state, &within, &build)?.id;
        if says(1, "retry") {
            let made = state.retry_stage(id, &stage, wanted.force_retry_all_jobs, now);
            made.map_err(|error| refused(format!("{error:#}.")))?;
        } else if says(0, "cancel") {
            let requests: Vec<u64> = state.jobs_of_stage(id, &stage).iter().map(|job| job.request).collect();
            for request in requests {
                state.cancel_job(request, now).map_err(|error| refused(format!("{error:#}.")))?;
            }
        } else {
            return Err(refused(format!("A stage cannot be told to {}.", wanted.state)));
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

pub(super) async fn pipeline_run(
    State(shared): Shares,
    Extension(within): Within,
    Path((pipeline, run)): Path<(String, String)>,
) -> Answer {
    let pipeline = number(&pipeline, "pipelineId")?;
    shared.read(|state| {
        let run = find(state, &within, &run)?;
        if run.definition.id != pipeline {
            return Err(ApiError::not_found(
                "PipelineNotFoundException",
                format!("The run {} is not of pipeline {pipeline}.", run.id),
            ));
        }
        ok(state.pipeline_run_json(run))
    })
}
