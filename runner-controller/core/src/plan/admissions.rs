//! Which of the jobs that wait get a runner now, and why the others do not.
//!
//! What concerns one job alone is asked first; those that pass compete for the room that limits leave, a long-waiting
//! larger one first, then in the order that `admission` gives.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::reading::LONGEST_WAIT;
use super::{Action, NewRunner, Pass, runner_name};
use crate::admission::{Order, ProfileId, Purpose, Usage};
use crate::job::{Job, JobKey, JobReport, JobState, Standing};
use crate::labels;
use crate::limit::{Amount, Caps};
use crate::pairing::{JobView, Wants};
use crate::placement;
use crate::reason::Reason;
use crate::setup::{Class, Place, Size, saturating_add};

/// A job that is queued and that no runner stands for.
pub(super) struct Waiting<'v, 'a> {
    pub(super) since: Timestamp,
    pub(super) view: &'v JobView<'a>,
    pub(super) report: JobReport,
}

/// One that gets a runner if limits and places allow.
struct Candidate<'v, 'a> {
    waiting: Waiting<'v, 'a>,
    wants: &'v Wants,
    class: &'v Class,
    size: Size,
    profile: ProfileId,
    priority: i64,
    /// When time alone changes its place among the others.
    changes_at: Option<Timestamp>,
}

impl Candidate<'_, '_> {
    fn amount(&self) -> Amount {
        Amount::of(self.size)
    }
}

/// What became of a job that waits.
enum Outcome {
    Start(Box<NewRunner>),
    /// Its next runner is being started, or its reservation is being given back.
    Pending,
    Wait(Reason),
}

