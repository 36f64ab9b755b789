//! The gate in front of the REST API: whose organization and project, who asks, how often, in which version.
//!
//! Without good credentials the service answers in three ways, and so does this: a request that says
//! `X-TFS-FedAuthRedirect: Suppress`, as Microsoft's clients do, or that shows a bearer token or an expired secret, gets 401;
//! one that accepts HTML is redirected to the sign-in page; any other gets that page with 203, a success by its number.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emulator_common::ids::guid;
use tower::ServiceExt;

use crate::answer::ApiError;
use crate::locations::{BadVersion, locate};
use crate::model::Project;
use crate::options::{Identity, IdentityKind};
use crate::rate::{Standing, Verdict};
use crate::routes;
use crate::shared::Shared;

/// Who asks, for routes.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Identity);

/// The project that the path names, if it names one.
#[derive(Clone, Debug)]
pub(crate) struct InProject(pub(crate) Option<Project>);

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nothing was shown.
    Absent,
    /// A secret that is nobody's.
    Wrong,
    /// A bearer token that is nobody's.
    WrongBearer,
    /// A secret that is no longer accepted.
    Expired,
}

/// The API behind its gate.
pub(crate) fn service(shared: &Arc<Shared>) -> Router {
    let (shared, api) = (Arc::clone(shared), routes::api(shared));
    Router::new().fallback(move |request: Request| {
        let (shared, api) = (Arc::clone(&shared), api.clone());
        async move { guard(&shared, api, request).await }
    })
}

async fn guard(shared: &Arc<Shared>, api: Router, mut request: Request) -> Response {
    let Some((before, path)) = split(request.uri().path()) else {
        return finish(ApiError::no_route(request.uri().path()).into_response());
    };
    let mut context = before.as_slice();
    if context.first().is_some_and(|first| first.eq_ignore_ascii_case(&shared.options.organization)) {
        context = &context[1..];
    }
    if request.method() != Method::OPTIONS {
        let caller = match identify(shared, request.headers()) {
            Ok(identity) => identity,
            Err(unknown) => return finish(challenge(shared, unknown, request.headers())),
        };
        let project = match context {
            [] => None,
            [name] => match shared.read(|state| state.find_project(name).cloned()) {
                Some(project) => Some(project),
                None => return finish(no_project(name).into_response()),
            },
            [..] => return finish(ApiError::no_route(request.uri().path()).into_response()),
        };
        let reads = request.method() == Method::GET;
        let limits = &shared.options.limits;
        let cost = if reads { limits.read_cost } else { limits.write_cost };
        let now = shared.clock.now();
        let verdict = shared.with_usage(&caller.name, |usage| usage.draw(cost, &shared.options, now));
        if verdict.blocked {
            return finish(with_rate(too_many(&caller), &verdict));
        }
        if !verdict.delay.is_zero() {
            tokio::time::sleep(verdict.delay).await;
        }
        if let Err(error) = check_version(&path, &request, reads) {
            return finish(with_rate(error.into_response(), &verdict));
        }
        request.extensions_mut().insert(Caller(caller));
        request.extensions_mut().insert(InProject(project));
        return finish(with_rate(forward(api, request, &path).await, &verdict));
    }
    finish(forward(api, request, &path).await)
}

/// The segments before `_apis`, and the path from there on, in lower case: routes have no case.
fn split(path: &str) -> Option<(Vec<String>, String)> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let at = segments.iter().position(|segment| segment.eq_ignore_ascii_case("_apis"))?;
    let before = segments.iter().take(at).map(|segment| decoded(segment)).collect();
    let rest: Vec<String> = segments.iter().skip(at).map(|segment| segment.to_lowercase()).collect();
    Some((before, rest.join("/")))
}

