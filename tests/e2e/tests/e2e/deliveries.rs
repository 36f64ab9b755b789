//! Deliveries as GitHub sends them on bad days, and those that ask for nothing Stint has.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions};
use emulator_github::{JobSpec, WebhookEffect, WebhookRule};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn duplicated_and_reordered_deliveries_start_one_runner_per_job() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    // Every delivery comes twice, and `queued` of the second job after its `in_progress` could.
    bed.github.add_webhook_rule(WebhookRule::on("*", WebhookEffect::Duplicate { after_ms: 200 }));
    let first = bed.github.queue_job(bed.job().named("first").lasting(Duration::from_secs(2)))?;
    bed.github.wait_for_end(first, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;

    bed.github.clear_webhook_rules();
    bed.github.add_webhook_rule(WebhookRule::on("in_progress", WebhookEffect::Delay { ms: 6_000 }));
    let second = bed.github.queue_job(bed.job().named("second").lasting(Duration::from_secs(2)))?;
    bed.github.wait_for_end(second, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    // The late in_progress has come by now, after completed.
    let told = |action: &str| {
        bed.github.deliveries().iter().filter(|delivery| delivery.action.as_deref() == Some(action)).count()
    };
    bed.eventually("the late delivery", Duration::from_secs(20), |_| {
        Ok(if told("in_progress") >= 3 { Ok(()) } else { Err(format!("{} deliveries", told("in_progress"))) })
    })
    .await?;
    bed.job_stands(second, "Ended", Duration::from_secs(10)).await?;
    bed.nothing_left(Duration::from_secs(10)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 2, "one runner for each of the two jobs");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_ask_for_no_class_start_nothing_and_say_why() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let cases: [(&str, &[&str], Option<&str>); 5] = [
        ("empty", &[], Some("NoClassNamed")),
        ("generic", &["self-hosted", "linux", "x64"], Some("NoClassNamed")),
        ("foreign class", &["self-hosted", "gpu-farm"], Some("NoClassNamed")),
        ("foreign label", &["self-hosted", "stint", "gpu"], Some("LabelNotCarried")),
        // GitHub's own runners serve it: nothing is stored.
        ("hosted", &["ubuntu-latest"], None),
    ];
    for (name, labels, reason) in cases {
        let id = bed.github.queue_job(JobSpec::new("acme/app", labels).named(name))?;
        match reason {
            Some(reason) => {
                let status = bed.job_stands(id, "Refused", Duration::from_secs(20)).await?;
                assert_eq!(status.get("reason").and_then(Value::as_str), Some(reason), "{name}");
                let why = bed.cli(&["why", &id.to_string()])?;
                assert!(
                    why.contains("is Refused since ") && why.contains(&format!("docs/errors/{reason}.md")),
                    "{why}"
                );
            }
            None => {
                bed.eventually("the delivery to be answered", Duration::from_secs(20), |bed| {
                    let answered = bed.github.deliveries().iter().any(|delivery| delivery.job == Some(id));
                    Ok(if answered { Ok(()) } else { Err("under way".to_owned()) })
                })
                .await?;
                assert_eq!(bed.job_status(id)?, None, "{name}");
            }
        }
    }
    let public = JobSpec::new("acme/site", &["self-hosted", "stint"]).of_public_repository();
    let id = bed.github.queue_job(public)?;
    let status = bed.job_stands(id, "Refused", Duration::from_secs(20)).await?;
    assert_eq!(status.get("reason").and_then(Value::as_str), Some("PublicRepository"));

    assert_eq!(bed.leftovers()?.len(), 0);
    assert!(bed.azure.history().is_empty(), "no group was ever made");
    assert_eq!(bed.github.journal().count("POST", "/orgs/*/actions/runners/generate-jitconfig"), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_with_the_secret_is_refused_and_stores_nothing() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let url = format!("{}/webhooks/acme", bed.stint.url());
    let body = "{\"action\":\"queued\"}";
    let client = reqwest::Client::new();
    let forged = client
        .post(&url)
        .header("X-GitHub-Event", "workflow_job")
        .header("X-Hub-Signature-256", format!("sha256={}", "0".repeat(64)))
        .body(body)
        .send()
        .await?;
    assert_eq!(forged.status(), 401);
    let unsigned = client.post(&url).header("X-GitHub-Event", "workflow_job").body(body).send().await?;
    assert_eq!(unsigned.status(), 401);
    assert!(bed.objects("runnerjobs")?.is_empty());
    Ok(())
}
