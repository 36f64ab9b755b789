//! What the tests of the emulator share: a client of its API, an agent, a receiver of webhooks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use emulator_common::{ServeOptions, ServerHandle, serve};
use emulator_github::{GitHub, GitHubControl, GitHubHandle, Options};
use serde_json::{Value, json};

pub const SECRET: &str = "a secret of the tests";
pub const SOON: Duration = Duration::from_secs(10);

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A client of the API that acts as the App, as its installation on `acme`, or with a token of choice.
pub struct Client {
    http: reqwest::Client,
    url: String,
    github: GitHubControl,
}

pub async fn emulator(options: Options) -> (GitHubHandle, Client) {
    let github = GitHub::start(options).await.unwrap();
    github.add_repository("acme/app", false).unwrap();
    let http = reqwest::Client::builder().user_agent("tests").no_proxy().build().unwrap();
    let client = Client { http, url: github.url().to_owned(), github: (*github).clone() };
    (github, client)
}

#[derive(serde::Serialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

impl Client {
    /// A JSON web token that expires `ahead` seconds from now.
    pub fn jwt(&self, ahead: i64) -> String {
        let now = self.github.clock().now().as_second();
        let claims = Claims { iat: now - 60, exp: now + ahead, iss: self.github.app_id().to_string() };
        sign(&claims, self.github.app_private_key_pem())
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Answer { status, headers, body }
    }

    pub async fn as_app(&self, method: &str, path: &str) -> Answer {
        self.call(method, path, &self.jwt(500), None).await
    }

    /// A token of the installation on `owner`.
    pub async fn token(&self, owner: &str) -> String {
        let id = self.github.installation_id(owner);
        let answer = self.as_app("POST", &format!("/app/installations/{id}/access_tokens")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// Registers a runner with acme and gives its JIT config.
    pub async fn register(&self, name: &str, labels: &[&str]) -> String {
        self.register_at("/orgs/acme", name, labels).await
    }

    pub async fn register_at(&self, scope: &str, name: &str, labels: &[&str]) -> String {
        let token = self.token("acme").await;
        let body = json!({"name": name, "runner_group_id": 1, "labels": labels});
        let path = format!("{scope}/actions/runners/generate-jitconfig");
        let answer = self.call("POST", &path, &token, Some(body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["encoded_jit_config"].as_str().unwrap().to_owned()
    }

    pub async fn connect(&self, name: &str, labels: &[&str]) -> Agent {
        Agent::connect(&self.register(name, labels).await).await.unwrap()
    }
}

fn sign<T: serde::Serialize>(claims: &T, pem: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256), claims, &key).unwrap()
}

/// The stand-in agent.
pub struct Agent {
    http: reqwest::Client,
    session: String,
    token: String,
}

impl Agent {
    /// Opens a session with a JIT config; the status where it is refused.
    pub async fn connect(config: &str) -> Result<Self, u16> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let files: Value = serde_json::from_slice(&STANDARD.decode(config).unwrap()).unwrap();
        let file = |name: &str| -> Value {
            serde_json::from_slice(&STANDARD.decode(files[name].as_str().unwrap()).unwrap()).unwrap()
        };
        let url = file(".runner")["serverUrl"].as_str().unwrap().to_owned();
        let token = file(".credentials")["data"]["token"].as_str().unwrap().to_owned();
        let sessions = format!("{url}/_agent/sessions");
        let answer =
            http.post(&sessions).bearer_auth(&token).json(&json!({"os": "linux"})).send().await.unwrap();
        if answer.status() != 201 {
            return Err(answer.status().as_u16());
        }
        let body: Value = answer.json().await.unwrap();
        let session = format!("{sessions}/{}", body["sessionId"].as_str().unwrap());
        Ok(Self { http, session, token })
    }

    /// The next message, if one comes within `wait` seconds; the status otherwise.
    pub async fn message(&self, wait: u64) -> Result<Value, u16> {
        self.poll(format!("{}/message?wait={wait}", self.session)).await
    }

    /// The next message after number `last`.
    pub async fn message_after(&self, last: u64, wait: u64) -> Result<Value, u16> {
        self.poll(format!("{}/message?wait={wait}&last={last}", self.session)).await
    }

    async fn poll(&self, url: String) -> Result<Value, u16> {
        let answer = self.http.get(url).bearer_auth(&self.token).send().await.unwrap();
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        Ok(answer.json().await.unwrap())
    }

    pub async fn complete(&self, job: u64, conclusion: &str) -> u16 {
        let url = format!("{}/jobs/{job}/complete", self.session);
        let body = json!({"conclusion": conclusion});
        self.http.post(url).bearer_auth(&self.token).json(&body).send().await.unwrap().status().as_u16()
    }

    pub async fn log(&self, job: u64, lines: &[&str]) -> u16 {
        let url = format!("{}/jobs/{job}/log", self.session);
        let body = json!({"lines": lines});
        self.http.post(url).bearer_auth(&self.token).json(&body).send().await.unwrap().status().as_u16()
    }

    pub async fn leave(&self) -> u16 {
        self.http.delete(&self.session).bearer_auth(&self.token).send().await.unwrap().status().as_u16()
    }
}

/// A webhook as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub body: Value,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A receiver of webhooks.
pub struct Receiver {
    pub server: ServerHandle,
    seen: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&seen));
        Self { server: serve(router, ServeOptions::default()).await.unwrap(), seen }
    }

    pub fn url(&self) -> String {
        format!("{}/hook", self.server.url)
    }

    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }

    /// The actions of all `workflow_job` events so far.
    pub fn actions(&self) -> Vec<String> {
        let of_jobs = self.seen().into_iter().filter(|one| one.header("x-github-event") == "workflow_job");
        of_jobs.map(|one| one.body["action"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        for _ in 0..400 {
            if self.seen.lock().unwrap().len() >= count {
                return self.seen();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{} of {count} webhooks came: {:?}", self.seen().len(), self.actions());
    }
}

async fn receive(
    State(seen): State<Arc<Mutex<Vec<Received>>>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> StatusCode {
    let body = serde_json::from_slice(&bytes).unwrap();
    seen.lock().unwrap().push(Received { headers, bytes, body });
    StatusCode::OK
}