/// A path segment without its percent signs.
fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%') {
            Some(value) => {
                plain.push(value);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

async fn forward(api: Router, mut request: Request, path: &str) -> Response {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(uri) = Uri::try_from(format!("/{path}{query}")) else {
        return ApiError::no_route(path).into_response();
    };
    *request.uri_mut() = uri;
    match api.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Who shows these credentials.
pub(crate) fn identify(shared: &Shared, headers: &HeaderMap) -> Result<Identity, Unknown> {
    let Some(given) = headers.get(header::AUTHORIZATION) else { return Err(Unknown::Absent) };
    let given = given.to_str().unwrap_or_default();
    let (scheme, shown) = given.split_once(' ').ok_or(Unknown::Wrong)?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    let secret = if bearer {
        shown.trim().to_owned()
    } else {
        // The user name says nothing; documentation leaves it empty, Microsoft's client writes `PAT`.
        let pair = STANDARD.decode(shown.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        pair.and_then(|pair| Some(pair.split_once(':')?.1.to_owned())).ok_or(Unknown::Wrong)?
    };
    let identities = shared.identities();
    let known = identities.iter().find(|one| match one.kind {
        IdentityKind::PersonalAccessToken => !bearer && one.secret == secret,
        IdentityKind::Entra => one.secret == secret,
        IdentityKind::AnyBearer => false,
    });
    let any = || identities.iter().find(|one| bearer && one.kind == IdentityKind::AnyBearer);
    match known.or_else(any) {
        Some(one) if one.expires_at.is_some_and(|at| at <= shared.clock.now()) => Err(Unknown::Expired),
        Some(one) => Ok(one.clone()),
        None if bearer => Err(Unknown::WrongBearer),
        None => Err(Unknown::Wrong),
    }
}

fn challenge(shared: &Shared, unknown: Unknown, headers: &HeaderMap) -> Response {
    let says = |name: &str, text: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(text))
    };
    let sign_in = format!("{}/_signin", shared.base());
    let suppressed = says("x-tfs-fedauthredirect", "Suppress");
    if suppressed || matches!(unknown, Unknown::WrongBearer | Unknown::Expired) {
        let message = match unknown {
            Unknown::Expired => "Access Denied: The Personal Access Token used has expired.",
            Unknown::Absent | Unknown::Wrong | Unknown::WrongBearer => {
                "TF400813: The user is not authorized to access this resource."
            }
        };
        let mut response =
            ApiError::new(StatusCode::UNAUTHORIZED, "UnauthorizedRequestException", message).into_response();
        let realm = format!("Basic realm=\"{}\"", shared.base());
        for method in ["Bearer", "TFS-Federated", realm.as_str()] {
            if let Ok(value) = HeaderValue::try_from(method) {
                response.headers_mut().append(header::WWW_AUTHENTICATE, value);
            }
        }
        return response;
    }
    if says("accept", "text/html") {
        return (StatusCode::FOUND, [(header::LOCATION, sign_in)]).into_response();
    }
    let page = format!(
        "<html><head><title>Azure DevOps Services | Sign In</title></head><body><a href=\"{sign_in}\">Sign in</a></body></html>"
    );
    (StatusCode::NON_AUTHORITATIVE_INFORMATION, Html(page)).into_response()
}

fn no_project(name: &str) -> ApiError {
    ApiError::not_found(
        "ProjectDoesNotExistWithNameException",
        format!("TF200016: The following project does not exist: {name}."),
    )
}

fn check_version(path: &str, request: &Request, reads: bool) -> Result<(), ApiError> {
    let Some(location) = locate(path) else { return Err(ApiError::no_route(path)) };
    let in_header = |name: HeaderName| {
        let value = request.headers().get(name)?.to_str().ok()?;
        value.split(';').find_map(|part| part.trim().strip_prefix("api-version=").map(str::to_owned))
    };
    let in_query = request.uri().query().unwrap_or_default().split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("api-version").then(|| decoded(value))
    });
    let asked = in_query.or_else(|| in_header(header::ACCEPT)).or_else(|| in_header(header::CONTENT_TYPE));
    location.check_version(asked.as_deref(), reads).map_err(|bad| match bad {
        BadVersion::Missing => ApiError::bad_request(
            "VssVersionNotSpecifiedException",
            format!(
                "No api-version was supplied for the \"{}\" request. The version must be supplied either as part of the Accept header (e.g. \"application/json; api-version=1.0\") or as a query parameter (e.g. \"?api-version=1.0\").",
                request.method()
            ),
        ),
        BadVersion::Malformed(text) => ApiError::bad_request(
            "VssVersionParseException",
            format!("The api-version \"{text}\" is not in a form like \"1.0\" or \"1.0-preview.1\"."),
        ),
        BadVersion::OutOfRange(text) => ApiError::bad_request(
            "VssVersionOutOfRangeException",
            format!("The requested REST API version of {text} is out of range for this server."),
        ),
        BadVersion::Preview(text) => ApiError::bad_request(
            "VssInvalidPreviewVersionException",
            format!(
                "The requested version \"{text}\" of the resource is under preview. The -preview flag must be supplied in the api-version for such requests. For example: \"{text}-preview\""
            ),
        ),
    })
}

fn too_many(caller: &Identity) -> Response {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "RequestBlockedException",
        format!(
            "TF400733: The request has been canceled: Request was blocked due to exceeding usage of resource 'Concurrency' in namespace '{}'.",
            caller.name
        ),
    )
    .into_response()
}

fn with_rate(mut response: Response, verdict: &Verdict) -> Response {
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(Standing { limit, remaining, reset }) = verdict.standing {
        set("x-ratelimit-resource", "core".to_owned());
        set("x-ratelimit-limit", limit.to_string());
        set("x-ratelimit-remaining", remaining.to_string());
        set("x-ratelimit-reset", reset.to_string());
        set("x-ratelimit-delay", format!("{:.3}", verdict.delay.as_secs_f64()));
    }
    if let Some(after) = verdict.retry_after {
        set("retry-after", after.to_string());
    }
    response
}

/// Headers of every answer.
fn finish(mut response: Response<Body>) -> Response {
    let activity = guid();
    for name in ["activityid", "x-tfs-session", "x-vss-e2eid"] {
        if let Ok(value) = HeaderValue::try_from(activity.as_str()) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response.headers_mut().insert("x-tfs-processid", HeaderValue::from_static("emulator"));
    response
}
