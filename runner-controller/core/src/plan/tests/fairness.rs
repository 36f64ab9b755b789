//! Laws of admission under limits: nothing is exceeded, nothing is wasted, nobody is passed over.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::starts;
use crate::admission::{Purpose, Usage};
use crate::job::{Job, JobAction, JobKey};
use crate::labels::match_class;
use crate::lifecycle::Runner;
use crate::limit::{Amount, ConcurrencyLimit, Dimension, PriorityRule};
use crate::plan::{Snapshot, plan};
use crate::reason::Reason;
use crate::setup::Size;
use crate::testing::{Counted, at, class, exceeded, job, limit, secs, setup, source};

/// Late enough for some jobs to have waited long, early enough for none to need a confirmation.
const NOW: i64 = 500;
const OWNERS: [&str; 3] = ["acme", "beta", "corp"];

fn any_job(id: usize) -> impl Strategy<Value = Job> {
    (0..NOW, 0..3_usize, 0..2_u8, any::<bool>()).prop_map(move |(queued, owner, name, large)| {
        let mut job = job(&format!("{id:03}")).queued(queued).asking(if large { "big-l" } else { "stint" });
        job.description.owner = OWNERS[owner].to_owned();
        job.description.repository = format!("{}/{name}", OWNERS[owner]);
        job
    })
}

fn any_limit() -> impl Strategy<Value = ConcurrencyLimit> {
    let dimensions = proptest::sample::subsequence(
        vec![Dimension::Owner, Dimension::Repository, Dimension::Class, Dimension::Place],
        0..3,
    );
    let about = proptest::option::of((0..4_usize, any::<bool>()));
    (dimensions, about, 0..6_u64, any::<bool>(), proptest::bool::weighted(0.05)).prop_map(
        |(by, about, most, cores, paused)| {
            let mut one = limit("").by(&by);
            if let Some((which, star)) = about {
                let (dimension, pattern) = [
                    (Dimension::Owner, if star { "*c*" } else { "acme" }),
                    (Dimension::Repository, if star { "*/1" } else { "beta/0" }),
                    (Dimension::Class, if star { "*" } else { "big" }),
                    (Dimension::Place, if star { "v*" } else { "nowhere" }),
                ][which];
                one = one.about(dimension, pattern);
            }
            one.paused = paused;
            if cores { one.cores(most * 4) } else { one.most(most) }
        },
    )
}

fn under(limits: Vec<ConcurrencyLimit>, jobs: Vec<Job>) -> Snapshot {
    let mut all = Snapshot { setup: setup(), jobs, ..Snapshot::default() };
    all.setup.settings.max_runners = 1000;
    all.setup.sources.insert("acme".to_owned(), source("acme", &OWNERS));
    let mut big = class("big", &["l"]);
    big.sizes.insert("l".to_owned(), Size { cpu_millis: 6000, memory_bytes: 8 << 30, max_runners: None });
    all.setup.classes.insert("big".to_owned(), big);
    for class in all.setup.classes.values_mut() {
        class.max_runners = 1000;
    }
    for (number, limit) in limits.into_iter().enumerate() {
        let name = format!("limit-{number}");
        all.setup.limits.insert(name.clone(), ConcurrencyLimit { name, ..limit });
    }
    all
}

/// Up to 24 waiting jobs of three owners under up to four limits, some with runners from an earlier pass.
fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let jobs: Vec<_> = (0..24).map(|id| proptest::option::of(any_job(id))).collect();
    let limits = proptest::collection::vec(any_limit(), 0..5);
    (jobs, limits, 1..24_u32, 0..600_i64, any::<bool>(), 0..24_usize).prop_map(
        |(jobs, limits, total, reserve_after, ranked, earlier)| {
            let jobs: Vec<Job> = jobs.into_iter().flatten().collect();
            let mut all = under(limits, jobs);
            all.setup.settings.max_runners = total;
            all.setup.settings.reserve_after = secs(reserve_after);
            all.setup.settings.age_every = secs(100);
            if ranked {
                let matches = limit("").about(Dimension::Owner, "corp").matches;
                all.setup.settings.priorities = vec![PriorityRule { matches, priority: 2 }];
            }
            let first = Snapshot { jobs: all.jobs.iter().take(earlier).cloned().collect(), ..all.clone() };
            all.runners = started(&first, NOW);
            all
        },
    )
}

/// The records of the runners that are started at this moment.
fn started(all: &Snapshot, now: i64) -> Vec<Runner> {
    starts(&plan(all, at(now))).into_iter().map(|new| new.clone().record(at(now))).collect()
}

fn job_of<'a>(all: &'a Snapshot, key: &JobKey) -> &'a Job {
    all.jobs.iter().find(|job| job.key == *key).unwrap()
}

