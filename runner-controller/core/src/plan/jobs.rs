//! What becomes of every job: what its record is to say, and whether it waits for a runner.
//!
//! Plans no step of a runner that is there; which of those that wait get one is `admissions`' work.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::admissions::Waiting;
use super::in_use::InUse;
use super::kinds::{Kind, Views};
use super::reading::LONGEST_WAIT;
use super::{Action, Pass, held_reading};
use crate::job::{JobReport, JobState, Standing};
use crate::lifecycle::{Occupation, counts_as_attempt, pauses_the_next};
use crate::pairing::{JobView, Pairing};
use crate::reason::Reason;
use crate::setup::saturating_add;

/// The longest pause between two runners for one job.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(10);

impl<'a> Pass<'a> {
    /// Every job's report; runners for those that wait and may have one.
    pub(super) fn jobs<'v>(&mut self, views: &'v Views<'a>, pairing: &'v Pairing<'v>, in_use: InUse<'v>) {
        let mut waiting: Vec<Waiting<'_, 'a>> = Vec::new();
        for (index, view) in views.list.iter().enumerate() {
            let Some((kind, of_kind)) = views.kind(index) else { continue };
            let mut says = self.carried_over(view, of_kind, pairing);
            match &view.state {
                JobState::Ended { conclusion, runner, at } => {
                    says.standing = Standing::Ended;
                    says.conclusion = conclusion.as_deref();
                    says.runner = runner.as_deref().or(says.runner);
                    says.ended_at = Some(*at);
                    if self.report(index, view, says, None) {
                        let ttl = self.snapshot.setup.settings.ttl_after_end;
                        self.expire(view, saturating_add(*at, ttl));
                    }
                }
                JobState::Running { runner } => {
                    says.standing = Standing::Running;
                    says.runner = runner.as_deref();
                    self.read_running(view, runner.as_deref());
                    self.report(index, view, says, None);
                }
                JobState::Waiting | JobState::Queued { .. } if let Err(reason) = &view.wants => {
                    says.standing = Standing::Refused;
                    self.read_unserved(view);
                    if self.report(index, view, says, Some(reason.clone())) {
                        self.expire(view, self.long_over(view));
                    }
                }
                JobState::Waiting => {
                    says.standing = Standing::Waiting;
                    self.read_held_back(view);
                    self.report(index, view, says, Some(Arc::new(Reason::AwaitingApproval)));
                }
                JobState::Queued { since, .. } => match pairing.covered.get(&view.job.key) {
                    Some(runner) => {
                        says.standing = Standing::Starting;
                        says.runner = Some(runner);
                        self.read_covered(view, runner);
                        self.report(index, view, says, None);
                    }
                    None => waiting.push(Waiting { index, kind, since: *since, view, report: says }),
                },
            }
        }
        self.admissions(views, waiting, in_use);
    }

    /// The stored report with what its runners add: how many there were, how many failed, and when the next may come.
    fn carried_over<'v>(
        &mut self,
        view: &'v JobView<'a>,
        kind: &'v Kind<'a>,
        pairing: &Pairing<'_>,
    ) -> Says<'v> {
        let stored = &view.job.report;
        let mut carried = Carried {
            runners_started: self.next_ordinal(view).saturating_sub(1),
            failed: stored.failed,
            counted: stored.counted,
            retry_after: stored.retry_after,
        };
        let says = |class, carried| Says {
            standing: Standing::default(),
            class,
            runner: stored.runner.as_deref(),
            conclusion: None,
            carried,
            ended_at: None,
        };
        let class = kind.label.as_deref();
        if view.needs_no_more() {
            // What it matched when it got its runner stands, whatever the configuration says by now.
            return says(stored.class.as_deref().or(class), carried);
        }
        if self.own(view).is_empty() {
            return says(class, carried);
        }
        let silent = self.silent(view);
        for runner in self.own(view) {
            let Some(teardown) = &runner.facts.teardown else { continue };
            if runner.ordinal <= carried.counted {
                continue;
            }
            let told = matches!(
                pairing.occupations.get(runner.name.as_str()),
                Some(Occupation::Busy | Occupation::Done { .. })
            );
            let counts = counts_as_attempt(&teardown.code, runner.ordinal);
            let failed = !told && runner.start_sign().is_none() && counts;
            if failed && silent.iter().any(|other| other.name == runner.name) {
                // It may have had the job: its source is asked first.
                break;
            }
            carried.counted = runner.ordinal;
            if failed {
                carried.failed = carried.failed.saturating_add(1);
            }
            if failed || (!counts && pauses_the_next(&teardown.code)) {
                let before = if failed { carried.failed } else { runner.ordinal }.saturating_sub(1);
                let pause = self.snapshot.setup.settings.retry_base.saturating_mul(1_i32 << before.min(16));
                carried.retry_after = Some(saturating_add(teardown.at, pause.min(LONGEST_RETRY)));
            }
        }
        says(class, carried)
    }

    /// When a job that never ran is surely over at its source too, and its record need not be kept longer.
    pub(super) fn long_over(&self, view: &JobView<'_>) -> Timestamp {
        let longest = saturating_add(view.job.stored_at, LONGEST_WAIT);
        saturating_add(longest, self.snapshot.setup.settings.ttl_after_end)
    }

    pub(super) fn expire(&mut self, view: &JobView<'a>, keep_until: Timestamp) {
        if self.now < keep_until {
            self.wake(Some(keep_until));
        } else if self.own(view).is_empty()
            && !self.is_held(&view.job.key.to_string())
            // Its answer would bring the record back.
            && !self.is_held(&held_reading(&view.job.key))
        {
            self.plan.actions.push(Action::Expire { job: view.job.key.clone() });
        }
    }

    /// Plans what the job's record is to say. Answers whether it says so already.
    pub(super) fn report(
        &mut self,
        index: usize,
        view: &JobView<'a>,
        mut says: Says<'_>,
        reason: Option<Arc<Reason>>,
    ) -> bool {
        let code = reason.as_ref().map(|reason| reason.code());
        // While the source is asked what became of the job, the runner that was meant for it is remembered.
        let asking = matches!(reason.as_deref(), Some(Reason::ConfirmingWithSource));
        if let Some(reason) = reason {
            self.reasons.push((index, reason));
        }
        if matches!(says.standing, Standing::Waiting | Standing::Refused | Standing::GivenUp) && !asking {
            says.runner = None;
        }
        let settled = says.is_said_by(&view.job.report, code);
        if !settled && !self.is_held(&view.job.key.to_string()) {
            let report = says.written(code);
            self.plan.actions.push(Action::Report { job: view.job.key.clone(), report });
        }
        settled
    }
}

