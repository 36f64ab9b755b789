use emulator_github::{GitHub, GitHubHandle, JobSpec, Options, RateLimits};

use runner_core::job::JobDescription;

use super::gated::{BRANCHES_A_MINUTE, Kind};
use super::*;
use crate::config::Intake;

/// The client of a source `acme`, and what is known of that source.
fn gated(github: &GitHubHandle) -> Gated {
    let key = SecretString::from(github.app_private_key_pem().to_owned());
    let resolved = ResolvedSource {
        name: "acme".to_owned(),
        api_url: github.url().to_owned(),
        secret_ref: "acme".to_owned(),
        runner_group_id: 1,
        proxy: None,
        ca_bundle: None,
        owners: vec!["acme".to_owned()],
        repositories: Vec::new(),
        intake: Intake::default(),
    };
    let secret = HashMap::from([
        ("appId".to_owned(), SecretString::from(github.app_id().to_string())),
        ("privateKey".to_owned(), key),
        ("webhookSecret".to_owned(), SecretString::from("of the tests")),
    ]);
    let provider = client(&resolved, &secret).unwrap();
    let entry = Entry::new(Arc::new(resolved), secret, Ok(provider.clone()));
    let entries = Arc::new(Mutex::new(BTreeMap::from([("acme".to_owned(), entry)])));
    Gated { provider, entries, source: "acme".to_owned(), metrics: Arc::new(Metrics::new()) }
}

/// A job of a new run.
fn queued(github: &GitHubHandle) -> JobDescription {
    let job = github.queue_job(JobSpec::new("acme/app", &["stint"])).unwrap();
    JobDescription {
        owner: "acme".to_owned(),
        repository: "acme/app".to_owned(),
        public: false,
        name: "build".to_owned(),
        workflow: None,
        url: None,
        labels: Vec::new(),
        created_at: None,
        run: Some(github.job(job).unwrap().run_id.to_string()),
        head_sha: None,
        head_branch: None,
    }
}

fn throttled_until(gated: &Gated) -> Option<Timestamp> {
    gated.entries.lock().unwrap().values().next().unwrap().throttled_until
}

#[tokio::test]
async fn branches_are_not_read_with_the_last_calls_and_runners_go_on() {
    let limits = RateLimits { core_per_hour: 12, ..RateLimits::default() };
    let github = GitHub::start(Options { limits, ..Options::default() }).await.unwrap();
    github.set_branch("acme/app", "main", true).unwrap();
    let gated = gated(&github);
    let first = queued(&github);
    assert!(gated.is_of_protected_branch(&first).await.unwrap());
    let mut refused = None;
    for _ in 0..12 {
        if let Err(error) = gated.is_of_protected_branch(&queued(&github)).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.unwrap();
    assert!(matches!(refused.kind, CallErrorKind::Throttled(Some(_))), "{refused}");
    assert!(refused.message.contains("runners may need"), "{refused}");
    assert_eq!(throttled_until(&gated), None, "the source itself refused nothing");
    assert!(gated.is_of_protected_branch(&first).await.unwrap(), "what is known needs no call");
}

#[tokio::test]
async fn more_branches_than_a_minute_holds_wait_for_the_next() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let gated = gated(&github);
    let now = clock::now();
    for _ in 0..BRANCHES_A_MINUTE {
        gated.paced(Kind::Branch, now).unwrap();
    }
    let error = gated.is_of_protected_branch(&queued(&github)).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Throttled(Some(_))), "{error}");
    assert_eq!((throttled_until(&gated), github.journal().entries().len()), (None, 0));
    let ahead = |seconds| now + SignedDuration::from_secs(seconds);
    let CallErrorKind::Throttled(left) = gated.paced(Kind::Branch, ahead(20)).unwrap_err().kind else {
        unreachable!()
    };
    assert_eq!(left, Some(Duration::from_secs(40)));
    gated.paced(Kind::Branch, ahead(60)).unwrap();
}
