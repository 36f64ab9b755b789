//! Sends notifications of service hooks as the consumer `webHooks` does, and notes how it went.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::hooks::Sending;
use crate::shared::Shared;

impl Shared {
    /// Sends one notification.
    pub(crate) fn send(self: &Arc<Self>, sending: Sending) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let status = shared.attempt(&sending).await;
            shared.change(|state, now| state.hooks.settle(sending.notification, status, now));
        });
    }

    /// The status that the receiver answers; nothing where there was no answer.
    async fn attempt(&self, sending: &Sending) -> Option<u16> {
        let input = |name: &str| sending.consumer.get(name).map(String::as_str).unwrap_or_default();
        let mut request = self
            .client
            .post(input("url"))
            .headers(headers(&sending.consumer))
            .body(sending.body.to_string())
            .timeout(self.options.timing.delivery_timeout);
        let (user, password) = (input("basicAuthUsername"), input("basicAuthPassword"));
        if !user.is_empty() || !password.is_empty() {
            request = request.basic_auth(user, Some(password));
        }
        match request.send().await {
            Ok(answer) => Some(answer.status().as_u16()),
            Err(error) => {
                tracing::debug!(%error, "a notification was not delivered");
                None
            }
        }
    }
}

fn headers(consumer: &BTreeMap<String, String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(USER_AGENT, HeaderValue::from_static("VSServices/19.0 (azure-devops-emulator)"));
    let own = consumer.get("httpHeaders").map(String::as_str).unwrap_or_default();
    for line in own.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.trim()), HeaderValue::try_from(value.trim()))
        {
            headers.insert(name, value);
        }
    }
    headers
}
