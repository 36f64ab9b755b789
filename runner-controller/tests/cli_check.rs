//! `stint check` as people run it, on directories of documents.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const SOURCE: &str = "kind: RunnerSource
metadata: {name: acme}
spec: {github: {owners: [acme], secretRef: acme-app}}
";
const CLASS: &str = "kind: RunnerClass
metadata: {name: stint}
spec: {resources: {cpu: \"2\", memory: 4Gi}, maxRunners: 20}
";
const SECRET: &str = "kind: Secret
metadata: {name: acme-app}
stringData: {token: canary, webhookSecret: canary}
";

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the binary with nothing of the test's own environment that it reads.
fn stint(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stint"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STINT_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).env("COLUMNS", "100").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn check(files: &[(&str, &str)], options: &[&str]) -> Ran {
    let directory = directory(files);
    let mut arguments = vec!["check", directory.path().to_str().unwrap()];
    arguments.extend(options);
    let mut ran = stint(&arguments);
    ran.err = ran.err.replace(directory.path().to_str().unwrap(), "DIRECTORY");
    ran
}

/// Compares with the committed snapshot of this name; `UPDATE_SNAPSHOTS=1` writes it anew.
#[track_caller]
fn is_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_snapshots").join(name);
    // The release's number is no part of what the snapshot shows.
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == committed,
        "tests/cli_snapshots/{name} shows something else; if this is right, write it anew with UPDATE_SNAPSHOTS=1:\n{text}"
    );
}

