//! What holds for any pass.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::starts;
use crate::admission::{Purpose, Usage};
use crate::job::{Job, JobAction, JobKey, JobReport, Standing};
use crate::labels::Matched;
use crate::lifecycle::{Machine, MachinePhase, Runner, RunnerFact, Step};
use crate::limit::Amount;
use crate::pairing::pair;
use crate::plan::kinds::Views;
use crate::plan::{Action, Hold, Pass, Snapshot, plan, runner_name};
use crate::reason::Reason;
use crate::testing::{at, class, job, key, limit, machine, runner, setup, stuck, two_places, words};

const NOW: i64 = 1000;

fn any_job(id: u8) -> impl Strategy<Value = Job> {
    (0..8_u8, 0..NOW, 0..6_u8, 0..5_usize, 0..6_u8).prop_map(move |(state, heard, by, labels, report)| {
        let labels = ["stint", "stint", "big-s", "big-l", "unknown"][labels];
        let queued = job(&id.to_string()).asking(labels).queued(heard);
        let by = runner(&by.to_string(), 1).name;
        let mut job = match state {
            0..=2 => queued,
            3 => queued.read(JobAction::Queued, NOW - 1),
            4 => queued.running(heard, &by),
            5 => queued.told(JobAction::Completed, heard, Some(&by)),
            6 => queued.told(JobAction::Completed, heard, None),
            _ => queued.told(JobAction::Waiting, heard, None),
        };
        job.report = match report {
            0 => JobReport { runners_started: 2, failed: 2, counted: 2, ..JobReport::default() },
            1 => JobReport { failed: 3, standing: Standing::GivenUp, ..JobReport::default() },
            2 => JobReport { retry_after: Some(at(NOW + 5)), ..JobReport::default() },
            3 => JobReport { runner: Some(by), standing: Standing::Starting, ..JobReport::default() },
            _ => JobReport::default(),
        };
        job
    })
}

fn any_runner(id: u8, ordinal: u32) -> impl Strategy<Value = (Runner, Option<Machine>)> {
    (0..10_u8, 0..NOW, 0..3_usize, 0..5_u8).prop_map(move |(state, second, kind, phase)| {
        let (class, size) = [("stint", ""), ("big", "s"), ("big", "l")][kind];
        let matched = Matched { class: class.to_owned(), size: size.to_owned() };
        let new = Runner {
            created_at: at(second),
            labels: words(&format!("{} self-hosted linux x64", matched.label())),
            matched,
            ..runner(&id.to_string(), ordinal)
        };
        let runner = match state {
            0 => new,
            1 => new.registered(second),
            2 => new.launched(second).with(RunnerFact::AgentJobStarted(at(second))),
            3 => new.launched(second).with(RunnerFact::BusySeen(at(second))),
            4 => new.launched(second).with(RunnerFact::AgentExiting(at(second), None)),
            5 => new.launched(second).torn_down(&Reason::Idle, second),
            6 => new.launched(second).torn_down(&Reason::Idle, second).settled(second),
            7 => Runner { deleted: true, ..new.launched(second) },
            _ => new.launched(second),
        };
        let phase = match phase {
            0 => None,
            1 => Some(MachinePhase::Pending),
            2 | 3 => Some(MachinePhase::Running),
            _ => Some(MachinePhase::Ended),
        };
        (runner, phase.map(|phase| machine(phase, second)))
    })
}

/// Up to six jobs and their runners at any point of their lives, some held, some reserved.
fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let jobs: Vec<_> = (0..6).map(|id| proptest::option::of(any_job(id))).collect();
    let runners: Vec<_> =
        (0..6).flat_map(|id| [1, 2].map(|ordinal| proptest::option::of(any_runner(id, ordinal)))).collect();
    let held = proptest::collection::vec((0..6_u8, 1..4_u32, 0..6_u8, any::<bool>()), 0..3);
    let reserved = proptest::collection::vec((0..6_u8, 1..4_u32), 0..3);
    (jobs, runners, held, reserved, 1..6_u32, 1..5_u32, any::<bool>()).prop_map(
        |(jobs, runners, held, reserved, total, of_class, by_branch)| {
            let mut all = Snapshot { setup: setup(), ..Snapshot::default() };
            all.setup.settings.max_runners = total;
            all.setup.classes.insert("big".to_owned(), class("big", &["s", "l"]));
            for class in all.setup.classes.values_mut() {
                class.max_runners = of_class;
            }
            all.jobs = jobs.into_iter().flatten().collect();
            for (runner, machine) in runners.into_iter().flatten() {
                all.machines.extend(machine.map(|machine| (runner.name.clone(), machine)));
                all.runners.push(runner);
            }
            if by_branch {
                let mut wide = limit("branch").most(99);
                wide.matches.protected_branch = Some(true);
                all.setup.limits.insert(wide.name.clone(), wide);
            }
            for (id, ordinal, what, in_flight) in held {
                let job = key(&id.to_string());
                let name = match what {
                    0 => job.to_string(),
                    1 => Action::ReadJob { job }.held_under(),
                    2 => Action::ReadBranch { job }.held_under(),
                    _ => runner_name("stint", &job, ordinal),
                };
                all.held.insert(name, if in_flight { Hold::InFlight } else { Hold::Until(at(NOW + 7)) });
            }
            all.reserved
                .extend(reserved.into_iter().map(|(id, n)| runner_name("stint", &key(&id.to_string()), n)));
            all
        },
    )
}

