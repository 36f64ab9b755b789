use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::StatusCode;
use azure_core::time::OffsetDateTime;
use secrecy::ExposeSecret;

use super::token::Tokens;
use super::*;
use crate::clock;

/// Hands out tokens `token-1`, `token-2`, … that are good for some seconds, as often as it may.
#[derive(Debug)]
struct Counting {
    good_for: i64,
    fails_after: usize,
    asked: AtomicUsize,
}

#[async_trait]
impl TokenCredential for Counting {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://audience.example/.default"]);
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if number > self.fails_after {
            return Err(azure_core::Error::with_message(ErrorKind::Connection, "cannot connect"));
        }
        let expires = clock::now().as_second() + self.good_for;
        Ok(AccessToken::new(format!("token-{number}"), OffsetDateTime::from_unix_timestamp(expires).unwrap()))
    }
}

fn tokens(good_for: i64, fails_after: usize) -> (Arc<Counting>, Tokens) {
    let counting = Arc::new(Counting { good_for, fails_after, asked: AtomicUsize::new(0) });
    let credential: Arc<dyn TokenCredential> = Arc::clone(&counting) as _;
    (counting, Tokens::new(credential, "https://audience.example/", Duration::from_secs(30)))
}

async fn got(tokens: &Tokens) -> CallResult<String> {
    tokens.get().await.map(|token| token.expose_secret().to_owned())
}

#[tokio::test]
async fn a_token_is_kept_until_five_minutes_before_its_end() {
    for (good_for, expected) in [(3600, "token-1"), (310, "token-1"), (290, "token-2"), (-10, "token-2")] {
        let (_, tokens) = tokens(good_for, 9);
        got(&tokens).await.unwrap();
        assert_eq!(got(&tokens).await.unwrap(), expected, "good for {good_for} s");
    }
}

#[tokio::test]
async fn many_who_need_a_token_at_once_share_one() {
    let (counting, tokens) = tokens(3600, 9);
    futures::future::join_all((0..20).map(|_| tokens.get())).await;
    assert_eq!(counting.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_about_to_expire_must_do_while_no_new_one_is_to_be_had() {
    let (_, nearly) = tokens(60, 1);
    assert_eq!(
        (got(&nearly).await.unwrap(), got(&nearly).await.unwrap()),
        ("token-1".into(), "token-1".into())
    );
    let (_, expired) = tokens(-1, 1);
    got(&expired).await.unwrap();
    assert_eq!(got(&expired).await.unwrap_err().kind, CallErrorKind::Unavailable);
}

#[tokio::test]
async fn a_discarded_token_is_not_used_again() {
    let (_, tokens) = tokens(3600, 9);
    got(&tokens).await.unwrap();
    tokens.discard().await;
    assert_eq!(got(&tokens).await.unwrap(), "token-2");
}

/// Fails as the SDK does: the error that tells is inside one that does not.
#[derive(Debug)]
struct Failing(fn() -> ErrorKind);

#[async_trait]
impl TokenCredential for Failing {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let inner = azure_core::Error::with_message((self.0)(), "AADSTS7000215:\nInvalid client secret");
        Err(azure_core::Error::with_error(ErrorKind::Credential, inner, "authentication failed"))
    }
}

/// Never answers.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl TokenCredential for Silent {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_failed_fetch_says_why_and_whether_another_may_succeed() {
    fn answered(status: StatusCode) -> ErrorKind {
        ErrorKind::HttpResponse { status, error_code: None, raw_response: None }
    }
    let cases: [(fn() -> ErrorKind, CallErrorKind); 6] = [
        (|| answered(StatusCode::Unauthorized), CallErrorKind::Refused),
        (|| answered(StatusCode::TooManyRequests), CallErrorKind::Throttled(None)),
        (|| answered(StatusCode::ServiceUnavailable), CallErrorKind::Unavailable),
        (|| ErrorKind::Connection, CallErrorKind::Unavailable),
        (|| ErrorKind::Io, CallErrorKind::Unavailable),
        (|| ErrorKind::Other, CallErrorKind::Refused),
    ];
    for (inner, expected) in cases {
        let tokens = Tokens::new(Arc::new(Failing(inner)), "https://a.example", Duration::from_secs(30));
        let error = tokens.get().await.unwrap_err();
        assert_eq!(error.kind, expected, "{error}");
        assert!(error.message.contains("AADSTS7000215: Invalid client secret"), "{error}");
    }
    let tokens = Tokens::new(Arc::new(Silent), "https://a.example", Duration::from_millis(1));
    assert_eq!(tokens.get().await.unwrap_err().kind, CallErrorKind::Unavailable);
}

