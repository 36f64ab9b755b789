//! Limits and priorities that ask for protected branches.

use proptest::prelude::*;

use super::starts;
use crate::job::{Finding, Job};
use crate::limit::Dimension::{Class, Owner};
use crate::limit::{ConcurrencyLimit, JobMatch, PriorityRule};
use crate::plan::{Action, Hold, Plan, Snapshot, held_branches_of, plan};
use crate::testing::{at, job, limit, setup, snapshot};

/// A limit on jobs that run (or do not run) the code of a protected branch.
fn about(protected: bool, most: u64) -> ConcurrencyLimit {
    let mut one = limit("branch").most(most);
    one.matches.protected_branch = Some(protected);
    one
}

fn found(job: Job, protected: Option<bool>) -> Job {
    let mut job = job;
    if let Some(protected) = protected {
        job.found.add(Finding::ProtectedBranch(protected));
    }
    job
}

/// Jobs 1 of a protected branch, 2 of another and 3 of which nobody knows yet, queued in this order.
fn three() -> Vec<Job> {
    [("1", Some(true)), ("2", Some(false)), ("3", None)]
        .into_iter()
        .zip(0..)
        .map(|((id, protected), second)| found(job(id).queued(second), protected))
        .collect()
}

fn under(limits: Vec<ConcurrencyLimit>, jobs: Vec<Job>) -> Snapshot {
    let mut all = Snapshot { setup: setup(), ..snapshot(jobs, Vec::new()) };
    all.setup.limits = limits.into_iter().map(|limit| (limit.name.clone(), limit)).collect();
    all
}

fn started(plan: &Plan) -> Vec<&str> {
    starts(plan).into_iter().map(|new| new.job.id.as_str()).collect()
}

fn asked(plan: &Plan) -> Vec<&str> {
    let asked = plan.actions.iter().filter_map(|action| {
        if let Action::ReadBranch { job } = action { Some(job.id.as_str()) } else { None }
    });
    asked.collect()
}

/// What starts, what is asked about, and why the others wait.
fn told(all: &Snapshot) -> String {
    let plan = plan(all, at(5));
    let reasons = plan.reasons.iter().map(|(key, reason)| format!("{} {}", key.id, reason.code()));
    let reasons: Vec<String> = reasons.collect();
    format!("{} | {} | {}", started(&plan).join(" "), asked(&plan).join(" "), reasons.join(", "))
}

#[test]
fn a_limit_is_about_jobs_of_protected_branches_or_all_others() {
    let check = |one: ConcurrencyLimit, expect: &str| {
        assert_eq!(told(&under(vec![one.clone()], three())), expect, "{one:?}");
    };
    check(limit("all").most(9), "1 2 3 |  | ");
    check(about(true, 0), "2 | 3 | 1 LimitReached, 3 ReadingBranch");
    check(about(false, 0), "1 | 3 | 2 LimitReached, 3 ReadingBranch");
    // One that the job does not come under anyway asks for nothing.
    check(about(true, 0).about(Owner, "beta"), "1 2 3 |  | ");
    check(about(true, 0).about(Class, "big"), "1 2 3 |  | ");
}

#[test]
fn a_priority_asks_for_the_branch_too() {
    let mut all = under(vec![], three());
    let matches = JobMatch { protected_branch: Some(false), ..JobMatch::default() };
    all.setup.settings.priorities = vec![PriorityRule { matches, priority: 5 }];
    assert_eq!(told(&all), "2 1 | 3 | 3 ReadingBranch");
}

#[test]
fn what_cannot_be_asked_about_counts_as_not_protected() {
    let mut jobs = three();
    for job in &mut jobs {
        job.description.run = None;
    }
    assert_eq!(told(&under(vec![about(true, 0)], jobs.clone())), "2 3 |  | 1 LimitReached");
    assert_eq!(told(&under(vec![about(false, 0)], jobs)), "1 |  | 2 LimitReached, 3 LimitReached");
}

#[test]
fn a_job_is_asked_about_once_at_a_time_and_only_the_oldest_few_at_once() {
    // The later the number, the older the job.
    let jobs = (100..200).map(|id: u8| job(&id.to_string()).queued(1200 - i64::from(id))).collect();
    let mut all = under(vec![about(true, 1)], jobs);
    let branch = |id: &str| Action::ReadBranch { job: crate::testing::key(id) }.held_under();
    let first = plan(&all, at(1200));
    assert_eq!(asked(&first), ["199", "198", "197", "196", "195", "194", "193", "192"]);
    assert!(started(&first).is_empty());
    for id in ["199", "150", "101"] {
        all.held.insert(branch(id), Hold::InFlight);
    }
    all.held.insert(branch("198"), Hold::Until(at(1300)));
    let second = plan(&all, at(1200));
    assert_eq!(asked(&second), ["197", "196", "195", "194", "193"], "three are under way and one failed");
}

#[test]
fn a_report_says_nothing_about_the_reading_of_a_branch() {
    let mut all = under(vec![about(true, 1)], vec![job("1").queued(0)]);
    all.held.insert("acme-1-1".to_owned(), Hold::InFlight);
    assert_eq!(asked(&plan(&all, at(5))), ["1"]);
    all.held = [(Action::ReadBranch { job: crate::testing::key("1") }.held_under(), Hold::InFlight)].into();
    let plan = plan(&all, at(5));
    assert!(matches!(plan.actions.as_slice(), [Action::Report { .. }]), "{:?}", plan.actions);
}

#[test]
fn a_source_that_wants_no_such_calls_is_not_asked_for_a_while() {
    let mut all = under(vec![about(true, 1)], vec![job("1").queued(0)]);
    all.held.insert(held_branches_of("acme"), Hold::Until(at(60)));
    let paused = plan(&all, at(5));
    assert_eq!((asked(&paused).len(), paused.wake_at), (0, Some(at(60))));
    assert_eq!(asked(&plan(&all, at(60))), ["1"]);
    all.held = [(held_branches_of("other"), Hold::Until(at(60)))].into();
    assert_eq!(asked(&plan(&all, at(5))), ["1"]);
}

proptest! {
    #[test]
    fn nothing_starts_whose_branch_is_open_nor_beyond_a_limit(
        branches in proptest::collection::vec(proptest::option::of(any::<bool>()), 0..8),
        protected in any::<bool>(),
        most in 0..4_u64,
    ) {
        let jobs: Vec<Job> = branches
            .iter()
            .enumerate()
            .map(|(id, protected)| found(job(&id.to_string()).queued(0), *protected))
            .collect();
        let all = under(vec![about(protected, most)], jobs);
        let plan = plan(&all, at(5));
        let of = |id: &str| branches[id.parse::<usize>().unwrap()];
        let governed = started(&plan).into_iter().filter(|id| of(id) == Some(protected)).count();
        let expect = branches.iter().filter(|one| **one == Some(protected)).count().min(usize::try_from(most).unwrap());
        prop_assert_eq!(governed, expect);
        prop_assert!(started(&plan).into_iter().all(|id| of(id).is_some()));
        prop_assert_eq!(asked(&plan).len(), branches.iter().filter(|one| one.is_none()).count());
    }
}
