use emulator_github::{GitHub, GitHubHandle, JobSpec, Options, RateLimits};

use runner_core::job::JobDescription;

use runner_core::setup::Scope;

use super::gated::{BRANCHES_A_MINUTE, Kind};
use super::*;
use crate::config::Intake;
use crate::ports::{HooksWanted, Registration};

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

fn registration(number: u32) -> Registration {
    let name = format!("stint-{number}");
    Registration { scope: Scope::Owner("acme".to_owned()), name, labels: vec!["stint".to_owned()] }
}

#[tokio::test]
async fn what_is_left_of_registrations_is_told_and_running_out_stops_no_other_call() {
    let limits = RateLimits { registration_burst: 3, registration_per_minute: 1, ..RateLimits::default() };
    let github = GitHub::start(Options { limits, ..Options::default() }).await.unwrap();
    let job = queued(&github);
    let gated = gated(&github);
    let left = || gated.registrations().map(|limit| limit.remaining);
    assert_eq!(left(), Some(50), "before GitHub has told");
    for (number, expect) in [(1, 2), (2, 1), (3, 0)] {
        gated.register(&registration(number)).await.unwrap();
        assert_eq!(left(), Some(expect));
    }
    let error = gated.register(&registration(4)).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Throttled(Some(_))), "{error}");
    assert_eq!(throttled_until(&gated), None);
    assert!(!gated.is_of_protected_branch(&job).await.unwrap());
}

#[tokio::test]
async fn pauses_that_are_not_told_double_until_a_call_succeeds() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let gated = gated(&github);
    let refused =
        || -> CallResult<()> { Err(CallError::new(CallErrorKind::Throttled(None), "secondary rate limit")) };
    let paused = |result: CallResult<()>| {
        let kind = result.unwrap_err().kind;
        let CallErrorKind::Throttled(Some(pause)) = kind else { panic!("{kind:?}") };
        pause.as_secs()
    };
    let over = || gated.entries.lock().unwrap().values_mut().for_each(|entry| entry.throttled_until = None);
    assert_eq!(paused(gated.note(refused())), 60);
    assert_eq!(paused(gated.note(refused())), 60, "refused together counts once");
    let call = gated.hooks(&HooksWanted::default()).await.unwrap_err();
    assert!(matches!(call.kind, CallErrorKind::Throttled(Some(_))), "{call}");
    assert_eq!(github.journal().entries().len(), 0, "no call is made meanwhile");
    over();
    assert_eq!(paused(gated.note(refused())), 120);
    over();
    assert_eq!(paused(gated.note(refused())), 240);
    over();
    gated.note(Ok(())).unwrap();
    assert_eq!(paused(gated.note(refused())), 60);
}
