//! Label and field selectors.

use serde_json::Value;

use super::failure::Failure;
use super::object::field;

/// What a list or watch is restricted to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    key: String,
    wanted: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    Is(String),
    IsNot(String),
    Present,
    Absent,
}

impl Selector {
    /// Reads both; either may be empty.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Failure> {
        Ok(Self { labels: terms("labelSelector", labels)?, fields: terms("fieldSelector", fields)? })
    }

    /// Whether an object is meant.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let label = |key: &str| field(object, "labels").and_then(|labels| labels.get(key)?.as_str());
        let at = |path: &str| path.split('.').try_fold(object, |value, part| value.get(part));
        self.labels.iter().all(|term| term.agrees(label(&term.key)))
            && self.fields.iter().all(|term| term.agrees(at(&term.key).and_then(Value::as_str)))
    }
}

impl Term {
    fn agrees(&self, found: Option<&str>) -> bool {
        match &self.wanted {
            Wanted::Is(value) => found == Some(value),
            Wanted::IsNot(value) => found != Some(value),
            Wanted::Present => found.is_some(),
            Wanted::Absent => found.is_none(),
        }
    }
}

fn terms(parameter: &str, text: &str) -> Result<Vec<Term>, Failure> {
    text.split(',').map(str::trim).filter(|term| !term.is_empty()).map(|text| term(parameter, text)).collect()
}

fn term(parameter: &str, text: &str) -> Result<Term, Failure> {
    let (key, wanted) = if let Some((key, value)) = text.split_once("!=") {
        (key, Wanted::IsNot(value.trim().to_owned()))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Wanted::Is(value.trim().to_owned()))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Wanted::Absent)
    } else {
        (text, Wanted::Present)
    };
    let key = key.trim().to_owned();
    if key.is_empty() || key.contains([' ', '(']) {
        let message = format!("{parameter}: {text:?} is none of key, !key, key=value and key!=value");
        return Err(Failure::bad_request(message));
    }
    Ok(Term { key, wanted })
}
