//! Many jobs at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions};
use emulator_common::Journal;

/// Jobs in the burst.
const JOBS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_jobs_at_once_each_run_once_and_are_gone_and_billed() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let job = bed.job().named(&format!("test ({number})")).lasting(Duration::from_secs(5));
        ids.push(bed.github.queue_job(job)?);
    }
    for id in &ids {
        let job = bed.github.wait_for_end(*id, Duration::from_secs(180)).await?;
        assert_eq!(job.conclusion.map(|conclusion| conclusion.word()), Some("success"));
    }
    bed.nothing_left(Duration::from_secs(120)).await?;

    let rows = bed.ledger_equals_meter().await?;
    assert_eq!(rows.len(), JOBS, "one runner for each job");
    assert!(rows.iter().all(|row| row.bound_seconds == 0), "every time came from Azure: {rows:#?}");
    let jobs: BTreeSet<_> = bed.github.jobs().into_iter().filter_map(|job| job.runner_name).collect();
    assert_eq!(jobs.len(), JOBS, "every runner had one job");
    assert_eq!(refused(bed.azure.journal()), 0, "no call was throttled");
    Ok(())
}

/// Calls that a peer answered with 429.
fn refused(journal: &Journal) -> usize {
    journal.entries().iter().filter(|entry| entry.status == Some(429)).count()
}
