//! Call-backs to Stint: best effort, in order, never in the job's way.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::config::Config;
use super::output::Output;

const ATTEMPTS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(300);
/// How long the agent waits at its end for what is still to be sent.
const FLUSH: Duration = Duration::from_secs(10);

/// Sends call-backs, where any are wanted.
pub(crate) struct Callback {
    queue: Option<(mpsc::UnboundedSender<Value>, JoinHandle<()>)>,
}

impl Callback {
    pub(crate) fn start(config: &Config, client: Client, output: &Output) -> Self {
        let queue = config.callback.as_ref().map(|callback| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let url = format!("{}/agent/v1/runners/{}/events", callback.url, config.runner);
            let sending = send_all(client, url, callback.token.clone(), receiver, output.clone());
            (sender, tokio::spawn(sending))
        });
        Self { queue }
    }

    pub(crate) fn send(&self, event: &str, exit_code: Option<i32>, logs: Option<String>) {
        let mut body = json!({ "event": event });
        if let Some(code) = exit_code {
            body["exitCode"] = json!(code);
        }
        if let Some(logs) = logs {
            body["logs"] = json!(logs);
        }
        if let Some((queue, _)) = &self.queue {
            // Fails only when the sending task has died, and then nobody is listening.
            let _ = queue.send(body);
        }
    }

    /// Waits, within bounds, until everything has been sent.
    pub(crate) async fn flush(self) {
        if let Some((queue, task)) = self.queue {
            drop(queue);
            let _ = tokio::time::timeout(FLUSH, task).await;
        }
    }
}

async fn send_all(
    client: Client,
    url: String,
    token: String,
    mut queue: mpsc::UnboundedReceiver<Value>,
    output: Output,
) {
    while let Some(body) = queue.recv().await {
        for attempt in 1..=ATTEMPTS {
            let sent = client.post(&url).bearer_auth(&token).timeout(TIMEOUT).json(&body).send().await;
            let problem = match sent {
                Ok(answer) if answer.status().is_success() => break,
                // Refused for what it is: the same again would be refused again.
                Ok(answer) if answer.status().is_client_error() && answer.status().as_u16() != 429 => {
                    output.line(&format!("call-back {} was refused: {}", body["event"], answer.status()));
                    break;
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.without_url().to_string(),
            };
            output.line(&format!("call-back {} failed ({attempt} of {ATTEMPTS}): {problem}", body["event"]));
            tokio::time::sleep(PAUSE * attempt).await;
        }
    }
}
