//! One call of `stint`'s, and what of it is the same in the life of each runner.

use std::time::Instant;

use serde_json::{Map, Value};

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The API server.
    Kubernetes,
    /// GitHub.
    GitHub,
    /// Azure Resource Manager.
    Azure,
}

/// One call of `stint`'s.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whom it is for.
    pub peer: Peer,
    /// The method, in capitals.
    pub method: String,
    /// The path, without query.
    pub path: String,
    /// The body, where it is JSON.
    pub body: Value,
    /// When it arrived.
    pub at: Instant,
    /// The status that was answered; absent where none was, and while it is carried out.
    pub status: Option<u16>,
}

impl Call {
    /// Whether it changes something that outlives `stint`. Leases and Events are left out since they come by the clock, and access
    /// tokens since nothing is left of them: with these, the same life would not have the same writes twice.
    pub fn writes(&self) -> bool {
        self.method != "GET"
            && !["/leases", "/events", "/access_tokens"].iter().any(|part| self.path.contains(part))
    }

    /// Says which write it is, without what differs from runner to runner: who is asked for what, and which fields or
    /// facts a patch sets.
    pub fn kind(&self) -> String {
        let path: Vec<&str> =
            self.path.split('/').map(|part| if differs(part) { "*" } else { part }).collect();
        let path = path.join("/");
        let path = path.rsplit_once("/namespaces/stint/").map_or(path.as_str(), |(_, rest)| rest);
        let path = path.rsplit_once("/providers/").map_or(path, |(_, rest)| rest);
        let kind = format!("{:?} {} {path}", self.peer, self.method);
        match self.sets() {
            Some(what) => format!("{kind} {what}"),
            None => kind,
        }
    }

    /// What a patch of a record sets.
    fn sets(&self) -> Option<String> {
        if let Some(facts) = self.body.pointer("/spec/facts").and_then(Value::as_object) {
            let told = |fact: &Value| fact.get("action").and_then(Value::as_str).unwrap_or("-").to_owned();
            return Some(facts.values().map(told).collect::<Vec<_>>().join(", "));
        }
        if self.method != "PATCH" {
            return None;
        }
        let Some(status) = self.body.get("status").and_then(Value::as_object) else {
            let fields = self.body.get("metadata").and_then(Value::as_object).map(names);
            return fields.filter(|names| !names.is_empty());
        };
        match status.get("state").and_then(Value::as_str) {
            // A report replaces all of its fields, and says by its state which one it is.
            Some(state) if status.contains_key("runnersStarted") => Some(state.to_owned()),
            _ => Some(names(status)),
        }
    }

    /// The name of the runner, and the id of the job, whose record this creates.
    pub fn new_runner(&self) -> Option<(String, String)> {
        if self.method != "POST" || !self.path.ends_with("/runners") {
            return None;
        }
        let text = |pointer: &str| self.body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some((text("/metadata/name")?, text("/spec/jobId")?))
    }
}

fn names(fields: &Map<String, Value>) -> String {
    let mut names: Vec<_> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Whether a part of a path is the name of a job, of a runner or of what belongs to one, or a number.
fn differs(part: &str) -> bool {
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_job =
        part.strip_prefix("acme-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    numeric(part) || of_job || part.starts_with("e2e-") || part.starts_with("stint-e2e-")
}
