//! What single passes decide.

use crate::job::{Job, JobAction, JobReport, Standing};
use crate::lifecycle::{MachinePhase, Runner, RunnerFact};
use crate::limit::{ConcurrencyLimit, Dimension};
use crate::plan::{Action, Hold, Plan, Snapshot, plan, runner_name};
use crate::reason::Reason;
use crate::setup::{PlaceState, Scope};
use crate::testing::{
    at, class, group, job, key, limit, machine, place, runner, secs, snapshot, source, stuck, two_places,
};

/// What a plan says, a word or few an action, in the plan's order; runners by their job and number.
fn show(snapshot: &Snapshot, plan: &Plan) -> String {
    let short = |name: &str| {
        snapshot
            .runners
            .iter()
            .find(|runner| runner.name == name)
            .map_or_else(|| name.to_owned(), |runner| format!("{}.{}", runner.job.id, runner.ordinal))
    };
    let lines = plan.actions.iter().map(|action| match action {
        Action::Start(new) => format!("start {}.{} at {}", new.job.id, new.ordinal, new.place),
        Action::Step { runner, step, because } => {
            let because = because.as_ref().map(|reason| format!(" because {}", reason.code()));
            format!("{step:?} {}{}", short(runner), because.unwrap_or_default())
        }
        Action::Report { job, report } => {
            let detail = report.reason.clone().or(report.runner.as_deref().map(short));
            format!("report {} {} {}", job.id, report.standing.as_str(), detail.unwrap_or("-".to_owned()))
        }
        Action::ReadJob { job } => format!("read {}", job.id),
        Action::ReadBranch { job } => format!("read branch {}", job.id),
        Action::Expire { job } => format!("expire {}", job.id),
        Action::Unreserve { runner } => format!("unreserve {}", short(runner)),
    });
    lines.collect::<Vec<_>>().join("; ")
}

fn check(snapshot: &Snapshot, now: i64, expect: &str) {
    let plan = plan(snapshot, at(now));
    assert_eq!(show(snapshot, &plan), expect);
}

fn wakes(snapshot: &Snapshot, now: i64, expect: Option<i64>) {
    assert_eq!(plan(snapshot, at(now)).wake_at, expect.map(at));
}

fn of_job(job: Job) -> Snapshot {
    snapshot(vec![job], Vec::new())
}

fn reported(job: Job, report: JobReport) -> Job {
    Job { report, ..job }
}

fn settled(id: &str, ordinal: u32, reason: &Reason, second: i64) -> Runner {
    runner(id, ordinal).launched(2).torn_down(reason, second).settled(second)
}

/// What is to be written of job 1.
fn report_of(plan: &Plan) -> Option<JobReport> {
    plan.actions.iter().find_map(|action| match action {
        Action::Report { job, report } => (*job == key("1")).then(|| report.clone()),
        Action::Start(_)
        | Action::Step { .. }
        | Action::ReadJob { .. }
        | Action::ReadBranch { .. }
        | Action::Expire { .. }
        | Action::Unreserve { .. } => None,
    })
}

#[test]
fn nothing_comes_of_nothing() {
    assert_eq!(plan(&Snapshot::default(), at(0)), Plan::default());
}

#[test]
fn a_queued_job_gets_a_runner() {
    let snapshot = of_job(job("1").queued(0));
    check(&snapshot, 1, "start 1.1 at virtual");
    let plan = plan(&snapshot, at(1));
    let Some(Action::Start(new)) = plan.actions.first() else { panic!("{plan:?}") };
    assert_eq!(new.name, runner_name("stint", &key("1"), 1));
    assert_eq!(new.scope, Scope::Owner("acme".to_owned()));
    assert_eq!(new.labels, ["stint", "self-hosted", "linux", "x64"]);
}

#[test]
fn a_name_is_short_and_differs_for_every_runner() {
    let name = runner_name("prod1234", &key("1"), 1);
    assert_eq!(name.len(), 8 + 1 + 16);
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
    let others = [runner_name("prod1234", &key("1"), 2), runner_name("prod1234", &key("11"), 1)];
    assert!(!others.contains(&name));
}

