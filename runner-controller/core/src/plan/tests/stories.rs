//! Whole stories, as a reader would tell them: what happened, what was planned, and how each job ended.

use super::world::{Fate, Faults, Script, World};
use crate::limit::Dimension;
use crate::setup::Setup;
use crate::testing::{limit, setup, two_places};

fn tell(setup: Setup, callbacks: bool, fates: &[Fate], scripts: Vec<Script>) -> String {
    let faults = Faults { callbacks, ..Faults::default() };
    let mut world = World::new(setup, 1, faults, scripts);
    world.fates = fates.iter().copied().collect();
    world.run();
    world.check_end();
    format!("{}\n{}", world.log, world.ends())
}

#[test]
fn a_job_runs_on_its_runner() {
    insta::assert_snapshot!(tell(setup(), true, &[Fate::Works], vec![Script::new("1", 0, 60)]));
}

fn tell_of_places(order: &str, capacity: &[(&str, usize)], scripts: Vec<Script>) -> String {
    let mut world =
        World::new(two_places(order), 1, Faults { callbacks: true, ..Faults::default() }, scripts);
    world.capacity = capacity.iter().map(|(place, most)| ((*place).to_owned(), *most)).collect();
    world.run();
    world.check_end();
    format!("{}\n{}", world.log, world.ends())
}

#[test]
fn a_job_bursts_to_the_virtual_node_when_the_machines_are_full() {
    let scripts = vec![Script::new("1", 0, 60), Script::new("2", 20, 60), Script::new("3", 22, 60)];
    insta::assert_snapshot!(tell_of_places("vms virtual", &[("vms", 1)], scripts));
}

#[test]
fn a_job_fails_over_to_the_machines_when_azure_has_no_room() {
    let scripts = vec![Script::new("1", 0, 60), Script::new("2", 45, 60), Script::new("3", 80, 60)];
    insta::assert_snapshot!(tell_of_places("virtual vms", &[("virtual", 0)], scripts));
}

#[test]
fn a_job_waits_for_the_only_pool_there_is() {
    let scripts = vec![Script::new("1", 0, 200), Script::new("2", 20, 60), Script::new("3", 22, 60)];
    insta::assert_snapshot!(tell_of_places("vms", &[("vms", 1)], scripts));
}

#[test]
fn a_job_is_stolen_by_the_runner_of_another() {
    // Job 1's runner never comes online; job 2's takes job 1, so that job 2 needs a further one.
    let scripts = vec![Script::new("1", 0, 600), Script::new("2", 5, 60)];
    insta::assert_snapshot!(tell(setup(), false, &[Fate::NeverOnline, Fate::Works], scripts));
}

#[test]
fn a_start_fails_until_the_job_is_given_up() {
    let fates = [Fate::StartFails, Fate::NeverScheduled, Fate::EndsWithoutJob];
    insta::assert_snapshot!(tell(setup(), true, &fates, vec![Script::new("1", 0, 60)]));
}

#[test]
fn a_pod_whose_group_cannot_be_provisioned_is_found_out() {
    let fates = [Fate::NotProvisioned, Fate::Works];
    insta::assert_snapshot!(tell(setup(), true, &fates, vec![Script::new("1", 0, 60)]));
}

#[test]
fn a_group_that_does_not_tell_when_its_pull_began_is_read_ever_less_often() {
    insta::assert_snapshot!(tell(setup(), false, &[Fate::PullForgotten], vec![Script::new("1", 0, 1000)]));
}

#[test]
fn a_job_is_cancelled_before_its_runner_is_up() {
    let script = Script { cancelled: Some(8), ..Script::new("1", 0, 60) };
    insta::assert_snapshot!(tell(setup(), true, &[Fate::Works], vec![script]));
}

#[test]
fn a_runner_said_to_have_failed_is_kept_while_it_is_busy() {
    insta::assert_snapshot!(tell(setup(), false, &[Fate::SaidToFail], vec![Script::new("1", 0, 200)]));
}

#[test]
fn a_second_job_waits_for_the_limit() {
    let mut setup = setup();
    setup.settings.max_runners = 1;
    let scripts = vec![Script::new("1", 0, 60), Script::new("2", 1, 60)];
    insta::assert_snapshot!(tell(setup, true, &[], scripts));
}

#[test]
fn a_capped_repository_does_not_hold_up_a_free_one() {
    let mut setup = setup();
    let capped = limit("web").about(Dimension::Repository, "acme/web").most(1);
    setup.limits.insert("web".to_owned(), capped);
    // The limit has runners register at the repository, so that neither is handed the other's.
    let free =
        |id: &str, arrives| Script { repository: "acme/free".to_owned(), ..Script::new(id, arrives, 30) };
    let scripts =
        vec![Script::new("web-1", 0, 60), Script::new("web-2", 1, 60), free("free-1", 2), free("free-2", 3)];
    insta::assert_snapshot!(tell(setup, true, &[], scripts));
}
