//! Which of a hook's deliveries were lost, in which order they are recovered, and how far all are accounted for.
//!
//! A source lists the attempts to deliver, newest first and page by page, and keeps them for a few days; those of one
//! delivery share its guid. One that no attempt brought is lost, since the source does not try again by itself. How far
//! all are accounted for is a moment by the source's clock, the *cursor*: it alone is kept, and never passes a lost
//! delivery. Decides from lists alone: what is read and stored is the caller's work, which may fail or be repeated.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::job::JobAction;
use crate::setup::saturating_add;

/// How long a source keeps its deliveries (GitHub: three days).
pub const WINDOW: SignedDuration = SignedDuration::from_hours(3 * 24);
/// How long a lost delivery is left to somebody who sends it again by hand, or to an attempt that is under way.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(30);
/// How long after its delivery an attempt may still appear in the list: a receiver has 10 seconds to answer.
pub const LATE: SignedDuration = SignedDuration::from_mins(2);
/// The pause before the list is read again after something was recovered: more may have been lost meanwhile.
pub const AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// The pause before a delivery is tried again that could not be read or stored; it doubles with each failure, up to
/// [`RETRY_AT_MOST`], so that what fails for days does not use up the calls that others need.
pub const RETRY: SignedDuration = SignedDuration::from_secs(15);
/// The longest of these pauses.
pub const RETRY_AT_MOST: SignedDuration = SignedDuration::from_hours(1);
/// How long a delivery must have been unknown to its source before it is taken for gone: a single such answer may come
/// from a server that has not heard of it yet.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// How far back deliveries are read where every one is, and none was ever read before: what was queued earlier is found
/// among the source's queued jobs.
const FIRST_READ: SignedDuration = SignedDuration::from_hours(1);
/// A source fails a job that waited for a day (GitHub); what was told earlier can start nothing any more.
const QUEUED_AT_MOST: SignedDuration = SignedDuration::from_hours(24);

/// Which deliveries are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those that no attempt brought.
    Lost,
    /// Every one, whether or not it was brought to anybody.
    All,
}

/// One attempt to deliver, as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The source's id of it.
    pub id: u64,
    /// What all attempts of a delivery share.
    pub guid: String,
    /// When it was made, by the source's clock.
    pub at: Timestamp,
    /// Whether it was answered with success.
    pub delivered: bool,
    /// What happened to a job; `None`: the delivery is of something else.
    pub action: Option<JobAction>,
}

/// A page of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The first, with the newest attempts.
    Newest,
    /// The one that the source named as the next.
    Older(String),
}

/// A delivery that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its guid.
    pub guid: String,
    /// The source's id of its latest attempt.
    pub id: u64,
}

/// What is known of one hook's deliveries.
#[derive(Clone, Debug)]
pub struct Sweep {
    wanted: Wanted,
    cursor: Option<Timestamp>,
    /// Every attempt made before this is in `known` or of no use any more: this process need not list it again, even where
    /// the cursor waits for one that is open.
    listed_to: Option<Timestamp>,
    known: BTreeMap<String, Known>,
    listing: Option<Listing>,
    /// When the last list that was read to its end was begun.
    swept_at: Option<Timestamp>,
    /// Whether anything was recovered since the last list was begun.
    found: bool,
}

#[derive(Clone, Debug)]
struct Known {
    first: Timestamp,
    latest: (Timestamp, u64),
    seen_at: Timestamp,
    delivered: bool,
    action: Option<JobAction>,
    settled: bool,
    failures: u32,
    /// After a failure: not to be tried again before this.
    retry_at: Option<Timestamp>,
    /// Since when its source has answered that it does not know it.
    missing_since: Option<Timestamp>,
}

/// A list that is being read.
#[derive(Clone, Debug)]
struct Listing {
    began: Timestamp,
    /// Attempts made before this are accounted for.
    from: Timestamp,
    next: Page,
    newest: Option<Timestamp>,
}

impl Sweep {
    /// A sweep that goes on from the cursor of an earlier one, if there was one.
    pub fn new(wanted: Wanted, cursor: Option<Timestamp>) -> Self {
        Self {
            wanted,
            cursor,
            listed_to: None,
            known: BTreeMap::new(),
            listing: None,
            swept_at: None,
            found: false,
        }
    }