#[test]
fn show_defaults_prints_every_value_of_the_two_object_set_up_with_its_origin() {
    let ran = check(&[("source.yaml", SOURCE), ("class.yaml", CLASS)], &["--show-defaults"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    is_snapshot("two-objects.txt", &ran.out);
}

#[test]
fn show_defaults_tells_what_documents_and_flags_say() {
    let place = "kind: RunnerPlace
metadata: {name: aks}
spec: {virtualNode: {}, region: westeurope}
---
kind: RunnerClass
metadata: {name: build}
spec:
  sizes: {small: {cpu: '1', memory: 2Gi}, large: {cpu: '8', memory: 16Gi, maxRunners: 2}}
  places: {order: [aks]}
  deadlines: {running: 1h30m}
---
kind: ConcurrencyLimit
metadata: {name: nightly}
spec: {match: {workflows: ['nightly*']}, groupBy: [repository], max: {runners: 2, cpu: '8'}, weights: {acme/web: 2}}
---
kind: Budget
metadata: {name: team}
spec: {match: {owners: [acme]}, amount: '250.00', per: Month, timeZone: Europe/Berlin, whenSpent: Hold}
";
    let options = [
        "--show-defaults",
        "--max-runners=7",
        "--reserve-after=5m",
        "--azure-subscription=sub-1",
        "--azure-resource-group=rg-1",
        "--callback-url=https://10.0.0.7",
    ];
    let ran = check(&[("source.yaml", SOURCE), ("place.yaml", place)], &options);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    is_snapshot("places-and-flags.txt", &ran.out);
}

#[test]
fn a_usable_directory_is_summed_up_in_a_line() {
    let ran = check(&[("all.yaml", &format!("{SOURCE}---\n{CLASS}---\n{SECRET}"))], &[]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.out.ends_with("\n1 source, 1 class, 0 places, 0 limits, 0 budgets, 0 problems\n"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("canary"));
}

#[test]
fn a_secret_that_cannot_be_used_is_a_problem_that_quotes_nothing_of_it() {
    for (values, says) in [
        ("{appId: '7', privateKey: canary, webhookSecret: canary}", "privateKey"),
        ("{appId: seven, privateKey: canary, webhookSecret: canary}", "appId is not a number"),
        ("{token: canary}", "webhookSecret is missing"),
        ("{webhookSecret: canary}", "neither appId and privateKey nor token"),
    ] {
        let secret = format!("kind: Secret\nmetadata: {{name: acme-app}}\nstringData: {values}\n");
        let ran = check(&[("all.yaml", &format!("{SOURCE}---\n{CLASS}---\n{secret}"))], &[]);
        assert_eq!(ran.code, Some(1), "{values}");
        assert!(ran.out.contains(says) && !ran.out.contains("canary"), "{values}: {}", ran.out);
    }
}

#[test]
fn problems_are_named_and_make_the_check_fail() {
    let class = "kind: RunnerClass
metadata: {name: big}
spec: {resources: {cpu: lots, memory: 4Gi}}
";
    let secret = SECRET.replace("acme-app", "another");
    let files =
        [("source.yaml", SOURCE), ("class.yaml", CLASS), ("big.yaml", class), ("secret.yaml", &secret)];
    let ran = check(&files, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    is_snapshot("problems.txt", &ran.out);
}

#[test]
fn what_cannot_be_read_is_one_line_that_says_where() {
    #[track_caller]
    fn fails(ran: &Ran, words: &[&str]) {
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(ran.err.starts_with("stint: "), "{}", ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{word:?} is missing in: {}", ran.err);
        }
    }
    fails(&stint(&["check", "/nowhere/at/all"]), &["/nowhere/at/all", "not a readable directory"]);
    fails(&check(&[], &[]), &["DIRECTORY holds no RunnerSource", "*.yaml"]);
    fails(
        &check(&[("a.yaml", "kind: RunnerClass\n  metadata: {\n")], &[]),
        &["DIRECTORY/a.yaml", "YAML", "line"],
    );
    let typo = CLASS.replace("maxRunners", "maxRuners");
    fails(
        &check(&[("a.yaml", &typo)], &[]),
        &["DIRECTORY/a.yaml: RunnerClass stint: spec.maxRuners", "maxRunners"],
    );
    fails(
        &check(&[("a.yaml", SOURCE)], &["--installation=Prod"]),
        &["--installation", "\"Prod\"", "\"prod1\""],
    );
    fails(
        &check(&[("a.yaml", SOURCE)], &["--priorities=/nowhere.yaml"]),
        &["--priorities /nowhere.yaml", "cannot be read"],
    );
    fails(&check(&[("a.yaml", SOURCE)], &["--age-every=soon"]), &["--age-every", "\"soon\"", "15m"]);
    let ca = ["--callback-url=https://10.0.0.7", "--callback-ca-file=/nowhere.pem"];
    fails(&check(&[("a.yaml", SOURCE)], &ca), &["--callback-ca-file /nowhere.pem"]);
}

#[test]
fn a_place_where_nothing_can_start_yet_is_noted() {
    let place = "kind: RunnerPlace\nmetadata: {name: aci}\nspec: {containerInstances: {}}\n";
    let ran = check(&[("source.yaml", SOURCE), ("class.yaml", CLASS), ("place.yaml", place)], &[]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("note: RunnerPlace aci: no runner can start there yet: "), "{}", ran.out);
    assert!(ran.out.contains("--azure-subscription"), "{}", ran.out);
}

#[test]
fn help_keeps_within_a_terminal() {
    for arguments in
        [&["--help"][..], &["run", "--help"], &["run", "-h"], &["check", "--help"], &["logs", "--help"]]
    {
        let ran = stint(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}");
        for line in ran.out.lines() {
            assert!(line.chars().count() <= 100, "{arguments:?}: {line}");
        }
    }
    let commands = stint(&["--help"]).out;
    for command in ["run", "check", "logs", "bill", "crds"] {
        assert!(
            commands.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{commands}"
        );
    }
    assert!(!commands.contains("standin-agent"), "{commands}");
}

#[test]
fn crds_prints_the_definitions_as_they_are_committed() {
    let ran = stint(&["crds"]);
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install/crds.yaml");
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.out == std::fs::read_to_string(committed).unwrap(),
        "cargo run -p stint -- crds > docs/install/crds.yaml"
    );
}

#[test]
fn a_controller_that_does_not_answer_is_said_with_what_to_do() {
    for arguments in
        [&["bill", "--api=http://127.0.0.1:1"][..], &["logs", "stint-x", "--api=http://127.0.0.1:1"]]
    {
        let ran = stint(arguments);
        assert_eq!(ran.code, Some(1));
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(ran.err.contains("http://127.0.0.1:1") && ran.err.contains("port-forward"), "{}", ran.err);
    }
}
