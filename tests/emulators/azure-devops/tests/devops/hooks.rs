//! Service hooks: what is sent, and what becomes of a subscription whose receiver fails.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emulator_azure_devops::{HookStatus, JobSpec, Options, SubscriptionSpec};
use jiff::SignedDuration;
use serde_json::json;

use crate::support::{JOB_EVENT, Receiver, SOON, World, world};

fn subscription(receiver: &Receiver) -> SubscriptionSpec {
    SubscriptionSpec::webhook(JOB_EVENT, &receiver.url())
}

/// An emulator whose jobs wait for an agent, and a receiver of their events.
async fn heard(options: Options) -> (World, Receiver) {
    let (world, receiver) = (world(options).await, Receiver::start().await);
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    world.devops.subscribe(subscription(&receiver)).unwrap();
    (world, receiver)
}

fn queue(world: &World) -> u64 {
    world.devops.queue_job(JobSpec::new("Default", &[])).unwrap()
}

async fn wait_for_status(world: &World, status: HookStatus) {
    let is = |control: &emulator_azure_devops::AzureDevOpsControl| {
        Ok((control.hooks()[0].status == status).then_some(()))
    };
    assert!(world.devops.wait_until(is, SOON).await.unwrap().is_some(), "{:?}", world.devops.hooks());
}

#[tokio::test]
async fn a_jobs_states_are_told_in_order() {
    let (world, receiver) = heard(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = queue(&world);
    agent.job().await;
    agent.complete(request, "succeeded").await;
    let told: Vec<_> = receiver.wait_for(3).await.iter().map(crate::support::Received::job).collect();
    let job = |state: &str, result: serde_json::Value| ("build".to_owned(), state.to_owned(), result);
    assert_eq!(
        told,
        [job("waiting", json!(null)), job("inProgress", json!(null)), job("completed", json!("succeeded"))]
    );
    assert_eq!(receiver.seen()[2].body["resource"]["run"]["id"], world.devops.runs()[0].id);
}

#[tokio::test]
async fn states_may_be_capitalised() {
    let mut options = Options::default();
    options.quirks.capitalised_states = true;
    let (world, receiver) = heard(options).await;
    let agent = world.agent("one", &[]).await;
    let request = queue(&world);
    agent.job().await;
    agent.complete(request, "failed").await;
    let told = receiver.wait_for(3).await;
    assert_eq!(told[1].job().1, "Running");
    assert_eq!((told[2].job().1, told[2].job().2), ("Completed".to_owned(), json!("Failed")));
}

#[tokio::test]
async fn stages_and_runs_have_events_of_their_own() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    for kind in ["stage", "run"] {
        let event = format!("ms.vss-pipelines.{kind}-state-changed-event");
        world.devops.subscribe(SubscriptionSpec::webhook(&event, &receiver.url())).unwrap();
    }
    world.devops.queue_job(JobSpec::new("Default", &[]).in_stage("test")).unwrap();
    let told = receiver.wait_for(4).await;
    let of = |kind: &str| -> Vec<String> {
        let here = told.iter().filter(|one| one.body["eventType"].as_str().unwrap().contains(kind));
        let field = kind.trim_end_matches('-').trim_start_matches('.').to_owned();
        here.map(|one| one.body["resource"][&field]["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of(".stage-"), ["waiting", "completed"]);
    assert_eq!(of(".run-"), ["inProgress", "completed"]);
}

#[tokio::test]
async fn a_stage_that_is_tried_again_is_told_once_whatever_its_number_of_jobs() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    let jobs = ["one", "two"].map(|name| JobSpec::new("Default", &[]).named(name));
    world.devops.queue_run(jobs.to_vec()).unwrap();
    let event = "ms.vss-pipelines.stage-state-changed-event";
    world.devops.subscribe(SubscriptionSpec::webhook(event, &receiver.url())).unwrap();
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let run = world.devops.runs()[0].id;
    world.devops.retry_stage(run, "__default", true).unwrap();
    receiver.wait_for(1).await;
    assert_eq!(world.devops.notifications().len(), 1);
    assert_eq!(receiver.seen()[0].body["resource"]["stage"]["attempt"], 2);
}

#[tokio::test]
async fn credentials_and_headers_are_shown_to_the_receiver() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    let spec = subscription(&receiver)
        .consumer("basicAuthUsername", "hook")
        .consumer("basicAuthPassword", "word")
        .consumer("httpHeaders", "X-One: 1\nX-Two: a:b");
    world.devops.subscribe(spec).unwrap();
    queue(&world);
    let told = receiver.wait_for(1).await;
    assert_eq!(told[0].header("authorization"), format!("Basic {}", STANDARD.encode("hook:word")));
    assert_eq!((told[0].header("x-one"), told[0].header("x-two")), ("1", "a:b"));
    assert_eq!(told[0].header("content-type"), "application/json; charset=utf-8");
}

#[tokio::test]
async fn filters_choose_project_state_and_result() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    let project = world.devops.add_project("other").unwrap();
    let spec = subscription(&receiver)
        .filtered("projectId", &project)
        .filtered("jobStateId", "Completed")
        .filtered("jobResultId", "Failed");
    world.devops.subscribe(spec).unwrap();
    for project in ["app", "other"] {
        world.devops.queue_job(JobSpec::new("Default", &[]).in_project(project).named(project)).unwrap();
    }
    let told = receiver.wait_for(1).await;
    assert_eq!(told[0].job().0, "other");
    assert_eq!(world.devops.notifications().len(), 1);
}

