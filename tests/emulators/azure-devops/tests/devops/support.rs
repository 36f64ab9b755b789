//! What the tests share: a client of the API, a stand-in agent, a receiver of service hooks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use emulator_azure_devops::{AzureDevOps, AzureDevOpsHandle, Identity, Options, RequestId};
use emulator_common::{ServeOptions, ServerHandle, serve};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

pub const PAT: &str = "pat-of-the-tests";
pub const SOON: Duration = Duration::from_secs(10);
/// The job event, as subscriptions name it.
pub const JOB_EVENT: &str = "ms.vss-pipelines.job-state-changed-event";

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The exception's name of an error.
    pub fn kind(&self) -> &str {
        self.body["typeKey"].as_str().unwrap_or_default()
    }

    /// The field of every item of a list.
    pub fn each(&self, field: &str) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["value"].as_array().unwrap().iter().map(|one| one[field].clone()).collect()
    }
}

pub fn plain_http() -> reqwest::Client {
    let no_redirects = reqwest::redirect::Policy::none();
    reqwest::Client::builder().no_proxy().redirect(no_redirects).build().unwrap()
}

/// An emulator with a client that shows a personal access token.
pub struct World {
    pub devops: AzureDevOpsHandle,
    pub http: reqwest::Client,
}

pub async fn world(options: Options) -> World {
    let identities = vec![Identity::pat("controller", PAT)];
    let devops = AzureDevOps::start(Options { identities, ..options }).await.unwrap();
    World { devops, http: plain_http() }
}

impl World {
    /// A request for a path below the organization, without credentials.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.devops.organization_url()))
    }

    /// Calls the API in its newest version.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, path).basic_auth("", Some(PAT));
        let request = request.header("accept", "application/json;api-version=7.2-preview");
        answer(body.iter().fold(request, |request, body| request.json(body))).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// A path below the pool `Default`.
    pub fn pool(&self, path: &str) -> String {
        format!("/_apis/distributedtask/pools/{}{path}", self.devops.pool_id("Default").unwrap())
    }

    /// The unfinished requests of the pool `Default`.
    pub async fn requests(&self) -> Answer {
        self.get(&self.pool("/jobrequests?completedRequestCount=0")).await
    }

    /// An agent of the pool `Default`, connected.
    pub async fn agent(&self, name: &str, capabilities: &[(&str, &str)]) -> Agent {
        let token = self.register(name, capabilities, false).await;
        self.connect(&token, false).await.unwrap()
    }

    /// An agent that leaves after one job.
    pub async fn agent_once(&self, name: &str, capabilities: &[(&str, &str)]) -> Agent {
        let token = self.register(name, capabilities, false).await;
        self.connect(&token, true).await.unwrap()
    }

    pub async fn register(&self, name: &str, capabilities: &[(&str, &str)], replace: bool) -> String {
        let capabilities: Value =
            capabilities.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let body = json!({"pool": "Default", "name": name, "capabilities": capabilities, "replace": replace});
        let url = format!("{}/_agent/agents", self.devops.url());
        let made = answer(self.http.post(url).basic_auth("", Some(PAT)).json(&body)).await;
        assert_eq!(made.status, 200, "{made:?}");
        made.body["token"].as_str().unwrap().to_owned()
    }

    /// Opens a session; the status where it is refused.
    pub async fn connect(&self, token: &str, once: bool) -> Result<Agent, u16> {
        let sessions = format!("{}/_agent/sessions", self.devops.url());
        let request = self.http.post(&sessions).bearer_auth(token).json(&json!({"once": once}));
        let opened = answer(request).await;
        if opened.status != 201 {
            return Err(opened.status);
        }
        let session = format!("{sessions}/{}", opened.body["sessionId"].as_str().unwrap());
        let id = opened.body["agentId"].as_u64().unwrap();
        Ok(Agent { id, http: self.http.clone(), session, token: token.to_owned() })
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_default();
    Answer { status, headers, text, body }
}

/// The stand-in agent.
pub struct Agent {
    pub id: u64,
    http: reqwest::Client,
    session: String,
    token: String,
}

impl Agent {
    /// The next message, if one comes within `wait` seconds; the status otherwise.
    pub async fn message(&self, wait: u64) -> Result<Value, u16> {
        let url = format!("{}/message?wait={wait}", self.session);
        let got = answer(self.http.get(url).bearer_auth(&self.token)).await;
        if got.status == 200 { Ok(got.body) } else { Err(got.status) }
    }

    /// The request of the job that comes within ten seconds.
    pub async fn job(&self) -> RequestId {
        let message = self.message(10).await.unwrap();
        assert_eq!(message["type"], "job", "{message}");
        message["requestId"].as_u64().unwrap()
    }

    async fn post(&self, path: String, body: Value) -> u16 {
        let url = format!("{}{path}", self.session);
        answer(self.http.post(url).bearer_auth(&self.token).json(&body)).await.status
    }

    pub async fn complete(&self, request: RequestId, result: &str) -> u16 {
        self.post(format!("/jobs/{request}/complete"), json!({"result": result})).await
    }

    pub async fn log(&self, request: RequestId, lines: &[&str]) -> u16 {
        self.post(format!("/jobs/{request}/log"), json!({"lines": lines})).await
    }

    pub async fn leave(&self) -> u16 {
        answer(self.http.delete(&self.session).bearer_auth(&self.token)).await.status
    }
}

/// What a receiver of service hooks got.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Value,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Name, state and result of the job.
    pub fn job(&self) -> (String, String, Value) {
        let job = &self.body["resource"]["job"];
        let text = |field: &str| job[field].as_str().unwrap().to_owned();
        (text("name"), text("state"), job["result"].clone())
    }
}

#[derive(Default)]
struct Inbox {
    seen: Mutex<Vec<Received>>,
    /// What the next ones are answered; then 200.
    answers: Mutex<VecDeque<u16>>,
    came: Notify,
}

/// A receiver of service hooks.
pub struct Receiver {
    server: ServerHandle,
    inbox: Arc<Inbox>,
}

impl Receiver {
    pub async fn start() -> Self {
        let inbox = Arc::new(Inbox::default());
        let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&inbox));
        Self { server: serve(router, ServeOptions::default()).await.unwrap(), inbox }
    }

    pub fn url(&self) -> String {
        format!("{}/hook", self.server.url)
    }

    /// Answers the next ones with these statuses.
    pub fn will_answer(&self, statuses: &[u16]) {
        self.inbox.answers.lock().unwrap().extend(statuses);
    }

    pub fn seen(&self) -> Vec<Received> {
        self.inbox.seen.lock().unwrap().clone()
    }

    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let all = async {
            loop {
                let came = self.inbox.came.notified();
                if self.seen().len() >= count {
                    return self.seen();
                }
                came.await;
            }
        };
        tokio::time::timeout(SOON, all)
            .await
            .unwrap_or_else(|_| panic!("{} of {count} came", self.seen().len()))
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, bytes: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&bytes).unwrap();
    inbox.seen.lock().unwrap().push(Received { headers, body });
    let status = inbox.answers.lock().unwrap().pop_front().unwrap_or(200);
    inbox.came.notify_one();
    StatusCode::from_u16(status).unwrap()
}