/// What a job's record is to say, but for the reason.
#[derive(Clone, Copy)]
pub(super) struct Says<'r> {
    pub(super) standing: Standing,
    class: Option<&'r str>,
    runner: Option<&'r str>,
    conclusion: Option<&'r str>,
    pub(super) carried: Carried,
    pub(super) ended_at: Option<Timestamp>,
}

/// What a job's record remembers of its runners.
#[derive(Clone, Copy)]
pub(super) struct Carried {
    pub(super) runners_started: u32,
    pub(super) failed: u32,
    pub(super) counted: u32,
    pub(super) retry_after: Option<Timestamp>,
}

impl Says<'_> {
    fn is_said_by(&self, stored: &JobReport, reason: Option<&str>) -> bool {
        // Field by field, so that a new one cannot be forgotten.
        let JobReport {
            standing,
            reason: stored_reason,
            class,
            runner,
            conclusion,
            runners_started,
            failed,
            counted,
            retry_after,
            ended_at,
        } = stored;
        let carried = &self.carried;
        self.standing == *standing
            && reason == stored_reason.as_deref()
            && self.class == class.as_deref()
            && self.runner == runner.as_deref()
            && self.conclusion == conclusion.as_deref()
            && carried.runners_started == *runners_started
            && (carried.failed, carried.counted) == (*failed, *counted)
            && (carried.retry_after, self.ended_at) == (*retry_after, *ended_at)
    }

    fn written(&self, reason: Option<&str>) -> JobReport {
        let Carried { runners_started, failed, counted, retry_after } = self.carried;
        JobReport {
            standing: self.standing,
            reason: reason.map(str::to_owned),
            class: self.class.map(str::to_owned),
            runner: self.runner.map(str::to_owned),
            conclusion: self.conclusion.map(str::to_owned),
            runners_started,
            failed,
            counted,
            retry_after,
            ended_at: self.ended_at,
        }
    }
}