#[test]
fn every_reason_to_wait_is_given() {
    let check = |expect: &str, change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = of_job(job("1").queued(0));
        change(&mut snapshot);
        let plan = plan(&snapshot, at(700));
        let told = plan.reasons.get(&key("1")).map(|reason| reason.code());
        assert_eq!(told, Some(expect), "{plan:?}");
        assert!(!plan.actions.iter().any(|action| matches!(action, Action::Start(_))), "{plan:?}");
        let report = report_of(&plan);
        assert_eq!(report.and_then(|report| report.reason).as_deref(), Some(expect));
    };
    check("InstallationFull", &|all| all.setup.settings.max_runners = 0);
    check("ClassFull", &|all| all.setup.classes.get_mut("stint").unwrap().max_runners = 0);
    check("SizeFull", &|all| {
        let class = all.setup.classes.get_mut("stint").unwrap();
        class.sizes.get_mut("").unwrap().max_runners = Some(0);
    });
    check("AwaitingApproval", &|all| all.jobs = vec![job("1").queued(0).told(JobAction::Waiting, 690, None)]);
    check("ConfirmingWithSource", &|_| {});
    check("SourceUnavailable", &|all| {
        all.setup.sources.get_mut("acme").unwrap().unavailable = Some("401".to_owned());
    });
    check("NoPlace", &|all| all.setup.places.clear());
    check("PlaceUnknown", &|all| {
        all.setup.classes.get_mut("stint").unwrap().places = Some(vec!["nowhere".to_owned()]);
    });
    check("PlaceAmbiguous", &|all| _ = all.setup.places.insert("other".to_owned(), place("other")));
    check("PlaceNotReady", &|all| all.setup.places.get_mut("virtual").unwrap().state = PlaceState::Paused);
    check("PlaceFull", &|all| {
        all.setup = two_places("vms");
        let mut waits = runner("9", 1).launched(690).pooled();
        waits.scope = Scope::Repository("acme/other".to_owned());
        all.machines.insert(waits.name.clone(), stuck(690));
        all.runners.push(waits);
    });
    check("RetryPause", &|all| {
        all.jobs[0].report = JobReport { retry_after: Some(at(800)), ..JobReport::default() };
    });
    check("NoClassNamed", &|all| all.jobs[0].description.labels.clear());
    check("SeveralClassesNamed", &|all| {
        all.setup.classes.insert("big".to_owned(), class("big", &[""]));
        all.jobs[0].description.labels.push("big".to_owned());
    });
    check("SizeMissing", &|all| _ = all.setup.classes.insert("stint".to_owned(), class("stint", &["s"])));
    check("SizeUnknown", &|all| {
        all.setup.classes.insert("stint".to_owned(), class("stint", &["s"]));
        all.jobs[0].description.labels = vec!["stint-m".to_owned()];
    });
    check("LabelNotCarried", &|all| all.jobs[0].description.labels.push("gpu".to_owned()));
    check("SourceMissing", &|all| all.setup.sources.clear());
    check("RepositoryNotServed", &|all| {
        _ = all.setup.sources.insert("acme".to_owned(), source("acme", &["other"]));
    });
    check("PublicRepository", &|all| all.jobs[0].description.public = true);
    check("AttemptsExhausted", &|all| all.jobs[0].report.failed = 3);
}

#[test]
fn a_public_repository_is_served_where_its_source_allows() {
    let mut snapshot = of_job(job("1").queued(0));
    snapshot.jobs[0].description.public = true;
    snapshot.setup.sources.get_mut("acme").unwrap().allow_public = true;
    check(&snapshot, 1, "start 1.1 at virtual");
}

