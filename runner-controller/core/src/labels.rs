//! Matching a job's labels to a class and size, without regard to case.

mod custom;

use crate::reason::Reason;
use crate::setup::{Class, Setup, Size};

/// Labels that every Linux x64 runner carries and that name no class: GitHub's defaults for self-hosted runners.
pub const GENERIC: [&str; 3] = ["self-hosted", "linux", "x64"];

/// A class and size that a job's labels name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Matched {
    /// Name of the class.
    pub class: String,
    /// Name of the size; empty for a class with a single size.
    pub size: String,
}

impl Matched {
    /// The label that asks for this class and size.
    pub fn label(&self) -> String {
        if self.size.is_empty() {
            self.class.clone()
        } else if self.is_custom() {
            format!("{}/{}", self.class, self.size)
        } else {
            format!("{}-{}", self.class, self.size)
        }
    }

    /// Whether the job asks for a size of its own.
    fn is_custom(&self) -> bool {
        self.size.contains('=')
    }

    /// How large a runner of this class is that it asks for, or `None` if the class does not have it.
    pub fn size_in(&self, class: &Class) -> Option<Size> {
        match class.sizes.get(&self.size) {
            Some(size) => Some(*size),
            None if self.is_custom() => custom::size(class, &self.size).ok(),
            None => None,
        }
    }
}

/// Finds the one class and size that the labels ask for.
///
/// A job matches only if one of its labels is a class's own (`class`, or `class-size` for a class with sizes) and
/// that class covers the rest.
///
/// # Errors
/// The reason why no runner will be started for such a job: no class named, several named, a size missing or
/// unknown, or a label that the class does not carry.
pub fn match_class(setup: &Setup, labels: &[String]) -> Result<Matched, Reason> {
    let lower: Vec<String> = labels.iter().map(|label| label.to_lowercase()).collect();
    let mut found: Vec<Matched> = Vec::new();
    let mut near: Option<Reason> = None;
    for label in &lower {
        for class in setup.classes.values() {
            match ask(class, label) {
                Some(Ok(matched)) if !found.contains(&matched) => found.push(matched),
                Some(Err(reason)) => near = near.or(Some(reason)),
                Some(Ok(_)) | None => {}
            }
        }
    }
    let matched = match found.len() {
        0 => return Err(near.unwrap_or_else(|| Reason::NoClassNamed { labels: labels.to_vec() })),
        1 => found.remove(0),
        _ => return Err(Reason::SeveralClassesNamed { labels: found.iter().map(Matched::label).collect() }),
    };
    let own = matched.label().to_lowercase();
    let carries = |label: &str| {
        label == own
            || GENERIC.contains(&label)
            || setup
                .classes
                .get(&matched.class)
                .is_some_and(|class| class.labels.iter().any(|other| other == label))
    };
    match lower.iter().position(|label| !carries(label)) {
        None => Ok(matched),
        Some(at) => Err(Reason::LabelNotCarried {
            class: matched.label(),
            label: labels.get(at).cloned().unwrap_or_default(),
        }),
    }
}

/// What a runner of this class and size registers with.
pub fn registered_labels(class: &Class, matched: &Matched) -> Vec<String> {
    let mut labels = vec![matched.label()];
    for label in GENERIC.iter().copied().chain(class.labels.iter().map(String::as_str)) {
        if !labels.iter().any(|own| same(own, label)) {
            labels.push(label.to_owned());
        }
    }
    labels
}

/// Whether a runner with `carried` labels may be handed a job that asks for `wanted`, as GitHub decides it.
pub fn covers(carried: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|label| carried.iter().any(|own| same(own, label)))
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
}

/// What one lower-case label asks of one class: a size, a size that does not exist, or nothing.
fn ask(class: &Class, label: &str) -> Option<Result<Matched, Reason>> {
    let name = class.name.to_lowercase();
    let sized = |size: &String| Matched { class: class.name.clone(), size: size.clone() };
    if let Some(size) = class.sizes.keys().find(|size| {
        if size.is_empty() { label == name } else { label == format!("{name}-{}", size.to_lowercase()) }
    }) {
        return Some(Ok(sized(size)));
    }
    let sizes = || class.sizes.keys().filter(|size| !size.is_empty()).cloned().collect::<Vec<_>>();
    if label == name {
        return Some(Err(Reason::SizeMissing { class: class.name.clone(), sizes: sizes() }));
    }
    if let Some(asked) = label.strip_prefix(&name).and_then(|rest| rest.strip_prefix('/')) {
        let matched = Matched { class: class.name.clone(), size: asked.to_owned() };
        return Some(match custom::size(class, asked) {
            Ok(_) => Ok(matched),
            Err(why) => Err(Reason::CustomSizeRefused { label: format!("{}/{asked}", class.name), why }),
        });
    }
    // What has a slash asks another class for a size of its own.
    let rest = label.strip_prefix(&name)?.strip_prefix('-').filter(|rest| !rest.contains('/'))?;
    (!sizes().is_empty()).then(|| {
        Err(Reason::SizeUnknown { class: class.name.clone(), size: rest.to_owned(), sizes: sizes() })
    })
}

#[cfg(test)]
mod tests;
