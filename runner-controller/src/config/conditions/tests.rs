use super::*;
use crate::config::convert::job_status;
use crate::config::records::{RunnerJobSpec, RunnerJobStatus};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The condition of a job that stands so, as `status reason @since: message`.
fn said(standing: Standing, reason: Option<&str>, started: u32, known: Option<(bool, Timestamp)>) -> String {
    let report = JobReport {
        standing,
        reason: reason.map(str::to_owned),
        runners_started: started,
        ..JobReport::default()
    };
    let conditions = of(&report, known, at(9));
    let shown = conditions.iter().map(|one| {
        let since = one.last_transition_time.as_second();
        format!("{} {} @{since}: {}", one.status, one.reason, one.message)
    });
    shown.collect()
}

#[test]
fn a_condition_says_whether_a_runner_was_started_and_keeps_its_time_while_that_is_so() {
    let waits = "ClassFull";
    let page = "See docs/errors/ClassFull.md.";
    assert_eq!(said(Standing::Stored, None, 0, None), "");
    assert_eq!(
        said(Standing::Waiting, Some(waits), 0, None),
        format!("False ClassFull @9: The limit of the class is reached. {page}")
    );
    assert!(said(Standing::Waiting, Some(waits), 0, Some((false, at(5)))).starts_with("False ClassFull @5:"));
    assert!(said(Standing::Waiting, Some(waits), 1, Some((true, at(5)))).starts_with("False ClassFull @9:"));
    assert!(said(Standing::Refused, Some("NoClassNamed"), 0, None).starts_with("False NoClassNamed @9:"));
    let starting = said(Standing::Starting, None, 1, Some((false, at(5))));
    assert_eq!(starting, "True Starting @9: A runner is being started for it.");
    assert_eq!(said(Standing::Running, None, 1, Some((true, at(5)))), "True Running @5: A runner has it.");
    assert_eq!(said(Standing::Ended, None, 1, Some((true, at(5)))), "True Ended @5: It is over.");
    assert_eq!(
        said(Standing::Ended, None, 0, Some((false, at(5)))),
        "False Ended @5: It was over before it had a runner."
    );
}

#[test]
fn a_record_tells_again_what_its_condition_said() {
    let report = JobReport { standing: Standing::Running, ..JobReport::default() };
    let mut record = RunnerJob::new("acme-1-1", RunnerJobSpec::default());
    assert_eq!(admitted(&record), None);
    let conditions = of(&report, None, at(9));
    record.status = Some(RunnerJobStatus { conditions, ..job_status(&report) });
    assert_eq!(admitted(&record), Some((true, at(9))));
}
