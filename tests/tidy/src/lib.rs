//! The architecture's rules, as functions of a file's path and text. `rules` is the table to read and to change; the other
//! modules only apply it. Tests run it over every tracked file, and over planted violations.

pub mod rules;

mod architecture;
mod dependencies;
mod form;
mod text;

use std::fmt;

pub use dependencies::core_dependencies;

/// A place where a file breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The file, from the repository's root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Every violation in a file.
#[must_use]
pub fn check(path: &str, content: &str) -> Vec<Violation> {
    let mut found = text::check(path, content);
    if path.ends_with(".rs") {
        found.extend(form::check(path, content));
        found.extend(architecture::check(path, content));
    }
    found.into_iter().map(|(line, message)| Violation { path: path.to_owned(), line, message }).collect()
}

/// A line and what is wrong with it.
type Finding = (usize, String);
