//! The stand-in agent against a small server that speaks both protocols: GitHub's emulated one and Stint's call-backs.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emulator_common::{ServeOptions, ServerHandle, Tls, serve};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::{AGENT, DEADLINE, certificate};

/// What the agent did, and what it gets.
#[derive(Debug, Default)]
struct Server {
    events: Vec<Value>,
    calls: Vec<String>,
    conclusion: Option<String>,
    messages: Vec<Value>,
    session_status: Option<u16>,
    callback_status: Option<u16>,
}

type Shared = Arc<Mutex<Server>>;

async fn answer(State(server): State<Shared>, headers: HeaderMap, request: Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let bearer = headers["authorization"].to_str().unwrap().to_owned();
    if call.ends_with("/message") {
        let next = {
            let mut server = server.lock().unwrap();
            (!server.messages.is_empty()).then(|| server.messages.remove(0))
        };
        return match next {
            Some(message) => Json(message).into_response(),
            None => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                StatusCode::NO_CONTENT.into_response()
            }
        };
    }
    let mut server = server.lock().unwrap();
    server.calls.push(call.clone());
    match call.as_str() {
        "POST /_agent/sessions" => {
            assert_eq!(bearer, "Bearer jit-token");
            match server.session_status {
                Some(status) => StatusCode::from_u16(status).unwrap().into_response(),
                None => (StatusCode::CREATED, Json(json!({ "sessionId": "s1" }))).into_response(),
            }
        }
        "POST /_agent/sessions/s1/jobs/7/complete" => {
            server.conclusion = body["conclusion"].as_str().map(str::to_owned);
            StatusCode::OK.into_response()
        }
        "POST /agent/v1/runners/r-1/events" => {
            assert_eq!(bearer, "Bearer callback-token");
            server.events.push(body);
            StatusCode::from_u16(server.callback_status.unwrap_or(204)).unwrap().into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

struct Scene {
    server: Shared,
    handle: ServerHandle,
    root: std::path::PathBuf,
    ca_file: &'static str,
}

impl Drop for Scene {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

impl Scene {
    async fn new(name: &str, server: Server) -> Self {
        Self::with_tls(name, server, None).await
    }

    async fn with_tls(name: &str, server: Server, tls: Option<Tls>) -> Self {
        let server = Arc::new(Mutex::new(server));
        let router = Router::new().fallback(answer).with_state(server.clone());
        let handle = serve(router, ServeOptions { tls, ..ServeOptions::default() }).await.unwrap();
        let root = std::env::temp_dir().join(format!("agent-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("run/stint")).unwrap();
        let json = |value: Value| STANDARD.encode(value.to_string());
        let jit = json(json!({
            ".runner": json(json!({ "serverUrl": handle.url })),
            ".credentials": json(json!({ "token": "jit-token" })),
        }));
        std::fs::write(root.join("run/stint/jitconfig"), jit).unwrap();
        std::fs::write(root.join("run/stint/callback-token"), "callback-token\n").unwrap();
        Self { server, handle, root, ca_file: "" }
    }

    fn agent(&self) -> Child {
        let environment = BTreeMap::from([
            ("STINT_RUNNER", "r-1".to_owned()),
            ("STINT_CALLBACK_URL", self.handle.url.clone()),
            ("EMULATED_ROOT", self.root.to_str().unwrap().to_owned()),
            // Absent when empty.
            ("STINT_CALLBACK_CA_FILE", self.ca_file.to_owned()),
        ]);
        let mut command = Command::new(AGENT);
        command.env_clear().envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// Runs the agent to its end; its output.
    async fn run(&self) -> (ExitStatus, String) {
        let mut child = self.agent();
        let _stdin = child.stdin.take();
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
        (output.status, String::from_utf8(output.stdout).unwrap())
    }

    fn events(&self) -> Vec<String> {
        let server = self.server.lock().unwrap();
        server.events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }
}

fn job(duration_ms: Option<u64>, conclusion: &str) -> Value {
    json!({
        "type": "job", "messageId": 1, "jobId": 7, "runId": 1, "attempt": 1, "name": "build", "repository": "acme/app",
        "script": { "durationMs": duration_ms, "conclusion": conclusion, "logLines": ["hello from the job"] },
    })
}

#[tokio::test]
async fn it_does_one_job_and_tells_of_it() {
    let scene =
        Scene::new("job", Server { messages: vec![job(Some(30), "failure")], ..Server::default() }).await;
    let (status, output) = scene.run().await;
    assert_eq!(status.code(), Some(0), "agents always exit with 0");
    assert!(output.contains("hello from the job"), "{output}");
    assert_eq!(scene.events(), ["booted", "job-started", "job-completed", "exiting"]);
    let server = scene.server.lock().unwrap();
    assert_eq!(server.conclusion.as_deref(), Some("failure"));
    assert_eq!(server.events[3]["exitCode"], 1);
    assert!(server.events[3]["logs"].as_str().unwrap().contains("hello from the job"));
    assert_eq!(server.calls.last().map(String::as_str), Some("POST /agent/v1/runners/r-1/events"));
    assert!(server.calls.contains(&"DELETE /_agent/sessions/s1".to_owned()));
}

#[tokio::test]
async fn a_job_can_be_cancelled_or_finished_from_outside() {
    for (message, conclusion) in [
        (json!({ "type": "cancel", "messageId": 2 }), "cancelled"),
        (json!({ "type": "finish", "messageId": 2, "conclusion": "failure" }), "failure"),
    ] {
        let server = Server { messages: vec![job(None, "success"), message], ..Server::default() };
        let scene = Scene::new(conclusion, server).await;
        scene.run().await;
        assert_eq!(scene.server.lock().unwrap().conclusion.as_deref(), Some(conclusion));
    }
}

#[tokio::test]
async fn a_used_or_deleted_registration_ends_it() {
    for (status, text) in
        [(404, "no longer exists on the server"), (409, "session for this runner already exists")]
    {
        let scene =
            Scene::new(&status.to_string(), Server { session_status: Some(status), ..Server::default() })
                .await;
        let (exit, output) = scene.run().await;
        assert_eq!(exit.code(), Some(0));
        assert!(output.contains(text), "{output}");
        assert_eq!(scene.events(), ["booted", "exiting"]);
        assert_eq!(scene.server.lock().unwrap().events[1]["exitCode"], 1);
    }
}

#[tokio::test]
async fn failing_call_backs_do_not_stop_a_job() {
    let server =
        Server { messages: vec![job(Some(0), "success")], callback_status: Some(401), ..Server::default() };
    let scene = Scene::new("refused", server).await;
    let (status, _) = scene.run().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(scene.server.lock().unwrap().conclusion.as_deref(), Some("success"));
}

#[tokio::test]
async fn sigterm_cancels_the_job() {
    let scene =
        Scene::new("term", Server { messages: vec![job(None, "success")], ..Server::default() }).await;
    let mut child = scene.agent();
    let _stdin = child.stdin.take();
    while !scene.events().contains(&"job-started".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    let server = scene.server.lock().unwrap();
    assert_eq!(server.conclusion.as_deref(), Some("cancelled"));
    assert_eq!(server.events.last().unwrap()["exitCode"], 130);
}

#[tokio::test]
async fn the_end_of_its_input_ends_it() {
    let scene = Scene::new("eof", Server::default()).await;
    let mut child = scene.agent();
    while scene.events().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(child.stdin.take());
    tokio::time::timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_private_ca_is_trusted_when_named() {
    let (tls, ca) = certificate();
    let server = Server { messages: vec![job(Some(0), "success")], ..Server::default() };
    let mut scene = Scene::with_tls("tls", server, Some(tls)).await;
    std::fs::write(scene.root.join("run/stint/ca.pem"), ca).unwrap();
    scene.ca_file = "/run/stint/ca.pem";
    let (_, output) = scene.run().await;
    assert_eq!(scene.events(), ["booted", "job-started", "job-completed", "exiting"], "{output}");
}
