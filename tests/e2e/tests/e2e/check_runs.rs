//! What people see at a commit who see nothing of the cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Bed, BedOptions};
use emulator_github::{CheckRunView, Conclusion, JobSpec};
use serde_json::json;

/// One runner at most, and a check-run for whoever waits a second for it.
fn one_at_a_time() -> BedOptions {
    BedOptions {
        class: json!({"resources": {"cpu": "1500m", "memory": "2Gi"}, "maxRunners": 1}),
        source: json!({"report": {"after": "1s"}}),
        ..BedOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_may_not_write_check_runs_is_told_so_once_and_runs_jobs_all_the_same() -> Result<()> {
    let mut options = one_at_a_time();
    options.github.permissions.remove("checks");
    let bed = Bed::start(options).await?;
    let first = bed.github.queue_job(bed.job())?;
    bed.job_stands(first, "Running", Duration::from_secs(60)).await?;
    let others = (0..3).map(|_| bed.github.queue_job(bed.job())).collect::<Result<Vec<_>>>()?;
    let said = |bed: &Bed| bed.stint.log().matches("commits do not show why their jobs wait").count();
    bed.eventually("the missing permission to be named", Duration::from_secs(30), |bed| {
        let named = bed.stint.log().contains("Checks: write") && said(bed) > 0;
        Ok(if named { Ok(()) } else { Err("not named".to_owned()) })
    })
    .await?;
    for id in [first].into_iter().chain(others) {
        bed.job_stands(id, "Running", Duration::from_secs(60)).await?;
        bed.github.finish_job(id, Conclusion::Success)?;
        bed.job_stands(id, "Ended", Duration::from_secs(60)).await?;
    }
    bed.nothing_left(Duration::from_secs(60)).await?;
    assert_eq!(said(&bed), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_shows_why_its_job_waits_and_at_the_end_what_it_cost() -> Result<()> {
    let mut bed = Bed::start(one_at_a_time()).await?;
    let first = bed.github.queue_job(bed.job())?;
    bed.job_stands(first, "Running", Duration::from_secs(60)).await?;
    let second = bed.github.queue_job(JobSpec::new("acme/app", &["stint"]))?;
    let sha = bed.github.head_sha(second)?;
    let of_second = |bed: &Bed| -> Result<Option<CheckRunView>> {
        let mut all: Vec<_> = bed.github.check_runs().into_iter().filter(|run| run.head_sha == sha).collect();
        ensure!(all.len() < 2, "one job has several check-runs: {all:#?}");
        Ok(all.pop())
    };
    let waiting = bed
        .eventually("the check-run of the job that waits", Duration::from_secs(30), |bed| {
            of_second(bed).map(|run| run.ok_or_else(|| "none".to_owned()))
        })
        .await?;
    assert_eq!((waiting.status.as_str(), waiting.conclusion.as_deref()), ("queued", None));
    assert_eq!(waiting.name, "stint: CI / build");
    let (title, summary) = (waiting.title.unwrap_or_default(), waiting.summary.unwrap_or_default());
    assert_eq!(title, "Waits for a runner: number 1 of 1 in line");
    assert!(summary.contains("1 of 1 runners of class stint are in use"), "{summary}");
    assert!(summary.contains("docs/errors/ClassFull.md"), "{summary}");

    // Whoever acts next goes on with the same one.
    bed.stint.kill()?;
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(30)).await?;
    bed.github.finish_job(first, Conclusion::Success)?;
    bed.job_stands(second, "Running", Duration::from_secs(60)).await?;
    bed.github.finish_job(second, Conclusion::Failure)?;
    let ended = bed
        .eventually("the check-run to be completed", Duration::from_secs(90), |bed| {
            Ok(match of_second(bed)? {
                Some(run) if run.status == "completed" => Ok(run),
                other => Err(format!("{other:?}")),
            })
        })
        .await?;
    assert_eq!((ended.id, ended.conclusion.as_deref()), (waiting.id, Some("neutral")));
    bed.nothing_left(Duration::from_secs(60)).await?;
    let rows = bed.ledger_equals_meter().await?;
    let row = rows.iter().find(|row| row.conclusion.as_deref() == Some("failure"));
    let cost = row.map(|row| format!("{} {}, for {} s", row.amount.normalize(), row.currency, row.seconds));
    let summary = ended.summary.unwrap_or_default();
    assert!(cost.as_ref().is_some_and(|cost| summary.contains(cost)), "{cost:?} is not in {summary}");
    assert!(bed.github.check_runs().iter().all(|run| run.head_sha == sha), "the first never waited");
    Ok(())
}
