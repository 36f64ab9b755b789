//! What single passes decide under ConcurrencyLimits and priorities.

use super::starts;
use crate::job::Job;
use crate::lifecycle::Runner;
use crate::limit::Dimension;
use crate::limit::Dimension::{Class, Owner, Repository, Source, Workflow};
use crate::limit::{ConcurrencyLimit, PriorityRule};
use crate::plan::{Action, Hold, Snapshot, plan, runner_name};
use crate::quota::{ChangeRate, Quota};
use crate::reason::Reason;
use crate::setup::{Place, PlaceState, Size};
use crate::testing::{at, class, job, key, limit, place, runner, secs, setup, snapshot, source, words};

/// A job of this repository that was queued at second `id`.
fn of(id: u32, repository: &str, labels: &str) -> Job {
    let mut job = job(&id.to_string()).queued(id.into()).asking(labels);
    job.description.repository = repository.to_owned();
    job.description.owner = repository.split_once('/').unwrap().0.to_owned();
    job
}

/// Classes `stint` (2 vCPU) and `big` (8 vCPU), owners `acme` and `beta`, and these limits.
fn under(limits: Vec<ConcurrencyLimit>, jobs: Vec<Job>) -> Snapshot {
    let mut all = Snapshot { setup: setup(), ..snapshot(jobs, Vec::new()) };
    all.setup.sources.insert("acme".to_owned(), source("acme", &["acme", "beta"]));
    let mut big = class("big", &[""]);
    big.sizes.insert(String::new(), Size { cpu_millis: 8000, memory_bytes: 16 << 30, max_runners: None });
    all.setup.classes.insert("big".to_owned(), big);
    all.setup.limits = limits.into_iter().map(|limit| (limit.name.clone(), limit)).collect();
    all
}

/// The jobs that get a runner, in the plan's order, and why the others do not.
pub(super) fn told(all: &Snapshot, now: i64) -> String {
    let plan = plan(all, at(now));
    let started = starts(&plan).into_iter().map(|new| new.job.id.clone());
    let waiting = plan.reasons.iter().map(|(key, reason)| format!("{} {}", key.id, reason.code()));
    format!("{} | {}", started.collect::<Vec<_>>().join(" "), waiting.collect::<Vec<_>>().join(", "))
}

/// Four jobs: two of acme/web (the second asks for `big`), one of acme/api, one of beta/lib.
fn four() -> Vec<Job> {
    let mut jobs = vec![
        of(1, "acme/web", "stint"),
        of(2, "acme/web", "big"),
        of(3, "acme/api", "stint"),
        of(4, "beta/lib", "stint"),
    ];
    jobs[3].description.workflow = Some("Nightly build".to_owned());
    jobs
}

#[test]
fn a_limit_holds_back_what_it_matches_and_nothing_else() {
    let check = |one: ConcurrencyLimit, expect: &str| {
        assert_eq!(told(&under(vec![one.clone()], four()), 5), expect, "{one:?}");
    };
    check(limit("l").most(9), "1 4 3 2 | ");
    check(limit("l").most(0).about(Owner, "ACME"), "4 | 1 LimitReached, 2 LimitReached, 3 LimitReached");
    check(limit("l").most(0).about(Repository, "*/api *a/l*b"), "1 2 | 3 LimitReached, 4 LimitReached");
    check(limit("l").most(0).about(Repository, "beta/*"), "1 2 3 | 4 LimitReached");
    check(limit("l").most(0).about(Workflow, "nightly*"), "1 2 3 | 4 LimitReached");
    check(limit("l").most(0).about(Workflow, "*").about(Class, "Big"), "1 4 3 | 2 LimitReached");
    check(limit("l").most(0).about(Source, "other"), "1 4 2 3 | ");
    check(
        limit("l").most(0).about(Dimension::Place, "virt*"),
        " | 1 LimitReached, 2 LimitReached, 3 LimitReached, 4 LimitReached",
    );
    check(limit("l").most(0).about(Dimension::Place, "elsewhere"), "1 4 2 3 | ");
}

