//! Protected branches as the GitHub provider reads them, over HTTP from the emulator of GitHub.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use emulator_github::{GitHub, GitHubHandle, JobSpec, Options};
use runner_core::job::JobDescription;
use secrecy::SecretString;
use stint::ports::{CallErrorKind, CallResult, Provider as _};
use stint::providers::github::{GitHubAuth, GitHubProvider, GitHubSettings};

const REPOSITORY: &str = "acme/app";

/// GitHub with a repository whose branches `main` and `release/1` are protected and whose branch `topic` is not.
async fn start(options: Options) -> (GitHubHandle, GitHubProvider) {
    let github = GitHub::start(options).await.unwrap();
    for (branch, protected) in [("main", true), ("release/1", true), ("topic", false)] {
        github.set_branch(REPOSITORY, branch, protected).unwrap();
    }
    let private_key = SecretString::from(github.app_private_key_pem().to_owned());
    let auth = GitHubAuth::App { app_id: github.app_id(), private_key };
    let api_url = github.url().to_owned();
    let provider = GitHubProvider::new(GitHubSettings { api_url, ..GitHubSettings::new(auth) }).unwrap();
    (github, provider)
}

fn spec() -> JobSpec {
    JobSpec::new(REPOSITORY, &["stint"])
}

/// What a webhook tells of a job of this run.
fn of_run(run: u64) -> JobDescription {
    JobDescription {
        owner: "acme".to_owned(),
        repository: REPOSITORY.to_owned(),
        public: false,
        name: "build".to_owned(),
        workflow: None,
        url: None,
        labels: Vec::new(),
        created_at: None,
        run: Some(run.to_string()),
        head_sha: None,
        // What a fork may claim.
        head_branch: Some("main".to_owned()),
    }
}

async fn ask(github: &GitHubHandle, provider: &GitHubProvider, spec: JobSpec) -> CallResult<bool> {
    let job = github.queue_job(spec).unwrap();
    provider.is_of_protected_branch(&of_run(github.job(job).unwrap().run_id)).await
}

fn calls(github: &GitHubHandle, ending: &str) -> usize {
    github.journal().entries().iter().filter(|entry| entry.path.contains(ending)).count()
}

#[tokio::test]
async fn only_the_own_code_of_a_protected_branch_counts() {
    let (github, provider) = start(Options::default()).await;
    for (spec, expect, why) in [
        (spec(), true, "a push to main"),
        (spec().branch("release/1"), true, "a branch with a slash in its name"),
        (spec().branch("topic"), false, "a branch that is not protected"),
        (spec().branch("gone"), false, "a branch that was deleted"),
        (spec().from_fork("mallory/app"), false, "a pull request of a fork's branch main"),
        (
            spec().from_fork("mallory/app").on("pull_request_target"),
            false,
            "the same with the rights of the repository",
        ),
        (spec().from_fork("mallory/app").on("push"), false, "a run that says it is a push, of a fork"),
        (spec().branch("main").on("pull_request"), false, "a pull request from main"),
        (spec().on("workflow_run"), false, "a run that another run started"),
        (spec().of_tag("main"), false, "a tag that is called main, on a commit that main does not have"),
    ] {
        assert_eq!(ask(&github, &provider, spec).await.unwrap(), expect, "{why}");
    }
    assert!(!provider.is_of_protected_branch(&of_run(1)).await.unwrap(), "a run that GitHub does not know");
    let unknown = JobDescription { run: None, ..of_run(1) };
    assert!(!provider.is_of_protected_branch(&unknown).await.unwrap(), "a job that names no run");
}

#[tokio::test]
async fn a_branch_that_is_deleted_or_no_longer_protected_does_not_count() {
    let (github, provider) = start(Options::default()).await;
    github.delete_branch(REPOSITORY, "main");
    assert!(!ask(&github, &provider, spec()).await.unwrap());
    github.set_branch(REPOSITORY, "release/1", false).unwrap();
    assert!(!ask(&github, &provider, spec().branch("release/1")).await.unwrap());
}

#[tokio::test]
async fn a_run_of_an_older_commit_of_the_branch_counts() {
    let (github, provider) = start(Options::default()).await;
    let old = github.queue_job(spec()).unwrap();
    let old = github.job(old).unwrap().run_id;
    github.queue_job(spec()).unwrap();
    assert!(provider.is_of_protected_branch(&of_run(old)).await.unwrap());
    assert_eq!(calls(&github, "/compare/"), 1);
}

#[tokio::test]
async fn a_run_is_asked_about_once_and_a_branch_again_only_for_what_is_newer() {
    let (github, provider) = start(Options::default()).await;
    let job = github.queue_job(spec()).unwrap();
    let run = of_run(github.job(job).unwrap().run_id);
    let many = (0..20).map(|_| provider.is_of_protected_branch(&run));
    for answer in futures::future::join_all(many).await {
        assert!(answer.unwrap());
    }
    assert_eq!((calls(&github, "/actions/runs/"), calls(&github, "/branches/main")), (1, 1));
    assert_eq!(provider.known_of_protected_branch(&run), Some(true));
    assert_eq!(provider.known_of_protected_branch(&of_run(1)), None);
    assert!(ask(&github, &provider, spec()).await.unwrap(), "a newer push");
    assert_eq!((calls(&github, "/actions/runs/"), calls(&github, "/branches/main")), (2, 2));
    for _ in 0..3 {
        assert!(!ask(&github, &provider, spec().branch("topic")).await.unwrap());
    }
    assert_eq!(calls(&github, "/branches/topic"), 1, "what is not protected is believed for a while");
}

#[tokio::test]
async fn the_permission_that_is_missing_is_named() {
    let mut options = Options::default();
    options.permissions.remove("contents");
    let (github, provider) = start(options).await;
    let error = ask(&github, &provider, spec()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("Contents: read"), "{error}");
    assert!(!error.of_credentials);
}

#[tokio::test]
async fn credentials_that_github_does_not_know_tell_nothing_of_a_branch() {
    let (github, _) = start(Options::default()).await;
    let settings = GitHubSettings::new(GitHubAuth::Token(SecretString::from("of-nobody")));
    let provider =
        GitHubProvider::new(GitHubSettings { api_url: github.url().to_owned(), ..settings }).unwrap();
    let error = ask(&github, &provider, spec()).await.unwrap_err();
    assert!(error.of_credentials, "{error}");
}
