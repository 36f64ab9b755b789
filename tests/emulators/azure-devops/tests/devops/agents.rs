//! Agents by the REST API, and how they register and connect.

use emulator_azure_devops::{JobResult, JobSpec, Options};
use serde_json::json;

use crate::support::{SOON, world};

#[tokio::test]
async fn pools_are_found_by_name() {
    let world =
        world(Options { pools: vec!["one".to_owned(), "two".to_owned()], ..Options::default() }).await;
    let found = world.get("/_apis/distributedtask/pools?poolName=TWO").await;
    assert_eq!(found.each("name"), ["two"]);
    assert_eq!(world.get("/_apis/distributedtask/pools?poolName=three").await.body["count"], 0);
    let missing = world.get("/_apis/distributedtask/pools/1/agents").await;
    assert_eq!((missing.status, missing.kind()), (404, "TaskAgentPoolNotFoundException"));
}

#[tokio::test]
async fn a_placeholder_is_registered_read_changed_and_deleted() {
    let world = world(Options::default()).await;
    let agents = world.pool("/agents");
    let body = json!({"name": "small", "version": "4.0.0", "userCapabilities": {"stint": "small"}});
    let made = world.call("POST", &agents, Some(body.clone())).await;
    assert_eq!((made.status, made.body["status"].as_str()), (200, Some("offline")), "{made:?}");
    let taken = world.call("POST", &agents, Some(body)).await;
    assert_eq!((taken.status, taken.kind()), (409, "TaskAgentExistsException"));

    let plain = world.get(&format!("{agents}?agentName=SMALL")).await;
    assert_eq!(plain.each("userCapabilities"), [json!(null)]);
    let full = world.get(&format!("{agents}?agentName=small&includeCapabilities=true")).await;
    assert_eq!(full.each("userCapabilities"), [json!({"stint": "small"})]);
    assert_eq!(full.body["value"][0]["systemCapabilities"]["Agent.Version"], "4.0.0");

    let one = format!("{agents}/{}", made.body["id"]);
    let disabled = world.call("PATCH", &one, Some(json!({"enabled": false}))).await;
    assert_eq!((&disabled.body["enabled"], &disabled.body["name"]), (&json!(false), &json!("small")));
    assert_eq!(disabled.body["userCapabilities"], json!({"stint": "small"}));
    let replaced = world.call("PUT", &one, Some(json!({"name": "small", "version": "4.0.1"}))).await;
    assert_eq!((&replaced.body["enabled"], &replaced.body["userCapabilities"]), (&json!(true), &json!({})));
    let given = world.call("PUT", &format!("{one}/usercapabilities"), Some(json!({"gpu": "1"}))).await;
    assert_eq!(given.body["userCapabilities"], json!({"gpu": "1"}));

    assert_eq!(world.call("DELETE", &one, None).await.status, 204);
    let gone = world.get(&one).await;
    assert_eq!((gone.status, gone.kind()), (404, "TaskAgentNotFoundException"));
}

#[tokio::test]
async fn an_agent_that_runs_a_job_cannot_be_deleted() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(agent.job().await, request);
    let path = world.pool(&format!("/agents/{}", agent.id));
    let refused = world.call("DELETE", &path, None).await;
    assert_eq!((refused.status, refused.kind()), (400, "TaskAgentJobStillRunningException"));
    let busy = world.get(&format!("{path}?includeAssignedRequest=true")).await;
    assert_eq!(busy.body["assignedRequest"]["requestId"], request);
    assert_eq!(agent.complete(request, "succeeded").await, 200);
    assert_eq!(world.call("DELETE", &path, None).await.status, 204);
    assert_eq!(agent.message(0).await, Err(404));
}

#[tokio::test]
async fn a_disabled_agent_gets_no_job() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let path = world.pool(&format!("/agents/{}", agent.id));
    world.call("PATCH", &path, Some(json!({"enabled": false}))).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(agent.message(0).await, Err(204));
    world.call("PATCH", &path, Some(json!({"enabled": true}))).await;
    assert_eq!(agent.job().await, request);
}

#[tokio::test]
async fn an_agent_that_leaves_stays_registered() {
    let world = world(Options::default()).await;
    let agent = world.agent_once("one", &[("java", "/usr/bin/java")]).await;
    let path = world.pool(&format!("/agents/{}?includeCapabilities=true", agent.id));
    assert_eq!(world.get(&path).await.body["status"], "online");
    assert_eq!(agent.leave().await, 204);
    let left = world.get(&path).await;
    assert_eq!(left.body["status"], "offline");
    assert_eq!(left.body["systemCapabilities"]["java"], "/usr/bin/java");
}

#[tokio::test]
async fn a_name_is_taken_over_only_by_who_replaces_it() {
    let world = world(Options::default()).await;
    let first = world.register("one", &[], false).await;
    let second = world.register("one", &[("new", "1")], true).await;
    assert_eq!(world.connect(&first, false).await.err(), Some(404));
    let agent = world.connect(&second, false).await.unwrap();
    assert_eq!(world.connect(&second, false).await.err(), Some(409));
    assert_eq!(world.devops.agents().len(), 1);
    assert_eq!(world.devops.agents()[0].id, agent.id);
}

#[tokio::test]
async fn an_agent_started_for_one_job_gets_no_second() {
    let world = world(Options::default()).await;
    let agent = world.agent_once("one", &[]).await;
    let first = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let second = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(agent.job().await, first);
    agent.complete(first, "succeeded").await;
    assert_eq!(agent.message(0).await, Err(204));
    agent.leave().await;
    let waits = world.devops.job(second).unwrap();
    assert_eq!((waits.assignments, waits.result), (0, None));
}

#[tokio::test]
async fn an_agent_about_to_leave_may_be_given_a_job_which_then_waits_again() {
    let mut options = Options::default();
    options.quirks.assigns_to_leaving_agents = true;
    let world = world(options).await;
    let agent = world.agent_once("one", &[]).await;
    let first = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let second = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    assert_eq!(agent.job().await, first);
    agent.complete(first, "succeeded").await;
    assert_eq!(world.devops.job(second).unwrap().agent_id, Some(agent.id));
    agent.leave().await;
    assert_eq!(world.devops.job(second).unwrap().agent_id, None);
    let next = world.agent_once("two", &[]).await;
    assert_eq!(next.job().await, second);
}

#[tokio::test]
async fn an_agent_logs_and_ends_its_job_as_it_says() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    assert_eq!(agent.log(request, &["a", "b"]).await, 204);
    assert_eq!(agent.complete(request, "failed").await, 200);
    let ended = world.devops.wait_for_end(request, SOON).await.unwrap();
    assert_eq!((ended.result, ended.log), (Some(JobResult::Failed), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(agent.complete(request, "succeeded").await, 404);
}
