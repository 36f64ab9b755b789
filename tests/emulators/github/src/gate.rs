//! The gate in front of the REST API: who asks, whether they may, and how often they have asked.
//!
//! The order is GitHub's: a user agent, then credentials, then limits, then permissions (which each route checks).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State as Extracted};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use emulator_common::ids::random_hex;
use http_body_util::BodyExt;
use jiff::Timestamp;

use crate::answer::ApiError;
use crate::crypto::{JwtError, fingerprint, verify_app_jwt};
use crate::model::Scope;
use crate::rate::{Buckets, Refusal, Resource, Standing};
use crate::shared::Shared;

/// An installation's token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) owner: String,
    pub(crate) installation: u64,
    pub(crate) expires_at: Timestamp,
    pub(crate) permissions: BTreeMap<String, String>,
    /// The repositories (keys) that it is confined to.
    pub(crate) repositories: Option<BTreeSet<String>>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// The App itself, by a JSON web token.
    App,
    /// One of its installations.
    Installation(Arc<Token>),
    /// The person whose token is configured.
    Person,
    /// Nobody.
    Anonymous,
}

impl Principal {
    fn client(&self) -> String {
        match self {
            Self::App => "app".to_owned(),
            Self::Installation(token) => format!("installation {}", token.installation),
            Self::Person => "person".to_owned(),
            Self::Anonymous => "anonymous".to_owned(),
        }
    }

    pub(crate) fn is_app(&self) -> Result<(), ApiError> {
        match self {
            Self::App => Ok(()),
            Self::Installation(_) | Self::Person | Self::Anonymous => {
                Err(ApiError::unauthorized("A JSON web token could not be decoded"))
            }
        }
    }

    /// Whether it may use `permission` (read, or write) on an organization or a repository, by their keys.
    pub(crate) fn may(&self, scope: &Scope, permission: &str, write: bool) -> Result<(), ApiError> {
        let token = match self {
            Self::Person => return Ok(()),
            Self::Anonymous => return Err(ApiError::unauthorized("Requires authentication")),
            Self::App => return Err(ApiError::forbidden()),
            Self::Installation(token) => token,
        };
        let visible = match scope {
            Scope::Organization(owner) => *owner == token.owner,
            Scope::Repository(key) => {
                key.split('/').next() == Some(token.owner.as_str())
                    && token.repositories.as_ref().is_none_or(|only| only.contains(key))
            }
        };
        if !visible {
            return Err(ApiError::not_found());
        }
        match token.permissions.get(permission).map(String::as_str) {
            Some("write" | "admin") => Ok(()),
            Some("read") if !write => Ok(()),
            Some(_) | None => Err(ApiError::forbidden()),
        }
    }
}

/// Tokens and buckets.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tokens: HashMap<String, Arc<Token>>,
    buckets: Buckets,
    in_flight: HashMap<String, u32>,
}

impl Gate {
    /// Makes a token.
    pub(crate) fn issue(&self, token: Token, now: Timestamp) -> String {
        let text = format!("ghs_{}", random_hex(18));
        let mut inner = self.lock();
        inner.tokens.retain(|_, token| token.expires_at > now);
        inner.tokens.insert(text.clone(), Arc::new(token));
        text
    }

    /// Forgets every token, as when the App is reinstalled.
    pub(crate) fn revoke_all(&self) {
        self.lock().tokens.clear();
    }

