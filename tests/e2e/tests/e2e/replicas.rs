//! A second replica beside the first: it refuses to act without a shared ledger, takes deliveries, and takes over where both write
//! one ledger in PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::interposer::{Call, Deed};
use e2e::{Bed, BedOptions, NAMESPACE, Stint};
use emulator_github::JobId;
use postgres_server::Postgres;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

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

/// How long a takeover may take from the moment in which the leader stops: 20 s, and what the test adds by looking.
const TAKEOVER: Duration = Duration::from_secs(20 + 2);

/// A bed with two replicas, of which the first acts and the second gets the deliveries.
struct Replicas {
    bed: Bed,
    second: Stint,
    _directory: tempfile::TempDir,
    _ledger: Postgres,
}

impl Replicas {
    async fn start() -> Result<Self> {
        let ledger = Postgres::start()?;
        let mut options = BedOptions { interposed: true, ..BedOptions::default() };
        options.arguments.extend(["--ledger".to_owned(), ledger.create_database("stint")?]);
        let bed = Bed::start(options).await?;
        acts(&bed, "e2e-0", Duration::from_secs(30)).await?;
        let directory = tempfile::tempdir()?;
        let mut second = bed.another(directory.path(), "e2e-1")?;
        second.start()?;
        second.ready(Duration::from_secs(30)).await?;
        bed.github.set_webhook(&format!("{}/webhooks/acme", second.url()), bed.webhook_secret());
        Ok(Self { bed, second, _directory: directory, _ledger: ledger })
    }

    fn queue(&self, jobs: usize) -> Result<Vec<JobId>> {
        (0..jobs).map(|_| self.bed.github.queue_job(self.bed.job().lasting(Duration::from_secs(1)))).collect()
    }

    /// All jobs have been run once, by runners that were registered and launched once, and nothing but the bills is left.
    async fn ended_once(&self, jobs: &[JobId]) -> Result<()> {
        for id in jobs {
            let job = self.bed.github.wait_for_end(*id, Duration::from_secs(120)).await?;
            ensure!(job.assignments == 1, "{job:?}");
        }
        self.bed.nothing_left(Duration::from_secs(120)).await?;
        for id in jobs {
            self.bed.job_stands(*id, "Ended", Duration::from_secs(100)).await?;
        }
        let calls = self.bed.interposer()?.calls();
        for (what, pointer) in [("/generate-jitconfig", "/name"), ("/pods", "/metadata/name")] {
            let mut done: BTreeMap<String, usize> = BTreeMap::new();
            for call in calls.iter().filter(|call| call.method == "POST" && call.path.ends_with(what)) {
                let name = call.body.pointer(pointer).and_then(Value::as_str).context("no name")?;
                *done.entry(name.to_owned()).or_default() += 1;
            }
            ensure!(done.len() >= jobs.len(), "{what}: {done:?}");
            ensure!(done.values().all(|times| *times == 1), "{what} was asked for twice: {done:?}");
        }
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        for group in self.bed.azure.history() {
            *groups.entry(group.name).or_default() += 1;
        }
        ensure!(groups.values().all(|times| *times == 1), "a runner lived twice: {groups:?}");
        Ok(())
    }
}

/// Waits until a replica holds the reservations.
async fn acts(bed: &Bed, identity: &str, deadline: Duration) -> Result<()> {
    bed.eventually(&format!("{identity} to act"), deadline, |bed| {
        let admissions = bed.objects("admissions")?;
        let holder = admissions.first().and_then(|one| one.pointer("/spec/holder")).and_then(Value::as_str);
        Ok(if holder == Some(identity) { Ok(()) } else { Err(format!("{holder:?} does")) })
    })
    .await
}

fn registers(call: &Call) -> bool {
    call.method == "POST" && call.path.ends_with("/generate-jitconfig")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_is_replaced_and_does_no_harm_when_it_wakes() -> Result<()> {
    let replicas = Replicas::start().await?;
    let bed = &replicas.bed;
    // A delivery to the one that does not act is acted on.
    let first = replicas.queue(1)?;
    replicas.ended_once(&first).await?;

    // It stops in the middle of a call that cannot be repeated, with others like it to come.
    let pid = bed.stint.pid()?;
    let trap = bed.interposer()?.arm(
        2,
        registers,
        Deed::Aside(Box::new(move || {
            let _ = kill_process(pid, Signal::STOP);
        })),
    );
    let jobs = replicas.queue(6)?;
    let paused = bed
        .eventually("the leader to stop", Duration::from_secs(30), |_| {
            Ok(trap.sprung().map(|call| call.at).ok_or("it goes on".to_owned()))
        })
        .await?;
    acts(bed, "e2e-1", Duration::from_secs(60)).await?;
    let took = Instant::now() - paused;
    ensure!(took <= TAKEOVER, "the takeover took {took:?}");
    println!("the takeover took {took:?}");
    bed.stint.pause(false)?;
    replicas.ended_once(&jobs).await?;
    // It has noticed, and goes on as the one that does not act.
    bed.eventually("the first to step back", Duration::from_secs(30), |bed| {
        let back = bed.stint.log().contains("this replica no longer acts");
        Ok(if back { Ok(()) } else { Err("it has not said so".to_owned()) })
    })
    .await?;
    acts(bed, "e2e-1", Duration::from_secs(1)).await?;
    bed.ledger_equals_meter().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_under_load_is_replaced_and_no_job_is_lost() -> Result<()> {
    let replicas = Replicas::start().await?;
    let pid = replicas.bed.stint.pid()?;
    let trap = replicas.bed.interposer()?.arm(
        8,
        registers,
        Deed::Before(Box::new(move || {
            let _ = kill_process(pid, Signal::KILL);
        })),
    );
    let jobs = replicas.queue(20)?;
    let killed = replicas
        .bed
        .eventually("the leader to be killed", Duration::from_secs(30), |_| {
            Ok(trap.sprung().map(|call| call.at).ok_or("it lives".to_owned()))
        })
        .await?;
    acts(&replicas.bed, "e2e-1", Duration::from_secs(60)).await?;
    let took = Instant::now() - killed;
    ensure!(took <= TAKEOVER, "the takeover took {took:?}");
    println!("the takeover took {took:?}");
    replicas.ended_once(&jobs).await?;
    replicas.bed.equals_meter(replicas.second.ledger().await?).map(drop)
}
