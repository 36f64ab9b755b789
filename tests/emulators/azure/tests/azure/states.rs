//! The life of a group as ARM shows it.

use emulator_azure::{ContainerStatus, GroupState, Limits, ProvisioningState, Script};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{DEADLINE, GROUPS, get, group, options, put, send, start};

async fn state(azure: &emulator_azure::AzureHandle, name: &str, state: GroupState) {
    azure
        .wait_for(&format!("{name} {state:?}"), DEADLINE, |groups| {
            groups.iter().any(|group| group.name == name && group.state == state)
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_group_goes_from_pending_to_succeeded() {
    let azure = start(emulator_azure::Options { time_scale: 0.02, ..options() }).await;
    let created = put(&azure, "g", group("ok:1")).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.body["properties"]["provisioningState"], "Pending");
    assert!(created.header("azure-asyncoperation").contains("/operations/"), "{created:?}");
    let pending = get(&azure, "g").await.body;
    assert_eq!(pending["properties"]["instanceView"]["state"], "Pending");
    let container = &pending["properties"]["containers"][0]["properties"];
    assert_eq!(container["instanceView"]["currentState"]["state"], "Waiting");
    assert_eq!(container["instanceView"]["currentState"]["startTime"], Value::Null);
    assert_eq!(container["ports"], json!([]));

    state(&azure, "g", GroupState::Succeeded).await;
    let ended = get(&azure, "g").await.body;
    assert_eq!(ended["properties"]["provisioningState"], "Succeeded");
    assert_eq!(ended["tags"]["UID"], "uid-1");
    let view = &ended["properties"]["containers"][0]["properties"]["instanceView"];
    assert_eq!(view["restartCount"], 0);
    assert_eq!(view["currentState"]["state"], "Terminated");
    assert_eq!(view["currentState"]["exitCode"], 0);
    assert_eq!(view["currentState"]["detailStatus"], "Completed");
    let names: Vec<_> =
        view["events"].as_array().unwrap().iter().map(|event| event["name"].clone()).collect();
    assert_eq!(names, ["Pulling", "Pulled", "Created", "Started"]);
    assert!(view["events"][0]["firstTimestamp"].is_string());
}

#[tokio::test]
async fn a_non_zero_exit_makes_the_group_failed() {
    let azure = start(options()).await;
    put(&azure, "g", group("fails:1")).await;
    state(&azure, "g", GroupState::Failed).await;
    let ended = get(&azure, "g").await.body;
    assert_eq!(ended["properties"]["provisioningState"], "Succeeded");
    let current = &ended["properties"]["containers"][0]["properties"]["instanceView"]["currentState"];
    assert_eq!((&current["exitCode"], &current["detailStatus"]), (&json!(3), &json!("Error")));
}

#[tokio::test]
async fn restart_policies_are_honoured() {
    let azure = start(options()).await;
    for (name, policy, image) in [("always", "Always", "ok:1"), ("on-failure", "OnFailure", "fails:1")] {
        let mut body = group(image);
        body["properties"]["restartPolicy"] = json!(policy);
        put(&azure, name, body).await;
        azure
            .wait_for("a second restart", DEADLINE, |groups| {
                groups.iter().any(|group| group.name == name && group.containers[0].restart_count >= 2)
            })
            .await
            .unwrap();
        let shown = get(&azure, name).await.body;
        let view = &shown["properties"]["containers"][0]["properties"]["instanceView"];
        assert_eq!(view["previousState"]["state"], "Terminated");
    }
    let mut body = group("ok:1");
    body["properties"]["restartPolicy"] = json!("OnFailure");
    put(&azure, "ends", body).await;
    state(&azure, "ends", GroupState::Succeeded).await;
}

#[tokio::test]
async fn never_can_be_ignored_once_as_azure_may() {
    let azure = start(options()).await;
    azure.script(Script::IgnoreNever { group: "g".to_owned(), count: 1 });
    put(&azure, "g", group("fails:1")).await;
    state(&azure, "g", GroupState::Failed).await;
    assert_eq!(azure.group("g").unwrap().containers[0].restart_count, 1);
}

#[tokio::test]
async fn running_containers_can_be_restarted() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    state(&azure, "g", GroupState::Running).await;
    let first = azure.group("g").unwrap().containers[0].pid.unwrap();
    azure.script(Script::RestartContainers { group: "g".to_owned() });
    let groups = azure
        .wait_for("the restarted container", DEADLINE, |groups| {
            groups[0].containers[0].restart_count == 1 && groups[0].containers[0].pid.is_some()
        })
        .await
        .unwrap();
    assert_ne!(groups[0].containers[0].pid, Some(first));
    assert_eq!(groups[0].state, GroupState::Running);
}

#[tokio::test]
async fn stop_deallocates_and_start_begins_anew() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    state(&azure, "g", GroupState::Running).await;
    let stopped = send(&azure, Method::POST, &format!("{GROUPS}/g/stop"), None).await;
    assert_eq!(stopped.status, StatusCode::NO_CONTENT);
    state(&azure, "g", GroupState::Stopped).await;
    assert_eq!(azure.group("g").unwrap().containers[0].status, ContainerStatus::Terminated);
    let row = &azure.meter()[0];
    assert!(row.stopped_at.is_some());
    let started = send(&azure, Method::POST, &format!("{GROUPS}/g/start"), None).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    state(&azure, "g", GroupState::Running).await;
    assert_eq!(azure.meter()[0].stopped_at, None);
    let restarted = send(&azure, Method::POST, &format!("{GROUPS}/g/restart"), None).await;
    assert_eq!(restarted.status, StatusCode::NO_CONTENT);
    state(&azure, "g", GroupState::Running).await;
}

