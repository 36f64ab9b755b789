//! Subscriptions of service hooks: made, listed, changed, deleted, and their notifications.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, By, Shares};
use crate::answer::{Answer, ApiError, body, ok, query_value};
use crate::events::EVENT_TYPES;
use crate::hooks::{HookStatus, NotificationView, SubscriptionSpec, SubscriptionView};
use crate::payload::{list as listed, time};
use crate::state::stable_guid;

fn wrong(message: String) -> ApiError {
    ApiError::bad_request("SubscriptionInputException", message)
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("SubscriptionNotFoundException", format!("The subscription {id} could not be found."))
}

/// # Errors
/// Publisher, event or consumer are not known, or there is no address.
pub(crate) fn validate(spec: &SubscriptionSpec) -> Result<(), ApiError> {
    if spec.publisher_id != "pipelines" {
        return Err(wrong(format!("There is no publisher {:?} here: use pipelines.", spec.publisher_id)));
    }
    if !EVENT_TYPES.contains(&spec.event_type.as_str()) {
        return Err(wrong(format!("The publisher pipelines has no event {:?}.", spec.event_type)));
    }
    if (spec.consumer_id.as_str(), spec.consumer_action_id.as_str()) != ("webHooks", "httpRequest") {
        return Err(wrong(format!("There is no consumer {:?} here: use webHooks.", spec.consumer_id)));
    }
    let url = spec.consumer_inputs.get("url").map(String::as_str).unwrap_or_default();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(wrong(format!("The consumer's url {url:?} is not an address.")));
    }
    Ok(())
}

fn json_of(base: &str, hook: &SubscriptionView, by: &str) -> Value {
    let mut consumer = json!(hook.spec.consumer_inputs);
    for secret in ["basicAuthPassword", "httpHeaders"] {
        if hook.spec.consumer_inputs.get(secret).is_some_and(|value| !value.is_empty()) {
            consumer[secret] = json!("********");
        }
    }
    json!({
        "id": hook.id,
        "url": format!("{base}/_apis/hooks/subscriptions/{}", hook.id),
        "status": hook.status,
        "publisherId": hook.spec.publisher_id,
        "eventType": hook.spec.event_type,
        "subscriber": null,
        "resourceVersion": hook.spec.resource_version.as_deref().unwrap_or("5.1-preview.1"),
        "eventDescription": "Any change of state",
        "consumerId": hook.spec.consumer_id,
        "consumerActionId": hook.spec.consumer_action_id,
        "actionDescription": format!("To host {}", host(&hook.spec)),
        "createdBy": {"id": stable_guid(by)},
        "createdDate": time(hook.created_at),
        "modifiedBy": {"id": stable_guid(by)},
        "modifiedDate": time(hook.modified_at),
        "publisherInputs": hook.spec.publisher_inputs,
        "consumerInputs": consumer,
        "_links": {
            "self": {"href": format!("{base}/_apis/hooks/subscriptions/{}", hook.id)},
            "notifications": {"href": format!("{base}/_apis/hooks/subscriptions/{}/notifications", hook.id)},
        },
    })
}

fn host(spec: &SubscriptionSpec) -> &str {
    let url = spec.consumer_inputs.get("url").map(String::as_str).unwrap_or_default();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or_default()
}

pub(super) async fn list(State(shared): Shares, Extension(by): By, Query(query): Asked) -> Answer {
    let base = shared.base();
    let is = |name: &str, value: &str| {
        query_value(&query, name).is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    ok(shared.read(|state| {
        let found = state.hooks.subscriptions.values().filter(|hook| {
            is("publisherId", &hook.spec.publisher_id)
                && is("eventType", &hook.spec.event_type)
                && is("consumerId", &hook.spec.consumer_id)
                && is("consumerActionId", &hook.spec.consumer_action_id)
        });
        listed(found.map(|hook| json_of(&base, hook, &by.0.name)).collect())
    }))
}

pub(super) async fn create(State(shared): Shares, Extension(by): By, bytes: Bytes) -> Answer {
    let spec: SubscriptionSpec = body(&bytes)?;
    validate(&spec)?;
    let base = shared.base();
    shared.change(|state, now| {
        let id = state.hooks.add(spec, now);
        let made = state.hooks.subscriptions.get(&id).map(|hook| json_of(&base, hook, &by.0.name));
        ok(made.unwrap_or_default())
    })
}

pub(super) async fn get(State(shared): Shares, Extension(by): By, Path(id): Path<String>) -> Answer {
    let base = shared.base();
    let found =
        shared.read(|state| state.hooks.subscriptions.get(&id).map(|hook| json_of(&base, hook, &by.0.name)));
    ok(found.ok_or_else(|| not_found(&id))?)
}

#[derive(Deserialize)]
struct NewStatus {
    status: Option<HookStatus>,
}

/// Replaces a subscription; one that was on probation or disabled is enabled again unless the body says otherwise. A
/// secret that is written as it is read stays as it was.
pub(super) async fn replace(
    State(shared): Shares,
    Extension(by): By,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer {
    let mut spec: SubscriptionSpec = body(&bytes)?;
    let status = body::<NewStatus>(&bytes)?.status;
    validate(&spec)?;
    let base = shared.base();
    shared.change(|state, now| {
        let hook = state.hooks.subscriptions.get_mut(&id).ok_or_else(|| not_found(&id))?;
        for (name, value) in &mut spec.consumer_inputs {
            if value == "********" {
                *value = hook.spec.consumer_inputs.get(name).cloned().unwrap_or_default();
            }
        }
        (hook.spec, hook.modified_at) = (spec, now);
        hook.status = match status {
            Some(HookStatus::DisabledByUser) => HookStatus::DisabledByUser,
            Some(HookStatus::Enabled | HookStatus::OnProbation | HookStatus::DisabledBySystem) | None => {
                HookStatus::Enabled
            }
        };
        ok(json_of(&base, hook, &by.0.name))
    })
}

pub(super) async fn delete(State(shared): Shares, Path(id): Path<String>) -> Answer {
    if shared.change(|state, _| state.hooks.remove(&id)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(not_found(&id))
}

pub(super) async fn notifications(State(shared): Shares, Path(id): Path<String>) -> Answer {
    shared.read(|state| {
        if !state.hooks.subscriptions.contains_key(&id) {
            return Err(not_found(&id));
        }
        let of_it = state.hooks.notifications().filter(|one| one.subscription_id == id);
        Ok(Json(listed(of_it.map(notification_json).collect())).into_response())
    })
}

fn notification_json(one: &NotificationView) -> Value {
    let (status, result) = match (one.completed, one.succeeded) {
        (true, true) => ("completed", "succeeded"),
        (true, false) => ("completed", "failed"),
        (false, _) if one.attempts == 0 => ("queued", "pending"),
        (false, _) => ("processing", "pending"),
    };
    json!({
        "id": one.id,
        "subscriptionId": one.subscription_id,
        "eventId": one.body["id"],
        "status": status,
        "result": result,
        "createdDate": time(one.created_at),
        "details": {
            "eventType": one.event_type,
            "requestAttempts": one.attempts,
            "response": one.last_status.map(|status| status.to_string()),
            "event": one.body,
        },
    })
}