#[test]
fn each_group_has_a_counter_of_its_own() {
    let check = |one: ConcurrencyLimit, expect: &str| {
        assert_eq!(told(&under(vec![one.clone()], four()), 5), expect, "{one:?}");
    };
    check(limit("l").most(1), "1 | 2 LimitReached, 3 LimitReached, 4 LimitReached");
    check(limit("l").most(1).by(&[Owner]), "1 4 | 2 LimitReached, 3 LimitReached");
    check(limit("l").most(1).by(&[Repository]), "1 4 3 | 2 LimitReached");
    check(limit("l").most(1).by(&[Repository, Class]), "1 4 2 3 | ");
    check(limit("l").most(1).by(&[Class]), "1 2 | 3 LimitReached, 4 LimitReached");
    check(limit("l").most(1).by(&[Workflow]), "1 4 | 2 LimitReached, 3 LimitReached");
    check(limit("l").most(2).by(&[Source, Dimension::Place]), "1 4 | 2 LimitReached, 3 LimitReached");
}

#[test]
fn cpu_and_memory_are_capped_as_runners_are() {
    let memory = |gib: u64| {
        let mut one = limit("l");
        one.caps.memory_bytes = Some(gib << 30);
        one
    };
    let check = |one: ConcurrencyLimit, expect: &str| {
        assert_eq!(told(&under(vec![one.clone()], four()), 5), expect, "{one:?}");
    };
    check(limit("l").cores(14), "1 4 3 2 | ");
    check(limit("l").cores(13), "1 4 3 | 2 LimitReached");
    check(limit("l").cores(6), "1 4 3 | 2 LimitReached");
    check(memory(20), "1 4 3 | 2 LimitReached");
    check(memory(28), "1 4 3 2 | ");
}

#[test]
fn all_matching_limits_apply_together_and_a_full_one_holds_up_no_other() {
    let limits = vec![
        limit("acme").about(Owner, "acme").most(1),
        limit("all").cores(4),
        limit("free").about(Owner, "beta").most(5),
    ];
    assert_eq!(told(&under(limits, four()), 5), "1 4 | 2 LimitReached, 3 LimitReached");
}

#[test]
fn a_paused_limit_starts_nothing_that_it_matches() {
    let paused = |one: ConcurrencyLimit| ConcurrencyLimit { paused: true, ..one };
    let check = |one: ConcurrencyLimit, expect: &str| {
        assert_eq!(told(&under(vec![paused(one)], four()), 5), expect);
    };
    check(limit("l").about(Owner, "acme"), "4 | 1 LimitPaused, 2 LimitPaused, 3 LimitPaused");
    check(limit("l").about(Dimension::Place, "virtual").about(Class, "big"), "1 4 3 | 2 LimitPaused");
}

#[test]
fn a_reason_has_the_figures_of_the_jobs_own_group() {
    let mut all = under(vec![limit("l").cores(9).by(&[Owner, Class])], four());
    all.jobs.push(of(5, "acme/api", "big"));
    let told = plan(&all, at(5)).reasons.get(&key("2")).map(|reason| reason.sentence());
    let expect = "limit l for owner acme, class big: 8 of 9 vCPU are in use, and the job needs 8";
    assert_eq!(told.as_deref(), Some(expect));
}

#[test]
fn what_is_started_counts_until_it_is_gone_and_lowering_ends_nothing() {
    let mut all = under(
        vec![limit("l").most(1).by(&[Repository])],
        vec![of(1, "acme/web", "stint"), of(2, "acme/web", "stint")],
    );
    let one = runner("1", 1);
    all.runners = vec![one.clone()];
    assert_eq!(told(&all, 5), " | 2 LimitReached");
    all.setup.limits.get_mut("l").unwrap().caps.runners = Some(0);
    let steps = plan(&all, at(5)).actions;
    assert!(
        steps.iter().all(|action| !matches!(action, Action::Step { because: Some(_), .. })),
        "a lowered limit ends nothing: {steps:?}"
    );
    all.setup.limits.get_mut("l").unwrap().caps.runners = Some(1);
    // Registered, never launched, and torn down: it will never have a machine.
    all.runners = vec![Runner { ..one.registered(2).torn_down(&Reason::Surplus, 3) }];
    all.jobs.remove(0);
    assert_eq!(told(&all, 5), "2 | ");
}

