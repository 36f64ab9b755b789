//! Agents of a pool: lists, registration, changes, deletion.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;

use super::pools::pool_id;
use super::{Asked, By, Shares, manages_pools, number};
use crate::answer::{Answer, ApiError, Pairs, body, ok, query_flag, query_value};
use crate::demand::unmet;
use crate::fleet::Registration;
use crate::model::Agent;
use crate::payload::{AgentParts, list as listed};
use crate::spec::AgentId;
use crate::state::State as World;

fn parts(query: &Pairs) -> AgentParts {
    AgentParts {
        capabilities: query_flag(query, "includeCapabilities"),
        assigned_request: query_flag(query, "includeAssignedRequest"),
        last_request: query_flag(query, "includeLastCompletedRequest"),
    }
}

const ALL: AgentParts = AgentParts { capabilities: true, assigned_request: true, last_request: false };

fn find<'a>(state: &'a World, pool: &str, agent: &str) -> Result<&'a Agent, ApiError> {
    let pool = pool_id(state, pool)?;
    let id = number(agent, "agentId")?;
    state.agents.get(&id).filter(|agent| agent.pool == pool).ok_or_else(|| {
        ApiError::not_found("TaskAgentNotFoundException", format!("No agent found with ID {id}."))
    })
}

fn shown(state: &World, id: AgentId) -> Answer {
    ok(state.agents.get(&id).map(|agent| state.agent_json(agent, ALL)).unwrap_or_default())
}

pub(super) async fn list(State(shared): Shares, Path(pool): Path<String>, Query(query): Asked) -> Answer {
    let name = query_value(&query, "agentName").filter(|name| !name.is_empty());
    let demands: Vec<String> = query_value(&query, "demands")
        .map(|text| text.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    shared.read(|state| {
        let pool = pool_id(state, &pool)?;
        let found = state.agents.values().filter(|agent| {
            agent.pool == pool
                && name.is_none_or(|name| agent.name.eq_ignore_ascii_case(name))
                && (demands.is_empty() || unmet(&demands, &agent.capabilities).is_none())
        });
        ok(listed(found.map(|agent| state.agent_json(agent, parts(&query))).collect()))
    })
}

pub(super) async fn get(
    State(shared): Shares,
    Path((pool, agent)): Path<(String, String)>,
    Query(query): Asked,
) -> Answer {
    shared.read(|state| ok(state.agent_json(find(state, &pool, &agent)?, parts(&query))))
}

/// What a client may say of an agent; more is ignored, as by the service.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentBody {
    id: Option<u64>,
    name: Option<String>,
    version: Option<String>,
    os_description: Option<String>,
    enabled: Option<bool>,
    max_parallelism: Option<u64>,
    user_capabilities: Option<BTreeMap<String, String>>,
    system_capabilities: Option<BTreeMap<String, String>>,
}

impl AgentBody {
    fn registration(self) -> Registration {
        Registration {
            name: self.name.unwrap_or_default(),
            version: self.version,
            os: self.os_description,
            enabled: self.enabled,
            max_parallelism: self.max_parallelism,
            user_capabilities: self.user_capabilities,
            system_capabilities: self.system_capabilities,
        }
    }
}

pub(super) fn taken(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "TaskAgentExistsException",
        format!("The agent name {name} is already in use in this pool."),
    )
}

pub(super) async fn add(
    State(shared): Shares,
    Extension(by): By,
    Path(pool): Path<String>,
    bytes: Bytes,
) -> Answer {
    manages_pools(&by)?;
    let wanted = body::<AgentBody>(&bytes)?.registration();
    if wanted.name.is_empty() {
        return Err(ApiError::bad_request("VssPropertyValidationException", "The agent's name is missing."));
    }
    shared.change(|state, now| {
        let pool = pool_id(state, &pool)?;
        let name = wanted.name.clone();
        let id = state.register(pool, wanted, now).ok_or_else(|| taken(&name))?;
        shown(state, id)
    })
}

pub(super) async fn replace(
    State(shared): Shares,
    Extension(by): By,
    Path((pool, agent)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    change(&shared, &by, (&pool, &agent), &bytes, true)
}

pub(super) async fn update(
    State(shared): Shares,
    Extension(by): By,
    Path((pool, agent)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    change(&shared, &by, (&pool, &agent), &bytes, false)
}

/// Changes an agent; what a body that replaces it leaves out is reset.
fn change(
    shared: &std::sync::Arc<crate::shared::Shared>,
    by: &crate::gate::Caller,
    (pool, agent): (&str, &str),
    bytes: &[u8],
    replaces: bool,
) -> Answer {
    manages_pools(by)?;
    let wanted: AgentBody = body(bytes)?;
    shared.change(|state, now| {
        let found = find(state, pool, agent)?;
        let (id, pool) = (found.id, found.pool);
        if wanted.id.is_some_and(|given| given != id) {
            return Err(ApiError::bad_request(
                "VssPropertyValidationException",
                format!("The body's id is not that of the path, {id}."),
            ));
        }
        let mut wanted = wanted.registration();
        let other = state.agent_named(pool, &wanted.name).is_some_and(|other| other.id != id);
        if other {
            return Err(taken(&wanted.name));
        }
        if replaces {
            wanted.enabled.get_or_insert(true);
            wanted.user_capabilities.get_or_insert_default();
            wanted.system_capabilities.get_or_insert_default();
        }
        state.change_agent(id, wanted, now);
        shown(state, id)
    })
}

pub(super) async fn user_capabilities(
    State(shared): Shares,
    Extension(by): By,
    Path((pool, agent)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    manages_pools(&by)?;
    let given: BTreeMap<String, String> = body(&bytes)?;
    shared.change(|state, now| {
        let id = find(state, &pool, &agent)?.id;
        let wanted = Registration { user_capabilities: Some(given), ..Registration::default() };
        state.change_agent(id, wanted, now);
        shown(state, id)
    })
}

pub(super) async fn delete(
    State(shared): Shares,
    Extension(by): By,
    Path((pool, agent)): Path<(String, String)>,
) -> Answer {
    manages_pools(&by)?;
    shared.change(|state, _| {
        let id = find(state, &pool, &agent)?.id;
        state.delete_agent(id).map_err(|error| {
            ApiError::bad_request("TaskAgentJobStillRunningException", format!("{error}."))
        })?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}