/// The same with a node pool, which some of the runners are in or are meant for, some of them with no node for their pod.
fn any_snapshot_of_two_places() -> impl Strategy<Value = Snapshot> {
    let pooled = proptest::collection::vec((any::<bool>(), any::<bool>()), 12);
    let order = prop_oneof![Just("vms virtual"), Just("virtual vms"), Just("vms")];
    (any_snapshot(), pooled, order).prop_map(|(mut all, pooled, order)| {
        let places = two_places(order);
        all.setup.places = places.places;
        for class in all.setup.classes.values_mut() {
            class.places = Some(words(order));
        }
        for (runner, (pooled, waits)) in all.runners.iter_mut().zip(pooled) {
            if pooled {
                *runner = runner.clone().pooled();
                if let Some(machine) = all.machines.get_mut(&runner.name).filter(|_| waits) {
                    *machine = stuck(0);
                }
            }
        }
        let (runners, machines) = (all.runners.clone(), all.machines.clone());
        all.health.note(&runners, &machines);
        all
    })
}

proptest! {
    #[test]
    fn no_pod_goes_to_a_pool_where_one_waits_and_no_job_waits_while_a_place_has_room(
        all in any_snapshot_of_two_places(),
    ) {
        let plan = plan(&all, at(NOW));
        let patience = all.setup.places["vms"].burst_after;
        let full = all.runners.iter().any(|runner| {
            let launched = runner.facts.launched.as_ref();
            let waited = launched.is_some_and(|launched| launched.at.saturating_add(patience).unwrap() <= at(NOW));
            waited && runner.place == "vms" && all.machines.get(&runner.name).is_some_and(|one| one.unschedulable().is_some())
        });
        for action in &plan.actions {
            let place = match action {
                Action::Start(new) => new.place.as_str(),
                // One that has a job by its source's word is started whatever the place.
                Action::Step { runner, step: Step::Launch, .. }
                    if all.jobs.iter().flat_map(|job| &job.facts).all(|fact| fact.runner.as_ref() != Some(runner)) =>
                {
                    all.runners.iter().find(|one| one.name == *runner).unwrap().place.as_str()
                }
                Action::Step { .. }
                | Action::Report { .. }
                | Action::ReadJob { .. }
        | Action::ReadBranch { .. }
                | Action::Expire { .. }
                | Action::Unreserve { .. } => continue,
            };
            prop_assert!(!full || place != "vms", "{:?}", action);
        }
        // Nothing was refused for want of capacity, so that the virtual node always has room.
        if all.setup.classes["stint"].places != Some(words("vms")) {
            let waits = plan.reasons.values().any(|reason| matches!(**reason, Reason::PlaceFull { .. }));
            prop_assert!(!waits, "{:?}", plan.reasons);
        }
        prop_assert!(plan.wake_at.is_none_or(|wake| wake > at(NOW)));
    }

    #[test]
    fn a_plan_does_not_depend_on_the_order_of_jobs_and_runners(
        (all, jobs, runners) in any_snapshot().prop_flat_map(|all| {
            let (jobs, runners) = (all.jobs.clone(), all.runners.clone());
            (Just(all), Just(jobs).prop_shuffle(), Just(runners).prop_shuffle())
        }),
    ) {
        let shuffled = Snapshot { jobs, runners, ..all.clone() };
        prop_assert_eq!(plan(&all, at(NOW)), plan(&shuffled, at(NOW)));
    }

    #[test]
    fn a_job_that_is_covered_or_being_served_gets_no_second_start(all in any_snapshot()) {
        let pass = Pass::new(&all, at(NOW));
        let views = Views::new(&all, &pass.by_job).list;
        let pairing = pair(&views, &all.runners);
        let plan = plan(&all, at(NOW));
        let mut seen = BTreeSet::new();
        for new in starts(&plan) {
            prop_assert!(seen.insert(&new.job), "twice for {}", new.job);
            prop_assert!(!pairing.covered.contains_key(&new.job));
            prop_assert!(!all.held.contains_key(&new.name));
            prop_assert!(!all.reserved.contains(&new.name));
            prop_assert!(all.runners.iter().all(|runner| runner.name != new.name));
        }
    }

    #[test]
    fn no_step_is_planned_for_what_is_held(all in any_snapshot()) {
        let mut acted_on = BTreeSet::new();
        for action in plan(&all, at(NOW)).actions {
            let held = action.held_under();
            prop_assert!(!all.held.contains_key(&held), "{}", held);
            prop_assert!(acted_on.insert(held), "two actions under one name: {:?}", action);
        }
    }

    #[test]
    fn what_is_started_exceeds_no_limit(all in any_snapshot()) {
        let plan = plan(&all, at(NOW));
        let new = starts(&plan);
        if new.is_empty() {
            return Ok(());
        }
        let mut by_class: BTreeMap<&str, u32> = BTreeMap::new();
        let there = all.runners.iter().filter(|runner| runner.counts()).map(|runner| &runner.matched);
        for matched in there.chain(new.iter().map(|new| &new.matched)) {
            *by_class.entry(&matched.class).or_default() += 1;
        }
        let loose = all.reserved.iter().filter(|name| all.runners.iter().all(|runner| runner.name != **name));
        let total = by_class.values().sum::<u32>() + u32::try_from(loose.count()).unwrap();
        prop_assert!(total <= all.setup.settings.max_runners);
        for new in new {
            let class = new.matched.class.as_str();
            prop_assert!(by_class[class] <= all.setup.classes[class].max_runners);
        }
    }

    #[test]
    fn who_waits_for_a_limit_has_none_to_spare(all in any_snapshot()) {
        let plan = plan(&all, at(NOW));
        let started = starts(&plan);
        let loose = all.reserved.iter().filter(|name| all.runners.iter().all(|runner| runner.name != **name)).count();
        let job_of = |key: &JobKey| all.jobs.iter().find(|job| job.key == *key);
        let mut usage = Usage::count(&all.setup, &all.runners, job_of, loose);
        for new in &started {
            let profile = usage.profile(&Purpose::of_job(job_of(&new.job).unwrap(), &new.matched));
            usage.take(profile, Amount::of(new.size), Some(&new.place));
        }
        // A place may be kept for one that is being started, or is being confirmed.
        let kept = !all.held.is_empty() || plan.actions.iter().any(|action| matches!(action, Action::ReadJob { .. }));
        for (job, reason) in &plan.reasons {
            let limited = matches!(
                **reason,
                Reason::InstallationFull { .. } | Reason::ClassFull { .. } | Reason::SizeFull { .. }
            );
            if limited && !kept && loose == 0 {
                let job = job_of(job).unwrap();
                let matched = crate::labels::match_class(&all.setup, &job.description.labels).unwrap();
                let size = all.setup.classes[&matched.class].sizes[&matched.size];
                // With usage of its own, since what it borrows ends here.
                let mut usage = usage.clone();
                let profile = usage.profile(&Purpose::of_job(job, &matched));
                prop_assert!(usage.room(profile, Amount::of(size)).is_err(), "{} waits with {:?}", job.key, reason);
            }
        }
    }

    #[test]
    fn every_job_that_waits_has_a_reason_or_is_being_served(all in any_snapshot()) {
        let plan = plan(&all, at(NOW));
        let pass = Pass::new(&all, at(NOW));
        let views = Views::new(&all, &pass.by_job).list;
        let pairing = pair(&views, &all.runners);
        for view in &views {
            let key = &view.job.key;
            let name = runner_name("stint", key, pass.next_ordinal(view));
            let served = view.needs_no_more()
                || pairing.covered.contains_key(key)
                || starts(&plan).iter().any(|new| new.job == *key)
                || all.held.contains_key(&name)
                || all.reserved.contains(&name);
            prop_assert!(served || plan.reasons.contains_key(key), "{}", key);
        }
    }

    #[test]
    fn reports_that_are_written_are_not_written_again(all in any_snapshot()) {
        let first = plan(&all, at(NOW));
        let mut after = all.clone();
        for action in first.actions {
            if let Action::Report { job, report } = action {
                after.jobs.iter_mut().find(|stored| stored.key == job).unwrap().report = report;
            }
        }
        for action in plan(&after, at(NOW)).actions {
            prop_assert!(!matches!(action, Action::Report { .. }), "{:?}", action);
        }
    }
}