fn counted(all: &Snapshot, runner: &Runner) -> Counted {
    Counted::new(job_of(all, &runner.job), &runner.matched.class, &runner.place, runner.size)
}

/// The runners there are, with those that the plan starts.
fn after(all: &Snapshot) -> (Vec<Runner>, Vec<Runner>) {
    let new = started(all, NOW);
    (all.runners.iter().cloned().chain(new.iter().cloned()).collect(), new)
}

/// How many runners of its own each owner has, and how many more it wants.
fn by_owner(all: &Snapshot) -> BTreeMap<String, (u64, u64)> {
    let (runners, _) = after(all);
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for job in &all.jobs {
        let entry = found.entry(job.description.owner.clone()).or_default();
        if runners.iter().any(|runner| runner.job == job.key) { entry.0 += 1 } else { entry.1 += 1 }
    }
    found
}

proptest! {
    #[test]
    fn no_limit_is_exceeded_by_what_is_started(all in any_snapshot()) {
        let (runners, new) = after(&all);
        let of = |runners: &[Runner]| runners.iter().map(|runner| counted(&all, runner)).collect::<Vec<_>>();
        prop_assert_eq!(exceeded(&all.setup, &of(&runners), &of(&new)), Vec::<String>::new());
        prop_assert!(new.is_empty() || runners.len() <= all.setup.settings.max_runners as usize);
    }

    #[test]
    fn who_waits_has_no_room_but_for_what_is_kept(all in any_snapshot()) {
        let (runners, _) = after(&all);
        let find = |key: &JobKey| all.jobs.iter().find(|job| job.key == *key);
        let plan = plan(&all, at(NOW));
        for (key, reason) in &plan.reasons {
            let job = job_of(&all, key);
            let matched = match_class(&all.setup, &job.description.labels).unwrap();
            let amount = Amount::of(all.setup.classes[&matched.class].sizes[&matched.size]);
            let mut usage = Usage::count(&all.setup, &runners, find, 0);
            let profile = usage.profile(&Purpose::of_job(job, &matched));
            let room = usage.room(profile, amount).and_then(|()| usage.room_at(profile, amount, "virtual"));
            if let Reason::ReservedForAnother { job, .. } = &**reason {
                let other = plan.reasons.iter().find(|(key, _)| key.to_string() == *job);
                let waits =
                    other.is_some_and(|(_, reason)| matches!(**reason, Reason::LimitReached { .. }));
                prop_assert!(waits, "kept for {} that does not wait for room: {:?}", job, other);
            } else {
                prop_assert!(room.is_err(), "{} waits with {:?} although there is room", key, reason);
            }
        }
    }

    #[test]
    fn room_of_a_limit_is_kept_for_one_job_that_waited_long(all in any_snapshot()) {
        let plan = plan(&all, at(NOW));
        for limit in all.setup.limits.values().filter(|limit| limit.group_by.is_empty()) {
            let mut kept = BTreeSet::new();
            for reason in plan.reasons.values() {
                if let Reason::ReservedForAnother { limit: of, job } = &**reason && *of == limit.name {
                    kept.insert(job.as_str());
                }
            }
            prop_assert!(kept.len() <= 1, "{:?}", kept);
            for job in &all.jobs {
                let waited = at(NOW).duration_since(job.stored_at + secs(queued_at(job)));
                if kept.contains(job.key.to_string().as_str()) {
                    prop_assert!(waited >= all.setup.settings.reserve_after);
                }
            }
        }
    }

    #[test]
    fn no_owner_gets_more_than_its_share_while_another_wants_more(
        jobs in proptest::collection::vec((0..3_usize, 0..NOW), 0..40),
        cap in 1..20_u64,
        weights in proptest::array::uniform3(1..4_u32),
    ) {
        let jobs = jobs.into_iter().enumerate().map(|(id, (owner, queued))| {
            let mut job = job(&format!("{id:03}")).queued(queued);
            job.description.owner = OWNERS[owner].to_owned();
            job.description.repository = format!("{}/web", OWNERS[owner]);
            job
        });
        let mut shared = limit("").most(cap);
        for (owner, weight) in OWNERS.iter().zip(weights) {
            shared = shared.weighing(owner, weight);
        }
        let all = under(vec![shared], jobs.collect());
        let found = by_owner(&all);
        let weight = |owner: &str| u64::from(weights[OWNERS.iter().position(|one| *one == owner).unwrap()]);
        for (rich, (has, _)) in &found {
            for (poor, (other, wants)) in &found {
                // The last runner of the one was started when it had no more than the other has, by weight.
                let fair = *wants == 0 || *has == 0 || (has - 1) * weight(poor) <= other * weight(rich);
                prop_assert!(fair, "{} has {}, {} has {} and wants {}", rich, has, poor, other, wants);
            }
        }
        let total: u64 = found.values().map(|(has, _)| has).sum();
        prop_assert_eq!(total, cap.min(all.jobs.len() as u64));
    }

    #[test]
    fn a_plan_under_limits_depends_on_no_order(
        (all, jobs, runners) in any_snapshot().prop_flat_map(|all| {
            let (jobs, runners) = (all.jobs.clone(), all.runners.clone());
            (Just(all), Just(jobs).prop_shuffle(), Just(runners).prop_shuffle())
        }),
    ) {
        let shuffled = Snapshot { jobs, runners, ..all.clone() };
        prop_assert_eq!(plan(&all, at(NOW)), plan(&shuffled, at(NOW)));
        prop_assert_eq!(plan(&all, at(NOW)), plan(&all, at(NOW)));
    }

    #[test]
    fn a_large_job_gets_room_however_many_small_ones_keep_coming(
        cores in 3..8_u64,
        lives in proptest::collection::vec(1..90_i64, 12),
        same_owner: bool,
    ) {
        // Under a cap that one large job nearly fills, small ones come every few seconds and take what is free.
        let mut all = under(vec![limit("").cores(cores * 2)], Vec::new());
        all.setup.settings.reserve_after = secs(120);
        let mut large = job("large").queued(1).asking("big-l");
        large.description.owner = "beta".to_owned();
        large.description.repository = "beta/web".to_owned();
        let mut ends: Vec<(i64, JobKey)> = Vec::new();
        for now in 0..400_i64 {
            if now % 3 == 0 {
                let mut small = job(&format!("small-{now:03}")).queued(now);
                if same_owner {
                    small.description.owner = "beta".to_owned();
                    small.description.repository = "beta/web".to_owned();
                }
                all.jobs.push(small);
            }
            if now == 1 {
                all.jobs.push(large.clone());
            }
            ends.retain(|(end, key)| {
                let over = *end <= now;
                if over {
                    all.runners.retain(|runner| runner.job != *key);
                    all.jobs.retain(|job| job.key != *key);
                }
                !over
            });
            for runner in started(&all, now) {
                if runner.job.id == "large" {
                    // It waited its time, and then no longer than what was running when its time came, which is looked at
                    // every five seconds.
                    prop_assert!(now <= 1 + 120 + 5 + 90, "started at {}", now);
                    return Ok(());
                }
                let running = all.jobs.iter_mut().find(|job| job.key == runner.job).unwrap();
                *running = running.clone().told(JobAction::InProgress, now, Some(&runner.name));
                let life = lives[usize::try_from(now).unwrap() % lives.len()];
                ends.push((now + life, runner.job.clone()));
                all.runners.push(runner);
            }
        }
        prop_assert!(false, "the large job never started");
    }
}

