//! A whole runner: a JIT config of the GitHub emulator, in a group of this one, does a job.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emulator_azure::GroupState;
use emulator_github::{Conclusion, GitHub, GitHubHandle, JobSpec};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{DEADLINE, GROUPS, client, group, options, put, send, start};

async fn github() -> GitHubHandle {
    let options = emulator_github::Options {
        personal_token: Some("personal".to_owned()),
        ..emulator_github::Options::default()
    };
    let github = GitHub::start(options).await.unwrap();
    github.add_repository("acme/app", false).unwrap();
    github
}

/// A group that holds a freshly registered runner's JIT config.
async fn runner(github: &GitHubHandle, name: &str) -> Value {
    let url = format!("{}/orgs/acme/actions/runners/generate-jitconfig", github.url());
    let body = json!({ "name": name, "runner_group_id": 1, "labels": ["stint"] });
    let request = client().post(url).bearer_auth("personal").header("user-agent", "tests").json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let jit = answer["encoded_jit_config"].as_str().unwrap();
    let mut body = group("registry.example/acme/agent:1");
    body["properties"]["volumes"] =
        json!([{ "name": "stint", "secret": { "jitconfig": STANDARD.encode(jit) } }]);
    body["properties"]["containers"][0]["properties"]["volumeMounts"] =
        json!([{ "name": "stint", "mountPath": "/run/stint" }]);
    body
}

#[tokio::test]
async fn a_queued_job_runs_in_a_group() {
    let (github, azure) = (github().await, start(options()).await);
    let mut spec =
        JobSpec::new("acme/app", &["stint"]).lasting(Duration::from_millis(50)).ending(Conclusion::Failure);
    spec.log_lines = vec!["a line of the job".to_owned()];
    let job = github.queue_job(spec).unwrap();
    put(&azure, "r-1", runner(&github, "r-1").await).await;
    let ended = github.wait_for_end(job, DEADLINE).await.unwrap();
    assert_eq!(ended.conclusion, Some(Conclusion::Failure));
    // The agent exits with 0 whatever became of the job.
    let succeeded = |groups: &[emulator_azure::GroupView]| groups[0].state == GroupState::Succeeded;
    azure.wait_for("the agent's end", DEADLINE, succeeded).await.unwrap();
    let logs = send(&azure, Method::GET, &format!("{GROUPS}/r-1/containers/runner/logs"), None).await;
    assert!(logs.body["content"].as_str().unwrap().contains("a line of the job"), "{logs:?}");
}

#[tokio::test]
async fn a_running_job_can_be_cancelled_finished_or_lose_its_group() {
    let (github, azure) = (github().await, start(options()).await);
    for (name, expect) in
        [("cancel", Conclusion::Cancelled), ("finish", Conclusion::Neutral), ("stop", Conclusion::Cancelled)]
    {
        let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
        put(&azure, name, runner(&github, name).await).await;
        let running = |job: &emulator_github::JobView| job.status == emulator_github::JobStatus::InProgress;
        github.wait_for_job(job, running, DEADLINE).await.unwrap();
        match name {
            "cancel" => github.cancel_job(job).unwrap(),
            "finish" => github.finish_job(job, Conclusion::Neutral).unwrap(),
            _ => {
                let slow = emulator_azure::Timings { stop: Duration::from_secs(2000), ..Default::default() };
                azure.set_timings(slow);
                send(&azure, Method::POST, &format!("{GROUPS}/{name}/stop"), None).await;
            }
        }
        assert_eq!(github.wait_for_end(job, DEADLINE).await.unwrap().conclusion, Some(expect), "{name}");
    }
}

#[tokio::test]
async fn a_deleted_registration_ends_the_agent() {
    let (github, azure) = (github().await, start(options()).await);
    put(&azure, "gone", runner(&github, "gone").await).await;
    github.remove_runner(github.runners()[0].id);
    let succeeded = |groups: &[emulator_azure::GroupView]| groups[0].state == GroupState::Succeeded;
    azure.wait_for("the agent's end", DEADLINE, succeeded).await.unwrap();
    let logs = send(&azure, Method::GET, &format!("{GROUPS}/gone/containers/runner/logs"), None).await;
    assert!(logs.body["content"].as_str().unwrap().contains("no longer exists on the server"), "{logs:?}");
}
