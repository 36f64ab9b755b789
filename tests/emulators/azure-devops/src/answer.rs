//! Answers as the service words them: errors with their exception's name, request bodies, queries.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// The exception's name, by which clients tell errors apart.
    type_key: &'static str,
    message: String,
}

/// What a route gives.
pub(crate) type Answer = Result<Response, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, type_key: &'static str, message: impl Into<String>) -> Self {
        Self { status, type_key, message: message.into() }
    }

    pub(crate) fn bad_request(type_key: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, type_key, message)
    }

    pub(crate) fn not_found(type_key: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, type_key, message)
    }

    /// There is nothing at this address.
    pub(crate) fn no_route(path: &str) -> Self {
        Self::not_found(
            "VssResourceNotFoundException",
            format!("The controller for path '{path}' was not found or does not implement it."),
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "$id": "1",
            "innerException": null,
            "message": self.message,
            "typeName": format!("Microsoft.TeamFoundation.{0}, Microsoft.TeamFoundation", self.type_key),
            "typeKey": self.type_key,
            "errorCode": 0,
            "eventId": 3000,
        });
        (self.status, Json(body)).into_response()
    }
}

/// 200 with a body.
pub(crate) fn ok(body: Value) -> Answer {
    Ok(Json(body).into_response())
}

/// A request's body.
pub(crate) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request("InvalidRequestContentException", format!("The body cannot be read: {error}"))
    })
}

/// The pairs of a query.
pub(crate) type Pairs = Vec<(String, String)>;

/// The first value of `name` in a query, whose names have no case.
pub(crate) fn query_value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether a query says `name=true`.
pub(crate) fn query_flag(query: &[(String, String)], name: &str) -> bool {
    query_value(query, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A number in a query; nothing where it is absent.
///
/// # Errors
/// It is not a number.
pub(crate) fn query_number(query: &[(String, String)], name: &str) -> Result<Option<u64>, ApiError> {
    let number = |value: &str| {
        value.parse().map_err(|_| {
            ApiError::bad_request("VssPropertyValidationException", format!("{name}={value} is not a number"))
        })
    };
    query_value(query, name).map(number).transpose()
}
