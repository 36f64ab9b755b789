//! What an HTTP request asks for.

use std::time::Duration;

use http::{Method, Uri};

use super::failure::Failure;
use super::kinds::{Kind, by_path};
use super::selector::Selector;

/// What is asked for.
pub(super) enum Asked {
    Get { name: String },
    List(ListOptions),
    Watch(WatchOptions),
    Create,
    Replace { name: String, status: bool },
    Patch { name: String, status: bool },
    Delete { name: String },
}

pub(super) struct ListOptions {
    pub(super) selector: Selector,
    pub(super) limit: Option<usize>,
    pub(super) token: Option<String>,
    /// Not older than this; or exactly as of it.
    pub(super) version: u64,
    pub(super) exact: bool,
}

pub(super) struct WatchOptions {
    pub(super) selector: Selector,
    /// After which version; 0: all there is first.
    pub(super) version: u64,
    pub(super) timeout: Option<Duration>,
    pub(super) bookmarks: bool,
}

/// Reads method, path and query. `None` as the kind's namespace where it is another one than the server holds.
pub(super) fn parse(method: &Method, uri: &Uri) -> Result<(&'static Kind, bool, Asked), Failure> {
    let path = uri.path();
    let unknown = || Failure::no_such_path(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(unknown()),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        _ => (None, rest),
    };
    let (plural, name, sub) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some((*name).to_owned()), None),
        [plural, name, sub] => (*plural, Some((*name).to_owned()), Some(*sub)),
        _ => return Err(unknown()),
    };
    let kind = by_path(group, version, plural).ok_or_else(unknown)?;
    if kind.namespaced != namespace.is_some() && (name.is_some() || namespace.is_some()) {
        return Err(unknown());
    }
    let status = match sub {
        None => false,
        Some("status") if kind.status => true,
        Some(_) => return Err(unknown()),
    };
    let here = namespace.is_none_or(|namespace| namespace == super::NAMESPACE);
    let not_allowed = || Failure::method_not_allowed(method.as_str());
    let asked = match (name, method.as_str()) {
        (Some(name), "GET") => Asked::Get { name },
        (Some(name), "PUT") => Asked::Replace { name, status },
        (Some(name), "PATCH") => Asked::Patch { name, status },
        (Some(name), "DELETE") if !status => Asked::Delete { name },
        (None, "GET") => collection(uri)?,
        (None, "POST") => Asked::Create,
        _ => return Err(not_allowed()),
    };
    Ok((kind, here, asked))
}

fn collection(uri: &Uri) -> Result<Asked, Failure> {
    let mut query = Query::default();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        query.take(name, decode(value))?;
    }
    let selector = Selector::parse(&query.labels, &query.fields)?;
    if query.watch {
        let timeout = query.timeout.map(Duration::from_secs);
        let (version, bookmarks) = (query.version.unwrap_or(0), query.bookmarks);
        return Ok(Asked::Watch(WatchOptions { selector, version, timeout, bookmarks }));
    }
    let limit = query.limit.filter(|limit| *limit > 0);
    let (token, version) = (query.token, query.version.unwrap_or(0));
    Ok(Asked::List(ListOptions { selector, limit, token, version, exact: query.exact }))
}

#[derive(Default)]
struct Query {
    labels: String,
    fields: String,
    watch: bool,
    version: Option<u64>,
    exact: bool,
    timeout: Option<u64>,
    bookmarks: bool,
    limit: Option<usize>,
    token: Option<String>,
}

impl Query {
    fn take(&mut self, name: &str, value: String) -> Result<(), Failure> {
        let wrong = || Failure::bad_request(format!("{name}: {value:?} is not what this server understands"));
        match name {
            "labelSelector" => self.labels = value,
            "fieldSelector" => self.fields = value,
            "watch" => self.watch = value == "true" || value == "1",
            "resourceVersion" if value.is_empty() => {}
            "resourceVersion" => self.version = Some(value.parse().map_err(|_| wrong())?),
            "resourceVersionMatch" if value == "Exact" => self.exact = true,
            "resourceVersionMatch" if value == "NotOlderThan" => {}
            "timeoutSeconds" => self.timeout = Some(value.parse().map_err(|_| wrong())?),
            "allowWatchBookmarks" => self.bookmarks = value == "true" || value == "1",
            "limit" => self.limit = Some(value.parse().map_err(|_| wrong())?),
            "continue" => self.token = (!value.is_empty()).then_some(value),
            // What a client asks for and this server does not do must not pass for done.
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

/// Undoes percent-encoding, and `+` for a space, as clients write queries.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
