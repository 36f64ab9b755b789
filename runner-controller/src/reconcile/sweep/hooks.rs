//! Deliveries of a source's hooks: lists them, reads those that are wanted, and keeps how far all are accounted for.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use runner_core::sweep::{Due, Page, Sweep, Wanted};

use super::{Complaints, PAUSE, add, after};
use crate::clock;
use crate::config::{Intake, ResolvedSource};
use crate::execute::Outside;
use crate::intake::recovered::{self, Recovered};
use crate::ports::{CallError, CallErrorKind, CallResult, HooksWanted, Provider, Stored};
use crate::telemetry::DeliveryOutcome;

/// How often deliveries are listed while all is well.
const EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How often hooks are looked for, where some are known and where none is.
const LOOK_EVERY: SignedDuration = SignedDuration::from_hours(1);
const LOOK_SOON: SignedDuration = SignedDuration::from_mins(5);
/// The least time between two writes of how far is swept.
const KEEP_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Pages that are listed, and deliveries that are read, before anything else of the source gets its turn.
const PAGES: usize = 20;
const READS: usize = 200;
/// Deliveries that are read at the same time.
const AT_ONCE: usize = 8;

/// The hooks of a source.
pub(super) struct Hooks {
    source: String,
    wanted: HooksWanted,
    which: Wanted,
    every: SignedDuration,
    all: Vec<Hook>,
    /// How far earlier sweeps came, by hook; `None`: not read yet.
    kept: Option<BTreeMap<String, Timestamp>>,
    look_at: Option<Timestamp>,
}

struct Hook {
    name: String,
    sweep: Sweep,
    kept: Option<(Timestamp, Timestamp)>,
}

impl Hooks {
    pub(super) fn of(source: &ResolvedSource) -> Self {
        let (which, every) = match source.intake {
            Intake::Webhook => (Wanted::Lost, EVERY),
            Intake::Poll(every) => (Wanted::All, every),
        };
        Self {
            source: source.name.clone(),
            wanted: HooksWanted {
                source: source.name.clone(),
                anywhere: which == Wanted::All,
                owners: source.owners.clone(),
                repositories: source.repositories.clone(),
            },
            which,
            every,
            all: Vec::new(),
            kept: None,
            look_at: None,
        }
    }

    /// Does what is due. `hurry`: lists at once. Answers when there is more.
    pub(super) async fn pass(
        &mut self,
        outside: &Outside,
        provider: &dyn Provider,
        hurry: bool,
        complaints: &mut Complaints,
    ) -> Timestamp {
        let mut next = match self.look(outside, provider).await {
            Ok(next) => {
                complaints.settled("hooks");
                next
            }
            Err(error) => {
                self.complain(&error, complaints);
                match error.kind {
                    CallErrorKind::Refused | CallErrorKind::NotFound => add(clock::now(), LOOK_SOON),
                    CallErrorKind::Unavailable | CallErrorKind::Throttled(_) | CallErrorKind::Conflict => {
                        after(&error)
                    }
                }
            }
        };
        if self.all.is_empty() && self.which == Wanted::All && self.look_at.is_some() {
            let none = "there is no hook whose deliveries can be read";
            self.complain(&CallError::new(CallErrorKind::NotFound, none), complaints);
        }
        let mut listed = true;
        for hook in &mut self.all {
            let due = match hook.pass(outside, provider, (&self.source, self.which, self.every), hurry).await
            {
                Ok((due, None)) => due,
                Ok((due, Some(error))) => {
                    listed = false;
                    let source = &self.source;
                    if complaints.is_news("deliveries", &error.message) {
                        tracing::warn!(source, %error, "deliveries to source {source} cannot be stored: {error}");
                    }
                    due
                }
                Err(error) => {
                    listed = false;
                    let source = &self.source;
                    if matches!(error.kind, CallErrorKind::Throttled(_)) {
                        tracing::debug!(source, %error, "deliveries to source {source} wait: {error}");
                    } else if complaints.is_news("deliveries", &error.message) {
                        tracing::warn!(source, %error, "deliveries to source {source} are not accounted for: {error}");
                    }
                    after(&error)
                }
            };
            next = next.min(due);
        }
        if listed {
            complaints.settled("deliveries");
        }
        let swept_at = self.all.iter().map(|hook| hook.sweep.swept_at()).min().flatten();
        if swept_at.is_some() {
            outside.metrics.set_swept(&self.source, swept_at);
        }
        next
    }

