//! `stint` parted from one peer, or not reached by deliveries, while jobs run and end.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::interposer::{Peer, Way};
use e2e::{Bed, BedOptions};
use emulator_github::{Conclusion, WebhookEffect, WebhookRule};

/// How long `stint` is parted from a peer: longer than its Lease is good for.
const PARTED: Duration = Duration::from_secs(20);
/// How long after that everything may take.
const CONVERGED_WITHIN: Duration = Duration::from_secs(60);

/// A job's end and its runner's teardown fall into the partition, and another job is told of meanwhile.
async fn parted_from(bed: &Bed, peer: Peer, way: Way) -> Result<()> {
    let running = bed.github.queue_job(bed.job().named("running"))?;
    bed.job_stands(running, "Running", Duration::from_secs(30)).await?;
    bed.interposer()?.set(peer, way)?;
    let since = tokio::time::Instant::now();
    let new = bed.github.queue_job(bed.job().named("new").lasting(Duration::from_secs(1)))?;
    bed.github.finish_job(running, Conclusion::Success)?;
    bed.github.wait_for_end(running, Duration::from_secs(30)).await?;
    tokio::time::sleep_until(since + PARTED).await;
    bed.interposer()?.set(peer, Way::Open)?;
    // What could not be stored was not answered 2xx, so that GitHub shows it as failed; it is sent again when asked.
    let failed = bed
        .github
        .deliveries()
        .into_iter()
        .filter(|delivery| delivery.job == Some(new) && delivery.status_code >= 300);
    for delivery in failed {
        bed.github.redeliver(delivery.id)?;
    }
    let job = bed.github.wait_for_end(new, CONVERGED_WITHIN).await?;
    assert_eq!(job.assignments, 1, "{job:?}");
    bed.nothing_left(CONVERGED_WITHIN).await?;
    // A `completed` that was lost is asked for a minute after the runner is gone.
    for id in [running, new] {
        bed.job_stands(id, "Ended", Duration::from_secs(100)).await?;
    }
    bed.ledger_equals_meter().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parted_from_a_peer_while_a_job_ends_it_converges_within_a_minute() -> Result<()> {
    let bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    for (peer, way) in [
        (Peer::Kubernetes, Way::Silent),
        (Peer::GitHub, Way::Silent),
        (Peer::Azure, Way::Silent),
        (Peer::Kubernetes, Way::Refused),
    ] {
        let since = std::time::Instant::now();
        parted_from(&bed, peer, way).await.with_context(|| format!("{peer:?}, {way:?}"))?;
        println!("{:>5.1} s  {peer:?}, {way:?}", since.elapsed().as_secs_f32());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_ends_are_never_delivered_end_all_the_same() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    for action in ["in_progress", "completed"] {
        let down = WebhookEffect::Fail { status_code: 503 };
        bed.github.add_webhook_rule(WebhookRule::on(action, down));
    }
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?);
    }
    for id in &jobs {
        bed.github.wait_for_end(*id, Duration::from_secs(60)).await?;
    }
    // Call-backs and pods tell as much as the teardown needs.
    bed.nothing_left(Duration::from_secs(30)).await?;
    for id in &jobs {
        bed.job_stands(*id, "Ended", Duration::from_secs(120)).await?;
    }
    assert_eq!(bed.ledger_equals_meter().await?.len(), jobs.len());
    Ok(())
}
