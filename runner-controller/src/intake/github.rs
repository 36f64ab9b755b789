//! GitHub's deliveries, and those of servers that speak like it (GitHub Enterprise Server, Gitea): what one tells.
//!
//! Lenient about every field that is not needed, exact about those that are: a problem names its field. Everything
//! that is kept is cut to bounds, since whoever writes a workflow chooses its names and labels.

use axum::http::HeaderMap;
use jiff::Timestamp;
use runner_core::job::{JobAction, JobDescription, JobFact, JobKey, Told};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const EVENT_HEADER: &str = "x-github-event";
const DELIVERY_HEADER: &str = "x-github-delivery";
/// The most labels that are kept of a job.
const MAX_LABELS: usize = 100;
/// The most characters that are kept of a name or label.
const MAX_CHARS: usize = 256;
/// The most characters of a link.
const MAX_URL: usize = 1024;
/// The longest delivery id; GitHub's are GUIDs.
const MAX_DELIVERY_ID: usize = 64;
/// The shortest; anything shorter identifies nothing.
const MIN_DELIVERY_ID: usize = 8;

/// What a delivery is.
#[derive(Debug, PartialEq)]
pub(super) enum Delivery {
    /// GitHub tries the webhook out.
    Ping,
    /// Nothing that Stint has a use for, and why.
    Unused(&'static str),
    /// A fact about a job.
    Told(Box<Told>),
}

/// The delivery's event as a word of the metrics, whatever the sender wrote.
pub(super) fn event_word(headers: &HeaderMap) -> &'static str {
    match event(headers) {
        Some("workflow_job") => "workflow_job",
        Some("ping") => "ping",
        Some(_) => "other",
        None => "none",
    }
}

/// The name of a delivery's event.
pub(super) fn event(headers: &HeaderMap) -> Option<&str> {
    headers.get(EVENT_HEADER)?.to_str().ok()
}

/// A delivery's id, which a redelivery keeps.
pub(super) fn guid(headers: &HeaderMap) -> Option<&str> {
    headers.get(DELIVERY_HEADER)?.to_str().ok()
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    action: Value,
    #[serde(default)]
    workflow_job: Value,
    #[serde(default)]
    repository: Value,
}

/// Reads a delivery that is believed.
///
/// # Errors
/// One line that names what is missing or wrong.
pub(super) fn read(
    event: Option<&str>,
    guid: Option<&str>,
    body: &[u8],
    source: &str,
    now: Timestamp,
) -> Result<Delivery, String> {
    match event {
        Some("workflow_job") => {}
        Some("ping") => return Ok(Delivery::Ping),
        Some(_) => return Ok(Delivery::Unused("Stint has no use for this event")),
        None => return Err("X-GitHub-Event is missing".to_owned()),
    }
    let payload = parse(body)?;
    let action = match payload.action.as_str() {
        Some("queued") => JobAction::Queued,
        Some("waiting") => JobAction::Waiting,
        Some("in_progress") => JobAction::InProgress,
        Some("completed") => JobAction::Completed,
        Some(_) => return Ok(Delivery::Unused("Stint has no use for this action")),
        None => return Err("action is missing".to_owned()),
    };
    let job = &payload.workflow_job;
    if !job.is_object() {
        return Err("workflow_job is missing".to_owned());
    }
    let key = JobKey {
        source: source.to_owned(),
        id: job["id"].as_u64().ok_or("workflow_job.id is missing or no number")?.to_string(),
        attempt: attempt(&job["run_attempt"])?,
    };
    let fact = JobFact {
        id: fact_id(guid, body),
        action,
        heard_at: now,
        runner: runner(job),
        conclusion: text(&job["conclusion"], MAX_CHARS),
    };
    let description = describe(job, &payload.repository)?;
    Ok(Delivery::Told(Box::new(Told { key, description, fact })))
}

