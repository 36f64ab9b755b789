//! The GitHub emulator's own agent protocol: session, messages, completion.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Ended;
use super::config::Jit;

const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
const POLL_SECONDS: u64 = 20;

/// What a job's message says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    pub(crate) job_id: u64,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) repository: String,
    pub(crate) script: JobScript,
}

/// What the job does.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobScript {
    /// Until told, when absent.
    #[serde(default)]
    pub(crate) duration_ms: Option<u64>,
    #[serde(default = "success")]
    pub(crate) conclusion: String,
    #[serde(default)]
    pub(crate) log_lines: Vec<String>,
    /// What the agent's process exits with (an extra of the test's).
    #[serde(default)]
    pub(crate) process_exit: u8,
}

fn success() -> String {
    "success".to_owned()
}

/// A message of the session.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Job(Job),
    Cancel,
    Finish { conclusion: String },
    Other,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// The registration was deleted.
    Gone,
    /// The JIT config was used before.
    Conflict,
    Other(anyhow::Error),
}

/// An open session.
pub(crate) struct Session {
    client: Client,
    base: String,
    token: String,
    id: String,
    last_message: Cell<u64>,
    job: RefCell<Option<u64>>,
}

impl Session {
    pub(crate) async fn open(client: Client, jit: &Jit) -> Result<Self, SessionError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Opened {
            session_id: String,
        }
        let url = format!("{}/_agent/sessions", jit.server_url);
        let mut failure = anyhow!("no attempt was made");
        for attempt in 0..ATTEMPTS {
            tokio::time::sleep(PAUSE * attempt).await;
            let body = json!({ "os": "linux", "version": "2.336.0" });
            let sent =
                client.post(&url).bearer_auth(&jit.token).timeout(Duration::from_secs(10)).json(&body).send();
            let answer = match sent.await {
                Ok(answer) => answer,
                Err(error) => {
                    failure = error.into();
                    continue;
                }
            };
            match answer.status() {
                StatusCode::NOT_FOUND => return Err(SessionError::Gone),
                StatusCode::CONFLICT => return Err(SessionError::Conflict),
                status if status.is_success() => {
                    let opened: Opened =
                        answer.json().await.map_err(|error| SessionError::Other(error.into()))?;
                    return Ok(Self {
                        client,
                        base: jit.server_url.clone(),
                        token: jit.token.clone(),
                        id: opened.session_id,
                        last_message: Cell::new(0),
                        job: RefCell::new(None),
                    });
                }
                status => failure = anyhow!("the server answered {status}"),
            }
        }
        Err(SessionError::Other(failure))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/_agent/sessions/{}{path}", self.base, self.id);
        self.client.request(method, url).bearer_auth(&self.token)
    }

    /// The next message, or nothing when none came within the poll's time.
    ///
    /// # Errors
    /// The session or the registration is gone. Trouble of the network is waited out instead.
    pub(crate) async fn next_message(&self) -> Result<Option<Message>> {
        // Naming the last one makes the server repeat a message whose answer this agent did not wait for.
        let path = format!("/message?wait={POLL_SECONDS}&last={}", self.last_message.get());
        let timeout = Duration::from_secs(POLL_SECONDS + 10);
        let answer = match self.request(Method::GET, &path).timeout(timeout).send().await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                bail!("The runner registration no longer exists on the server.")
            }
            Ok(answer) if answer.status() == StatusCode::OK => answer,
            Ok(answer) if answer.status() == StatusCode::NO_CONTENT => return Ok(None),
            Ok(_) | Err(_) => {
                tokio::time::sleep(PAUSE * 3).await;
                return Ok(None);
            }
        };
        let Ok(message) = answer.json::<serde_json::Value>().await else { return Ok(None) };
        if let Some(number) = message["messageId"].as_u64() {
            self.last_message.set(number);
        }
        Ok(Some(match message["type"].as_str() {
            Some("job") => Message::Job(serde_json::from_value(message).context("reading the job")?),
            Some("cancel") => Message::Cancel,
            Some("finish") => {
                let conclusion = message["conclusion"].as_str().unwrap_or("success").to_owned();
                Message::Finish { conclusion }
            }
            Some(_) | None => Message::Other,
        }))
    }

    /// Notes the job that is being done, for [`Self::abandon`].
    pub(crate) fn take(&self, job: &Job) {
        self.job.replace(Some(job.job_id));
    }

    /// Shows the server what the job says; its logs are a courtesy, so trouble is ignored.
    pub(crate) async fn log(&self, job: &Job, lines: &[String]) {
        if !lines.is_empty() {
            let request = self.request(Method::POST, &format!("/jobs/{}/log", job.job_id));
            let _ = request.timeout(Duration::from_secs(5)).json(&json!({ "lines": lines })).send().await;
        }
    }

    pub(crate) async fn complete(&self, job: &Job, conclusion: &str) -> Result<()> {
        self.report(job.job_id, conclusion).await
    }

    async fn report(&self, job: u64, conclusion: &str) -> Result<()> {
        let mut failure = anyhow!("no attempt was made");
        for attempt in 0..ATTEMPTS {
            tokio::time::sleep(PAUSE * attempt).await;
            let body = json!({ "conclusion": conclusion });
            let request = self.request(Method::POST, &format!("/jobs/{job}/complete"));
            match request.timeout(Duration::from_secs(10)).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => {
                    self.job.replace(None);
                    return Ok(());
                }
                Ok(answer) if answer.status().is_client_error() => {
                    bail!("reporting the job's result was refused: {}", answer.status())
                }
                Ok(answer) => failure = anyhow!("the server answered {}", answer.status()),
                Err(error) => failure = error.into(),
            }
        }
        Err(failure.context("reporting the job's result"))
    }

    /// Cancels the job that is being done, if any, since the agent has to go.
    pub(crate) async fn abandon(&self) -> Option<Ended> {
        let job = *self.job.borrow();
        let conclusion = "cancelled".to_owned();
        // The container is about to be killed: one short attempt, without regard to what comes of it.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.report(job?, &conclusion)).await;
        Some(Ended { conclusion, process_exit: 0 })
    }

    /// Says good-bye; the server notices by itself when this fails.
    pub(crate) async fn close(&self) {
        let _ = self.request(Method::DELETE, "").timeout(Duration::from_secs(2)).send().await;
    }
}