    /// Looks for the hooks, if that is due.
    async fn look(&mut self, outside: &Outside, provider: &dyn Provider) -> CallResult<Timestamp> {
        let now = clock::now();
        if let Some(look_at) = self.look_at.filter(|at| *at > now) {
            return Ok(look_at);
        }
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => outside.records.swept(&self.source).await?,
        };
        let kept = self.kept.insert(kept);
        let found = match provider.hooks(&self.wanted).await {
            Ok(found) => found,
            Err(error) => {
                if matches!(error.kind, CallErrorKind::Refused | CallErrorKind::NotFound) {
                    self.look_at = Some(add(now, LOOK_SOON));
                    self.all.retain(|hook| hook.leave(kept));
                }
                return Err(error);
            }
        };
        self.all.retain(|hook| found.contains(&hook.name) || hook.leave(kept));
        for name in found {
            if !self.all.iter().any(|hook| hook.name == name) {
                let cursor = kept.get(&name).copied();
                let sweep = Sweep::new(self.which, cursor);
                self.all.push(Hook { name, sweep, kept: cursor.map(|cursor| (cursor, Timestamp::MIN)) });
            }
        }
        let look_at = add(now, if self.all.is_empty() { LOOK_SOON } else { LOOK_EVERY });
        self.look_at = Some(look_at);
        Ok(look_at)
    }

    fn complain(&self, error: &CallError, complaints: &mut Complaints) {
        if !complaints.is_news("hooks", &error.message) {
            return;
        }
        let source = &self.source;
        match self.which {
            Wanted::All => tracing::error!(
                source,
                %error,
                "source {source} is told of no job but those that are found queued every 15 minutes: {error}; with \
                 intake: poll, the App needs a webhook, or the token must administer a hook whose URL ends with \
                 /webhooks/{source}"
            ),
            Wanted::Lost => tracing::warn!(
                source,
                %error,
                "deliveries to source {source} that are lost are not recovered, but for jobs that are found queued every \
                 15 minutes: {error}"
            ),
        }
    }
}

/// What came of the deliveries that a pass read.
#[derive(Default)]
struct Tally {
    new_jobs: u64,
    stored: u64,
    known: u64,
    unused: u64,
    failed: u64,
    /// What the store said of one that it will not take.
    refused: Option<CallError>,
    /// What keeps any from being read or stored.
    error: Option<CallError>,
}

/// What came of one delivery.
enum Read {
    Done(Recovered),
    /// Its source does not know it.
    Missing,
    /// It alone cannot be read.
    Unreadable(CallError),
    /// The store will not take it, which says nothing of the others: news of stored jobs needs no room, for one.
    Refused(CallError),
    /// None can be read or stored now.
    Stop(CallError),
}

impl Hook {
    /// Remembers how far a hook is swept that is looked after no longer, in case it comes back. Answers that it goes.
    fn leave(&self, kept: &mut BTreeMap<String, Timestamp>) -> bool {
        if let Some(cursor) = self.sweep.cursor() {
            kept.insert(self.name.clone(), cursor);
        }
        false
    }

    async fn pass(
        &mut self,
        outside: &Outside,
        provider: &dyn Provider,
        (source, which, every): (&str, Wanted, SignedDuration),
        hurry: bool,
    ) -> CallResult<(Timestamp, Option<CallError>)> {
        if hurry || self.sweep.list_at(every, clock::now()) <= clock::now() {
            self.sweep.begin(clock::now());
        }
        for _ in 0..PAGES {
            let Some(page) = self.sweep.page().cloned() else { break };
            match provider.deliveries(&self.name, &page).await {
                Ok(listed) => self.sweep.listed(listed.attempts, listed.next, clock::now()),
                Err(error) => {
                    let gone = matches!(error.kind, CallErrorKind::Refused | CallErrorKind::NotFound);
                    if gone && page != Page::Newest {
                        self.sweep.break_off();
                    }
                    return Err(error);
                }
            }
        }
        let tally = self.recover(outside, provider, source).await;
        self.tell(outside, (source, which), &tally);
        self.keep(outside, source).await?;
        if let Some(error) = tally.error {
            return Err(error);
        }
        // Those that could not be read get another chance, but not at once.
        let soonest = if tally.failed > 0 { add(clock::now(), PAUSE) } else { Timestamp::MIN };
        Ok((self.sweep.next(every, clock::now()).max(soonest), tally.refused))
    }

