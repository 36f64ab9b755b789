//! Answers as GitHub words them: errors, pages with `Link` headers, request bodies.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    headers: Vec<(&'static str, String)>,
}

/// What a route gives.
pub(crate) type Answer = Result<Response, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Resource not accessible by integration")
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "message": self.message,
            "documentation_url": "https://docs.github.com/rest",
            "status": self.status.as_u16().to_string(),
        });
        let mut response = (self.status, Json(body)).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// 200 with a body.
pub(crate) fn ok(body: Value) -> Answer {
    Ok(Json(body).into_response())
}

/// Another status with a body.
pub(crate) fn with_status(status: StatusCode, body: Value) -> Answer {
    Ok((status, Json(body)).into_response())
}

/// A request's body; an empty one counts as an empty object.
pub(crate) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "Problems parsing JSON"))?;
    serde_json::from_value(value).map_err(|error| ApiError::invalid(format!("Invalid request.\n\n{error}")))
}

/// Which page of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    number: usize,
    size: usize,
}

impl Page {
    /// From the query; GitHub gives 30 where nothing is said, and at most 100.
    pub(crate) fn from_query(query: &[(String, String)]) -> Self {
        let number = |name: &str| query_value(query, name).and_then(|value| value.parse().ok());
        Self {
            number: number("page").unwrap_or(1).max(1),
            size: number("per_page").unwrap_or(30).clamp(1, 100),
        }
    }

    /// The page of `items`, in an object as `field` next to `total_count`, with GitHub's `Link` header.
    pub(crate) fn answer(
        self,
        field: &str,
        items: Vec<Value>,
        url: &str,
        query: &[(String, String)],
    ) -> Answer {
        let total = items.len();
        let page: Vec<Value> =
            items.into_iter().skip((self.number - 1) * self.size).take(self.size).collect();
        let mut response = Json(json!({"total_count": total, field: page})).into_response();
        self.link(&mut response, total, url, query);
        Ok(response)
    }

    /// The page of `items` as a bare list, as older routes give it.
    pub(crate) fn list(self, items: Vec<Value>, url: &str, query: &[(String, String)]) -> Answer {
        let total = items.len();
        let page: Vec<Value> =
            items.into_iter().skip((self.number - 1) * self.size).take(self.size).collect();
        let mut response = Json(page).into_response();
        self.link(&mut response, total, url, query);
        Ok(response)
    }

    fn link(self, response: &mut Response, total: usize, url: &str, query: &[(String, String)]) {
        let last = total.div_ceil(self.size).max(1);
        let mut links = Vec::new();
        let to = |page: usize, rel: &str| {
            let mut pairs: Vec<String> = query
                .iter()
                .filter(|(name, _)| name != "page")
                .map(|(name, value)| format!("{name}={}", encode(value)))
                .collect();
            pairs.push(format!("page={page}"));
            format!("<{url}?{}>; rel=\"{rel}\"", pairs.join("&"))
        };
        if self.number > 1 {
            links.push(to(self.number - 1, "prev"));
        }
        if self.number < last {
            links.push(to(self.number + 1, "next"));
            links.push(to(last, "last"));
        }
        if self.number > 1 {
            links.push(to(1, "first"));
        }
        if !links.is_empty()
            && let Ok(value) = HeaderValue::try_from(links.join(", "))
        {
            response.headers_mut().insert(header::LINK, value);
        }
    }
}

/// The first value of `name` in a query.
pub(crate) fn query_value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
