//! How jobs, stages and runs end: finished, cancelled, out of time, lost, tried again.

use std::time::Duration;

use emulator_azure_devops::{JobResult, JobSpec, JobState, Options};
use jiff::SignedDuration;

use crate::support::{SOON, world};

#[tokio::test]
async fn a_job_ends_as_its_agent_is_told() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    world.devops.finish_job(request, JobResult::Failed).unwrap();
    let message = agent.message(10).await.unwrap();
    assert_eq!((message["type"].as_str(), message["result"].as_str()), (Some("finish"), Some("failed")));
}

#[tokio::test]
async fn a_job_that_is_to_end_before_it_has_an_agent_is_told_when_it_has_one() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    world.devops.finish_job(request, JobResult::Succeeded).unwrap();
    let agent = world.agent("one", &[]).await;
    assert_eq!(agent.job().await, request);
    assert_eq!(agent.message(10).await.unwrap()["type"], "finish");
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_agent() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let running = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    let waiting = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    for request in [running, waiting] {
        world.devops.cancel_job(request).unwrap();
    }
    assert_eq!(world.devops.job(waiting).unwrap().result, Some(JobResult::Canceled));
    assert_eq!(world.devops.job(running).unwrap().state, JobState::Running);
    assert_eq!(agent.message(10).await.unwrap()["type"], "cancel");
    agent.complete(running, "canceled").await;
    assert_eq!(world.devops.job(running).unwrap().result, Some(JobResult::Canceled));
}

#[tokio::test]
async fn a_cancelled_job_that_nobody_has_fetched_frees_its_agent() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(world.devops.job(request).unwrap().state, JobState::Assigned);
    world.devops.cancel_job(request).unwrap();
    assert_eq!(world.devops.job(request).unwrap().result, Some(JobResult::Canceled));
    assert_eq!(agent.message(0).await, Err(204));
    let next = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(agent.job().await, next);
}

#[tokio::test]
async fn an_agent_that_ignores_a_cancellation_is_overruled() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    world.devops.cancel_job(request).unwrap();
    world.devops.clock().advance(SignedDuration::from_secs(301));
    let ended = world.devops.wait_for_end(request, SOON).await.unwrap();
    assert_eq!(ended.result, Some(JobResult::Canceled));
    assert_eq!(agent.complete(request, "succeeded").await, 404);
}

#[tokio::test]
async fn a_job_that_runs_for_too_long_is_cancelled() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let spec = JobSpec::new("Default", &[]).limited_to(Duration::from_secs(60));
    let request = world.devops.queue_job(spec).unwrap();
    agent.job().await;
    world.devops.clock().advance(SignedDuration::from_secs(61));
    assert_eq!(agent.message(10).await.unwrap()["type"], "cancel");
    assert!(world.devops.job(request).unwrap().issues[0].contains("maximum time"));
}

#[tokio::test]
async fn a_job_whose_agent_is_lost_is_abandoned() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    world.devops.clock().advance(SignedDuration::from_secs(601));
    let ended = world.devops.wait_for_end(request, SOON).await.unwrap();
    assert_eq!(ended.result, Some(JobResult::Abandoned));
    assert!(ended.issues[0].starts_with("We stopped hearing from agent one"), "{:?}", ended.issues);
    assert_eq!(world.devops.runs()[0].result, Some(JobResult::Failed));
}

#[tokio::test]
async fn a_run_ends_with_its_last_job_as_the_worst_of_them() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let first = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let run = world.devops.job(first).unwrap().run_id;
    let spec = JobSpec::new("Default", &[]).in_run(run).in_stage("test").named("unit");
    let second = world.devops.queue_job(spec).unwrap();
    for (request, result, status) in [(first, "failed", "inProgress"), (second, "succeeded", "completed")] {
        assert_eq!(agent.job().await, request);
        agent.complete(request, result).await;
        assert_eq!(world.devops.runs()[0].status, status);
    }
    assert_eq!(world.devops.runs()[0].result, Some(JobResult::Failed));
}

#[tokio::test]
async fn a_stage_is_tried_again_with_new_requests_of_the_jobs_that_failed() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let jobs = ["good", "bad"].map(|name| JobSpec::new("Default", &[]).named(name));
    let [good, bad] = world.devops.queue_run(jobs.to_vec()).unwrap()[..] else { panic!("two are made") };
    let run = world.devops.job(good).unwrap().run_id;
    assert!(world.devops.retry_stage(run, "__default", false).is_err(), "it has not ended");
    for (request, result) in [(good, "succeeded"), (bad, "failed")] {
        agent.job().await;
        agent.complete(request, result).await;
    }
    let again = world.devops.retry_stage(run, "__default", false).unwrap();
    assert_eq!(again.len(), 1);
    let retried = world.devops.job(again[0]).unwrap();
    assert_eq!((retried.name.as_str(), retried.attempt, retried.run_id), ("bad", 2, run));
    assert_ne!(retried.request_id, bad);
    assert_eq!(world.devops.runs()[0].status, "inProgress");
    agent.job().await;
    agent.complete(again[0], "succeeded").await;
    assert_eq!(world.devops.runs()[0].result, Some(JobResult::Succeeded));
    assert!(world.devops.retry_stage(run, "__default", false).is_err(), "nothing is to be repeated");
    assert_eq!(world.devops.retry_stage(run, "__default", true).unwrap().len(), 2);
}

#[tokio::test]
async fn a_job_that_fails_at_once_does_not_end_a_run_whose_other_jobs_wait() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let hopeless = JobSpec::new("Default", &["gpu"]).named("hopeless");
    let requests = world.devops.queue_run(vec![hopeless, JobSpec::new("Default", &[])]).unwrap();
    let results: Vec<_> = requests.iter().map(|one| world.devops.job(*one).unwrap().result).collect();
    assert_eq!(results, [Some(JobResult::Failed), None]);
    assert_eq!(world.devops.runs()[0].status, "inProgress");
}

#[tokio::test]
async fn a_stage_has_one_job_of_a_name() {
    let world = world(Options::default()).await;
    let first = world.devops.queue_job(JobSpec::new("Default", &[]).named("unit")).unwrap();
    let run = world.devops.job(first).unwrap().run_id;
    let again = JobSpec::new("Default", &[]).named("Unit").in_run(run);
    assert!(world.devops.queue_job(again.clone()).is_err());
    assert!(world.devops.queue_job(again.in_stage("test")).is_ok());
    assert!(world.devops.queue_run(Vec::new()).is_err());
}

#[tokio::test]
async fn an_agent_that_crashed_and_starts_anew_has_lost_its_job() {
    let mut options = Options::default();
    options.timing.offline_after = Duration::from_secs(60);
    let world = world(options).await;
    let token = world.register("one", &[], false).await;
    let crashed = world.connect(&token, true).await.unwrap();
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    crashed.job().await;
    assert_eq!(world.connect(&token, true).await.err(), Some(409), "it still counts as online");
    world.devops.clock().advance(SignedDuration::from_secs(61));
    let offline =
        |control: &emulator_azure_devops::AzureDevOpsControl| Ok((!control.agents()[0].online).then_some(()));
    world.devops.wait_until(offline, SOON).await.unwrap().unwrap();
    let anew = world.connect(&token, true).await.unwrap();
    assert_eq!(world.devops.job(request).unwrap().result, Some(JobResult::Abandoned));
    assert_eq!(crashed.message(0).await, Err(404));
    let next = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(anew.job().await, next);
}
