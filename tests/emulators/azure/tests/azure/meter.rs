//! The meter bills from what ARM shows.

use emulator_azure::GroupState;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::support::{DEADLINE, delete, get, group, options, put, start};

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn billed_is_from_the_first_pull_to_the_last_finish_that_arm_shows() {
    let azure = start(options()).await;
    put(&azure, "g", group("ok:1")).await;
    azure.wait_for("ended", DEADLINE, |groups| groups[0].state == GroupState::Succeeded).await.unwrap();
    let shown = get(&azure, "g").await.body;
    let view = &shown["properties"]["containers"][0]["properties"]["instanceView"];
    let (start, end) =
        (time(&view["events"][0]["firstTimestamp"]), time(&view["currentState"]["finishTime"]));
    let row = azure.meter().remove(0);
    assert_eq!((row.started_at, row.stopped_at), (Some(start), Some(end)));
    let seconds = (end.duration_since(start).as_millis() + 999) / 1000;
    assert_eq!(i128::from(row.billed_seconds), seconds);
    assert_eq!((row.vcpu, row.memory_gb.to_string().as_str()), (Decimal::from(2), "2.1"));
    let per_hour: Decimal = "0.090345".parse().unwrap(); // 2 x 0.0405 + 2.1 x 0.00445
    assert_eq!(row.cost, per_hour * Decimal::from(row.billed_seconds) / Decimal::from(3600));
    assert_eq!(row.uid.as_deref(), Some("uid-1"));

    // Deleting an ended group neither adds time nor loses the row; a new one of that name has its own.
    delete(&azure, "g").await;
    azure.wait_for("gone", DEADLINE, <[_]>::is_empty).await.unwrap();
    assert_eq!(azure.meter(), vec![row]);
    put(&azure, "g", group("ok:1")).await;
    assert_eq!(azure.meter().len(), 2);
}

#[tokio::test]
async fn an_open_group_is_billed_up_to_now() {
    let azure = start(options()).await;
    put(&azure, "g", group("sleeps:1")).await;
    azure.wait_for("running", DEADLINE, |groups| groups[0].state == GroupState::Running).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let row = azure.meter().remove(0);
    assert_eq!(row.stopped_at, None);
    assert!(row.billed_seconds >= 1, "{row:?}");
}

#[tokio::test]
async fn every_container_of_a_group_keeps_the_meter_on() {
    let azure = start(options()).await;
    let mut body = group("ok:1");
    let mut second = body["properties"]["containers"][0].clone();
    second["name"] = "second".into();
    second["properties"]["image"] = "sleeps:1".into();
    body["properties"]["containers"].as_array_mut().unwrap().push(second);
    put(&azure, "g", body).await;
    azure
        .wait_for("the first to end", DEADLINE, |groups| groups[0].containers[0].exit_code.is_some())
        .await
        .unwrap();
    assert_eq!(azure.group("g").unwrap().state, GroupState::Running);
    let row = azure.meter().remove(0);
    assert_eq!((row.stopped_at, row.vcpu), (None, Decimal::from(3)));
}
