//! Agent pools and the requests of jobs for agents.

use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;

use super::{Asked, Shares, number};
use crate::answer::{Answer, ApiError, Pairs, ok, query_number, query_value};
use crate::model::Job;
use crate::payload::list as listed;
use crate::spec::PoolId;
use crate::state::State as World;

/// The most requests that one answer holds, as installations have found.
const MOST_REQUESTS: usize = 200;
/// How many completed requests are told where the query does not say.
const COMPLETED: u64 = 25;

/// The pool of a path.
pub(super) fn pool_id(state: &World, text: &str) -> Result<PoolId, ApiError> {
    let id = number(text, "poolId")?;
    if state.pools.contains_key(&id) {
        return Ok(id);
    }
    Err(ApiError::not_found("TaskAgentPoolNotFoundException", format!("No pool found with ID {id}.")))
}

pub(super) async fn list(State(shared): Shares, Query(query): Asked) -> Answer {
    let wanted = query_value(&query, "poolName").filter(|name| !name.is_empty());
    let ids: Option<Vec<u64>> =
        query_value(&query, "poolIds").map(|ids| ids.split(',').filter_map(|id| id.parse().ok()).collect());
    ok(shared.read(|state| {
        let found = state.pools.values().filter(|pool| {
            wanted.is_none_or(|name| {
                emulator_common::glob_matches(&name.to_lowercase(), &pool.name.to_lowercase())
            }) && ids.as_ref().is_none_or(|ids| ids.contains(&pool.id))
        });
        listed(found.map(|pool| state.pool_json(pool)).collect())
    }))
}

pub(super) async fn get(State(shared): Shares, Path(pool): Path<String>) -> Answer {
    shared.read(|state| {
        let id = pool_id(state, &pool)?;
        let pool = state.pools.get(&id).map(|pool| state.pool_json(pool));
        ok(pool.unwrap_or_default())
    })
}

/// Which requests a query asks for.
struct Wanted {
    agents: Option<Vec<u64>>,
    plan: Option<String>,
    job: Option<String>,
    completed: u64,
    top: Option<u64>,
    before: Option<u64>,
}

impl Wanted {
    fn from_query(query: &Pairs) -> Result<Self, ApiError> {
        let ids = query_value(query, "agentIds").or_else(|| query_value(query, "agentId"));
        let text = |name| query_value(query, name).map(str::to_owned);
        Ok(Self {
            agents: ids.map(|ids| ids.split(',').filter_map(|id| id.parse().ok()).collect()),
            plan: text("planId"),
            job: text("jobId"),
            completed: query_number(query, "completedRequestCount")?.unwrap_or(COMPLETED),
            top: query_number(query, "$top")?,
            before: query_number(query, "continuationToken")?,
        })
    }

    fn fits(&self, state: &World, job: &Job, pool: PoolId) -> bool {
        let reserved = job.agent.as_ref().map(|(id, _)| *id);
        let plan = state.runs.get(&job.run).map(|run| run.plan_id.as_str());
        job.pool == pool
            && self.agents.as_ref().is_none_or(|ids| reserved.is_some_and(|id| ids.contains(&id)))
            && self
                .plan
                .as_deref()
                .is_none_or(|wanted| plan.is_some_and(|id| id.eq_ignore_ascii_case(wanted)))
            && self.job.as_ref().is_none_or(|wanted| job.job_id.eq_ignore_ascii_case(wanted))
    }
}

pub(super) async fn requests(State(shared): Shares, Path(pool): Path<String>, Query(query): Asked) -> Answer {
    let wanted = Wanted::from_query(&query)?;
    let blank = shared.change(|state, _| {
        let id = pool_id(state, &pool)?;
        let pool = state.pools.get_mut(&id).filter(|pool| pool.blank_lists > 0);
        Ok(pool.map(|pool| pool.blank_lists -= 1).is_some())
    })?;
    if blank {
        return ok(listed(Vec::new()));
    }
    let (page, next) = shared.read(|state| {
        let pool = pool_id(state, &pool)?;
        let all: Vec<&Job> = state.jobs.values().filter(|job| wanted.fits(state, job, pool)).collect();
        Ok(match wanted.top {
            Some(top) => newest(state, &all, &wanted, top),
            None => (unfinished_and_some(state, &all, wanted.completed), None),
        })
    })?;
    let mut response = ok(listed(page))?;
    if let Some(next) = next {
        response.headers_mut().insert("x-ms-continuationtoken", HeaderValue::from(next));
    }
    Ok(response)
}

/// All that have not ended and the newest of those that have, oldest first, as far as one answer goes.
fn unfinished_and_some(state: &World, all: &[&Job], completed: u64) -> Vec<serde_json::Value> {
    let ended = all.iter().filter(|job| job.result.is_some()).count();
    let hidden = ended.saturating_sub(usize::try_from(completed).unwrap_or(usize::MAX));
    let mut seen = 0;
    let told = all.iter().filter(|job| {
        seen += usize::from(job.result.is_some());
        job.result.is_none() || seen > hidden
    });
    told.take(MOST_REQUESTS).map(|job| state.request_json(job, true)).collect()
}

/// A page of all, newest first, without matched agents; and where the next one begins.
fn newest(state: &World, all: &[&Job], wanted: &Wanted, top: u64) -> (Vec<serde_json::Value>, Option<u64>) {
    let size = usize::try_from(top).unwrap_or(MOST_REQUESTS).min(MOST_REQUESTS);
    let older = all.iter().rev().filter(|job| wanted.before.is_none_or(|before| job.request < before));
    let page: Vec<&&Job> = older.take(size + 1).collect();
    let next = if page.len() > size { page.get(size - 1).map(|job| job.request) } else { None };
    (page.iter().take(size).map(|job| state.request_json(job, false)).collect(), next)
}

pub(super) async fn request(State(shared): Shares, Path((pool, request)): Path<(String, String)>) -> Answer {
    let request = number(&request, "requestId")?;
    shared.read(|state| {
        let pool = pool_id(state, &pool)?;
        let job = state.jobs.get(&request).filter(|job| job.pool == pool).ok_or_else(|| {
            ApiError::not_found(
                "TaskAgentJobNotFoundException",
                format!("No job request found with ID {request} in pool {pool}."),
            )
        })?;
        ok(state.request_json(job, true))
    })
}
