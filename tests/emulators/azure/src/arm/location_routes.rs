//! `Microsoft.ContainerInstance/locations/{region}`: usages, capabilities, cached images and operations.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

use super::error::{ArmError, seconds};
use super::{Call, method_not_allowed};
use crate::changes;
use crate::groups::ProvisioningState;
use crate::world::{Operation, OperationKind};

/// The answer of `what` below a location; `None` when there is no such thing.
pub(super) fn route(
    call: &Call,
    subscription: &str,
    region: &str,
    what: &[&str],
) -> Option<Result<Response, ArmError>> {
    if call.method != Method::GET {
        return Some(Err(method_not_allowed(&call.method)));
    }
    Some(match what {
        ["usages"] => Ok(Json(usages(call, &subscription.to_lowercase(), region)).into_response()),
        ["capabilities"] => Ok(Json(capabilities(call, region)).into_response()),
        ["cachedimages"] => Ok(Json(json!({ "value": [] })).into_response()),
        ["operations", id] => operation(call, id),
        ["operationresults", id] => operation_result(call, id),
        _ => return None,
    })
}

fn usages(call: &Call, subscription: &str, region: &str) -> Value {
    let inner = call.world.lock();
    let (groups, cores) = changes::usage(&inner, subscription, region);
    let one = |name: &str, localized: &str, current: u32, limit: u32| {
        json!({
            "id": format!(
                "/subscriptions/{subscription}/providers/Microsoft.ContainerInstance/locations/{region}/usages/{name}"
            ),
            "unit": "Count",
            "currentValue": current,
            "limit": limit,
            "name": { "value": name, "localizedValue": localized },
        })
    };
    json!({ "value": [
        one("ContainerGroups", "Container Groups", groups, inner.limits.groups),
        one("StandardCores", "Standard Cores", cores, inner.limits.cores),
    ] })
}

fn capabilities(call: &Call, region: &str) -> Value {
    let limits = call.world.lock().limits;
    let one = |address: &str| {
        json!({
            "resourceType": "containerGroups",
            "osType": "Linux",
            "location": region,
            "ipAddressType": address,
            "gpu": "None",
            "capabilities": { "maxMemoryInGB": limits.group_memory_gb, "maxCpu": limits.group_vcpu, "maxGpuCount": 0 },
        })
    };
    json!({ "value": [one("Public"), one("Private")] })
}

/// How an operation stands: `InProgress`, `Succeeded` or `Failed`.
fn status(call: &Call, id: &str) -> Result<(Operation, &'static str), ArmError> {
    let inner = call.world.lock();
    let operation = inner.operations.get(id).ok_or_else(|| {
        ArmError::not_found("OperationNotFound", format!("The operation '{id}' was not found."))
    })?;
    let group = inner.live.get(&operation.key).filter(|group| group.number == operation.number);
    let status = match (operation.kind, group) {
        (OperationKind::Delete, None) => "Succeeded",
        (OperationKind::Delete, Some(_)) => "InProgress",
        (OperationKind::Deploy, None) => "Failed",
        (OperationKind::Deploy, Some(group)) => match group.provisioning {
            ProvisioningState::Pending | ProvisioningState::Creating => "InProgress",
            ProvisioningState::Succeeded => "Succeeded",
            ProvisioningState::Failed | ProvisioningState::Deleting => "Failed",
        },
    };
    Ok((operation.clone(), status))
}

fn operation(call: &Call, id: &str) -> Result<Response, ArmError> {
    let (operation, status) = status(call, id)?;
    let mut answer = json!({ "id": id, "name": id, "status": status, "startTime": operation.started_at });
    if let ("Failed", Some(answer)) = (status, answer.as_object_mut()) {
        let message = call.world.lock().live.get(&operation.key).and_then(|group| {
            let event = group.events.last()?;
            event.message.split_once(": ").map(|(code, message)| (code.to_owned(), message.to_owned()))
        });
        let (code, message) =
            message.unwrap_or_else(|| ("DeploymentFailed".into(), "The group is gone.".into()));
        answer.insert("error".to_owned(), json!({ "code": code, "message": message }));
    }
    let mut response = Json(answer).into_response();
    if status == "InProgress" {
        add_retry_after(call, &mut response);
    }
    Ok(response)
}

fn operation_result(call: &Call, id: &str) -> Result<Response, ArmError> {
    let (_, status) = status(call, id)?;
    if status != "InProgress" {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut response = StatusCode::ACCEPTED.into_response();
    add_retry_after(call, &mut response);
    Ok(response)
}

fn add_retry_after(call: &Call, response: &mut Response) {
    let wait = call.world.options.scaled(std::time::Duration::from_secs(5));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
}
