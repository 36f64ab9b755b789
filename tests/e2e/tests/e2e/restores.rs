//! The cluster's store put back to an earlier state, as after a disaster.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions};
use emulator_github::Conclusion;

#[tokio::test(flavor = "multi_thread")]
async fn restored_to_before() -> Result<()> {
    let bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    let first = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    bed.job_stands(first, "Ended", Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    bed.cluster.save_store("before")?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    bed.interposer()?.forget();
    println!("restoring");
    let since = std::time::Instant::now();
    tokio::task::block_in_place(|| bed.cluster.restore_store("before"))?;
    println!("restored after {:?}", since.elapsed());
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{:?} {:?} {:?}", since.elapsed(), bed.leftovers()?, bed.github.job(id)?.status);
    }
    for call in bed.interposer()?.calls() {
        println!("{:6} {} {:?}", call.at.duration_since(since).as_millis(), call.kind(), call.status);
    }
    let _ = bed.github.finish_job(id, Conclusion::Success);
    bed.nothing_left(Duration::from_secs(60)).await?;
    Ok(())
}