#[tokio::test]
async fn details_are_left_out_where_the_subscription_does_not_want_them() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    let spec =
        subscription(&receiver).consumer("resourceDetailsToSend", "none").consumer("messagesToSend", "text");
    world.devops.subscribe(spec).unwrap();
    queue(&world);
    let body = &receiver.wait_for(1).await[0].body;
    assert_eq!(body["resource"], json!(null));
    assert_eq!(body["message"].as_object().unwrap().keys().collect::<Vec<_>>(), ["text"]);
}

#[tokio::test]
async fn unavailability_is_tried_again_eight_times_over_three_minutes() {
    let (world, receiver) = heard(Options { time_scale: 0.001, ..Options::default() }).await;
    receiver.will_answer(&[503, 502, 504, 408, 503, 503, 503, 503]);
    queue(&world);
    let told = receiver.wait_for(9).await;
    assert!(told.iter().all(|one| one.body["id"] == told[0].body["id"]));
    let received = |control: &emulator_azure_devops::AzureDevOpsControl| {
        let one = &control.notifications()[0];
        Ok(one.completed.then_some((one.succeeded, one.attempts)))
    };
    assert_eq!(world.devops.wait_until(received, SOON).await.unwrap(), Some((true, 9)));
    assert_eq!(world.devops.hooks()[0].status, HookStatus::Enabled);
}

#[tokio::test]
async fn unavailability_that_does_not_pass_ends_in_probation() {
    let mut options = Options { time_scale: 0.000_1, ..Options::default() };
    options.timing.probation_retries = vec![Duration::from_secs(1_000_000)];
    let (world, receiver) = heard(options).await;
    receiver.will_answer(&[503; 9]);
    queue(&world);
    receiver.wait_for(9).await;
    wait_for_status(&world, HookStatus::OnProbation).await;
}

#[tokio::test]
async fn any_other_error_loses_all_new_events_until_the_failed_one_is_received() {
    let (world, receiver) = heard(Options::default()).await;
    receiver.will_answer(&[500]);
    let first = queue(&world);
    wait_for_status(&world, HookStatus::OnProbation).await;
    queue(&world);
    assert_eq!((world.devops.hooks()[0].lost, receiver.seen().len()), (1, 1));

    world.devops.clock().advance(SignedDuration::from_secs(21));
    wait_for_status(&world, HookStatus::Enabled).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body["id"], seen[1].body["id"]);
    world.devops.cancel_job(first).unwrap();
    assert_eq!(receiver.wait_for(3).await[2].job().1, "completed");
}

