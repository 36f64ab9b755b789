//! The GitHub provider against a small server that answers as GitHub's documentation says.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

mod log_capture;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use runner_core::job::{JobAction, JobDescription, JobKey};
use runner_core::setup::Scope;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use stint::ports::{CallErrorKind, Deregistered, JobReading, Provider as _, Registration};
use stint::providers::github::{GitHubAuth, GitHubProvider, GitHubSettings, JIT_CONFIG_FILE};
use stint::web::serve::{ServeLimits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "ghs_canaryToken0123456789canaryToken01234";

#[derive(Clone, Debug)]
struct Seen {
    call: String,
    headers: HeaderMap,
    body: Value,
}

impl Seen {
    fn authorization(&self) -> &str {
        self.headers.get("authorization").map_or("", |value| value.to_str().unwrap())
    }
}

type Answers = Box<dyn Fn(&Seen, usize) -> Response + Send + Sync>;

/// A server that remembers what it was asked, and answers as the test says.
struct GitHub {
    seen: Mutex<Vec<Seen>>,
    answers: Answers,
}

impl GitHub {
    fn new(answers: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), answers: Box::new(answers) })
    }

    fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(record).with_state(self.clone())
    }

    async fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, self.router(), ServeLimits::default(), CancellationToken::new()));
        address
    }

    fn calls(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.call.clone()).collect()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

