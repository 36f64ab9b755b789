//! How jobs and runners find each other, and what deadlines do to them.

#![expect(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test ends at its first surprise")]

mod support;

use std::time::Duration;

use emulator_github::{Assignment, Conclusion, JobSpec, JobStatus, Options, Timing};
use jiff::SignedDuration;
use support::{SOON, emulator};

#[tokio::test]
async fn a_runner_takes_the_oldest_job_that_it_covers_whoever_it_was_made_for() {
    let (github, client) = emulator(Options::default()).await;
    let uncovered = github.queue_job(JobSpec::new("acme/app", &["stint", "gpu"])).unwrap();
    let oldest = github.queue_job(JobSpec::new("acme/app", &["STINT"])).unwrap();
    let newest = github.queue_job(JobSpec::new("acme/other", &[])).unwrap();
    let agent = client.connect("for-another", &["Stint", "large"]).await;
    assert_eq!(agent.message(5).await.unwrap()["jobId"], oldest);
    let second = client.connect("second", &["stint"]).await;
    assert_eq!(second.message(5).await.unwrap()["jobId"], newest);
    assert_eq!(github.job(uncovered).unwrap().status, JobStatus::Queued);
    let job = github.job(oldest).unwrap();
    assert_eq!((job.status, job.runner_name.as_deref()), (JobStatus::InProgress, Some("for-another")));
}

#[tokio::test]
async fn a_runner_of_a_repository_serves_that_repository_only() {
    let (github, client) = emulator(Options::default()).await;
    let elsewhere = github.queue_job(JobSpec::new("acme/other", &["stint"])).unwrap();
    let config = client.register_at("/repos/acme/app", "own", &["stint"]).await;
    let agent = support::Agent::connect(&config).await.unwrap();
    assert_eq!(agent.message(0).await, Err(204));
    let here = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    assert_eq!(agent.message(5).await.unwrap()["jobId"], here);
    assert_eq!(github.job(elsewhere).unwrap().status, JobStatus::Queued);
}

#[tokio::test]
async fn the_newest_job_can_be_preferred_and_a_choice_made_by_hand() {
    let (github, client) =
        emulator(Options { assignment: Assignment::NewestFirst, ..Options::default() }).await;
    let jobs: Vec<u64> =
        (0..3).map(|_| github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap()).collect();
    let agent = client.connect("one", &["stint"]).await;
    assert_eq!(agent.message(5).await.unwrap()["jobId"], jobs[2]);
    github.hold_assignment(true);
    let second = client.connect("two", &["stint"]).await;
    assert_eq!(second.message(0).await, Err(204));
    github.assign(jobs[0], "two").unwrap();
    assert!(github.assign(jobs[0], "two").is_err());
    assert_eq!(second.message(5).await.unwrap()["jobId"], jobs[0]);
    let third = client.connect("three", &["stint"]).await;
    github.hold_assignment(false);
    assert_eq!(third.message(5).await.unwrap()["jobId"], jobs[1]);
}

#[tokio::test]
async fn a_job_runs_until_it_is_finished_and_keeps_its_log() {
    let (github, client) = emulator(Options::default()).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let agent = client.connect("one", &["stint"]).await;
    let message = agent.message(5).await.unwrap();
    assert!(message["script"]["durationMs"].is_null());
    assert_eq!(agent.log(job, &["hello"]).await, 204);
    github.finish_job(job, Conclusion::Failure).unwrap();
    let message = agent.message(5).await.unwrap();
    assert_eq!((message["type"].as_str(), message["conclusion"].as_str()), (Some("finish"), Some("failure")));
    assert_eq!(agent.complete(job, "failure").await, 200);
    let ended = github.wait_for_end(job, SOON).await.unwrap();
    assert_eq!((ended.conclusion, ended.log), (Some(Conclusion::Failure), vec!["hello".to_owned()]));
    assert!(github.runners().is_empty());
}

#[tokio::test]
async fn a_job_that_is_not_fetched_is_queued_again() {
    let timing = Timing { assigned_timeout: Duration::from_secs(60), ..Timing::default() };
    let (github, client) = emulator(Options { timing, ..Options::default() }).await;
    let _silent = client.connect("silent", &["stint"]).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let given = github.job(job).unwrap();
    assert_eq!((given.status, given.runner_name.as_deref()), (JobStatus::Queued, Some("silent")));
    github.clock().advance(SignedDuration::from_secs(61));
    github.wait_for_job(job, |job| job.runner_name.is_none(), SOON).await.unwrap();
    let agent = client.connect("lively", &["stint"]).await;
    assert_eq!(agent.message(5).await.unwrap()["jobId"], job);
    assert_eq!(github.job(job).unwrap().assignments, 2);
}

