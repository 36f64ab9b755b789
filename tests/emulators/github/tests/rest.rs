//! The REST API: credentials, JIT configs, runners, runs, limits.

#![expect(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test ends at its first surprise")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emulator_github::{Conclusion, JobSpec, Options, OwnerSpec, RateLimits, RunnerGroupSpec};
use jiff::SignedDuration;
use serde_json::json;
use support::{Agent, SOON, emulator};

#[tokio::test]
async fn an_apps_token_is_checked_as_github_checks_it() {
    let (github, client) = emulator(Options::default()).await;
    assert_eq!(client.call("GET", "/app", &client.jwt(500), None).await.status, 200);
    for (jwt, message) in [
        (client.jwt(-10), "the assertion expires"),
        (client.jwt(3600), "too far in the future"),
        (client.jwt(500).replace('.', ".e"), "could not be decoded"),
    ] {
        let answer = client.call("GET", "/app", &jwt, None).await;
        assert_eq!(answer.status, 401);
        assert!(answer.body["message"].as_str().unwrap().contains(message), "{answer:?}");
    }
    let (other, stranger) = emulator(Options { app_id: 7, ..Options::default() }).await;
    assert_eq!(client.call("GET", "/app", &stranger.jwt(500), None).await.status, 401);
    drop((github, other));
}

#[tokio::test]
async fn an_installations_token_reaches_its_owner_for_an_hour() {
    let (github, client) = emulator(Options::default()).await;
    github.add_repository("other/app", false).unwrap();
    let token = client.token("acme").await;
    assert!(token.starts_with("ghs_"));
    assert_eq!(client.call("GET", "/repos/acme/app", &token, None).await.status, 200);
    assert_eq!(client.call("GET", "/repos/other/app", &token, None).await.status, 404);
    assert_eq!(client.call("GET", "/repos/acme/app", "", None).await.status, 401);
    github.clock().advance(SignedDuration::from_secs(3601));
    let answer = client.call("GET", "/repos/acme/app", &token, None).await;
    assert_eq!((answer.status, answer.body["message"].as_str().unwrap()), (401, "Bad credentials"));
}

#[tokio::test]
async fn a_token_can_be_confined() {
    let (github, client) = emulator(Options::default()).await;
    github.add_repository("acme/secret", false).unwrap();
    let id = github.installation_id("acme");
    let path = format!("/app/installations/{id}/access_tokens");
    let body = json!({"repositories": ["app"], "permissions": {"metadata": "read"}});
    let answer = client.call("POST", &path, &client.jwt(500), Some(body)).await;
    let token = answer.body["token"].as_str().unwrap();
    assert_eq!(client.call("GET", "/repos/acme/app", token, None).await.status, 200);
    assert_eq!(client.call("GET", "/repos/acme/secret", token, None).await.status, 404);
    assert_eq!(client.call("GET", "/repos/acme/app/actions/runs", token, None).await.status, 403);
}

#[tokio::test]
async fn a_jit_config_is_validated_and_its_name_is_taken_once() {
    let (_github, client) = emulator(Options::default()).await;
    let token = client.token("acme").await;
    let path = "/orgs/acme/actions/runners/generate-jitconfig";
    let good = json!({"name": "one", "runner_group_id": 1, "labels": ["self-hosted", "stint"]});
    let made = client.call("POST", path, &token, Some(good.clone())).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("x-ratelimit-resource"), "actions_runner_registration");
    assert_eq!(made.body["runner"]["labels"][0]["type"], "read-only");
    assert_eq!(made.body["runner"]["labels"][1]["type"], "custom");
    let again = client.call("POST", path, &token, Some(good.clone())).await;
    assert_eq!(again.status, 409);
    assert!(again.body["message"].as_str().unwrap().starts_with("Already exists"));
    for (field, value, status) in [
        ("name", json!("a/b"), 422),
        ("name", json!("x".repeat(65)), 422),
        ("labels", json!([]), 422),
        ("labels", json!(vec!["x"; 101]), 422),
        ("labels", json!("x"), 422),
        ("runner_group_id", json!(99), 404),
    ] {
        let mut bad = good.clone();
        bad["name"] = json!("two");
        bad[field] = value;
        assert_eq!(client.call("POST", path, &token, Some(bad)).await.status, status, "{field}");
    }
    let missing = client.call("POST", path, &token, Some(json!({"name": "two"}))).await;
    assert_eq!(missing.status, 422);
}

