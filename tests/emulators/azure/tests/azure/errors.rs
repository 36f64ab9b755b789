//! What ARM and ACI refuse, and with which code.

use emulator_azure::{Options, Script};
use emulator_common::Fault;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{GROUPS, client, get, group, options, put, send, start};

#[tokio::test]
async fn every_request_needs_a_token_and_an_api_version() {
    let azure = start(options()).await;
    let client = client();
    let url = format!("{}{GROUPS}", azure.url());
    let answer = client.get(format!("{url}?api-version=2023-05-01")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers().contains_key("www-authenticate"));
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["code"], "AuthenticationFailed");
    let answer = client.get(&url).bearer_auth("token").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["code"], "MissingApiVersionParameter");
}

#[tokio::test]
async fn bodies_are_checked() {
    let azure = start(options()).await;
    azure.make_unpullable("private/*");
    let container = |change: Value| {
        let mut body = group("ok:1");
        let properties = body["properties"]["containers"][0]["properties"].as_object_mut().unwrap();
        properties.extend(change.as_object().unwrap().clone());
        body
    };
    let with = |key: &str, value: Value| {
        let mut body = group("ok:1");
        body["properties"][key] = value;
        body
    };
    let requests = json!({ "cpu": 1, "memoryInGB": 1 });
    for (name, body, code) in [
        ("g", container(json!({ "resources": {} })), "MissingContainerResources"),
        ("g", container(json!({ "image": "private/x" })), "InaccessibleImage"),
        (
            "g",
            container(
                json!({ "resources": { "requests": requests, "limits": { "cpu": 2, "memoryInGB": 1 } } }),
            ),
            "ContainerLimitGreaterThanContainerGroupTotalRequest",
        ),
        ("g", with("volumes", json!([{ "name": "twice" }, { "name": "twice" }])), "DuplicateVolumes"),
        (
            "g",
            with("volumes", json!([{ "name": "s", "secret": { "f": "no base64!" } }])),
            "InvalidSecretVolume",
        ),
        ("g", with("osType", json!("Plan9")), "InvalidOsType"),
        ("g", with("restartPolicy", json!("Sometimes")), "InvalidRestartPolicy"),
        ("g", with("containers", json!([])), "MissingContainers"),
        ("g", json!({ "location": "westeurope" }), "InvalidRequestContent"),
        ("Capital", group("ok:1"), "InvalidContainerGroupName"),
        (&"a".repeat(64), group("ok:1"), "InvalidContainerGroupName"),
    ] {
        let answer = put(&azure, name, body).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, code), "{answer:?}");
    }
    let huge = container(json!({ "resources": { "requests": { "cpu": 32, "memoryInGB": 1 } } }));
    let answer = put(&azure, "g", huge).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, "ServiceUnavailable"));
    assert!(azure.history().is_empty());
}

#[tokio::test]
async fn a_group_in_transition_refuses_changes() {
    let azure = start(Options { time_scale: 1.0, ..options() }).await;
    put(&azure, "g", group("ok:1")).await;
    let again = put(&azure, "g", group("fails:1")).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "ContainerGroupTransitioning"));
    let stopped = send(&azure, Method::POST, &format!("{GROUPS}/g/stop"), None).await;
    assert_eq!(stopped.code(), "ContainerGroupTransitioning");
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let azure = start(Options { resource_groups: Some(vec!["RG".to_owned()]), ..options() }).await;
    assert_eq!(get(&azure, "absent").await.code(), "ResourceNotFound");
    let elsewhere = GROUPS.replace("/rg/", "/other/");
    assert_eq!(send(&azure, Method::GET, &elsewhere, None).await.code(), "ResourceGroupNotFound");
    let nonsense = send(&azure, Method::GET, "/subscriptions/sub/providers/Microsoft.Nonsense/x", None).await;
    assert_eq!((nonsense.status, nonsense.code()), (StatusCode::NOT_FOUND, "InvalidResourceType"));
    put(&azure, "g", group("sleeps:1")).await;
    let logs = send(&azure, Method::GET, &format!("{GROUPS}/g/containers/absent/logs"), None).await;
    assert_eq!(logs.code(), "ContainerNotFound");
    let exec =
        send(&azure, Method::POST, &format!("{GROUPS}/g/containers/runner/exec"), Some(json!({}))).await;
    assert_eq!(exec.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn refusals_can_be_scripted() {
    let azure = start(options()).await;
    azure.script(Script::RefusePut {
        group: "g".to_owned(),
        status: 429,
        code: "TooManyRequests".to_owned(),
        retry_after: Some(7),
        count: 1,
    });
    azure.script(Script::NoCapacity { region: "westeurope".to_owned(), short: true });
    let refused = put(&azure, "g", group("ok:1")).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "7"));
    let short = put(&azure, "g", group("ok:1")).await;
    assert_eq!((short.status, short.code()), (StatusCode::CONFLICT, "ServiceUnavailable"));
    azure.script(Script::NoCapacity { region: "westeurope".to_owned(), short: false });
    assert_eq!(put(&azure, "g", group("ok:1")).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn scripts_can_be_given_over_http_and_faults_hit_arm() {
    let azure = start(options()).await;
    let script = json!({ "script": "make-unpullable", "image": "*" });
    let given = send(&azure, Method::POST, "/_emulator/scripts", Some(script)).await;
    assert_eq!(given.status, StatusCode::NO_CONTENT);
    assert_eq!(put(&azure, "g", group("ok:1")).await.code(), "InaccessibleImage");
    azure.faults().add(Fault::on("GET", "*/containerGroups/g").times(1).fail(500));
    assert_eq!(get(&azure, "g").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(get(&azure, "g").await.status, StatusCode::NOT_FOUND);
    assert_eq!(send(&azure, Method::GET, "/_emulator/meter", None).await.body, json!([]));
}
