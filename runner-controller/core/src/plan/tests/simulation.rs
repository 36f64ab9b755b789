//! Random worlds run to their end.

use proptest::prelude::*;

use super::world::{Dice, Faults, Script, World};
use crate::job::Standing;
use crate::limit::{Dimension, PriorityRule};
use crate::setup::Setup;
use crate::testing::{class, limit, secs, setup};

fn two_classes() -> Setup {
    let mut setup = setup();
    setup.settings.max_runners = 5;
    setup.classes.get_mut("stint").unwrap().max_runners = 3;
    setup.classes.insert("big".to_owned(), class("big", &["s", "l"]));
    setup
}

/// Up to three limits of any kind, tight enough to be felt.
fn random_limits(dice: &mut Dice, setup: &mut Setup) {
    for number in 0..dice.below(4) {
        let mut one = limit(&format!("limit-{number}"));
        for (dimension, patterns) in [
            (Dimension::Repository, "acme/w* acme/lib"),
            (Dimension::Class, "B*"),
            (Dimension::Place, "virt*"),
        ] {
            if dice.chance(30) {
                one = one.about(dimension, patterns);
            }
        }
        one.group_by = Dimension::ALL.into_iter().filter(|_| dice.chance(20)).collect();
        one = if dice.chance(50) { one.most(1 + dice.below(3)) } else { one.cores(2 + dice.below(8)) };
        setup.limits.insert(one.name.clone(), one);
    }
    setup.settings.reserve_after = secs(dice.below(300).cast_signed());
    setup.settings.age_every = secs(30 + dice.below(300).cast_signed());
    if dice.chance(50) {
        let matches = limit("").about(Dimension::Repository, "acme/lib").matches;
        setup.settings.priorities = vec![PriorityRule { matches, priority: 3 }];
    }
}

fn scripts(dice: &mut Dice, count: u64, approvals: bool) -> Vec<Script> {
    (0..count)
        .map(|id| {
            let mut script = Script::new(
                &id.to_string(),
                dice.below(600).cast_signed(),
                5 + dice.below(400).cast_signed(),
            );
            let labels =
                ["stint", "stint", "self-hosted stint", "big-s", "big-l", "big-s linux", "none", "stint gpu"];
            let which = usize::try_from(dice.below(labels.len() as u64)).unwrap();
            script.labels = crate::testing::words(labels[which]);
            script.repository =
                ["acme/web", "acme/web", "acme/lib"][usize::try_from(dice.below(3)).unwrap()].to_owned();
            let later = |dice: &mut Dice, most| script.arrives + dice.below(most).cast_signed();
            let cancelled = dice.chance(15).then(|| later(dice, 200));
            let taken_elsewhere = dice.chance(10).then(|| later(dice, 100));
            let approved = (approvals && dice.chance(15)).then(|| later(dice, 4000));
            Script { cancelled, taken_elsewhere, approved, ..script }
        })
        .collect()
}

/// Runs a world with a virtual node and a node pool, each of few machines at once, to its end.
fn check_places(seed: u64, faults: Faults) {
    let mut dice = Dice::new(seed);
    let order = ["vms virtual", "virtual vms", "vms", "virtual"];
    let which = usize::try_from(dice.below(4)).unwrap();
    let mut setup = crate::testing::two_places(order[which]);
    let burst_after = [0, 0, 20, 300][usize::try_from(dice.below(4)).unwrap()];
    setup.places.get_mut("vms").unwrap().burst_after = crate::testing::secs(burst_after);
    let count = 1 + dice.below(14);
    let mut scripts = scripts(&mut dice, count, false);
    for script in &mut scripts {
        script.labels = crate::testing::words("stint");
    }
    let mut world = World::new(setup, seed, faults, scripts);
    for place in ["vms", "virtual"] {
        let most = usize::try_from(1 + dice.below(4)).unwrap();
        world.capacity.insert(place.to_owned(), most);
    }
    world.run();
    world.check_end();
    let given_up = world.finals.values().filter(|end| end.standing == Standing::GivenUp).count();
    assert!(faults.bad_machine > 0 || given_up == 0, "given up for want of room\n{}", world.log);
}

/// Runs a world to its end. Answers how many jobs arrived, and how many machines were created for them.
fn check(seed: u64, faults: Faults, meddling: bool) -> (u64, usize) {
    let mut dice = Dice::new(seed);
    let count = 1 + dice.below(14);
    let scripts = scripts(&mut dice, count, true);
    let mut setup = two_classes();
    random_limits(&mut dice, &mut setup);
    let mut world = World::new(setup.clone(), seed, faults, scripts);
    if meddling {
        for _ in 0..dice.below(4) {
            let second = dice.below(900).cast_signed();
            world.delete_a_record(second);
        }
        if dice.chance(50) {
            let mut fewer = two_classes();
            fewer.settings.max_runners = 2;
            fewer.classes.remove("big");
            fewer.limits.insert("late".to_owned(), limit("late").cores(3));
            world.change_setup(dice.below(500).cast_signed(), fewer);
            world.change_setup(600 + dice.below(500).cast_signed(), setup);
        }
    }
    world.run();
    world.check_end();
    (count, world.machines_created())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_world_without_faults_comes_to_rest(seed: u64) {
        let faults = Faults { callbacks: seed % 2 == 0, ..Faults::default() };
        let (jobs, machines) = check(seed, faults, false);
        prop_assert!(machines as u64 <= jobs, "{} machines for {} jobs", machines, jobs);
    }

    #[test]
    fn a_world_with_lost_and_late_webhooks_comes_to_rest(seed: u64) {
        let faults = Faults {
            webhook_lost: 30,
            webhook_twice: 20,
            webhook_late: 600,
            callbacks: seed % 2 == 0,
            ..Faults::default()
        };
        check(seed, faults, false);
    }

    #[test]
    fn a_world_with_crashes_and_failing_calls_comes_to_rest(seed: u64) {
        let faults = Faults {
            crash: 10,
            call_fails: 10,
            registration_refused: 10,
            slow_actions: 4,
            watch_lag: seed % 8,
            callbacks: seed % 2 == 0,
            ..Faults::default()
        };
        check(seed, faults, false);
    }

    #[test]
    fn a_world_of_places_with_little_room_comes_to_rest(seed: u64) {
        check_places(seed, Faults { callbacks: seed % 2 == 0, watch_lag: seed % 4, ..Faults::default() });
    }

    #[test]
    fn a_world_of_places_with_little_room_and_faults_comes_to_rest(seed: u64) {
        let faults = Faults {
            crash: 5,
            call_fails: 5,
            registration_refused: 5,
            bad_machine: 20,
            slow_actions: 3,
            watch_lag: seed % 5,
            callbacks: seed % 2 == 0,
            ..Faults::default()
        };
        check_places(seed, faults);
    }

    #[test]
    fn a_world_where_everything_goes_wrong_comes_to_rest(seed: u64) {
        let faults = Faults {
            webhook_lost: 20,
            webhook_twice: 20,
            webhook_late: 120,
            crash: 5,
            call_fails: 5,
            registration_refused: 5,
            bad_machine: 40,
            slow_actions: 3,
            watch_lag: seed % 5,
            callbacks: seed % 2 == 0,
        };
        check(seed, faults, true);
    }
}
