//! `stint simulate` as people run it: on directories of documents and files of jobs.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const DOCUMENTS: &str = "kind: RunnerSource
metadata: {name: acme}
spec: {github: {owners: [acme], secretRef: acme-app}}
---
kind: RunnerClass
metadata: {name: stint}
spec: {resources: {cpu: \"2\", memory: 4G}, maxRunners: 2}
---
kind: ConcurrencyLimit
metadata: {name: per-repository}
spec: {groupBy: [repository], max: {runners: 1}}
";
/// Three jobs of one repository at once, one of another, and one that nothing serves.
const JOBS: &str = "id,queuedAt,seconds,repository,labels,name
1,2026-01-05T09:00:00Z,60,acme/web,stint,build
2,2026-01-05T09:00:00Z,60,acme/web,stint,test
3,2026-01-05T09:00:00Z,60,acme/web,stint,lint
4,2026-01-05T09:00:10Z,600,acme/api,stint;linux,build
5,2026-01-05T09:01:00Z,5,acme/web,windows,build
";
const EXACT: &str = "--start-model=deploy=10s,pull=20s,agent=5s,exit=2s,gone=3s,spread=0";

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the binary in a directory of its own, with nothing of the test's own environment that it reads.
fn stint(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stint"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STINT_")) {
        command.env_remove(name);
    }
    let output = command.current_dir(directory).args(arguments).env("COLUMNS", "100").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A directory with documents in `now` and, with more room, in `then`, and jobs in `jobs.csv`.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, documents) in
        [("now", DOCUMENTS.to_owned()), ("then", DOCUMENTS.replace("runners: 1", "runners: 2"))]
    {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        std::fs::write(directory.path().join(name).join("all.yaml"), documents).unwrap();
    }
    std::fs::write(directory.path().join("jobs.csv"), JOBS).unwrap();
    directory
}

/// Compares with the committed snapshot of this name; `UPDATE_SNAPSHOTS=1` writes it anew.
#[track_caller]
fn is_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == committed,
        "tests/cli_snapshots/{name} shows something else; if this is right, write it anew with UPDATE_SNAPSHOTS=1:\n{text}"
    );
}

#[test]
fn two_configurations_are_compared_in_a_table() {
    let directory = directory();
    let arguments = ["simulate", "--config=now", "--compare=then", "--jobs=jobs.csv", EXACT];
    let ran = stint(directory.path(), &arguments);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    is_snapshot("simulate.txt", &ran.out);
}

#[test]
fn out_holds_the_summary_each_job_and_a_page() {
    let directory = directory();
    let arguments = ["simulate", "--config=now", "--compare=then", "--jobs=jobs.csv", "--out=out", EXACT];
    assert_eq!(stint(directory.path(), &arguments).code, Some(0));
    let read = |name: &str| std::fs::read_to_string(directory.path().join("out").join(name)).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(summary.pointer("/simulated/byRepository/acme~1web/p99"), Some(&serde_json::json!(235.0)));
    assert_eq!(summary.pointer("/simulated/outcomes/refused NoClassNamed"), Some(&serde_json::json!(1)));
    assert!(summary.pointer("/compared/cost/0/total").is_some() && summary.get("difference").is_some());
    let jobs = read("jobs.csv");
    assert_eq!(jobs.lines().count(), 6);
    let waits: Vec<&str> = jobs.lines().skip(1).filter_map(|line| line.split(',').nth(8)).collect();
    // The limit gives acme/web one runner at a time, but GitHub hands it the runner of acme/api too, whose job is younger.
    // The third starts once the first one's group is gone, at 100; the fourth after its source was asked, at 120.
    assert_eq!(waits, ["35", "135", "235", "35", ""]);
    let compared = read("jobs-compared.csv");
    let waits: Vec<&str> = compared.lines().skip(1).filter_map(|line| line.split(',').nth(8)).collect();
    assert_eq!(
        waits,
        ["35", "35", "135", "125", ""],
        "the class has two runners, the third waits for one of them"
    );
    let page = read("report.html");
    assert!(page.starts_with("<!doctype html>") && page.contains("acme/web") && page.ends_with("</html>\n"));
}

