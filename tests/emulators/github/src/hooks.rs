//! Webhooks: who is told of an event, what goes wrong on the way, and the record of every delivery.
//!
//! As on GitHub, nothing is ever sent again by itself. Deliveries of one job to one hook keep their order unless a rule
//! or chaos delays one of them; deliveries of different jobs do not wait for each other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use emulator_common::glob_matches;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::spec::JobId;
use crate::state::Event;

/// The deliveries that are kept; older ones are forgotten before their three days are over.
const KEPT: usize = 100_000;

/// Mischief on every first delivery, the same for the same seed and order of events. Shares are between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Chaos {
    /// Where the choices begin.
    pub seed: u64,
    /// The share that vanishes without a trace.
    pub lose: f64,
    /// The share that is recorded as failed (502) and never sent.
    pub fail: f64,
    /// The share that is sent twice.
    pub duplicate: f64,
    /// Each delivery is held back for up to this many milliseconds, which permutes them.
    pub max_delay_ms: u64,
}

/// Something that goes wrong with chosen deliveries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookRule {
    /// The event's name; absent: any.
    #[serde(default)]
    pub event: Option<String>,
    /// Its action; absent: any.
    #[serde(default)]
    pub action: Option<String>,
    /// The repository (`owner/name`, `*` for any characters); absent: any.
    #[serde(default)]
    pub repository: Option<String>,
    /// How many matching deliveries pass first.
    #[serde(default)]
    pub skip: u32,
    /// How many are hit; absent: all from then on.
    #[serde(default)]
    pub count: Option<u32>,
    /// What happens to them.
    pub effect: WebhookEffect,
}

impl WebhookRule {
    /// A rule for `workflow_job` deliveries of `action` (`*`: any).
    pub fn on(action: &str, effect: WebhookEffect) -> Self {
        Self {
            event: Some("workflow_job".to_owned()),
            action: Some(action).filter(|action| *action != "*").map(str::to_owned),
            repository: None,
            skip: 0,
            count: None,
            effect,
        }
    }

    /// Hits `count` deliveries only.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Lets `skip` deliveries pass first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    fn matches(&self, event: &Event) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        let repository = event.repository.as_deref().unwrap_or_default();
        same(&self.event, Some(&event.name))
            && same(&self.action, event.action.as_deref())
            && self.repository.as_ref().is_none_or(|glob| glob_matches(&glob.to_lowercase(), repository))
    }
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WebhookEffect {
    /// It vanishes without a trace.
    Lose,
    /// It is recorded as failed and never sent.
    Fail {
        /// The status that the record shows.
        status_code: u16,
    },
    /// It is sent again under the same GUID after a pause.
    Duplicate {
        /// The pause.
        after_ms: u64,
    },
    /// It is sent later.
    Delay {
        /// How much later.
        ms: u64,
    },
    /// It is sent when [`release_webhooks`](crate::GitHubControl::release_webhooks) is called.
    Hold,
}

/// Whose hook it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookKind {
    /// The App's own: events of every owner that has it installed.
    App,
    /// An organization's, by login.
    Organization(String),
    /// A repository's, as `owner/name`.
    Repository(String),
}

/// A hook.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    pub(crate) kind: HookKind,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) active: bool,
    pub(crate) created_at: Timestamp,
}

impl Hook {
    pub(crate) fn hears(&self, event: &Event) -> bool {
        let is =
            |name: &str, key: &Option<String>| key.as_ref().is_some_and(|key| name.eq_ignore_ascii_case(key));
        self.active
            && match &self.kind {
                HookKind::App => true,
                HookKind::Organization(login) => is(login, &event.owner),
                HookKind::Repository(full) => is(full, &event.repository),
            }
    }
}

/// One attempt to deliver, as it is about to be made.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) hook: u64,
    pub(crate) guid: String,
    pub(crate) event: String,
    pub(crate) action: Option<String>,
    pub(crate) job: Option<JobId>,
    pub(crate) installation: Option<u64>,
    pub(crate) repository: Option<u64>,
    pub(crate) body: Bytes,
    pub(crate) redelivery: bool,
}

/// One attempt to deliver, as it went.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: u64,
    pub(crate) attempt: Attempt,
    pub(crate) delivered_at: Timestamp,
    pub(crate) duration: Duration,
    pub(crate) status: String,
    pub(crate) status_code: u16,
    pub(crate) url: String,
    pub(crate) request_headers: BTreeMap<String, String>,
    pub(crate) response_headers: BTreeMap<String, String>,
    pub(crate) response_body: String,
}

/// A delivery as tests and `/_emulator/deliveries` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// Its id; each attempt has its own.
    pub id: u64,
    /// Shared by all attempts.
    pub guid: String,
    /// The hook.
    pub hook_id: u64,
    /// The event's name.
    pub event: String,
    /// Its action.
    pub action: Option<String>,
    /// The job that it is about.
    pub job: Option<JobId>,
    /// Whether it was asked for.
    pub redelivery: bool,
    /// When it was sent.
    pub delivered_at: Timestamp,
    /// What the receiver answered; 502 where it could not be reached, 504 where it took too long.
    pub status_code: u16,
    /// The same in words.
    pub status: String,
}