#[test]
fn a_start_under_way_counts_wherever_it_may_go() {
    let mut all = under(
        vec![limit("l").most(1).by(&[Dimension::Place])],
        vec![of(1, "acme/web", "stint"), of(2, "acme/web", "stint")],
    );
    all.setup.places.insert("other".to_owned(), place("other"));
    all.setup.classes.get_mut("stint").unwrap().places = Some(words("virtual other"));
    assert_eq!(told(&all, 5), "1 2 | ", "the second goes where there is room");
    all.held.insert(runner_name("stint", &key("1"), 1), Hold::InFlight);
    assert_eq!(told(&all, 5), " | 2 LimitReached");
}

#[test]
fn a_runner_whose_job_is_gone_counts_by_where_it_registered() {
    let mut all = under(vec![limit("l").most(1).about(Owner, "acme")], vec![of(2, "acme/web", "stint")]);
    all.runners = vec![runner("1", 1).launched(2).torn_down(&Reason::Idle, 3)];
    assert_eq!(told(&all, 5), " | 2 LimitReached");
}

#[test]
fn priority_goes_before_shares_and_rises_with_waiting() {
    let rules = |list: &[(&str, i32)]| {
        let rule = |(repository, priority): &(&str, i32)| PriorityRule {
            matches: limit("").about(Repository, repository).matches,
            priority: *priority,
        };
        list.iter().map(rule).collect::<Vec<_>>()
    };
    let mut all = under(vec![limit("l").most(1)], four());
    all.setup.settings.age_every = secs(100);
    let mut check = |list: &[(&str, i32)], now: i64, expect: &str| {
        all.setup.settings.priorities = rules(list);
        let told = told(&all, now);
        assert_eq!(told.split_once(" |").unwrap().0, expect, "{list:?} at {now}");
    };
    check(&[], 5, "1");
    check(&[("acme/api", 1)], 5, "3");
    check(&[("acme/api", 1), ("*", 5)], 5, "1");
    check(&[("acme/web", -1)], 5, "3");
    // Each step of waiting, looked at every five seconds, lifts a job by one, up to the highest priority that a rule gives.
    check(&[("acme/api", 2)], 204, "3");
    check(&[("acme/api", 2)], 205, "1");
    check(&[("acme/api", 2)], 208, "1");
    check(&[("acme/web", -1)], 105, "1");
}

#[test]
fn time_alone_wakes_the_pass_in_which_a_job_rises() {
    let mut all = under(vec![limit("l").most(0)], vec![of(1, "acme/web", "stint")]);
    let matches = limit("").about(Repository, "beta/*").matches;
    all.setup.settings.priorities = vec![PriorityRule { matches, priority: 1 }];
    all.setup.settings.age_every = secs(100);
    assert_eq!(plan(&all, at(5)).wake_at, Some(at(105)));
    assert_eq!(plan(&all, at(105)).wake_at, Some(at(86_401)), "it stands as high as it can");
}

/// `small` jobs of 2 vCPU of acme's are running; a large one of beta's and another small one of acme's wait.
fn crowded(small: u32, cores: u64) -> Snapshot {
    let mut all =
        under(vec![limit("l").cores(cores)], vec![of(1, "beta/lib", "big"), of(2, "acme/web", "stint")]);
    all.setup.settings.reserve_after = secs(100);
    all.runners = (10..10 + small)
        .map(|id| runner(&id.to_string(), 1).launched(2).torn_down(&Reason::Idle, 3))
        .collect();
    all
}

#[test]
fn room_is_kept_for_a_large_job_that_waited_for_long() {
    // Six of ten are in use: the small one fits, the large one does not.
    assert_eq!(told(&crowded(3, 10), 50), "2 | 1 LimitReached");
    assert_eq!(plan(&crowded(3, 10), at(50)).wake_at, Some(at(105)));
    assert_eq!(told(&crowded(3, 10), 105), " | 1 LimitReached, 2 ReservedForAnother");
    // What is beyond its needs is given to others.
    assert_eq!(told(&crowded(3, 16), 105), "1 2 | ");
    assert_eq!(told(&crowded(1, 10), 105), "1 | 2 LimitReached");
    let reason = plan(&crowded(3, 10), at(105)).reasons.get(&key("2")).map(|reason| reason.sentence());
    let expect = "what room limit l has is kept for job acme-1-1, which is larger and has waited for long";
    assert_eq!(reason.as_deref(), Some(expect));
}