#[tokio::test]
async fn a_receiver_that_fails_for_36_hours_is_no_longer_told() {
    let (world, receiver) = heard(Options { time_scale: 0.000_01, ..Options::default() }).await;
    receiver.will_answer(&[500; 8]);
    queue(&world);
    wait_for_status(&world, HookStatus::DisabledBySystem).await;
    assert_eq!(receiver.seen().len(), 8);
    let hours: Duration = emulator_azure_devops::Timing::default().probation_retries.iter().sum();
    assert_eq!(hours, Duration::from_secs(36 * 3_600));
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_disabled_at_once() {
    let (world, receiver) = heard(Options::default()).await;
    receiver.will_answer(&[410]);
    queue(&world);
    wait_for_status(&world, HookStatus::DisabledBySystem).await;
    queue(&world);
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_cannot_be_reached_puts_the_subscription_on_probation() {
    let world = world(Options::default()).await;
    let nobody = Receiver::start().await.url();
    world.devops.subscribe(SubscriptionSpec::webhook(JOB_EVENT, &nobody)).unwrap();
    queue(&world);
    wait_for_status(&world, HookStatus::OnProbation).await;
}

#[tokio::test]
async fn subscriptions_are_made_listed_changed_and_deleted() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    let path = "/_apis/hooks/subscriptions";
    let spec = subscription(&receiver)
        .filtered("projectId", &world.devops.add_project("app").unwrap())
        .consumer("basicAuthUsername", "hook")
        .consumer("basicAuthPassword", "word");
    let body = serde_json::to_value(&spec).unwrap();
    let made = world.call("POST", path, Some(body.clone())).await;
    assert_eq!((made.status, &made.body["status"]), (200, &json!("enabled")), "{made:?}");
    assert_eq!(made.body["consumerInputs"]["basicAuthPassword"], "********");

    let one = format!("{path}/{}", made.body["id"].as_str().unwrap());
    let listed = world.get(&format!("{path}?publisherId=pipelines&consumerId=webHooks")).await;
    assert_eq!(listed.each("id"), [made.body["id"].clone()]);
    assert_eq!(world.get(&format!("{path}?publisherId=tfs")).await.body["count"], 0);

    // What is read can be written back, and the secret stays.
    let mut off = world.get(&one).await.body;
    off["status"] = json!("disabledByUser");
    assert_eq!(world.call("PUT", &one, Some(off.clone())).await.body["status"], "disabledByUser");
    queue(&world);
    off["status"] = json!("enabled");
    assert_eq!(world.call("PUT", &one, Some(off)).await.body["status"], "enabled");
    queue(&world);
    let told = receiver.wait_for(1).await;
    assert_eq!(told[0].header("authorization"), format!("Basic {}", STANDARD.encode("hook:word")));
    let sent = world.get(&format!("{one}/notifications")).await;
    assert_eq!(sent.each("subscriptionId")[0], made.body["id"]);

    assert_eq!(world.call("DELETE", &one, None).await.status, 204);
    assert_eq!(world.get(&one).await.kind(), "SubscriptionNotFoundException");
}

#[tokio::test]
async fn a_subscription_that_cannot_be_told_is_refused() {
    let world = world(Options::default()).await;
    let good = SubscriptionSpec::webhook(JOB_EVENT, "https://example.com/hook");
    for (field, value) in [
        ("publisherId", json!("tfs")),
        ("eventType", json!("build.complete")),
        ("consumerId", json!("slack")),
        ("consumerInputs", json!({})),
    ] {
        let mut body = serde_json::to_value(&good).unwrap();
        body[field] = value;
        let refused = world.call("POST", "/_apis/hooks/subscriptions", Some(body)).await;
        assert_eq!((refused.status, refused.kind()), (400, "SubscriptionInputException"), "{field}");
    }
}
