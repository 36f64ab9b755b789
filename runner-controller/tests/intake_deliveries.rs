//! Deliveries over HTTP, from the request to what is stored.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

mod web_memory;

use std::collections::HashMap;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use runner_core::job::{JobAction, JobState};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::Sha256;
use stint::intake::{IntakeRules, IntakeSource, IntakeState, router};
use stint::ports::CallErrorKind;
use stint::telemetry::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use web_memory::{Memory, Server};

const SECRET: &str = "canary-secret-1";
const OTHER_SECRET: &str = "canary-secret-2";
const GUID: &str = "72d3162e-cc78-11e3-81ab-4c9367dc0958";

struct Intake {
    server: Server,
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
    rules: watch::Sender<Arc<IntakeRules>>,
}

struct Answered {
    status: u16,
    text: String,
    retry_after: Option<String>,
}

fn rules() -> IntakeRules {
    let source = IntakeSource {
        secrets: vec![SecretString::from(SECRET), SecretString::from(OTHER_SECRET)],
        owners: vec!["Acme".to_owned()],
        repositories: vec!["umbrella/site".to_owned()],
        unread: false,
    };
    let sources = HashMap::from([("acme".to_owned(), source)]);
    IntakeRules { sources, classes: vec!["stint".to_owned()], ready: true }
}