#[tokio::test]
async fn provisioning_can_fail_or_never_end() {
    let azure = start(options()).await;
    azure.fail_next_provisioning("ServiceUnavailable");
    let created = put(&azure, "fails", group("ok:1")).await;
    state(&azure, "fails", GroupState::Failed).await;
    assert_eq!(azure.group("fails").unwrap().provisioning_state, ProvisioningState::Failed);
    let operation = send(&azure, Method::GET, created.header("azure-asyncoperation"), None).await;
    assert_eq!(operation.body["status"], "Failed");
    assert_eq!(operation.body["error"]["code"], "ServiceUnavailable");
    assert_eq!(azure.meter()[0].billed_seconds, 0);

    azure.never_provision_next();
    put(&azure, "never", group("ok:1")).await;
    put(&azure, "after", group("ok:1")).await;
    state(&azure, "after", GroupState::Succeeded).await;
    assert_eq!(azure.group("never").unwrap().provisioning_state, ProvisioningState::Pending);
}

#[tokio::test]
async fn a_503_may_leave_a_running_group() {
    let azure = start(options()).await;
    azure.script(Script::AnswerPutWith503 { group: "*".to_owned(), count: 1 });
    assert_eq!(put(&azure, "g", group("ok:1")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    state(&azure, "g", GroupState::Succeeded).await;
}

#[tokio::test]
async fn a_group_can_vanish_while_running() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    state(&azure, "g", GroupState::Running).await;
    let pid = azure.group("g").unwrap().containers[0].pid.unwrap();
    azure.vanish("g");
    assert_eq!(get(&azure, "g").await.status, StatusCode::NOT_FOUND);
    crate::support::gone(pid).await;
    let history = azure.history();
    assert!(history[0].deleted_at.is_some());
    assert!(azure.meter()[0].stopped_at.is_some());
}

#[tokio::test]
async fn an_image_may_only_turn_out_inaccessible_at_the_pull() {
    let azure = start(options()).await;
    azure.script(Script::MakeUnpullable { image: "private/*".to_owned(), at_pull: true });
    put(&azure, "g", group("private/agent:1")).await;
    state(&azure, "g", GroupState::Failed).await;
    let shown = get(&azure, "g").await.body;
    assert_eq!(shown["properties"]["provisioningState"], "Failed");
    let view = &shown["properties"]["containers"][0]["properties"]["instanceView"];
    assert_eq!(view["events"][1]["name"], "Failed");
}

#[tokio::test]
async fn an_equal_put_changes_nothing_and_a_different_one_runs_anew() {
    let azure = start(options()).await;
    put(&azure, "g", group("ok:1")).await;
    state(&azure, "g", GroupState::Succeeded).await;
    let again = put(&azure, "g", group("ok:1")).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.body["properties"]["instanceView"]["state"], "Succeeded");
    let changed = put(&azure, "g", group("fails:1")).await;
    assert_eq!(changed.status, StatusCode::OK);
    state(&azure, "g", GroupState::Failed).await;
    let mut bigger = group("fails:1");
    bigger["properties"]["containers"][0]["properties"]["resources"]["requests"]["cpu"] = json!(3);
    assert_eq!(put(&azure, "g", bigger).await.code(), "InvalidContainerGroupUpdate");
}

