//! What becomes of every job: a runner for one that waits and may have one, and what its record is to say.
//!
//! Plans no step of a runner that is there.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::reading::LONGEST_WAIT;
use super::{Action, NewRunner, Pass, runner_name};
use crate::admission::Usage;
use crate::job::{JobReport, JobState, Standing};
use crate::labels::{self, Matched};
use crate::lifecycle::{Occupation, counts_as_attempt, pauses_the_next};
use crate::pairing::{JobView, Pairing};
use crate::reason::Reason;
use crate::setup::saturating_add;

/// The longest pause between two runners for one job.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(10);

/// What became of a job that waits.
enum Outcome {
    Start(Box<NewRunner>),
    /// Its next runner is being started, or its reservation is being given back.
    Pending,
    Wait(Reason),
}

impl<'a> Pass<'a> {
    /// Every job's report; runners for those that wait and may have one.
    pub(super) fn jobs(&mut self, views: &[JobView<'a>], pairing: &Pairing<'_>) {
        let mut waiting: Vec<(Timestamp, &JobView<'a>, JobReport)> = Vec::new();
        for view in views {
            let mut report = self.carried_over(view, pairing);
            match &view.state {
                JobState::Ended { conclusion, runner, at } => {
                    report.standing = Standing::Ended;
                    report.conclusion.clone_from(conclusion);
                    report.runner = runner.clone().or(report.runner);
                    report.ended_at = Some(*at);
                    if self.report(view, report, None) {
                        let ttl = self.snapshot.setup.settings.ttl_after_end;
                        self.expire(view, saturating_add(*at, ttl));
                    }
                }
                JobState::Running { runner } => {
                    report.standing = Standing::Running;
                    report.runner.clone_from(runner);
                    self.read_running(view, runner.as_deref());
                    self.report(view, report, None);
                }
                JobState::Waiting | JobState::Queued { .. } if let Err(reason) = &view.wants => {
                    report.standing = Standing::Refused;
                    if self.report(view, report, Some(reason.clone())) {
                        self.expire(view, self.long_over(view));
                    }
                }
                JobState::Waiting => {
                    report.standing = Standing::Waiting;
                    self.read_held_back(view);
                    self.report(view, report, Some(Reason::AwaitingApproval));
                }
                JobState::Queued { since, .. } => match pairing.covered.get(&view.job.key) {
                    Some(runner) => {
                        report.standing = Standing::Starting;
                        report.runner = Some((*runner).to_owned());
                        self.read_covered(view, runner);
                        self.report(view, report, None);
                    }
                    None => waiting.push((*since, view, report)),
                },
            }
        }
        let starting = self.starting(views);
        let mut usage = self.usage(&starting);
        waiting.sort_by(|a, b| (a.0, &a.1.job.key).cmp(&(b.0, &b.1.job.key)));
        for (_, view, report) in waiting {
            self.admit(view, report, &starting, &mut usage);
        }
    }

    /// Names without a record that a job's next runner has, with what that is: it is being started, or a start of it
    /// was broken off.
    fn starting(&self, views: &[JobView<'a>]) -> HashMap<String, Option<Matched>> {
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
            .map(|view| {
                let wants = view.wants.as_ref().ok().map(|wants| wants.matched.clone());
                (self.next_name(view), wants)
            })
            .filter(|(name, _)| names.contains(name))
            .collect()
    }

    /// Counts what is in use: recorded runners, those being started, and reserved names that say nothing of theirs.
    fn usage(&self, starting: &HashMap<String, Option<Matched>>) -> Usage<'a> {
        let unknown = |name: &&String| {
            !self.by_name.contains_key(name.as_str()) && !matches!(starting.get(name.as_str()), Some(Some(_)))
        };
        let reserved = self.snapshot.reserved.iter().filter(unknown).count();
        let mut usage = Usage::count(&self.snapshot.setup, &self.snapshot.runners, reserved);
        for matched in starting.values().flatten() {
            usage.take(matched);
        }
        usage
    }

    fn next_name(&self, view: &JobView<'_>) -> String {
        let installation = &self.snapshot.setup.settings.installation;
        runner_name(installation, &view.job.key, self.next_ordinal(view.job))
    }

    /// Starts a runner for a job that waits, or says why not.
    fn admit(
        &mut self,
        view: &JobView<'a>,
        mut report: JobReport,
        starting: &HashMap<String, Option<Matched>>,
        usage: &mut Usage<'_>,
    ) {
        let reason = match self.outcome(view, &report, starting, usage) {
            Outcome::Start(new) => {
                usage.take(&new.matched);
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

    fn outcome(
        &mut self,
        view: &JobView<'a>,
        report: &JobReport,
        starting: &HashMap<String, Option<Matched>>,
        usage: &mut Usage<'_>,
    ) -> Outcome {
        let setup = &self.snapshot.setup;
        let job = view.job;
        let wants = match view.wants.clone() {
            Ok(wants) => wants,
            Err(reason) => return Outcome::Wait(reason),
        };
        let Some(class) = setup.classes.get(&wants.matched.class) else {
            return Outcome::Wait(Reason::NoPlace);
        };
        let Some(size) = class.sizes.get(&wants.matched.size) else { return Outcome::Wait(Reason::NoPlace) };
        let name = self.next_name(view);
        if starting.contains_key(&name) {
            self.is_held(&name);
            return Outcome::Pending;
        }
        if let Some(due) = self.ask_from(view) {
            self.read_from(view, due);
            return Outcome::Wait(Reason::ConfirmingWithSource);
        }
        let limit = class.max_attempts;
        if report.failed >= limit {
            return Outcome::Wait(Reason::AttemptsExhausted { started: report.failed, limit });
        }
        if let Some(until) = report.retry_after.filter(|until| *until > self.now) {
            self.wake(Some(until));
            return Outcome::Wait(Reason::RetryPause { until, started: report.failed, limit });
        }
        if let Some(source) = setup.sources.get(&job.key.source)
            && let Some(why) = &source.unavailable
        {
            return Outcome::Wait(Reason::SourceUnavailable {
                source: source.name.clone(),
                why: why.clone(),
            });
        }
        if let Err(reason) = usage.room(&wants.matched) {
            return Outcome::Wait(reason);
        }
        let place = match self.place_for(class, *size, None) {
            Ok(place) => place,
            Err(reason) => return Outcome::Wait(reason),
        };
        // Last, so that only as many jobs are asked about as there is room for.
        if let Some(due) = self.confirm_from(view) {
            if self.read_from(view, due) {
                usage.take(&wants.matched);
            }
            return Outcome::Wait(Reason::ConfirmingWithSource);
        }
        self.rooms.take(&place.name);
        Outcome::Start(Box::new(NewRunner {
            name,
            job: job.key.clone(),
            ordinal: self.next_ordinal(job),
            scope: wants.scope,
            labels: labels::registered_labels(class, &wants.matched),
            matched: wants.matched,
            size: *size,
            place: place.name.clone(),
            kind: place.kind,
        }))
    }

    /// The stored report with what its runners add: how many there were, how many failed, and when the next may come.
    fn carried_over(&mut self, view: &JobView<'a>, pairing: &Pairing<'_>) -> JobReport {
        let stored = &view.job.report;
        let mut report = JobReport {
            class: view.wants.as_ref().ok().map(|wants| wants.matched.label()),
            runner: stored.runner.clone(),
            runners_started: self.next_ordinal(view.job).saturating_sub(1),
            failed: stored.failed,
            counted: stored.counted,
            retry_after: stored.retry_after,
            ..JobReport::default()
        };
        if view.needs_no_more() {
            // What it matched when it got its runner stands, whatever the configuration says by now.
            report.class = stored.class.clone().or(report.class);
            return report;
        }
        let silent = self.silent(view);
        for runner in self.own(&view.job.key) {
            let Some(teardown) = &runner.facts.teardown else { continue };
            if runner.ordinal <= report.counted {
                continue;
            }
            let told = matches!(
                pairing.occupations.get(runner.name.as_str()),
                Some(Occupation::Busy | Occupation::Done { .. })
            );
            let failed = !told && runner.start_sign().is_none() && counts_as_attempt(&teardown.code);
            if failed && silent.iter().any(|other| other.name == runner.name) {
                // It may have had the job: its source is asked first.
                break;
            }
            report.counted = runner.ordinal;
            if failed {
                report.failed = report.failed.saturating_add(1);
            }
            if failed || (!counts_as_attempt(&teardown.code) && pauses_the_next(&teardown.code)) {
                let before = if failed { report.failed } else { runner.ordinal }.saturating_sub(1);
                let pause = self.snapshot.setup.settings.retry_base.saturating_mul(1_i32 << before.min(16));
                report.retry_after = Some(saturating_add(teardown.at, pause.min(LONGEST_RETRY)));
            }
        }
        report
    }

    /// When a job that never ran is surely over at its source too, and its record need not be kept longer.
    fn long_over(&self, view: &JobView<'_>) -> Timestamp {
        let longest = saturating_add(view.job.stored_at, LONGEST_WAIT);
        saturating_add(longest, self.snapshot.setup.settings.ttl_after_end)
    }

    fn expire(&mut self, view: &JobView<'a>, keep_until: Timestamp) {
        if self.now < keep_until {
            self.wake(Some(keep_until));
        } else if self.own(&view.job.key).is_empty() && !self.is_held(&view.job.key.to_string()) {
            self.plan.actions.push(Action::Expire { job: view.job.key.clone() });
        }
    }

    /// Plans what the job's record is to say. Answers whether it says so already.
    fn report(&mut self, view: &JobView<'a>, mut report: JobReport, reason: Option<Reason>) -> bool {
        report.reason = reason.as_ref().map(|reason| reason.code().to_owned());
        // While the source is asked what became of the job, the runner that was meant for it is remembered.
        let asking = matches!(reason, Some(Reason::ConfirmingWithSource));
        if let Some(reason) = reason {
            self.plan.reasons.insert(view.job.key.clone(), reason);
        }
        if matches!(report.standing, Standing::Waiting | Standing::Refused | Standing::GivenUp) && !asking {
            report.runner = None;
        }
        let settled = report == view.job.report;
        if !settled && !self.is_held(&view.job.key.to_string()) {
            self.plan.actions.push(Action::Report { job: view.job.key.clone(), report });
        }
        settled
    }
}