impl Delivery {
    pub(crate) fn view(&self) -> DeliveryView {
        DeliveryView {
            id: self.id,
            guid: self.attempt.guid.clone(),
            hook_id: self.attempt.hook,
            event: self.attempt.event.clone(),
            action: self.attempt.action.clone(),
            job: self.attempt.job,
            redelivery: self.attempt.redelivery,
            delivered_at: self.delivered_at,
            status_code: self.status_code,
            status: self.status.clone(),
        }
    }
}

/// What becomes of one event on its way to one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) lost: bool,
    pub(crate) failed: Option<u16>,
    pub(crate) delay: Duration,
    pub(crate) duplicate: Option<Duration>,
    pub(crate) held: bool,
}

/// Deliveries that are under way at the same time; more would time out in their own crowd.
const AT_ONCE: usize = 128;

/// Hooks, rules and deliveries of one emulator.
#[derive(Debug)]
pub(crate) struct Hooks {
    inner: Mutex<Inner>,
    /// Room for deliveries under way.
    pub(crate) room: Semaphore,
    /// Lets held deliveries go.
    pub(crate) release: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    hooks: Vec<Hook>,
    rules: Vec<(WebhookRule, u32, u32)>,
    chaos: Chaos,
    random: u64,
    deliveries: VecDeque<Delivery>,
    /// The end of the last delivery of a job to a hook, for the next to wait for.
    last: HashMap<(u64, JobId), oneshot::Receiver<()>>,
}

impl Hooks {
    pub(crate) fn new(chaos: Chaos) -> Self {
        let hooks = Self {
            inner: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            release: watch::Sender::default(),
        };
        hooks.set_chaos(chaos);
        hooks
    }

    pub(crate) fn set_chaos(&self, chaos: Chaos) {
        let mut inner = self.lock();
        inner.chaos = chaos;
        inner.random = chaos.seed.wrapping_mul(2) | 1;
    }

    pub(crate) fn put(&self, hook: Hook) {
        let mut inner = self.lock();
        inner.hooks.retain(|old| old.id != hook.id);
        inner.hooks.push(hook);
    }

    pub(crate) fn all(&self) -> Vec<Hook> {
        self.lock().hooks.clone()
    }

    pub(crate) fn hook(&self, id: u64) -> Option<Hook> {
        self.lock().hooks.iter().find(|hook| hook.id == id).cloned()
    }

    pub(crate) fn of_kind(&self, kind: &HookKind) -> Option<Hook> {
        self.lock().hooks.iter().find(|hook| hook.kind == *kind).cloned()
    }

    pub(crate) fn add_rule(&self, rule: WebhookRule) {
        self.lock().rules.push((rule, 0, 0));
    }

    pub(crate) fn clear_rules(&self) {
        self.lock().rules.clear();
    }

    /// Counts the event against every rule and throws the dice of chaos.
    pub(crate) fn fate(&self, event: &Event) -> Fate {
        let mut inner = self.lock();
        let mut fate = Fate::default();
        for (rule, seen, hits) in &mut inner.rules {
            if !rule.matches(event) {
                continue;
            }
            *seen += 1;
            if *seen <= rule.skip || rule.count.is_some_and(|count| *hits >= count) {
                continue;
            }
            *hits += 1;
            match rule.effect {
                WebhookEffect::Lose => fate.lost = true,
                WebhookEffect::Fail { status_code } => fate.failed = Some(status_code),
                WebhookEffect::Duplicate { after_ms } => {
                    fate.duplicate = Some(Duration::from_millis(after_ms))
                }
                WebhookEffect::Delay { ms } => fate.delay += Duration::from_millis(ms),
                WebhookEffect::Hold => fate.held = true,
            }
        }
        let chaos = inner.chaos;
        fate.lost |= inner.throw() < chaos.lose;
        if inner.throw() < chaos.fail {
            fate.failed = fate.failed.or(Some(502));
        }
        let spread = Duration::from_millis(chaos.max_delay_ms);
        if inner.throw() < chaos.duplicate {
            fate.duplicate = fate.duplicate.or(Some(spread.mul_f64(inner.throw())));
        }
        fate.delay += spread.mul_f64(inner.throw());
        fate
    }

    /// Puts a delivery of `job` behind the last one: what to wait for, and what to let go of at the end.
    pub(crate) fn chain(
        &self,
        hook: u64,
        job: JobId,
    ) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let before = self.lock().last.insert((hook, job), ended);
        (before, end)
    }

    /// Forgets the order of a job that has ended.
    pub(crate) fn unchain(&self, hook: u64, job: JobId) {
        self.lock().last.remove(&(hook, job));
    }

    pub(crate) fn record(&self, delivery: Delivery) {
        let mut inner = self.lock();
        inner.deliveries.push_back(delivery);
        if inner.deliveries.len() > KEPT {
            inner.deliveries.pop_front();
        }
    }

    /// Deliveries that `keep` keeps, newest first.
    pub(crate) fn deliveries(&self, mut keep: impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        let mut found: Vec<Delivery> =
            self.lock().deliveries.iter().filter(|one| keep(one)).cloned().collect();
        found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A number from 0 up to but not including 1.
    fn throw(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}
