//! Sources in use: their secrets, their clients, and which of them are in trouble.
//!
//! Secrets are read again every minute, so that a rotated one is in use without a restart.

mod gated;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::setup::Registrations;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};

use self::gated::{Gated, Paces};
use crate::clock;
use crate::config::{Intake, Problem, Resolved, ResolvedSource};
use crate::intake::{IntakeRules, IntakeSource};
use crate::ports::{CallError, CallErrorKind, CallResult, Provider, RateLimit, Records};
use crate::providers::github::{GitHubAuth, GitHubProvider, GitHubSettings};
use crate::telemetry::Metrics;

/// How often secrets are read again.
const REREAD: Duration = Duration::from_secs(60);
/// How long no runner is started for a source that could not be reached.
const PAUSE: SignedDuration = SignedDuration::from_secs(15);
/// The same where the source asked for a pause without saying how long (GitHub: at least a minute).
const UNSAID: Duration = Duration::from_secs(60);

/// Makes the client of a source from its document and its Secret, or says what in them is in the way. Sends nothing.
pub type Connect = dyn Fn(&ResolvedSource, &HashMap<String, SecretString>) -> Result<Arc<dyn Provider>, String>
    + Send
    + Sync;

/// All sources.
pub struct Sources {
    records: Arc<dyn Records>,
    connect: Arc<Connect>,
    metrics: Arc<Metrics>,
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    rules: watch::Sender<Arc<IntakeRules>>,
    changed: Notify,
}

struct Entry {
    resolved: Arc<ResolvedSource>,
    secret: HashMap<String, SecretString>,
    /// Whether the Secret could not be read yet.
    unread: bool,
    provider: Option<Arc<dyn Provider>>,
    problem: Option<String>,
    /// No registration is tried before this, and why.
    trouble: Option<(Timestamp, String)>,
    /// The source wants no calls at all before this.
    throttled_until: Option<Timestamp>,
    /// How often in a row it wanted none without saying for how long.
    unsaid: u32,
    paces: Paces,
}

impl Entry {
    /// An entry of which nothing is known yet.
    fn new(
        resolved: Arc<ResolvedSource>,
        secret: HashMap<String, SecretString>,
        provider: Result<Arc<dyn Provider>, String>,
    ) -> Self {
        let (provider, problem) = match provider {
            Ok(provider) => (Some(provider), None),
            Err(problem) => (None, Some(problem)),
        };
        Self {
            resolved,
            secret,
            unread: false,
            provider,
            problem,
            trouble: None,
            throttled_until: None,
            unsaid: 0,
            paces: Paces::default(),
        }
    }

    /// Whether the source takes calls.
    fn open(&self, name: &str) -> CallResult<()> {
        let left = self.throttled_until.map(|until| until.duration_since(clock::now()));
        match left.and_then(|left| Duration::try_from(left).ok()).filter(|left| !left.is_zero()) {
            Some(left) => {
                let message = format!("source {name} wants no calls for another {} s", left.as_secs());
                Err(CallError::new(CallErrorKind::Throttled(Some(left)), message))
            }
            None => Ok(()),
        }
    }
}

impl Sources {
    /// No sources yet.
    pub fn new(records: Arc<dyn Records>, connect: Arc<Connect>, metrics: Arc<Metrics>) -> Self {
        Self {
            records,
            connect,
            metrics,
            entries: Arc::default(),
            rules: watch::Sender::new(Arc::new(IntakeRules::default())),
            changed: Notify::new(),
        }
    }

    /// Whom intake listens to, as it changes.
    pub fn rules(&self) -> watch::Receiver<Arc<IntakeRules>> {
        self.rules.subscribe()
    }

