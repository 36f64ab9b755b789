//! The App's hook as GitHub shows it: every attempt to deliver, for three days, a page at a time and the newest first, under a
//! limit of calls of its own.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::job::JobAction;
use runner_core::sweep::{Attempt, Page};
use stint::ports::{CallError, CallErrorKind, CallResult, Delivery, DeliveryPage};

use super::GitHub;

/// The hook's name, as the adapter to GitHub gives it.
pub const HOOK: &str = "app/hook";
/// For how long GitHub keeps deliveries.
const KEPT: SignedDuration = SignedDuration::from_hours(3 * 24);
/// How many attempts there are on a page.
const PAGE: usize = 100;
/// How many calls about hooks an App has in an hour.
const CALLS: u64 = 5_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// One attempt to deliver, in the order in which they ended.
pub(super) struct Sent {
    pub(super) id: u64,
    pub(super) guid: String,
    pub(super) at: Timestamp,
    pub(super) action: &'static str,
    pub(super) job: u64,
    /// What the receiver answered; 0: it could not be reached.
    pub(super) status: u16,
    pub(super) body: Arc<str>,
}

impl Sent {
    fn delivered(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// How many calls about hooks were made in the hour that began then.
#[derive(Default)]
pub(super) struct Spent {
    began: Duration,
    calls: u64,
}

impl GitHub {
    /// Spends one call about hooks.
    pub(super) fn spend_on_hooks(&self) -> CallResult<()> {
        let now = self.board.clock.passed();
        let mut inner = self.lock();
        let spent = &mut inner.spent;
        if now >= spent.began + HOUR {
            *spent = Spent { began: now, calls: 0 };
        }
        if spent.calls < CALLS {
            spent.calls += 1;
            return Ok(());
        }
        let left = (spent.began + HOUR).saturating_sub(now);
        drop(inner);
        self.board
            .journal
            .note("GitHub", format_args!("wants no calls about hooks for {} s", left.as_secs()));
        Err(CallError::new(CallErrorKind::Throttled(Some(left)), "403: rate limit"))
    }

    /// A page of the list.
    pub(super) fn page(&self, page: &Page) -> CallResult<DeliveryPage> {
        self.spend_on_hooks()?;
        let kept_from = self.board.clock.now().saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
        let inner = self.lock();
        // A cursor stays where it is while newer attempts are added.
        let below = match page {
            Page::Newest => inner.sent.len(),
            Page::Older(cursor) => cursor.parse().unwrap_or(0),
        };
        let from = below.saturating_sub(PAGE);
        let of_page = inner.sent.get(from..below).unwrap_or_default();
        let attempts: Vec<Attempt> =
            of_page.iter().rev().filter(|sent| sent.at >= kept_from).map(attempt).collect();
        let all_kept = attempts.len() == of_page.len();
        Ok(DeliveryPage { attempts, next: (from > 0 && all_kept).then(|| from.to_string()) })
    }

    /// What an attempt brought, or would have.
    pub(super) fn read_delivery(&self, id: u64) -> CallResult<Option<Delivery>> {
        self.spend_on_hooks()?;
        let kept_from = self.board.clock.now().saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
        let inner = self.lock();
        let found = inner.sent.iter().find(|sent| sent.id == id && sent.at >= kept_from);
        Ok(found.map(|sent| Delivery {
            guid: sent.guid.clone(),
            event: "workflow_job".to_owned(),
            payload: sent.body.as_bytes().to_vec(),
        }))
    }

    /// Of each job of which a `queued` was sent, when that was first tried.
    pub fn told_of(&self) -> Vec<(u64, Duration)> {
        self.lock().told.iter().map(|(job, at)| (*job, *at)).collect()
    }

    /// Notes an attempt that has ended.
    pub(super) fn note_sent(&self, sent: Sent, began: Duration) {
        let mut inner = self.lock();
        // What Stint has no use for, it answers otherwise.
        if matches!(sent.status, 200 | 201) {
            inner.accepted.insert(sent.job);
        }
        if sent.action == "queued" {
            inner.told.entry(sent.job).or_insert(began);
        }
        inner.sent.push(sent);
    }
}

fn attempt(sent: &Sent) -> Attempt {
    let action = match sent.action {
        "queued" => Some(JobAction::Queued),
        "waiting" => Some(JobAction::Waiting),
        "in_progress" => Some(JobAction::InProgress),
        "completed" => Some(JobAction::Completed),
        _ => None,
    };
    Attempt { id: sent.id, guid: sent.guid.clone(), at: sent.at, delivered: sent.delivered(), action }
}