#[test]
fn no_room_is_kept_for_what_could_never_start() {
    let never = |change: &dyn Fn(&mut Snapshot)| {
        let mut all = crowded(1, 10);
        change(&mut all);
        assert!(told(&all, 150).starts_with("2 | 1 "), "{}", told(&all, 150));
    };
    never(&|all| all.setup.limits.get_mut("l").unwrap().caps.cpu_millis = Some(7000));
    never(&|all| all.setup.classes.get_mut("big").unwrap().max_runners = 0);
    never(&|all| {
        let paused = ConcurrencyLimit { paused: true, ..limit("p").about(Class, "big") };
        all.setup.limits.insert("p".to_owned(), paused);
    });
    never(&|all| {
        all.setup.limits.extend([(
            "q".to_owned(),
            limit("q").about(Dimension::Place, "virtual").about(Class, "big").most(0),
        )])
    });
}

#[test]
fn one_large_job_at_a_time_has_room_kept() {
    let mut all = crowded(3, 18);
    all.jobs.push(of(3, "beta/lib", "big"));
    all.jobs.push(of(4, "acme/api", "stint"));
    // 6 in use; the first takes 8; of the 4 that are left, none are for small ones while the second waits.
    assert_eq!(told(&all, 150), "1 2 4 | 3 LimitReached", "whoever has a smaller share goes before it");
    all.jobs.truncate(3);
    all.jobs[1] = of(5, "beta/web", "stint");
    all.jobs[2].description.repository = "beta/api".to_owned();
    assert_eq!(told(&all, 150), "1 | 3 LimitReached, 5 ReservedForAnother");
}

#[test]
fn no_room_is_kept_from_higher_priorities_and_smaller_shares() {
    let mut all = crowded(3, 10);
    all.setup.settings.age_every = secs(1000);
    let matches = limit("").about(Repository, "acme/web").matches;
    all.setup.settings.priorities = vec![PriorityRule { matches, priority: 1 }];
    assert_eq!(told(&all, 150), "2 | 1 LimitReached", "an admin's list goes first");
    all.setup.settings.priorities.clear();
    all.jobs[0] = of(1, "acme/web", "big");
    all.jobs[1] = of(2, "beta/lib", "stint");
    assert_eq!(told(&all, 150), "2 | 1 LimitReached", "beta has nothing yet");
}

#[test]
fn no_room_is_kept_for_a_job_that_waits_for_its_class_or_for_a_place() {
    let mut all = crowded(3, 16);
    all.jobs.push(of(3, "gamma/lib", "big"));
    all.jobs[2].description.owner = "beta".to_owned();
    all.setup.classes.get_mut("big").unwrap().max_runners = 1;
    assert_eq!(told(&all, 150), "1 2 | 3 ClassFull", "what is left is of no use to the second large one");
    let mut all = crowded(3, 10);
    all.setup.classes.get_mut("big").unwrap().places = Some(words("away"));
    all.setup.places.insert("away".to_owned(), Place { state: PlaceState::Paused, ..place("away") });
    all.setup.classes.get_mut("stint").unwrap().places = Some(words("virtual"));
    assert_eq!(told(&all, 150), "2 | 1 LimitReached", "no place could start the large one");
}

#[test]
fn cores_of_azure_are_kept_for_a_job_that_waited_for_long() {
    let mut all = crowded(3, 100);
    let rate = ChangeRate { count: 1000, per: secs(300) };
    let quota = Quota { name: String::new(), groups: None, cores: Some(10), changes: vec![rate] };
    all.setup.quotas.insert("sub/".to_owned(), quota);
    all.setup.places.get_mut("virtual").unwrap().quota = Some("sub/".to_owned());
    assert_eq!(told(&all, 50), "2 | 1 QuotaReached");
    assert_eq!(plan(&all, at(50)).wake_at, Some(at(105)));
    assert_eq!(told(&all, 105), " | 1 QuotaReached, 2 QuotaReached");
    all.setup.quotas.get_mut("sub/").unwrap().cores = Some(7);
    all.runners.truncate(2);
    assert_eq!(told(&all, 105), "2 | 1 QuotaReached", "nothing is kept for what could never start");
}
