//! How clients find their way: resource locations and areas, who they are, projects.

use axum::Extension;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{By, Shares};
use crate::answer::{Answer, ApiError, ok};
use crate::locations::{AREAS, LOCATIONS};
use crate::payload::list;
use crate::state::stable_guid;

pub(super) async fn locations(Path(area): Path<String>) -> Answer {
    let here = LOCATIONS.iter().filter(|location| location.area.eq_ignore_ascii_case(&area));
    ok(list(here.map(crate::locations::Location::json).collect()))
}

fn area_json(base: &str, (id, name): (&str, &str)) -> Value {
    json!({"id": id, "name": name, "locationUrl": format!("{base}/")})
}

pub(super) async fn areas(State(shared): Shares) -> Answer {
    let base = shared.base();
    ok(list(AREAS.iter().map(|area| area_json(&base, *area)).collect()))
}

pub(super) async fn area(State(shared): Shares, Path(id): Path<String>) -> Answer {
    match AREAS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&id)) {
        Some(area) => ok(area_json(&shared.base(), *area)),
        None => Err(ApiError::no_route(&id)),
    }
}

pub(super) async fn connection(State(shared): Shares, Extension(by): By) -> Answer {
    let user = json!({
        "id": stable_guid(&by.0.name),
        "providerDisplayName": by.0.name,
        "isActive": true,
        "properties": {},
    });
    ok(json!({
        "authenticatedUser": user,
        "authorizedUser": user,
        "instanceId": shared.read(|state| state.organization_id.clone()),
        "deploymentType": "hosted",
        "locationServiceData": {"serviceOwner": stable_guid("service owner"), "clientCacheFresh": false},
    }))
}

pub(super) async fn projects(State(shared): Shares) -> Answer {
    ok(shared.read(|state| list(state.projects.iter().map(|project| state.project_json(project)).collect())))
}

pub(super) async fn project(State(shared): Shares, Path(wanted): Path<String>) -> Answer {
    let found = shared.read(|state| state.find_project(&wanted).map(|project| state.project_json(project)));
    ok(found.ok_or_else(|| {
        ApiError::not_found(
            "ProjectDoesNotExistWithNameException",
            format!("TF200016: The following project does not exist: {wanted}."),
        )
    })?)
}