#[test]
fn a_limit_on_both_places_does_not_keep_a_runner_from_the_other_one() {
    let check_under = |limits: Vec<ConcurrencyLimit>, expect: &str| {
        let waits = runner("1", 1).launched(2).pooled();
        let mut all = snapshot(vec![job("1").queued(0)], vec![waits.clone()]);
        all.setup = two_places("vms virtual");
        all.machines.insert(waits.name, stuck(2));
        let shown = format!("{limits:?}");
        all.setup.limits = limits.into_iter().map(|limit| (limit.name.clone(), limit)).collect();
        let steps: Vec<String> = plan(&all, at(60))
            .actions
            .iter()
            .filter(|action| matches!(action, Action::Step { because: Some(_), .. }))
            .map(|action| show(&all, &Plan { actions: vec![action.clone()], ..Plan::default() }))
            .collect();
        assert_eq!(steps.join("; "), expect, "{shown}");
    };
    let leaves = "Deregister 1.1 because Unschedulable";
    let both = || limit("both").about(Dimension::Place, "vms virtual");
    check_under(vec![], leaves);
    check_under(vec![both().most(1)], leaves);
    check_under(vec![both().cores(2)], leaves);
    check_under(vec![both().most(0)], "");
    check_under(vec![both().most(1).by(&[Dimension::Place])], leaves);
    check_under(vec![limit("there").about(Dimension::Place, "virtual").most(0)], "");
    check_under(vec![both().most(1), limit("there").about(Dimension::Place, "virtual").cores(1)], "");
}

#[test]
fn a_listed_repository_has_runners_of_its_own() {
    let mut snapshot = of_job(job("1").queued(0));
    snapshot.setup.sources.get_mut("acme").unwrap().repositories = vec!["ACME/web".to_owned()];
    let plan = plan(&snapshot, at(1));
    let Some(Action::Start(new)) = plan.actions.first() else { panic!("{plan:?}") };
    assert_eq!(new.scope, Scope::Repository("acme/web".to_owned()));
}

#[test]
fn the_oldest_job_goes_first() {
    let mut snapshot = snapshot(vec![job("1").queued(5), job("2").queued(3), job("3").queued(4)], Vec::new());
    snapshot.setup.settings.max_runners = 2;
    check(&snapshot, 6, "start 2.1 at virtual; start 3.1 at virtual; report 1 Waiting InstallationFull");
}

#[test]
fn a_full_class_does_not_hold_up_another() {
    let mut snapshot = snapshot(vec![job("1").queued(1), job("2").queued(2).asking("big")], Vec::new());
    snapshot.setup.classes.get_mut("stint").unwrap().max_runners = 0;
    snapshot.setup.classes.insert("big".to_owned(), class("big", &[""]));
    check(&snapshot, 3, "report 1 Waiting ClassFull; start 2.1 at virtual");
}

#[test]
fn a_start_under_way_is_counted_and_not_planned_again() {
    let name = runner_name("stint", &key("1"), 1);
    let mut all = snapshot(vec![job("1").queued(1), job("2").queued(2)], Vec::new());
    all.setup.classes.get_mut("stint").unwrap().max_runners = 1;
    all.held.insert(name.clone(), Hold::InFlight);
    check(&all, 3, "report 2 Waiting ClassFull");
    all.reserved.insert(name.clone());
    check(&all, 3, "report 2 Waiting ClassFull");
    // It failed, and may have been carried out all the same.
    all.held.insert(name.clone(), Hold::Until(at(10)));
    check(&all, 3, "report 2 Waiting ClassFull");
    wakes(&all, 3, Some(10));
    // Its job is over, and still it is under way.
    all.jobs[0] = job("1").queued(1).told(JobAction::Completed, 2, None);
    all.jobs[0].report = JobReport {
        standing: Standing::Ended,
        class: Some("stint".to_owned()),
        conclusion: Some("success".to_owned()),
        ended_at: Some(at(2)),
        ..JobReport::default()
    };
    check(&all, 3, "report 2 Waiting ClassFull");
}

#[test]
fn a_reservation_without_a_record_is_given_back_before_its_name_is_used() {
    let name = runner_name("stint", &key("1"), 1);
    let mut all = of_job(job("1").queued(1));
    all.reserved.insert(name.clone());
    check(&all, 3, &format!("unreserve {name}"));
    all.reserved.clear();
    check(&all, 3, "start 1.1 at virtual");
    all.reserved.insert("stint-of-nobody".to_owned());
    all.setup.settings.max_runners = 1;
    check(&all, 3, "unreserve stint-of-nobody; report 1 Waiting InstallationFull");
}