    /// Every delivery made before this moment is accounted for.
    pub fn cursor(&self) -> Option<Timestamp> {
        self.cursor
    }

    /// When the last list that was read to its end was begun.
    pub fn swept_at(&self) -> Option<Timestamp> {
        self.swept_at
    }

    /// How many deliveries are known to be lost and not recovered yet.
    pub fn outstanding(&self) -> usize {
        self.known.values().filter(|known| self.is_open(known)).count()
    }

    /// Begins to read the list, unless it is being read.
    pub fn begin(&mut self, now: Timestamp) {
        if self.listing.is_some() {
            return;
        }
        self.found = false;
        let back = match (self.wanted, self.cursor) {
            (Wanted::All, None) => FIRST_READ,
            (Wanted::All, Some(_)) | (Wanted::Lost, _) => WINDOW,
        };
        let from = saturating_add(now, -back).max(self.listed_from());
        self.listing = Some(Listing { began: now, from, next: Page::Newest, newest: None });
    }

    /// The page of the list that is to be read next; `None`: the list is not being read.
    pub fn page(&self) -> Option<&Page> {
        self.listing.as_ref().map(|listing| &listing.next)
    }

    /// Gives up a list whose next page cannot be read: it is begun anew.
    pub fn break_off(&mut self) {
        self.listing = None;
    }

    /// Takes a page in. `next`: what the source named as the next page, if there is one.
    pub fn listed(&mut self, attempts: Vec<Attempt>, next: Option<String>, now: Timestamp) {
        let Some(listing) = &mut self.listing else { return };
        // The list is in the order in which attempts ended, and none lasts longer than LATE: what stands below one that was
        // made so long before is older than that, too.
        let done = saturating_add(listing.from, -LATE);
        // A page without any attempt ends nothing: what its source no longer shows may have stood there.
        let over = attempts.iter().any(|attempt| attempt.at < done);
        listing.newest = attempts.iter().map(|attempt| attempt.at).chain(listing.newest).max();
        for attempt in attempts.into_iter().filter(|attempt| attempt.at >= listing.from) {
            let seen = (attempt.at, attempt.id);
            let known = self.known.entry(attempt.guid).or_insert(Known {
                first: attempt.at,
                latest: seen,
                seen_at: now,
                delivered: false,
                action: attempt.action,
                settled: false,
                failures: 0,
                retry_at: None,
                missing_since: None,
            });
            known.first = known.first.min(attempt.at);
            known.latest = known.latest.max(seen);
            known.delivered |= attempt.delivered;
            known.action = known.action.or(attempt.action);
        }
        // One that names itself as the next would be read for ever.
        match next.map(Page::Older).filter(|next| !over && *next != listing.next) {
            Some(next) => listing.next = next,
            None => {
                self.swept_at = Some(listing.began);
                let newest = listing.newest;
                self.listing = None;
                self.advance(newest, now);
            }
        }
    }

    /// The deliveries that are to be read now, the most urgent first: those that failed less often, so that the ones that
    /// fail do not keep others waiting; of these, jobs that may still be queued before news of those that have runners, and
    /// both before what is a day old; the oldest of each first.
    pub fn due(&self, now: Timestamp) -> Vec<Due> {
        let mut due: Vec<(u32, u8, Timestamp, &String, u64)> = self
            .known
            .iter()
            .filter(|(_, known)| self.is_open(known) && self.due_at(known) <= now)
            .map(|(guid, known)| (known.failures, urgency(known, now), known.first, guid, known.latest.1))
            .collect();
        due.sort();
        due.into_iter().map(|(_, _, _, guid, id)| Due { guid: guid.clone(), id }).collect()
    }

    /// Notes that a delivery was read and stored, or is of no use.
    pub fn settle(&mut self, guid: &str) {
        if let Some(known) = self.known.get_mut(guid) {
            known.settled = true;
            self.found = true;
        }
    }

