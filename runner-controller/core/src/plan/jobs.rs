//! What becomes of every job: what its record is to say, and whether it waits for a runner.
//!
//! Plans no step of a runner that is there; which of those that wait get one is `admissions`' work.

use jiff::{SignedDuration, Timestamp};

use super::admissions::Waiting;
use super::reading::LONGEST_WAIT;
use super::{Action, Pass};
use crate::job::{JobReport, JobState, Standing};
use crate::lifecycle::{Occupation, counts_as_attempt, pauses_the_next};
use crate::pairing::{JobView, Pairing};
use crate::reason::Reason;
use crate::setup::saturating_add;

/// The longest pause between two runners for one job.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(10);

impl<'a> Pass<'a> {
    /// Every job's report; runners for those that wait and may have one.
    pub(super) fn jobs(&mut self, views: &[JobView<'a>], pairing: &Pairing<'_>) {
        let mut waiting: Vec<Waiting<'_, 'a>> = Vec::new();
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
                    None => waiting.push(Waiting { since: *since, view, report }),
                },
            }
        }
        self.admissions(views, waiting);
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
    pub(super) fn long_over(&self, view: &JobView<'_>) -> Timestamp {
        let longest = saturating_add(view.job.stored_at, LONGEST_WAIT);
        saturating_add(longest, self.snapshot.setup.settings.ttl_after_end)
    }

    pub(super) fn expire(&mut self, view: &JobView<'a>, keep_until: Timestamp) {
        if self.now < keep_until {
            self.wake(Some(keep_until));
        } else if self.own(&view.job.key).is_empty() && !self.is_held(&view.job.key.to_string()) {
            self.plan.actions.push(Action::Expire { job: view.job.key.clone() });
        }
    }

    /// Plans what the job's record is to say. Answers whether it says so already.
    pub(super) fn report(
        &mut self,
        view: &JobView<'a>,
        mut report: JobReport,
        reason: Option<Reason>,
    ) -> bool {
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
