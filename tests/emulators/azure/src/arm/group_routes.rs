//! `Microsoft.ContainerInstance/containerGroups`: the resource itself, its actions, its lists, its containers' logs.

use std::sync::PoisonError;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

use super::error::{ArmError, seconds};
use super::{Call, method_not_allowed};
use crate::changes::{self, Action, Delete, Put};
use crate::groups::{Group, GroupKey, view};
use crate::options::DeleteAnswer;

/// How often ACI asks clients to poll, before scaling.
const POLL: Duration = Duration::from_secs(5);

/// PUT, PATCH, GET and DELETE of one group.
pub(super) fn resource(
    call: &Call,
    subscription: &str,
    resource_group: &str,
    name: &str,
) -> Result<Response, ArmError> {
    let key = GroupKey::new(subscription, resource_group, name);
    match call.method {
        Method::GET => Ok(Json(shown(call, &key)?).into_response()),
        Method::PUT => {
            let done = changes::put(&call.world, subscription, resource_group, name, &call.body)?;
            let (status, operation) = match done {
                Put::Created { operation } => (StatusCode::CREATED, Some(operation)),
                Put::Updated { operation } => (StatusCode::OK, Some(operation)),
                Put::Unchanged => (StatusCode::OK, None),
            };
            let mut response = (status, Json(shown(call, &key)?)).into_response();
            if let Some(operation) = operation {
                add_polling(call, &mut response, &key, &operation, false);
            }
            Ok(response)
        }
        Method::PATCH => {
            {
                let mut inner = call.world.lock();
                let group = inner.live.get_mut(&key).ok_or_else(|| ArmError::group_not_found(&key))?;
                if call.body.get("tags").is_some() {
                    group.tags = changes::tags(&call.body);
                }
            }
            call.world.changed();
            Ok(Json(shown(call, &key)?).into_response())
        }
        Method::DELETE => delete(call, &key),
        _ => Err(method_not_allowed(&call.method)),
    }
}

fn shown(call: &Call, key: &GroupKey) -> Result<Value, ArmError> {
    let inner = call.world.lock();
    let group = inner.live.get(key).ok_or_else(|| ArmError::group_not_found(key))?;
    Ok(view::arm(group, true))
}

fn delete(call: &Call, key: &GroupKey) -> Result<Response, ArmError> {
    let answer = call.world.options.delete_answer;
    Ok(match (changes::delete(&call.world, key)?, answer) {
        (Delete::Absent, _) => StatusCode::NO_CONTENT.into_response(),
        (Delete::Lost { shown }, _) | (Delete::Begun { shown, .. }, DeleteAnswer::Ok) => {
            Json(shown).into_response()
        }
        (Delete::Begun { operation, .. }, DeleteAnswer::Accepted) => {
            let mut response = StatusCode::ACCEPTED.into_response();
            add_polling(call, &mut response, key, &operation, true);
            response
        }
    })
}

/// Where to ask how an operation goes on, and how soon.
fn add_polling(call: &Call, response: &mut Response, key: &GroupKey, operation: &str, location: bool) {
    let region = call.world.lock().live.get(key).map(|group| group.location.clone()).unwrap_or_default();
    let provider = format!("/subscriptions/{}/providers/Microsoft.ContainerInstance", key.subscription);
    let link = |what: &str| call.link(&format!("{provider}/locations/{region}/{what}/{operation}"));
    let wait = HeaderValue::from(seconds(call.world.options.scaled(POLL)));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&link("operations")) {
        headers.insert(HeaderName::from_static("azure-asyncoperation"), value);
    }
    if location && let Ok(value) = HeaderValue::from_str(&link("operationResults")) {
        headers.insert(header::LOCATION, value);
    }
    headers.insert(header::RETRY_AFTER, wait);
}