fn queued_at(job: &Job) -> i64 {
    job.facts.first().unwrap().heard_at.duration_since(job.stored_at).as_secs()
}

/// So many waiting jobs of twenty owners and two hundred repositories, under six limits.
fn many(count: usize) -> Snapshot {
    let jobs = (0..count).map(|id| {
        let (owner, name) = (id % 20, id % 200);
        let mut job = job(&format!("{id:06}"))
            .queued(i64::try_from(id * 499 / count).unwrap())
            .asking(if id % 7 == 0 { "big-l" } else { "stint" });
        job.description.owner = format!("owner-{owner}");
        job.description.repository = format!("owner-{owner}/{name}");
        job
    });
    let limits = vec![
        limit("").cores(4000),
        limit("").most(100).by(&[Dimension::Owner]),
        limit("").most(20).by(&[Dimension::Repository]),
        limit("").cores(900).by(&[Dimension::Class]),
        limit("").about(Dimension::Owner, "owner-1*").most(300),
        limit("").about(Dimension::Place, "virt*").most(2000).by(&[Dimension::Place]),
    ];
    let mut all = under(limits, jobs.collect());
    let owners: Vec<String> = (0..20).map(|owner| format!("owner-{owner}")).collect();
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    all.setup.sources.insert("acme".to_owned(), source("acme", &owners));
    all.setup.settings.reserve_after = secs(100);
    all
}

#[test]
fn ten_thousand_waiting_jobs_are_planned_within_every_limit() {
    let all = many(10_000);
    let (runners, new) = after(&all);
    assert!(new.len() > 500, "{}", new.len());
    assert_eq!(plan(&all, at(NOW)).reasons.len() + new.len(), 10_000);
    let of = |runners: &[Runner]| runners.iter().map(|runner| counted(&all, runner)).collect::<Vec<_>>();
    let (runners, last) = (of(&runners), of(new.last().map(std::slice::from_ref).unwrap()));
    assert_eq!(exceeded(&all.setup, &runners, &last), Vec::<String>::new());
}
