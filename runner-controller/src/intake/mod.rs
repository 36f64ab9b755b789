//! Where deliveries arrive: verified, understood and stored durably, in this order, before any 2xx.
//!
//! Intake decides nothing about runners and reaches nothing outside but the records. It answers 2xx only for what is
//! stored or of no use, since a delivery that was answered so is never sent again (GitHub documentation, "Handling
//! failed webhook deliveries"); trouble of its own is a 503, which shows as failed and can be redelivered.
//!
//! Order of checks: source, size and time of the body, signature, event, JSON, repository, labels.

mod github;
pub mod recovered;
mod signature;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use runner_core::job::{JobAction, Told};
use secrecy::SecretString;
use tokio::sync::{Semaphore, watch};

use self::github::Delivery;
use crate::ports::{CallResult, Records, Stored};
use crate::telemetry::{DeliveryOutcome, Metrics};
use crate::web::body::{self, BodyBounds, BodyError};
use crate::web::{line, unavailable};

/// The longest delivery: GitHub sends none above 25 MB.
const MAX_BODY: usize = 25 << 20;
/// Until it must have come.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Memory for all deliveries that are being read. A usual one takes 30 KB.
const MEMORY: usize = 256 << 20;
/// How often a delivery that is turned away is worth a line in the log.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Until a fact must be stored: GitHub waits 10 s for the answer.
const STORE_WITHIN: Duration = Duration::from_secs(8);

/// Whom intake listens to.
#[derive(Clone, Debug, Default)]
pub struct IntakeRules {
    /// Sources by name.
    pub sources: HashMap<String, IntakeSource>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Whether the rest and the records have been read once; until then every delivery is put off.
    pub ready: bool,
}

/// One source, as far as its deliveries go.
#[derive(Clone, Debug, Default)]
pub struct IntakeSource {
    /// The webhook's secrets. Each may sign; two while one replaces the other. Empty ones sign nothing.
    pub secrets: Vec<SecretString>,
    /// Accounts whose jobs are served.
    pub owners: Vec<String>,
    /// Repositories (`owner/name`) whose jobs are served.
    pub repositories: Vec<String>,
    /// Whether its Secret could not be read yet; until then its deliveries are put off.
    pub unread: bool,
}

impl IntakeSource {
    fn serves(&self, owner: &str, repository: &str) -> bool {
        self.owners.iter().any(|listed| listed.eq_ignore_ascii_case(owner))
            || self.repositories.iter().any(|listed| listed.eq_ignore_ascii_case(repository))
    }
}

/// What intake needs.
#[derive(Clone)]
pub struct IntakeState {
    records: Arc<dyn Records>,
    rules: watch::Receiver<Arc<IntakeRules>>,
    metrics: Arc<Metrics>,
    memory: Arc<Semaphore>,
    warned: Arc<Mutex<Option<Instant>>>,
    put_off: watch::Sender<u64>,
}

impl IntakeState {
    /// How many deliveries were put off, as it grows: they are lost unless somebody looks for them at their source.
    pub fn put_off(&self) -> watch::Receiver<u64> {
        self.put_off.subscribe()
    }

    /// Says that a delivery was turned away, though not each time: anybody can send them.
    fn warn_of_turned_away(&self, name: &str, known: bool) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        *warned = Some(Instant::now());
        if known {
            tracing::warn!(
                source = name,
                "a delivery to source {name} is not signed with its webhookSecret: compare the secret at GitHub with \
                 the one in the Secret"
            );
        } else {
            tracing::warn!(
                "a delivery named a source that is not configured: compare the webhook's URL with the names"
            );
        }
    }

    /// Intake stores in `records` what `rules` let in.
    pub fn new(
        records: Arc<dyn Records>,
        rules: watch::Receiver<Arc<IntakeRules>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            records,
            rules,
            metrics,
            memory: Arc::new(body::memory(MEMORY)),
            warned: Arc::default(),
            put_off: watch::Sender::default(),
        }
    }
}

/// `POST /webhooks/{source}`.
pub fn router(state: IntakeState) -> Router {
    Router::new().route("/webhooks/{source}", post(receive)).with_state(state)
}

async fn receive(State(state): State<IntakeState>, Path(name): Path<String>, request: Request) -> Response {
    let event = github::event_word(request.headers());
    let (answer, outcome, known) = handle(&state, &name, request).await;
    state.metrics.delivery(known.then_some(name.as_str()), event, outcome);
    if matches!(outcome, DeliveryOutcome::Unauthorized | DeliveryOutcome::UnknownSource) {
        state.warn_of_turned_away(&name, known);
    }
    if outcome == DeliveryOutcome::Unavailable {
        state.put_off.send_modify(|count| *count = count.wrapping_add(1));
    }
    answer
}

/// The answer, what became of the delivery, and whether the source that it names is configured.
async fn handle(state: &IntakeState, name: &str, request: Request) -> (Response, DeliveryOutcome, bool) {
    let rules = Arc::clone(&state.rules.borrow());
    if !rules.ready {
        let answer = unavailable("the configuration is still being read", Some(5));
        return (answer, DeliveryOutcome::Unavailable, false);
    }
    let Some(source) = rules.sources.get(name) else {
        return (line(StatusCode::NOT_FOUND, "no such source"), DeliveryOutcome::UnknownSource, false);
    };
    if source.unread {
        let answer = unavailable("the source's Secret cannot be read yet", Some(60));
        return (answer, DeliveryOutcome::Unavailable, true);
    }
    let (answer, outcome) = match take(state, &rules, name, source, request).await {
        Ok(stored) => {
            let (status, outcome, text) = match stored {
                Stored::NewJob => (StatusCode::CREATED, DeliveryOutcome::NewJob, "stored: a new job"),
                Stored::Added => (StatusCode::OK, DeliveryOutcome::Stored, "stored"),
                Stored::Known => (StatusCode::OK, DeliveryOutcome::Known, "stored before"),
            };
            (line(status, text), outcome)
        }
        Err(turned) => (turned.answer(), turned.outcome),
    };
    (answer, outcome, true)
}

