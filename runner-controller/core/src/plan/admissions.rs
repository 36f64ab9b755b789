//! Which of the jobs that wait get a runner now, and why the others do not.
//!
//! What concerns one job alone is asked first; those that pass compete for the room that limits leave, in the
//! order that `admission` gives; `keeping` sees to it that smaller ones do not take it all.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use jiff::{SignedDuration, Timestamp};

use super::in_use::InUse;
use super::jobs::Says;
use super::kinds::{KindId, Views};
use super::reading::LONGEST_WAIT;
use super::{Action, NewRunner, Pass};
use crate::admission::{Order, ProfileId, Purpose, Usage};
use crate::job::{JobState, Standing};
use crate::labels;
use crate::limit::Amount;
use crate::pairing::{JobView, Wants};
use crate::reason::Reason;
use crate::setup::{Class, Place, Size, saturating_add};

/// The priority of a job that waits changes at multiples of this since the epoch, so that all that change about then are
/// looked at in one pass.
const AGEING_STEP: SignedDuration = SignedDuration::from_secs(5);

/// A job that is queued and that no runner stands for.
pub(super) struct Waiting<'v, 'a> {
    pub(super) index: usize,
    pub(super) kind: KindId,
    pub(super) since: Timestamp,
    pub(super) view: &'v JobView<'a>,
    pub(super) report: Says<'v>,
}

/// One that gets a runner if limits and places allow.
pub(super) struct Candidate<'v, 'a> {
    pub(super) waiting: Waiting<'v, 'a>,
    wants: &'v Wants,
    pub(super) class: &'v Class,
    pub(super) size: Size,
    pub(super) profile: ProfileId,
    priority: i64,
    /// Whether smaller ones may keep overtaking it under a limit, although it has waited for long.
    pub(super) overtaken: bool,
    /// When time alone changes its place among the others.
    pub(super) changes_at: Option<Timestamp>,
}

impl Candidate<'_, '_> {
    pub(super) fn amount(&self) -> Amount {
        Amount::of(self.size)
    }
}

/// What became of a job that waits.
enum Outcome {
    Start(Box<NewRunner>),
    /// Its next runner is being started, or its reservation is being given back.
    Pending,
    Wait(Arc<Reason>),
}

impl Outcome {
    fn wait(reason: Reason) -> Self {
        Self::Wait(Arc::new(reason))
    }
}

