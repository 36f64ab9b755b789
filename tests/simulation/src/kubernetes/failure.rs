//! What the server answers a request that it does not carry out: a `Status`.

use serde_json::{Value, json};

use super::kinds::Kind;

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
    about: Option<(&'static Kind, String)>,
    retry_after: Option<u32>,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self { code, reason, message, about: None, retry_after: None }
    }

    fn about(self, kind: &'static Kind, name: &str) -> Self {
        Self { about: Some((kind, name.to_owned())), ..self }
    }

    pub(super) fn not_found(kind: &'static Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message).about(kind, name)
    }

    pub(super) fn no_namespace() -> Self {
        let message = format!("the simulated server has one namespace, {}", super::NAMESPACE);
        Self::new(404, "NotFound", message)
    }

    pub(super) fn no_such_path(path: &str) -> Self {
        Self::new(404, "NotFound", format!("the server could not find the requested resource: {path}"))
    }

    pub(super) fn already_exists(kind: &'static Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message).about(kind, name)
    }

    pub(super) fn conflict(kind: &'static Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    pub(super) fn modified(kind: &'static Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(super) fn invalid(kind: &'static Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {why}", kind.resource());
        Self::new(422, "Invalid", message).about(kind, name)
    }

    pub(super) fn bad_request(message: String) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The real server takes this for its own mistake, too.
    pub(super) fn version_on_creation() -> Self {
        Self::new(500, "", "resourceVersion should not be set on objects to be created".to_owned())
    }

    pub(super) fn method_not_allowed(method: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("the server does not allow {method} on the requested resource"),
        )
    }

    pub(super) fn unsupported_media_type(message: String) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(super) fn expired(message: String) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A version that this server has not reached.
    pub(super) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self { retry_after: Some(1), ..Self::new(504, "Timeout", message) }
    }

    pub(super) fn throttled(seconds: u32) -> Self {
        let message = "Too many requests, please try again later.".to_owned();
        Self { retry_after: Some(seconds), ..Self::new(429, "TooManyRequests", message) }
    }

    /// A fault, by its HTTP status.
    pub(super) fn of_code(code: u16) -> Self {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            409 => "Conflict",
            410 => "Expired",
            429 => return Self::throttled(1),
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        Self::new(code, reason, format!("the simulated server answers {code}"))
    }

    /// Seconds after which to try again.
    pub(super) fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// As the server says it.
    pub(super) fn status(&self) -> Value {
        let mut details = serde_json::Map::new();
        if let Some((kind, name)) = &self.about {
            details.insert("name".to_owned(), json!(name));
            details.insert("group".to_owned(), json!(kind.group));
            details.insert("kind".to_owned(), json!(kind.plural));
        }
        if let Some(seconds) = self.retry_after {
            details.insert("retryAfterSeconds".to_owned(), json!(seconds));
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "details": details, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        status
    }
}
