use super::*;
use crate::reason::Reason;
use crate::testing::{at, machine, runner, size, stuck};

fn no_capacity() -> Reason {
    Reason::NoCapacity { why: "ContainerGroupQuotaReached".to_owned() }
}

fn unschedulable() -> Reason {
    Reason::Unschedulable { why: "0/2 nodes are available".to_owned() }
}

/// Turned away by the virtual node.
fn refused(id: &str, launched: i64, second: i64) -> Runner {
    runner(id, 1).launched(launched).torn_down(&no_capacity(), second)
}

fn noted(runners: &[Runner]) -> Health {
    let mut health = Health::default();
    for runner in runners {
        health.note(std::slice::from_ref(runner), &HashMap::new());
    }
    health
}

#[track_caller]
fn check(health: &Health, place: &str, now: i64, expect: Result<(), Option<i64>>) {
    let machines = HashMap::new();
    let rooms = Rooms::of(&Setup::default(), health, &[], &machines, at(now));
    assert_eq!(rooms.room(place, size()), expect.map_err(|until| until.map(at)));
}

#[test]
fn a_place_of_which_nothing_is_known_has_room() {
    check(&Health::default(), "virtual", 0, Ok(()));
}

#[test]
fn the_pause_doubles_with_each_refusal_in_a_row() {
    let mut health = Health::default();
    let mut now = 0;
    for pause in [30, 60, 120, 240, 480, 600, 600] {
        health.note(&[refused("1", now, now + 5)], &HashMap::new());
        check(&health, "virtual", now + 5 + pause - 1, Err(Some(now + 5 + pause)));
        check(&health, "virtual", now + 5 + pause, Ok(()));
        now += 5 + pause;
    }
    check(&health, "vms", 6, Ok(()));
}

#[test]
fn runners_that_were_on_their_way_together_are_one_refusal() {
    let health = noted(&[refused("1", 0, 5), refused("2", 1, 6), refused("3", 5, 9)]);
    check(&health, "virtual", 38, Err(Some(39)));
    check(&health, "virtual", 39, Ok(()));
}

#[test]
fn the_same_runners_again_change_nothing() {
    let runners = [refused("1", 0, 5), refused("2", 40, 44)];
    let mut health = noted(&runners);
    let before = health.clone();
    health.note(&runners, &HashMap::new());
    assert_eq!(health, before);
}

#[test]
fn a_start_ends_the_row() {
    let mut health = noted(&[refused("1", 0, 5), refused("2", 40, 45)]);
    let tried = runner("3", 1).launched(106);
    let machines = HashMap::from([(tried.name.clone(), machine(MachinePhase::Running, 120))]);
    health.note(&[refused("1", 0, 5), refused("2", 40, 45), tried], &machines);
    check(&health, "virtual", 60, Ok(()));
    health.note(&[refused("4", 130, 140)], &HashMap::new());
    check(&health, "virtual", 141, Err(Some(170)));
}

#[test]
fn one_that_was_launched_before_the_refusal_proves_nothing() {
    let mut health = noted(&[refused("1", 0, 5)]);
    let earlier = runner("2", 1).launched(1);
    let machines = HashMap::from([(earlier.name.clone(), machine(MachinePhase::Running, 20))]);
    health.note(&[earlier], &machines);
    check(&health, "virtual", 21, Err(Some(35)));
}

#[test]
fn after_a_pause_one_runner_at_a_time_tries() {
    let health = noted(&[refused("1", 0, 5)]);
    let machines = HashMap::new();
    let tries = [runner("2", 1)];
    assert_eq!(
        Rooms::of(&Setup::default(), &health, &tries, &machines, at(36)).room("virtual", size()),
        Err(None)
    );
    assert_eq!(
        Rooms::of(&Setup::default(), &health, &tries, &machines, at(36)).is_open("virtual", size()),
        Ok(())
    );
    let mut rooms = Rooms::of(&Setup::default(), &health, &[], &machines, at(36));
    assert_eq!(rooms.room("virtual", size()), Ok(()));
    rooms.take("virtual");
    assert_eq!(rooms.room("virtual", size()), Err(None));
}

#[test]
fn a_pool_is_full_while_a_pod_waits_there_and_for_a_while_after() {
    let waits = [runner("1", 1).launched(0).pooled()];
    let machines = HashMap::from([(waits[0].name.clone(), stuck(0))]);
    let health = Health::default();
    assert_eq!(
        Rooms::of(&Setup::default(), &health, &waits, &machines, at(1)).room("vms", size()),
        Err(None)
    );
    assert_eq!(
        Rooms::of(&Setup::default(), &health, &waits, &machines, at(1)).room("virtual", size()),
        Ok(())
    );
    let left =
        |launched, second| runner("1", 1).launched(launched).torn_down(&unschedulable(), second).pooled();
    let health = noted(&[left(0, 2), left(40, 41)]);
    // Its pause does not grow: a pod costs nothing there.
    check(&health, "vms", 42, Err(Some(71)));
}

#[test]
fn the_end_of_a_runner_makes_room() {
    let ended = |id| runner(id, 1).launched(0).torn_down(&Reason::ContainerEnded, 7);
    let left = runner("1", 1).launched(1).torn_down(&unschedulable(), 5).pooled();
    let health = noted(&[left.clone(), ended("2").settled(8).pooled()]);
    check(&health, "vms", 8, Ok(()));
    // The one that was turned away takes no room with it, nor does what ended before.
    check(&noted(&[left.clone(), left.clone().settled(8)]), "vms", 9, Err(Some(35)));
    check(&noted(&[left, ended("2").settled(4).pooled()]), "vms", 9, Err(Some(35)));
    // Azure counts refused creations too.
    let twice = [refused("1", 0, 5), refused("3", 40, 45)];
    let health = noted(&[&twice[..], &[ended("2").settled(50)]].concat());
    check(&health, "virtual", 74, Err(Some(75)));
}

#[test]
fn a_smaller_runner_may_fit_where_a_larger_one_did_not() {
    let health = noted(&[runner("1", 1).launched(1).torn_down(&unschedulable(), 5).pooled()]);
    let machines = HashMap::new();
    let rooms = Rooms::of(&Setup::default(), &health, &[], &machines, at(6));
    let smaller = Size { cpu_millis: 500, ..size() };
    assert_eq!(rooms.room("vms", smaller), Ok(()));
    assert_eq!(rooms.room("vms", Size { memory_bytes: 8 << 30, ..smaller }), Err(Some(at(35))));
}

#[test]
fn one_that_was_turned_away_before_its_machine_was_asked_for_found_out_nothing() {
    check(&noted(&[runner("1", 1).registered(1).torn_down(&no_capacity(), 5)]), "virtual", 6, Ok(()));
}
