use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::super::generate::Generator;
use super::super::quota::Quota;
use super::super::record::{GaugeKey, Outcome, Ran, STARTING};
use super::super::start_model::StartModel;
use super::*;
use crate::config::{Installation, directory};

const SOURCE: &str = "kind: RunnerSource
metadata: {name: acme}
spec: {github: {owners: [acme, globex], secretRef: acme-app}}
---
";
const CLASS: &str = "kind: RunnerClass
metadata: {name: stint}
spec: {resources: {cpu: '2', memory: 4G}, maxRunners: 1000}
";
/// Each stage takes exactly this long.
const FIXED: &str = "deploy=10s,pull=20s,agent=5s,exit=2s,gone=3s,pool=4s,spread=0";

fn at(seconds: i64) -> Timestamp {
    "2026-01-05T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn scenario(text: &str, max_runners: u32) -> Scenario {
    let (documents, _) = directory::parse(&format!("{SOURCE}{text}")).unwrap();
    let installation = Installation { id: "stint".to_owned(), max_runners, ..Installation::default() };
    let mut scenario = Scenario::of(documents, &installation).unwrap();
    scenario.model = StartModel::parse(FIXED).unwrap();
    scenario
}

fn job(queued: i64, seconds: i64) -> PastJob {
    PastJob {
        id: queued.to_string(),
        queued_at: at(queued),
        duration: SignedDuration::from_secs(seconds),
        repository: "acme/web".to_owned(),
        labels: vec!["stint".to_owned()],
        source: None,
        public: false,
        workflow: None,
        name: None,
        conclusion: None,
        cancelled_at: None,
    }
}

fn generated(scenario: &Scenario, jobs: usize, days: u32) -> Vec<PastJob> {
    Generator::of(&scenario.setup, 7, jobs, days, at(-9 * 3600)).generate()
}

fn started(ran: &Ran) -> Vec<Option<i64>> {
    ran.jobs.iter().map(|job| job.started_at.map(|started| started.duration_since(at(0)).as_secs())).collect()
}

fn waited(ran: &Ran, job: usize) -> Vec<(&'static str, i64)> {
    ran.jobs[job].waited.iter().map(|(code, time)| (*code, time.as_secs())).collect()
}

/// In seconds.
fn total_wait(ran: &Ran) -> f64 {
    let waits = ran.jobs.iter().flat_map(|job| job.waited.iter().map(|(_, time)| *time));
    waits.sum::<SignedDuration>().as_secs_f64()
}

/// What holds of every run.
fn check_laws(scenario: &Scenario, jobs: &[PastJob], ran: &Ran) {
    assert_eq!(ran.jobs.len(), jobs.len(), "every job has one end");
    for (past, record) in jobs.iter().zip(&ran.jobs) {
        let ran = record.outcome == Outcome::Ran;
        assert_eq!(ran, record.started_at.is_some());
        assert_eq!(ran, record.place.is_some());
        let waited: SignedDuration = record.waited.iter().map(|(_, time)| *time).sum();
        let until = record.started_at.unwrap_or(record.ended_at);
        assert_eq!(waited, until.duration_since(past.queued_at), "all of a wait has a reason: {record:?}");
        if let Some(started) = record.started_at {
            assert_eq!(record.ended_at.duration_since(started), past.duration);
        }
    }
    for gauge in &ran.gauges {
        assert!(gauge.cap.is_none_or(|cap| gauge.peak <= cap), "exceeded: {gauge:?}");
    }
    let runners: u64 = ran.jobs.iter().map(|job| u64::from(job.runners)).sum();
    assert_eq!(runners, ran.runner_ends.values().sum::<u64>(), "every runner has one end");
    let groups = scenario.setup.places.values().all(|place| place.kind.has_group());
    let with_job = ran.jobs.iter().filter(|job| job.outcome == Outcome::Ran).count();
    assert!(!groups || ran.bills.iter().filter(|bill| bill.ran).count() == with_job, "each has its bill");
}