fn parse(body: &[u8]) -> Result<Payload, String> {
    let wrong = |at: &str| {
        format!("the body is not a JSON object{at}: the webhook's content type must be application/json")
    };
    // serde would take a list of values for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong(""));
    }
    serde_json::from_slice(body)
        .map_err(|error| wrong(&format!(" (line {}, column {})", error.line(), error.column())))
}

fn attempt(value: &Value) -> Result<u32, String> {
    if value.is_null() {
        return Ok(1);
    }
    value
        .as_u64()
        .and_then(|attempt| u32::try_from(attempt).ok())
        .filter(|attempt| *attempt > 0)
        .ok_or_else(|| "workflow_job.run_attempt is no attempt".to_owned())
}

fn describe(job: &Value, repository: &Value) -> Result<JobDescription, String> {
    let full_name = repository["full_name"].as_str().ok_or("repository.full_name is missing")?;
    let (owner, name) = full_name.split_once('/').ok_or("repository.full_name is not OWNER/NAME")?;
    if !is_name(owner) || !is_name(name) {
        return Err("repository.full_name is not OWNER/NAME".to_owned());
    }
    // The two are checked against different lists, so they must speak of the same account.
    let login = &repository["owner"]["login"];
    if !login.is_null() && !login.as_str().is_some_and(|login| login.eq_ignore_ascii_case(owner)) {
        return Err("repository.owner.login and repository.full_name differ".to_owned());
    }
    Ok(JobDescription {
        owner: owner.to_owned(),
        public: repository["visibility"] == "public" || repository["private"] == false,
        name: text(&job["name"], MAX_CHARS).unwrap_or_default(),
        workflow: text(&job["workflow_name"], MAX_CHARS),
        url: text(&job["html_url"], MAX_URL)
            .filter(|url| url.starts_with("https://") || url.starts_with("http://")),
        labels: labels(&job["labels"])?,
        created_at: job["created_at"].as_str().and_then(|at| at.parse().ok()),
        run: job["run_id"].as_u64().map(|id| id.to_string()),
        head_sha: text(&job["head_sha"], MAX_CHARS).filter(|sha| is_sha(sha)),
        head_branch: text(&job["head_branch"], MAX_CHARS),
        repository: full_name.to_owned(),
    })
}

/// Whether this is the name of an account or repository.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 100 && name != "." && name != ".." && name.bytes().all(plain)
}

/// Whether this is the id of a commit: SHA-1 or SHA-256, in hexadecimal.
fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn labels(value: &Value) -> Result<Vec<String>, String> {
    let labels = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(labels) => labels,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            return Err("workflow_job.labels is no list".to_owned());
        }
    };
    labels
        .iter()
        .take(MAX_LABELS)
        .map(|label| match label.as_str() {
            Some(label) => Ok(cut(label, MAX_CHARS)),
            None => Err("workflow_job.labels holds something else than names".to_owned()),
        })
        .collect()
}

/// The runner's name. A job that was cancelled before it had one carries `runner_id: 0` (or none) and an empty name.
fn runner(job: &Value) -> Option<String> {
    if job["runner_id"] == 0 {
        return None;
    }
    text(&job["runner_name"], MAX_CHARS)
}

/// What identifies the telling: the delivery's id, which a redelivery keeps; else the body.
///
/// The header is not signed, so only what a GUID is made of passes: nothing that could be taken for an answer which
/// Stint read from the source itself ([`runner_core::job::READ_PREFIX`]).
fn fact_id(guid: Option<&str>, body: &[u8]) -> String {
    let plain = |guid: &&str| {
        (MIN_DELIVERY_ID..=MAX_DELIVERY_ID).contains(&guid.len())
            && guid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    match guid.filter(plain) {
        Some(guid) => guid.to_ascii_lowercase(),
        None => format!("body-{}", hex::encode(Sha256::digest(body))),
    }
}

/// A text, cut; `None` if it is none or empty.
fn text(value: &Value, most: usize) -> Option<String> {
    value.as_str().map(|text| cut(text, most)).filter(|text| !text.is_empty())
}

/// At most so many characters, without control characters.
fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}