    /// Reads and stores the most urgent ones.
    async fn recover(&mut self, outside: &Outside, provider: &dyn Provider, source: &str) -> Tally {
        let mut tally = Tally::default();
        let due = self.sweep.due(clock::now());
        let name = self.name.as_str();
        let rules = outside.sources.rules().borrow().clone();
        let read = |due: Due| async {
            let read = match provider.delivery(name, due.id).await {
                Ok(Some(read)) => read,
                Ok(None) => return (due, Read::Missing),
                // Of one delivery alone, it seems.
                Err(error) if !matches!(error.kind, CallErrorKind::Throttled(_)) => {
                    return (due, Read::Unreadable(error));
                }
                Err(error) => return (due, Read::Stop(error)),
            };
            let stored = match recovered::delivery(&*outside.records, &rules, source, &read).await {
                Ok(what) => Read::Done(what),
                Err(error) => match error.kind {
                    CallErrorKind::Unavailable | CallErrorKind::Throttled(_) => Read::Stop(error),
                    CallErrorKind::Refused | CallErrorKind::Conflict | CallErrorKind::NotFound => {
                        Read::Refused(error)
                    }
                },
            };
            (due, stored)
        };
        // Those of a batch are waited for together, so that none that was stored is forgotten over the failure of another.
        for batch in due.get(..READS.min(due.len())).unwrap_or_default().chunks(AT_ONCE) {
            for (due, result) in join_all(batch.iter().cloned().map(read)).await {
                match result {
                    Read::Done(what) => {
                        match what {
                            Recovered::Stored(Stored::NewJob) => tally.new_jobs += 1,
                            Recovered::Stored(Stored::Added) => tally.stored += 1,
                            Recovered::Stored(Stored::Known) => tally.known += 1,
                            Recovered::Unused(why) => {
                                tracing::debug!(source, guid = due.guid, "a delivery is of no use: {why}");
                                tally.unused += 1;
                            }
                        }
                        self.sweep.settle(&due.guid);
                    }
                    Read::Missing => {
                        if self.sweep.missing(&due.guid, clock::now()) {
                            tracing::debug!(source, guid = due.guid, "a delivery is gone from its source");
                            tally.unused += 1;
                        } else {
                            tally.failed += 1;
                        }
                    }
                    Read::Unreadable(error) => {
                        tracing::debug!(source, guid = due.guid, %error, "a delivery cannot be read: {error}");
                        self.sweep.failed(&due.guid, clock::now());
                        tally.failed += 1;
                    }
                    Read::Refused(error) => {
                        tracing::debug!(source, guid = due.guid, %error, "a delivery cannot be stored: {error}");
                        self.sweep.failed(&due.guid, clock::now());
                        tally.failed += 1;
                        tally.refused = tally.refused.or(Some(error));
                    }
                    Read::Stop(error) => tally.error = tally.error.or(Some(error)),
                }
            }
            if tally.error.is_some() {
                break;
            }
        }
        tally
    }

    /// Says what a pass has recovered, in one line.
    fn tell(&self, outside: &Outside, (source, which): (&str, Wanted), tally: &Tally) {
        let Tally { new_jobs, stored, known, unused, failed, .. } = *tally;
        match which {
            Wanted::Lost => {
                outside.metrics.recovered(source, new_jobs + stored);
                if new_jobs + stored + failed > 0 {
                    let left = self.sweep.outstanding();
                    tracing::info!(
                        source,
                        new_jobs,
                        stored,
                        known,
                        unused,
                        failed,
                        left,
                        "source {source}: {} lost deliveries recovered, {new_jobs} of new jobs; {left} to go",
                        new_jobs + stored
                    );
                }
            }
            Wanted::All => {
                let all = [
                    (new_jobs, DeliveryOutcome::NewJob),
                    (stored, DeliveryOutcome::Stored),
                    (known, DeliveryOutcome::Known),
                    (unused, DeliveryOutcome::Ignored),
                ];
                for (count, outcome) in all {
                    for _ in 0..count {
                        outside.metrics.delivery(Some(source), "workflow_job", outcome);
                    }
                }
            }
        }
    }

    /// Keeps how far is swept, for whoever goes on after this process; not at every change.
    async fn keep(&mut self, outside: &Outside, source: &str) -> CallResult<()> {
        let (Some(cursor), now) = (self.sweep.cursor(), clock::now()) else { return Ok(()) };
        let due = |(kept, at): (Timestamp, Timestamp)| {
            cursor > kept
                && (now.duration_since(at) >= KEEP_EVERY || cursor.duration_since(kept) >= KEEP_EVERY)
        };
        if self.kept.is_none_or(due) {
            outside.records.note_swept(source, &self.name, cursor).await?;
            self.kept = Some((cursor, now));
        }
        Ok(())
    }
}
