//! The access token: got from the Azure SDK's credential, kept until shortly before it expires.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::http::{one_line, with_causes};
use crate::clock;
use crate::ports::{CallError, CallErrorKind, CallResult};

/// How long before its end a token is replaced.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// Access tokens of one credential for one audience.
#[derive(Debug)]
pub(super) struct Tokens {
    credential: Arc<dyn TokenCredential>,
    scope: String,
    timeout: Duration,
    /// Held while a token is fetched, so that those who wait share it.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    token: SecretString,
    expires_at: Timestamp,
}

impl Tokens {
    pub(super) fn new(credential: Arc<dyn TokenCredential>, audience: &str, timeout: Duration) -> Self {
        let scope = format!("{}/.default", audience.trim_end_matches('/'));
        Self { credential, scope, timeout, kept: Mutex::new(None) }
    }

    /// A token that is good for a while. Where no new one is to be had, one that is about to expire must do.
    pub(super) async fn get(&self) -> CallResult<SecretString> {
        let mut kept = self.kept.lock().await;
        let old =
            kept.as_ref().map(|kept| (kept.token.clone(), kept.expires_at.duration_since(clock::now())));
        match &old {
            Some((token, left)) if *left > RENEW_BEFORE => return Ok(token.clone()),
            Some(_) | None => {}
        }
        match self.fetch().await {
            Ok(new) => Ok(kept.insert(new).token.clone()),
            Err(error) => match old {
                Some((token, left)) if left > SignedDuration::ZERO => Ok(token),
                Some(_) | None => Err(error),
            },
        }
    }

    /// Forgets the token, which ARM did not take.
    pub(super) async fn discard(&self) {
        *self.kept.lock().await = None;
    }

    async fn fetch(&self) -> CallResult<Kept> {
        let scopes = [self.scope.as_str()];
        let fetching = tokio::time::timeout(self.timeout, self.credential.get_token(&scopes, None));
        let token = match fetching.await {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => {
                let message = format!("no access token: {}", one_line(&with_causes(&error)));
                return Err(CallError::new(kind_of(&error), message));
            }
            Err(_) => {
                let message = format!("no access token within {} s", self.timeout.as_secs());
                return Err(CallError::new(CallErrorKind::Unavailable, message));
            }
        };
        let expires_at = Timestamp::from_second(token.expires_on.unix_timestamp()).unwrap_or(Timestamp::MAX);
        Ok(Kept { token: SecretString::from(token.token.secret()), expires_at })
    }
}

/// What to make of a failed fetch. The SDK wraps the error that tells into ones that do not.
fn kind_of(error: &azure_core::Error) -> CallErrorKind {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<azure_core::Error>() {
            if let Some(status) = error.http_status() {
                return match u16::from(status) {
                    408 | 500.. => CallErrorKind::Unavailable,
                    429 => CallErrorKind::Throttled(None),
                    _ => CallErrorKind::Refused,
                };
            }
            if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Io) {
                return CallErrorKind::Unavailable;
            }
        }
        cause = error.source();
    }
    CallErrorKind::Refused
}