    /// Notes that a delivery could not be read or stored: it is tried again after a pause.
    pub fn failed(&mut self, guid: &str, now: Timestamp) {
        if let Some(known) = self.known.get_mut(guid) {
            let pause = RETRY.saturating_mul(1_i32 << known.failures.min(10)).min(RETRY_AT_MOST);
            known.failures = known.failures.saturating_add(1);
            known.retry_at = Some(saturating_add(now, pause));
        }
    }

    /// Notes that the source does not know a delivery, which settles it once that was so for long enough. Answers whether
    /// it did; otherwise it is tried again.
    pub fn missing(&mut self, guid: &str, now: Timestamp) -> bool {
        let Some(known) = self.known.get_mut(guid) else { return true };
        let since = *known.missing_since.get_or_insert(now);
        let gone = now.duration_since(since) >= GONE_AFTER;
        if gone {
            self.settle(guid);
        } else {
            self.failed(guid, now);
        }
        gone
    }

    /// When the list is to be read again, where that is every `period` while all is well.
    pub fn list_at(&self, period: SignedDuration, now: Timestamp) -> Timestamp {
        let Some(swept_at) = self.swept_at.filter(|_| self.listing.is_none()) else { return now };
        // While there is enough to read, the list can wait.
        let drained = self.found && self.wanted == Wanted::Lost && self.outstanding() == 0;
        saturating_add(swept_at, if drained { AGAIN.min(period) } else { period })
    }

    /// When there is something to do at the latest.
    pub fn next(&self, period: SignedDuration, now: Timestamp) -> Timestamp {
        let open = self.known.values().filter(|known| self.is_open(known));
        open.map(|known| self.due_at(known)).chain([self.list_at(period, now)]).min().unwrap_or(now)
    }

    /// Whether a delivery is still to be read.
    fn is_open(&self, known: &Known) -> bool {
        let wanted = match self.wanted {
            Wanted::Lost => !known.delivered,
            Wanted::All => true,
        };
        wanted && !known.settled && known.action.is_some()
    }

    /// When a lost delivery is no longer left to others. By either clock, since the source's may be another one.
    fn settles_at(&self, known: &Known) -> Timestamp {
        match self.wanted {
            Wanted::Lost => saturating_add(known.latest.0.min(known.seen_at), SETTLE),
            Wanted::All => Timestamp::MIN,
        }
    }

    /// When an open one is to be read.
    fn due_at(&self, known: &Known) -> Timestamp {
        self.settles_at(known).max(known.retry_at.unwrap_or(Timestamp::MIN))
    }

    /// Attempts made before this need not be listed.
    fn listed_from(&self) -> Timestamp {
        self.cursor.max(self.listed_to).unwrap_or(Timestamp::MIN)
    }

    /// Moves the cursor as far as everything is accounted for. Never by our own clock, which may be ahead.
    fn advance(&mut self, newest: Option<Timestamp>, now: Timestamp) {
        let kept_from = saturating_add(now, -WINDOW);
        // What its source no longer keeps cannot be recovered.
        self.known.retain(|_, known| known.latest.0 >= kept_from);
        let open = self.known.values().filter(|known| self.is_open(known)).map(|known| known.first).min();
        let to = newest.map(|newest| saturating_add(newest, -LATE));
        self.listed_to = self.listed_to.max(to);
        let to = to.map(|to| open.map_or(to, |open| open.min(to)));
        self.cursor = self.cursor.max(to);
        let listed_from = self.listed_from();
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(_, known)| known.latest.0 < listed_from && !self.is_open(known))
            .map(|(guid, _)| guid.clone())
            .collect();
        for guid in gone {
            self.known.remove(&guid);
        }
    }
}

/// How urgent it is to read a delivery; the least comes first.
fn urgency(known: &Known, now: Timestamp) -> u8 {
    let old = saturating_add(known.first, QUEUED_AT_MOST) < now;
    match known.action {
        Some(JobAction::Queued | JobAction::Waiting) if !old => 0,
        Some(JobAction::InProgress | JobAction::Completed) if !old => 1,
        Some(_) | None => 2,
    }
}

#[cfg(test)]
mod tests;