impl<'a> Pass<'a> {
    /// Runners for those that wait and may have one, and why the others may not.
    pub(super) fn admissions<'v>(&mut self, views: &'v [JobView<'a>], mut waiting: Vec<Waiting<'v, 'a>>)
    where
        'a: 'v,
    {
        let starting = self.starting(views);
        let mut usage = self.usage(views, &starting);
        waiting.sort_by(|a, b| (a.since, &a.view.job.key).cmp(&(b.since, &b.view.job.key)));
        let mut candidates: Vec<Option<Candidate<'v, 'a>>> = Vec::with_capacity(waiting.len());
        for one in waiting {
            match self.alone(&one, &starting) {
                Ok((wants, class, size)) => {
                    candidates.push(Some(self.candidate(one, wants, class, size, &mut usage)));
                }
                Err(outcome) => self.becomes(one, outcome),
            }
        }
        self.long_waiting(&mut candidates, &mut usage);
        let in_line = candidates.iter().enumerate().filter_map(|(rank, candidate)| {
            candidate.as_ref().map(|candidate| (rank, candidate.priority, candidate.profile))
        });
        let mut order = Order::new(in_line, &usage);
        while let Some(rank) = order.next(&usage) {
            if let Some(candidate) = candidates.get_mut(rank).and_then(Option::take) {
                let outcome = self.compete(&candidate, &mut usage);
                self.ends(candidate, outcome);
            }
        }
    }

    /// Names without a record that a job's next runner has, with that job: it is being started, or a start of it was
    /// broken off.
    fn starting<'v>(&self, views: &'v [JobView<'a>]) -> HashMap<String, &'v JobView<'a>> {
        let held = self.snapshot.held.keys().filter(|name| self.is_ours(name));
        let names: BTreeSet<&String> = held
            .chain(&self.snapshot.reserved)
            .filter(|name| !self.by_name.contains_key(name.as_str()))
            .collect();
        if names.is_empty() {
            return HashMap::new();
        }
        views
            .iter()
            .map(|view| (self.next_name(view), view))
            .filter(|(name, _)| names.contains(name))
            .collect()
    }

    /// Counts what is in use: recorded runners, those being started, and reserved names that say nothing of theirs.
    fn usage<'v>(&self, views: &'v [JobView<'a>], starting: &HashMap<String, &'v JobView<'a>>) -> Usage<'v>
    where
        'a: 'v,
    {
        let unknown = |name: &&String| {
            !self.by_name.contains_key(name.as_str())
                && starting.get(name.as_str()).is_none_or(|view| view.wants.is_err())
        };
        let reserved = self.snapshot.reserved.iter().filter(unknown).count();
        let setup = &self.snapshot.setup;
        let jobs: HashMap<&JobKey, &Job> = views.iter().map(|view| (&view.job.key, view.job)).collect();
        let mut usage = Usage::count(setup, &self.snapshot.runners, |key| jobs.get(key).copied(), reserved);
        for view in starting.values() {
            let Ok(wants) = &view.wants else { continue };
            let class = setup.classes.get(&wants.matched.class);
            let size = class.and_then(|class| class.sizes.get(&wants.matched.size));
            let amount = size.map_or(Amount { runners: 1, ..Amount::default() }, |size| Amount::of(*size));
            let profile = usage.profile(&Purpose::of_job(view.job, &wants.matched));
            // Where it was to start is not known before its record is there.
            usage.take(profile, amount, None);
        }
        usage
    }

    fn next_name(&self, view: &JobView<'_>) -> String {
        let installation = &self.snapshot.setup.settings.installation;
        runner_name(installation, &view.job.key, self.next_ordinal(view.job))
    }

    /// What concerns a job alone: whether it could get a runner if there were no others.
    fn alone<'v>(
        &mut self,
        one: &Waiting<'v, 'a>,
        starting: &HashMap<String, &'v JobView<'a>>,
    ) -> Result<(&'v Wants, &'a Class, Size), Outcome> {
        let setup = &self.snapshot.setup;
        let (view, report) = (one.view, &one.report);
        let wants = view.wants.as_ref().map_err(|reason| Outcome::Wait(reason.clone()))?;
        let found = setup.classes.get(&wants.matched.class);
        let (class, size) = found
            .and_then(|class| class.sizes.get(&wants.matched.size).map(|size| (class, *size)))
            .ok_or(Outcome::Wait(Reason::NoPlace))?;
        if !starting.is_empty() {
            let name = self.next_name(view);
            if starting.contains_key(&name) {
                self.is_held(&name);
                return Err(Outcome::Pending);
            }
        }
        if let Some(due) = self.ask_from(view) {
            self.read_from(view, due);
            return Err(Outcome::Wait(Reason::ConfirmingWithSource));
        }
        let limit = class.max_attempts;
        if report.failed >= limit {
            return Err(Outcome::Wait(Reason::AttemptsExhausted { started: report.failed, limit }));
        }
        if let Some(until) = report.retry_after.filter(|until| *until > self.now) {
            self.wake(Some(until));
            return Err(Outcome::Wait(Reason::RetryPause { until, started: report.failed, limit }));
        }
        if let Some(source) = setup.sources.get(&view.job.key.source)
            && let Some(why) = &source.unavailable
        {
            let (source, why) = (source.name.clone(), why.clone());
            return Err(Outcome::Wait(Reason::SourceUnavailable { source, why }));
        }
        if self.branch_is_open(view, wants) {
            return Err(Outcome::Wait(Reason::ReadingBranch));
        }
        Ok((wants, class, size))
    }

    fn candidate<'v>(
        &self,
        waiting: Waiting<'v, 'a>,
        wants: &'v Wants,
        class: &'v Class,
        size: Size,
        usage: &mut Usage<'v>,
    ) -> Candidate<'v, 'a>
    where
        'a: 'v,
    {
        let profile = usage.profile(&Purpose::of_job(waiting.view.job, &wants.matched));
        let (own, highest) = usage.priority(profile);
        let age_every = self.snapshot.setup.settings.age_every.as_secs().max(1);
        let steps = self.now.duration_since(waiting.since).as_secs().max(0) / age_every;
        let priority = i64::from(own).saturating_add(steps).min(highest.into());
        let next = SignedDuration::from_secs(steps.saturating_add(1).saturating_mul(age_every));
        let changes_at = (priority < highest.into()).then(|| saturating_add(waiting.since, next));
        Candidate { waiting, wants, class, size, profile, priority, changes_at }
    }

