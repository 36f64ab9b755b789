//! The few requests that the supervisor itself makes: is a server healthy, is a node ready, make a node.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::Value;

/// A client of the cluster's servers, with the admin's token.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    url: String,
    token: String,
}

impl Api {
    pub(super) fn new(url: String, ca_certificate: &str, token: String) -> Result<Self> {
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(ca_certificate.as_bytes())?])
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self { client, url, token })
    }

    /// Whether the API server answers that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        self.get("/readyz").await.is_some()
    }

    /// Whether another server of the cluster answers that it is healthy.
    pub(super) async fn is_healthy(&self, port: u16, path: &str) -> bool {
        let answer = self.client.get(format!("https://127.0.0.1:{port}{path}")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Whether an object exists.
    pub(super) async fn exists(&self, path: &str) -> bool {
        self.get(path).await.is_some()
    }

    /// Whether a node reports Ready and nothing of Kubernetes' own keeps pods away from it.
    pub(super) async fn node_takes_pods(&self, name: &str) -> bool {
        let Some(text) = self.get(&format!("/api/v1/nodes/{name}")).await else { return false };
        let Ok(node) = serde_json::from_str::<Value>(&text) else { return false };
        let list = |pointer| node.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        let ready = list("/status/conditions").any(|it| it["type"] == "Ready" && it["status"] == "True");
        let kept_away = list("/spec/taints")
            .any(|taint| taint["key"].as_str().is_some_and(|key| key.starts_with("node.kubernetes.io/")));
        ready && !kept_away
    }

    /// Creates an object.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<()> {
        let answer = self
            .client
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .json(object)
            .send()
            .await
            .with_context(|| format!("cannot create an object at {path}"))?;
        if answer.status() != StatusCode::CREATED {
            bail!("cannot create an object at {path}: {} {}", answer.status(), answer.text().await?);
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> Option<String> {
        let url = format!("{}{path}", self.url);
        let answer = self.client.get(url).bearer_auth(&self.token).send().await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
    }
}
