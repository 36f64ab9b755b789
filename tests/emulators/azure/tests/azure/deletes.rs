//! DELETE and what can become of it.

use emulator_azure::{DeleteAnswer, GroupState, Options, ProvisioningState, Script};
use reqwest::{Method, StatusCode};

use crate::support::{DEADLINE, delete, get, gone, group, options, put, send, start};

async fn running(azure: &emulator_azure::AzureHandle) -> u32 {
    let groups = azure
        .wait_for("running", DEADLINE, |groups| groups.iter().any(|group| group.state == GroupState::Running))
        .await
        .unwrap();
    groups[0].containers[0].pid.unwrap()
}

#[tokio::test]
async fn an_absent_group_answers_204() {
    let azure = start(options()).await;
    assert_eq!(delete(&azure, "absent").await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_202_can_be_followed_to_its_end() {
    let azure = start(Options { time_scale: 0.03, ..options() }).await;
    put(&azure, "g", group("sleeps:1")).await;
    let pid = running(&azure).await;
    let accepted = delete(&azure, "g").await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert!(!accepted.header("retry-after").is_empty());
    assert_eq!(get(&azure, "g").await.body["properties"]["provisioningState"], "Deleting");
    let (operation, location) = (accepted.header("azure-asyncoperation"), accepted.header("location"));
    assert_eq!(send(&azure, Method::GET, operation, None).await.body["status"], "InProgress");
    assert_eq!(send(&azure, Method::GET, location, None).await.status, StatusCode::ACCEPTED);
    // A second DELETE joins the first.
    assert_eq!(delete(&azure, "g").await.header("azure-asyncoperation"), operation);
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
    assert_eq!(get(&azure, "g").await.status, StatusCode::NOT_FOUND);
    assert_eq!(send(&azure, Method::GET, operation, None).await.body["status"], "Succeeded");
    assert_eq!(send(&azure, Method::GET, location, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete(&azure, "g").await.status, StatusCode::NO_CONTENT);
    gone(pid).await;
}

#[tokio::test]
async fn a_200_carries_the_group() {
    let azure = start(Options { delete_answer: DeleteAnswer::Ok, ..options() }).await;
    put(&azure, "g", group("ok:1")).await;
    let deleted = delete(&azure, "g").await;
    assert_eq!(deleted.status, StatusCode::OK);
    assert_eq!(deleted.body["name"], "g");
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed() {
    let azure = start(options()).await;
    put(&azure, "g", group("stubborn:1")).await;
    let pid = running(&azure).await;
    delete(&azure, "g").await;
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
    gone(pid).await;
}

#[tokio::test]
async fn a_held_delete_stays_deleting_until_released() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    let pid = running(&azure).await;
    azure.hold_delete("g", true);
    delete(&azure, "g").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let held = azure.group("g").unwrap();
    assert_eq!(held.provisioning_state, ProvisioningState::Deleting);
    assert_eq!(held.containers[0].pid, Some(pid));
    assert_eq!(azure.meter()[0].stopped_at, None);
    azure.release_delete("g");
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
    assert!(azure.meter()[0].stopped_at.is_some());
}

#[tokio::test]
async fn a_lost_delete_changes_nothing() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    azure.script(Script::LoseDelete { group: "g".to_owned(), count: 1 });
    assert_eq!(delete(&azure, "g").await.status, StatusCode::OK);
    running(&azure).await;
    assert_eq!(delete(&azure, "g").await.status, StatusCode::ACCEPTED);
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
}

#[tokio::test]
async fn deleting_before_the_pull_costs_nothing() {
    let azure = start(Options { time_scale: 1.0, ..options() }).await;
    azure.set_timings(emulator_azure::Timings { delete: std::time::Duration::ZERO, ..Default::default() });
    put(&azure, "g", group("ok:1")).await;
    delete(&azure, "g").await;
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
    let row = &azure.meter()[0];
    assert_eq!((row.started_at, row.billed_seconds), (None, 0));
}
