//! Standing quotas, rates of creates and deletes, and ARM's own buckets.

use emulator_azure::{GroupState, Limits, Options};
use emulator_common::Clock;
use jiff::SignedDuration;
use reqwest::StatusCode;

use crate::support::{DEADLINE, delete, get, group, options, put, start};

fn with(limits: Limits) -> (Options, Clock) {
    let options = Options { limits, ..options() };
    let clock = options.clock.clone();
    (options, clock)
}

#[tokio::test]
async fn ended_groups_count_against_the_quota_of_groups_but_hold_no_cores() {
    let (options, _) = with(Limits { groups: 2, cores: 2, ..Limits::default() });
    let azure = start(options).await;
    assert_eq!(put(&azure, "a", group("ok:1")).await.status, StatusCode::CREATED);
    let refused = put(&azure, "b", group("ok:1")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "ContainerGroupQuotaReached"));
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("StandardCores"));
    azure.wait_for("ended", DEADLINE, |groups| groups[0].state == GroupState::Succeeded).await.unwrap();
    assert_eq!(put(&azure, "b", group("ok:1")).await.status, StatusCode::CREATED);
    azure
        .wait_for("ended", DEADLINE, |groups| groups.iter().all(|group| group.state == GroupState::Succeeded))
        .await
        .unwrap();
    let refused = put(&azure, "c", group("ok:1")).await;
    assert_eq!(refused.code(), "ContainerGroupQuotaReached");
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("ContainerGroups"));
}

#[tokio::test]
async fn others_use_up_the_quota_too() {
    let azure = start(options()).await;
    azure.set_usage_by_others("westeurope", 100, 0);
    assert_eq!(put(&azure, "a", group("ok:1")).await.code(), "ContainerGroupQuotaReached");
    azure.set_usage_by_others("westeurope", 0, 99);
    assert_eq!(put(&azure, "a", group("ok:1")).await.code(), "ContainerGroupQuotaReached");
    azure.set_usage_by_others("westeurope", 99, 98);
    assert_eq!(put(&azure, "a", group("ok:1")).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn creates_are_limited_per_5_minutes_and_per_hour() {
    let (options, clock) = with(Limits { creates_per_5_min: 2, creates_per_hour: 3, ..Limits::default() });
    let azure = start(options).await;
    for name in ["a", "b"] {
        assert_eq!(put(&azure, name, group("ok:1")).await.status, StatusCode::CREATED);
    }
    let refused = put(&azure, "c", group("ok:1")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"));
    let wait: i64 = refused.header("retry-after").parse().unwrap();
    assert!((290..=300).contains(&wait), "{wait}");
    clock.advance(SignedDuration::from_secs(wait));
    assert_eq!(put(&azure, "c", group("ok:1")).await.status, StatusCode::CREATED);
    let refused = put(&azure, "d", group("ok:1")).await;
    assert!(refused.header("retry-after").parse::<i64>().unwrap() > 3000, "{refused:?}");
}

#[tokio::test]
async fn windows_can_be_shortened() {
    let (options, _) = with(Limits { creates_per_5_min: 1, ..Limits::default() });
    let azure = start(Options { quota_scale: 0.001, ..options }).await;
    assert_eq!(put(&azure, "a", group("ok:1")).await.status, StatusCode::CREATED);
    assert_eq!(put(&azure, "b", group("ok:1")).await.status, StatusCode::TOO_MANY_REQUESTS);
    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
    assert_eq!(put(&azure, "b", group("ok:1")).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn deletes_are_limited_and_absent_groups_are_free() {
    let (options, _) = with(Limits { deletes_per_5_min: 1, ..Limits::default() });
    let azure = start(options).await;
    for name in ["a", "b"] {
        put(&azure, name, group("ok:1")).await;
    }
    assert_eq!(delete(&azure, "absent").await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete(&azure, "a").await.status, StatusCode::ACCEPTED);
    let refused = delete(&azure, "b").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(!refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn arm_limits_each_caller() {
    let (options, clock) = with(Limits { reads: 2, reads_per_second: 1, writes: 1, ..Limits::default() });
    let azure = start(options).await;
    assert_eq!(get(&azure, "g").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&azure, "g").await.status, StatusCode::NOT_FOUND);
    let refused = get(&azure, "g").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    clock.advance(SignedDuration::from_secs(1));
    assert_eq!(get(&azure, "g").await.status, StatusCode::NOT_FOUND);
    let created = put(&azure, "g", group("ok:1")).await;
    assert_eq!(created.header("x-ms-ratelimit-remaining-subscription-writes"), "0");
}