#[tokio::test]
async fn runners_are_listed_by_name_and_page() {
    let (_github, client) = emulator(Options::default()).await;
    for number in 0..5 {
        client.register(&format!("runner-{number}"), &["stint"]).await;
    }
    client.register_at("/repos/acme/app", "elsewhere", &["stint"]).await;
    let token = client.token("acme").await;
    let named = client.call("GET", "/orgs/acme/actions/runners?name=runner-3", &token, None).await;
    assert_eq!(named.body["total_count"], 1);
    let second = client.call("GET", "/orgs/acme/actions/runners?per_page=2&page=2", &token, None).await;
    assert_eq!(second.body["total_count"], 5);
    assert_eq!(second.body["runners"][0]["name"], "runner-2");
    assert!(second.header("link").contains("page=3>; rel=\"next\""), "{}", second.header("link"));
    let id = second.body["runners"][0]["id"].clone();
    let path = format!("/orgs/acme/actions/runners/{id}");
    assert_eq!(client.call("GET", &path, &token, None).await.body["status"], "offline");
    assert_eq!(client.call("DELETE", &path, &token, None).await.status, 204);
    assert_eq!(client.call("DELETE", &path, &token, None).await.status, 404);
    let prefixed = client.call("GET", "/api/v3/orgs/acme/actions/runners", &token, None).await;
    assert_eq!(prefixed.body["total_count"], 4);
}

#[tokio::test]
async fn a_busy_runner_is_not_deleted() {
    let (github, client) = emulator(Options::default()).await;
    let agent = client.connect("one", &["stint"]).await;
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    assert_eq!(agent.message(5).await.unwrap()["jobId"], job);
    let token = client.token("acme").await;
    let runner = github.runners()[0].id;
    let path = format!("/orgs/acme/actions/runners/{runner}");
    let refused = client.call("DELETE", &path, &token, None).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body["message"].as_str().unwrap().contains("is still running a job"));
    assert_eq!(agent.complete(job, "success").await, 200);
    assert_eq!(client.call("DELETE", &path, &token, None).await.status, 404);
    assert_eq!(agent.message(0).await, Err(404));
}

#[tokio::test]
async fn a_jit_config_is_used_once() {
    let (github, client) = emulator(Options::default()).await;
    let config = client.register("one", &["stint"]).await;
    let agent = Agent::connect(&config).await.unwrap();
    assert_eq!(Agent::connect(&config).await.err(), Some(409));
    assert_eq!(agent.leave().await, 204);
    assert_eq!(Agent::connect(&config).await.err(), Some(409));
    github.remove_runner(github.runners()[0].id);
    assert_eq!(Agent::connect(&config).await.err(), Some(404));
}

#[tokio::test]
async fn runs_show_where_their_jobs_stand() {
    let (github, client) = emulator(Options::default()).await;
    let first = github.queue_job(JobSpec::new("acme/app", &["stint"]).from_fork("stranger/app")).unwrap();
    let run = github.job(first).unwrap().run_id;
    let second = github.queue_job(JobSpec::new("acme/app", &["stint"]).named("test").in_run(run)).unwrap();
    let token = client.token("acme").await;
    let runs = "/repos/acme/app/actions/runs";
    let count = async |status: &str| {
        let answer = client.call("GET", &format!("{runs}?status={status}"), &token, None).await;
        answer.body["total_count"].as_u64().unwrap()
    };
    assert_eq!((count("queued").await, count("in_progress").await), (1, 0));
    let json = client.call("GET", &format!("{runs}/{run}"), &token, None).await.body;
    assert_eq!(json["event"], "pull_request");
    assert_eq!(json["head_repository"]["full_name"], "stranger/app");
    assert_eq!(json["head_repository"]["fork"], true);
    let agent = client.connect("one", &["stint"]).await;
    agent.message(5).await.unwrap();
    assert_eq!((count("queued").await, count("in_progress").await), (0, 1));
    agent.complete(first, "failure").await;
    github.cancel_job(second).unwrap();
    assert_eq!(count("completed").await, 1);
    let json = client.call("GET", &format!("{runs}/{run}"), &token, None).await.body;
    assert_eq!(json["conclusion"], "failure");

    let rerun = format!("{runs}/{run}/rerun-failed-jobs");
    assert_eq!(client.call("POST", &rerun, &token, None).await.status, 201);
    assert_eq!(client.call("POST", &rerun, &token, None).await.status, 403);
    let latest = client.call("GET", &format!("{runs}/{run}/jobs"), &token, None).await.body;
    assert_eq!((&latest["total_count"], &latest["jobs"][0]["run_attempt"]), (&json!(2), &json!(2)));
    let every = client.call("GET", &format!("{runs}/{run}/jobs?filter=all"), &token, None).await.body;
    assert_eq!(every["total_count"], 4);
    let old = client.call("GET", &format!("{runs}/{run}/attempts/1/jobs"), &token, None).await.body;
    assert_eq!(old["jobs"][0]["conclusion"], "failure");
    let job = client.call("GET", &format!("/repos/acme/app/actions/jobs/{first}"), &token, None).await.body;
    assert_eq!(job["runner_name"], "one");
    assert_eq!(client.call("POST", &format!("{runs}/{run}/cancel"), &token, None).await.status, 202);
    assert_eq!(client.call("POST", &format!("{runs}/{run}/cancel"), &token, None).await.status, 409);
}

