//! Peers that answer with errors, ask for a pause, or carry a call out and lose the answer: no job is lost, nothing is left,
//! and nobody is called before the pause that they asked for is over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::interposer::{Call, Deed, Peer};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_github::JobSpec;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(120);

/// What goes wrong once.
#[derive(Clone, Copy)]
enum Wrong {
    /// This status is answered, and nothing is carried out.
    Answers(u16),
    /// This status is answered, with a pause in seconds that is to be kept.
    AsksForPause(u16, u64),
    /// The call is carried out, and the connection breaks before its answer.
    AnswerIsLost,
}

/// A call that goes wrong: its method, a part of its path, and how.
type Case = (&'static str, &'static str, &'static str, Wrong);

fn is(call: &Call, peer: Peer, method: &str, part: &str) -> bool {
    call.peer == peer && call.method == method && call.path.contains(part)
}

async fn each(peer: Peer, bed: &Bed, label: &str, cases: &[Case]) -> Result<()> {
    for (name, method, part, wrong) in cases {
        let since = Instant::now();
        one(peer, bed, label, (method, part), *wrong).await.with_context(|| format!("{peer:?}: {name}"))?;
        println!("{:>5.1} s  {peer:?}: {name}", since.elapsed().as_secs_f32());
    }
    Ok(())
}

async fn one(
    peer: Peer,
    bed: &Bed,
    label: &str,
    (method, part): (&'static str, &'static str),
    wrong: Wrong,
) -> Result<()> {
    let interposer = bed.interposer()?;
    interposer.forget();
    let deed = match wrong {
        Wrong::Answers(status) => Deed::Instead { status, headers: Vec::new(), body: said(peer, status, 0) },
        Wrong::AsksForPause(status, seconds) => Deed::Instead {
            status,
            headers: vec![("retry-after", seconds.to_string())],
            body: said(peer, status, seconds),
        },
        Wrong::AnswerIsLost => Deed::Unanswered(Box::new(|| {})),
    };
    let trap = interposer.arm(0, move |call| is(call, peer, method, part), deed);
    let job = JobSpec::new("acme/app", &["self-hosted", label]).lasting(Duration::from_secs(1));
    let id = bed.github.queue_job(job)?;
    let job = bed.github.wait_for_end(id, DEADLINE).await?;
    ensure!(job.assignments == 1, "{job:?}");
    bed.nothing_left(DEADLINE).await?;
    bed.job_stands(id, "Ended", DEADLINE).await?;
    bed.ledger_equals_meter().await?;
    let hit = trap.sprung().context("no such call was made")?;
    if let Wrong::AsksForPause(_, seconds) = wrong {
        let over = hit.at + Duration::from_secs(seconds);
        let calls = interposer.calls();
        // GitHub asks whoever exceeds one of its limits to make no call at all.
        let same = |call: &Call| peer == Peer::GitHub || is(call, peer, method, part);
        let in_pause = |call: &&Call| call.peer == peer && call.at > hit.at && call.at < over && same(call);
        let early = calls.iter().find(in_pause);
        ensure!(early.is_none(), "called again {:?} later: {early:?}", early.map(|call| call.at - hit.at));
    }
    Ok(())
}

/// The body of an error, as this peer words it.
fn said(peer: Peer, status: u16, seconds: u64) -> String {
    let body = match peer {
        Peer::Kubernetes => json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "scripted", "code": status,
            "reason": "Scripted", "details": {"retryAfterSeconds": seconds},
        }),
        Peer::GitHub => json!({"message": "You have exceeded a secondary rate limit."}),
        Peer::Azure => json!({"error": {"code": "Scripted", "message": "scripted"}}),
    };
    body.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn github_in_trouble_costs_no_job() -> Result<()> {
    let bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    let cases: [Case; 5] = [
        ("503 to a registration", "POST", "/generate-jitconfig", Wrong::Answers(503)),
        ("429 to a registration", "POST", "/generate-jitconfig", Wrong::AsksForPause(429, 14)),
        ("403 to a registration", "POST", "/generate-jitconfig", Wrong::AsksForPause(403, 14)),
        ("a registration's answer lost", "POST", "/generate-jitconfig", Wrong::AnswerIsLost),
        ("429 to a deregistration", "DELETE", "/actions/runners/", Wrong::AsksForPause(429, 4)),
    ];
    each(Peer::GitHub, &bed, "stint", &cases).await
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_in_trouble_costs_no_job() -> Result<()> {
    let bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    // Groups that Stint creates and deletes itself.
    let documents = [
        ("RunnerPlace", json!({"containerInstances": {}, "region": "westeurope"})),
        ("RunnerClass", json!({"resources": {"cpu": "1", "memory": "1Gi"}, "places": {"order": ["direct"]}})),
    ];
    for (kind, spec) in documents {
        let document = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "direct", "namespace": NAMESPACE}, "spec": spec,
        });
        bed.cluster.apply(&document.to_string())?;
    }
    let cases: [Case; 6] = [
        ("503 to a creation", "PUT", "/containerGroups/", Wrong::Answers(503)),
        ("429 to a creation", "PUT", "/containerGroups/", Wrong::AsksForPause(429, 14)),
        ("a creation's answer lost", "PUT", "/containerGroups/", Wrong::AnswerIsLost),
        ("500 to a deletion", "DELETE", "/containerGroups/", Wrong::Answers(500)),
        ("429 to a deletion", "DELETE", "/containerGroups/", Wrong::AsksForPause(429, 4)),
        ("a deletion's answer lost", "DELETE", "/containerGroups/", Wrong::AnswerIsLost),
    ];
    each(Peer::Azure, &bed, "direct", &cases).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_in_trouble_costs_no_job() -> Result<()> {
    let bed = Bed::start(BedOptions { interposed: true, ..BedOptions::default() }).await?;
    // The first job's reservation creates what the others change.
    each(Peer::Kubernetes, &bed, "stint", &[("500 to a record", "POST", "/runners", Wrong::Answers(500))])
        .await?;
    let cases: [Case; 7] = [
        ("a reservation's answer lost", "PUT", "/admissions/", Wrong::AnswerIsLost),
        ("a record's answer lost", "POST", "/runners", Wrong::AnswerIsLost),
        ("a Secret's answer lost", "POST", "/secrets", Wrong::AnswerIsLost),
        ("429 to a pod", "POST", "/pods", Wrong::AsksForPause(429, 4)),
        ("a pod's answer lost", "POST", "/pods", Wrong::AnswerIsLost),
        ("500 to a pod's deletion", "DELETE", "/pods/", Wrong::Answers(500)),
        ("the answer to a pod's deletion lost", "DELETE", "/pods/", Wrong::AnswerIsLost),
    ];
    each(Peer::Kubernetes, &bed, "stint", &cases).await
}
