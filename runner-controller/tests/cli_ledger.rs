//! What `stint run` says of `--ledger` before it starts anything.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use std::process::Command;

/// Runs `stint run` with arguments that it cannot use, and answers what it says.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_stint"))
        .current_dir(folder.path())
        .arg("run")
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(!done.status.success());
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(!said.contains("canary"), "{said}");
    said
}

#[test]
fn an_address_of_no_ledger_is_refused_with_the_remedy_and_without_its_password() {
    for (address, says) in [
        ("mysql://stint:canary@host/db", "begins with postgres://"),
        ("", "it must be a file or a URL"),
        ("postgres://stint:canary@host", "it must name a role and a database"),
        ("postgres://:canary@host/db", "it must name a role and a database"),
        ("postgres://stint:canary@/db", "--ledger: it"),
        ("postgres://stint:canary@host:canary/db", "invalid port number"),
        ("postgres://stint:canary@host/db?passfile=x", "the parameter passfile is not known"),
    ] {
        for said in [refusal(&["--ledger", address], &[]), refusal(&[], &[("STINT_LEDGER", address)])] {
            assert!(said.contains("--ledger") && said.contains(says), "{address}: {said}");
        }
    }
}

#[test]
fn a_password_file_belongs_to_a_url_and_must_be_readable() {
    let said = refusal(&["--ledger", "ledger.db", "--ledger-password-file", "f"], &[]);
    assert!(said.contains("--ledger is a file, which has no password"), "{said}");
    let said = refusal(&["--ledger", "postgres://a@b/c", "--ledger-password-file", "nowhere"], &[]);
    assert!(said.contains("--ledger-password-file nowhere: it cannot be read"), "{said}");
}

#[test]
fn help_does_not_show_what_the_environment_says() {
    let help = Command::new(env!("CARGO_BIN_EXE_stint"))
        .args(["run", "--help"])
        .env("STINT_LEDGER", "postgres://stint:canary@host/db")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&help.stdout);
    assert!(said.contains("--ledger") && !said.contains("canary"), "{said}");
}
