//! Listing registered runners with the GitHub provider, over HTTP against the emulator of GitHub.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use emulator_github::{GitHub, GitHubHandle, Options, OwnerSpec, RateLimits};
use runner_core::setup::Scope;
use runner_core::stray::origin_in;
use secrecy::SecretString;
use stint::ports::{Provider as _, Registration};
use stint::providers::github::{GitHubAuth, GitHubProvider, GitHubSettings};

async fn start() -> (GitHubHandle, GitHubProvider) {
    let options = Options {
        owners: vec![OwnerSpec::organization("acme")],
        limits: RateLimits::unlimited(),
        ..Options::default()
    };
    let github = GitHub::start(options).await.unwrap();
    let auth = GitHubAuth::App {
        app_id: github.app_id(),
        private_key: SecretString::from(github.app_private_key_pem().to_owned()),
    };
    let api_url = github.url().to_owned();
    let provider = GitHubProvider::new(GitHubSettings { api_url, ..GitHubSettings::new(auth) }).unwrap();
    (github, provider)
}

fn registration(scope: &Scope, name: &str) -> Registration {
    let labels = ["stint", "stint-origin-0123456789abcdef"].map(str::to_owned).to_vec();
    Registration { scope: scope.clone(), name: name.to_owned(), labels }
}

#[tokio::test]
async fn all_runners_of_a_scope_are_listed_page_by_page_with_their_labels() {
    let (github, provider) = start().await;
    github.add_repository("acme/web", false).unwrap();
    let (owner, repository) = (Scope::Owner("acme".to_owned()), Scope::Repository("acme/web".to_owned()));
    for number in 0..101 {
        provider.register(&registration(&owner, &format!("stint-{number}"))).await.unwrap();
    }
    provider.register(&registration(&repository, "stint-web")).await.unwrap();
    let listed = provider.runners(&owner).await.unwrap();
    assert_eq!(listed.len(), 101);
    assert!(listed.iter().all(|one| origin_in(&one.labels) == Some("0123456789abcdef")), "{listed:?}");
    assert!(listed.iter().all(|one| !one.busy && !one.online));
    let listed = provider.runners(&repository).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["stint-web"]);
}

#[tokio::test]
async fn a_runner_is_found_by_its_name_or_is_not_there() {
    let (_github, provider) = start().await;
    let owner = Scope::Owner("acme".to_owned());
    let id = provider.register(&registration(&owner, "stint-1")).await.unwrap().runner_id;
    assert_eq!(provider.named(&owner, "stint-1").await.unwrap().map(|one| one.id), Some(id));
    assert_eq!(provider.named(&owner, "stint-2").await.unwrap(), None);
}
