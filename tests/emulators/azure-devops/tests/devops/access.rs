//! Who is let in, in which version of the API, how often.

use std::time::Duration;

use emulator_azure_devops::{Identity, Options, RateLimits};
use emulator_common::Fault;
use jiff::SignedDuration;
use serde_json::json;

use crate::support::{PAT, answer, world};

const POOLS: &str = "/_apis/distributedtask/pools?poolName=Default";

#[tokio::test]
async fn a_bad_or_missing_secret_is_answered_with_a_sign_in_page_that_looks_like_success() {
    let world = world(Options::default()).await;
    for request in [world.request("GET", POOLS), world.request("GET", POOLS).basic_auth("", Some("wrong"))] {
        let answer = answer(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (203, "text/html; charset=utf-8"));
        assert!(answer.text.contains("Sign In"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_browser_is_redirected_to_the_sign_in_page() {
    let world = world(Options::default()).await;
    let answer = answer(world.request("GET", POOLS).header("accept", "text/html,*/*")).await;
    assert_eq!(answer.status, 302);
    assert!(answer.header("location").ends_with("/_signin"));
}

#[tokio::test]
async fn a_client_that_suppresses_redirects_gets_401() {
    let world = world(Options::default()).await;
    let request = world.request("GET", POOLS).basic_auth("", Some("wrong"));
    let answer = answer(request.header("x-tfs-fedauthredirect", "Suppress")).await;
    assert_eq!(answer.status, 401);
    let methods: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(methods.len(), 3, "{methods:?}");
}

#[tokio::test]
async fn an_expired_token_gets_401() {
    let world = world(Options::default()).await;
    assert_eq!(world.get(POOLS).await.status, 200);
    world.devops.expire_identity("controller", world.devops.clock().now());
    let answer = world.get(POOLS).await;
    assert_eq!(answer.status, 401);
    assert!(answer.body["message"].as_str().unwrap().contains("expired"));
}

#[tokio::test]
async fn an_entra_token_is_accepted_as_bearer_and_as_password_and_a_pat_as_password_only() {
    let world = world(Options::default()).await;
    world.devops.add_identity(Identity::entra("workload", "entra-of-the-tests"));
    let request = || world.request("GET", POOLS);
    for (request, status) in [
        (request().bearer_auth("entra-of-the-tests"), 200),
        (request().basic_auth("", Some("entra-of-the-tests")), 200),
        (request().basic_auth("anybody", Some(PAT)), 200),
        (request().bearer_auth(PAT), 401),
    ] {
        assert_eq!(answer(request).await.status, status);
    }
}

#[tokio::test]
async fn any_bearer_token_may_be_accepted_where_somebody_else_issues_them() {
    let world = world(Options::default()).await;
    world.devops.add_identity(Identity::any_bearer("workload"));
    assert_eq!(answer(world.request("GET", POOLS).bearer_auth("whatever")).await.status, 200);
    assert_eq!(answer(world.request("GET", POOLS).basic_auth("", Some("whatever"))).await.status, 203);
}

#[tokio::test]
async fn an_identity_that_does_not_administer_pools_reads_only() {
    let world = world(Options::default()).await;
    world.devops.add_identity(Identity::pat("reader", "reader-of-the-tests").reader());
    let path = format!("{}?api-version=7.1", world.pool("/agents"));
    let request = |method: &str| world.request(method, &path).basic_auth("", Some("reader-of-the-tests"));
    assert_eq!(answer(request("GET")).await.status, 200);
    let refused = answer(request("POST").json(&json!({"name": "a"}))).await;
    assert_eq!((refused.status, refused.kind()), (403, "AccessDeniedException"));
}

#[tokio::test]
async fn the_organization_in_the_path_may_be_left_out_and_case_does_not_matter() {
    let world = world(Options::default()).await;
    for path in
        ["/_apis/distributedtask/pools", "/ACME/_apis/DistributedTask/Pools", "/acme/App/_apis/build/Builds"]
    {
        let url = format!("{}{path}", world.devops.url());
        assert_eq!(answer(world.http.get(url).basic_auth("", Some(PAT))).await.status, 200, "{path}");
    }
    let missing = world.get("/nowhere/_apis/build/builds").await;
    assert_eq!((missing.status, missing.kind()), (404, "ProjectDoesNotExistWithNameException"));
}

#[tokio::test]
async fn versions_must_be_said_for_writes_and_be_previews_where_nothing_is_released() {
    let world = world(Options::default()).await;
    let requests = world.pool("/jobrequests");
    let agents = world.pool("/agents");
    for (method, path, kind) in [
        ("GET", requests.clone(), ""),
        ("GET", format!("{requests}?api-version=7.1"), "VssInvalidPreviewVersionException"),
        ("GET", format!("{requests}?api-version=7.1-preview.1"), ""),
        ("GET", format!("{requests}?api-version=9.0-preview"), "VssVersionOutOfRangeException"),
        ("POST", agents.clone(), "VssVersionNotSpecifiedException"),
        ("POST", format!("{agents}?api-version=new"), "VssVersionParseException"),
        ("GET", "/_apis/work/items".to_owned(), "VssResourceNotFoundException"),
    ] {
        let answer = answer(world.request(method, &path).basic_auth("", Some(PAT))).await;
        assert_eq!(answer.kind(), kind, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn consumption_is_told_then_delayed_then_refused() {
    let limits = RateLimits { longest_delay: Duration::from_secs(1), ..RateLimits::default() };
    let world = world(Options { limits, time_scale: 0.1, ..Options::default() }).await;
    let calm = world.get(POOLS).await;
    assert_eq!((calm.status, calm.header("x-ratelimit-limit")), (200, ""));

    world.devops.consume("controller", 170.0);
    let near = world.get(POOLS).await;
    assert_eq!((near.header("x-ratelimit-limit"), near.header("retry-after")), ("200", ""));
    assert_eq!(near.header("x-ratelimit-remaining"), "29");

    world.devops.consume("controller", 130.0);
    let delayed = world.get(POOLS).await;
    assert_eq!((delayed.status, delayed.header("retry-after")), (200, "1"));
    assert_eq!(delayed.header("x-ratelimit-delay"), "0.050");
    assert_eq!(delayed.each("name"), ["Default"]);

    world.devops.consume("controller", 200.0);
    let refused = world.get(POOLS).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "30"));
    assert!(refused.body["message"].as_str().unwrap().starts_with("TF400733"), "{refused:?}");

    world.devops.clock().advance(SignedDuration::from_secs(31));
    assert_eq!(world.get(POOLS).await.status, 200);
}

#[tokio::test]
async fn consumption_is_each_identitys_own() {
    let world = world(Options::default()).await;
    world.devops.add_identity(Identity::pat("other", "other-of-the-tests"));
    world.devops.consume("other", 1_000.0);
    assert_eq!(world.get(POOLS).await.status, 200);
    let request = world.request("GET", POOLS).basic_auth("", Some("other-of-the-tests"));
    assert_eq!(answer(request).await.status, 429);
}

#[tokio::test]
async fn faults_and_the_journal_are_those_of_every_emulator() {
    let world = world(Options::default()).await;
    world.devops.faults().add(Fault::on("GET", "*/jobrequests").times(1).fail(503));
    assert_eq!(world.requests().await.status, 503);
    assert_eq!(world.requests().await.status, 200);
    assert_eq!(world.devops.journal().count("GET", "*/jobrequests"), 2);
}