#[test]
fn the_surroundings_choose_the_credential() {
    type Variables = &'static [(&'static str, &'static str)];
    let cases: [(Variables, bool, &str); 7] = [
        (&[], false, "AzureCli"),
        (&[], true, "ManagedIdentity { client_id: None }"),
        (&[("AZURE_CLIENT_ID", "7")], true, "ManagedIdentity { client_id: Some(\"7\") }"),
        (&[("IDENTITY_ENDPOINT", "http://x")], false, "ManagedIdentity { client_id: None }"),
        (
            &[("IDENTITY_ENDPOINT", "http://x"), ("AZURE_FEDERATED_TOKEN_FILE", "/t")],
            true,
            "WorkloadIdentity",
        ),
        (&[("AZURE_FEDERATED_TOKEN_FILE", "")], false, "AzureCli"),
        (&[("AZURE_CLIENT_ID", "7")], false, "AzureCli"),
    ];
    for (variables, in_azure, expected) in cases {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let chosen =
            CredentialKind::choose(|name| variables.get(name).map(|value| (*value).to_owned()), in_azure);
        assert_eq!(format!("{chosen:?}"), expected, "{variables:?}, in Azure: {in_azure}");
    }
}

#[test]
fn no_secret_shows_in_debug_output() {
    let secret = || SecretString::from("canary");
    let credential = CredentialKind::ClientSecret {
        tenant_id: "t".to_owned(),
        client_id: "c".to_owned(),
        client_secret: secret(),
    };
    let proxy = SecretString::from("http://user:canary@proxy.example:3128");
    let options = ArmOptions { proxy: Some(proxy), ..ArmOptions::default() };
    let client = ArmClient::new(&options, &CredentialKind::Token(secret())).unwrap();
    for text in [format!("{credential:?}"), format!("{options:?}"), format!("{client:?}")] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_when_the_client_is_made() {
    let token = CredentialKind::Token(SecretString::from("t"));
    let cases = [
        (ArmOptions { endpoint: "management".to_owned(), ..ArmOptions::default() }, &token, "not a URL"),
        (ArmOptions { endpoint: "mailto:arm".to_owned(), ..ArmOptions::default() }, &token, "not a URL"),
        (
            ArmOptions { ca_bundle: Some("no PEM".to_owned()), ..ArmOptions::default() },
            &token,
            "no certificate",
        ),
        (
            ArmOptions { proxy: Some(SecretString::from("::")), ..ArmOptions::default() },
            &token,
            "as configured",
        ),
        (ArmOptions::default(), &CredentialKind::WorkloadIdentity, "no Azure credential"),
    ];
    for (options, credential, expected) in cases {
        let error = ArmClient::new(&options, credential).unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Refused);
        assert!(error.message.contains(expected), "{error}");
    }
}

#[test]
fn a_log_keeps_its_last_64_kib_and_no_half_character() {
    for (text, expected) in [
        (String::new(), 0),
        ("a".repeat(LOG_LIMIT), LOG_LIMIT),
        ("a".repeat(LOG_LIMIT + 1), LOG_LIMIT),
        (format!("é{}", "a".repeat(LOG_LIMIT - 1)), LOG_LIMIT - 1),
        (format!("xé{}", "a".repeat(LOG_LIMIT - 2)), LOG_LIMIT),
    ] {
        let cut = tail(text.clone());
        assert_eq!(cut.len(), expected);
        assert!(text.ends_with(&cut));
    }
}