#[tokio::test]
async fn the_hourly_limit_is_counted_and_refuses() {
    let limits = RateLimits { core_per_hour: 3, ..RateLimits::default() };
    let (_github, client) = emulator(Options { limits, ..Options::default() }).await;
    let token = client.token("acme").await;
    let first = client.call("GET", "/repos/acme/app", &token, None).await;
    assert_eq!((first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")), ("3", "2"));
    assert_eq!(first.header("x-ratelimit-resource"), "core");
    for _ in 0..2 {
        client.call("GET", "/repos/acme/app", &token, None).await;
    }
    let refused = client.call("GET", "/repos/acme/app", &token, None).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (403, "0"));
    assert_eq!(refused.header("retry-after"), "");
    let overview = client.call("GET", "/rate_limit", &token, None).await;
    assert_eq!(overview.body["resources"]["core"]["used"], 3);
}

#[tokio::test]
async fn registrations_have_a_limit_of_their_own() {
    let limits = RateLimits {
        registration_burst: 2,
        registration_per_minute: 60,
        status: 429,
        ..RateLimits::default()
    };
    let (github, client) = emulator(Options { limits, ..Options::default() }).await;
    client.register("one", &["stint"]).await;
    client.register("two", &["stint"]).await;
    let token = client.token("acme").await;
    let body = json!({"name": "three", "runner_group_id": 1, "labels": ["stint"]});
    let path = "/orgs/acme/actions/runners/generate-jitconfig";
    let refused = client.call("POST", path, &token, Some(body.clone())).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, "0"));
    assert_eq!(client.call("GET", "/repos/acme/app", &token, None).await.status, 200);
    github.clock().advance(SignedDuration::from_secs(2));
    assert_eq!(client.call("POST", path, &token, Some(body)).await.status, 201);
}

#[tokio::test]
async fn the_secondary_limit_says_when_to_come_back() {
    let limits = RateLimits { points_per_minute: 6, ..RateLimits::default() };
    let (_github, client) = emulator(Options { limits, ..Options::default() }).await;
    let token = client.token("acme").await;
    for _ in 0..6 {
        assert_eq!(client.call("GET", "/repos/acme/app", &token, None).await.status, 200);
    }
    let refused = client.call("GET", "/repos/acme/app", &token, None).await;
    assert_eq!(refused.status, 403);
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let limits = RateLimits { concurrent: 0, status: 429, ..RateLimits::default() };
    let (_github, client) = emulator(Options { limits, ..Options::default() }).await;
    let refused = client.as_app("GET", "/app").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
}

#[tokio::test]
async fn what_has_not_changed_is_free() {
    let (github, client) = emulator(Options::default()).await;
    let github_token = client.token("acme").await;
    let http = reqwest::Client::builder().user_agent("tests").no_proxy().build().unwrap();
    let url = format!("{}/repos/acme/app", github.url());
    let first = http.get(&url).bearer_auth(&github_token).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    let again = http.get(&url).bearer_auth(&github_token).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(again.headers()["x-ratelimit-used"], "1");
}

