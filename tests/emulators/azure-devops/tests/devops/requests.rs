//! What `jobrequests` tells.

use emulator_azure_devops::{JobSpec, Options};
use serde_json::json;

use crate::support::world;

#[tokio::test]
async fn a_request_is_queued_then_received_then_has_a_result() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[("java", "")]).unwrap();
    let request = world.devops.queue_job(JobSpec::new("Default", &["java"])).unwrap();
    let told = world.requests().await;
    let queued = &told.body["value"][0];
    assert_eq!(queued["requestId"], request);
    assert_eq!(queued["demands"], json!(["java", "Agent.Version -gtVersion 2.182.1"]));
    for absent in ["assignTime", "receiveTime", "result", "reservedAgent", "finishTime"] {
        assert!(queued.get(absent).is_none(), "{absent}: {queued}");
    }
    let agent = world.agent("real", &[("java", "")]).await;
    agent.job().await;
    let running = world.get(&world.pool(&format!("/jobrequests/{request}"))).await.body;
    assert_eq!(running["reservedAgent"]["name"], "real");
    assert!(running["receiveTime"].is_string() && running["lockedUntil"].is_string(), "{running}");
    agent.complete(request, "succeeded").await;
    let ended = world.get(&world.pool(&format!("/jobrequests/{request}"))).await.body;
    assert_eq!((&ended["result"], ended["finishTime"].is_string()), (&json!("succeeded"), true));
}

#[tokio::test]
async fn matched_agents_are_those_that_could_have_it_and_top_leaves_them_out() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "java", &[("java", "")]).unwrap();
    world.devops.add_offline_agent("Default", "other", &[]).unwrap();
    world.devops.queue_job(JobSpec::new("Default", &["java"])).unwrap();
    let told = world.requests().await;
    let matched = told.body["value"][0]["matchedAgents"].as_array().unwrap();
    assert_eq!(matched.iter().map(|agent| &agent["name"]).collect::<Vec<_>>(), [&json!("java")]);
    let top = world.get(&world.pool("/jobrequests?$top=5")).await;
    assert_eq!(top.body["count"], 1);
    assert!(top.body["value"][0].get("matchedAgents").is_none());
}

#[tokio::test]
async fn completed_requests_are_told_as_many_as_are_asked_for() {
    let world = world(Options::default()).await;
    let failed: Vec<u64> =
        (0..3).map(|_| world.devops.queue_job(JobSpec::new("Default", &[])).unwrap()).collect();
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let waits = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    for (count, expected) in
        [("0", vec![waits]), ("1", vec![failed[2], waits]), ("9", [failed.clone(), vec![waits]].concat())]
    {
        let told = world.get(&world.pool(&format!("/jobrequests?completedRequestCount={count}"))).await;
        assert_eq!(told.each("requestId"), expected, "{count}");
    }
}

#[tokio::test]
async fn one_answer_holds_about_two_hundred() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    for _ in 0..210 {
        world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    }
    assert_eq!(world.requests().await.body["count"], 200);
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let all: Vec<u64> =
        (0..5).map(|_| world.devops.queue_job(JobSpec::new("Default", &[])).unwrap()).collect();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = world.get(&world.pool(&format!("/jobrequests?$top=2{token}"))).await;
        seen.extend(page.each("requestId").into_iter().map(|id| id.as_u64().unwrap()));
        match page.header("x-ms-continuationtoken") {
            "" => break,
            next => token = format!("&continuationToken={next}"),
        }
    }
    seen.reverse();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_list_may_be_empty_for_a_moment_although_jobs_wait() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    world.devops.blank_lists("Default", 1).unwrap();
    assert_eq!(world.requests().await.body, json!({"count": 0, "value": []}));
    assert_eq!(world.requests().await.each("requestId"), [json!(request)]);
}

#[tokio::test]
async fn requests_are_found_by_agent_and_by_plan() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let first = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    let second = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let by_agent = world.get(&world.pool(&format!("/jobrequests?agentId={}", agent.id))).await;
    assert_eq!(by_agent.each("requestId"), [json!(first)]);
    let plan = world.get(&world.pool(&format!("/jobrequests/{second}"))).await.body["planId"].clone();
    let by_plan = world.get(&world.pool(&format!("/jobrequests?planId={}", plan.as_str().unwrap()))).await;
    assert_eq!(by_plan.each("requestId"), [json!(second)]);
    let missing = world.get(&world.pool("/jobrequests/1")).await;
    assert_eq!((missing.status, missing.kind()), (404, "TaskAgentJobNotFoundException"));
}