/// A delivery of which nothing was stored.
struct Turned {
    status: StatusCode,
    outcome: DeliveryOutcome,
    text: String,
    retry_seconds: Option<u64>,
}

impl Turned {
    fn new(status: StatusCode, outcome: DeliveryOutcome, text: impl std::fmt::Display) -> Self {
        Self { status, outcome, text: text.to_string(), retry_seconds: None }
    }

    fn ignored(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::ACCEPTED, DeliveryOutcome::Ignored, format_args!("ignored: {text}"))
    }

    fn put_off(text: &str, retry_seconds: Option<u64>) -> Self {
        let outcome = DeliveryOutcome::Unavailable;
        Self { retry_seconds, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, outcome, text) }
    }

    fn answer(&self) -> Response {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            unavailable(&self.text, self.retry_seconds)
        } else {
            line(self.status, &self.text)
        }
    }
}

impl From<BodyError> for Turned {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, DeliveryOutcome::TooLarge, "more than 25 MiB")
            }
            BodyError::TooSlow => {
                let text = "the body did not come within 10 s";
                Self::new(StatusCode::REQUEST_TIMEOUT, DeliveryOutcome::TooSlow, text)
            }
            BodyError::Crowded => Self::put_off("too many deliveries at once", Some(1)),
            BodyError::Broken => {
                Self::new(StatusCode::BAD_REQUEST, DeliveryOutcome::Malformed, "the body broke off")
            }
        }
    }
}

async fn take(
    state: &IntakeState,
    rules: &IntakeRules,
    name: &str,
    source: &IntakeSource,
    request: Request,
) -> Result<Stored, Turned> {
    let (parts, body) = request.into_parts();
    let bounds = BodyBounds { limit: MAX_BODY, within: BODY_WITHIN, memory: &state.memory };
    let (bytes, _memory) = body::read(&parts.headers, body, bounds).await?;
    verify(&parts.headers, &bytes, &source.secrets)?;
    let (event, guid) = (github::event(&parts.headers), github::guid(&parts.headers));
    let delivery = github::read(event, guid, &bytes, name, crate::clock::now())
        .map_err(|problem| Turned::new(StatusCode::BAD_REQUEST, DeliveryOutcome::Malformed, problem))?;
    let told = match delivery {
        Delivery::Ping => return Err(Turned::new(StatusCode::OK, DeliveryOutcome::Ignored, "pong")),
        Delivery::Unused(why) => return Err(Turned::ignored(why)),
        Delivery::Told(told) => told,
    };
    of_use(&*state.records, rules, source, &told).map_err(Turned::ignored)?;
    let told_at = tokio::time::timeout(STORE_WITHIN, state.records.tell(&told)).await;
    stored(&told, told_at.ok())
}

/// Whether a fact is about a job that Stint may have a use for, or why not.
fn of_use(
    records: &dyn Records,
    rules: &IntakeRules,
    source: &IntakeSource,
    told: &Told,
) -> Result<(), String> {
    let what = &told.description;
    if !source.serves(&what.owner, &what.repository) {
        return Err(format!("the source does not list {}", what.repository));
    }
    if !claimed(&what.labels, &rules.classes) && !already_stored(records, told) {
        return Err("its labels ask for no runner of ours".to_owned());
    }
    Ok(())
}

fn verify(headers: &HeaderMap, body: &[u8], secrets: &[SecretString]) -> Result<(), Turned> {
    let given = headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
    signature::verify(given, body, secrets)
        .map_err(|problem| Turned::new(StatusCode::UNAUTHORIZED, DeliveryOutcome::Unauthorized, problem))
}

fn stored(told: &Told, answer: Option<CallResult<Stored>>) -> Result<Stored, Turned> {
    let job = &told.key;
    match answer {
        Some(Ok(stored)) => Ok(stored),
        Some(Err(error)) => {
            tracing::warn!(%job, error = %error, "delivery not stored: {job}");
            let seconds = error.pause().map(|pause| pause.as_secs());
            Err(Turned::put_off("not stored", seconds))
        }
        None => {
            tracing::warn!(%job, "delivery not stored in time: {job}");
            Err(Turned::put_off("not stored in time", None))
        }
    }
}

/// Whether labels may ask for a runner of ours: all self-hosted ones are stored, so that a class which is added a
/// minute later still sees the job.
fn claimed(labels: &[String], classes: &[String]) -> bool {
    let ours = |label: &String| {
        let label = label.to_lowercase();
        label == "self-hosted"
            || classes.iter().any(|class| {
                let rest = label.strip_prefix(&class.to_lowercase());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
            })
    };
    labels.is_empty() || labels.iter().any(ours)
}

/// Whether the job has a record although its labels ask for nothing now, as after a class was deleted. Only what a
/// runner did is worth adding to that.
fn already_stored(records: &dyn Records, told: &Told) -> bool {
    match told.fact.action {
        JobAction::Queued | JobAction::Waiting => false,
        JobAction::InProgress | JobAction::Completed => records.knows_job(&told.key),
    }
}

#[cfg(test)]
mod tests;
