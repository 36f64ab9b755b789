//! Where each value in force came from: `stint check --show-defaults`.

use std::fmt;

/// A value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Kind of the document.
    pub kind: &'static str,
    /// Name of the document.
    pub name: String,
    /// The field, as a path below `spec`.
    pub field: String,
    /// Its value, for people.
    pub value: String,
    /// Where it came from.
    pub from: From,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The document says so.
    Document,
    /// The installation's flags or environment say so.
    Installation,
    /// The virtual node's own labels say so.
    Node,
    /// It is Stint's default.
    Default,
}

impl From {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            From::Document => "document",
            From::Installation => "installation",
            From::Node => "node",
            From::Default => "default",
        }
    }
}

/// Collects the origins of one document's values.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    kind: &'static str,
    name: &'a str,
    into: Vec<Origin>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(kind: &'static str, name: &'a str) -> Self {
        Self { kind, name, into: Vec::new() }
    }

    /// Notes a value.
    pub(super) fn note(&mut self, field: impl Into<String>, value: impl fmt::Display, from: From) {
        self.into.push(Origin {
            kind: self.kind,
            name: self.name.to_owned(),
            field: field.into(),
            value: value.to_string(),
            from,
        });
    }

    /// The given value, or a default; notes which.
    pub(super) fn or_default<T: Clone + Shown>(&mut self, field: &str, given: Option<&T>, default: T) -> T {
        let (value, from) = match given {
            Some(value) => (value.clone(), From::Document),
            None => (default, From::Default),
        };
        self.note(field, value.shown(), from);
        value
    }

    /// The given value, or the installation's; notes which.
    pub(super) fn or_installation<T: Clone + Shown>(
        &mut self,
        field: &str,
        given: Option<&T>,
        installation: Option<&T>,
    ) -> Option<T> {
        let (value, from) = match (given, installation) {
            (Some(value), _) => (Some(value), From::Document),
            (None, Some(value)) => (Some(value), From::Installation),
            (None, None) => (None, From::Default),
        };
        self.note(field, value.map_or_else(|| "none".to_owned(), Shown::shown), from);
        value.cloned()
    }

    pub(super) fn finish(self) -> Vec<Origin> {
        self.into
    }
}

/// A value as people read it.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_displayed {
    ($($kind:ty),*) => {$(
        impl Shown for $kind {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_as_displayed!(String, u32, u64);

impl Shown for super::Callback {
    fn shown(&self) -> String {
        let trust = if self.ca_bundle.is_some() { " (own CA)" } else { "" };
        format!("{}{trust}", self.url)
    }
}
