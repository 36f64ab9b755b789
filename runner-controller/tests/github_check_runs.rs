//! Check-runs of the GitHub provider, over HTTP against the emulator of GitHub.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use emulator_github::{CheckRunView, Fault, GitHub, GitHubHandle, JobSpec, Options, RateLimits};
use jiff::Timestamp;
use runner_core::job::JobKey;
use runner_core::notice::{Stage, Text};
use secrecy::SecretString;
use stint::ports::{CallErrorKind, CheckRun, Provider as _, Published};
use stint::providers::github::{GitHubAuth, GitHubProvider, GitHubSettings};

const TOKEN: &str = "ghp_of_the_tests";

fn as_app(github: &GitHubHandle) -> GitHubProvider {
    let auth = GitHubAuth::App {
        app_id: github.app_id(),
        private_key: SecretString::from(github.app_private_key_pem().to_owned()),
    };
    provider(github, auth)
}

fn provider(github: &GitHubHandle, auth: GitHubAuth) -> GitHubProvider {
    let api_url = github.url().to_owned();
    GitHubProvider::new(GitHubSettings { api_url, ..GitHubSettings::new(auth) }).unwrap()
}

/// A job of acme/app, as it is to be shown while it waits.
fn waiting(github: &GitHubHandle) -> CheckRun {
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    CheckRun {
        job: JobKey { source: "acme".to_owned(), id: job.to_string(), attempt: 1 },
        repository: "acme/app".to_owned(),
        sha: github.head_sha(job).unwrap(),
        name: "stint: CI / build & test".to_owned(),
        url: Some("https://github.com/acme/app/actions/runs/1/job/2".to_owned()),
        stage: Stage::Waiting,
        text: Text { title: "Waits for a runner".to_owned(), summary: "3 of 3 are in use.".to_owned() },
        ended_at: None,
        id: None,
        look: false,
    }
}

fn only(github: &GitHubHandle) -> CheckRunView {
    let all = github.check_runs();
    assert_eq!(all.len(), 1, "{all:#?}");
    all.into_iter().next().unwrap()
}

#[tokio::test]
async fn one_check_run_follows_a_job_from_its_wait_to_its_end() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let provider = as_app(&github);
    let mut notice = waiting(&github);
    let Published::As(id) = provider.publish(&notice).await.unwrap() else {
        unreachable!("its commit is there")
    };
    let shown = only(&github);
    assert_eq!((shown.status.as_str(), shown.conclusion.as_deref()), ("queued", None));
    assert_eq!(shown.external_id, Some(notice.job.to_string()));
    assert_eq!((shown.name.as_str(), shown.head_sha.as_str()), (notice.name.as_str(), notice.sha.as_str()));
    assert_eq!(shown.details_url, notice.url);
    assert_eq!(shown.summary.as_deref(), Some("3 of 3 are in use."));

    (notice.id, notice.stage) = (Some(id.clone()), Stage::Running);
    assert_eq!(provider.publish(&notice).await.unwrap(), Published::As(id.clone()));
    assert_eq!(only(&github).status, "in_progress");

    let ended_at: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
    (notice.stage, notice.ended_at) = (Stage::Ended, Some(ended_at));
    notice.text.title = "Waited 4m, ran 1m, cost 0.01 USD".to_owned();
    assert_eq!(provider.publish(&notice).await.unwrap(), Published::As(id));
    let shown = only(&github);
    assert_eq!((shown.status.as_str(), shown.conclusion.as_deref()), ("completed", Some("neutral")));
    assert_eq!(shown.title.as_deref(), Some("Waited 4m, ran 1m, cost 0.01 USD"));
    assert_eq!(shown.completed_at, "2026-01-02T03:04:05Z".parse().ok());
}

#[tokio::test]
async fn one_whose_answer_was_lost_is_found_again_by_its_jobs_key() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let provider = as_app(&github);
    let mut notice = waiting(&github);
    let other = CheckRun { job: JobKey { id: "1".to_owned(), ..notice.job.clone() }, ..notice.clone() };
    provider.publish(&other).await.unwrap();
    github.faults().add(Fault::on("POST", "*/check-runs").times(1).drop_answer());
    assert_eq!(provider.publish(&notice).await.unwrap_err().kind, CallErrorKind::Unavailable);
    assert_eq!(github.check_runs().len(), 2, "it was made all the same");

    notice.look = true;
    notice.text.title = "Again".to_owned();
    provider.publish(&notice).await.unwrap();
    let all = github.check_runs();
    assert_eq!(all.len(), 2);
    let titles: Vec<_> = all.iter().map(|run| (run.external_id.clone(), run.title.clone())).collect();
    assert!(titles.contains(&(Some(notice.job.to_string()), Some("Again".to_owned()))), "{titles:?}");
    assert_eq!(all.iter().filter(|run| run.writes == 1).count(), 1, "the other one is left alone");
}

#[tokio::test]
async fn nothing_is_made_only_to_be_over_nor_where_the_commit_is_gone() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let provider = as_app(&github);
    let notice = waiting(&github);
    let over = CheckRun { stage: Stage::Ended, look: true, ..notice.clone() };
    assert_eq!(provider.publish(&over).await.unwrap(), Published::Nowhere);
    let unknown = CheckRun { sha: "0".repeat(40), ..notice.clone() };
    assert_eq!(provider.publish(&unknown).await.unwrap(), Published::Nowhere);
    assert_eq!(provider.publish(&CheckRun { look: true, ..unknown }).await.unwrap(), Published::Nowhere);
    let removed = CheckRun { id: Some("1".to_owned()), ..notice };
    assert_eq!(provider.publish(&removed).await.unwrap(), Published::Nowhere);
    assert!(github.check_runs().is_empty());
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_way_to_do_without() {
    let mut options = Options { personal_token: Some(TOKEN.to_owned()), ..Options::default() };
    options.permissions.insert("checks".to_owned(), "read".to_owned());
    let github = GitHub::start(options).await.unwrap();
    let notice = waiting(&github);
    let check = |error: stint::ports::CallError, words: &[&str]| {
        assert_eq!(error.kind, CallErrorKind::Refused, "{error}");
        for word in words.iter().chain(&["github.report.checkRuns: false"]) {
            assert!(error.message.contains(word), "{word:?} is missing in: {error}");
        }
    };
    let refused = as_app(&github).publish(&notice).await.unwrap_err();
    check(refused, &["403", "Checks: write"]);
    let by_token = provider(&github, GitHubAuth::Token(SecretString::from(TOKEN)));
    check(by_token.publish(&notice).await.unwrap_err(), &["GitHub App"]);
    assert!(github.check_runs().is_empty());
}

#[tokio::test]
async fn calls_are_spared_for_runners_once_few_are_left() {
    let limits = RateLimits { core_per_hour: 10, ..RateLimits::default() };
    let github = GitHub::start(Options { limits, ..Options::default() }).await.unwrap();
    let provider = as_app(&github);
    assert_eq!(provider.spares_calls_for(), None, "nothing is known yet");
    let mut notice = waiting(&github);
    for left in (0..10).rev() {
        let Published::As(id) = provider.publish(&notice).await.unwrap() else {
            unreachable!("its commit is there")
        };
        notice.id = Some(id);
        assert_eq!(provider.spares_calls_for().is_some(), left < 2, "{left} left");
    }
}
