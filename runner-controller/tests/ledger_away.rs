//! A controller whose ledger's server cannot be reached: it takes deliveries and goes on with what runs, and never ends
//! for it.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::path::Path;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use postgres_server::Postgres;
use secrecy::SecretString;
use serde_json::json;
use sha2::Sha256;
use stint::azure::{ArmOptions, CredentialKind};
use stint::config::Installation;
use stint::ledger::{LedgerLocation, PostgresSettings};
use stint::reconcile::wiring::{Controller, RecordsSettings, RunSettings};
use stint::sqlite::Location;

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Starts a controller on the records of a directory.
async fn start(directory: &Path, ledger: &str) -> anyhow::Result<Controller> {
    let documents = directory.join("documents");
    std::fs::create_dir_all(&documents).unwrap();
    let api = "stint.dev/v1alpha1";
    for (file, document) in [
        (
            "secret.yaml",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme"},
                   "stringData": {"token": "emulated", "webhookSecret": "emulated"}}),
        ),
        (
            "source.yaml",
            json!({"apiVersion": api, "kind": "RunnerSource", "metadata": {"name": "acme"},
                   "spec": {"github": {"owners": ["acme"], "secretRef": "acme", "apiUrl": NOWHERE}}}),
        ),
        (
            "class.yaml",
            json!({"apiVersion": api, "kind": "RunnerClass", "metadata": {"name": "stint"},
                   "spec": {"image": "runner", "resources": {"cpu": "1", "memory": "1Gi"}}}),
        ),
    ] {
        std::fs::write(documents.join(file), document.to_string()).unwrap();
    }
    let free = ([127, 0, 0, 1], 0).into();
    Controller::start(RunSettings {
        installation: Installation { id: "test".to_owned(), max_runners: 1, ..Installation::default() },
        records: RecordsSettings::Local { documents, state: Location::File(directory.join("records.db")) },
        ledger: LedgerLocation::Postgres(PostgresSettings::new(&SecretString::from(ledger), None)?),
        azure: ArmOptions { endpoint: NOWHERE.to_owned(), ..ArmOptions::default() },
        azure_credential: CredentialKind::Token("emulated".to_owned().into()),
        identity: "test".to_owned(),
        adopt_ledger: false,
        most_jobs: 10,
        shutdown_delay: Duration::ZERO,
        listen: free,
        internal_listen: free,
        api_listen: free,
    })
    .await
}

/// Waits until the controller says this of its readiness and whether it acts.
async fn until(controller: &Controller, ready: u16, says: &str, acts: bool) {
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", controller.internal_address)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let leader = format!("\nstint_leader {}\n", u8::from(acts));
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let (status, said) = get("/readyz").await;
        let (_, metrics) = get("/metrics").await;
        if status == ready && said.contains(says) && metrics.contains(&leader) {
            return;
        }
        assert!(Instant::now() < end, "{status} {said}, not{leader}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Delivers a queued job, and answers whether it was stored.
async fn deliver(controller: &Controller, job: u64) -> bool {
    let body = json!({
        "action": "queued",
        "workflow_job": {
            "id": job, "run_id": 1, "run_attempt": 1, "name": "build", "workflow_name": "CI", "head_branch": "main",
            "head_sha": "0123456789abcdef0123456789abcdef01234567", "html_url": "https://github.com/acme/app/runs/1",
            "status": "queued", "conclusion": null, "labels": ["stint"], "runner_id": null, "runner_name": null, "steps": []
        },
        "repository": {
            "id": 1, "full_name": "acme/app", "private": true, "visibility": "private", "owner": {"login": "acme"}
        },
        "sender": {"login": "octocat"}
    })
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"emulated").unwrap();
    mac.update(body.as_bytes());
    let answer = reqwest::Client::new()
        .post(format!("http://{}/webhooks/acme", controller.address))
        .header("x-github-event", "workflow_job")
        .header("x-github-delivery", format!("72d3162e-cc78-11e3-81ab-{job:012}"))
        .header("x-hub-signature-256", format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
        .body(body)
        .send()
        .await
        .unwrap();
    answer.status().as_u16() == 201
}

fn stored(controller: &Controller) -> usize {
    controller.records.observe().unwrap().jobs.len()
}

#[tokio::test]
async fn a_controller_takes_deliveries_and_acts_before_its_ledger_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Postgres::start().unwrap();
    let url = server.create_database("ledger").unwrap();
    server.kill().unwrap();

    // Nothing was ever started: there is nothing to go on with, and the first ledger decides.
    let controller = start(folder.path(), &url).await.unwrap();
    until(&controller, 503, "--ledger does not answer", false).await;
    assert!(deliver(&controller, 1).await);
    server.restart().unwrap();
    until(&controller, 200, "ok", true).await;
    controller.stop().await;

    // Runners may be there: they are looked after, with the ledger they were started under in mind.
    server.kill().unwrap();
    let controller = start(folder.path(), &url).await.unwrap();
    until(&controller, 503, "--ledger does not answer", true).await;
    assert!(deliver(&controller, 2).await);
    assert_eq!(stored(&controller), 2);
    server.restart().unwrap();
    until(&controller, 200, "ok", true).await;

    // Gone while it runs: it stays what it is.
    server.kill().unwrap();
    assert!(controller.ledger.rows().await.is_err());
    assert!(deliver(&controller, 3).await);
    until(&controller, 200, "ok", true).await;
    server.restart().unwrap();
    assert_eq!(controller.ledger.rows().await.unwrap(), []);
    controller.stop().await;
}

#[tokio::test]
async fn a_ledger_that_turns_out_to_be_another_one_ends_the_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Postgres::start().unwrap();
    let (own, other) = (server.create_database("own").unwrap(), server.create_database("other").unwrap());
    let controller = start(folder.path(), &own).await.unwrap();
    until(&controller, 200, "ok", true).await;
    controller.stop().await;

    server.kill().unwrap();
    let controller = start(folder.path(), &other).await.unwrap();
    until(&controller, 503, "--ledger does not answer", true).await;
    server.restart().unwrap();
    until(&controller, 503, "--adopt-ledger", false).await;
    assert!(controller.ledger.rows().await.is_err());
    controller.stop().await;
}

#[tokio::test]
async fn a_ledger_that_can_never_be_used_ends_the_start_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let server = Postgres::start().unwrap();
    let url = server.url("nowhere");
    let error = format!("{:#}", start(folder.path(), &url).await.err().unwrap());
    assert!(error.contains("create it, or correct its name in --ledger"), "{error}");
}
