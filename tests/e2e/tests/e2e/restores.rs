//! The cluster's store put back to an earlier state, as after a disaster, and what it held deleted under running jobs.
//!
//! What must hold: no busy job is ended, every job ends, and nothing is left within five minutes.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::interposer::{Call, Peer};
use e2e::{Bed, BedOptions};
use emulator_github::{Conclusion, JobId, JobStatus};

/// How long everything may take until nothing is left.
const CLEAN_WITHIN: Duration = Duration::from_secs(300);

/// Whether `stint` itself lives through it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stint {
    Lives,
    IsRestarted,
}

/// A bed in which one job has run already, so that a state of before holds everything but the next job.
async fn used_bed() -> Result<Bed> {
    let bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    let first = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    bed.job_stands(first, "Ended", Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    Ok(bed)
}

async fn restore(bed: &mut Bed, name: &str, stint: Stint) -> Result<()> {
    if stint == Stint::IsRestarted {
        bed.stint.kill()?;
    }
    tokio::task::block_in_place(|| bed.cluster.restore_store(name))?;
    if stint == Stint::IsRestarted {
        bed.stint.start()?;
    }
    bed.stint.ready(Duration::from_secs(60)).await
}

/// Waits until a job that is queued now has been run: `stint` sees and acts again.
async fn serves(bed: &Bed) -> Result<()> {
    let id = bed.github.queue_job(bed.job().named("after").lasting(Duration::from_secs(1)))?;
    let deadline = Duration::from_secs(90);
    let delivered = bed
        .eventually("the delivery", deadline, |bed| {
            let deliveries = bed.github.deliveries();
            let of_it: Vec<_> = deliveries.iter().filter(|delivery| delivery.job == Some(id)).collect();
            let taken = of_it.iter().any(|delivery| delivery.status_code < 300);
            // Whoever sees that a delivery failed has it sent again.
            if let Some(failed) = of_it.last().filter(|_| !taken) {
                bed.github.redeliver(failed.id)?;
            }
            Ok(if taken { Ok(()) } else { Err(format!("{of_it:?}")) })
        })
        .await;
    delivered?;
    bed.github.wait_for_end(id, deadline).await?;
    bed.job_stands(id, "Ended", deadline).await?;
    Ok(())
}

/// Nothing that `stint` asked for so far could have ended a job.
fn nothing_deleted(bed: &Bed, runner: &str) -> Result<()> {
    let calls = bed.interposer()?.calls();
    let harmful = |call: &&Call| {
        call.method == "DELETE"
            && call.path.contains(runner)
            && (call.peer != Peer::Kubernetes || call.path.contains("/pods/"))
    };
    let harmful: Vec<_> = calls.iter().filter(harmful).collect();
    ensure!(harmful.is_empty(), "{harmful:?}");
    Ok(())
}

fn runner_of(bed: &Bed, id: JobId) -> Result<String> {
    let job = bed.github.job(id)?;
    ensure!(job.status == JobStatus::InProgress, "{job:?}");
    Ok(job.runner_name.unwrap_or_default())
}

async fn restored_to_before_the_runner(stint: Stint) -> Result<()> {
    let mut bed = used_bed().await?;
    bed.cluster.save_store("before")?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    let runner = runner_of(&bed, id)?;
    bed.interposer()?.forget();
    restore(&mut bed, "before", stint).await?;
    serves(&bed).await?;
    nothing_deleted(&bed, &runner)?;
    assert_eq!(bed.github.job(id)?.status, JobStatus::InProgress, "it is not disturbed");
    bed.github.finish_job(id, Conclusion::Success)?;
    let job = bed.github.wait_for_end(id, Duration::from_secs(30)).await?;
    assert_eq!(job.conclusion, Some(Conclusion::Success));
    bed.nothing_left(CLEAN_WITHIN).await?;
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_to_before_the_runner_existed_its_job_goes_on_and_nothing_is_left() -> Result<()> {
    restored_to_before_the_runner(Stint::Lives).await
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_to_before_the_runner_existed_and_restarted_its_job_goes_on_and_nothing_is_left()
-> Result<()> {
    restored_to_before_the_runner(Stint::IsRestarted).await
}

async fn restored_to_when_it_ran(stint: Stint) -> Result<()> {
    let mut bed = used_bed().await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    bed.cluster.save_store("running")?;
    bed.github.finish_job(id, Conclusion::Success)?;
    bed.job_stands(id, "Ended", Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    restore(&mut bed, "running", stint).await?;
    // As Kubernetes' documentation asks for: a kubelet has seen the present, too, and shows nothing of the past.
    tokio::task::block_in_place(|| {
        bed.cluster.stop_virtual_node()?;
        bed.cluster.start_virtual_node()
    })?;
    assert!(!bed.objects("runners")?.is_empty(), "its record is there again");
    serves(&bed).await?;
    bed.nothing_left(CLEAN_WITHIN).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(90)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_to_when_a_runner_that_is_gone_still_ran_it_is_torn_down_again() -> Result<()> {
    restored_to_when_it_ran(Stint::Lives).await
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_to_when_a_runner_that_is_gone_still_ran_and_restarted_it_is_torn_down_again() -> Result<()>
{
    restored_to_when_it_ran(Stint::IsRestarted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_deleted_under_a_running_job_leaves_nothing_but_the_bill() -> Result<()> {
    let bed = used_bed().await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    let runner = runner_of(&bed, id)?;
    // Rights that outlive the namespace: those in it go with it, in no order, and without any Stint can finish nothing.
    let rights = ["create", "clusterrolebinding", "outlives", "--clusterrole=cluster-admin", "--user=stint"];
    bed.cluster.kubectl(&rights)?;
    bed.cluster.kubectl(&["delete", "namespace", e2e::NAMESPACE, "--wait=false"])?;
    // Kubernetes itself deletes the pod, and the virtual node its group: that ends the job.
    bed.azure.wait_for("the group to go with its pod", Duration::from_secs(120), <[_]>::is_empty).await?;
    bed.github.wait_for_end(id, Duration::from_secs(60)).await?;
    bed.eventually("no registration to be left", CLEAN_WITHIN, |bed| {
        let left = bed.github.runners();
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
    })
    .await?;
    let end = tokio::time::Instant::now() + CLEAN_WITHIN;
    while !bed.ledger().await?.iter().any(|row| row.runner == runner) {
        ensure!(tokio::time::Instant::now() < end, "{runner} is not billed:\n{}", bed.stint.log_tail());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bed.eventually("the namespace to be gone", Duration::from_secs(60), |bed| {
        let namespace = ["get", "namespace", e2e::NAMESPACE, "--ignore-not-found", "-o", "name"];
        let left = bed.cluster.kubectl(&namespace)?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
}
