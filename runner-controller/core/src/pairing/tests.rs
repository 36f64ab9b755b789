use std::slice::from_ref;

use proptest::prelude::*;

use super::*;
use crate::job::JobAction;
use crate::lifecycle::RunnerFact;
use crate::testing::{at, job, key, runner, words};

fn view(job: &Job) -> JobView<'_> {
    let matched = Matched { class: "stint".to_owned(), size: String::new() };
    let wants = Wants { matched, scope: Scope::Owner("acme".to_owned()) };
    let refused = job.description.labels == words("refused");
    let wants = if refused { Err(Arc::new(Reason::NoPlace)) } else { Ok(Arc::new(wants)) };
    JobView { job, state: job.state(), wants, own: 0..0 }
}

/// Who stands for whom, as `job=runner`, and what each runner is, as `runner:Occupation`; runners by their job and
/// number.
fn show(jobs: &[Job], runners: &[Runner]) -> String {
    let views: Vec<JobView<'_>> = jobs.iter().map(view).collect();
    let pairing = pair(&views, runners);
    let short = |name: &str| {
        let found = runners.iter().find(|runner| runner.name == name).unwrap();
        format!("{}.{}", found.job.id, found.ordinal)
    };
    let mut out: Vec<String> =
        pairing.covered.iter().map(|(job, runner)| format!("{}={}", job.id, short(runner))).collect();
    out.extend(pairing.occupations.iter().map(|(name, occupation)| {
        let since = |since: &Timestamp| since.duration_since(at(0)).as_secs();
        match occupation {
            Occupation::Wanted => format!("{}:wanted", short(name)),
            Occupation::Busy => format!("{}:busy", short(name)),
            Occupation::Unwanted { since: at } => format!("{}:unwanted@{}", short(name), since(at)),
            Occupation::Done { since: at } => format!("{}:done@{}", short(name), since(at)),
        }
    }));
    out.sort();
    out.join(" ")
}

fn check(jobs: &[Job], runners: &[Runner], expect: &str) {
    assert_eq!(show(jobs, runners), expect);
}

fn name(id: &str) -> String {
    runner(id, 1).name
}

#[test]
fn a_runner_stands_for_its_own_job() {
    let (a, b) = (job("1").queued(0), job("2").queued(1));
    check(&[a.clone(), b.clone()], &[runner("1", 1), runner("2", 1)], "1.1:wanted 1=1.1 2.1:wanted 2=2.1");
    check(&[a, b], &[runner("2", 1)], "2.1:wanted 2=2.1");
}

#[test]
fn a_runner_whose_job_is_over_stands_for_the_oldest_other() {
    let over = job("1").queued(0).told(JobAction::Completed, 9, None);
    let jobs = [over, job("2").queued(5), job("3").queued(3)];
    check(&jobs, &[runner("1", 1)], "1.1:wanted 3=1.1");
    check(&jobs[..1], &[runner("1", 1)], "1.1:unwanted@9");
}

#[test]
fn a_runner_of_a_job_nobody_knows_is_unwanted_since_its_beginning() {
    check(&[], &[runner("1", 1)], "1.1:unwanted@0");
}

#[test]
fn a_stolen_job_leaves_its_runner_to_the_thief() {
    let jobs = [job("1").queued(0).running(9, &name("2")), job("2").queued(1)];
    check(&jobs, &[runner("1", 1), runner("2", 1)], "1.1:wanted 2.1:busy 2=1.1");
}

#[test]
fn what_the_source_tells_outweighs_the_agent() {
    let running = job("1").queued(0).running(9, &name("1"));
    let completed = runner("1", 1).with(RunnerFact::AgentJobCompleted(at(20)));
    check(from_ref(&running), &[completed], "1.1:busy");
    let over = running.told(JobAction::Completed, 30, Some(&name("1")));
    let started = runner("1", 1).with(RunnerFact::AgentJobStarted(at(9)));
    check(&[over], &[started], "1.1:done@30");
}

#[test]
fn a_runner_that_any_job_says_is_busy_is_busy() {
    let over = |id: &str, heard| job(id).told(JobAction::Completed, heard, Some(&name("1")));
    let running = |id: &str| job(id).running(5, &name("1"));
    check(&[over("2", 4), running("3")], &[runner("1", 1)], "1.1:busy");
    check(&[running("2"), over("3", 4)], &[runner("1", 1)], "1.1:busy");
    check(&[over("2", 4), over("3", 6)], &[runner("1", 1)], "1.1:done@6");
}

#[test]
fn another_source_cannot_speak_of_the_runner() {
    let mut foreign = job("9").running(5, &name("1"));
    foreign.key.source = "other".to_owned();
    check(&[foreign, job("1").queued(0)], &[runner("1", 1)], "1.1:wanted 1=1.1");
}

#[test]
fn an_agent_that_began_a_job_is_taken_to_have_its_own() {
    let started = runner("1", 1).with(RunnerFact::AgentJobStarted(at(20)));
    check(&[job("1").queued(0)], from_ref(&started), "1.1:busy 1=1.1");
    // Its source says otherwise.
    check(&[job("1").queued(0).read(JobAction::Queued, 40)], from_ref(&started), "1.1:busy");
    // It has a later runner already.
    check(&[job("1").queued(0)], &[started.clone(), runner("1", 2)], "1.1:busy 1.2:wanted 1=1.2");
    // Its own job is over: it has some other, and stands for none that waits.
    let over = job("1").told(JobAction::Completed, 9, None);
    check(&[over, job("2").queued(3)], &[started], "1.1:busy");
}

