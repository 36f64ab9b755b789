//! Rules about any text file: nothing in it belongs to one machine or names a registry.

use crate::Finding;
use crate::rules::{MACHINE_FOLDERS, NOT_OURS, REGISTRY_HOSTS};

pub(crate) fn check(path: &str, content: &str) -> Vec<Finding> {
    if NOT_OURS.contains(&path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, line) in content.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            if names_absolute_path(line, folder) {
                found.push((index + 1, format!("/{folder}/ is one machine's folder: use a path relative to the repository, or a variable")));
            }
        }
        for (first, second) in REGISTRY_HOSTS {
            if line.contains(&format!("{first}{second}")) {
                found.push((
                    index + 1,
                    "this names the host of a package registry: name the package and its version alone (for npm's lock file, \
                     set omit-lockfile-registry-resolved)"
                        .to_owned(),
                ));
            }
        }
    }
    found
}

/// Whether a line names something in `/folder`. The bare folder may be meant inside a container, where it is harmless.
fn names_absolute_path(line: &str, folder: &str) -> bool {
    let wanted = format!("/{folder}/");
    line.match_indices(&wanted).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + wanted.len()..].chars().next();
        let belongs_to_longer_path = |it: char| it.is_alphanumeric() || "/._-}*>~".contains(it);
        !before.is_some_and(belongs_to_longer_path)
            && after.is_some_and(|it| it.is_alphanumeric() || it == '.')
    })
}
