//! The listeners over HTTP: call-backs, probes, the API, and what slow or many peers can do.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

mod log_capture;
mod web_memory;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use runner_core::billing::{Bill, TimeSource};
use runner_core::budget::{Figures, Per, Period, WhenSpent};
use runner_core::forecast::Waiting;
use runner_core::job::{Findings, Job, JobAction, JobDescription, JobFact, JobKey, JobReport};
use runner_core::labels::Matched;
use runner_core::lifecycle::{Registered, Runner, RunnerFacts};
use runner_core::limit::Capped;
use runner_core::reason::Reason;
use runner_core::setup::{PlaceKind, Scope, Size};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stint::ports::{CallErrorKind, KeptLogs, LedgerRow};
use stint::telemetry::Metrics;
use stint::web::internal::{InternalState, Readiness};
use stint::web::serve::ServeLimits;
use stint::web::{agent, api, internal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use web_memory::{Memory, Server};

const TOKEN: &str = "canary-callback-token";

fn key() -> JobKey {
    JobKey { source: "acme".to_owned(), id: "7".to_owned(), attempt: 1 }
}

fn runner(name: &str, token: Option<&str>) -> Runner {
    let registered = token.map(|token| Registered {
        id: 1,
        callback_hash: hex::encode(Sha256::digest(token.as_bytes())),
        at: Timestamp::UNIX_EPOCH,
    });
    Runner {
        name: name.to_owned(),
        job: key(),
        ordinal: 1,
        scope: Scope::Owner("acme".to_owned()),
        matched: Matched { class: "stint".to_owned(), size: String::new() },
        labels: vec!["stint".to_owned()],
        size: Size { cpu_millis: 2000, memory_bytes: 4 << 30, max_runners: None },
        place: "aci".to_owned(),
        kind: PlaceKind::VirtualNode,
        created_at: Timestamp::UNIX_EPOCH,
        deleted: false,
        facts: RunnerFacts { registered, ..RunnerFacts::default() },
    }
}

async fn agents() -> (Server, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    for (name, token) in [("stint-1", Some(TOKEN)), ("stint-2", Some("another")), ("stint-3", None)] {
        memory.runners.lock().unwrap().insert(name.to_owned(), runner(name, token));
    }
    let state = agent::AgentState::new(memory.clone(), memory.clone());
    (Server::start(agent::router(state)).await, memory)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn report(server: &Server, runner: &str, token: Option<&str>, body: impl Into<reqwest::Body>) -> u16 {
    let mut request = client().post(server.url(&format!("/agent/v1/runners/{runner}/events"))).body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status().as_u16()
}

/// Reads until the peer closes, or fails after ten seconds.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut text)).await;
    let _reset = read.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends bytes as they are and reads until the peer closes.
async fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.connect().await;
    stream.write_all(bytes).await.unwrap();
    read_to_end(&mut stream).await
}

#[tokio::test]
async fn an_agents_reports_become_facts_of_its_runner() {
    let (server, memory) = agents().await;
    for event in ["booted", "job-started", "job-completed", "exiting"] {
        let body = json!({ "event": event, "exitCode": 3 }).to_string();
        assert_eq!(report(&server, "stint-1", Some(TOKEN), body).await, 204, "{event}");
    }
    let facts = memory.runners.lock().unwrap()["stint-1"].facts.agent.clone();
    assert!(facts.booted.is_some() && facts.job_started.is_some() && facts.job_completed.is_some());
    assert!(facts.exiting.is_some());
    assert_eq!(facts.exit_code, Some(3));
}

#[tokio::test]
async fn only_the_runners_own_token_is_believed() {
    let (server, memory) = agents().await;
    let body = || json!({ "event": "booted" }).to_string();
    for (runner, token) in [
        ("stint-1", None),
        ("stint-1", Some("another")),
        ("stint-1", Some("")),
        ("stint-2", Some(TOKEN)),
        ("stint-3", Some(TOKEN)),
        ("nobody", Some(TOKEN)),
    ] {
        assert_eq!(report(&server, runner, token, body()).await, 401, "{runner} {token:?}");
    }
    assert!(memory.runners.lock().unwrap().values().all(|runner| runner.facts.agent.booted.is_none()));
}

#[tokio::test]
async fn logs_are_kept_redacted_and_cut_before_the_fact() {
    let (server, memory) = agents().await;
    let secret = format!("ghs_{}", "a1".repeat(18));
    let logs = format!("{}\nuse {secret} and {TOKEN}\nlast line", "x".repeat(70 << 10));
    let body = json!({ "event": "exiting", "exitCode": 0, "logs": logs }).to_string();
    assert_eq!(report(&server, "stint-1", Some(TOKEN), body).await, 204);
    let kept = memory.logs.lock().unwrap().clone();
    assert_eq!((kept[0].runner.as_str(), kept[0].origin.as_str()), ("stint-1", "call-back"));
    assert_eq!(kept[0].job, key());
    assert!(kept[0].text.len() <= 64 << 10);
    assert!(kept[0].text.ends_with("use [redacted] and [redacted]\nlast line"));
}

#[tokio::test]
async fn an_exit_is_recorded_although_its_logs_cannot_be_kept() {
    let (server, memory) = agents().await;
    *memory.ledger_trouble.lock().unwrap() = Some(CallErrorKind::Unavailable);
    let body = json!({ "event": "exiting", "logs": "bye" }).to_string();
    assert_eq!(report(&server, "stint-1", Some(TOKEN), body.clone()).await, 503, "so that it is sent again");
    assert!(memory.runners.lock().unwrap()["stint-1"].facts.agent.exiting.is_some());
    *memory.ledger_trouble.lock().unwrap() = None;
    assert_eq!(report(&server, "stint-1", Some(TOKEN), body.clone()).await, 204);
    *memory.store_trouble.lock().unwrap() = Some(CallErrorKind::Unavailable);
    assert_eq!(report(&server, "stint-1", Some(TOKEN), body).await, 503);
}

#[tokio::test]
async fn reports_that_are_none_or_too_long_are_refused() {
    let (server, _memory) = agents().await;
    for body in ["", "[]", "{}", r#"{"event":"rebooted"}"#, r#"{"event":"booted","exitCode":"x"}"#] {
        assert_eq!(report(&server, "stint-1", Some(TOKEN), body).await, 400, "{body}");
    }
    let long = json!({ "event": "exiting", "logs": "x".repeat(128 << 10) }).to_string();
    assert_eq!(report(&server, "stint-1", Some(TOKEN), long).await, 413);
}

#[tokio::test]
async fn probes_and_metrics() {
    let (sender, readiness) = watch::channel(Readiness::NotReady("the jobs are still being read".to_owned()));
    let metrics = Arc::new(Metrics::new());
    metrics.set_leader(true);
    let server = Server::start(internal::router(InternalState { readiness, metrics })).await;
    let get = async |path: &str| {
        let answer = client().get(server.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await, (503, "the jobs are still being read\n".to_owned()));
    sender.send_replace(Readiness::Ready);
    assert_eq!(get("/readyz").await.0, 200);
    let (status, text) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("stint_leader 1\n") && text.ends_with("# EOF\n"), "{text}");
}

fn row() -> LedgerRow {
    let bill = Bill {
        group_id: "/subscriptions/s/g".to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        started_from: TimeSource::Arm,
        stopped_at: Timestamp::from_second(61).unwrap(),
        stopped_from: TimeSource::CallBack,
        bound_seconds: 2,
        seconds: 61,
        vcpu: 2,
        memory_gb: Decimal::new(43, 1),
        amount: Decimal::new(169_700, 8),
        currency: "USD".to_owned(),
    };
    LedgerRow {
        machine_uid: "uid".to_owned(),
        runner: "stint-1".to_owned(),
        started_for: key(),
        for_owner: "acme".to_owned(),
        for_repository: "acme/app".to_owned(),
        for_workflow: String::new(),
        for_class: "stint".to_owned(),
        job: None,
        repository: "acme/app".to_owned(),
        job_name: "build".to_owned(),
        class: "stint".to_owned(),
        place: "aci".to_owned(),
        ended_because: "ContainerEnded".to_owned(),
        conclusion: None,
        bill,
    }
}

fn api_state(memory: &Arc<Memory>) -> api::ApiState {
    let waiting = watch::Sender::default().subscribe();
    let budgets = watch::Sender::default().subscribe();
    api::ApiState { records: memory.clone(), ledger: memory.clone(), waiting, budgets }
}

#[tokio::test]
async fn the_api_tells_how_budgets_stand() {
    let figures = Figures {
        budget: "team".to_owned(),
        per: Per::Month,
        period: Period { from: Timestamp::UNIX_EPOCH, until: Timestamp::from_second(2_678_400).unwrap() },
        spent: Some(Decimal::new(12_345_678, 6)),
        reserved: Decimal::new(5, 1),
        amount: Decimal::from(100),
        currency: "EUR".to_owned(),
        alert_at: vec![50],
        when_spent: WhenSpent::NoBurst,
    };
    let unknown = Figures { budget: "other".to_owned(), spent: None, ..figures.clone() };
    let all: Arc<[Figures]> = vec![figures, unknown].into();
    let memory = Arc::new(Memory::default());
    let state = api::ApiState { budgets: watch::Sender::new(all).subscribe(), ..api_state(&memory) };
    let server = Server::start(api::router(state)).await;
    let url = format!("http://{}/api/v1/budgets", server.address);
    let rows: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let first = json!({
        "budget": "team", "per": "month", "from": "1970-01-01T00:00:00Z", "until": "1970-02-01T00:00:00Z",
        "spent": "12.345678", "reserved": "0.5", "amount": "100", "currency": "EUR", "percent": 12,
        "whenSpent": "no burst",
    });
    assert_eq!(rows[0], first);
    assert_eq!((&rows[1]["spent"], &rows[1]["percent"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn the_api_shows_logs_and_the_ledger_with_exact_decimals() {
    let memory = Arc::new(Memory::default());
    memory.rows.lock().unwrap().push(row());
    memory.logs.lock().unwrap().push(KeptLogs {
        runner: "stint-1".to_owned(),
        job: key(),
        kept_at: Timestamp::UNIX_EPOCH,
        origin: "arm".to_owned(),
        text: "hello\n".to_owned(),
    });
    let server = Server::start(api::router(api_state(&memory))).await;
    let get = async |path: &str| client().get(server.url(path)).send().await.unwrap();
    let rows: Value = get("/api/v1/ledger").await.json().await.unwrap();
    assert_eq!(rows[0]["amount"], "0.00169700");
    assert_eq!(rows[0]["memoryGB"], "4.3");
    assert_eq!(rows[0]["startedFor"], "acme-7-1");
    assert_eq!(rows[0]["stoppedAt"], "1970-01-01T00:01:01Z");
    let text = get("/api/v1/logs/stint-1").await.text().await.unwrap();
    assert!(text.starts_with("==> stint-1 (started for acme-7-1") && text.ends_with("hello\n"), "{text}");
    assert_eq!(get("/api/v1/logs/stint-9").await.status().as_u16(), 404);
    assert_eq!(get("/api/v1/jobs").await.json::<Value>().await.unwrap(), json!([]));
    *memory.ledger_trouble.lock().unwrap() = Some(CallErrorKind::Unavailable);
    assert_eq!(get("/api/v1/ledger").await.status().as_u16(), 503);
}

/// A job of `acme/app` that asks for class `stint`, of which these facts are known.
fn job(id: &str, name: &str, facts: &[(JobAction, i64)]) -> Job {
    let fact = |(at, (action, second)): (usize, &(JobAction, i64))| JobFact {
        id: at.to_string(),
        action: *action,
        heard_at: Timestamp::from_second(*second).unwrap(),
        runner: None,
        conclusion: None,
    };
    Job {
        key: JobKey { id: id.to_owned(), ..key() },
        description: JobDescription {
            owner: "acme".to_owned(),
            repository: "acme/app".to_owned(),
            public: false,
            name: name.to_owned(),
            workflow: Some("ci".to_owned()),
            url: Some(format!("https://github.com/acme/app/actions/runs/5/job/{id}")),
            labels: vec!["stint".to_owned()],
            created_at: None,
            head_sha: None,
            head_branch: None,
            run: None,
        },
        stored_at: Timestamp::UNIX_EPOCH,
        facts: facts.iter().enumerate().map(fact).collect(),
        found: Findings::default(),
        report: JobReport { class: Some("stint".to_owned()), ..JobReport::default() },
    }
}

#[tokio::test]
async fn the_api_says_why_a_job_waits_what_would_have_to_change_and_about_how_long_it_takes() {
    let memory = Arc::new(Memory::default());
    let queued = |second| [(JobAction::Queued, second)];
    let ran = [(JobAction::Queued, 0), (JobAction::InProgress, 10), (JobAction::Completed, 250)];
    *memory.jobs.lock().unwrap() = vec![
        job("8", "build", &queued(300)),
        job("9", "test", &queued(301)),
        job("7", "build", &ran),
        Job {
            report: JobReport { reason: Some("NoPlace".to_owned()), ..JobReport::default() },
            ..job("6", "lint", &queued(302))
        },
    ];
    let full = || Reason::LimitReached {
        limit: "app".to_owned(),
        group: String::new(),
        what: Capped::Runners,
        used: 2,
        cap: 2,
        needs: 1,
    };
    let reasons = ["8", "9"].map(|id| (JobKey { id: id.to_owned(), ..key() }, Arc::new(full()))).into();
    let waiting = watch::Sender::new(Arc::new(Waiting { reasons, line: Vec::new() }));
    let state = api::ApiState { waiting: waiting.subscribe(), ..api_state(&memory) };
    let server = Server::start(api::router(state)).await;
    let ask = async |of: &str| {
        let url = reqwest::Url::parse_with_params(&server.url("/api/v1/why"), [("of", of)]).unwrap();
        let answer = client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = ask("https://github.com/acme/app/actions/runs/5/job/9?pr=1#step:2:1").await;
    assert_eq!(status, 200, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said[0]["key"], "acme-9-1");
    assert_eq!(said[0]["why"], "limit app: 2 of 2 runners are in use, and the job needs 1");
    let remedy = said[0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("kubectl edit concurrencylimit app: raise spec.max.runners"), "{remedy}");
    assert_eq!(said[0]["inLine"], json!({"rank": 2, "of": 2, "what": "limit app"}));
    // Two runners of four minutes each: two have ended after that time.
    assert_eq!(
        (&said[0]["wait"], &said[0]["page"]),
        (&json!("about 4 min"), &json!("docs/errors/LimitReached.md"))
    );

    let named: Value = serde_json::from_str(&ask("build").await.1).unwrap();
    let keys: Vec<&str> = named.as_array().unwrap().iter().filter_map(|one| one["key"].as_str()).collect();
    assert_eq!(keys, ["acme-8-1", "acme-7-1"], "those that wait come first");
    // Of what no pass has looked at yet, the code alone is known.
    let stored: Value = serde_json::from_str(&ask("lint").await.1).unwrap();
    assert_eq!((&stored[0]["why"], &stored[0]["wait"]), (&json!("There is no place to run"), &Value::Null));
    assert_eq!(ask("nothing like it").await.0, 404);
    assert_eq!(ask(" ").await.0, 400);
}

#[tokio::test]
async fn the_api_answers_to_local_names_alone() {
    let memory = Arc::new(Memory::default());
    let server = Server::start(api::router(api_state(&memory))).await;
    for (host, status) in [
        ("localhost:8080", "200"),
        ("[::1]:1", "200"),
        ("127.0.0.1", "200"),
        ("evil.example:8080", "403"),
        ("", "403"),
    ] {
        let request = format!("GET /api/v1/ledger HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}

/// A server whose only path answers once it is told to.
async fn slow(limits: ServeLimits) -> (Server, Arc<Notify>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (begun.clone(), go.clone());
    let handler = get(async move || {
        begins.notify_one();
        goes.notified().await;
        "done"
    });
    (Server::with_limits(Router::new().route("/slow", handler), limits).await, begun, go)
}

#[tokio::test]
async fn a_connection_without_a_whole_header_is_closed_in_time() {
    let limits = ServeLimits { header: Duration::from_millis(100), ..ServeLimits::default() };
    let server = Server::with_limits(Router::new().route("/", get(async || "hello")), limits).await;
    let begun = Instant::now();
    for start in ["", "GET / HTTP/1.1\r\nhost: x\r\n", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
        // The last one is whole: its connection is then kept for another request, which does not come.
        let answer = exchange(&server, start.as_bytes()).await;
        assert_eq!(answer.contains("hello"), start.ends_with("\r\n\r\n"), "{answer}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_stopped_server_finishes_what_is_in_flight_and_takes_no_more() {
    let (mut server, begun, go) = slow(ServeLimits::default()).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    server.stop.cancel();
    assert_eq!(read_to_end(&mut idle).await, "", "an idle connection is closed at once");
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "nothing is accepted");
    go.notify_one();
    assert!(read_to_end(&mut busy).await.ends_with("done"));
    (&mut server.ended).await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_cuts_off_what_outlasts_the_grace() {
    let (mut server, begun, _go) =
        slow(ServeLimits { grace: Duration::from_millis(50), ..ServeLimits::default() }).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    server.stop.cancel();
    (&mut server.ended).await.unwrap();
    assert_eq!(read_to_end(&mut busy).await, "");
}

#[tokio::test]
async fn a_thousand_idle_connections_hold_nothing_up() {
    let server = Server::start(Router::new().route("/", get(async || "hello"))).await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(server.connect().await);
    }
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn no_log_line_shows_a_token() {
    log_capture::begin();
    let (server, memory) = agents().await;
    *memory.store_trouble.lock().unwrap() = Some(CallErrorKind::Unavailable);
    let body = json!({ "event": "exiting", "logs": format!("token {TOKEN}") }).to_string();
    assert_eq!(report(&server, "stint-1", Some(TOKEN), body).await, 503);
    assert_eq!(report(&server, "stint-1", Some(TOKEN), format!("{{\"event\":\"{TOKEN}\"}}")).await, 400);
    assert_eq!(report(&server, "stint-2", Some(TOKEN), "").await, 401);
    let text = log_capture::lines();
    assert!(text.contains("call-back not stored"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
