//! The names of fields, held against those of recorded answers and of Microsoft's documentation.

use emulator_azure_devops::{JobSpec, Options, SubscriptionSpec};
use serde_json::Value;

use crate::support::{JOB_EVENT, Receiver, world};

/// Fails for every path (`a.b`, `list.0.c`) that is not there.
fn has(value: &Value, paths: &[&str]) {
    let missing: Vec<&&str> = paths
        .iter()
        .filter(|path| value.pointer(&format!("/{}", path.replace('/', "~1").replace('.', "/"))).is_none())
        .collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {value:#}");
}

const OF_EVERY_REQUEST: [&str; 21] = [
    "requestId",
    "queueTime",
    "serviceOwner",
    "hostId",
    "scopeId",
    "planType",
    "planId",
    "jobId",
    "demands.0",
    "definition.id",
    "definition.name",
    "definition._links.web.href",
    "definition._links.self.href",
    "owner.id",
    "owner.name",
    "owner._links.web.href",
    "owner._links.self.href",
    "data.ParallelismTag",
    "data.IsScheduledKey",
    "poolId",
    "orchestrationId",
];

#[tokio::test]
async fn a_waiting_request_has_the_fields_of_a_recorded_one() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[("java", "")]).unwrap();
    world.devops.queue_job(JobSpec::new("Default", &["java"])).unwrap();
    let list = world.requests().await.body;
    has(&list, &["count", "value.0.priority"]);
    let request = &list["value"][0];
    has(request, &OF_EVERY_REQUEST);
    let agent = "matchedAgents.0";
    for field in [
        "_links.self.href",
        "_links.web.href",
        "id",
        "name",
        "version",
        "enabled",
        "status",
        "provisioningState",
    ] {
        has(request, &[&format!("{agent}.{field}")]);
    }
}

#[tokio::test]
async fn a_running_and_an_ended_request_have_the_fields_of_recorded_ones() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let number = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    let path = world.pool(&format!("/jobrequests/{number}"));
    let running = world.get(&path).await.body;
    has(&running, &OF_EVERY_REQUEST);
    has(
        &running,
        &[
            "assignTime",
            "receiveTime",
            "lockedUntil",
            "matchedAgents",
            "reservedAgent._links.self.href",
            "reservedAgent.id",
            "reservedAgent.name",
            "reservedAgent.version",
            "reservedAgent.enabled",
            "reservedAgent.status",
            "reservedAgent.provisioningState",
            "reservedAgent.accessPoint",
        ],
    );
    agent.complete(number, "succeeded").await;
    let ended = world.get(&path).await.body;
    has(&ended, &OF_EVERY_REQUEST);
    has(&ended, &["result", "assignTime", "receiveTime", "lockedUntil", "finishTime", "reservedAgent.name"]);
    assert!(ended.get("matchedAgents").is_none());
}

#[tokio::test]
async fn a_job_event_has_the_fields_of_the_documented_one() {
    let (world, receiver) = (world(Options::default()).await, Receiver::start().await);
    world.devops.subscribe(SubscriptionSpec::webhook(JOB_EVENT, &receiver.url())).unwrap();
    world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let ended = receiver.wait_for(2).await[1].body.clone();
    has(&ended, &["subscriptionId", "notificationId", "id", "eventType", "publisherId", "createdDate"]);
    for message in ["message", "detailedMessage"] {
        for form in ["text", "html", "markdown"] {
            has(&ended, &[&format!("{message}.{form}")]);
        }
    }
    has(&ended, &["resourceVersion", "resourceContainers.collection.id", "resourceContainers.account.id"]);
    has(&ended, &["resourceContainers.account.baseUrl", "resourceContainers.project.id"]);
    let resource = &ended["resource"];
    has(resource, &["job._links.web.href", "job.id", "job.name", "job.state", "job.result", "job.startTime"]);
    assert!(resource["job"]["_links"]["pipeline.web"]["href"].is_string());
    has(resource, &["job.finishTime", "job.attempt", "projectId"]);
    for field in ["id", "name", "displayName", "state", "result", "startTime", "finishTime"] {
        has(resource, &[&format!("stage.{field}")]);
    }
    for field in ["pipeline.id", "state", "result", "createdDate", "finishedDate", "id", "name"] {
        has(resource, &[&format!("run.{field}")]);
    }
    for field in ["url", "id", "revision", "name", "folder"] {
        has(resource, &[&format!("pipeline.{field}")]);
    }
    has(resource, &["repositories.0.type", "repositories.0.url", "repositories.0.change.message"]);
    has(resource, &["repositories.0.change.author.name", "repositories.0.change.committer.date"]);
    assert!(resource.get("pool").is_none() && resource["job"].get("demands").is_none());
}

#[tokio::test]
async fn a_subscription_has_the_fields_of_the_specified_one() {
    let world = world(Options::default()).await;
    let spec = SubscriptionSpec::webhook(JOB_EVENT, "https://example.com/hook").filtered("projectId", "");
    let body = serde_json::to_value(spec).unwrap();
    let made = world.call("POST", "/_apis/hooks/subscriptions", Some(body)).await.body;
    for field in [
        "id",
        "url",
        "publisherId",
        "eventType",
        "resourceVersion",
        "eventDescription",
        "consumerId",
        "consumerActionId",
        "actionDescription",
        "createdBy.id",
        "createdDate",
        "modifiedBy.id",
        "modifiedDate",
        "publisherInputs.projectId",
        "consumerInputs.url",
        "status",
    ] {
        has(&made, &[field]);
    }
}

#[tokio::test]
async fn an_error_names_its_exception() {
    let world = world(Options::default()).await;
    let error = world.get(&world.pool("/agents/1")).await;
    assert_eq!(error.status, 404);
    has(&error.body, &["$id", "innerException", "message", "typeName", "typeKey", "errorCode", "eventId"]);
}