    pub(crate) fn with_buckets<T>(&self, with: impl FnOnce(&mut Buckets) -> T) -> T {
        with(&mut self.lock().buckets)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a request as under way until it is dropped.
struct UnderWay {
    shared: Arc<Shared>,
    client: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut inner = self.shared.gate.lock();
        if let Some(count) = inner.in_flight.get_mut(&self.client) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The client whose buckets a principal draws from: registrations are limited per App, the rest per installation.
pub(crate) fn client_of(principal: &Principal, resource: Resource) -> String {
    match (principal, resource) {
        (Principal::Installation(_), Resource::Registration) => "app".to_owned(),
        (Principal::App | Principal::Installation(_) | Principal::Person | Principal::Anonymous, _) => {
            principal.client()
        }
    }
}

/// The middleware.
pub(crate) async fn guard(
    Extracted(shared): Extracted<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let asked = request.headers().get(header::IF_NONE_MATCH).cloned();
    let cacheable = request.method() == Method::GET;
    let (principal, resource) = match admit(&shared, &request) {
        Ok(admitted) => admitted,
        Err(error) => return finish(&shared, error.into_response()),
    };
    let client = client_of(&principal, resource);
    let now = shared.clock.now();
    let limits = &shared.options.limits;
    if request.uri().path().ends_with("/rate_limit") {
        request.extensions_mut().insert(principal);
        return finish(&shared, next.run(request).await);
    }
    let busy = {
        let mut inner = shared.gate.lock();
        let count = inner.in_flight.entry(client.clone()).or_default();
        *count += 1;
        *count > limits.concurrent
    };
    let _under_way = UnderWay { shared: Arc::clone(&shared), client: client.clone() };
    let points = if cacheable { 1 } else { 5 };
    let drawn = if busy {
        Err(Refusal::Secondary { after: 1 })
    } else {
        shared.gate.with_buckets(|buckets| buckets.draw(&client, resource, points, limits, now))
    };
    let standing = match drawn {
        Ok(standing) => standing,
        Err(refusal) => return finish(&shared, refuse(&shared, &principal, resource, refusal)),
    };
    request.extensions_mut().insert(principal);
    let response = next.run(request).await;
    let mut response = if cacheable { conditional(response, asked.as_ref()).await } else { response };
    let standing = if response.status() == StatusCode::NOT_MODIFIED {
        shared.gate.with_buckets(|buckets| buckets.give_back(&client, limits, now))
    } else {
        standing
    };
    rate_headers(response.headers_mut(), resource, standing);
    finish(&shared, response)
}

fn admit(shared: &Arc<Shared>, request: &Request) -> Result<(Principal, Resource), ApiError> {
    let headers = request.headers();
    if headers.get(header::USER_AGENT).is_none_or(HeaderValue::is_empty) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        ));
    }
    let principal = principal(shared, headers)?;
    if matches!(principal, Principal::Anonymous) && !request.uri().path().ends_with("/rate_limit") {
        return Err(ApiError::unauthorized("Requires authentication"));
    }
    let path = request.uri().path();
    let registers = path.ends_with("/generate-jitconfig") || path.ends_with("/registration-token");
    Ok((principal, if registers { Resource::Registration } else { Resource::Core }))
}

fn principal(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(Principal::Anonymous) };
    let given = given.to_str().unwrap_or_default();
    let secret = match given.split_once(' ') {
        Some((scheme, secret))
            if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") =>
        {
            secret.trim()
        }
        Some(_) | None => return Err(ApiError::unauthorized("Bad credentials")),
    };
    let now = shared.clock.now();
    if secret.matches('.').count() == 2 {
        let issuers = [shared.options.app_id.to_string(), format!("Iv23li{}", shared.options.app_id)];
        return match verify_app_jwt(&shared.key, secret, &issuers, now) {
            Ok(()) => Ok(Principal::App),
            Err(JwtError::Unauthorized(message)) => Err(ApiError::unauthorized(message)),
            Err(JwtError::NoSuchApp) => Err(ApiError::new(StatusCode::NOT_FOUND, "Integration not found")),
        };
    }
    if shared.options.personal_token.as_deref() == Some(secret) {
        return Ok(Principal::Person);
    }
    match shared.gate.lock().tokens.get(secret) {
        Some(token) if token.expires_at > now => Ok(Principal::Installation(Arc::clone(token))),
        Some(_) | None => Err(ApiError::unauthorized("Bad credentials")),
    }
}

fn refuse(shared: &Shared, principal: &Principal, resource: Resource, refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(shared.options.limits.status).unwrap_or(StatusCode::FORBIDDEN);
    match refusal {
        Refusal::Primary(standing) => {
            let message = format!("API rate limit exceeded for {}.", principal.client());
            let mut response = ApiError::new(status, message).into_response();
            rate_headers(response.headers_mut(), resource, standing);
            response
        }
        Refusal::Secondary { after } => ApiError::new(
            status,
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        )
        .header("retry-after", after)
        .into_response(),
    }
}

fn rate_headers(headers: &mut HeaderMap, resource: Resource, standing: Standing) {
    for (name, value) in [
        ("x-ratelimit-limit", i64::from(standing.limit)),
        ("x-ratelimit-remaining", i64::from(standing.remaining)),
        ("x-ratelimit-used", i64::from(standing.used)),
        ("x-ratelimit-reset", standing.reset),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    headers.insert("x-ratelimit-resource", HeaderValue::from_static(resource.name()));
}

/// Adds an entity tag to what was found, and answers 304 where the client has it already.
async fn conditional(response: Response, asked: Option<&HeaderValue>) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return Response::new(Body::empty()) };
    let bytes = body.to_bytes();
    let tag = format!("W/\"{}\"", fingerprint(&bytes));
    let known = asked.and_then(|asked| asked.to_str().ok()).is_some_and(|asked| asked.contains(&tag));
    if let Ok(value) = HeaderValue::try_from(tag) {
        parts.headers.insert(header::ETAG, value);
    }
    if known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Headers of every answer.
fn finish(shared: &Shared, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
    headers.insert("x-github-api-version-selected", HeaderValue::from_static("2022-11-28"));
    if let Ok(id) = HeaderValue::try_from(random_hex(8).to_uppercase()) {
        headers.insert("x-github-request-id", id);
    }
    if let Some(version) = &shared.options.enterprise_version
        && let Ok(version) = HeaderValue::try_from(version.as_str())
    {
        headers.insert("x-github-enterprise-version", version);
    }
    response
}