#[test]
fn a_held_runner_and_a_held_job_are_left_alone() {
    let one = runner("1", 1);
    let mut all = snapshot(vec![job("1").queued(1)], vec![one.clone()]);
    check(&all, 2, "Register 1.1; report 1 Starting 1.1");
    all.held.insert(one.name.clone(), Hold::InFlight);
    all.held.insert("acme-1-1".to_owned(), Hold::Until(at(60)));
    check(&all, 2, "");
    wakes(&all, 2, Some(60));
    check(&all, 60, "report 1 Starting 1.1");
}

#[test]
fn an_old_job_is_confirmed_once_there_is_room_for_it() {
    let mut all = snapshot(vec![job("1").queued(0), job("2").queued(1)], Vec::new());
    all.setup.settings.max_runners = 1;
    let waiting = "read 1; report 1 Waiting ConfirmingWithSource; report 2 Waiting InstallationFull";
    check(&all, 700, waiting);
    // The report ends first: the reading goes on, and the place is kept for it.
    let reading = Action::ReadJob { job: key("1") }.held_under();
    all.held.insert(reading.clone(), Hold::InFlight);
    all.jobs[0].report = JobReport {
        standing: Standing::Waiting,
        reason: Some("ConfirmingWithSource".to_owned()),
        class: Some("stint".to_owned()),
        ..JobReport::default()
    };
    check(&all, 700, "report 2 Waiting InstallationFull");
    // It failed: the next may have the place meanwhile.
    all.held.insert(reading, Hold::Until(at(710)));
    check(&all, 700, "read 2; report 2 Waiting ConfirmingWithSource");
    all.held.clear();
    all.jobs[0] = job("1").queued(0).read(JobAction::Queued, 701);
    check(&all, 702, "start 1.1 at virtual; report 2 Waiting InstallationFull");
}

#[test]
fn a_job_that_waits_for_room_is_asked_about_once_a_day() {
    let mut all = of_job(job("1").queued(0));
    all.setup.settings.max_runners = 0;
    check(&all, 86_399, "report 1 Waiting InstallationFull");
    wakes(&all, 700, Some(86_400));
    check(&all, 86_400, "read 1; report 1 Waiting InstallationFull");
}

#[test]
fn a_failed_runner_is_followed_by_another_after_its_job_was_asked_about() {
    let failed = settled("1", 1, &Reason::StartFailed { why: "quota".to_owned() }, 30);
    let mut all = snapshot(vec![job("1").queued(0)], vec![failed]);
    // The record that shows the failure is kept, too.
    check(&all, 31, "report 1 Waiting ConfirmingWithSource");
    wakes(&all, 31, Some(45));
    check(&all, 45, "read 1; report 1 Waiting ConfirmingWithSource");
    all.jobs[0] = job("1").queued(0).read(JobAction::Queued, 45);
    check(&all, 46, "start 1.2 at virtual");
    all.setup.settings.retry_base = secs(60);
    check(&all, 46, "report 1 Waiting RetryPause");
    wakes(&all, 46, Some(90));
    check(&all, 90, "start 1.2 at virtual");
}

#[test]
fn pauses_double_up_to_ten_minutes() {
    let check = |failed_before: u32, expect: i64| {
        let mut job = job("1").queued(0).read(JobAction::Queued, 45);
        job.report = JobReport { failed: failed_before, ..JobReport::default() };
        let mut all = snapshot(vec![job], vec![settled("1", 1, &Reason::Idle, 30)]);
        all.setup.classes.get_mut("stint").unwrap().max_attempts = 100;
        let report = report_of(&plan(&all, at(31))).unwrap();
        assert_eq!(report.retry_after, Some(at(30 + expect)), "after {failed_before}");
    };
    check(0, 10);
    check(1, 20);
    check(5, 320);
    check(6, 600);
    check(90, 600);
}

#[test]
fn a_refused_registration_pauses_and_costs_no_attempt() {
    let refused = runner("1", 2)
        .with(RunnerFact::Registering(at(29)))
        .torn_down(&Reason::RegistrationFailed { why: "403".to_owned() }, 30)
        .with(RunnerFact::Deregistered(at(31)));
    let mut all = snapshot(vec![job("1").queued(0)], vec![refused]);
    check(&all, 31, "report 1 Waiting RetryPause");
    wakes(&all, 31, Some(50));
    let report = report_of(&plan(&all, at(31))).unwrap();
    assert_eq!((report.failed, report.counted, report.runners_started), (0, 2, 2));
    all.jobs[0].report = report;
    check(&all, 31, "Release 1.2");
    check(&all, 50, "Release 1.2; start 1.3 at virtual");
}

