//! How jobs begin and end before any runner has them, as a table: which of them get a runner.

use crate::job::{Job, JobAction, JobKey};
use crate::plan::{Action, plan};
use crate::testing::{at, job, key, snapshot};

fn starts(jobs: Vec<Job>) -> Vec<JobKey> {
    let actions = plan(&snapshot(jobs, Vec::new()), at(10)).actions;
    let start = |action| if let Action::Start(new) = action { Some(new.job) } else { None };
    actions.into_iter().filter_map(start).collect()
}

#[test]
fn only_a_job_that_is_queued_and_not_over_gets_a_runner() {
    use JobAction::{Completed, Queued, Waiting};
    for (case, facts, expect) in [
        ("queued", &[Queued][..], true),
        ("cancelled or skipped before any runner had it", &[Queued, Completed], false),
        ("skipped, and never queued", &[Completed], false),
        ("its end told before its beginning", &[Completed, Queued], false),
        ("held back for an approval", &[Queued, Waiting], false),
        ("held back from the first", &[Waiting], false),
        // Which of the two came last may be told in the wrong order, so its source is asked first.
        ("approved a moment ago", &[Queued, Waiting, Queued], false),
        ("refused", &[Queued, Waiting, Completed], false),
    ] {
        let told = facts
            .iter()
            .enumerate()
            .fold(job("1"), |job, (second, action)| job.told(*action, i64::try_from(second).unwrap(), None));
        assert_eq!(!starts(vec![told]).is_empty(), expect, "{case}");
    }
}

#[test]
fn a_new_attempt_is_a_job_of_its_own() {
    let first = job("1").queued(0).told(JobAction::Completed, 2, None);
    let again = Job { key: JobKey { attempt: 2, ..key("1") }, ..job("1").queued(3) };
    assert_eq!(starts(vec![first, again.clone()]), [again.key]);
}

#[test]
fn a_job_that_was_approved_is_asked_about_and_then_gets_a_runner() {
    let approved = job("1").queued(0).told(JobAction::Waiting, 1, None).queued(2);
    let asked = plan(&snapshot(vec![approved.clone()], Vec::new()), at(10)).actions;
    assert!(asked.iter().any(|action| matches!(action, Action::ReadJob { .. })), "{asked:?}");
    assert_eq!(starts(vec![approved.read(JobAction::Queued, 9)]), [key("1")]);
}