#[tokio::test]
async fn a_group_governs_who_may_use_an_organizations_runners() {
    let groups = vec![RunnerGroupSpec {
        id: 5,
        name: "builders".to_owned(),
        allows_public_repositories: true,
        repositories: Some(vec!["acme/app".to_owned()]),
    }];
    let options =
        Options { runner_groups: groups, owners: vec![OwnerSpec::user("someone")], ..Options::default() };
    let (github, client) = emulator(options).await;
    let token = client.token("acme").await;
    let listed = client.call("GET", "/orgs/acme/actions/runner-groups", &token, None).await;
    assert_eq!(listed.body["total_count"], 2);
    assert_eq!(client.call("GET", "/orgs/someone/actions/runners", &token, None).await.status, 404);

    // The default group is closed to public repositories, `builders` to all but one.
    let public = github.queue_job(JobSpec::new("acme/site", &["stint"]).of_public_repository()).unwrap();
    let mut by_group = JobSpec::new("acme/app", &[]);
    by_group.runner_group = Some("builders".to_owned());
    let by_group = github.queue_job(by_group).unwrap();
    let default = client.connect("default", &["stint"]).await;
    assert_eq!(default.message(0).await, Err(204));
    let body = json!({"name": "builder", "runner_group_id": 5, "labels": ["stint"]});
    let made = client.call("POST", "/orgs/acme/actions/runners/generate-jitconfig", &token, Some(body)).await;
    let builder = Agent::connect(made.body["encoded_jit_config"].as_str().unwrap()).await.unwrap();
    assert_eq!(builder.message(5).await.unwrap()["jobId"], by_group);
    assert_eq!(github.job(public).unwrap().runner_id, None);
    builder.complete(by_group, "success").await;
    let ended = github.wait_for_end(by_group, SOON).await.unwrap();
    assert_eq!(ended.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_runner_was_registered() {
    let (github, client) = emulator(Options::default()).await;
    let token = client.token("acme").await;
    github.faults().add(emulator_github::Fault::on("POST", "*/generate-jitconfig").times(1).drop_answer());
    let http = reqwest::Client::builder().user_agent("tests").no_proxy().build().unwrap();
    let url = format!("{}/orgs/acme/actions/runners/generate-jitconfig", github.url());
    let body = json!({"name": "ghost", "runner_group_id": 1, "labels": ["stint"]});
    assert!(http.post(&url).bearer_auth(&token).json(&body).send().await.is_err());
    assert_eq!(github.runners()[0].name, "ghost");
    let again = http.post(&url).bearer_auth(&token).json(&body).send().await.unwrap();
    assert_eq!(again.status(), 409);
    assert_eq!(github.journal().count("POST", "*/generate-jitconfig"), 2);
}

#[tokio::test]
async fn tls_and_an_address_of_choice_reach_jit_configs() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = emulator_github::Tls { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() };
    let options = Options {
        tls: Some(tls),
        public_url: Some("https://github.example:8443".to_owned()),
        personal_token: Some("ghp_of_the_tests".to_owned()),
        repositories: vec!["acme/app".to_owned()],
        ..Options::default()
    };
    let github = emulator_github::GitHub::start(options).await.unwrap();
    let http =
        reqwest::Client::builder().user_agent("tests").tls_danger_accept_invalid_certs(true).no_proxy();
    let answer = http
        .build()
        .unwrap()
        .post(format!("{}/repos/acme/app/actions/runners/generate-jitconfig", github.url()))
        .bearer_auth("ghp_of_the_tests")
        .json(&json!({"name": "one", "runner_group_id": 1, "labels": ["stint"]}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let body: serde_json::Value = answer.json().await.unwrap();
    let unpack = |text: &serde_json::Value| -> serde_json::Value {
        serde_json::from_slice(&STANDARD.decode(text.as_str().unwrap()).unwrap()).unwrap()
    };
    let settings = unpack(&unpack(&body["encoded_jit_config"])[".runner"]);
    assert_eq!(settings["serverUrl"], "https://github.example:8443");
    assert_eq!(settings["gitHubUrl"], "https://github.example:8443/acme/app");
}
