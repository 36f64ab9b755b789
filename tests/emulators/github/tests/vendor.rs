//! The emulator, held against GitHub's own client, schemas and example payloads (`tests/vendor-clients`).

#![expect(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test ends at its first surprise")]

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use emulator_github::{HookKind, JobSpec, Options};
use serde_json::{Value, json};
use support::{Receiver, SECRET, SOON, emulator};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The folder of the packages, which must have been installed.
fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vendor-clients");
    assert!(
        folder.join("node_modules/@octokit/rest").is_dir(),
        "GitHub's packages are not installed: run `npm ci` in tests/vendor-clients (tests/run does it)"
    );
    folder
}

/// Runs one of the scripts and fails with what it complains of.
async fn run(script: &str, given: &Value) {
    let mut child = Command::new("node")
        .arg(script)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start node: {error}"));
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).await.unwrap();
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} complains:\n{out}{err}");
    println!("{out}");
}

#[tokio::test]
async fn every_answer_is_as_githubs_openapi_description_says() {
    let options = Options { personal_token: Some("ghp_of_the_tests".to_owned()), ..Options::default() };
    let (github, _client) = emulator(options).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    let org_hook = github.add_hook(HookKind::Organization("acme".to_owned()), &receiver.url(), SECRET);
    let repo_hook = github.add_hook(HookKind::Repository("acme/app".to_owned()), &receiver.url(), SECRET);
    let given = json!({
        "url": github.url(),
        "appId": github.app_id(),
        "privateKey": github.app_private_key_pem(),
        "installation": github.installation_id("acme"),
        "token": "ghp_of_the_tests",
        "orgHook": org_hook,
        "repoHook": repo_hook,
    });
    run("rest.mjs", &given).await;
}

#[tokio::test]
async fn every_webhook_is_as_githubs_schemas_say() {
    let (github, client) = emulator(Options::default()).await;
    let config = client.register("one", &["stint"]).await;
    run("webhooks.mjs", &json!({"url": github.url(), "jitConfig": config})).await;
}

#[tokio::test]
async fn githubs_examples_are_sent_as_they_are() {
    let path = folder().join("node_modules/@octokit/webhooks-examples/api.github.com/index.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let of_jobs = all.as_array().unwrap().iter().find(|one| one["name"] == "workflow_job").unwrap();
    let examples = of_jobs["examples"].as_array().unwrap();
    assert!(examples.len() >= 8);
    let (github, _client) = emulator(Options::default()).await;
    let receiver = Receiver::start().await;
    github.set_webhook(&receiver.url(), SECRET);
    receiver.wait_for(1).await;
    for (count, example) in (2..).zip(examples) {
        github.send_raw("workflow_job", example);
        let seen = receiver.wait_for(count).await;
        assert_eq!(&seen[count - 1].body, example);
    }
    // The emulator's own state is untouched by what it was told to send.
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    github.wait_for_job(job, |job| job.runner_id.is_none(), SOON).await.unwrap();
    assert_eq!(github.jobs().len(), 1);
}
