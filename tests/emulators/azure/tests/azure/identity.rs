//! Tokens: where they come from and when they are refused.

use emulator_azure::{Bearer, Options};
use jiff::SignedDuration;
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{GROUPS, client, options, start};

#[tokio::test]
async fn the_managed_identity_endpoint_issues_tokens_that_expire() {
    let options = Options { bearer: Bearer::Issued, ..options() };
    let clock = options.clock.clone();
    let azure = start(options).await;
    let client = client();
    let ask = |header: Option<&'static str>| {
        let url = format!(
            "{}?api-version=2019-08-01&resource=https%3A%2F%2Fmanagement.azure.com",
            azure.msi_endpoint()
        );
        let request = client.get(url);
        match header {
            Some(header) => request.header("X-IDENTITY-HEADER", header),
            None => request,
        }
    };
    assert_eq!(ask(None).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(ask(Some("wrong")).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let answer: Value = ask(Some("emulated-identity-header")).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["resource"], "https://management.azure.com");
    // A string of seconds, as App Service has it.
    let expires: i64 = answer["expires_on"].as_str().unwrap().parse().unwrap();
    assert!(expires > clock.now().as_second() + 86_000);
    let list = |token: &str| {
        client.get(format!("{}{GROUPS}?api-version=2023-05-01", azure.url())).bearer_auth(token).send()
    };
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(list(token).await.unwrap().status(), StatusCode::OK);
    assert_eq!(list("another").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    clock.advance(SignedDuration::from_hours(25));
    let expired = list(token).await.unwrap();
    assert_eq!(expired.status(), StatusCode::UNAUTHORIZED);
    let error: Value = expired.json().await.unwrap();
    assert_eq!(error["error"]["code"], "ExpiredAuthenticationToken");
}

#[tokio::test]
async fn the_entra_endpoint_issues_tokens() {
    let azure = start(Options { bearer: Bearer::Issued, ..options() }).await;
    let client = client();
    let url = format!("{}/a-tenant/oauth2/v2.0/token", azure.url());
    let answer: Value =
        client.post(url).body("grant_type=client_credentials").send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let listed =
        client.get(format!("{}{GROUPS}?api-version=2023-05-01", azure.url())).bearer_auth(token).send().await;
    assert_eq!(listed.unwrap().status(), StatusCode::OK);
}