    /// Completes when the sources have changed since the last completion.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether a source of this name is configured, be it usable or not.
    pub fn is_configured(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// The client of a source.
    ///
    /// # Errors
    /// Why it cannot be used now; `Throttled` while the source wants no calls.
    pub fn provider(&self, name: &str) -> CallResult<Arc<dyn Provider>> {
        let entries = self.lock();
        let unusable =
            |why: &str| CallError::new(CallErrorKind::Unavailable, format!("source {name}: {why}"));
        let entry = entries.get(name).ok_or_else(|| unusable("it is not configured"))?;
        let provider = entry
            .provider
            .clone()
            .ok_or_else(|| unusable(entry.problem.as_deref().unwrap_or("it cannot be used")))?;
        entry.open(name)?;
        Ok(Arc::new(Gated {
            provider,
            entries: self.entries.clone(),
            source: name.to_owned(),
            metrics: self.metrics.clone(),
        }))
    }

    /// Sources at which no runner can register now, and why.
    pub fn troubles(&self, now: Timestamp) -> HashMap<String, String> {
        let entries = self.lock();
        entries
            .iter()
            .filter_map(|(name, entry)| {
                let trouble =
                    entry.trouble.as_ref().filter(|(until, _)| *until > now).map(|(_, why)| why.clone());
                entry.problem.clone().or(trouble).map(|why| (name.clone(), why))
            })
            .collect()
    }

    /// What is left of each source's limit on registrations, where it has told of one.
    pub fn registrations(&self) -> HashMap<String, Registrations> {
        let entries = self.lock();
        let told = entries.iter().filter_map(|(name, entry)| {
            let limit = entry.provider.as_ref()?.registrations()?;
            let RateLimit { remaining: left, limit, reset, .. } = limit;
            Some((name.clone(), Registrations { left, limit, reset }))
        });
        told.collect()
    }

    /// What keeps sources from being used.
    pub fn problems(&self) -> Vec<Problem> {
        self.lock()
            .iter()
            .filter_map(|(name, entry)| {
                entry.problem.clone().map(|message| Problem {
                    kind: "RunnerSource",
                    name: name.clone(),
                    message,
                })
            })
            .collect()
    }

    /// Notes that a registration failed: where the source itself is in trouble, no further one is tried for a while.
    pub fn note_registration_failed(&self, name: &str, error: &CallError) {
        let pause = match error.kind {
            CallErrorKind::Unavailable | CallErrorKind::Refused | CallErrorKind::NotFound => PAUSE,
            CallErrorKind::Throttled(after) => {
                SignedDuration::try_from(after.unwrap_or(UNSAID)).unwrap_or(PAUSE)
            }
            CallErrorKind::Conflict => return,
        };
        if let Some(entry) = self.lock().get_mut(name) {
            let until = clock::now().saturating_add(pause).unwrap_or(Timestamp::MAX);
            entry.trouble = Some((until, error.message.clone()));
        }
    }

    /// Notes that a registration succeeded.
    pub fn note_registered(&self, name: &str) {
        if let Some(entry) = self.lock().get_mut(name) {
            entry.trouble = None;
            for limit in entry.provider.iter().flat_map(|provider| provider.rate_limits()) {
                self.metrics.set_github_rate(name, &limit.resource, limit.remaining);
            }
        }
    }

    /// Keeps in step with the documents and the secrets, for ever.
    pub async fn follow(self: Arc<Self>, mut resolved: watch::Receiver<Option<Arc<Resolved>>>) {
        loop {
            let now = resolved.borrow_and_update().clone();
            if let Some(now) = now {
                self.refresh(&now).await;
            }
            tokio::select! {
            biased;
                changed = resolved.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(REREAD) => {}
            }
        }
    }

    async fn refresh(&self, resolved: &Resolved) {
        for (name, source) in &resolved.sources {
            let read = self.records.secret(&source.secret_ref).await;
            let mut entries = self.lock();
            let known = entries.get(name);
            match read {
                Ok(secret) => {
                    let same = known.is_some_and(|entry| {
                        entry.resolved == *source
                            && entry.problem.is_none()
                            && same_secret(&entry.secret, &secret)
                    });
                    if !same {
                        let provider = (self.connect)(source, &secret);
                        let entry = Entry::new(source.clone(), secret, provider);
                        entries.insert(name.clone(), entry);
                    }
                }
                Err(error) => {
                    let message = match error.kind {
                        CallErrorKind::NotFound => format!(
                            "github.secretRef: there is no Secret {}; create it with appId, privateKey and webhookSecret",
                            source.secret_ref
                        ),
                        CallErrorKind::Unavailable
                        | CallErrorKind::Throttled(_)
                        | CallErrorKind::Conflict
                        | CallErrorKind::Refused => error.message,
                    };
                    // What worked goes on working while its Secret cannot be read.
                    let works =
                        known.is_some_and(|entry| entry.resolved == *source && entry.provider.is_some());
                    if !works {
                        // Not unsigned deliveries, but such as nobody can verify yet.
                        let entry = Entry {
                            unread: true,
                            ..Entry::new(source.clone(), HashMap::new(), Err(message))
                        };
                        entries.insert(name.clone(), entry);
                    }
                }
            }
        }
        self.lock().retain(|name, _| resolved.sources.contains_key(name));
        self.publish(resolved);
        self.changed.notify_one();
    }

    fn publish(&self, resolved: &Resolved) {
        let sources = self
            .lock()
            .iter()
            .map(|(name, entry)| {
                let secrets = ["webhookSecret", "webhookSecretNext"]
                    .iter()
                    .filter_map(|key| entry.secret.get(*key))
                    .filter(|secret| !secret.expose_secret().is_empty())
                    .cloned()
                    .collect();
                let source = IntakeSource {
                    secrets,
                    owners: entry.resolved.owners.clone(),
                    repositories: entry.resolved.repositories.clone(),
                    unread: entry.unread,
                };
                (name.clone(), source)
            })
            .collect();
        let rules = IntakeRules { sources, classes: resolved.classes.keys().cloned().collect(), ready: true };
        self.rules.send_replace(Arc::new(rules));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same_secret(a: &HashMap<String, SecretString>, b: &HashMap<String, SecretString>) -> bool {
    a.len() == b.len()
        && a.iter().all(|(key, value)| {
            b.get(key).is_some_and(|other| other.expose_secret() == value.expose_secret())
        })
}

/// Builds the client of a source. Nothing is sent.
///
/// # Errors
/// What in its Secret or document is in the way.
pub fn client(
    source: &ResolvedSource,
    secret: &HashMap<String, SecretString>,
) -> Result<Arc<dyn Provider>, String> {
    let of = |key: &str| secret.get(key).filter(|value| !value.expose_secret().trim().is_empty());
    let missing = |what: &str| format!("Secret {}: {what}", source.secret_ref);
    let auth = match (of("appId"), of("privateKey"), of("token")) {
        (Some(id), Some(key), _) => GitHubAuth::App {
            app_id: id
                .expose_secret()
                .trim()
                .parse()
                .map_err(|_| missing("appId is not a number: it stands on the App's settings page"))?,
            private_key: key.clone(),
        },
        (None, None, Some(token)) => GitHubAuth::Token(token.clone()),
        (Some(_), None, _) => return Err(missing("privateKey is missing beside appId")),
        (None, Some(_), _) => return Err(missing("appId is missing beside privateKey")),
        (None, None, None) => return Err(missing("it holds neither appId and privateKey nor token")),
    };
    let unsigned = of("webhookSecret").is_none() && of("webhookSecretNext").is_none();
    if unsigned && source.intake == Intake::Webhook {
        return Err(missing("webhookSecret is missing, so that no delivery can be verified"));
    }
    let settings = GitHubSettings {
        api_url: source.api_url.clone(),
        runner_group_id: source.runner_group_id,
        proxy: source.proxy.clone(),
        ca_bundle: source.ca_bundle.clone(),
        ..GitHubSettings::new(auth)
    };
    let provider = GitHubProvider::new(settings).map_err(|error| format!("github.{error}"))?;
    Ok(Arc::new(provider))
}

#[cfg(test)]
mod tests;
