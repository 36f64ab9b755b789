use super::*;
use crate::budget::Shortage;
use crate::quota::{Exceeded, QuotaKind};
use crate::testing::{at, job, key, secs, sum};

/// A job of class `stint` that ran for so many seconds and ended at the second given.
fn ran(id: &str, ended: i64, seconds: i64, repository: &str) -> Job {
    let mut job = waiting(id);
    job.description.repository = repository.to_owned();
    job.running(ended - seconds, "r").told(JobAction::Completed, ended, Some("r"))
}

fn waiting(id: &str) -> Job {
    let mut job = job(id).queued(0);
    job.report.class = Some("stint".to_owned());
    job
}

fn full(running: u32, limit: u32) -> Reason {
    Reason::ClassFull { class: "stint".to_owned(), running, limit }
}

fn memory(used: u64, cap: u64, needs: u64) -> Reason {
    Reason::LimitReached {
        limit: "mem".to_owned(),
        group: "repository acme/web".to_owned(),
        what: Capped::Memory,
        used,
        cap,
        needs,
    }
}

/// A budget of 10 a day that begins anew at second 250.
fn spent(needs: &str) -> Reason {
    let figures = Shortage {
        spent: sum("9"),
        reserved: sum("0"),
        needs: sum(needs),
        amount: sum("10"),
        currency: "USD".to_owned(),
        until: at(250),
    };
    Reason::BudgetSpent { budget: "team".to_owned(), figures: Box::new(figures) }
}

/// What is said of job `1`, whose line the others stand in as they are given.
fn said(line: &[(&str, Reason)], ended: &[Job]) -> String {
    let reasons = line.iter().map(|(id, reason)| (key(id), Arc::new(reason.clone()))).collect();
    let waiting_for = Waiting { reasons, line: line.iter().map(|(id, _)| key(id)).collect() };
    let mut jobs: Vec<Job> = line.iter().map(|(id, _)| waiting(id)).collect();
    jobs.extend_from_slice(ended);
    let said = Forecaster::new(&jobs, &waiting_for, at(100)).forecast(&key("1")).unwrap();
    let place = said.place.map(|place| format!("{} of {} for {}; ", place.rank, place.of, place.what));
    format!("{}{}", place.unwrap_or_default(), said.wait)
}

#[test]
fn a_wait_follows_from_place_in_line_runners_in_use_and_typical_runs() {
    let ended: Vec<Job> = [60, 120, 600].map(|run| ran(&format!("e{run}"), 700, run, "acme/web")).into();
    // Two runners, two minutes each: one ends every minute.
    assert_eq!(said(&[("1", full(2, 2))], &ended), "1 of 1 for class stint; about 1 min");
    let line =
        [("3", full(2, 2)), ("2", full(2, 2)), ("4", memory(1, 1, 1)), ("1", full(2, 2)), ("5", full(2, 2))];
    assert_eq!(said(&line, &ended), "3 of 4 for class stint; about 3 min");
    // Five GiB must end for both, of eight that are in use, and one is free: 4/8 of two minutes.
    let line = [("2", memory(8, 9, 2)), ("1", memory(8, 9, 3))];
    assert_eq!(said(&line, &ended), "2 of 2 for limit mem for repository acme/web; about 1 min");
}

#[test]
fn needs_of_another_kind_under_the_same_limit_are_not_added() {
    let under = |what, used, cap, needs| Reason::LimitReached {
        limit: "both".to_owned(),
        group: String::new(),
        what,
        used,
        cap,
        needs,
    };
    let ended = [ran("e", 700, 120, "acme/web")];
    let (runners, cores) = (under(Capped::Runners, 2, 2, 1), under(Capped::Cpu, 8000, 8000, 4000));
    // Two of two runners must end, two minutes each.
    let line = [("2", cores.clone()), ("1", runners.clone())];
    assert_eq!(said(&line, &ended), "2 of 2 for limit both; about 2 min");
    // Eight of eight cores must.
    let line = [("2", runners), ("3", cores.clone()), ("1", cores)];
    assert_eq!(said(&line, &ended), "3 of 3 for limit both; about 3 min");
}