#[test]
fn three_jobs_and_one_runner_wait_and_cost_as_reckoned_by_hand() {
    let scenario = scenario(CLASS, 1);
    let jobs = [job(0, 60), job(10, 30), job(500, 20)];
    let ran = run(&scenario, &jobs).unwrap();
    // The first: 10 + 20 + 5 until its agent has it. It ends at 95, its container at 97, its group is gone at 100: only then
    // is there room for the second, which begins at 135 and is gone at 170. The third waits for its start alone.
    assert_eq!(started(&ran), [Some(35), Some(135), Some(535)]);
    assert_eq!(waited(&ran, 0), [(STARTING, 35)]);
    assert_eq!(waited(&ran, 1), [("InstallationFull", 90), (STARTING, 35)]);
    // Billed from the pull to the container's end: 20 + 5 + job + 2.
    let seconds: Vec<u64> = ran.bills.iter().map(|bill| bill.bill.seconds).collect();
    assert_eq!(seconds, [87, 57, 47]);
    let hour = Decimal::new(405, 4) * Decimal::TWO + Decimal::new(445, 5) * Decimal::from(4);
    let expect = (hour * Decimal::from(87) / Decimal::from(3600)).round_dp(8);
    assert_eq!(ran.bills[0].bill.amount, expect);
    assert_eq!(ran.runner_ends, BTreeMap::from([("AgentExited".to_owned(), 3)]));
    let installation = ran.gauges.iter().find(|gauge| gauge.key == GaugeKey::Installation).unwrap();
    assert_eq!((installation.peak, installation.full.as_secs()), (1, 100 + 70 + 60));
    check_laws(&scenario, &jobs, &ran);
}

#[test]
fn a_generated_week_keeps_all_laws_and_repeats_itself() {
    let limits = "---
kind: RunnerClass
metadata: {name: big}
spec: {sizes: {m: {cpu: '4', memory: 8G}, l: {cpu: '8', memory: 16G, maxRunners: 3}}, maxRunners: 8}
---
kind: ConcurrencyLimit
metadata: {name: per-repository}
spec: {groupBy: [repository], max: {runners: 6, cpu: '20'}}
---
kind: ConcurrencyLimit
metadata: {name: releases}
spec: {match: {workflows: [release]}, max: {runners: 2}}
";
    let mut scenario = scenario(&format!("{CLASS}{limits}"), 20);
    scenario.model = StartModel::default();
    let jobs = generated(&scenario, 600, 2);
    let ran = run(&scenario, &jobs).unwrap();
    check_laws(&scenario, &jobs, &ran);
    assert_eq!(ran, run(&scenario, &jobs).unwrap());
    let limit = |name: &str| {
        ran.gauges.iter().any(|gauge| {
            matches!(&gauge.key, GaugeKey::Limit(limit, ..) if limit == name) && gauge.cap == Some(gauge.peak)
        })
    };
    assert!(limit("per-repository") && limit("releases"), "the limits bind: {:?}", ran.gauges);
    assert!(ran.jobs.iter().all(|job| job.outcome == Outcome::Ran));
}

/// Two classes, sizes, limits of several kinds, and a pool before the virtual node.
const RICH: &str = "kind: RunnerClass
metadata: {name: stint}
spec: {resources: {cpu: '2', memory: 4G}, maxRunners: 12, places: {order: [vms, vn]}}
---
kind: RunnerClass
metadata: {name: big}
spec:
  sizes: {m: {cpu: '4', memory: 8G}, l: {cpu: '8', memory: 16G, maxRunners: 3}}
  maxRunners: 8
  places: {order: [vn, vms]}
---
kind: RunnerPlace
metadata: {name: vms}
spec: {nodePool: {nodeSelector: {pool: ci}}}
---
kind: ConcurrencyLimit
metadata: {name: per-repository}
spec: {groupBy: [repository], max: {runners: 6, cpu: '20'}}
---
kind: ConcurrencyLimit
metadata: {name: releases}
spec: {match: {workflows: [release]}, max: {runners: 2}}
---
kind: ConcurrencyLimit
metadata: {name: at-vms}
spec: {match: {places: [vms]}, groupBy: [owner], max: {cpu: '30'}}
";

fn rich(max_runners: u32, groups: u32, vms: u32, seed: u64) -> Scenario {
    let mut scenario = scenario(RICH, max_runners);
    scenario.model = StartModel::default();
    scenario.quota = Quota { groups, ..Quota::default() };
    scenario.limit_pool(&format!("vms={vms}")).unwrap();
    scenario.seed = seed;
    scenario
}

