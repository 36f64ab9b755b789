use proptest::prelude::*;

use super::*;
use crate::testing::{at, fact, job, secs};

/// Facts as `q1 i5:r c9 w3`: action, second heard, and the runner where one is named; `Q` is a queued read.
fn facts(told: &str) -> Vec<JobFact> {
    told.split_whitespace()
        .enumerate()
        .map(|(number, word)| {
            let (head, runner) =
                word.split_once(':').map_or((word, None), |(head, runner)| (head, Some(runner)));
            let (letter, second) = head.split_at(1);
            let (prefix, action) = match letter {
                "q" => ("hook", JobAction::Queued),
                "Q" => ("read", JobAction::Queued),
                "w" => ("hook", JobAction::Waiting),
                "i" => ("hook", JobAction::InProgress),
                _ => ("hook", JobAction::Completed),
            };
            fact(&format!("{prefix}-{number}"), action, second.parse().unwrap(), runner)
        })
        .collect()
}

fn told(facts: Vec<JobFact>) -> Job {
    Job { facts, ..job("1") }
}

fn queued(since: i64, confirmed: i64) -> JobState {
    JobState::Queued { since: at(since), confirmed_at: at(confirmed) }
}

fn running(runner: Option<&str>) -> JobState {
    JobState::Running { runner: runner.map(str::to_owned) }
}

fn ended(runner: Option<&str>, second: i64) -> JobState {
    let conclusion = Some("success".to_owned());
    JobState::Ended { conclusion, runner: runner.map(str::to_owned), at: at(second) }
}

#[test]
fn facts_merge_into_one_state() {
    let check = |input: &str, expect: JobState| assert_eq!(told(facts(input)).state(), expect, "{input}");
    check("", JobState::Waiting);
    check("q1", queued(1, 1));
    check("q1 q7", queued(1, 7));
    check("q1 Q9", queued(1, 9));
    check("w1", JobState::Waiting);
    check("q1 w2", JobState::Waiting);
    check("q1 w2 q5", queued(5, 5));
    check("q1 w2 q5 q8", queued(5, 8));
    check("q2 w2", JobState::Waiting);
    check("q1 i5:r", running(Some("r")));
    check("i5:r q9", running(Some("r")));
    check("i5:r w9", running(Some("r")));
    check("i5", running(None));
    check("i5:a i6:b", running(Some("b")));
    check("q1 c9", ended(None, 9));
    check("c9:r", ended(Some("r"), 9));
    check("i5:a c9", ended(Some("a"), 9));
    check("i5:a c9:b", ended(Some("b"), 9));
    check("c9:r i12:r", ended(Some("r"), 9));
    check("c9 c12", ended(None, 9));
}

#[test]
fn an_old_or_once_held_back_job_is_confirmed() {
    let check = |input: &str, now: i64, expect: bool| {
        let job = told(facts(input));
        let JobState::Queued { confirmed_at, .. } = job.state() else { panic!("{input} is not queued") };
        assert_eq!(job.needs_confirmation(confirmed_at, secs(600), at(now)), expect, "{input} at {now}");
    };
    check("q0", 600, false);
    check("q0", 601, true);
    check("q0 Q500", 1100, false);
    check("q0 Q500", 1101, true);
    check("q0 w1 q2", 3, true);
    check("q0 w1 q2 Q3", 3, false);
    check("Q0 w1 q2", 3, true);
}

#[test]
fn a_job_that_was_made_long_ago_is_confirmed_however_late_it_is_heard_of() {
    let check = |created: Option<i64>, input: &str, now: i64, expect: bool| {
        let mut job = told(facts(input));
        job.description.created_at = created.map(at);
        let JobState::Queued { confirmed_at, .. } = job.state() else { panic!("{input} is not queued") };
        let needs = job.needs_confirmation(confirmed_at, secs(600), at(now));
        assert_eq!(needs, expect, "made at {created:?}, {input} at {now}");
    };
    check(None, "q5000", 5001, false);
    check(Some(0), "q5000", 5001, true);
    check(Some(4998), "q5000", 5001, false);
    check(Some(4998), "q5000", 5598, false);
    check(Some(4998), "q5000", 5599, true);
    // Only its source confirms it, for a while; not a delivery that is repeated.
    check(Some(0), "q5000 Q5002", 5003, false);
    check(Some(0), "q5000 Q5002", 5603, true);
    check(Some(0), "Q2 q5000", 5001, true);
    check(Some(0), "q1 q5000", 5001, true);
    // A source whose clock is ahead makes nothing younger than it is.
    check(Some(9000), "q5000", 5600, false);
    check(Some(9000), "q5000", 5601, true);
}

#[test]
fn a_reading_counts_only_well_after_the_sign() {
    let check =
        |input: &str, expect: bool| assert_eq!(told(facts(input)).read_since(at(10)), expect, "{input}");
    check("q0", false);
    check("q0 q100", false);
    check("q0 Q10", false);
    check("q0 Q24", false);
    check("q0 Q25", true);
}

#[test]
fn hearing_the_same_again_does_not_move_the_beginning_of_a_state() {
    let check =
        |input: &str, expect: i64| assert_eq!(told(facts(input)).state_since(), at(expect), "{input}");
    check("", 0);
    check("q3 q5", 3);
    check("q1 w4 w9", 4);
    check("q1 w2 q3 w6 w8", 6);
    check("q1 i4:r i8:r", 4);
    check("q1 c7 c9", 7);
}

#[test]
fn a_key_reads_as_the_name_of_its_record() {
    assert_eq!(crate::testing::key("42").to_string(), "acme-42-1");
}

#[test]
fn standings_have_a_word_each() {
    let words: std::collections::BTreeSet<&str> =
        Standing::ALL.iter().map(|standing| standing.as_str()).collect();
    assert_eq!(words.len(), Standing::ALL.len());
}

fn any_fact() -> impl Strategy<Value = JobFact> {
    (0..4_u8, 0..6_i64, 0..3_u8, any::<bool>(), any::<u8>()).prop_map(
        |(action, second, runner, read, number)| {
            let action = [JobAction::Queued, JobAction::Waiting, JobAction::InProgress, JobAction::Completed]
                [usize::from(action)];
            let id = format!("{}-{number}", if read { "read" } else { "hook" });
            let runner = (runner > 0).then(|| format!("runner-{runner}"));
            fact(&id, action, second, runner.as_deref())
        },
    )
}

proptest! {
    #[test]
    fn the_order_of_facts_does_not_matter(
        (sorted, shuffled) in proptest::collection::vec(any_fact(), 0..8).prop_map(|mut facts| {
            // One telling has one id.
            facts.sort_by(|a, b| a.id.cmp(&b.id));
            facts.dedup_by(|a, b| a.id == b.id);
            facts
        }).prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle()))
    ) {
        let (a, b) = (told(sorted), told(shuffled));
        prop_assert_eq!(a.state(), b.state());
        prop_assert_eq!(a.state_since(), b.state_since());
        prop_assert_eq!(a.last_fact_at(), b.last_fact_at());
    }

    #[test]
    fn a_job_that_is_over_stays_over(
        facts in proptest::collection::vec(any_fact(), 1..8),
        late in any_fact(),
    ) {
        let mut job = told(facts);
        if matches!(job.state(), JobState::Ended { .. }) {
            job.facts.push(late);
            let still_over = matches!(job.state(), JobState::Ended { .. });
            prop_assert!(still_over);
        }
    }
}
