//! Endings that are not the usual one.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_azure::ImageRule;
use emulator_github::JobStatus;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_by_hand_is_torn_down_and_billed() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    let pod = only_name(&bed, "pods")?;
    bed.cluster.kubectl(&["delete", "pod", &pod, "-n", NAMESPACE, "--wait=false"])?;
    bed.azure.wait_for("the group to go with its pod", Duration::from_secs(30), <[_]>::is_empty).await?;
    bed.github.wait_for_end(id, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(10)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_fails_to_provision_is_replaced_by_the_next_runner() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    bed.azure.fail_next_provisioning("InaccessibleImage");
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    bed.job_stands(id, "Ended", Duration::from_secs(150)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    let status = bed.job_stands(id, "Ended", Duration::from_secs(10)).await?;
    assert_eq!(status.get("runnersStarted"), Some(&json!(2)), "{status}");
    assert_eq!(status.get("failed"), Some(&json!(1)), "{status}");
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_without_capacity_costs_the_job_no_attempt() -> Result<()> {
    let class = json!({"resources": {"cpu": "1", "memory": "1Gi"}, "maxAttempts": 1});
    let bed = Bed::start(BedOptions { class, ..BedOptions::default() }).await?;
    bed.azure.fail_next_provisioning("ServiceUnavailable");
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    let status = bed.job_stands(id, "Ended", Duration::from_secs(150)).await?;
    assert_eq!(status.get("failed"), Some(&json!(0)), "{status}");
    bed.nothing_left(Duration::from_secs(60)).await?;
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_runners_all_fail_to_start_is_given_up_with_a_reason_and_its_logs() -> Result<()> {
    let options = BedOptions {
        azure: Box::new(|azure| {
            azure.images =
                vec![ImageRule::runs("broken:*", ["sh", "-c", "echo cannot find the agent; exit 1"])];
        }),
        class: json!({
            "resources": {"cpu": "1", "memory": "1Gi"}, "image": "broken:1", "maxAttempts": 1,
            "deadlines": {"online": "5s"},
        }),
        ..BedOptions::default()
    };
    let bed = Bed::start(options).await?;
    let id = bed.github.queue_job(bed.job())?;
    let status = bed.job_stands(id, "GivenUp", Duration::from_secs(60)).await?;
    assert_eq!(status.get("reason").and_then(Value::as_str), Some("AttemptsExhausted"));
    bed.nothing_left(Duration::from_secs(60)).await?;
    let job = bed.github.job(id)?;
    assert_eq!(job.status, JobStatus::Queued, "GitHub still has it queued; nothing was lost");

    let logs = bed.cli(&["logs", &format!("acme-{id}-1")])?;
    assert!(logs.contains("cannot find the agent"), "{logs}");
    assert_eq!(bed.cli(&["logs", &id.to_string()])?, logs, "the source's own id finds them too");
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_while_its_runner_starts_leaves_nothing() -> Result<()> {
    let options = BedOptions {
        // Slow enough that the cancellation comes before the agent.
        azure: Box::new(|azure| azure.time_scale = 0.3),
        ..BedOptions::default()
    };
    let bed = Bed::start(options).await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.azure.wait_for("a group", Duration::from_secs(30), |groups| groups.len() == 1).await?;
    bed.github.cancel_job(id)?;
    bed.job_stands(id, "Ended", Duration::from_secs(20)).await?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_a_record_is_reported_and_left_alone() -> Result<()> {
    let mut bed = Bed::prepare(BedOptions::default()).await?;
    let name = format!("{NAMESPACE}-{}-0123456789abcdef", e2e::INSTALLATION);
    let url = format!(
        "{}/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerInstance/containerGroups/{name}",
        bed.azure.url(),
        e2e::SUBSCRIPTION,
        e2e::RESOURCE_GROUP,
    );
    let body = json!({"location": "westeurope", "properties": {"osType": "Linux", "containers": [{
        "name": "runner", "properties": {"image": "stray", "command": ["sleep", "600"],
            "resources": {"requests": {"cpu": 1, "memoryInGB": 1}}},
    }]}});
    let answer = reqwest::Client::new()
        .put(format!("{url}?api-version=2023-05-01"))
        .bearer_auth("e2e")
        .json(&body)
        .send()
        .await?;
    assert_eq!(answer.status(), 201, "{}", answer.text().await?);
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(30)).await?;
    let log = bed
        .eventually("the report", Duration::from_secs(30), |bed| {
            let log = bed.stint.log();
            Ok(if log.contains("of which there is no record") {
                Ok(log)
            } else {
                Err("nothing yet".to_owned())
            })
        })
        .await?;
    assert!(log.contains("az container delete --ids"), "it says what to do: {log}");
    let metrics = reqwest::get(format!("{}/metrics", bed.stint.internal_url())).await?.text().await?;
    assert!(metrics.contains("stint_stray_groups 1"), "{metrics}");
    assert_eq!(bed.azure.groups().len(), 1, "what runs in it is not known, so it stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_record_was_lost_is_found_by_its_mark_and_followed_to_its_end() -> Result<()> {
    let mut bed = Bed::start(BedOptions::default()).await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(60)).await?;
    let runner = only_name(&bed, "runners.stint.dev")?;
    bed.stint.terminate(Duration::from_secs(30)).await?;
    let record = format!("runners.stint.dev/{runner}");
    let unbound = r#"{"metadata":{"finalizers":null}}"#;
    bed.cluster.kubectl(&["patch", &record, "-n", NAMESPACE, "--type=merge", "-p", unbound])?;
    bed.cluster.kubectl(&["delete", &record, "-n", NAMESPACE])?;

    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(30)).await?;
    bed.eventually("its record", Duration::from_secs(60), |bed| {
        let records = bed.objects("runners.stint.dev")?;
        let found = records.iter().any(|record| record.pointer("/spec/found/uid").is_some());
        Ok(if found { Ok(()) } else { Err(format!("{records:?}")) })
    })
    .await?;
    assert_eq!(bed.azure.groups().len(), 1, "it is busy and stays");
    bed.github.finish_job(id, emulator_github::Conclusion::Success)?;
    bed.github.wait_for_end(id, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(10)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 1);
    Ok(())
}

fn only_name(bed: &Bed, kind: &str) -> Result<String> {
    let objects = bed.objects(kind)?;
    let name = objects.first().and_then(|object| object.pointer("/metadata/name")).and_then(Value::as_str);
    Ok(name.context("no object")?.to_owned())
}
