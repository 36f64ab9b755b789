//! Azure's quotas: kept, and shared with others.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions, NAMESPACE};
use serde_json::json;

/// How much shorter than Azure's the stretches are in which creates and deletes are counted; their numbers are Azure's.
const SHORTER: u32 = 15;
/// Jobs: as many groups as Azure lets a subscription make in an hour.
const JOBS: usize = 300;
const REGION: &str = "westeurope";

fn place(quota: &serde_json::Value) -> String {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "RunnerPlace",
        "metadata": {"name": "virtual", "namespace": NAMESPACE},
        "spec": {"virtualNode": {}, "quota": quota},
    })
    .to_string()
}

fn options() -> BedOptions {
    let flags = ["--max-runners", "500", "--azure-region", REGION];
    BedOptions {
        class: json!({"resources": {"cpu": "1", "memory": "1Gi"}, "maxRunners": 500}),
        arguments: flags.map(str::to_owned).to_vec(),
        ..BedOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_jobs_keep_azures_default_quota_without_one_refusal() -> Result<()> {
    let scale = 1.0 / f64::from(SHORTER);
    let shorten = move |azure: &mut emulator_azure::Options| {
        azure.quota_scale = scale;
        // What comes in a fifteenth of the time is as much: ARM's buckets of calls fill up as much quicker.
        azure.limits.reads_per_second *= SHORTER;
        azure.limits.writes_per_second *= SHORTER;
    };
    let mut bed = Bed::prepare(BedOptions { azure: Box::new(shorten), ..options() }).await?;
    let (short, long) = (format!("{}s", 300 / SHORTER), format!("{}s", 3600 / SHORTER));
    let changes = json!([{"count": 100, "per": short}, {"count": 300, "per": long}]);
    bed.cluster.apply(&place(&json!({ "changes": changes })))?;
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(30)).await?;

    let jobs = (0..JOBS).map(|number| {
        let name = format!("test ({number})");
        bed.github.queue_job(bed.job().named(&name).lasting(Duration::from_secs(1)))
    });
    let ids = jobs.collect::<Result<Vec<_>>>()?;
    bed.eventually("a job to wait for the quota", Duration::from_secs(60), |bed| {
        let jobs = bed.cli(&["jobs"])?;
        Ok(if jobs.contains("QuotaReached") { Ok(()) } else { Err(jobs) })
    })
    .await?;
    for id in &ids {
        let job = bed.github.wait_for_end(*id, Duration::from_secs(400)).await?;
        assert_eq!(job.conclusion.map(|conclusion| conclusion.word()), Some("success"));
    }
    bed.nothing_left(Duration::from_secs(120)).await?;

    let entries = bed.azure.journal().entries();
    let refused: Vec<_> = entries
        .iter()
        .filter(|entry| entry.status.is_some_and(|status| status == 429 || status == 409))
        .map(|entry| format!("{} {}: {:?}", entry.method, entry.path, entry.status))
        .collect();
    assert_eq!(refused, Vec::<String>::new(), "nothing was refused for want of quota");
    let made = entries.iter().filter(|entry| entry.method == "PUT" && entry.status == Some(201)).count();
    assert_eq!(made, JOBS, "one group for each job");
    assert_eq!(bed.ledger_equals_meter().await?.len(), JOBS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_use_of_a_region_is_not_used_again() -> Result<()> {
    let mut bed = Bed::prepare(options()).await?;
    bed.azure.set_usage_by_others(REGION, 99, 0);
    bed.cluster.apply(&place(&json!({})))?;
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(30)).await?;
    bed.eventually("Azure to be asked", Duration::from_secs(30), |bed| {
        let asked = bed.azure.journal().entries().iter().any(|entry| entry.path.contains("/usages"));
        Ok(if asked { Ok(()) } else { Err("no call of usages".to_owned()) })
    })
    .await?;

    let first = bed.github.queue_job(bed.job().named("first"))?;
    bed.github.wait_for_job(first, |job| job.started_at.is_some(), Duration::from_secs(60)).await?;
    let second = bed.github.queue_job(bed.job().named("second").lasting(Duration::from_secs(1)))?;
    bed.eventually("the second job to wait for the quota", Duration::from_secs(30), |bed| {
        let why = bed.cli(&["why", "second"])?;
        Ok(if why.contains("100 of 100 container groups in westeurope") { Ok(()) } else { Err(why) })
    })
    .await?;
    bed.github.finish_job(first, emulator_github::Conclusion::Success)?;
    bed.github.wait_for_end(second, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await
}
