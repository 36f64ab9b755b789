//! A second replica beside the first.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions, NAMESPACE, Stint};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_without_a_shared_ledger_refuses_to_act() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let directory = tempfile::tempdir()?;
    let mut second: Stint = bed.another(directory.path(), "e2e-1")?;
    second.start()?;
    let url = format!("{}/readyz", second.internal_url());
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    let said = loop {
        let answer = match reqwest::get(&url).await {
            Ok(answer) if answer.status() == 503 => answer.text().await?,
            Ok(_) | Err(_) => String::new(),
        };
        if answer.contains("ledger") || tokio::time::Instant::now() >= end {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(said.contains("--adopt-ledger"), "it says what to do: {said:?}\n{}", second.log_tail());

    // The first one goes on as if nothing were.
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    bed.github.wait_for_end(id, Duration::from_secs(60)).await?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    bed.ledger_equals_meter().await?;
    let holder = bed.cluster.kubectl(&[
        "get",
        "lease",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.items[*].spec.holderIdentity}",
    ])?;
    assert_eq!(holder.trim(), "e2e-0");
    Ok(())
}
