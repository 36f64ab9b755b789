//! Tokens from the identity endpoint that the environment names, as an emulator stands in for it.
//!
//! The Azure SDK reads the process's environment, which a test must not change; so each test runs this file's
//! `child_reads_a_group` in a process of its own.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::extract::Query;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use emulator_common::{ServeOptions, ServerHandle, serve};
use serde_json::json;
use stint::azure::{ArmClient, ArmOptions, CredentialKind};
use stint::ports::{GroupAddress, Groups};

type Seen = Arc<Mutex<Vec<String>>>;

/// A server that is both ARM and the identity endpoint, and what it was asked.
async fn start() -> (ServerHandle, Seen) {
    let seen = Seen::default();
    let (tokens, groups) = (Arc::clone(&seen), Arc::clone(&seen));
    let identity = move |Query(query): Query<HashMap<String, String>>, headers: HeaderMap| async move {
        let client = query.get("client_id").map_or("system", String::as_str);
        let header = headers["x-identity-header"].to_str().unwrap();
        tokens.lock().unwrap().push(format!("token for {} as {client} with {header}", query["resource"]));
        Json(json!({
            "access_token": "emulated", "expires_on": "4102444800", "resource": query["resource"], "token_type": "Bearer",
        }))
    };
    let arm = move |headers: HeaderMap| async move {
        groups.lock().unwrap().push(format!("group with {}", headers["authorization"].to_str().unwrap()));
        Json(json!({ "id": "i", "name": "g" })).into_response()
    };
    let router = Router::new().route("/msi/token", get(identity)).fallback(arm);
    (serve(router, ServeOptions::default()).await.unwrap(), seen)
}

async fn run_child(server: &ServerHandle, client_id: Option<&str>) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["child_reads_a_group", "--exact", "--ignored"]);
    for name in ["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "IDENTITY_SERVER_THUMBPRINT"] {
        child.env_remove(name);
    }
    child.env("IDENTITY_ENDPOINT", format!("{}/msi/token", server.url)).env("IDENTITY_HEADER", "shared");
    child.env("STINT_TEST_ARM", &server.url).envs(client_id.map(|id| ("AZURE_CLIENT_ID", id)));
    // A proxy would get the metadata of an identity; none may be asked.
    child.env("HTTP_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "").stdin(Stdio::null());
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
#[ignore = "the other tests run it, each with an environment of its own"]
async fn child_reads_a_group() {
    let Ok(endpoint) = std::env::var("STINT_TEST_ARM") else { return };
    let proxy = Some(endpoint.clone().into());
    let options = ArmOptions { endpoint, proxy, ..ArmOptions::default() };
    let client = ArmClient::new(&options, &CredentialKind::auto()).unwrap();
    let address =
        GroupAddress { subscription: "s".to_owned(), resource_group: "r".to_owned(), name: "g".to_owned() };
    for _ in 0..3 {
        assert!(client.get(&address).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_managed_identity_is_asked_once_at_the_endpoint_that_the_environment_names() {
    let (server, seen) = start().await;
    run_child(&server, None).await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0], "token for https://management.azure.com as system with shared");
    assert_eq!(seen[1..], ["group with Bearer emulated"; 3]);
}

#[tokio::test]
async fn a_user_assigned_identity_is_asked_for_by_its_client_id() {
    let (server, seen) = start().await;
    run_child(&server, Some("1234")).await;
    assert_eq!(seen.lock().unwrap()[0], "token for https://management.azure.com as 1234 with shared");
}
