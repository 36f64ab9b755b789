//! kill -9 of the controller at each phase of a runner's life; what is left of one life is taken up by the next.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions};
use emulator_common::Fault;
use emulator_github::Conclusion;
use serde_json::Value;

/// Kills `stint` once `reached` answers, starts it again, lets the job end, and checks that nothing was doubled or left.
async fn killed_when(mut bed: Bed, what: &str, reached: impl Fn(&Bed) -> Result<bool>) -> Result<()> {
    let id = bed.github.queue_job(bed.job())?;
    bed.eventually(what, Duration::from_secs(60), |bed| {
        Ok(if reached(bed)? { Ok(()) } else { Err(format!("{:?}", bed.leftovers()?)) })
    })
    .await?;
    bed.stint.kill()?;
    bed.azure.faults().clear();
    bed.github.faults().clear();
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(40)).await?;
    let running =
        bed.github.wait_for_job(id, |job| job.started_at.is_some(), Duration::from_secs(120)).await?;
    assert_eq!(running.assignments, 1, "after {what}");
    let live = bed.azure.groups().into_iter().filter(|group| group.stopped_at.is_none()).count();
    assert!(live <= 1, "one runner for the one job after {what}");
    bed.github.finish_job(id, Conclusion::Success)?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(30)).await?;
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_registers_the_runner() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    // GitHub has registered the runner, and the answer never comes.
    let slow = Fault::on("POST", "/orgs/*/actions/runners/generate-jitconfig")
        .times(1)
        .delay(Duration::from_secs(20));
    bed.github.faults().add(slow);
    killed_when(bed, "the call to register", |bed| {
        Ok(bed.github.journal().entries().iter().any(|entry| entry.path.ends_with("generate-jitconfig")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_secret_is_stored() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    killed_when(bed, "the Secret", |bed| Ok(bed.leftovers()?.contains_key("secrets"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_pod_is_created() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    killed_when(bed, "the pod", |bed| Ok(bed.leftovers()?.contains_key("pods"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_job_runs() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    killed_when(bed, "the job to run", |bed| {
        Ok(bed.github.jobs().first().is_some_and(|job| job.started_at.is_some()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_tears_down() -> Result<()> {
    let mut bed = Bed::start(BedOptions::default()).await?;
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    // The group goes, and Azure does not say so yet.
    let held = Fault::on("DELETE", "/subscriptions/*").delay(Duration::from_secs(15));
    bed.azure.faults().add(held);
    bed.eventually("the deletion", Duration::from_secs(60), |bed| {
        let asked = bed.azure.journal().entries().iter().any(|entry| entry.method == "DELETE");
        let under_way = bed.objects("pods")?.is_empty() && bed.github.job(id)?.completed_at.is_some();
        Ok(if asked || under_way { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await?;
    bed.stint.kill()?;
    bed.azure.faults().clear();
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(40)).await?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(30)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 1);
    Ok(())
}

/// Kills `stint` once a runner's record says `reached`, mends what `hold` held up, and checks that nothing was doubled or
/// left.
async fn killed_in_teardown(
    hold: impl Fn(&Bed),
    reached: impl Fn(&Value) -> bool,
    mend: impl Fn(&Bed),
) -> Result<()> {
    let mut bed = Bed::start(BedOptions::default()).await?;
    hold(&bed);
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    bed.eventually("the runner to be so far", Duration::from_secs(60), |bed| {
        let runners = bed.objects("runners")?;
        let status = runners.first().and_then(|runner| runner.get("status")).cloned().unwrap_or_default();
        Ok(if reached(&status) { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
    bed.stint.kill()?;
    mend(&bed);
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(40)).await?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(30)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_azure_has_not_yet_deleted_the_group() -> Result<()> {
    killed_in_teardown(
        |bed| bed.azure.hold_delete("*", false),
        |status| status.get("deletingAt").is_some() && status.get("goneAt").is_none(),
        |bed| bed.azure.release_delete("*"),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_bill_is_written_and_the_registration_is_not_deleted() -> Result<()> {
    killed_in_teardown(
        |bed| {
            bed.github.faults().add(Fault::on("DELETE", "/orgs/*/actions/runners/*").fail(503));
        },
        |status| status.get("billedAt").is_some() && status.get("deregisteredAt").is_none(),
        |bed| bed.github.faults().clear(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_order_and_the_next_one_takes_over_at_once() -> Result<()> {
    let mut bed = Bed::start(BedOptions::default()).await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    let status = bed.stint.terminate(Duration::from_secs(30)).await?;
    assert!(status.success(), "{status}");
    let lease = bed.cluster.kubectl(&[
        "get",
        "lease",
        "-n",
        e2e::NAMESPACE,
        "-o",
        "jsonpath={.items[*].spec.holderIdentity}",
    ])?;
    assert_eq!(lease.trim(), "", "the Lease is given back");
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(10)).await?;
    bed.github.finish_job(id, Conclusion::Success)?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    bed.ledger_equals_meter().await?;
    Ok(())
}