impl Intake {
    async fn start() -> Self {
        let memory = Arc::new(Memory::default());
        let metrics = Arc::new(Metrics::new());
        let (sender, receiver) = watch::channel(Arc::new(rules()));
        let state = IntakeState::new(memory.clone(), receiver, metrics.clone());
        Self { server: Server::start(router(state)).await, memory, metrics, rules: sender }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answered {
        let mut request = client().post(self.server.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        Answered { status: answer.status().as_u16(), text: answer.text().await.unwrap(), retry_after }
    }

    async fn event(&self, event: &str, guid: &str, payload: &Value) -> Answered {
        let body = payload.to_string();
        let signature = sign(SECRET, body.as_bytes());
        let headers =
            [("x-github-event", event), ("x-github-delivery", guid), ("x-hub-signature-256", &signature)];
        self.post("/webhooks/acme", &headers, body).await
    }

    async fn check(&self, payload: &Value, status: u16, says: &str) {
        let answered = self.event("workflow_job", GUID, payload).await;
        assert_eq!(answered.status, status, "{}", answered.text);
        assert!(answered.text.contains(says), "{}", answered.text);
    }

    fn stored(&self) -> usize {
        self.memory.jobs.lock().unwrap().len()
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize();
    format!("sha256={}", hex::encode(mac.into_bytes()))
}

fn payload(action: &str) -> Value {
    json!({
        "action": action,
        "workflow_job": {
            "id": 2_832_853_555_u64, "run_id": 940_463_255, "run_attempt": 2, "name": "build",
            "workflow_name": "CI", "head_branch": "main",
            "head_sha": "0123456789abcdef0123456789abcdef01234567", "html_url": "https://github.com/acme/app/runs/1",
            "status": action, "conclusion": null, "labels": ["self-hosted", "stint"],
            "runner_id": null, "runner_name": null, "steps": []
        },
        "repository": {
            "id": 1, "full_name": "acme/app", "private": true, "visibility": "private",
            "owner": { "login": "acme" }
        },
        "sender": { "login": "octocat" }
    })
}

/// The payload with one value replaced, or taken out if it is replaced by null.
fn with(mut payload: Value, pointer: &str, value: Value) -> Value {
    *payload.pointer_mut(pointer).unwrap() = value;
    payload
}

#[tokio::test]
async fn a_queued_job_is_stored_before_the_answer() {
    let intake = Intake::start().await;
    intake.check(&payload("queued"), 201, "new job").await;
    let jobs = intake.memory.jobs.lock().unwrap().clone();
    let job = &jobs[0];
    assert_eq!(job.key.to_string(), "acme-2832853555-2");
    assert_eq!((job.description.owner.as_str(), job.description.repository.as_str()), ("acme", "acme/app"));
    assert_eq!(job.description.labels, ["self-hosted", "stint"]);
    assert_eq!(job.description.workflow.as_deref(), Some("CI"));
    assert!(!job.description.public);
    assert_eq!(job.description.run.as_deref(), Some("940463255"));
    assert_eq!(job.description.head_branch.as_deref(), Some("main"));
    assert_eq!(job.description.head_sha.as_deref(), Some("0123456789abcdef0123456789abcdef01234567"));
    assert_eq!(job.facts[0].id, GUID);
    assert_eq!(job.facts[0].action, JobAction::Queued);
}

#[tokio::test]
async fn deliveries_to_a_source_whose_secret_cannot_be_read_yet_are_put_off() {
    let intake = Intake::start().await;
    let mut unread = rules();
    unread.sources.get_mut("acme").unwrap().unread = true;
    intake.rules.send_replace(Arc::new(unread));
    let answered = intake.event("workflow_job", GUID, &payload("queued")).await;
    assert_eq!((answered.status, answered.retry_after.as_deref()), (503, Some("60")));
    assert_eq!(intake.stored(), 0);
}

#[tokio::test]
async fn each_action_is_its_own_fact_and_a_replay_adds_none() {
    let intake = Intake::start().await;
    let running = with(payload("in_progress"), "/workflow_job/runner_name", json!("stint-1"));
    let running = with(running, "/workflow_job/runner_id", json!(7));
    let done = with(payload("completed"), "/workflow_job/conclusion", json!("success"));
    for (guid, payload, status) in [
        ("00000000-0001", payload("queued"), 201),
        ("00000000-0002", payload("waiting"), 200),
        ("00000000-0003", running, 200),
        ("00000000-0004", done, 200),
        ("00000000-0001", payload("queued"), 200),
    ] {
        assert_eq!(intake.event("workflow_job", guid, &payload).await.status, status);
    }
    let jobs = intake.memory.jobs.lock().unwrap().clone();
    assert_eq!(jobs[0].facts.len(), 4);
    let JobState::Ended { conclusion, runner, .. } = jobs[0].state() else { panic!("{:?}", jobs[0].state()) };
    assert_eq!((conclusion.as_deref(), runner.as_deref()), (Some("success"), Some("stint-1")));
}

#[tokio::test]
async fn whatever_is_not_signed_with_a_secret_of_the_source_is_refused_before_it_is_parsed() {
    let intake = Intake::start().await;
    let body = "not JSON at all";
    let good = sign(SECRET, body.as_bytes());
    let sha1 = format!("sha1={}", "0".repeat(40));
    let wrong = sign("another", body.as_bytes());
    for headers in [
        vec![],
        vec![("x-hub-signature", sha1.as_str())],
        vec![("x-hub-signature-256", &good[..60])],
        vec![("x-hub-signature-256", &wrong)],
    ] {
        assert_eq!(intake.post("/webhooks/acme", &headers, body).await.status, 401, "{headers:?}");
    }
    for secret in [SECRET, OTHER_SECRET] {
        let signature = sign(secret, body.as_bytes());
        let headers = [("x-hub-signature-256", signature.as_str()), ("x-github-event", "workflow_job")];
        assert_eq!(intake.post("/webhooks/acme", &headers, body).await.status, 400, "signed, and not JSON");
    }
    assert_eq!(intake.post("/webhooks/nobody", &[], body).await.status, 404);
    assert_eq!(intake.stored(), 0);
    let metrics = intake.metrics.render().unwrap();
    assert!(metrics.contains(r#"source="unknown",event="none",outcome="unknown_source""#), "{metrics}");
    assert!(metrics.contains(r#"{source="acme",event="none",outcome="unauthorized"} 4"#), "{metrics}");
}

#[tokio::test]
async fn a_payload_that_cannot_be_used_names_the_field() {
    let intake = Intake::start().await;
    for (pointer, value, says) in [
        ("/action", Value::Null, "action"),
        ("/workflow_job", json!("x"), "workflow_job"),
        ("/workflow_job/id", json!("12"), "workflow_job.id"),
        ("/workflow_job/run_attempt", json!(0), "workflow_job.run_attempt"),
        ("/workflow_job/labels", json!({}), "workflow_job.labels"),
        ("/workflow_job/labels", json!([1]), "workflow_job.labels"),
        ("/repository", Value::Null, "repository.full_name"),
        ("/repository/full_name", json!("acme"), "repository.full_name"),
        ("/repository/full_name", json!("acme/../../x"), "repository.full_name"),
        ("/repository/full_name", json!("acme/a\u{0}b"), "repository.full_name"),
        ("/repository/owner/login", json!("other"), "repository.owner.login"),
    ] {
        intake.check(&with(payload("queued"), pointer, value), 400, says).await;
    }
    intake.check(&json!([]), 400, "JSON object").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let signature = sign(SECRET, deep.as_bytes());
    let headers = [("x-hub-signature-256", signature.as_str()), ("x-github-event", "workflow_job")];
    assert_eq!(intake.post("/webhooks/acme", &headers, deep).await.status, 400);
    assert_eq!(intake.stored(), 0);
}

#[tokio::test]
async fn what_stint_has_no_use_for_is_answered_with_success_and_not_stored() {
    let intake = Intake::start().await;
    assert_eq!(intake.event("ping", GUID, &json!({ "zen": "Design for failure." })).await.status, 200);
    assert_eq!(intake.event("push", GUID, &json!({})).await.status, 202);
    intake.check(&payload("dreaming"), 202, "ignored").await;
    let elsewhere = with(payload("queued"), "/repository/full_name", json!("evil/app"));
    intake.check(&with(elsewhere, "/repository/owner/login", json!("evil")), 202, "evil/app").await;
    let hosted = |action| with(payload(action), "/workflow_job/labels", json!(["ubuntu-latest"]));
    for action in ["queued", "waiting", "in_progress", "completed"] {
        intake.check(&hosted(action), 202, "labels").await;
    }
    assert_eq!(intake.stored(), 0);
}

#[tokio::test]
async fn a_listed_repository_is_served_whoever_owns_it_and_names_compare_without_case() {
    let intake = Intake::start().await;
    let listed = with(payload("queued"), "/repository/full_name", json!("Umbrella/Site"));
    intake.check(&with(listed, "/repository/owner/login", json!("Umbrella")), 201, "").await;
    let other = with(payload("queued"), "/repository/full_name", json!("umbrella/other"));
    intake.check(&with(other, "/repository/owner/login", json!("umbrella")), 202, "").await;
}

#[tokio::test]
async fn what_a_known_job_did_is_stored_although_its_labels_ask_for_nothing_now() {
    let intake = Intake::start().await;
    let with_labels = |action| with(payload(action), "/workflow_job/labels", json!(["stint-large"]));
    assert_eq!(intake.event("workflow_job", "00000000-0001", &with_labels("queued")).await.status, 201);
    intake.rules.send_modify(|rules| Arc::make_mut(rules).classes.clear());
    assert_eq!(intake.event("workflow_job", "00000000-0002", &with_labels("completed")).await.status, 200);
    assert_eq!(intake.event("workflow_job", "00000000-0003", &with_labels("queued")).await.status, 202);
}

#[tokio::test]
async fn a_delivery_that_is_not_stored_fails_so_that_it_can_be_redelivered() {
    let intake = Intake::start().await;
    let pause = CallErrorKind::Throttled(Some(std::time::Duration::from_secs(77)));
    for (kind, retry_after) in
        [(CallErrorKind::Unavailable, "30"), (CallErrorKind::Refused, "30"), (pause, "77")]
    {
        *intake.memory.store_trouble.lock().unwrap() = Some(kind);
        let answered = intake.event("workflow_job", GUID, &payload("queued")).await;
        assert_eq!((answered.status, answered.retry_after.as_deref()), (503, Some(retry_after)));
    }
    *intake.memory.store_trouble.lock().unwrap() = None;
    intake.check(&payload("queued"), 201, "").await;
    intake.rules.send_modify(|rules| Arc::make_mut(rules).ready = false);
    intake.check(&payload("queued"), 503, "configuration").await;
}

#[tokio::test]
async fn everything_that_is_kept_is_bounded() {
    let intake = Intake::start().await;
    let mut labels = vec![json!("self-hosted"), json!("x".repeat(1000))];
    labels.extend((0..200).map(|number| json!(format!("label-{number}"))));
    let long = with(payload("queued"), "/workflow_job/labels", json!(labels));
    let long = with(long, "/workflow_job/name", json!("n\u{1b}".repeat(1000)));
    let long = with(long, "/workflow_job/html_url", json!("javascript:alert(1)"));
    intake.check(&long, 201, "").await;
    let jobs = intake.memory.jobs.lock().unwrap().clone();
    let what = &jobs[0].description;
    assert_eq!((what.labels.len(), what.labels[1].len()), (100, 256));
    assert_eq!(what.name, "n".repeat(256));
    assert_eq!(what.url, None);
}

#[tokio::test]
async fn old_payloads_and_odd_runners_are_understood() {
    let intake = Intake::start().await;
    let mut old = payload("completed");
    let job = old["workflow_job"].as_object_mut().unwrap();
    for field in ["run_attempt", "run_id", "workflow_name", "head_branch", "head_sha", "html_url", "name"] {
        job.remove(field);
    }
    job.insert("runner_id".to_owned(), json!(0));
    job.insert("runner_name".to_owned(), json!("left over"));
    job.insert("labels".to_owned(), json!([]));
    let repository = old["repository"].as_object_mut().unwrap();
    repository.remove("visibility");
    repository.insert("private".to_owned(), json!(false));
    intake.check(&old, 201, "").await;
    let jobs = intake.memory.jobs.lock().unwrap().clone();
    assert_eq!(jobs[0].key.attempt, 1);
    assert_eq!(jobs[0].facts[0].runner, None);
    assert!(jobs[0].description.public);
}

#[tokio::test]
async fn an_unsigned_delivery_id_cannot_pass_for_an_answer_of_the_source() {
    let intake = Intake::start().await;
    for guid in ["read-12345678", "short", &"a".repeat(65), ""] {
        intake.event("workflow_job", guid, &payload("queued")).await;
    }
    let jobs = intake.memory.jobs.lock().unwrap().clone();
    assert_eq!(jobs[0].facts.len(), 1, "the same body is the same fact");
    assert!(jobs[0].facts[0].id.starts_with("body-"), "{}", jobs[0].facts[0].id);
}

#[tokio::test]
async fn bodies_above_25_mib_are_refused_announced_or_not() {
    let intake = Intake::start().await;
    let length = (25 << 20) + 1;
    let announced = format!("content-length: {length}\r\n\r\n");
    let chunk = [b"100000\r\n".as_slice(), &vec![b'a'; 1 << 20], b"\r\n"].concat();
    for (framing, part, times) in [
        (announced.as_str(), [].as_slice(), 0),
        (announced.as_str(), &vec![b'a'; length], 1),
        ("transfer-encoding: chunked\r\n\r\n", &chunk, 30),
    ] {
        let mut stream = intake.server.connect().await;
        let head = format!("POST /webhooks/acme HTTP/1.1\r\nhost: x\r\n{framing}");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..times {
            stream.write_all(part).await.unwrap();
        }
        let mut start = [0; 13];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&start), "HTTP/1.1 413 ");
    }
    let metrics = intake.metrics.render().unwrap();
    assert!(metrics.contains(r#"outcome="too_large"} 3"#), "{metrics}");
}

#[tokio::test]
async fn idle_connections_hold_no_delivery_up() {
    let intake = Intake::start().await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        let mut stream = intake.server.connect().await;
        stream
            .write_all(b"POST /webhooks/acme HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
            .await
            .unwrap();
        idle.push(stream);
    }
    intake.check(&payload("queued"), 201, "").await;
}

#[tokio::test]
async fn no_answer_repeats_a_secret() {
    let intake = Intake::start().await;
    for headers in [vec![], vec![("x-hub-signature-256", SECRET)]] {
        let answered = intake.post("/webhooks/acme", &headers, SECRET).await;
        assert!(!answered.text.contains("canary"), "{}", answered.text);
    }
    assert!(!intake.metrics.render().unwrap().contains("canary"));
}
