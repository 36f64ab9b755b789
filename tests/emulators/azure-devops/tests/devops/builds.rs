//! Builds, their timelines and their cancellation by the REST API.

use emulator_azure_devops::{JobResult, JobSpec, Options};
use serde_json::{Value, json};

use crate::support::world;

#[tokio::test]
async fn a_build_is_read_with_and_without_its_project() {
    let world = world(Options::default()).await;
    world.devops.add_offline_agent("Default", "placeholder", &[]).unwrap();
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    let run = world.devops.job(request).unwrap().run_id;
    for path in [format!("/_apis/build/builds/{run}"), format!("/app/_apis/build/builds/{run}")] {
        let build = world.get(&path).await;
        assert_eq!(
            (&build.body["id"], &build.body["status"]),
            (&json!(run), &json!("inProgress")),
            "{build:?}"
        );
    }
    world.devops.add_project("other").unwrap();
    let elsewhere = world.get(&format!("/other/_apis/build/builds/{run}")).await;
    assert_eq!((elsewhere.status, elsewhere.kind()), (404, "BuildNotFoundException"));
    let listed = world.get("/app/_apis/build/builds?statusFilter=inProgress").await;
    assert_eq!(listed.each("id"), [json!(run)]);
    assert_eq!(world.get("/app/_apis/build/builds?statusFilter=completed").await.body["count"], 0);
    let pipeline = listed.body["value"][0]["definition"]["id"].clone();
    let as_run = world.get(&format!("/app/_apis/pipelines/{pipeline}/runs/{run}")).await;
    assert_eq!((&as_run.body["id"], &as_run.body["state"]), (&json!(run), &json!("inProgress")));
}

#[tokio::test]
async fn cancelling_a_build_cancels_its_jobs_once() {
    let world = world(Options::default()).await;
    let agent = world.agent("one", &[]).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &[])).unwrap();
    agent.job().await;
    let run = world.devops.job(request).unwrap().run_id;
    let path = format!("/app/_apis/build/builds/{run}");
    let cancelling = world.call("PATCH", &path, Some(json!({"status": "cancelling"}))).await;
    assert_eq!((cancelling.status, &cancelling.body["status"]), (200, &json!("cancelling")));
    assert_eq!(agent.message(10).await.unwrap()["type"], "cancel");
    agent.complete(request, "canceled").await;
    let ended = world.get(&path).await;
    assert_eq!((&ended.body["status"], &ended.body["result"]), (&json!("completed"), &json!("canceled")));
    let again = world.call("PATCH", &path, Some(json!({"status": "cancelling"}))).await;
    assert_eq!((again.status, again.kind()), (400, "BuildStatusInvalidChangeException"));
}

#[tokio::test]
async fn the_timeline_tells_stages_jobs_complaints_and_earlier_attempts() {
    let world = world(Options::default()).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &["gpu"]).in_stage("build")).unwrap();
    let job = world.devops.job(request).unwrap();
    assert_eq!(job.result, Some(JobResult::Failed));
    let path = format!("/app/_apis/build/builds/{}", job.run_id);
    world.devops.add_offline_agent("Default", "placeholder", &[("gpu", "1")]).unwrap();
    let retry = json!({"state": "retry"});
    assert_eq!(world.call("PATCH", &format!("{path}/stages/BUILD"), Some(retry)).await.status, 204);

    let timeline = world.get(&format!("{path}/timeline")).await.body;
    let record = |kind: &str| -> Value {
        timeline["records"].as_array().unwrap().iter().find(|one| one["type"] == kind).unwrap().clone()
    };
    assert_eq!((&record("Stage")["state"], &record("Stage")["attempt"]), (&json!("pending"), &json!(2)));
    assert_eq!((&record("Job")["attempt"], &record("Job")["state"]), (&json!(2), &json!("pending")));
    assert_eq!(record("Job")["previousAttempts"][0]["recordId"], job.job_id);
    assert_eq!(record("Job")["parentId"], record("Stage")["id"]);

    let cancel = json!({"state": "cancel"});
    assert_eq!(world.call("PATCH", &format!("{path}/stages/build"), Some(cancel)).await.status, 204);
    assert_eq!(world.get(&path).await.body["result"], "canceled");
}

#[tokio::test]
async fn a_job_that_failed_for_want_of_an_agent_says_so_in_the_timeline() {
    let world = world(Options::default()).await;
    let request = world.devops.queue_job(JobSpec::new("Default", &["gpu"])).unwrap();
    let run = world.devops.job(request).unwrap().run_id;
    let timeline = world.get(&format!("/_apis/build/builds/{run}/timeline")).await.body;
    let records = timeline["records"].as_array().unwrap();
    let job = records.iter().find(|one| one["type"] == "Job").unwrap();
    assert_eq!(job["errorCount"], 1);
    assert!(job["issues"][0]["message"].as_str().unwrap().contains("gpu"), "{job}");
}
