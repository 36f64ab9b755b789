//! The client of ARM against a server that speaks HTTP: paths, bodies, answers, failures.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use emulator_common::{CutConnection, ServeOptions, ServerHandle, Tls, serve};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use stint::azure::{ArmClient, ArmOptions, CredentialKind};
use stint::ports::{CallErrorKind, GroupAddress, GroupOrder, Groups};

const USAGES: &str = "/subscriptions/sub/providers/Microsoft.ContainerInstance/locations/westeurope/usages";
const GROUPS: &str =
    "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerInstance/containerGroups";

/// What reached the server.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

struct Arm {
    server: ServerHandle,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Arm {
    /// A server that answers the requests of each number, from 0, with what `answer` makes of them.
    async fn start(answer: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static) -> Self {
        Self::start_with(ServeOptions::default(), answer).await
    }

    async fn start_with(
        options: ServeOptions,
        answer: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let seen = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(seen.clone());
                    log.len() - 1
                };
                answer(number, &seen)
            }
        });
        Self { server: serve(router, options).await.unwrap(), seen }
    }

    fn options(&self) -> ArmOptions {
        ArmOptions { endpoint: self.server.url.clone(), ..ArmOptions::default() }
    }

    fn client(&self) -> ArmClient {
        client(&self.options())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn client(options: &ArmOptions) -> ArmClient {
    ArmClient::new(options, &CredentialKind::Token(SecretString::from("the-token"))).unwrap()
}

fn address(name: &str) -> GroupAddress {
    GroupAddress { subscription: "sub".to_owned(), resource_group: "rg".to_owned(), name: name.to_owned() }
}

fn order() -> GroupOrder {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    GroupOrder {
        region: "westeurope".to_owned(),
        tags: map(&[("stint.dev/runner", "r")]),
        image: "registry.example/acme/agent@sha256:00".to_owned(),
        size: ("1.50".parse().unwrap(), "3.5".parse().unwrap()),
        env: map(&[("STINT_DIR", "/run/stint")]),
        files: BTreeMap::from([("jitconfig".to_owned(), SecretString::from("jit\0ü"))]),
        mount_path: "/run/stint".to_owned(),
        registries: vec![("acme.azurecr.io".to_owned(), "puller".to_owned(), SecretString::from("pw"))],
    }
}

fn arm_error(status: u16, code: &str, message: &str) -> Response {
    let body = Json(json!({ "error": { "code": code, "message": message } }));
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn ok(body: Value) -> Response {
    Json(body).into_response()
}

fn time(text: &str) -> Option<Timestamp> {
    Some(text.parse().unwrap())
}

fn event(name: &str, message: &str, first: &str, last: &str) -> Value {
    json!({ "count": 1, "name": name, "message": message, "type": "Normal", "firstTimestamp": first, "lastTimestamp": last })
}

/// A group as a GET answers it, with these containers' `instanceView`s.
fn group(name: &str, state: &str, views: &[Value]) -> Value {
    let containers: Vec<_> = views
        .iter()
        .enumerate()
        .map(|(number, view)| {
            json!({
                "name": format!("c{number}"),
                "properties": {
                    "image": "registry.example/acme/agent", "command": [], "ports": [], "environmentVariables": [],
                    "resources": { "requests": { "memoryInGB": 4.0, "cpu": 2.0 } },
                    "instanceView": view,
                },
            })
        })
        .collect();
    json!({
        "id": format!("{GROUPS}/{name}"), "name": name, "type": "Microsoft.ContainerInstance/containerGroups",
        "location": "westeurope", "tags": { "PodName": "p", "UID": "u-1", "Odd": null },
        "properties": {
            "sku": "Standard", "provisioningState": "Succeeded", "osType": "Linux", "restartPolicy": "Never",
            "containers": containers,
            "instanceView": { "events": [], "state": state },
        },
    })
}

#[tokio::test]
async fn a_finished_group_shows_when_its_meter_ran() {
    let finished = |finish: &str| {
        json!({
            "restartCount": 0,
            "currentState": {
                "state": "Terminated", "startTime": "2026-03-01T10:00:21.5Z", "finishTime": finish,
                "exitCode": 0, "detailStatus": "Completed",
            },
            "events": [
                event("Pulled", "Successfully pulled image", "2026-03-01T10:00:19Z", "2026-03-01T10:00:19Z"),
                event("Pulling", "pulling image", "2026-03-01T10:00:02Z", "2026-03-01T10:00:04Z"),
                event("Started", "Started container", "2026-03-01T10:00:21Z", "2026-03-01T10:00:21Z"),
            ],
        })
    };
    let mut second = finished("2026-03-01T10:05:00Z");
    second["events"] =
        json!([event("Pulling", "pulling image", "2026-03-01T10:00:01.25Z", "2026-03-01T10:00:01.25Z")]);
    let body = group("g", "Succeeded", &[finished("2026-03-01T10:04:00.000000001Z"), second]);
    let arm = Arm::start(move |_, _| ok(body.clone())).await;
    let found = arm.client().get(&address("g")).await.unwrap().unwrap();
    assert_eq!(found.id, address("g").id());
    assert_eq!(
        (found.name.as_str(), found.provisioning_state.as_str(), found.state.as_str()),
        ("g", "Succeeded", "Succeeded")
    );
    assert_eq!((found.tags["UID"].as_str(), found.tags["Odd"].as_str()), ("u-1", ""));
    assert_eq!(found.pull_started, time("2026-03-01T10:00:01.25Z"));
    assert_eq!(found.started, time("2026-03-01T10:00:21.5Z"));
    assert_eq!(found.stopped, time("2026-03-01T10:05:00Z"));
    assert_eq!(found.message.as_deref(), Some("Started: Started container"));

    let seen = arm.seen().remove(0);
    assert_eq!(
        (seen.method, seen.uri.to_string()),
        (Method::GET, format!("{GROUPS}/g?api-version=2023-05-01"))
    );
    assert_eq!(seen.headers["authorization"], "Bearer the-token");
}

#[tokio::test]
async fn a_group_shows_whose_it_is_and_that_it_was_started_again() {
    let view = json!({ "restartCount": 2, "currentState": { "state": "Running" }, "events": [] });
    let mut body = group("g", "Running", &[view]);
    body["properties"]["containers"][0]["properties"]["environmentVariables"] =
        json!([{ "name": "STINT_ORIGIN", "value": "0123456789abcdef" }, { "name": "SECURE" }]);
    let arm = Arm::start(move |_, _| ok(body.clone())).await;
    let found = arm.client().get(&address("g")).await.unwrap().unwrap();
    assert_eq!(found.restarts, 2);
    assert_eq!(found.env, BTreeMap::from([("STINT_ORIGIN".to_owned(), "0123456789abcdef".to_owned())]));
}

#[tokio::test]
async fn a_group_has_not_stopped_while_one_of_its_containers_runs() {
    let ended = json!({ "currentState": { "state": "Terminated", "finishTime": "2026-03-01T10:04:00Z" } });
    let runs = json!({ "currentState": { "state": "Running", "startTime": "2026-03-01T10:00:21Z" } });
    for (views, stopped) in [
        (vec![ended.clone(), runs.clone()], None),
        (vec![ended.clone(), json!(null)], None),
        (vec![runs], None),
        (vec![], None),
        (vec![ended], time("2026-03-01T10:04:00Z")),
    ] {
        let body = group("g", "Running", &views);
        let arm = Arm::start(move |_, _| ok(body.clone())).await;
        let found = arm.client().get(&address("g")).await.unwrap().unwrap();
        assert_eq!(found.stopped, stopped, "{views:?}");
    }
}

#[tokio::test]
async fn absent_and_odd_fields_are_taken_as_unknown() {
    let bare = json!({ "id": "i", "name": "g" });
    let nulls = json!({
        "id": "i", "name": "g", "tags": null,
        "properties": {
            "provisioningState": null, "containers": [{ "properties": null }, {}],
            "instanceView": { "state": null, "events": null },
        },
    });
    let odd_times = group(
        "g",
        "Pending",
        &[json!({
            "currentState": { "state": "Waiting", "startTime": "0001-01-01T00:00:00Z" },
            "events": [event("Pulling", "", "soon", ""), { "name": "Pulling", "firstTimestamp": "2026-03-01T10:00:02" }],
        })],
    );
    for (body, pulled) in [(bare, None), (nulls, None), (odd_times, time("2026-03-01T10:00:02Z"))] {
        let arm = Arm::start(move |_, _| ok(body.clone())).await;
        let found = arm.client().get(&address("g")).await.unwrap().unwrap();
        assert_eq!((found.pull_started, found.started, found.stopped), (pulled, None, None));
    }
}

#[tokio::test]
async fn the_last_event_is_the_message_even_if_it_is_the_groups_own() {
    let mut body = group(
        "g",
        "Pending",
        &[json!({ "events": [event("Pulling", "p", "2026-03-01T10:00:02Z", "2026-03-01T10:00:02Z")] })],
    );
    body["properties"]["instanceView"]["events"] = json!([event(
        "Failed",
        "Failed to pull image \"x\"",
        "2026-03-01T10:00:01Z",
        "2026-03-01T10:02:00Z"
    )]);
    let arm = Arm::start(move |_, _| ok(body.clone())).await;
    let found = arm.client().get(&address("g")).await.unwrap().unwrap();
    assert_eq!(found.message.as_deref(), Some("Failed: Failed to pull image \"x\""));
}

#[tokio::test]
async fn a_group_that_is_not_there_is_none_and_its_deletion_no_error() {
    let arm = Arm::start(|_, _| arm_error(404, "ResourceNotFound", "not found")).await;
    assert_eq!(arm.client().get(&address("g")).await.unwrap(), None);
    arm.client().delete(&address("g")).await.unwrap();
    assert_eq!(arm.client().logs(&address("g"), "runner").await.unwrap(), "");
    assert_eq!(arm.seen().len(), 3);
}

#[tokio::test]
async fn every_answer_that_means_a_deletion_is_accepted() {
    for status in [200, 202, 204] {
        let arm = Arm::start(move |_, _| StatusCode::from_u16(status).unwrap().into_response()).await;
        arm.client().delete(&address("g")).await.unwrap();
        assert_eq!(arm.seen()[0].method, Method::DELETE);
    }
}

#[tokio::test]
async fn a_created_group_is_one_container_with_the_credential_as_a_secret_volume() {
    let arm = Arm::start(|_, _| (StatusCode::CREATED, Json(json!({}))).into_response()).await;
    arm.client().create(&address("stint-r"), &order()).await.unwrap();
    let seen = arm.seen().remove(0);
    assert_eq!((&seen.method, seen.uri.path()), (&Method::PUT, format!("{GROUPS}/stint-r").as_str()));
    assert_eq!(seen.headers["content-type"], "application/json");
    let size = json!({ "cpu": 1.5, "memoryInGB": 3.5 });
    assert_eq!(
        serde_json::from_slice::<Value>(&seen.body).unwrap(),
        json!({
            "location": "westeurope",
            "tags": { "stint.dev/runner": "r" },
            "properties": {
                "sku": "Standard",
                "osType": "Linux",
                "restartPolicy": "Never",
                "containers": [{
                    "name": "runner",
                    "properties": {
                        "image": "registry.example/acme/agent@sha256:00",
                        "environmentVariables": [{ "name": "STINT_DIR", "value": "/run/stint" }],
                        "resources": { "requests": size, "limits": size },
                        "volumeMounts": [{ "name": "stint-runner", "mountPath": "/run/stint", "readOnly": true }],
                    },
                }],
                "volumes": [{ "name": "stint-runner", "secret": { "jitconfig": "aml0AMO8" } }],
                "imageRegistryCredentials": [
                    { "server": "acme.azurecr.io", "username": "puller", "password": "pw" },
                ],
            },
        })
    );
}

#[tokio::test]
async fn names_cannot_leave_their_place_in_the_path() {
    let arm = Arm::start(|_, _| arm_error(404, "ResourceNotFound", "")).await;
    arm.client().get(&address("../x/y?z#é")).await.unwrap();
    assert_eq!(arm.seen()[0].uri.path(), format!("{GROUPS}/..%2Fx%2Fy%3Fz%23%C3%A9"));
}

#[tokio::test]
async fn each_failure_has_its_kind_and_one_line_with_arms_own_words() {
    type Case = (fn() -> Response, CallErrorKind, &'static str);
    let cases: [Case; 9] = [
        (
            || arm_error(400, "InaccessibleImage", "The image 'x'\n  is not accessible."),
            CallErrorKind::Refused,
            "400 InaccessibleImage: The image 'x' is not accessible.",
        ),
        (
            || arm_error(403, "AuthorizationFailed", "no"),
            CallErrorKind::Refused,
            "403 AuthorizationFailed: no",
        ),
        (
            || arm_error(404, "ResourceGroupNotFound", "no"),
            CallErrorKind::NotFound,
            "404 ResourceGroupNotFound: no",
        ),
        (
            || arm_error(409, "ContainerGroupTransitioning", "wait"),
            CallErrorKind::Conflict,
            "409 ContainerGroupTransitioning: wait",
        ),
        (
            || ([("retry-after", "17")], arm_error(429, "TooManyRequests", "")).into_response(),
            CallErrorKind::Throttled(Some(Duration::from_secs(17))),
            "429 TooManyRequests",
        ),
        (
            || {
                ([("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], arm_error(429, "TooManyRequests", ""))
                    .into_response()
            },
            CallErrorKind::Throttled(Some(Duration::ZERO)),
            "429 TooManyRequests",
        ),
        (|| arm_error(429, "TooManyRequests", ""), CallErrorKind::Throttled(None), "429 TooManyRequests"),
        (|| arm_error(503, "ServerTimeout", "later"), CallErrorKind::Unavailable, "503 ServerTimeout: later"),
        (
            || (StatusCode::BAD_GATEWAY, "<html>").into_response(),
            CallErrorKind::Unavailable,
            "502 Bad Gateway",
        ),
    ];
    for (answer, kind, words) in cases {
        let arm = Arm::start(move |_, _| answer()).await;
        let error = arm.client().create(&address("g"), &order()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(error.message, format!("create container group g: {words}"));
        assert_eq!(arm.seen().len(), 1, "a creation is never repeated");
    }
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let arm = Arm::start(|_, _| arm_error(400, "Long", &"é".repeat(5000))).await;
    let error = arm.client().create(&address("g"), &order()).await.unwrap_err();
    assert!(error.message.chars().count() < 600 && error.message.ends_with('…'), "{error}");
}

#[tokio::test]
async fn a_reading_is_tried_once_more_where_arm_was_unavailable_and_only_then() {
    let arm = Arm::start(|number, _| match number {
        0 => arm_error(503, "ServerTimeout", ""),
        _ => ok(group("g", "Running", &[])),
    })
    .await;
    arm.client().get(&address("g")).await.unwrap().unwrap();
    assert_eq!(arm.seen().len(), 2);

    for (status, calls) in [(503, 2), (500, 2), (429, 1), (403, 1)] {
        let arm = Arm::start(move |_, _| arm_error(status, "No", "")).await;
        arm.client().get(&address("g")).await.unwrap_err();
        assert_eq!(arm.seen().len(), calls, "{status}");
    }
    let arm = Arm::start(|_, _| arm_error(503, "No", "")).await;
    arm.client().delete(&address("g")).await.unwrap_err();
    assert_eq!(arm.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_a_closed_port_and_a_silent_peer_are_unavailable() {
    let arm = Arm::start(|_, _| CutConnection::response()).await;
    let error = arm.client().create(&address("g"), &order()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");

    let options = arm.options();
    arm.server.shutdown().await;
    let error = client(&options).create(&address("g"), &order()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
    assert!(
        error.message.starts_with("create container group g: ") && !error.message.contains('\n'),
        "{error}"
    );

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let options = ArmOptions { endpoint, timeout: Duration::from_millis(50), ..ArmOptions::default() };
    let error = client(&options).create(&address("g"), &order()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_arms_says_nothing_about_a_group() {
    let arm = Arm::start(|_, _| "<html>Please log in</html>".into_response()).await;
    let error = arm.client().get(&address("g")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable);
    assert!(error.message.contains("something else than ARM"), "{error}");
    assert_eq!(arm.client().list("sub", "rg").await.unwrap_err().kind, CallErrorKind::Unavailable);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let arm = Arm::start(|_, _| (StatusCode::FOUND, [("location", "/elsewhere")]).into_response()).await;
    assert_eq!(arm.client().get(&address("g")).await.unwrap_err().kind, CallErrorKind::Refused);
    assert_eq!(arm.seen().len(), 1);
}

#[tokio::test]
async fn a_listing_follows_its_pages() {
    let arm = Arm::start(|number, seen| {
        let host = seen.headers["host"].to_str().unwrap();
        let next = format!("http://{host}{GROUPS}?api-version=2023-05-01&$skiptoken=page{}", number + 1);
        match number {
            0 => ok(json!({ "value": [group("a", "", &[]), group("b", "", &[])], "nextLink": next })),
            1 => ok(json!({ "value": [], "nextLink": next })),
            _ => ok(json!({ "value": [group("c", "", &[])], "nextLink": "" })),
        }
    })
    .await;
    let names: Vec<_> =
        arm.client().list("sub", "rg").await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let uris: Vec<_> = arm.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(uris[0], format!("{GROUPS}?api-version=2023-05-01"));
    assert!(uris[2].ends_with("$skiptoken=page2"), "{uris:?}");
}

#[tokio::test]
async fn a_next_page_elsewhere_gets_no_token() {
    let other = Arm::start(|_, _| ok(json!({ "value": [] }))).await;
    let next = format!("{}/x", other.server.url);
    let arm = Arm::start(move |_, _| ok(json!({ "value": [], "nextLink": next }))).await;
    assert_eq!(arm.client().list("sub", "rg").await.unwrap_err().kind, CallErrorKind::Refused);
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let arm = Arm::start(|_, seen| {
        let next = format!("http://{}{GROUPS}", seen.headers["host"].to_str().unwrap());
        ok(json!({ "value": [], "nextLink": next }))
    })
    .await;
    let error = arm.client().list("sub", "rg").await.unwrap_err();
    assert!(error.message.contains("more than 200 pages"), "{error}");
}

#[tokio::test]
async fn a_log_is_its_last_64_kib() {
    let arm = Arm::start(|_, _| ok(json!({ "content": format!("é{}", "a".repeat(64 * 1024 - 1)) }))).await;
    let text = arm.client().logs(&address("g"), "runner").await.unwrap();
    assert!(text == "a".repeat(64 * 1024 - 1), "{} bytes", text.len());
    let uri = arm.seen()[0].uri.to_string();
    assert_eq!(uri, format!("{GROUPS}/g/containers/runner/logs?api-version=2023-05-01&tail=2000"));
}

#[tokio::test]
async fn a_log_that_is_not_there_is_empty() {
    let cases: [fn() -> Response; 3] = [
        || ok(json!({ "content": null })),
        || arm_error(404, "ResourceNotFound", ""),
        || arm_error(409, "ContainerGroupDeploymentNotReady", ""),
    ];
    for answer in cases {
        let arm = Arm::start(move |_, _| answer()).await;
        assert_eq!(arm.client().logs(&address("g"), "runner").await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_trusted_with_its_ca_bundle_only() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca_params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::from_params(&ca_params, &ca_key)).unwrap();
    let tls = Tls { cert_pem: leaf.pem(), key_pem: key.serialize_pem() };
    let options =
        ServeOptions { tls: Some(tls), host: Some("localhost".to_owned()), ..ServeOptions::default() };
    let arm = Arm::start_with(options, |_, _| ok(group("g", "Running", &[]))).await;

    let error = arm.client().get(&address("g")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable);
    assert!(error.message.contains("certificate"), "{error}");
    let trusting = client(&ArmOptions { ca_bundle: Some(ca.pem()), ..arm.options() });
    assert!(trusting.get(&address("g")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_proxy_carries_the_calls() {
    let proxy = Arm::start(|_, _| ok(group("g", "Running", &[]))).await;
    let options = ArmOptions {
        endpoint: "http://arm.invalid".to_owned(),
        proxy: Some(SecretString::from(proxy.server.url.clone())),
        ..ArmOptions::default()
    };
    assert!(client(&options).get(&address("g")).await.unwrap().is_some());
    assert_eq!(proxy.seen()[0].uri.host(), Some("arm.invalid"));
}

#[tokio::test]
async fn usages_tell_groups_and_standard_cores() {
    let arm = Arm::start(|_, _| {
        let one = |name: &str, used: u64, limit: u64| json!({"name": {"value": name}, "currentValue": used, "limit": limit});
        Json(json!({"value": [one("ContainerGroups", 7, 100), one("StandardSpotCores", 1, 9), one("standardcores", 12, 10)]}))
            .into_response()
    })
    .await;
    let usage = arm.client().usage("sub", "westeurope").await.unwrap();
    assert_eq!((usage.groups, usage.cores), (Some((7, 100)), Some((12, 10))));
    assert_eq!(arm.seen()[0].uri.path(), USAGES);
}

#[tokio::test]
async fn usages_that_may_not_be_read_are_refused_and_those_that_say_nothing_are_unknown() {
    let arm = Arm::start(|number, _| {
        if number == 0 {
            Json(json!({"value": [{"name": {}}]})).into_response()
        } else {
            StatusCode::FORBIDDEN.into_response()
        }
    })
    .await;
    assert_eq!(arm.client().usage("sub", "westeurope").await.unwrap(), stint::ports::Usage::default());
    let error = arm.client().usage("sub", "westeurope").await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused, "{error}");
}
