use super::*;

fn error(kind: CallErrorKind) -> CallError {
    CallError::new(kind, "read branch: failed")
}

#[test]
fn a_branch_that_cannot_be_read_for_minutes_counts_as_not_protected() {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let failing = |times, seconds| Failing { times, since: Some(now - SignedDuration::from_secs(seconds)) };
    for (failing, expect) in [
        (Failing::default(), Verdict::AskAgain),
        (failing(4, 3600), Verdict::AskAgain),
        (failing(50, 299), Verdict::AskAgain),
        (failing(5, 300), Verdict::NotProtected),
    ] {
        assert_eq!(verdict(&error(CallErrorKind::Unavailable), failing, now), expect, "{failing:?}");
    }
}

#[test]
fn what_is_in_the_way_of_all_jobs_tells_nothing_of_one() {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let failing = Failing { times: 50, since: Some(Timestamp::UNIX_EPOCH) };
    let of_credentials = CallError { of_credentials: true, ..error(CallErrorKind::Refused) };
    for (error, expect) in [
        (of_credentials, Verdict::AskNobody),
        (error(CallErrorKind::Throttled(None)), Verdict::AskNobody),
        (error(CallErrorKind::Refused), Verdict::NotProtected),
    ] {
        assert_eq!(verdict(&error, failing, now), expect, "{error:?}");
    }
}
