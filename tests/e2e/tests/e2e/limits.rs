//! Limits that admins set while jobs run.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_github::Conclusion;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_all_but_protected_branches_holds_a_forks_main_back_and_not_the_real_one() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    bed.github.set_branch("acme/app", "main", true)?;
    let paused = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ConcurrencyLimit",
        "metadata": {"name": "proposals", "namespace": NAMESPACE},
        "spec": {"match": {"protectedBranch": false}, "paused": true},
    });
    bed.cluster.apply(&paused.to_string())?;
    bed.eventually("the limit to be in use", Duration::from_secs(20), |bed| {
        let limits = bed.objects("concurrencylimits")?;
        let ready = limits.iter().any(|limit| limit.pointer("/status/ready") == Some(&json!("True")));
        Ok(if ready { Ok(()) } else { Err(format!("{limits:?}")) })
    })
    .await?;
    // GitHub would hand the runner of the one to the other, which is older.
    bed.github.hold_assignment(true);
    let forks = bed.github.queue_job(bed.job().from_fork("mallory/app"))?;
    let real = bed.github.queue_job(bed.job())?;
    let waiting = bed.job_stands(forks, "Waiting", Duration::from_secs(60)).await?;
    bed.eventually("both to be known", Duration::from_secs(60), |bed| {
        let of =
            |id| bed.job_status(id).map(|status| status.and_then(|one| one.get("protectedBranch").cloned()));
        let both = (of(forks)?, of(real)?);
        Ok(if both == (Some(json!(false)), Some(json!(true))) { Ok(()) } else { Err(format!("{both:?}")) })
    })
    .await?;
    let why = |status: &Value| status.get("reason").and_then(Value::as_str).map(str::to_owned);
    assert!(matches!(why(&waiting).as_deref(), Some("ReadingBranch" | "LimitPaused")), "{waiting:?}");
    let started_for = bed
        .eventually("a runner", Duration::from_secs(60), |bed| {
            let rows = bed.objects("runners")?;
            let jobs: Vec<_> = rows.iter().filter_map(|one| one.pointer("/spec/jobId").cloned()).collect();
            Ok(if jobs.is_empty() { Err("none".to_owned()) } else { Ok(jobs) })
        })
        .await?;
    assert_eq!(started_for, [json!(real.to_string())]);
    Ok(())
}

fn limit(runners: u32) -> String {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ConcurrencyLimit",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {"match": {"repositories": ["acme/app"]}, "max": {"runners": runners}},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_lowered_live_ends_nothing_and_raised_lets_the_next_job_start() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    bed.cluster.apply(&limit(2))?;
    bed.eventually("the limit to be in use", Duration::from_secs(20), |bed| {
        let ready = bed.cluster.kubectl(&[
            "get",
            "concurrencylimit",
            "app",
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.status.ready}",
        ])?;
        Ok(if ready == "True" { Ok(()) } else { Err(ready) })
    })
    .await?;
    let ids = (0..3).map(|_| bed.github.queue_job(bed.job())).collect::<Result<Vec<_>>>()?;
    let last = *ids.last().context("three jobs")?;
    // Which of the three waits is GitHub's choice as much as ours.
    let waiting = bed
        .eventually("two jobs to run and one to wait", Duration::from_secs(60), |bed| {
            let jobs = bed.objects("runnerjobs")?;
            let of = |state: &str| {
                let is = |job: &&Value| job.pointer("/status/state").and_then(Value::as_str) == Some(state);
                jobs.iter().filter(is).collect::<Vec<_>>()
            };
            Ok(match (of("Running").len(), of("Waiting").as_slice()) {
                (2, [one]) => Ok((*one).clone()),
                _ => Err(format!("{jobs:?}")),
            })
        })
        .await?;
    assert_eq!(waiting.pointer("/status/reason").and_then(Value::as_str), Some("LimitReached"));
    let name = waiting.pointer("/metadata/name").and_then(Value::as_str).context("a name")?;
    let why = bed.cli(&["why", name])?;
    assert!(why.contains("app") && why.contains("2 of"), "{why}");

    bed.cluster.apply(&limit(1))?;
    bed.eventually("the lower limit to be named", Duration::from_secs(20), |bed| {
        let why = bed.cli(&["why", name])?;
        Ok(if why.contains("of 1") || why.contains("of at most 1") { Ok(()) } else { Err(why) })
    })
    .await?;
    assert_eq!(bed.azure.groups().len(), 2, "what runs is let be");

    bed.cluster.apply(&limit(5))?;
    bed.eventually("the third job to run", Duration::from_secs(60), |bed| {
        let started =
            ids.iter().filter(|id| bed.github.job(**id).is_ok_and(|job| job.started_at.is_some())).count();
        Ok(if started == 3 { Ok(()) } else { Err(format!("{started} run; the last is {last}")) })
    })
    .await?;
    for id in ids {
        bed.github.finish_job(id, Conclusion::Success)?;
    }
    bed.nothing_left(Duration::from_secs(60)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 3);
    Ok(())
}