/// `POST …/stop`, `/start`, `/restart`.
pub(super) fn action(
    call: &Call,
    subscription: &str,
    resource_group: &str,
    name: &str,
    action: &str,
) -> Result<Response, ArmError> {
    let key = GroupKey::new(subscription, resource_group, name);
    let action = match action {
        "stop" => Action::Stop,
        "start" => Action::Start,
        "restart" => Action::Restart,
        // In no network of anybody's, so nothing goes out.
        "outboundnetworkdependenciesendpoints" => return Ok(Json(json!([])).into_response()),
        other => {
            return Err(ArmError::not_found("InvalidResourceType", format!("There is no action '{other}'.")));
        }
    };
    if call.method != Method::POST {
        return Err(method_not_allowed(&call.method));
    }
    let operation = changes::act(&call.world, &key, action)?;
    Ok(match action {
        Action::Stop | Action::Restart => StatusCode::NO_CONTENT.into_response(),
        Action::Start => {
            let mut response = StatusCode::ACCEPTED.into_response();
            add_polling(call, &mut response, &key, &operation, true);
            response
        }
    })
}

/// One page of the groups of a subscription, or of a resource group in it.
pub(super) fn list(
    call: &Call,
    subscription: &str,
    resource_group: Option<&str>,
) -> Result<Response, ArmError> {
    if call.method != Method::GET {
        return Err(method_not_allowed(&call.method));
    }
    let wanted = GroupKey::new(subscription, resource_group.unwrap_or_default(), "");
    let inner = call.world.lock();
    let belongs = |key: &GroupKey| {
        key.subscription == wanted.subscription
            && (resource_group.is_none() || key.resource_group == wanted.resource_group)
    };
    // The token names the last group of the page before, so that a page does not shift when a group goes meanwhile.
    let after = call.query.get("$skiptoken").and_then(|token| token.split_once('/'));
    let after = after.map(|(group, name)| GroupKey::new(subscription, group, name));
    let mut rest = inner
        .live
        .iter()
        .filter(|(key, _)| belongs(key) && after.as_ref().is_none_or(|after| *key > after))
        .peekable();
    let page: Vec<(&GroupKey, &Group)> = rest.by_ref().take(call.world.options.page_size.max(1)).collect();
    let mut answer =
        json!({ "value": page.iter().map(|(_, group)| view::arm(group, false)).collect::<Vec<_>>() });
    if let (Some(_), Some((last, _)), Some(answer)) = (rest.peek(), page.last(), answer.as_object_mut()) {
        let scope = resource_group.map(|group| format!("/resourceGroups/{group}")).unwrap_or_default();
        let path = format!(
            "/subscriptions/{subscription}{scope}/providers/Microsoft.ContainerInstance/containerGroups"
        );
        let next = format!("{}&$skiptoken={}/{}", call.link(&path), last.resource_group, last.name);
        answer.insert("nextLink".to_owned(), json!(next));
    }
    Ok(Json(answer).into_response())
}

/// `…/containers/{container}/logs`, `/exec` and `/attach`.
pub(super) fn container(
    call: &Call,
    subscription: &str,
    (resource_group, name): (&str, &str),
    container: &str,
    what: &str,
) -> Result<Response, ArmError> {
    let key = GroupKey::new(subscription, resource_group, name);
    let mut inner = call.world.lock();
    let group = inner.live.get_mut(&key).ok_or_else(|| ArmError::group_not_found(&key))?;
    let found = group.container_mut(container).ok_or_else(|| {
        ArmError::not_found(
            "ContainerNotFound",
            format!("The container '{container}' in container group '{name}' was not found."),
        )
    })?;
    match what {
        "logs" if call.method == Method::GET => {
            let tail = call.query.get("tail").and_then(|tail| tail.parse().ok());
            let timestamps =
                call.query.get("timestamps").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let logs = found.logs.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(Json(json!({ "content": logs.text(tail, timestamps) })).into_response())
        }
        "exec" | "attach" if call.method == Method::POST => Err(ArmError::bad_request(
            "ContainerExecNotSupported",
            "The emulator has no interactive sessions.",
        )),
        "logs" | "exec" | "attach" => Err(method_not_allowed(&call.method)),
        other => Err(ArmError::not_found("InvalidResourceType", format!("Containers have no '{other}'."))),
    }
}
