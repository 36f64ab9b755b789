//! Of every state of a job, its source is asked in the end, if it says nothing.

use crate::job::{Job, JobAction};
use crate::plan::{Action, plan};
use crate::testing::{at, job, runner, snapshot};

const HOUR: i64 = 3_600;

/// When the source is first asked about a job of which nothing more is heard, with no room for it.
fn asked_at(job: Job) -> Option<i64> {
    let mut all = snapshot(vec![job], Vec::new());
    for class in all.setup.classes.values_mut() {
        class.max_runners = 0;
    }
    // Once a pass has written what there is to write, time alone leads on.
    let mut now = 0;
    for _ in 0..200 {
        let plan = plan(&all, at(now));
        for action in &plan.actions {
            match action {
                Action::ReadJob { .. } => return Some(now),
                Action::Report { report, .. } => all.jobs[0].report = report.clone(),
                Action::Expire { .. } => return None,
                Action::Start(_)
                | Action::Step { .. }
                | Action::ReadBranch { .. }
                | Action::Unreserve { .. } => unreachable!("nothing can start"),
            }
        }
        if plan.actions.is_empty() {
            now = plan.wake_at?.duration_since(at(0)).as_secs().max(now + 1);
        }
    }
    None
}

#[test]
fn a_job_that_is_silent_for_long_is_asked_about_in_every_state() {
    let given_up = |mut job: Job| {
        job.report.failed = 3;
        job.report.counted = 3;
        job.report.runners_started = 3;
        job
    };
    let elsewhere = runner("99", 1).name.replace("stint-", "other-");
    for (job, expect, what) in [
        (job("1").queued(0), 24 * HOUR, "queued, and waiting for room"),
        (job("1").queued(0).asking("unknown"), 24 * HOUR, "queued, and refused"),
        (given_up(job("1").queued(0)), 24 * HOUR, "queued, and given up"),
        (job("1").told(JobAction::Waiting, 0, None), 60, "waiting for an approval"),
        (job("1").told(JobAction::Waiting, 0, None).asking("unknown"), 24 * HOUR, "the same, and refused"),
        (job("1").running(0, &elsewhere), HOUR, "running on somebody else's runner"),
        (job("1").running(0, &runner("1", 1).name), 60, "running on a runner that is gone"),
        (job("1").told(JobAction::InProgress, 0, None), HOUR, "running nobody knows where"),
    ] {
        assert_eq!(asked_at(job), Some(expect), "{what}");
    }
}

#[test]
fn a_refused_job_is_asked_about_once_a_day_and_not_when_its_record_goes() {
    let refused = || job("1").queued(0).asking("unknown");
    assert_eq!(asked_at(refused()), Some(24 * HOUR));
    // The answer came late; the next question would be due when the record is about to go.
    assert_eq!(asked_at(refused().read(JobAction::Queued, 25 * HOUR)), None);
    assert_eq!(asked_at(refused().told(JobAction::Completed, 25 * HOUR, None)), None);
}
