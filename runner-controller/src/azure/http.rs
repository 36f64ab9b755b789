//! One call to ARM: its URL, its bearer token, its time-out, and what its answer means.

use std::error::Error;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use bytes::Bytes;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Method, Proxy, Response, StatusCode, Url};
use secrecy::ExposeSecret;

use super::credentials::{CredentialKind, build};
use super::token::Tokens;
use super::{API_VERSION, ArmOptions, wire};
use crate::clock;
use crate::ports::{CallError, CallErrorKind, CallResult};

/// The longest answer that is read, in bytes. Azure keeps at most 4 MB of a log.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// The longest message that is taken over from ARM, in characters.
const LONGEST_MESSAGE: usize = 500;
/// The pause before a reading is tried a second time; jitter adds up to as much again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The HTTP side of a client of ARM.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    endpoint: Url,
    tokens: Tokens,
}

impl Http {
    pub(super) fn new(options: &ArmOptions, credential: &CredentialKind) -> CallResult<Self> {
        let endpoint = options.endpoint.parse::<Url>().ok().filter(|url| !url.cannot_be_a_base());
        let endpoint =
            endpoint.ok_or_else(|| refused(format!("{} is not a URL of ARM", options.endpoint)))?;
        let client = client(options)?;
        // The identity endpoint is on this machine or its link, which no proxy reaches.
        let direct = base(options).no_proxy().build().map_err(unusable)?;
        let tokens = Tokens::new(build(credential, &client, &direct)?, &options.audience, options.timeout);
        Ok(Self { client, endpoint, tokens })
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Reads, and tries once more where ARM was unavailable.
    pub(super) async fn read(&self, doing: &str, url: &Url) -> CallResult<Bytes> {
        (|| self.send(doing, Method::GET, url, None))
            .retry(ConstantBuilder::default().with_delay(RETRY_PAUSE).with_max_times(1).with_jitter())
            .when(|error| error.kind == CallErrorKind::Unavailable)
            .await
    }

    /// Makes one call and answers the body of its success.
    pub(super) async fn send(
        &self,
        doing: &str,
        method: Method,
        url: &Url,
        body: Option<Vec<u8>>,
    ) -> CallResult<Bytes> {
        let failed = |error: &dyn Error| {
            CallError::new(CallErrorKind::Unavailable, format!("{doing}: {}", one_line(&with_causes(error))))
        };
        let mut request =
            self.client.request(method, url.clone()).header(AUTHORIZATION, self.bearer(doing).await?);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| failed(&error.without_url()))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = limited(response).await.map_err(|error| match error {
            Some(error) => failed(&error.without_url()),
            None => CallError::new(
                CallErrorKind::Unavailable,
                format!("{doing}: the answer is longer than {LONGEST_ANSWER} bytes"),
            ),
        })?;
        if status.is_success() {
            return Ok(body);
        }
        if status == StatusCode::UNAUTHORIZED {
            self.tokens.discard().await;
        }
        Err(CallError::new(
            kind_of(status, &headers),
            format!("{doing}: {} {}", status.as_u16(), said(status, &body)),
        ))
    }

    /// The address of the next page, if it is ARM's own: the token goes nowhere else.
    pub(super) fn next_page(&self, doing: &str, link: &str) -> CallResult<Url> {
        let next = link.parse::<Url>().ok().filter(|url| url.origin() == self.endpoint.origin());
        next.ok_or_else(|| refused(format!("{doing}: the next page is not at {}", self.endpoint)))
    }

    /// The error for an answer that succeeded and is not of the known form.
    pub(super) fn unreadable(&self, doing: &str, error: &serde_json::Error) -> CallError {
        let message = format!("{doing}: {} answered something else than ARM does: {error}", self.endpoint);
        CallError::new(CallErrorKind::Unavailable, message)
    }

    async fn bearer(&self, doing: &str) -> CallResult<HeaderValue> {
        let token = self
            .tokens
            .get()
            .await
            .map_err(|error| CallError::new(error.kind, format!("{doing}: {}", error.message)))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| refused(format!("{doing}: the access token is not a header value")))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// An URL below the endpoint, each segment encoded, with the API version and further query items.
pub(super) fn join_url(
    endpoint: &Url,
    segments: impl IntoIterator<Item = impl AsRef<str>>,
    query: &[(&str, &str)],
) -> CallResult<Url> {
    let mut url = endpoint.clone();
    url.path_segments_mut()
        .map_err(|()| refused(format!("{endpoint} is not a URL of ARM")))?
        .pop_if_empty()
        .extend(segments);
    url.query_pairs_mut().append_pair("api-version", API_VERSION).extend_pairs(query);
    Ok(url)
}

fn base(options: &ArmOptions) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("stint/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout)
        .timeout(options.timeout)
        .redirect(Policy::none())
}

fn client(options: &ArmOptions) -> CallResult<Client> {
    let mut builder = base(options);
    if let Some(pem) = &options.ca_bundle {
        let bundle = Certificate::from_pem_bundle(pem.as_bytes()).map_err(unusable)?;
        if bundle.is_empty() {
            return Err(refused("the CA bundle holds no certificate"));
        }
        builder = builder.tls_certs_merge(bundle);
    }
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(Proxy::all(proxy.expose_secret()).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

fn unusable(error: reqwest::Error) -> CallError {
    refused(format!("ARM cannot be reached as configured: {}", with_causes(&error.without_url())))
}

fn refused(message: impl std::fmt::Display) -> CallError {
    CallError::new(CallErrorKind::Refused, message)
}

/// Reads a body up to [`LONGEST_ANSWER`]; `Err(None)` if it is longer.
async fn limited(mut response: Response) -> Result<Bytes, Option<reqwest::Error>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        if body.len().saturating_add(chunk.len()) > LONGEST_ANSWER {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

fn kind_of(status: StatusCode, headers: &HeaderMap) -> CallErrorKind {
    match status.as_u16() {
        404 => CallErrorKind::NotFound,
        408 | 500.. => CallErrorKind::Unavailable,
        409 => CallErrorKind::Conflict,
        429 => CallErrorKind::Throttled(retry_after(headers)),
        _ => CallErrorKind::Refused,
    }
}

/// The pause that `Retry-After` asks for, which it says in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(until.duration_since(clock::now()).max(jiff::SignedDuration::ZERO).unsigned_abs())
}

/// ARM's own code and message, else what the status means.
fn said(status: StatusCode, body: &[u8]) -> String {
    let words = match wire::read_error(body) {
        Some((code, message)) if message.is_empty() => code,
        Some((code, message)) => format!("{code}: {message}"),
        None => status.canonical_reason().unwrap_or("without a reason").to_owned(),
    };
    one_line(&words)
}

/// An error with what caused it, since the outermost alone often says no more than that something failed.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// A text in one line of bounded length.
pub(super) fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