#[test]
fn a_runner_that_its_source_called_busy_stands_for_none_but_its_own() {
    let busy = runner("1", 1).with(RunnerFact::BusySeen(at(20)));
    check(&[job("1").queued(0)], from_ref(&busy), "1.1:wanted 1=1.1");
    check(&[job("1").queued(0).read(JobAction::Queued, 40)], from_ref(&busy), "1.1:unwanted@20");
    let over = job("1").told(JobAction::Completed, 9, None);
    check(&[over, job("2").queued(3)], &[busy], "1.1:unwanted@20");
}

#[test]
fn an_agent_whose_job_is_over_stands_for_none() {
    let done = runner("1", 1).with(RunnerFact::AgentJobCompleted(at(20)));
    check(&[job("1").queued(0)], &[done], "1.1:done@20");
}

#[test]
fn an_ending_runner_stands_for_none() {
    let ending = runner("1", 1).launched(1).torn_down(&Reason::Idle, 5);
    check(&[job("1").queued(0)], &[ending], "");
}

#[test]
fn a_refused_job_needs_no_runner() {
    check(&[job("1").queued(4).asking("refused")], &[runner("1", 1)], "1.1:unwanted@4");
}

#[test]
fn kinds_do_not_mix() {
    let over = || job("1").told(JobAction::Completed, 9, None);
    let other = |change: fn(&mut Runner)| {
        let mut runner = runner("1", 1);
        change(&mut runner);
        [runner]
    };
    let jobs = [over(), job("2").queued(3)];
    check(&jobs, &other(|runner| runner.scope = Scope::Repository("acme/web".to_owned())), "1.1:unwanted@9");
    check(&jobs, &other(|runner| runner.matched.size = "large".to_owned()), "1.1:unwanted@9");
    // The class carries a label now that it did not when the runner registered.
    let jobs = [over(), job("2").queued(3).asking("stint gpu"), job("3").queued(5)];
    check(&jobs, &[runner("1", 1)], "1.1:wanted 3=1.1");
}

#[test]
fn of_two_runners_for_a_job_the_first_stands_for_it() {
    let later = Runner { created_at: at(5), ..runner("1", 2) };
    check(&[job("1").queued(0)], &[later, runner("1", 1)], "1.1:wanted 1.2:unwanted@5 1=1.1");
}

/// Jobs and runners in all their states, with few enough ids that they meet.
fn any_scene() -> impl Strategy<Value = (Vec<Job>, Vec<Runner>)> {
    let jobs = proptest::collection::btree_map(0..5_u8, (0..6_u8, 0..9_i64, 0..5_u8), 0..5);
    let runners = proptest::collection::btree_map((0..5_u8, 1..3_u32), (0..6_u8, 0..4_i64), 0..6);
    (jobs, runners).prop_map(|(jobs, runners)| {
        let jobs = jobs.into_iter().map(|(id, (state, heard, by))| {
            let (queued, by) = (job(&id.to_string()).queued(heard), name(&by.to_string()));
            match state {
                0 | 1 => queued,
                2 => queued.running(10, &by),
                3 => queued.told(JobAction::Completed, 10, Some(&by)),
                4 => queued.told(JobAction::Waiting, 10, None),
                _ => queued.asking("refused"),
            }
        });
        let runners = runners.into_iter().map(|((id, ordinal), (state, created))| {
            let new = Runner { created_at: at(created), ..runner(&id.to_string(), ordinal) };
            match state {
                0..=2 => new,
                3 => new.with(RunnerFact::AgentJobStarted(at(5))),
                4 => new.with(RunnerFact::BusySeen(at(5))),
                _ => new.torn_down(&Reason::Idle, 5),
            }
        });
        (jobs.collect(), runners.collect())
    })
}

proptest! {
    #[test]
    fn the_order_of_jobs_and_runners_does_not_matter(
        (jobs, runners, shuffled) in any_scene().prop_flat_map(|(jobs, runners)| {
            (Just(jobs), Just(runners.clone()), Just(runners).prop_shuffle())
        }),
    ) {
        let reversed: Vec<Job> = jobs.iter().rev().cloned().collect();
        prop_assert_eq!(show(&jobs, &runners), show(&reversed, &shuffled));
    }

    #[test]
    fn pairs_are_one_to_one_and_none_stands_idle((jobs, runners) in any_scene()) {
        let views: Vec<JobView<'_>> = jobs.iter().map(view).collect();
        let pairing = pair(&views, &runners);
        let standing: HashSet<&str> = pairing.covered.values().copied().collect();
        prop_assert_eq!(standing.len(), pairing.covered.len());
        for runner in &runners {
            let occupation = pairing.occupations.get(runner.name.as_str());
            prop_assert_eq!(occupation.is_none() && !runner.ending(), false);
            if occupation == Some(&Occupation::Wanted) {
                prop_assert!(standing.contains(runner.name.as_str()));
            }
            // All are of one kind here, so that an unwanted one that is free means that every job has a runner.
            if matches!(occupation, Some(Occupation::Unwanted { .. })) && runner.start_sign().is_none() {
                prop_assert!(views.iter().filter(|view| wants_runner(view)).all(
                    |view| pairing.covered.contains_key(&view.job.key)
                ));
            }
        }
        prop_assert!(pairing.covered.keys().all(|covered| **covered != key("nobody")));
    }
}