impl<'a> Pass<'a> {
    /// Runners for those that wait and may have one, and why the others may not.
    pub(super) fn admissions<'v>(
        &mut self,
        views: &'v Views<'a>,
        mut waiting: Vec<Waiting<'v, 'a>>,
        in_use: InUse<'v>,
    ) where
        'a: 'v,
    {
        let InUse { mut usage, starting } = in_use;
        // They come in the order of their keys, which decides between those of the same age.
        waiting.sort_by_key(|one| one.since);
        let mut candidates: Vec<Option<Candidate<'v, 'a>>> = Vec::with_capacity(waiting.len());
        let mut profiles: Vec<Option<ProfileId>> = vec![None; views.kinds()];
        for one in waiting {
            match self.alone(&one, views, &starting) {
                Ok((wants, class, size)) => {
                    let known = profiles.get(one.kind.0).copied().flatten();
                    let profile = known
                        .unwrap_or_else(|| usage.profile(&Purpose::of_job(one.view.job, &wants.matched)));
                    if let Some(slot) = profiles.get_mut(one.kind.0) {
                        *slot = Some(profile);
                    }
                    candidates.push(Some(self.candidate(one, wants, class, size, profile, &usage)));
                }
                Err(outcome) => self.becomes(one, outcome),
            }
        }
        let mut kept = self.long_waiting(&mut candidates, &mut usage);
        // Room only shrinks from here on: what is refused one job is refused all that are alike.
        let mut refused: HashMap<ProfileId, Arc<Reason>> = HashMap::new();
        let in_line = candidates.iter().enumerate().filter_map(|(rank, candidate)| {
            candidate.as_ref().map(|candidate| (rank, candidate.priority, candidate.profile))
        });
        self.wake(self.budgets.next_period());
        let mut order = Order::new(in_line, &usage);
        while let Some(rank) = order.next(&usage) {
            if let Some(candidate) = candidates.get_mut(rank).and_then(Option::take) {
                let outcome = match refused.get(&candidate.profile) {
                    Some(reason) => Outcome::Wait(reason.clone()),
                    None => self.compete(&candidate, &mut usage),
                };
                if let Outcome::Wait(reason) = &outcome
                    && !matches!(**reason, Reason::ConfirmingWithSource | Reason::RegistrationsSpent { .. })
                {
                    refused.entry(candidate.profile).or_insert_with(|| reason.clone());
                    self.keep_room(&candidate, reason, &mut kept, &mut usage);
                }
                self.ends(candidate, outcome);
            }
        }
    }

    /// What concerns a job alone: whether it could get a runner if there were no others.
    fn alone<'v>(
        &mut self,
        one: &Waiting<'v, 'a>,
        views: &'v Views<'a>,
        starting: &HashMap<String, usize>,
    ) -> Result<(&'v Wants, &'a Class, Size), Outcome> {
        let (view, carried) = (one.view, one.report.carried);
        let (_, kind) = views.kind(one.index).ok_or(Outcome::Pending)?;
        let wants = view.wants.as_deref().map_err(|reason| Outcome::Wait(reason.clone()))?;
        let (class, size) = kind.class.ok_or_else(|| Outcome::wait(Reason::NoPlace))?;
        if !starting.is_empty() {
            let name = self.next_name(view);
            if starting.contains_key(&name) {
                self.is_held(&name);
                return Err(Outcome::Pending);
            }
        }
        if let Some(due) = self.ask_from(view) {
            self.read_from(view, due);
            return Err(Outcome::wait(Reason::ConfirmingWithSource));
        }
        let limit = class.max_attempts;
        if carried.failed >= limit {
            return Err(Outcome::wait(Reason::AttemptsExhausted { started: carried.failed, limit }));
        }
        if let Some(until) = carried.retry_after.filter(|until| *until > self.now) {
            self.wake(Some(until));
            return Err(Outcome::wait(Reason::RetryPause { until, started: carried.failed, limit }));
        }
        if let Some(source) = kind.source
            && let Some(why) = &source.unavailable
        {
            let (source, why) = (source.name.clone(), why.clone());
            return Err(Outcome::wait(Reason::SourceUnavailable { source, why }));
        }
        if self.branch_is_open(view, wants) {
            return Err(Outcome::wait(Reason::ReadingBranch));
        }
        Ok((wants, class, size))
    }

    fn candidate<'v>(
        &self,
        waiting: Waiting<'v, 'a>,
        wants: &'v Wants,
        class: &'v Class,
        size: Size,
        profile: ProfileId,
        usage: &Usage<'v>,
    ) -> Candidate<'v, 'a>
    where
        'a: 'v,
    {
        let (own, highest) = usage.priority(profile);
        if own == highest {
            return Candidate {
                waiting,
                wants,
                class,
                size,
                profile,
                priority: own.into(),
                overtaken: false,
                changes_at: None,
            };
        }
        let age_every = self.snapshot.setup.settings.age_every.as_secs().max(1);
        let begun = ageing_moment(self.now);
        let steps = begun.duration_since(waiting.since).as_secs().max(0) / age_every;
        let priority = i64::from(own).saturating_add(steps).min(highest.into());
        let next = SignedDuration::from_secs(steps.saturating_add(1).saturating_mul(age_every));
        let changes_at =
            (priority < highest.into()).then(|| next_ageing_moment(saturating_add(waiting.since, next)));
        Candidate { waiting, wants, class, size, profile, priority, overtaken: false, changes_at }
    }

    /// Takes the room for a runner, or says what stands in the way.
    fn compete<'v>(&mut self, candidate: &Candidate<'v, 'a>, usage: &mut Usage<'v>) -> Outcome
    where
        'a: 'v,
    {
        let (profile, amount) = (candidate.profile, candidate.amount());
        if let Err(reason) = usage.room(profile, amount) {
            return Outcome::wait(reason);
        }
        let mut room_at = |place: &'a Place| usage.room_at(profile, amount, &place.name);
        let place = match self.place_for(candidate.class, candidate.size, None, &mut room_at) {
            Ok(place) => place,
            Err(reason) => return Outcome::wait(reason),
        };
        let (view, wants) = (candidate.waiting.view, candidate.wants);
        let source = view.job.key.source.as_str();
        if let Err(spent) = self.may_register(source) {
            return Outcome::Wait(spent);
        }
        // Last, so that only as many jobs are asked about as there is room for.
        if let Some(due) = self.confirm_from(view) {
            if self.read_from(view, due) {
                usage.take(profile, amount, Some(&place.name));
                self.rooms.take(&place.name);
                self.quotas.take(place, candidate.size);
                self.registers(source);
            }
            return Outcome::wait(Reason::ConfirmingWithSource);
        }
        usage.take(profile, amount, Some(&place.name));
        self.rooms.take(&place.name);
        self.quotas.take(place, candidate.size);
        self.registers(source);
        Outcome::Start(Box::new(NewRunner {
            name: self.next_name(view),
            job: view.job.key.clone(),
            ordinal: self.next_ordinal(view),
            scope: wants.scope.clone(),
            labels: labels::registered_labels(candidate.class, &wants.matched),
            matched: wants.matched.clone(),
            size: candidate.size,
            place: place.name.clone(),
            kind: place.kind,
        }))
    }

    /// What becomes of one that competed.
    fn ends(&mut self, candidate: Candidate<'_, 'a>, outcome: Outcome) {
        if matches!(outcome, Outcome::Wait(_)) {
            self.wake(candidate.changes_at);
            self.line.push(candidate.waiting.index);
        }
        self.becomes(candidate.waiting, outcome);
    }

    /// Plans the start, or what the job's record is to say of its wait.
    fn becomes(&mut self, one: Waiting<'_, 'a>, outcome: Outcome) {
        let Waiting { index, view, report: mut says, .. } = one;
        let reason = match outcome {
            Outcome::Start(new) => {
                self.plan.actions.push(Action::Start(new));
                // What is reported follows from the runner's record, once that is there.
                return;
            }
            Outcome::Pending => return,
            Outcome::Wait(reason) => reason,
        };
        if matches!(*reason, Reason::AttemptsExhausted { .. }) {
            says.standing = Standing::GivenUp;
            let stored = &view.job.report;
            let since = stored.ended_at.filter(|_| stored.standing == Standing::GivenUp);
            says.ended_at = Some(since.unwrap_or(self.now));
            self.read_unserved(view);
            if self.report(index, view, says, Some(reason)) {
                self.expire(view, self.long_over(view));
            }
            return;
        }
        if !matches!(*reason, Reason::ConfirmingWithSource)
            && let JobState::Queued { confirmed_at, .. } = view.state
        {
            self.read_from(view, saturating_add(confirmed_at, LONGEST_WAIT));
        }
        says.standing = Standing::Waiting;
        self.report(index, view, says, Some(reason));
    }
}

/// The last moment at which priorities changed.
pub(super) fn ageing_moment(now: Timestamp) -> Timestamp {
    let step = AGEING_STEP.as_secs();
    Timestamp::from_second(now.as_second().div_euclid(step).saturating_mul(step)).unwrap_or(now)
}

/// The first moment, not before the one given, at which priorities change.
pub(super) fn next_ageing_moment(at: Timestamp) -> Timestamp {
    let last = ageing_moment(at);
    if last == at { at } else { saturating_add(last, AGEING_STEP) }
}
