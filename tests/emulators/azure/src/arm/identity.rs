//! Where tokens come from: a managed identity endpoint in App Service's manner (what `IDENTITY_ENDPOINT` and
//! `IDENTITY_HEADER` name; azure_identity's `ManagedIdentityCredential` calls it), and a token endpoint like Entra's.
//!
//! `expires_on` is a string of Unix seconds, as App Service documents it and azure_identity insists.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use serde_json::json;

use super::error::ArmError;
use crate::options::Bearer;
use crate::world::World;

const API_VERSION: &str = "2019-08-01";

/// Tokens that were issued, and until when they are valid.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: BTreeMap<String, Timestamp>,
}

fn issue(world: &World) -> (String, Timestamp) {
    let mut inner = world.lock();
    let now = world.now();
    let expires = now.checked_add(world.options.token_lifetime).unwrap_or(now);
    let token = format!("emulated-token-{}-{}", inner.next_number(), now.as_nanosecond());
    inner.tokens.issued.insert(token.clone(), expires);
    (token, expires)
}

/// `GET /msi/token?resource=…&api-version=2019-08-01` with `X-IDENTITY-HEADER`.
pub(crate) fn managed_identity(
    world: &World,
    headers: &HeaderMap,
    query: &BTreeMap<String, String>,
) -> Response {
    let refuse = |status: StatusCode, message: &str| {
        (status, Json(json!({ "statusCode": status.as_u16(), "message": message }))).into_response()
    };
    let given = headers.get("x-identity-header").and_then(|value| value.to_str().ok());
    match given {
        None => return refuse(StatusCode::BAD_REQUEST, "The X-IDENTITY-HEADER header is missing."),
        Some(value) if value != world.options.identity_header => {
            return refuse(StatusCode::UNAUTHORIZED, "The X-IDENTITY-HEADER header is wrong.");
        }
        Some(_) => {}
    }
    if query.get("api-version").map(String::as_str) != Some(API_VERSION) {
        return refuse(StatusCode::BAD_REQUEST, "The api-version must be 2019-08-01.");
    }
    let Some(resource) = query.get("resource").filter(|resource| !resource.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "The resource is missing.");
    };
    let (token, expires) = issue(world);
    Json(json!({
        "access_token": token,
        "expires_on": expires.as_second().to_string(),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": query.get("client_id").map_or("00000000-0000-0000-0000-00000000c11e", String::as_str),
    }))
    .into_response()
}

/// `POST /{tenant}/oauth2/v2.0/token`: any client gets a token.
pub(crate) fn entra(world: &World) -> Response {
    let (token, expires) = issue(world);
    let seconds = expires.duration_since(world.now()).as_secs();
    Json(json!({ "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token }))
        .into_response()
}

/// The bearer token of a request, when it is acceptable.
pub(crate) fn authenticate(world: &World, headers: &HeaderMap) -> Result<String, ArmError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(header) = header else {
        return Err(ArmError::unauthorized(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
        ));
    };
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            token.trim()
        }
        Some(_) | None => {
            return Err(ArmError::unauthorized(
                "AuthenticationFailedInvalidHeader",
                "Authentication failed. The 'Authorization' header is provided in an invalid format.",
            ));
        }
    };
    match world.lock().tokens.issued.get(token) {
        Some(expires) if *expires <= world.now() => Err(ArmError::unauthorized(
            "ExpiredAuthenticationToken",
            "The access token expiry UTC time is earlier than now.",
        )),
        None if world.options.bearer == Bearer::Issued => {
            Err(ArmError::unauthorized("InvalidAuthenticationToken", "The access token is invalid."))
        }
        Some(_) | None => Ok(token.to_owned()),
    }
}
