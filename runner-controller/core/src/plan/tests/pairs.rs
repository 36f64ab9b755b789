//! What follows from who may be handed whom.

use super::starts;
use crate::job::{Job, JobAction};
use crate::lifecycle::{Runner, Step};
use crate::limit::Dimension::Repository;
use crate::plan::{Action, Plan, Snapshot, plan};
use crate::reason::Reason;
use crate::setup::{RegisterAt, Scope};
use crate::testing::{at, job, limit, machine, runner, snapshot};

fn steps(plan: &Plan) -> Vec<(&str, &Step, Option<&'static str>)> {
    let steps = plan.actions.iter().filter_map(|action| match action {
        Action::Step { runner, step, because } => {
            Some((runner.as_str(), step, because.as_ref().map(Reason::code)))
        }
        Action::Start(_)
        | Action::Report { .. }
        | Action::ReadJob { .. }
        | Action::ReadBranch { .. }
        | Action::Expire { .. }
        | Action::Unreserve { .. } => None,
    });
    steps.collect()
}

fn of(id: &str, repository: &str) -> Job {
    let mut job = job(id).queued(0);
    job.description.repository = repository.to_owned();
    job
}

/// Runners with a machine that has none of its facts yet.
fn running(jobs: Vec<Job>, runners: Vec<Runner>) -> Snapshot {
    let mut all = snapshot(jobs, runners);
    for runner in &all.runners {
        let one = machine(crate::lifecycle::MachinePhase::Pending, 0);
        all.machines.insert(runner.name.clone(), one);
    }
    all
}

#[test]
fn a_capped_repository_and_a_free_one_each_have_runners_of_their_own() {
    let mut all = snapshot(vec![of("1", "acme/web"), of("2", "acme/web"), of("3", "acme/free")], Vec::new());
    all.setup.limits.insert("web".to_owned(), limit("web").about(Repository, "acme/web").most(1));
    let scopes = |all: &Snapshot| -> Vec<(String, Scope)> {
        let plan = plan(all, at(1));
        starts(&plan).into_iter().map(|new| (new.job.id.clone(), new.scope.clone())).collect()
    };
    let at_repository = |name: &str| Scope::Repository(name.to_owned());
    let expect = [("1".to_owned(), at_repository("acme/web")), ("3".to_owned(), at_repository("acme/free"))];
    assert_eq!(scopes(&all), expect);
    if let Some(source) = all.setup.sources.get_mut("acme") {
        source.register_at = RegisterAt::Owner;
    }
    assert!(scopes(&all).iter().all(|(_, scope)| *scope == Scope::Owner("acme".to_owned())));
}

#[test]
fn a_job_whose_runner_another_job_took_gets_the_next_one_once_that_is_told_and_not_before() {
    let name = runner("1", 1).name;
    let mut thief = job("2").queued(0);
    thief.description.public = true;
    let mut all = running(vec![job("1").queued(0), thief], vec![runner("1", 1).launched(1)]);
    assert!(starts(&plan(&all, at(2))).is_empty(), "a refused job may take it; nobody knows");
    all.jobs[1] = all.jobs[1].clone().running(30, &name);
    // GitHub is asked first, since the job may have run on what was started for it.
    all.jobs[0] = all.jobs[0].clone().read(JobAction::Queued, 60);
    let plan = plan(&all, at(61));
    let next = starts(&plan);
    assert_eq!(next.iter().map(|new| (new.job.id.as_str(), new.ordinal)).collect::<Vec<_>>(), [("1", 2)]);
    assert_eq!(steps(&plan), [], "the runner that was taken is let be");
}

#[test]
fn a_leftover_that_a_refused_job_may_be_handed_goes_without_its_grace() {
    let over = || job("1").queued(0).told(JobAction::Completed, 9, None);
    let leftover = || vec![runner("1", 1).launched(1)];
    let kept = running(vec![over()], leftover());
    assert_eq!(steps(&plan(&kept, at(10))), []);
    let mut refused = job("2").queued(0);
    refused.description.public = true;
    let exposed = running(vec![over(), refused.clone()], leftover());
    let plan = plan(&exposed, at(10));
    let name = runner("1", 1).name;
    assert_eq!(steps(&plan), [(name.as_str(), &Step::Deregister, Some("Surplus"))]);
    // One that cannot be handed to it is kept for a job that may come.
    refused.description.repository = "acme/public".to_owned();
    let scope = Scope::Repository("acme/web".to_owned());
    let own = vec![Runner { scope, ..runner("1", 1).launched(1) }];
    assert_eq!(steps(&crate::plan::plan(&running(vec![over(), refused], own), at(10))), []);
}
