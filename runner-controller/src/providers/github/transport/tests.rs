use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;

use super::*;
use crate::providers::github::GitHubAuth;

fn settings(api_url: &str) -> GitHubSettings {
    let auth = GitHubAuth::Token(SecretString::from("canary-token"));
    GitHubSettings { api_url: api_url.to_owned(), ..GitHubSettings::new(auth) }
}

fn problem(settings: &GitHubSettings) -> GitHubSettingsError {
    Transport::new(settings).map(|_| ()).expect_err("the settings cannot be used")
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut transport = Transport::new(&settings(&url)).unwrap();
    transport.call_timeout = Duration::from_millis(50);
    let request = Request::get("/zen").body(OctoBody::empty()).unwrap();
    let error = transport.oneshot(request).await.expect_err("nobody answers");
    assert_eq!(error.to_string(), "no answer within 50ms");
}

#[test]
fn settings_that_cannot_be_used_name_their_field() {
    for url in ["", "api.github.com", "ftp://api.github.com", "https://user:canary@github.com"] {
        assert_eq!(problem(&settings(url)).field, "apiUrl", "{url}");
    }
    for proxy in ["proxy:3128", "https://proxy:3128", "socks5://canary@proxy", "http://"] {
        let settings = GitHubSettings { proxy: Some(proxy.to_owned()), ..settings("http://localhost") };
        let problem = problem(&settings);
        assert_eq!(problem.field, "proxy", "{proxy}");
        assert!(!problem.to_string().contains("canary"));
    }
    let garbled = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for bundle in ["", "no PEM", garbled, empty] {
        let settings = GitHubSettings { ca_bundle: Some(bundle.to_owned()), ..settings("http://localhost") };
        assert_eq!(problem(&settings).field, "caBundle", "{bundle}");
    }
    let settings = GitHubSettings { user_agent: "a\nb".to_owned(), ..settings("http://localhost") };
    assert_eq!(problem(&settings).field, "userAgent");
}

#[test]
fn an_api_below_a_path_keeps_it() {
    let (scheme, authority, prefix) = api_url("https://ghes.example:8443/api/v3/").unwrap();
    assert_eq!(
        (scheme.as_str(), authority.as_str(), prefix.as_str()),
        ("https", "ghes.example:8443", "/api/v3")
    );
    assert_eq!(api_url("https://api.github.com").unwrap().2, "");
}

#[test]
fn the_login_of_a_proxy_is_decoded_and_taken_out_of_its_address() {
    let (address, login) = proxy_url("http://us%3Aer:p%40ss%2@proxy.example").unwrap();
    assert_eq!(address, "http://proxy.example:80/");
    let login = login.unwrap();
    assert!(login.is_sensitive());
    assert_eq!(login, format!("Basic {}", STANDARD.encode("us:er:p@ss%2")).as_str());
    assert_eq!(proxy_url("http://proxy.example:3128").unwrap().1, None);
}

#[test]
fn a_tunnel_always_names_the_port() {
    for (uri, expect) in [
        ("http://a.example/x", "a.example:80"),
        ("https://a.example", "a.example:443"),
        ("http://[::1]:8/", "[::1]:8"),
    ] {
        assert_eq!(with_port(uri.parse().unwrap()).unwrap().authority().unwrap().as_str(), expect);
    }
}