#[test]
fn a_record_goes_only_once_its_job_remembers_it() {
    let mut all = snapshot(vec![job("1").queued(0)], vec![settled("1", 1, &Reason::Surplus, 30)]);
    check(&all, 50, "read 1; report 1 Waiting ConfirmingWithSource");
    all.jobs[0] = job("1").queued(0).read(JobAction::Queued, 50);
    all.setup.settings.max_runners = 0;
    check(&all, 51, "report 1 Waiting InstallationFull");
    let report = report_of(&plan(&all, at(51))).unwrap();
    all.jobs[0].report = report;
    check(&all, 51, "Release 1.1");
    // Nobody is left to remember.
    all.jobs.clear();
    check(&all, 51, "Release 1.1");
}

#[test]
fn what_had_a_job_is_no_failed_attempt() {
    let check = |runner: Runner, jobs: Vec<Job>, expect: u32| {
        let mut all = snapshot(jobs, vec![runner]);
        all.setup.settings.max_runners = 0;
        let report = report_of(&plan(&all, at(100)));
        assert_eq!(report.map_or(0, |report| report.failed), expect);
    };
    let still_queued = || job("1").queued(0).read(JobAction::Queued, 60);
    let over = || settled("1", 1, &Reason::ContainerEnded, 30);
    check(over(), vec![still_queued()], 1);
    check(over().with(RunnerFact::AgentJobStarted(at(20))), vec![still_queued()], 0);
    check(over().with(RunnerFact::BusySeen(at(20))), vec![still_queued()], 0);
    let thief = job("2").queued(0).running(20, &runner("1", 1).name);
    check(over(), vec![still_queued(), thief], 0);
    check(settled("1", 1, &Reason::Deleted, 30), vec![still_queued()], 0);
}

#[test]
fn a_stolen_job_is_asked_about_before_it_gets_a_second_runner() {
    let name = runner("1", 1).name;
    let thief = job("2").queued(1).running(60, &name);
    let jobs = vec![job("1").queued(0), thief];
    let mut all =
        snapshot(jobs, vec![runner("1", 1).launched(2).with(RunnerFact::Group(group(Some(15), None, 21)))]);
    all.jobs[1].report = JobReport {
        standing: Standing::Running,
        class: Some("stint".to_owned()),
        runner: Some(name),
        ..JobReport::default()
    };
    all.machines.insert(runner("1", 1).name, machine(MachinePhase::Running, 20));
    check(&all, 61, "read 1; report 1 Waiting ConfirmingWithSource");
    all.jobs[0] = job("1").queued(0).read(JobAction::Queued, 62);
    check(&all, 63, "start 1.2 at virtual");
}

#[test]
fn a_runner_that_is_over_leads_to_a_reading_of_its_running_job() {
    let running = || job("1").queued(0).running(20, &runner("1", 1).name);
    let report = JobReport {
        standing: Standing::Running,
        class: Some("stint".to_owned()),
        runner: Some(runner("1", 1).name),
        runners_started: 1,
        ..JobReport::default()
    };
    let ended = || runner("1", 1).launched(2).torn_down(&Reason::ContainerEnded, 100).settled(101);
    let one = |job: Job, runners: Vec<Runner>| snapshot(vec![reported(job, report.clone())], runners);
    let all = one(running(), vec![ended()]);
    check(&all, 102, "Release 1.1");
    wakes(&all, 102, Some(115));
    check(&one(running(), vec![ended()]), 115, "Release 1.1; read 1");
    // Asked, and it is said to run still: asked again each minute, also after the record is gone.
    check(&one(running().read(JobAction::InProgress, 115), vec![]), 174, "");
    check(&one(running().read(JobAction::InProgress, 115), vec![]), 175, "read 1");
    // Nothing is known of a runner that is not ours: asked seldom.
    let foreign = job("1").queued(0).running(20, "elsewhere");
    let all = one(foreign, vec![]);
    wakes(&all, 30, Some(3620));
}