#[test]
fn a_seed_gives_the_same_workload_and_the_same_result() {
    let directory = directory();
    let generated = |seed: &str| {
        let arguments = ["simulate", "generate", "--config=now", seed, "--jobs=200", "--days=2"];
        let ran = stint(directory.path(), &arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        ran.out
    };
    let jobs = generated("--seed=7");
    assert_eq!(jobs.lines().count(), 200);
    assert_eq!(jobs, generated("--seed=7"));
    assert_ne!(jobs, generated("--seed=8"));
    std::fs::write(directory.path().join("jobs.jsonl"), jobs).unwrap();
    let simulated = |jobs: &[&str]| {
        let arguments = [&["simulate", "--config=now", "--seed=7", "--json"][..], jobs].concat();
        let ran = stint(directory.path(), &arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        ran.out
    };
    let from_file = simulated(&["--jobs=jobs.jsonl"]);
    assert_eq!(from_file, simulated(&["--jobs=jobs.jsonl"]));
    assert_eq!(from_file, simulated(&["--generate", "--jobs-count=200", "--days=2"]));
}

#[test]
fn a_ledgers_json_is_replayed() {
    let directory = directory();
    let ledger = r#"[{"machineUid": "u", "runner": "stint-1", "startedFor": "acme-7-1", "job": "acme-7-1",
        "repository": "acme/web", "jobName": "build", "class": "stint", "place": "vn", "endedBecause": "AgentExited",
        "conclusion": "success", "startedAt": "2026-01-05T09:00:10Z", "stoppedAt": "2026-01-05T09:02:00Z"}]"#;
    std::fs::write(directory.path().join("ledger.json"), ledger).unwrap();
    let ran = stint(directory.path(), &["simulate", "--config=now", "--ledger=ledger.json", EXACT]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.starts_with("now: 1 jobs, 2026-01-05T09:00:00Z"), "{}", ran.out);
}

#[test]
fn what_cannot_be_simulated_is_one_line_that_says_what_to_do() {
    let directory = directory();
    let bad = JOBS.replace(",60,acme/web,stint,test", ",soon,acme/web,stint,test");
    std::fs::write(directory.path().join("bad.csv"), bad).unwrap();
    let fails = |arguments: &[&str], words: &[&str]| {
        let ran = stint(directory.path(), &[&["simulate"], arguments].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{word:?} is missing in: {}", ran.err);
        }
    };
    let now = "--config=now";
    fails(&[], &["--config is missing"]);
    fails(&[now], &["--jobs FILE", "--ledger FILE", "--generate"]);
    fails(&[now, "--jobs=bad.csv"], &["bad.csv", "line 3", "seconds", "\"soon\"", "90"]);
    fails(&[now, "--jobs=none.csv"], &["none.csv", "cannot be read"]);
    fails(&[now, "--ledger=jobs.csv"], &["jobs.csv", "ledger.db"]);
    fails(&["--config=none", "--generate"], &["none", "not a readable directory"]);
    fails(&[now, "--generate", "--jobs-count=0"], &["--jobs-count"]);
    fails(&[now, "--generate", "--start-model=speed=3"], &["--start-model", "\"speed\"", "deploy"]);
    fails(&[now, "--generate", "--quota=groups=all"], &["--quota", "\"all\""]);
    fails(&[now, "--generate", "--pool=vms=3"], &["--pool", "\"vms\"", "nodePool"]);
    fails(&["generate", "--jobs=0"], &["--jobs"]);
}

#[test]
fn help_keeps_within_a_terminal() {
    let directory = directory();
    for arguments in [&["simulate", "--help"][..], &["simulate", "generate", "--help"]] {
        let ran = stint(directory.path(), arguments);
        assert_eq!(ran.code, Some(0));
        assert!(ran.out.lines().all(|line| line.chars().count() <= 100), "{}", ran.out);
    }
}
