//! The HTTP side: takes a request apart, checks what ARM checks for every request, and hands it to a route.
//!
//! Paths are compared without regard to case, as ARM does. Order of the checks: token, api-version, ARM's own rate limit,
//! resource group, then the resource provider's.

pub(crate) mod control;
pub(crate) mod error;
mod group_routes;
pub(crate) mod identity;
mod location_routes;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use self::error::ArmError;
use crate::quota::Access;
use crate::world::World;

/// Largest request body that ARM takes.
const BODY_LIMIT: usize = 4 << 20;

/// What every route gets.
pub(crate) struct Call {
    pub(crate) world: Arc<World>,
    pub(crate) method: Method,
    /// Scheme and authority, for links in answers.
    pub(crate) base: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Call {
    /// An absolute URL of this emulator with the caller's api-version.
    pub(crate) fn link(&self, path: &str) -> String {
        let version = self.query.get("api-version").map_or("", String::as_str);
        format!("{}{path}?api-version={version}", self.base)
    }
}

/// All of the emulator's routes, save the control routes.
pub(crate) fn router(world: Arc<World>) -> Router {
    Router::new().fallback(answer).with_state(world)
}

async fn answer(State(world): State<Arc<World>>, request: Request<Body>) -> Response {
    let mut response = match dispatch(&world, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    let id = format!("00000000-0000-4000-9000-{:012x}", world.lock().next_number());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-ms-request-id", id.clone());
        response.headers_mut().insert("x-ms-correlation-request-id", id);
    }
    response
}

async fn dispatch(world: &Arc<World>, request: Request<Body>) -> Result<Response, ArmError> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = parse_query(head.uri.query().unwrap_or_default());
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        ["msi", "token"] if head.method == Method::GET => {
            return Ok(identity::managed_identity(world, &head.headers, &query));
        }
        [_, "oauth2", "v2.0", "token"] if head.method == Method::POST => return Ok(identity::entra(world)),
        _ => {}
    }
    let token = identity::authenticate(world, &head.headers)?;
    if query.get("api-version").is_none_or(String::is_empty) {
        return Err(ArmError::bad_request(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    }
    let lowered: Vec<String> = segments.iter().map(|segment| segment.to_lowercase()).collect();
    let words: Vec<&str> = lowered.iter().map(String::as_str).collect();
    let (["subscriptions", _, rest @ ..], Some(subscription)) = (words.as_slice(), segments.get(1)) else {
        return Err(unknown(&path));
    };
    let access = if head.method == Method::GET { Access::Read } else { Access::Write };
    let remaining = draw(world, access, subscription, &token)?;
    let bytes = to_bytes(body, BODY_LIMIT).await.map_err(|_| {
        ArmError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge", "At most 4 MB.".to_owned())
    })?;
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| ArmError::bad_request("InvalidRequestContent", format!("Not JSON: {error}.")))?
    };
    let base = base(world, &head.headers);
    let call = Call { world: world.clone(), method: head.method, base, query, body };
    let mut response = route(&call, &path, &segments, subscription, rest)?;
    let name = match access {
        Access::Read => "x-ms-ratelimit-remaining-subscription-reads",
        Access::Write => "x-ms-ratelimit-remaining-subscription-writes",
    };
    response.headers_mut().insert(name, HeaderValue::from(remaining));
    Ok(response)
}

fn route(
    call: &Call,
    path: &str,
    segments: &[&str],
    subscription: &str,
    rest: &[&str],
) -> Result<Response, ArmError> {
    // Names are taken as sent; only the fixed words are compared in lower case.
    let sent = |at: usize| segments.get(at).copied().unwrap_or_default();
    match rest {
        ["providers", "microsoft.containerinstance", "containergroups"] => {
            group_routes::list(call, subscription, None)
        }
        ["providers", "microsoft.containerinstance", "locations", region, what @ ..] => {
            location_routes::route(call, subscription, region, what).ok_or_else(|| unknown(path))?
        }
        [
            "resourcegroups",
            group,
            "providers",
            "microsoft.containerinstance",
            "containergroups",
            within @ ..,
        ] => {
            let known = call.world.options.resource_groups.as_ref();
            if known.is_some_and(|known| !known.iter().any(|name| name.eq_ignore_ascii_case(group))) {
                return Err(ArmError::not_found(
                    "ResourceGroupNotFound",
                    format!("Resource group '{}' could not be found.", sent(3)),
                ));
            }
            match within {
                [] => group_routes::list(call, subscription, Some(sent(3))),
                [_] => group_routes::resource(call, subscription, sent(3), sent(7)),
                [_, action] => group_routes::action(call, subscription, sent(3), sent(7), action),
                [_, "containers", _, what] => {
                    group_routes::container(call, subscription, (sent(3), sent(7)), sent(9), what)
                }
                _ => Err(unknown(path)),
            }
        }
        _ => Err(unknown(path)),
    }
}

fn draw(world: &World, access: Access, subscription: &str, token: &str) -> Result<u32, ArmError> {
    let mut inner = world.lock();
    let limits = inner.limits;
    let caller = format!("{} {token}", subscription.to_lowercase());
    inner.quotas.draw(&caller, access, &limits, world.now()).map_err(|wait| {
        ArmError::too_many(
            &format!("Number of requests for subscription '{subscription}' exceeded the limit."),
            wait,
        )
    })
}

fn base(world: &World, headers: &HeaderMap) -> String {
    let scheme = if world.options.tls.is_some() { "https" } else { "http" };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("{scheme}://{host}")
}

fn unknown(path: &str) -> ArmError {
    ArmError::not_found("InvalidResourceType", format!("The resource type of '{path}' could not be found."))
}

pub(crate) fn method_not_allowed(method: &Method) -> ArmError {
    ArmError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "HttpMethodNotSupported",
        format!("The HTTP method '{method}' is not supported here."),
    )
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// Percent-decoding of a query.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (hex(ahead.next()), hex(ahead.next())) {
                    (Some(high), Some(low)) => {
                        decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                        bytes = ahead;
                    }
                    (Some(_) | None, _) => decoded.push(byte),
                }
            }
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query =
            parse_query("api-version=2023-05-01&resource=https%3A%2F%2Fmanagement.azure.com&bad=%zz&flag");
        assert_eq!(query["api-version"], "2023-05-01");
        assert_eq!(query["resource"], "https://management.azure.com");
        assert_eq!(query["bad"], "%zz");
        assert_eq!(query["flag"], "");
    }
}
