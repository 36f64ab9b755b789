//! The repository keeps the rules.

#![expect(clippy::expect_used, reason = "a test that cannot go on shall fail")]

use std::path::Path;
use std::process::Command;

fn output_of(program: &str, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(program).args(arguments).current_dir(root).output().expect("the program runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn every_tracked_file_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tracked = output_of("git", &["ls-files", "-z"]);
    let violations: Vec<_> = tracked
        .split_terminator('\0')
        .filter_map(|path| Some((path, std::fs::read_to_string(root.join(path)).ok()?))) // neither deleted nor binary
        .flat_map(|(path, content)| tidy::check(path, &content))
        .map(|violation| violation.to_string())
        .collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn core_is_pure() {
    let metadata = output_of("cargo", &["metadata", "--format-version", "1", "--locked"]);
    let wrong = tidy::core_dependencies(&serde_json::from_str(&metadata).expect("cargo writes JSON"))
        .expect("the graph");
    assert!(wrong.is_empty(), "runner-core must not depend on:\n{}", wrong.join("\n"));
}
