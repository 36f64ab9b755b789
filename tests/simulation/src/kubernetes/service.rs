//! The server as a client reaches it: requests in, answers out, and what goes wrong between.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::TryStreamExt;
use http::request::Parts;
use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep_until;

use super::failure::Failure;
use super::faults::{Verb, Verdict, WriteSeen};
use super::kinds::Kind;
use super::object::text_of;
use super::request::{Asked, ListOptions, parse};
use super::state::{Page, State};
use super::writes::Outcome;
use super::{Inner, watch};

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// How often kube's own client tries a request again that the server could not take, and the first pause between.
const RETRIES: u32 = 15;
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Answers a call, as kube's own client makes it: 429, 503 and 504 are tried again first, here without a random part of
/// the pause.
pub(super) async fn call(server: Arc<Inner>, who: Arc<str>, request: Request<Body>) -> io::Result<Answer> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut pause = FIRST_PAUSE;
    for _ in 0..RETRIES {
        let answer = answer(&server, &who, &parts, &body).await?;
        if !matches!(answer.status().as_u16(), 429 | 503 | 504) {
            return Ok(answer);
        }
        let after =
            answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        tokio::time::sleep(after.map_or(pause, |after| pause.max(Duration::from_secs(after)))).await;
        pause *= 2;
    }
    answer(&server, &who, &parts, &body).await
}

/// Answers one request.
async fn answer(server: &Arc<Inner>, who: &str, parts: &Parts, body: &[u8]) -> io::Result<Answer> {
    reach(server, who)?;
    let (kind, here, asked) = match parse(&parts.method, &parts.uri) {
        Ok(parsed) => parsed,
        Err(failure) => return Ok(failed(&failure)),
    };
    let (verb, name, status) = match asked {
        Asked::Get { .. } | Asked::List(_) | Asked::Watch(_) => {
            return Ok(read(server, who, kind, here, asked));
        }
        Asked::Create => (Verb::Create, None, false),
        Asked::Replace { name, status } => (Verb::Replace, Some(name), status),
        Asked::Patch { name, status } => (Verb::Patch, Some(name), status),
        Asked::Delete { name } => (Verb::Delete, Some(name), false),
    };
    let content = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let body = match understand(&parts.method, content, body) {
        Ok(body) => body,
        Err(failure) => return Ok(failed(&failure)),
    };
    let name = name.unwrap_or_else(|| text_of(&body, "name").to_owned());
    write(server, who, here, WriteSeen { verb, kind: kind.kind, name, status, body }, kind).await
}