#[tokio::test]
async fn a_job_whose_agent_is_lost_fails() {
    let (github, client) = emulator(Options::default()).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let agent = client.connect("one", &["stint"]).await;
    agent.message(5).await.unwrap();
    github.clock().advance(SignedDuration::from_secs(120));
    let offline = |handle: &emulator_github::GitHubControl| handle.runners().iter().all(|one| !one.online);
    let waited = github.wait_until(|handle| Ok(offline(handle).then_some(())), SOON).await.unwrap();
    assert_eq!(waited, Some(()));
    github.clock().advance(SignedDuration::from_secs(600));
    let ended = github.wait_for_end(job, SOON).await.unwrap();
    assert_eq!(ended.conclusion, Some(Conclusion::Failure));
    assert_eq!(agent.message(0).await, Err(404));
}

#[tokio::test]
async fn a_registered_runner_that_never_connects_is_purged() {
    let (github, client) = emulator(Options::default()).await;
    let config = client.register("late", &["stint"]).await;
    let _idle = client.connect("waiting", &["stint"]).await;
    github.clock().advance(SignedDuration::from_secs(121));
    let gone =
        github.wait_until(|handle| Ok((handle.runners().len() == 1).then_some(())), SOON).await.unwrap();
    assert_eq!(gone, Some(()));
    assert_eq!(github.runners()[0].name, "waiting");
    assert_eq!(support::Agent::connect(&config).await.err(), Some(404));
}

#[tokio::test]
async fn a_queued_job_fails_after_a_day() {
    let (github, _client) = emulator(Options::default()).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    github.clock().advance(SignedDuration::from_hours(24));
    let ended = github.wait_for_end(job, SOON).await.unwrap();
    assert_eq!((ended.conclusion, ended.runner_id), (Some(Conclusion::Failure), None));
}

#[tokio::test]
async fn cancelling_reaches_the_agent_and_is_enforced() {
    let (github, client) = emulator(Options::default()).await;
    let obeyed = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let agent = client.connect("obeys", &["stint"]).await;
    agent.message(5).await.unwrap();
    github.cancel_job(obeyed).unwrap();
    assert_eq!(agent.message(5).await.unwrap()["type"], "cancel");
    assert_eq!(agent.complete(obeyed, "cancelled").await, 200);

    let ignored = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let agent = client.connect("ignores", &["stint"]).await;
    agent.message(5).await.unwrap();
    github.cancel_job(ignored).unwrap();
    github.clock().advance(SignedDuration::from_secs(301));
    let ended = github.wait_for_end(ignored, SOON).await.unwrap();
    assert_eq!(ended.conclusion, Some(Conclusion::Cancelled));
}

#[tokio::test]
async fn an_assigned_job_that_is_cancelled_frees_its_runner() {
    let (github, client) = emulator(Options::default()).await;
    let agent = client.connect("one", &["stint"]).await;
    let first = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let second = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    github.cancel_job(first).unwrap();
    assert_eq!(github.job(first).unwrap().conclusion, Some(Conclusion::Cancelled));
    assert_eq!(agent.message(5).await.unwrap()["jobId"], second);
}

#[tokio::test]
async fn a_message_is_repeated_until_it_is_named() {
    let (github, client) = emulator(Options::default()).await;
    let config = client.register("one", &["stint"]).await;
    let agent = support::Agent::connect(&config).await.unwrap();
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    for _ in 0..2 {
        let message = agent.message_after(0, 5).await.unwrap();
        assert_eq!((message["jobId"].as_u64(), message["messageId"].as_u64()), (Some(job), Some(1)));
    }
    assert_eq!(agent.message_after(1, 0).await, Err(204));
    github.cancel_job(job).unwrap();
    assert_eq!(agent.message_after(1, 5).await.unwrap()["messageId"], 2);
}

#[tokio::test]
async fn runs_are_repeated_under_new_ids() {
    let (github, client) = emulator(Options::default()).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    let run = github.job(job).unwrap().run_id;
    assert!(github.rerun(run).is_err());
    github.cancel_job(job).unwrap();
    let again = github.rerun(run).unwrap();
    assert_eq!(again.len(), 1);
    let repeated = github.job(again[0]).unwrap();
    assert_eq!((repeated.run_id, repeated.attempt, repeated.status), (run, 2, JobStatus::Queued));
    assert_ne!(again[0], job);
    drop(client);
}