#[test]
fn a_held_back_job_is_asked_about_at_growing_intervals() {
    let held_back = || job("1").queued(0).told(JobAction::Waiting, 1, None);
    let report = report_of(&plan(&of_job(held_back()), at(2))).unwrap();
    let check = |job: Job, expect: i64| wakes(&of_job(reported(job, report.clone())), 2, Some(expect));
    check(held_back(), 61);
    check(held_back().read(JobAction::Waiting, 61), 121);
    check(held_back().read(JobAction::Waiting, 181), 361);
    check(held_back().read(JobAction::Waiting, 50_001), 53_601);
}

#[test]
fn an_agent_that_began_some_job_leads_to_a_reading() {
    let started = runner("1", 1).launched(2).with(RunnerFact::AgentJobStarted(at(20)));
    let mut all = snapshot(vec![job("1").queued(0)], vec![started]);
    all.held.insert(runner("1", 1).name, Hold::InFlight);
    check(&all, 21, "report 1 Starting 1.1");
    check(&all, 35, "read 1; report 1 Starting 1.1");
    // It is not this one: it gets a runner of its own.
    all.jobs[0] = job("1").queued(0).read(JobAction::Queued, 35);
    check(&all, 36, "start 1.2 at virtual");
}

#[test]
fn records_expire_once_settled() {
    let over = || job("1").queued(0).told(JobAction::Completed, 10, None);
    let report = JobReport {
        standing: Standing::Ended,
        class: Some("stint".to_owned()),
        conclusion: Some("success".to_owned()),
        ended_at: Some(at(10)),
        ..JobReport::default()
    };
    let day = 86_400;
    check(&of_job(over()), 10 + day, "report 1 Ended -");
    let all = of_job(reported(over(), report.clone()));
    wakes(&all, 20, Some(10 + day));
    check(&all, 9 + day, "");
    check(&all, 10 + day, "expire 1");
    // Not while a runner that was started for it is there.
    let mut busy = snapshot(vec![reported(over(), report)], vec![runner("1", 1)]);
    busy.held.insert(runner("1", 1).name, Hold::InFlight);
    busy.jobs[0].report.runners_started = 1;
    check(&busy, 10 + day, "");
}

#[test]
fn a_refused_and_a_given_up_job_expire_after_a_day_and_the_ttl() {
    let (a_day, two_days) = (86_400, 2 * 86_400);
    let mut refused = of_job(job("1").queued(0).asking("nothing"));
    let report = report_of(&plan(&refused, at(1))).unwrap();
    assert_eq!(report.standing, Standing::Refused);
    refused.jobs[0].report = report;
    wakes(&refused, 1, Some(a_day));
    check(&refused, a_day, "read 1");
    check(&refused, two_days, "expire 1");

    let mut given_up = of_job(job("1").queued(0));
    given_up.jobs[0].report.failed = 3;
    let report = report_of(&plan(&given_up, at(7))).unwrap();
    assert_eq!((report.standing, report.ended_at), (Standing::GivenUp, Some(at(7))));
    given_up.jobs[0].report = report;
    check(&given_up, 8, "");
    wakes(&given_up, 8, Some(a_day));
    check(&given_up, a_day, "read 1");
    check(&given_up, two_days, "expire 1");
    // More attempts are allowed now.
    given_up.setup.classes.get_mut("stint").unwrap().max_attempts = 4;
    check(&given_up, 9, "start 1.1 at virtual");
}

#[test]
fn a_busy_runner_of_a_class_that_is_gone_is_kept() {
    let name = runner("1", 1).name;
    let launched = runner("1", 1).launched(2).with(RunnerFact::Group(group(Some(15), None, 21)));
    let report = JobReport {
        standing: Standing::Running,
        class: Some("stint".to_owned()),
        runner: Some(name.clone()),
        runners_started: 1,
        ..JobReport::default()
    };
    let mut all = snapshot(vec![reported(job("1").queued(0).running(20, &name), report)], vec![launched]);
    all.machines.insert(name, machine(MachinePhase::Running, 20));
    all.setup.classes.clear();
    check(&all, 3000, "");
}
