//! kill -9 of the controller at each write of a runner's life, before the write is carried out and between that and its
//! answer.
//!
//! What is left outside when it is killed after an answer and before the next write is the same as when that answer is lost,
//! since nothing of the process outlives it: that third variant is the second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::interposer::{Call, Deed, Hook};
use e2e::{Bed, BedOptions};
use emulator_github::JobId;
use rustix::process::{Signal, kill_process};

/// Set to a number: every point from that one on is tried, which takes some twelve minutes, instead of every fifth.
const EVERY: &str = "STINT_E2E_EVERY_WRITE_FROM";
/// How many points one step goes on otherwise, and where that begins. Odd, so that both variants come up, and so that the lost
/// answer to a pod's creation is among them, after which nobody but the group knows the pod's UID.
const STRIDE: (usize, usize) = (4, 5);

/// A write of a life: its kind, and how many of this kind came before it.
type Write = (String, usize);

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
enum When {
    /// The write is not carried out.
    Before,
    /// The write is carried out, and its answer never arrives.
    Unanswered,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_write_of_a_life_it_loses_no_job_and_leaves_nothing() -> Result<()> {
    let mut bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    // The first job's writes have those of the start among them.
    undisturbed(&bed).await?;
    let (first, second) = (undisturbed(&bed).await?, undisturbed(&bed).await?);
    println!("the writes of a runner's life:");
    for (number, (kind, before)) in first.iter().enumerate() {
        println!("{number:4} {kind}{}", again(*before));
    }
    let always: BTreeSet<&Write> = second.iter().collect();
    for (kind, _) in first.iter().filter(|write| !always.contains(write)) {
        println!("left out, since it depends on the moment whether it comes: {kind}");
    }
    let (begin, stride) = match std::env::var(EVERY) {
        Ok(number) => (number.parse().with_context(|| format!("{EVERY}={number} is no number"))?, 1),
        Err(_) => STRIDE,
    };
    let points: Vec<(&Write, When)> = first
        .iter()
        .filter(|write| always.contains(write))
        .flat_map(|write| [(write, When::Before), (write, When::Unanswered)])
        .skip(begin)
        .step_by(stride)
        .collect();
    for (write, when) in points {
        let since = Instant::now();
        killed_at(&mut bed, write, when).await.with_context(|| format!("killed {when:?} {write:?}"))?;
        println!("{:>5.1} s  {when:?} {}{}", since.elapsed().as_secs_f32(), write.0, again(write.1));
    }
    Ok(())
}

fn again(before: usize) -> String {
    if before == 0 { String::new() } else { format!(" (number {})", before + 1) }
}

/// The writes of a life that nothing disturbs.
async fn undisturbed(bed: &Bed) -> Result<Vec<Write>> {
    bed.interposer()?.forget();
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    ended(bed, id).await?;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let calls = bed.interposer()?.calls();
    let numbered = calls.iter().filter(|call| call.writes()).map(|call| {
        let count = seen.entry(call.kind()).or_default();
        *count += 1;
        (call.kind(), *count - 1)
    });
    Ok(numbered.collect())
}

/// Lives one life during which `stint` is killed at a write and started again.
async fn killed_at(bed: &mut Bed, (kind, before): &Write, when: When) -> Result<()> {
    bed.interposer()?.forget();
    let pid = bed.stint.pid()?;
    // A process that is gone by itself shows below: its trap is not sprung.
    let kill: Hook = Box::new(move || {
        let _ = kill_process(pid, Signal::KILL);
    });
    let wanted = kind.clone();
    let trap = bed.interposer()?.arm(
        *before,
        move |call: &Call| call.writes() && call.kind() == wanted,
        match when {
            When::Before => Deed::Before(kill),
            When::Unanswered => Deed::Unanswered(kill),
        },
    );
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    // One that is not hit is a failure: else a life that has changed would leave points out and nobody would know.
    let end = Instant::now() + Duration::from_secs(60);
    while bed.stint.exited()?.is_none() {
        ensure!(Instant::now() < end, "this life had no such write: {:?}", bed.interposer()?.kinds());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(trap.sprung().is_some(), "stint ended by itself:\n{}", bed.stint.log_tail());
    bed.stint.kill()?;
    bed.stint.start()?;
    bed.stint.ready(Duration::from_secs(40)).await?;
    sent_again(bed, id)?;
    bed.github.wait_for_end(id, Duration::from_secs(90)).await?;
    sent_again(bed, id)?;
    ended(bed, id).await
}

/// Has sent again what of a job was not taken while `stint` was away. GitHub does not do so by itself; whoever sees that it failed
/// does. Without, all of it comes about as well, a minute later.
fn sent_again(bed: &Bed, id: JobId) -> Result<()> {
    let deliveries = bed.github.deliveries();
    let of_it = || deliveries.iter().filter(|delivery| delivery.job == Some(id));
    let taken: BTreeSet<&str> = of_it()
        .filter(|delivery| (200..300).contains(&delivery.status_code))
        .map(|delivery| delivery.guid.as_str())
        .collect();
    let failed: BTreeMap<&str, u64> = of_it()
        .filter(|delivery| !taken.contains(delivery.guid.as_str()))
        .map(|delivery| (delivery.guid.as_str(), delivery.id))
        .collect();
    for delivery in failed.values() {
        bed.github.redeliver(*delivery)?;
    }
    Ok(())
}

/// Waits until a job has ended, and nothing of it is left but its bill.
async fn ended(bed: &Bed, id: JobId) -> Result<()> {
    let job = bed.github.wait_for_end(id, Duration::from_secs(90)).await?;
    ensure!(job.assignments == 1, "the job was run once: {job:?}");
    bed.job_stands(id, "Ended", Duration::from_secs(100)).await?;
    bed.nothing_left(Duration::from_secs(90)).await?;
    bed.ledger_equals_meter().await?;
    one_group_at_a_time(bed, id)
}

/// At no time had a job two groups that ran.
fn one_group_at_a_time(bed: &Bed, id: JobId) -> Result<()> {
    let calls = bed.interposer()?.calls();
    let runners: BTreeSet<String> = calls
        .iter()
        .filter_map(Call::new_runner)
        .filter(|(_, job)| *job == id.to_string())
        .map(|(runner, _)| format!("{}-{runner}", e2e::NAMESPACE))
        .collect();
    ensure!(!runners.is_empty(), "job {id} had no runner");
    let mut ran: Vec<_> = bed
        .azure
        .history()
        .into_iter()
        .filter(|group| runners.contains(&group.name))
        .filter_map(|group| Some((group.pull_started_at?, group.stopped_at?)))
        .collect();
    ran.sort_unstable();
    let apart = ran.iter().zip(ran.iter().skip(1)).all(|(one, next)| one.1 <= next.0);
    ensure!(apart, "two groups at a time for job {id}: {ran:?}");
    Ok(())
}