#[tokio::test]
async fn init_containers_run_first_and_gate_the_rest() {
    let azure = start(options()).await;
    let with_init = |image: &str| {
        let mut body = group("ok:1");
        body["properties"]["initContainers"] = json!([{ "name": "init", "properties": { "image": image } }]);
        body
    };
    put(&azure, "good", with_init("ok:1")).await;
    put(&azure, "bad", with_init("fails:1")).await;
    state(&azure, "good", GroupState::Succeeded).await;
    state(&azure, "bad", GroupState::Failed).await;
    assert_eq!(azure.group("bad").unwrap().containers[0].status, ContainerStatus::Waiting);
}

#[tokio::test]
async fn secrets_do_not_come_back() {
    let azure = start(options()).await;
    let mut body = group("sleeps:1");
    let properties = &mut body["properties"];
    properties["volumes"] = json!([{ "name": "stint", "secret": { "jitconfig": "c2VjcmV0" } }]);
    properties["imageRegistryCredentials"] =
        json!([{ "server": "s", "username": "u", "password": "hidden" }]);
    properties["containers"][0]["properties"]["environmentVariables"] =
        json!([{ "name": "A", "value": "plain" }, { "name": "B", "secureValue": "hidden" }]);
    put(&azure, "g", body).await;
    let text = get(&azure, "g").await.body.to_string();
    assert!(!text.contains("hidden") && !text.contains("c2VjcmV0"), "{text}");
    assert!(text.contains("plain"));
}

#[tokio::test]
async fn patch_replaces_tags() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    let body = json!({ "tags": { "a": "b" } });
    let patched = send(&azure, Method::PATCH, &format!("{GROUPS}/g"), Some(body)).await;
    assert_eq!((patched.status, &patched.body["tags"]), (StatusCode::OK, &json!({ "a": "b" })));
}

#[tokio::test]
async fn usages_show_groups_and_cores() {
    let azure = start(options()).await;
    azure.set_quota(Limits { cores: 10, ..Limits::default() });
    azure.set_usage_by_others("westeurope", 7, 3);
    put(&azure, "g", group("sleeps:1")).await;
    let path = "/subscriptions/sub/providers/Microsoft.ContainerInstance/locations/westeurope/usages";
    let usages = send(&azure, Method::GET, path, None).await.body;
    assert_eq!(usages["value"][0]["name"]["value"], "ContainerGroups");
    assert_eq!((&usages["value"][0]["currentValue"], &usages["value"][0]["limit"]), (&json!(8), &json!(100)));
    assert_eq!((&usages["value"][1]["currentValue"], &usages["value"][1]["limit"]), (&json!(5), &json!(10)));
}