#[test]
fn passes_that_are_left_out_change_next_to_nothing() {
    for (max_runners, groups, vms) in [(40, 100, 100), (10, 100, 100), (40, 4, 3)] {
        let scenario = rich(max_runners, groups, vms, 3);
        let jobs = generated(&scenario, 250, 1);
        let (ran, thorough) = (run(&scenario, &jobs).unwrap(), replay(&scenario, &jobs, true).unwrap());
        assert!(ran.passes < thorough.passes, "{} of {}", ran.passes, thorough.passes);
        assert_eq!(ran.runner_ends, thorough.runner_ends, "{max_runners} {groups} {vms}");
        // Which of several jobs of a kind a runner stands for may differ, and with it who of them is asked about first.
        let others = started(&ran).iter().zip(&started(&thorough)).filter(|(a, b)| a != b).count();
        assert!(others * 8 <= jobs.len(), "{max_runners} {groups} {vms}: {others} begin at another moment");
        let (one, other) = (total_wait(&ran), total_wait(&thorough));
        assert!((one - other).abs() <= other * 0.03, "{max_runners} {groups} {vms}: {one} s and {other} s");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 60, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn laws_hold_whatever_the_world_is_like(
        max_runners in 1_u32..30,
        groups in 1_u32..20,
        vms in 0_u32..10,
        seed in any::<u64>(),
        cancelled in proptest::collection::vec(0_i64..600, 0..20),
    ) {
        let scenario = rich(max_runners, groups, vms, seed);
        let generator = Generator { seed, ..Generator::of(&scenario.setup, 1, 60, 1, at(0)) };
        let mut jobs = generator.generate();
        for (job, after) in jobs.iter_mut().step_by(5).zip(cancelled) {
            job.cancelled_at = Some(job.queued_at + SignedDuration::from_secs(after));
        }
        let ran = run(&scenario, &jobs).unwrap();
        check_laws(&scenario, &jobs, &ran);
    }
}

#[test]
fn more_runners_never_make_less_throughput() {
    let jobs = generated(&scenario(CLASS, 1), 400, 1);
    let mut before: Option<Ran> = None;
    for most in [4, 8, 16, 32] {
        let ran = run(&scenario(CLASS, most), &jobs).unwrap();
        let done = |ran: &Ran| ran.jobs.iter().filter(|job| job.outcome == Outcome::Ran).count();
        if let Some(before) = &before {
            assert!(done(before) <= done(&ran) && total_wait(before) >= total_wait(&ran), "{most}");
        }
        before = Some(ran);
    }
}

#[test]
fn jobs_that_never_start_are_said_to_be_so() {
    let paused = "---
kind: ConcurrencyLimit
metadata: {name: freeze}
spec: {match: {repositories: [globex/frozen]}, paused: true}
";
    let scenario = scenario(&format!("{CLASS}{paused}"), 5);
    let unknown = PastJob { labels: vec!["other".to_owned()], ..job(0, 5) };
    let foreign = PastJob { repository: "other/web".to_owned(), ..job(1, 5) };
    let frozen = PastJob { repository: "globex/frozen".to_owned(), ..job(2, 5) };
    let cancelled = PastJob { cancelled_at: Some(at(20)), ..job(3, 5) };
    let jobs = [unknown, foreign, frozen, cancelled, job(4, 5)];
    let ran = run(&scenario, &jobs).unwrap();
    let outcomes: Vec<Outcome> = ran.jobs.iter().map(|job| job.outcome).collect();
    let expect = [
        Outcome::Refused("NoClassNamed"),
        Outcome::Refused("RepositoryNotServed"),
        Outcome::NeverStarted("LimitPaused"),
        Outcome::Cancelled,
        Outcome::Ran,
    ];
    assert_eq!(outcomes, expect);
    assert_eq!(ran.jobs[2].ended_at, at(2 + 86_400), "its source gives it up after a day");
    check_laws(&scenario, &jobs, &ran);
}

#[test]
fn a_runner_whose_job_is_cancelled_takes_the_next_or_goes() {
    let scenario = scenario(CLASS, 5);
    let cancelled = |at_second| PastJob { cancelled_at: Some(at(at_second)), ..job(0, 50) };
    // Nobody needs it: it is surplus half a minute later, and never billed a job.
    let ran = run(&scenario, &[cancelled(5)]).unwrap();
    assert_eq!(ran.runner_ends, BTreeMap::from([("Surplus".to_owned(), 1)]));
    // The next one is handed the runner that is there already.
    let jobs = [cancelled(5), job(20, 50)];
    let ran = run(&scenario, &jobs).unwrap();
    assert_eq!(started(&ran), [None, Some(35)]);
    assert_eq!(ran.jobs.iter().map(|job| job.runners).sum::<u32>(), 1);
    check_laws(&scenario, &jobs, &ran);
}

#[test]
fn the_quota_is_kept_and_jobs_fail_over_to_the_pool() {
    let places = "---
kind: RunnerPlace
metadata: {name: vms}
spec: {nodePool: {nodeSelector: {pool: ci}}}
";
    let class = CLASS.replace("maxRunners", "places: {order: [vn, vms]}, maxRunners");
    let mut scenario = scenario(&format!("{class}{places}"), 50);
    scenario.quota = Quota { groups: 2, ..Quota::default() };
    let jobs: Vec<PastJob> = (0..6).map(|_| job(0, 600)).collect();
    let ran = run(&scenario, &jobs).unwrap();
    let on = |place: &str| ran.jobs.iter().filter(|job| job.place.as_deref() == Some(place)).count();
    assert_eq!((on("vn"), on("vms")), (2, 4), "{:?}", ran.jobs);
    assert!(
        !ran.runner_ends.contains_key("NoCapacity"),
        "the planner keeps the quota: {:?}",
        ran.runner_ends
    );
    check_laws(&scenario, &jobs, &ran);
}

#[test]
fn a_full_pool_bursts() {
    let places = "---
kind: RunnerPlace
metadata: {name: vms}
spec: {nodePool: {nodeSelector: {pool: ci}}}
";
    let class = CLASS.replace("maxRunners", "places: {order: [vms, vn]}, maxRunners");
    let mut scenario = scenario(&format!("{class}{places}"), 50);
    scenario.limit_pool("vms=2").unwrap();
    let jobs: Vec<PastJob> = (0..5).map(|_| job(0, 300)).collect();
    let ran = run(&scenario, &jobs).unwrap();
    let on = |place: &str| ran.jobs.iter().filter(|job| job.place.as_deref() == Some(place)).count();
    assert_eq!((on("vms"), on("vn")), (2, 3), "{:?}", ran.jobs);
    assert_eq!(ran.bills.len(), 3, "machines of a pool are paid for anyway");
    check_laws(&scenario, &jobs, &ran);
}

#[test]
fn a_start_that_takes_too_long_is_given_up() {
    let class = CLASS.replace("maxRunners", "deadlines: {running: 25s}, maxAttempts: 2, maxRunners");
    let scenario = scenario(&class, 5);
    let ran = run(&scenario, &[job(0, 60)]).unwrap();
    assert_eq!(ran.runner_ends, BTreeMap::from([("NotRunning".to_owned(), 2)]));
    assert_eq!(ran.jobs[0].outcome, Outcome::GivenUp("AttemptsExhausted"));
}

#[tokio::test]
async fn what_a_ledger_holds_is_replayed_as_it_was() {
    use super::super::ledger_history;
    use crate::ledger::SqliteLedger;
    use crate::ports::{Ledger, LedgerRow};
    use crate::sqlite::Location;

    let scenario = scenario(CLASS, 1000);
    let jobs: Vec<PastJob> = (0..40)
        .map(|number| PastJob {
            name: Some(format!("build {number}")),
            conclusion: Some("success".to_owned()),
            ..job(number * 17, 30 + number * 7)
        })
        .collect();
    let ran = run(&scenario, &jobs).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let ledger = SqliteLedger::open(&Location::File(path.clone())).await.unwrap();
    for record in &ran.bills {
        let past = &jobs[record.job];
        let key = JobKey { source: "acme".to_owned(), id: past.id.clone(), attempt: 1 };
        let row = LedgerRow {
            machine_uid: record.runner.clone(),
            runner: record.runner.clone(),
            started_for: key.clone(),
            for_owner: "acme".to_owned(),
            for_repository: past.repository.clone(),
            for_workflow: String::new(),
            for_class: record.class.clone(),
            job: Some(key),
            repository: past.repository.clone(),
            job_name: past.name.clone().unwrap(),
            class: record.class.clone(),
            place: record.place.clone(),
            ended_because: record.ended_because.clone(),
            conclusion: past.conclusion.clone(),
            bill: record.bill.clone(),
        };
        assert!(ledger.commit(&row).await.unwrap());
    }
    ledger.close().await;
    let read = ledger_history::read(&path, &scenario.model).await.unwrap();
    let expect: Vec<PastJob> =
        jobs.iter().map(|job| PastJob { id: format!("acme-{}-1", job.id), ..job.clone() }).collect();
    assert_eq!((read.jobs.as_slice(), read.without_job), (expect.as_slice(), 0));
    assert_eq!(run(&scenario, &read.jobs).unwrap().bills, ran.bills);
}