    /// Lets the jobs go first that have waited for long and that smaller ones keep overtaking: one for each counter of
    /// a limit, the oldest. Where there is no room for it yet, what there is is kept for it.
    fn long_waiting<'v>(&mut self, candidates: &mut [Option<Candidate<'v, 'a>>], usage: &mut Usage<'v>)
    where
        'a: 'v,
    {
        let setup = &self.snapshot.setup;
        let by_size = |caps: &Caps| caps.cpu_millis.is_some() || caps.memory_bytes.is_some();
        if !setup.limits.values().any(|limit| by_size(&limit.caps)) {
            return;
        }
        let mut counters: HashMap<ProfileId, Vec<usize>> = HashMap::new();
        let mut least: HashMap<usize, Amount> = HashMap::new();
        for candidate in candidates.iter().flatten() {
            let own = counters.entry(candidate.profile).or_insert_with(|| {
                let place = placement::choose(setup, candidate.class, |_| Ok(())).ok();
                usage.limit_counters(candidate.profile, place.map(|place| place.name.as_str()))
            });
            let amount = candidate.amount();
            for counter in own {
                let least = least.entry(*counter).or_insert(amount);
                least.cpu_millis = least.cpu_millis.min(amount.cpu_millis);
                least.memory_bytes = least.memory_bytes.min(amount.memory_bytes);
            }
        }
        let mut served: HashSet<usize> = HashSet::new();
        for slot in candidates.iter_mut() {
            let Some(candidate) = slot else { continue };
            let Some(own) = counters.get(&candidate.profile) else { continue };
            let amount = candidate.amount();
            if own.iter().any(|counter| served.contains(counter))
                || !usage.is_larger(own, amount, &least)
                || !usage.could_fit(candidate.profile, own, amount)
            {
                continue;
            }
            let due = saturating_add(candidate.waiting.since, setup.settings.reserve_after);
            if self.now < due {
                candidate.changes_at = Some(candidate.changes_at.map_or(due, |at| at.min(due)));
                continue;
            }
            let Some(candidate) = slot.take() else { continue };
            let outcome = self.compete(&candidate, usage);
            match &outcome {
                Outcome::Start(_) => served.extend(own),
                Outcome::Wait(reason) if reason.is_of_room() => {
                    usage.reserve(own, amount, &candidate.waiting.view.job.key);
                    served.extend(own);
                }
                Outcome::Wait(_) | Outcome::Pending => {}
            }
            self.ends(candidate, outcome);
        }
    }

    /// Takes the room for a runner, or says what stands in the way.
    fn compete<'v>(&mut self, candidate: &Candidate<'v, 'a>, usage: &mut Usage<'v>) -> Outcome
    where
        'a: 'v,
    {
        let (profile, amount) = (candidate.profile, candidate.amount());
        if let Err(reason) = usage.room(profile, amount) {
            return Outcome::Wait(reason);
        }
        let mut room_at = |place: &'a Place| usage.room_at(profile, amount, &place.name);
        let place = match self.place_for(candidate.class, candidate.size, None, &mut room_at) {
            Ok(place) => place,
            Err(reason) => return Outcome::Wait(reason),
        };
        let (view, wants) = (candidate.waiting.view, candidate.wants);
        // Last, so that only as many jobs are asked about as there is room for.
        if let Some(due) = self.confirm_from(view) {
            if self.read_from(view, due) {
                usage.take(profile, amount, Some(&place.name));
                self.rooms.take(&place.name);
            }
            return Outcome::Wait(Reason::ConfirmingWithSource);
        }
        usage.take(profile, amount, Some(&place.name));
        self.rooms.take(&place.name);
        Outcome::Start(Box::new(NewRunner {
            name: self.next_name(view),
            job: view.job.key.clone(),
            ordinal: self.next_ordinal(view.job),
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
        }
        self.becomes(candidate.waiting, outcome);
    }

    /// Plans the start, or what the job's record is to say of its wait.
    fn becomes(&mut self, one: Waiting<'_, 'a>, outcome: Outcome) {
        let Waiting { view, mut report, .. } = one;
        let reason = match outcome {
            Outcome::Start(new) => {
                self.plan.actions.push(Action::Start(new));
                // What is reported follows from the runner's record, once that is there.
                return;
            }
            Outcome::Pending => return,
            Outcome::Wait(reason) => reason,
        };
        if matches!(reason, Reason::AttemptsExhausted { .. }) {
            report.standing = Standing::GivenUp;
            let stored = &view.job.report;
            let since = stored.ended_at.filter(|_| stored.standing == Standing::GivenUp);
            report.ended_at = Some(since.unwrap_or(self.now));
            if self.report(view, report, Some(reason)) {
                self.expire(view, self.long_over(view));
            }
            return;
        }
        if !matches!(reason, Reason::ConfirmingWithSource)
            && let JobState::Queued { confirmed_at, .. } = view.state
        {
            self.read_from(view, saturating_add(confirmed_at, LONGEST_WAIT));
        }
        report.standing = Standing::Waiting;
        self.report(view, report, Some(reason));
    }
}