/// Whether this client reaches the server.
fn reach(server: &Inner, who: &str) -> io::Result<()> {
    if server.state().client(who).is_away() { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

fn lost() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn understand(method: &Method, content: Option<&str>, body: &[u8]) -> Result<Value, Failure> {
    // Of the patches that Kubernetes knows, Stint sends this one.
    if *method == Method::PATCH && content != Some("application/merge-patch+json") {
        let message = format!("the simulated server takes application/merge-patch+json, not {content:?}");
        return Err(Failure::unsupported_media_type(message));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is no JSON: {error}")))
}

/// A write, from its arrival to its answer. Carried out in one step: whoever drops this leaves all of it, or nothing.
async fn write(
    server: &Arc<Inner>,
    who: &str,
    here: bool,
    seen: WriteSeen,
    kind: &'static Kind,
) -> io::Result<Answer> {
    let verdict = server.faults.verdict(who, &seen).await;
    // The partition may have come while it waited.
    reach(server, who)?;
    let answer = match verdict {
        Verdict::LoseBefore => return Err(lost()),
        Verdict::Hang { carried_out: false, until } => return hang(until).await,
        Verdict::FailBefore(code) => Err(Failure::of_code(code)),
        Verdict::Throttle(seconds) => Err(Failure::throttled(seconds)),
        Verdict::Conflict => Err(Failure::modified(kind, &seen.name)),
        Verdict::Allow | Verdict::CommitThenLose | Verdict::Hang { carried_out: true, .. } => {
            let written = carry_out(&mut server.state(), &seen, here, kind);
            server.announce();
            written
        }
    };
    let answer = match &answer {
        Ok(outcome) => done(outcome),
        Err(failure) => failed(failure),
    };
    let code = answer.status().as_u16();
    server.faults.committed(who, &seen, code).await;
    match verdict {
        Verdict::CommitThenLose => return Err(lost()),
        Verdict::Hang { until, .. } => return hang(until).await,
        Verdict::Allow
        | Verdict::FailBefore(_)
        | Verdict::Throttle(_)
        | Verdict::LoseBefore
        | Verdict::Conflict => {}
    }
    // An answer does not cross a partition either.
    reach(server, who)?;
    server.faults.answered(who, &seen, code);
    Ok(answer)
}

async fn hang(until: Option<tokio::time::Instant>) -> io::Result<Answer> {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
    Err(lost())
}

fn carry_out(
    state: &mut State,
    seen: &WriteSeen,
    here: bool,
    kind: &'static Kind,
) -> Result<Outcome, Failure> {
    if !here {
        return Err(Failure::no_namespace());
    }
    let (name, body) = (seen.name.as_str(), &seen.body);
    match seen.verb {
        Verb::Create => state.create(kind, body.clone()),
        Verb::Replace => state.replace(kind, name, body.clone(), seen.status),
        Verb::Patch => state.patch(kind, name, body.clone(), seen.status),
        Verb::Delete => state.delete(kind, name, body),
    }
}

fn read(server: &Arc<Inner>, who: &str, kind: &'static Kind, here: bool, asked: Asked) -> Answer {
    if let Some(code) = server.faults.read(who, kind.kind) {
        return failed(&Failure::of_code(code));
    }
    match asked {
        Asked::Get { name } => match server.state().get(kind, &name).filter(|_| here) {
            Some(object) => whole(200, object.text()),
            None => failed(&Failure::not_found(kind, &name)),
        },
        Asked::List(options) => match list(&mut server.state(), kind, here, options) {
            Ok(text) => whole(200, text),
            Err(failure) => failed(&failure),
        },
        Asked::Watch(options) => {
            let events = watch::open(server, who, kind, options);
            let body = StreamBody::new(events.map_ok(Frame::data)).boxed_unsync();
            respond(200, body)
        }
        Asked::Create | Asked::Replace { .. } | Asked::Patch { .. } | Asked::Delete { .. } => {
            failed(&Failure::method_not_allowed("a write"))
        }
    }
}

fn list(state: &mut State, kind: &Kind, here: bool, options: ListOptions) -> Result<Bytes, Failure> {
    let mut page = match &options.token {
        Some(token) => state.page(token)?,
        None => {
            if options.version > state.version {
                return Err(Failure::too_large(options.version, state.version));
            }
            if options.exact && options.version != state.version {
                let message = format!("too old resource version: {}", options.version);
                return Err(Failure::expired(message));
            }
            let objects = state.table(kind).objects.values();
            let selected = objects.filter(|object| here && options.selector.selects(&object.value));
            Page { version: state.version, rest: selected.cloned().collect() }
        }
    };
    let rest = match options.limit.filter(|limit| *limit < page.rest.len()) {
        Some(limit) => page.rest.split_off(limit),
        None => VecDeque::new(),
    };
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if !rest.is_empty() {
        metadata["remainingItemCount"] = json!(rest.len());
        metadata["continue"] = json!(state.keep_page(Page { version: page.version, rest }));
    }
    let mut text = BytesMut::new();
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        kind.kind,
        kind.api_version()
    );
    text.put_slice(head.as_bytes());
    for (at, object) in page.rest.iter().enumerate() {
        if at > 0 {
            text.put_u8(b',');
        }
        text.put_slice(&object.text());
    }
    text.put_slice(b"]}");
    Ok(text.freeze())
}

fn done(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Object(code, object) => whole(*code, object.text()),
        Outcome::Gone { kind, name, uid } => {
            let details = json!({"name": name, "group": kind.group, "kind": kind.plural, "uid": uid});
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            });
            whole(200, status.to_string().into())
        }
    }
}

fn failed(failure: &Failure) -> Answer {
    let mut answer = whole(failure.code, failure.status().to_string().into());
    if let Some(seconds) = failure.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn whole(code: u16, text: Bytes) -> Answer {
    respond(code, Full::new(text).map_err(|never| match never {}).boxed_unsync())
}

fn respond(code: u16, body: UnsyncBoxBody<Bytes, io::Error>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