async fn record(State(github): State<Arc<GitHub>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = body.collect().await.unwrap().to_bytes();
    let seen = Seen {
        call: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let earlier = {
        let mut all = github.seen.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    (github.answers)(&seen, earlier)
}

fn reply(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

fn reply_with(status: u16, headers: &[(&'static str, &str)], message: &str) -> Response {
    let mut answer = reply(status, json!({ "message": message }));
    for (name, value) in headers {
        answer.headers_mut().insert(*name, value.parse().unwrap());
    }
    answer
}

fn made() -> Response {
    let runner = json!({ "id": 23, "name": "stint-1", "os": "unknown", "labels": "whatever" });
    reply(201, json!({ "runner": runner, "encoded_jit_config": "canary-jit-config" }))
}

fn settings(api_url: String) -> GitHubSettings {
    GitHubSettings { api_url, ..GitHubSettings::new(GitHubAuth::Token(SecretString::from(TOKEN))) }
}

async fn provider(github: &Arc<GitHub>) -> GitHubProvider {
    GitHubProvider::new(settings(format!("http://{}", github.start().await))).unwrap()
}

fn private_key() -> String {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap()
        .serialize_pem()
}

async fn app_provider(github: &Arc<GitHub>) -> GitHubProvider {
    let auth = GitHubAuth::App { app_id: 12, private_key: SecretString::from(private_key()) };
    let api_url = format!("http://{}", github.start().await);
    GitHubProvider::new(GitHubSettings { api_url, ..GitHubSettings::new(auth) }).unwrap()
}

fn organization() -> Scope {
    Scope::Owner("acme".to_owned())
}

fn repository() -> Scope {
    Scope::Repository("acme/app".to_owned())
}

fn registration(scope: Scope) -> Registration {
    Registration { scope, name: "stint-1".to_owned(), labels: vec!["stint".to_owned(), "linux".to_owned()] }
}

fn job(id: &str, attempt: u32) -> (JobKey, JobDescription) {
    let key = JobKey { source: "acme".to_owned(), id: id.to_owned(), attempt };
    let description = JobDescription {
        created_at: None,
        owner: "acme".to_owned(),
        repository: "acme/app".to_owned(),
        public: false,
        name: "build".to_owned(),
        workflow: None,
        url: None,
        labels: Vec::new(),
        run: Some("9".to_owned()),
        head_sha: None,
        head_branch: None,
    };
    (key, description)
}

#[tokio::test]
async fn a_runner_registers_at_its_organization_or_repository() {
    let github = GitHub::new(|_, _| made());
    let provider = provider(&github).await;
    let credential = provider.register(&registration(organization())).await.unwrap();
    assert_eq!(credential.runner_id, 23);
    assert_eq!(credential.files[JIT_CONFIG_FILE].expose_secret(), "canary-jit-config");
    assert!(!format!("{credential:?}").contains("canary"));
    provider.register(&registration(repository())).await.unwrap();
    assert_eq!(
        github.calls(),
        [
            "POST /orgs/acme/actions/runners/generate-jitconfig",
            "POST /repos/acme/app/actions/runners/generate-jitconfig",
        ]
    );
    let seen = github.last();
    let expect = json!({ "name": "stint-1", "runner_group_id": 1, "labels": ["stint", "linux"], "work_folder": "_work" });
    assert_eq!(seen.body, expect);
    assert_eq!(seen.authorization(), format!("Bearer {TOKEN}"));
    assert_eq!(seen.headers["accept"], "application/vnd.github+json");
    assert!(seen.headers["user-agent"].to_str().unwrap().starts_with("stint/"));
}

#[tokio::test]
async fn a_registration_is_sent_once_whatever_the_answer() {
    for status in [500, 502, 503, 408] {
        let github = GitHub::new(move |_, _| reply(status, json!({ "message": "oops" })));
        let provider = provider(&github).await;
        let error = provider.register(&registration(organization())).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
        assert_eq!(github.calls().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_success_that_cannot_be_read_may_have_registered() {
    for body in [json!({}), json!({ "runner": { "id": 0 }, "encoded_jit_config": "canary" }), json!("canary")]
    {
        let github = GitHub::new(move |_, _| reply(201, body.clone()));
        let error = provider(&github).await.register(&registration(organization())).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Unavailable);
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

async fn check_refusal(
    answer: impl Fn() -> Response + Send + Sync + 'static,
    kind: CallErrorKind,
    says: &str,
) {
    let github = GitHub::new(move |_, _| answer());
    let error = provider(&github).await.register(&registration(organization())).await.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(says), "{error}");
    assert!(!error.message.contains('\n') && !error.message.contains("canary"), "{error}");
}

#[tokio::test]
async fn refusals_are_classified_and_say_what_to_do() {
    let message = |status, text: &'static str| move || reply_with(status, &[], text);
    check_refusal(message(409, "Already exists"), CallErrorKind::Conflict, "Already exists").await;
    check_refusal(message(422, "Name\nis too long"), CallErrorKind::Refused, "Name is too long").await;
    check_refusal(message(401, "Bad credentials"), CallErrorKind::Refused, "not valid").await;
    check_refusal(
        message(403, "Resource not accessible"),
        CallErrorKind::Refused,
        "Self-hosted runners: write",
    )
    .await;
    check_refusal(message(404, "Not Found"), CallErrorKind::NotFound, "Self-hosted runners: write").await;
    check_refusal(message(301, "Moved"), CallErrorKind::Refused, "has moved").await;
    let leak = "bad token ghs_canaryToken0123456789canaryToken01234";
    check_refusal(message(422, leak), CallErrorKind::Refused, "[redacted]").await;
    let html = || (StatusCode::BAD_GATEWAY, "<html>").into_response();
    check_refusal(html, CallErrorKind::Unavailable, "502").await;
}

#[tokio::test]
async fn throttling_is_seen_in_all_its_forms() {
    let pause = |seconds| CallErrorKind::Throttled(Some(Duration::from_secs(seconds)));
    check_refusal(|| reply_with(429, &[("retry-after", "17")], "slow"), pause(17), "17 s").await;
    check_refusal(|| reply_with(403, &[("retry-after", "5")], "slow"), pause(5), "rate limit").await;
    let date = "Thu, 01 Jan 2026 00:00:00 GMT";
    let used_up = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767225720"), ("date", date)];
    check_refusal(move || reply_with(403, &used_up, "API rate limit exceeded"), pause(120), "120 s").await;
    let unsaid = CallErrorKind::Throttled(None);
    check_refusal(|| reply_with(429, &[], "slow"), unsaid, "after a pause").await;
    check_refusal(
        || reply_with(403, &[], "You have exceeded a secondary rate limit"),
        unsaid,
        "after a pause",
    )
    .await;
    check_refusal(|| reply_with(429, &[("retry-after", "0")], "slow"), pause(1), "1 s").await;
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let provider = GitHubProvider::new(settings(format!("http://{address}"))).unwrap();
    let error = provider.register(&registration(organization())).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_registration_is_deleted_unless_its_runner_is_busy() {
    for (status, message, expect) in [
        (204, "", Deregistered::Gone),
        (422, "Runner \"stint-1\" is still running a job", Deregistered::Busy),
    ] {
        let github = GitHub::new(move |_, _| reply_with(status, &[], message));
        let provider = provider(&github).await;
        assert_eq!(provider.deregister(&repository(), "stint-1", Some(23)).await.unwrap(), expect);
        assert_eq!(github.calls(), ["DELETE /repos/acme/app/actions/runners/23"]);
    }
    let github = GitHub::new(|_, _| reply_with(422, &[], "Validation failed"));
    let error = provider(&github).await.deregister(&organization(), "stint-1", Some(23)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
}

#[tokio::test]
async fn a_registration_without_an_id_is_found_by_its_exact_name() {
    let github = GitHub::new(|seen, _| match seen.call.starts_with("GET") {
        true => reply(
            200,
            json!({ "runners": [{ "id": 5, "name": "stint-10" }, { "id": 6, "name": "stint-1" }] }),
        ),
        false => reply(204, json!(null)),
    });
    let provider = provider(&github).await;
    assert_eq!(provider.deregister(&organization(), "stint-1", None).await.unwrap(), Deregistered::Gone);
    assert_eq!(
        github.calls(),
        [
            "GET /orgs/acme/actions/runners?name=stint-1&per_page=100&page=1",
            "DELETE /orgs/acme/actions/runners/6",
        ]
    );
    assert_eq!(provider.deregister(&organization(), "stint-2", None).await.unwrap(), Deregistered::Gone);
    assert_eq!(github.calls().len(), 3);
}

#[tokio::test]
async fn a_server_that_does_not_filter_by_name_is_paged_through() {
    let github = GitHub::new(|seen, _| {
        let page = |from: u64| (from..from + 100).map(|id| json!({ "id": id, "name": format!("r-{id}") }));
        match seen.call.as_str() {
            call if call.ends_with("page=1") => reply(200, json!({ "runners": page(0).collect::<Vec<_>>() })),
            call if call.ends_with("page=2") => {
                reply(200, json!({ "runners": [{ "id": 777, "name": "Stint-1" }] }))
            }
            _ => reply(204, json!(null)),
        }
    });
    let provider = provider(&github).await;
    assert_eq!(provider.deregister(&organization(), "stint-1", None).await.unwrap(), Deregistered::Gone);
    assert_eq!(github.last().call, "DELETE /orgs/acme/actions/runners/777");
}

#[tokio::test]
async fn a_deletion_that_finds_nothing_is_believed_only_where_runners_may_be_seen() {
    let hidden = GitHub::new(|_, _| reply_with(404, &[], "Not Found"));
    let error = provider(&hidden).await.deregister(&organization(), "stint-1", Some(23)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NotFound, "{error}");

    let shown = GitHub::new(|seen, _| match seen.call.starts_with("GET") {
        true => reply(200, json!({ "total_count": 0, "runners": [] })),
        false => reply_with(404, &[], "Not Found"),
    });
    let provider = provider(&shown).await;
    for _ in 0..2 {
        assert_eq!(
            provider.deregister(&organization(), "stint-1", Some(23)).await.unwrap(),
            Deregistered::Gone
        );
    }
    assert_eq!(shown.calls().len(), 3, "the second time it is known that runners may be seen");
}

async fn check_reading(
    id: &str,
    attempt: u32,
    body: Value,
    expect: Result<Option<JobReading>, CallErrorKind>,
) {
    let text = body.to_string();
    let github = GitHub::new(move |_, _| match body.as_u64() {
        Some(status) => reply(u16::try_from(status).unwrap(), json!({})),
        None => reply(200, body.clone()),
    });
    let (key, what) = job(id, attempt);
    let read = provider(&github).await.read_job(&key, &what).await;
    assert_eq!(read.map_err(|error| error.kind), expect, "{text}");
}

#[tokio::test]
async fn a_jobs_state_is_read() {
    let reading = |action| JobReading { action, runner: None, conclusion: None };
    for (status, action) in [
        ("queued", JobAction::Queued),
        ("waiting", JobAction::Waiting),
        ("requested", JobAction::Waiting),
        ("pending", JobAction::Waiting),
        ("in_progress", JobAction::InProgress),
    ] {
        let body = json!({ "id": 7, "status": status, "run_attempt": 1, "labels": {}, "runner_name": null });
        check_reading("7", 1, body, Ok(Some(reading(action)))).await;
    }
    let body = json!({
        "status": "completed", "conclusion": "success", "run_attempt": 1, "runner_id": 9, "runner_name": "stint-1"
    });
    let ended = JobReading {
        action: JobAction::Completed,
        runner: Some("stint-1".to_owned()),
        conclusion: Some("success".to_owned()),
    };
    check_reading("7", 1, body, Ok(Some(ended))).await;
    let cancelled = json!({ "status": "completed", "runner_id": 0, "runner_name": "" });
    check_reading("7", 1, cancelled, Ok(Some(reading(JobAction::Completed)))).await;
    check_reading("7", 1, json!(404), Ok(None)).await;
}

#[tokio::test]
async fn a_job_is_read_by_its_own_attempt() {
    let running =
        |attempt| json!({ "status": "in_progress", "run_attempt": attempt, "runner_name": "other" });
    let over = JobReading { action: JobAction::Completed, runner: None, conclusion: None };
    check_reading("7", 1, running(2), Ok(Some(over))).await;
    check_reading("7", 3, running(2), Err(CallErrorKind::Unavailable)).await;
    check_reading("x", 1, running(1), Err(CallErrorKind::Refused)).await;
    check_reading("7", 1, json!({ "status": "dreaming" }), Err(CallErrorKind::Unavailable)).await;
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_not_sent() {
    let github = GitHub::new(|_, _| made());
    let provider = provider(&github).await;
    for name in ["acme/../x", "acme", "acme/", "a b/c", "acme/app?x=1", "../app", "acme/.."] {
        let scope = Scope::Repository(name.to_owned());
        assert_eq!(
            provider.register(&registration(scope)).await.unwrap_err().kind,
            CallErrorKind::Refused,
            "{name}"
        );
    }
    assert!(github.calls().is_empty());
}

/// Answers as GitHub does to an App that is installed on `acme`, except on `acme/hidden`.
fn installed(seen: &Seen, minutes: i64) -> Response {
    match seen.call.as_str() {
        "GET /orgs/acme/installation" | "GET /repos/acme/app/installation" => reply(200, json!({ "id": 31 })),
        call if call.ends_with("/installation") => reply_with(404, &[], "Not Found"),
        "POST /app/installations/31/access_tokens" => {
            let expires = jiff_now() + jiff::SignedDuration::from_mins(minutes);
            reply(201, json!({ "token": TOKEN, "expires_at": expires.to_string(), "permissions": {} }))
        }
        call if call.contains("/actions/jobs/") => reply_with(404, &[], "Not Found"),
        _ => made(),
    }
}

fn jiff_now() -> jiff::Timestamp {
    stint::clock::now()
}

fn counts(calls: &[String]) -> BTreeMap<&str, usize> {
    calls.iter().fold(BTreeMap::new(), |mut counts, call| {
        *counts.entry(call.as_str()).or_default() += 1;
        counts
    })
}

#[tokio::test]
async fn an_apps_installation_and_its_token_are_found_once() {
    let github = GitHub::new(|seen, _| installed(seen, 60));
    let provider = app_provider(&github).await;
    for _ in 0..3 {
        provider.register(&registration(organization())).await.unwrap();
        provider.register(&registration(repository())).await.unwrap();
    }
    let calls = github.calls();
    let counts = counts(&calls);
    assert_eq!(counts["GET /orgs/acme/installation"], 1);
    assert!(!counts.contains_key("GET /repos/acme/app/installation"), "it is that of its account");
    assert_eq!(
        counts["POST /app/installations/31/access_tokens"], 1,
        "both scopes share the installation's token"
    );
    let seen = github.seen.lock().unwrap().clone();
    assert_eq!(seen[0].authorization().matches('.').count(), 2, "the installation is asked for with a JWT");
    assert_eq!(seen.last().unwrap().authorization(), format!("Bearer {TOKEN}"));
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_not_used_again() {
    let github = GitHub::new(|seen, _| installed(seen, 0));
    let provider = app_provider(&github).await;
    for _ in 0..2 {
        provider.register(&registration(organization())).await.unwrap();
    }
    assert_eq!(counts(&github.calls())["POST /app/installations/31/access_tokens"], 2);
}

#[tokio::test]
async fn an_app_that_is_not_installed_is_told_apart_from_a_job_that_is_not_there() {
    let github = GitHub::new(|seen, _| installed(seen, 60));
    let provider = app_provider(&github).await;
    let (key, mut what) = job("7", 1);
    assert_eq!(provider.read_job(&key, &what).await.unwrap(), None);
    what.repository = "acme/hidden".to_owned();
    let error = provider.read_job(&key, &what).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("not installed on acme/hidden"), "{error}");
}

#[tokio::test]
async fn an_installation_that_was_made_anew_is_found() {
    let github = GitHub::new(|seen, earlier| match seen.call.as_str() {
        "GET /orgs/acme/installation" => reply(200, json!({ "id": if earlier == 0 { 30 } else { 31 } })),
        "POST /app/installations/30/access_tokens" => reply_with(404, &[], "Not Found"),
        _ => installed(seen, 60),
    });
    let provider = app_provider(&github).await;
    let error = provider.register(&registration(organization())).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NotFound, "{error}");
    provider.register(&registration(organization())).await.unwrap();
}

#[tokio::test]
async fn a_throttled_token_request_is_throttling() {
    let github = GitHub::new(|seen, _| match seen.call.contains("access_tokens") {
        true => reply_with(403, &[("retry-after", "9")], "secondary rate limit"),
        false => installed(seen, 60),
    });
    let error = app_provider(&github).await.register(&registration(organization())).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Throttled(Some(Duration::from_secs(9))), "{error}");
}

#[tokio::test]
async fn rate_limits_are_remembered_by_resource() {
    let github = GitHub::new(|_, earlier| {
        let mut answer = made();
        let resource = if earlier == 0 { "core" } else { "actions_runner_registration" };
        for (name, value) in [
            ("x-ratelimit-resource", resource),
            ("x-ratelimit-remaining", "4999"),
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-reset", "1767225720"),
        ] {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    });
    let provider = provider(&github).await;
    for _ in 0..2 {
        provider.register(&registration(organization())).await.unwrap();
    }
    let limits = provider.rate_limits();
    let names: Vec<_> = limits.iter().map(|limit| limit.resource.as_str()).collect();
    assert_eq!(names, ["actions_runner_registration", "core"]);
    assert_eq!((limits[0].remaining, limits[0].limit), (4999, 5000));
    assert_eq!(limits[0].reset.as_second(), 1_767_225_720);
}

/// A proxy that remembers the head of each CONNECT and leads every one to `target`.
async fn proxy(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                let _closed = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, heads)
}

/// Serves over TLS with a certificate for `github.test` by an authority of its own, whose PEM is answered.
async fn start_tls(github: &Arc<GitHub>) -> (SocketAddr, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["github.test".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = github.router();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http = hyper::server::conn::http1::Builder::new();
                let _closed = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, authority.pem())
}

#[tokio::test]
async fn calls_go_through_the_proxy_with_its_login() {
    let github = GitHub::new(|_, _| made());
    let (address, heads) = proxy(github.start().await).await;
    let settings = GitHubSettings {
        proxy: Some(format!("http://user:canary%40@{address}")),
        ..settings("http://github.test".to_owned())
    };
    assert!(!format!("{settings:?}").contains("canary"), "{settings:?}");
    GitHubProvider::new(settings).unwrap().register(&registration(organization())).await.unwrap();
    let heads = heads.lock().unwrap().clone();
    let head = heads[0].to_ascii_lowercase();
    assert!(head.starts_with("connect github.test:80 "), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");
    let seen = github.last();
    assert_eq!(seen.call, "POST /orgs/acme/actions/runners/generate-jitconfig");
    assert!(!seen.headers.contains_key("proxy-authorization"), "the proxy's login is the proxy's alone");
}

#[tokio::test]
async fn tls_trusts_the_bundle_also_through_a_proxy() {
    let github = GitHub::new(|_, _| made());
    let (address, bundle) = start_tls(&github).await;
    let (proxy, heads) = proxy(address).await;
    let with = |ca_bundle| GitHubSettings {
        ca_bundle,
        proxy: Some(format!("http://{proxy}")),
        ..settings("https://github.test/api/v3".to_owned())
    };
    let trusting = GitHubProvider::new(with(Some(bundle))).unwrap();
    trusting.register(&registration(organization())).await.unwrap();
    assert_eq!(github.calls(), ["POST /api/v3/orgs/acme/actions/runners/generate-jitconfig"]);
    assert!(heads.lock().unwrap()[0].starts_with("CONNECT github.test:443 "));

    let (_, another) = start_tls(&github).await;
    let strict = GitHubProvider::new(with(Some(another))).unwrap();
    let error = strict.register(&registration(organization())).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable);
    assert!(error.message.to_lowercase().contains("certificate"), "{error}");
    assert_eq!(github.calls().len(), 1);
}

#[tokio::test]
async fn a_key_or_token_that_cannot_be_used_names_its_field_and_not_its_value() {
    let key = |pem: &str| GitHubAuth::App { app_id: 1, private_key: SecretString::from(pem) };
    let garbled = "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----\n";
    for (auth, field) in [
        (key(""), "privateKey"),
        (key("canary"), "privateKey"),
        (key(garbled), "privateKey"),
        (GitHubAuth::Token(SecretString::from("")), "token"),
    ] {
        assert!(!format!("{auth:?}").contains("canary"));
        let settings = GitHubSettings { api_url: "http://localhost".to_owned(), ..GitHubSettings::new(auth) };
        let Err(problem) = GitHubProvider::new(settings) else { panic!("{field} is accepted") };
        assert_eq!(problem.field, field);
        assert!(!problem.to_string().contains("canary"), "{problem}");
    }
}

#[tokio::test]
async fn no_log_line_shows_a_secret() {
    let github = GitHub::new(|seen, _| match seen.call.starts_with("DELETE") {
        true => reply_with(422, &[], &format!("no {TOKEN}")),
        false => installed(seen, 60),
    });
    log_capture::begin();
    let (proxy, _heads) = proxy(github.start().await).await;
    let key = private_key();
    let auth = GitHubAuth::App { app_id: 12, private_key: SecretString::from(key.as_str()) };
    let settings = GitHubSettings {
        api_url: "http://github.test".to_owned(),
        proxy: Some(format!("http://user:canary@{proxy}")),
        ..GitHubSettings::new(auth)
    };
    let provider = GitHubProvider::new(settings).unwrap();
    provider.register(&registration(organization())).await.unwrap();
    let error = provider.deregister(&organization(), "stint-1", Some(23)).await.unwrap_err();
    tracing::error!(%error, ?error, "as the loop would log it");
    let jwt = github.seen.lock().unwrap()[0].authorization().to_owned();
    let text = log_capture::lines();
    assert!(text.contains("as the loop would log it"), "{text}");
    let login = "dXNlcjpjYW5hcnk";
    for secret in ["canary", TOKEN, jwt.trim_start_matches("Bearer "), login, key.lines().nth(1).unwrap()] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}
