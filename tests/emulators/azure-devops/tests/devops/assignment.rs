//! Which agent gets which job, and when none does.

use std::time::Duration;

use emulator_azure_devops::{JobResult, JobSpec, JobState, Options};
use jiff::SignedDuration;

use crate::support::{SOON, world};

#[tokio::test]
async fn a_job_that_no_registered_agent_could_have_fails_at_once() {
    let world = world(Options::default()).await;
    let empty = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    world.devops.add_offline_agent("Default", "small", &[("stint", "small")]).unwrap();
    let large = world.devops.queue_job(JobSpec::new("Default", &["stint -equals large"])).unwrap();
    for request in [empty, large] {
        let job = world.devops.job(request).unwrap();
        assert_eq!((job.state, job.result), (JobState::Completed, Some(JobResult::Failed)));
        assert!(job.issues[0].starts_with("No agent found in pool Default"), "{:?}", job.issues);
    }
}

#[tokio::test]
async fn an_offline_agent_with_the_capabilities_is_enough_to_wait() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "small", &[("stint", "small")]).unwrap();
    let request = world.devops.queue_job(JobSpec::new("Default", &["stint -equals small"])).unwrap();
    assert_eq!(world.devops.job(request).unwrap().state, JobState::Queued);
    let agent = world.agent("real", &[("stint", "small")]).await;
    assert_eq!(agent.job().await, request);
}

#[tokio::test]
async fn a_placeholder_whose_version_is_too_old_is_not_enough() {
    let world = world(Options::default()).await;
    let body = serde_json::json!({"name": "old", "version": "2.100.0"});
    world.call("POST", &world.pool("/agents"), Some(body)).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(world.devops.job(request).unwrap().result, Some(JobResult::Failed));
}

#[tokio::test]
async fn an_agent_gets_any_job_that_it_meets_the_demands_of_whatever_it_was_started_for() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[("java", ""), ("node", "")]).unwrap();
    let first = world.devops.queue_job(JobSpec::new("Default", &["node"])).unwrap();
    let second = world.devops.queue_job(JobSpec::new("Default", &["java"])).unwrap();
    let agent = world.agent("for the second", &[("java", ""), ("node", "")]).await;
    assert_eq!(agent.job().await, first);
    let other = world.agent("for the first", &[("node", "")]).await;
    assert_eq!(other.message(0).await, Err(204));
    assert_eq!(world.devops.job(second).unwrap().state, JobState::Queued);
}

#[tokio::test]
async fn a_higher_priority_and_then_age_decide() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let queue = |spec: JobSpec| world.devops.queue_job(spec).unwrap();
    let old = queue(JobSpec::new("Default", &[]));
    let young = queue(JobSpec::new("Default", &[]));
    let urgent = queue(JobSpec::new("Default", &[]).with_priority(5));
    let bumped = queue(JobSpec::new("Default", &[]));
    world.devops.run_next(bumped).unwrap();
    let agent = world.agent("one", &[]).await;
    for request in [bumped, urgent, old, young] {
        assert_eq!(agent.job().await, request);
        agent.complete(request, "succeeded").await;
    }
}

#[tokio::test]
async fn licences_hold_jobs_back_although_agents_are_free() {
    let world = world(Options { parallel_jobs: Some(1), ..Options::default() }).await;
    let one = world.agent("one", &[]).await;
    let two = world.agent("two", &[]).await;
    let first = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let second = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(one.job().await, first);
    assert_eq!(two.message(0).await, Err(204));
    assert_eq!(world.devops.job(second).unwrap().state, JobState::Queued);
    one.complete(first, "succeeded").await;
    let next = world.devops.wait_for_job(second, |job| job.agent_id.is_some(), SOON).await.unwrap();
    assert_eq!(next.state, JobState::Assigned);
}

#[tokio::test]
async fn a_job_that_its_agent_does_not_fetch_goes_to_another() {
    let mut options = Options::default();
    options.timing.offline_after = Duration::from_secs(3_600);
    let world = world(options).await;
    let silent = world.agent("a silent one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(world.devops.job(request).unwrap().agent_id, Some(silent.id));
    world.devops.clock().advance(SignedDuration::from_secs(301));
    let waits = world.devops.wait_for_job(request, |job| job.agent_id.is_none(), SOON).await.unwrap();
    assert_eq!(waits.state, JobState::Queued);
    assert!(!world.devops.agents()[0].online, "who does not come for a job is not there");
    let other = world.agent("other", &[]).await;
    assert_eq!(other.job().await, request);
    assert_eq!(world.devops.job(request).unwrap().assignments, 2);
    assert_eq!(silent.message(0).await, Err(204));
}

#[tokio::test]
async fn an_agent_that_does_not_poll_is_offline_and_gets_no_job() {
    let world = world(Options { time_scale: 0.001, ..Options::default() }).await;
    let agent = world.agent("one", &[]).await;
    let offline =
        |control: &emulator_azure_devops::AzureDevOpsControl| Ok((!control.agents()[0].online).then_some(()));
    assert!(world.devops.wait_until(offline, SOON).await.unwrap().is_some());
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(world.devops.job(request).unwrap().state, JobState::Queued);
    assert_eq!(agent.job().await, request);
}

#[tokio::test]
async fn jobs_of_other_pools_are_not_given() {
    let world =
        world(Options { pools: vec!["Default".to_owned(), "other".to_owned()], ..Options::default() }).await;
    world.devops.add_offline_agent("other", "placeholder", &[]).unwrap();
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("other", &[])).unwrap();
    assert_eq!(agent.message(0).await, Err(204));
    assert_eq!(world.devops.job(request).unwrap().state, JobState::Queued);
    assert!(world.devops.queue_job(JobSpec::new("none", &[])).is_err());
}

#[tokio::test]
async fn a_message_wakes_an_agent_that_waits_for_it() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let spec = JobSpec::new("Default", &[]).lasting(Duration::from_millis(5));
    let (message, request) = tokio::join!(agent.message(10), async { world.devops.queue_job(spec).unwrap() });
    let message = message.unwrap();
    assert_eq!(message["requestId"], request);
    assert_eq!(message["script"]["durationMs"], 5);
}