#[test]
fn typical_is_the_median_of_the_latest_of_the_repository_or_else_of_the_class() {
    let typical_of = |ended: &[Job]| typical(&waiting("1"), ended).map(|run| run.as_secs());
    assert_eq!(typical_of(&[]), None);
    let other = |id: &str, run: i64| ran(id, 5000, run, "acme/api");
    assert_eq!(typical_of(&[other("a", 10), other("b", 30), other("c", 20)]), Some(20));
    let own = |id: &str, run: i64| ran(id, 5000, run, "ACME/web");
    let few = [other("a", 10), other("b", 30), other("c", 20), own("d", 500), own("e", 500)];
    assert_eq!(typical_of(&few), Some(30));
    assert_eq!(typical_of(&[&few[..], &[own("f", 400)]].concat()), Some(500));
    // Older ones do not count where there are many.
    let old: Vec<Job> = (0..50).map(|id| ran(&format!("o{id}"), 4000, 900, "acme/web")).collect();
    let new: Vec<Job> = (0..20).map(|id| ran(&format!("n{id}"), 5000, 60, "acme/web")).collect();
    assert_eq!(typical_of(&[old, new].concat()), Some(60));
    // Neither do jobs of another class, and those that never ran.
    let mut foreign = own("g", 70);
    foreign.report.class = Some("other".to_owned());
    assert_eq!(typical_of(&[foreign, waiting("h").told(JobAction::Completed, 50, None)]), None);
}

#[test]
fn what_nobody_knows_is_said_so() {
    let run = [ran("e", 700, 60, "acme/web")];
    let one = |reason: Reason| said(&[("1", reason)], &run);
    assert_eq!(
        said(&[("1", full(2, 2))], &[]),
        "1 of 1 for class stint; unknown: no job of the class has ended yet"
    );
    assert_eq!(one(full(0, 1)), "1 of 1 for class stint; unknown: nothing that counts there runs");
    assert_eq!(one(full(0, 0)), "1 of 1 for class stint; never, unless that changes");
    assert_eq!(one(memory(0, 1, 2)), "never, unless that changes");
    assert_eq!(one(Reason::LimitPaused { limit: "x".to_owned() }), "never, unless that changes");
    assert_eq!(one(Reason::NoPlace), "never, unless that changes");
    assert_eq!(one(Reason::AwaitingApproval), "unknown: somebody must approve it");
    assert_eq!(one(spent("10")), "1 of 1 for budget team; about 3 min");
    assert_eq!(one(spent("10.01")), "never, unless that changes");
    let quota = |needs| {
        let exceeded = Exceeded { what: QuotaKind::Cores, used: 1, cap: 2, needs, until: None };
        one(Reason::QuotaReached { place: "virtual".to_owned(), of: String::new(), exceeded })
    };
    assert_eq!(quota(2), "1 of 1 for quota at place virtual; unknown: its place has no quota left");
    assert_eq!(quota(3), "never, unless that changes");
    let until = Some(at(100 + 150));
    assert_eq!(
        one(Reason::PlaceFull { place: "vms".to_owned(), until }),
        "1 of 1 for room at place vms; about 3 min"
    );
    assert_eq!(one(Reason::RetryPause { until: at(5), started: 1, limit: 3 }), "less than a minute");
    assert_eq!(Forecaster::new(&[], &Waiting::default(), at(0)).forecast(&key("9")), None);
}

#[test]
fn a_wait_is_told_in_minutes() {
    let told = |seconds| Wait::About(secs(seconds)).to_string();
    assert_eq!(told(0), "less than a minute");
    assert_eq!(told(29), "less than a minute");
    assert_eq!(told(31), "about 1 min");
    assert_eq!(told(59 * 60), "about 59 min");
    assert_eq!(told(2 * 3600 + 10), "about 2 h");
    assert_eq!(told(3600 + 25 * 60), "about 1 h 25 min");
}

#[test]
fn without_an_order_the_oldest_goes_first_and_unknown_ones_last() {
    let jobs = [job("1").queued(5), job("2").queued(3), job("3").queued(4), job("4").queued(1)];
    let reasons: BTreeMap<JobKey, Arc<Reason>> =
        ["1", "2", "3"].map(|id| (key(id), Arc::new(full(1, 1)))).into();
    let rank = |id: &str, line: &[JobKey]| {
        let waiting = Waiting { reasons: reasons.clone(), line: line.to_vec() };
        let said = Forecaster::new(&jobs, &waiting, at(9)).forecast(&key(id)).unwrap();
        said.place.unwrap().rank
    };
    assert_eq!(["1", "2", "3"].map(|id| rank(id, &[])), [3, 1, 2]);
    assert_eq!(["1", "2", "3"].map(|id| rank(id, &[key("3")])), [2, 3, 1]);
}
