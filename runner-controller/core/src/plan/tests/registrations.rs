//! No more runners start than their source lets register.

use super::starts;
use crate::plan::{Plan, Snapshot, plan};
use crate::reason::Reason;
use crate::setup::Registrations;
use crate::testing::{at, job, key, runner, snapshot, source};

const RESET: i64 = 1_000;

fn left(left: u64) -> Option<Registrations> {
    Some(Registrations { left, limit: 3, reset: at(RESET) })
}

/// Ten queued jobs at a source that lets so many more register.
fn crowd(registrations: Option<Registrations>) -> Snapshot {
    let jobs = (0..10).map(|id| job(&id.to_string()).queued(900)).collect();
    let mut snapshot = snapshot(jobs, Vec::new());
    for source in snapshot.setup.sources.values_mut() {
        source.registrations = registrations;
    }
    snapshot
}

fn waiting(plan: &Plan) -> Vec<&Reason> {
    plan.reasons.values().map(|reason| &**reason).collect()
}

#[test]
fn no_more_start_than_are_left_and_the_rest_wait_for_the_reset() {
    for (registrations, expect) in [(None, 10), (left(20), 10), (left(4), 4), (left(0), 0)] {
        let plan = plan(&crowd(registrations), at(910));
        assert_eq!(starts(&plan).len(), expect, "{registrations:?}");
        let spent = Reason::RegistrationsSpent { source: "acme".to_owned(), until: at(RESET) };
        assert_eq!(waiting(&plan), vec![&spent; 10 - expect]);
        if expect < 10 {
            assert!(plan.wake_at.is_some_and(|at_latest| at_latest <= at(RESET)), "{:?}", plan.wake_at);
        }
    }
}

#[test]
fn from_the_reset_on_as_many_start_as_the_limit_allows() {
    assert_eq!(starts(&plan(&crowd(left(0)), at(RESET - 1))).len(), 0);
    assert_eq!(starts(&plan(&crowd(left(0)), at(RESET))).len(), 3);
}

#[test]
fn those_that_are_about_to_register_are_counted_and_those_that_have_are_not() {
    let mut snapshot = crowd(left(5));
    snapshot.runners = vec![
        runner("0", 1),
        runner("1", 1).with(crate::lifecycle::RunnerFact::Registering(at(905))),
        runner("2", 1).registered(905),
        runner("3", 1).torn_down(&Reason::Deleted, 905),
    ];
    // One that is being started: its name is reserved and no record shows yet.
    snapshot.reserved.insert(crate::plan::runner_name("stint", &key("4"), 1));
    assert_eq!(starts(&plan(&snapshot, at(910))).len(), 2);
}

#[test]
fn one_source_does_not_hold_up_another() {
    let mut snapshot = crowd(left(0));
    snapshot.setup.sources.insert("other".to_owned(), source("other", &["acme"]));
    let mut other = job("77").queued(909);
    other.key.source = "other".to_owned();
    snapshot.jobs.push(other);
    let plan = plan(&snapshot, at(910));
    let started: Vec<&str> = starts(&plan).iter().map(|new| new.job.id.as_str()).collect();
    assert_eq!(started, ["77"]);
}
