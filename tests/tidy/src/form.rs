//! Rules about the form of a Rust file: it says what it owns, and it is not too long.

use crate::Finding;
use crate::rules::MAX_LINES;

pub(crate) fn check(path: &str, content: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    // A sibling tests.rs belongs to its module, which says it.
    if !path.ends_with("/tests.rs") && !content.trim_start().starts_with("//!") {
        found.push((1, "open the file with //! that says what it owns, and what it must not do".to_owned()));
    }
    let lines = lines_without_tests(content);
    if !is_test_file(path) && lines > MAX_LINES {
        found.push((
            1,
            format!("{lines} lines without tests, more than {MAX_LINES}: split it where its subjects part, or move tests to a sibling tests.rs"),
        ));
    }
    found
}

/// Whether a file is tests as a whole: `tests.rs`, or in the `tests` folder of a crate (not of the repository).
fn is_test_file(path: &str) -> bool {
    let mut folders: Vec<_> = path.split('/').collect();
    let file = folders.pop();
    file == Some("tests.rs") || folders.iter().skip(1).any(|folder| *folder == "tests")
}

fn lines_without_tests(content: &str) -> usize {
    let mut count = 0;
    let mut lines = content.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens_tests = line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if opens_tests {
            // rustfmt puts the module's closing brace below its opening line.
            let end = format!("{indent}}}");
            for inner in lines.by_ref() {
                if inner == end {
                    break;
                }
            }
        } else {
            count += 1;
        }
    }
    count
}
