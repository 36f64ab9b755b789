//! ARM's errors: `{"error":{"code","message"}}` with a status and, where it helps, `Retry-After`.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use crate::groups::GroupKey;

/// An error as ARM answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArmError {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl ArmError {
    pub(crate) fn new(status: StatusCode, code: &str, message: String) -> Self {
        Self { status, code: code.to_owned(), message, retry_after: None }
    }

    pub(crate) fn bad_request(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message.into())
    }

    pub(crate) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message.into())
    }

    pub(crate) fn group_not_found(key: &GroupKey) -> Self {
        Self::not_found(
            "ResourceNotFound",
            format!(
                "The Resource 'Microsoft.ContainerInstance/containerGroups/{}' under resource group '{}' was not found. For \
                 more details please go to https://aka.ms/ARMResourceNotFoundFix",
                key.name, key.resource_group
            ),
        )
    }

    pub(crate) fn transitioning(name: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "ContainerGroupTransitioning",
            format!("The container group '{name}' is still transitioning, please retry later."),
        )
    }

    pub(crate) fn too_many(what: &str, wait: Duration) -> Self {
        let message = format!("{what} Please try again after '{}' seconds.", seconds(wait));
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).after(Some(wait))
    }

    pub(crate) fn unauthorized(code: &str, message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message.to_owned())
    }

    pub(crate) fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// Whole seconds for `Retry-After`: rounded up, at least one.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl IntoResponse for ArmError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(
                "Bearer authorization_uri=\"https://login.windows.net/common\", error=\"invalid_token\"",
            );
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
