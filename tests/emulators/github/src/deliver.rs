//! Sends webhooks: builds the body, signs it, posts it, records how it went.
//!
//! Headers are those of GitHub's page "Webhook events and payloads".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use emulator_common::ids::guid;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use serde_json::{Value, json};

use crate::crypto::{webhook_signature, webhook_signature_sha1};
use crate::hooks::{Attempt, Delivery, Hook, HookKind};
use crate::payload::time;
use crate::shared::Shared;
use crate::state::Event;

/// The most of a receiver's answer that is kept.
const KEPT_OF_ANSWER: usize = 8 * 1024;

impl Shared {
    /// Sends an event to every hook that hears it.
    pub(crate) fn dispatch(self: &Arc<Self>, event: &Event) {
        for hook in self.hooks.all() {
            if hook.hears(event) {
                self.dispatch_to(&hook, event);
            }
        }
    }

    fn dispatch_to(self: &Arc<Self>, hook: &Hook, event: &Event) {
        let fate = self.hooks.fate(event);
        if fate.lost {
            return;
        }
        let attempt = self.attempt(hook, event);
        if let Some(status_code) = fate.failed {
            let failed = self.failed(hook, attempt, status_code, "failed to connect", Duration::ZERO);
            self.hooks.record(failed);
            return;
        }
        if let Some(pause) = fate.duplicate {
            let (shared, attempt) = (Arc::clone(self), attempt.clone());
            self.runtime.spawn(async move {
                tokio::time::sleep(pause + fate.delay).await;
                shared.send(attempt).await;
            });
        }
        let chain = match event.job {
            // A delivery that is held back shall be overtaken.
            Some(job) if fate.delay.is_zero() && !fate.held => Some(self.hooks.chain(hook.id, job)),
            Some(_) | None => None,
        };
        if let Some(job) = event.job.filter(|_| event.action.as_deref() == Some("completed")) {
            self.hooks.unchain(hook.id, job);
        }
        let held = fate.held.then(|| self.hooks.release.subscribe());
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Some(mut released) = held
                && released.changed().await.is_err()
            {
                return;
            }
            tokio::time::sleep(fate.delay).await;
            let (before, _end) = chain.unzip();
            if let Some(before) = before.flatten() {
                // Ends when the sender is dropped, which is an error by type only.
                let _ = before.await;
            }
            shared.send(attempt).await;
        });
    }

    fn attempt(&self, hook: &Hook, event: &Event) -> Attempt {
        let (installation, repository) = self.read(|state| {
            let owner = event.owner.as_ref().and_then(|key| state.owners.get(key));
            let repository = event.repository.as_ref().and_then(|key| state.repositories.get(key));
            (owner.map(|owner| owner.installation), repository.map(|repository| repository.id))
        });
        let of_app = hook.kind == HookKind::App;
        let body = match (installation, event.payload.strip_suffix('}')) {
            (Some(id), Some(open)) if of_app && event.with_installation => format!(
                "{open},\"installation\":{{\"id\":{id},\"node_id\":\"MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9u{id}\"}}}}"
            ),
            (Some(_) | None, _) => event.payload.clone(),
        };
        Attempt {
            hook: hook.id,
            guid: guid(),
            event: event.name.clone(),
            action: event.action.clone(),
            job: event.job,
            installation: installation.filter(|_| of_app),
            repository,
            body: Bytes::from(body),
            redelivery: false,
        }
    }

    /// Sends a delivery again under its GUID.
    ///
    /// # Errors
    /// There is no such delivery (any more), or its hook is gone.
    pub(crate) fn redeliver(self: &Arc<Self>, id: u64) -> anyhow::Result<()> {
        let Some(old) = self.recent_deliveries(|delivery| delivery.id == id).pop() else {
            anyhow::bail!("there is no delivery {id}");
        };
        if self.hooks.hook(old.attempt.hook).is_none() {
            anyhow::bail!("the hook of delivery {id} is gone");
        }
        let attempt = Attempt { redelivery: true, ..old.attempt };
        let shared = Arc::clone(self);
        self.runtime.spawn(async move { shared.send(attempt).await });
        Ok(())
    }

    /// Deliveries that GitHub would still list, newest first.
    pub(crate) fn recent_deliveries(&self, mut keep: impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        let oldest = self.clock.now().checked_sub(self.options.timing.delivery_retention);
        let oldest = oldest.unwrap_or(Timestamp::MIN);
        self.hooks.deliveries(|delivery| delivery.delivered_at >= oldest && keep(delivery))
    }

    /// Makes one attempt and records it.
    pub(crate) async fn send(self: &Arc<Self>, attempt: Attempt) {
        let Some(hook) = self.hooks.hook(attempt.hook) else { return };
        let headers = self.headers(&hook, &attempt);
        // An error means that the emulator ends.
        let Ok(_room) = self.hooks.room.acquire().await else { return };
        let since = Instant::now();
        let sent = self
            .client
            .post(&hook.url)
            .headers(headers.clone())
            .body(attempt.body.clone())
            .timeout(self.options.timing.delivery_timeout)
            .send()
            .await;
        let delivery = match sent {
            Ok(response) => {
                let status = response.status();
                let response_headers = visible(response.headers());
                let mut body = response.text().await.unwrap_or_default();
                body.truncate(body.floor_char_boundary(KEPT_OF_ANSWER));
                let ok = status.is_success() || status.is_redirection();
                Delivery {
                    id: self.change(|state, _| state.next("delivery")),
                    delivered_at: self.clock.now(),
                    duration: since.elapsed(),
                    status: if ok {
                        "OK".to_owned()
                    } else {
                        format!("Invalid HTTP Response: {}", status.as_u16())
                    },
                    status_code: status.as_u16(),
                    url: hook.url.clone(),
                    request_headers: visible(&headers),
                    response_headers,
                    response_body: body,
                    attempt,
                }
            }
            Err(error) if error.is_timeout() => {
                self.failed(&hook, attempt, 504, "timed out", since.elapsed())
            }
            Err(error) => {
                tracing::debug!(%error, url = hook.url, "a webhook was not delivered");
                self.failed(&hook, attempt, 502, "failed to connect to host", since.elapsed())
            }
        };
        self.hooks.record(delivery);
        self.announce();
    }

    fn failed(
        self: &Arc<Self>,
        hook: &Hook,
        attempt: Attempt,
        status_code: u16,
        status: &str,
        took: Duration,
    ) -> Delivery {
        Delivery {
            id: self.change(|state, _| state.next("delivery")),
            delivered_at: self.clock.now(),
            duration: took,
            status: status.to_owned(),
            status_code,
            url: hook.url.clone(),
            request_headers: visible(&self.headers(hook, &attempt)),
            response_headers: BTreeMap::new(),
            response_body: String::new(),
            attempt,
        }
    }

    fn headers(&self, hook: &Hook, attempt: &Attempt) -> HeaderMap {
        let (target, kind) = match &hook.kind {
            HookKind::App => (self.options.app_id, "integration"),
            HookKind::Organization(login) => {
                let id = self.read(|state| state.owners.get(&login.to_lowercase()).map(|owner| owner.id));
                (id.unwrap_or_default(), "organization")
            }
            HookKind::Repository(full) => {
                let key = full.to_lowercase();
                let id = self.read(|state| state.repositories.get(&key).map(|repository| repository.id));
                (id.unwrap_or_default(), "repository")
            }
        };
        let mut fields = vec![
            ("x-github-event", attempt.event.clone()),
            ("x-github-delivery", attempt.guid.clone()),
            ("x-github-hook-id", hook.id.to_string()),
            ("x-github-hook-installation-target-id", target.to_string()),
            ("x-github-hook-installation-target-type", kind.to_owned()),
        ];
        if !hook.secret.is_empty() {
            fields.push(("x-hub-signature", webhook_signature_sha1(&hook.secret, &attempt.body)));
            fields.push(("x-hub-signature-256", webhook_signature(&hook.secret, &attempt.body)));
        }
        if let Some(version) = &self.options.enterprise_version {
            fields.push(("x-github-enterprise-version", version.clone()));
            fields.push(("x-github-enterprise-host", self.host()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("GitHub-Hookshot/5713b4e"));
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }

    /// Sends what GitHub sends when a hook is made.
    pub(crate) fn ping(self: &Arc<Self>, hook: &Hook) {
        let base = self.base();
        let (kind, path, owner, repository) = match &hook.kind {
            HookKind::App => ("App", "app/hook".to_owned(), None, None),
            HookKind::Organization(login) => {
                ("Organization", format!("orgs/{login}/hooks/{}", hook.id), Some(login.to_lowercase()), None)
            }
            HookKind::Repository(full) => {
                ("Repository", format!("repos/{full}/hooks/{}", hook.id), None, Some(full.to_lowercase()))
            }
        };
        let mut description = json!({
            "type": kind,
            "id": hook.id,
            "name": "web",
            "active": hook.active,
            "events": ["workflow_job"],
            "config": {"content_type": "json", "insecure_ssl": "0", "url": hook.url, "secret": "********"},
            "created_at": time(hook.created_at),
            "updated_at": time(hook.created_at),
            "url": format!("{base}/{path}"),
            "ping_url": format!("{base}/{path}/pings"),
            "deliveries_url": format!("{base}/{path}/deliveries"),
        });
        if hook.kind == HookKind::App {
            description["app_id"] = json!(self.options.app_id);
        }
        let mut payload = json!({"zen": "Half measures are as bad as nothing at all.", "hook_id": hook.id, "hook": description});
        self.read(|state| {
            if let Some(owner) = owner.as_ref().and_then(|key| state.owners.get(key)) {
                payload["organization"] = state.writer().organization(owner);
            }
            if let Some(key) = &repository {
                payload["repository"] = state.repository_json(key);
            }
            if hook.kind != HookKind::App {
                payload["sender"] = state.writer().sender();
            }
        });
        let payload = payload.to_string();
        let event = Event {
            name: "ping".to_owned(),
            action: None,
            payload,
            with_installation: false,
            job: None,
            owner,
            repository,
        };
        self.dispatch_to(hook, &event);
    }

    /// Sends a payload as it is to every hook that hears it, with a valid signature.
    pub(crate) fn send_raw(self: &Arc<Self>, event: &str, payload: &Value) {
        let action = payload["action"].as_str().map(str::to_owned);
        let lower = |value: &Value| value.as_str().map(str::to_lowercase);
        let repository = lower(&payload["repository"]["full_name"]);
        let owner =
            lower(&payload["organization"]["login"]).or(lower(&payload["repository"]["owner"]["login"]));
        let event = Event {
            name: event.to_owned(),
            action,
            payload: payload.to_string(),
            with_installation: false,
            job: None,
            owner,
            repository,
        };
        self.dispatch(&event);
    }
}

fn visible(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
