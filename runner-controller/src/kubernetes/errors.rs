//! kube's errors, as the ports' own, and deletion, for which one of them is none.

use kube::Error;

use crate::ports::{CallError, CallErrorKind, CallResult};

/// Translates an error of a call, with the name of what was called.
#[expect(clippy::wildcard_enum_match_arm, reason = "kube's error has many variants that mean the same here")]
pub(super) fn call_error(call: &str, error: &Error) -> CallError {
    let (kind, message) = match error {
        Error::Api(status) => {
            let kind = match status.code {
                404 => CallErrorKind::NotFound,
                408 => CallErrorKind::Unavailable,
                409 => CallErrorKind::Conflict,
                429 => {
                    let after =
                        status.details.as_ref().map(|details| details.retry_after_seconds).unwrap_or(0);
                    let after = std::time::Duration::from_secs(u64::from(after));
                    CallErrorKind::Throttled((!after.is_zero()).then_some(after))
                }
                400..=499 => CallErrorKind::Refused,
                _ => CallErrorKind::Unavailable,
            };
            (kind, format!("{} ({})", status.message, status.code))
        }
        // The call may have been carried out.
        Error::SerdeError(error) => (CallErrorKind::Unavailable, format!("unexpected answer: {error}")),
        other => (CallErrorKind::Unavailable, one_line(other)),
    };
    CallError::new(kind, format!("Kubernetes, {call}: {message}"))
}

/// An error with its causes on one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// Deletes an object; gone already is no error.
pub(super) async fn delete<K>(
    api: &kube::Api<K>,
    name: &str,
    params: &kube::api::DeleteParams,
) -> CallResult<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match api.delete(name, params).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let error = call_error("delete", &error);
            if error.kind == CallErrorKind::NotFound { Ok(()) } else { Err(error) }
        }
    }
}
