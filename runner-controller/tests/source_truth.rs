//! What nobody told is read from GitHub: lost deliveries, queued jobs, and all deliveries where none can arrive.
//!
//! The controller as it is put together in a process, with records in SQLite, against the emulator of GitHub over HTTP.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use emulator_github::{
    Fault, FaultAction, GitHub, GitHubHandle, HookKind, JobId, JobSpec, Options, OwnerSpec, RateLimits,
    WebhookEffect, WebhookRule,
};
use jiff::SignedDuration;
use runner_core::job::{Job, JobAction, READ_PREFIX};
use secrecy::{ExposeSecret as _, SecretString};
use stint::config::{Installation, directory};
use stint::ledger::SqliteLedger;
use stint::local::LocalRecords;
use stint::ports::{
    CallError, CallErrorKind, CallResult, Group, GroupAddress, GroupOrder, Groups, Ledger, Records, Usage,
};
use stint::reconcile::assembly::{Assembly, Parts};
use stint::reconcile::sources::client;
use stint::sqlite::Location;
use stint::telemetry::Metrics;
use stint::web::serve::{ServeLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const SECRET: &str = "of the tests";
const TOKEN: &str = "personal token of the tests";
/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9/webhooks/acme";
/// Lost deliveries are left alone for half a minute; GitHub's clock is behind by more while they are lost.
const SETTLED: SignedDuration = SignedDuration::from_secs(40);
const WITHIN: Duration = Duration::from_secs(30);

/// Azure, in which nothing is: no test here starts a runner.
struct NoGroups;

fn no_groups<T>() -> CallResult<T> {
    Err(CallError::new(CallErrorKind::Refused, "there are no groups here"))
}

#[async_trait]
impl Groups for NoGroups {
    async fn get(&self, _: &GroupAddress) -> CallResult<Option<Group>> {
        no_groups()
    }
    async fn create(&self, _: &GroupAddress, _: &GroupOrder) -> CallResult<()> {
        no_groups()
    }
    async fn delete(&self, _: &GroupAddress) -> CallResult<()> {
        no_groups()
    }
    async fn logs(&self, _: &GroupAddress, _: &str) -> CallResult<String> {
        no_groups()
    }
    async fn list(&self, _: &str, _: &str) -> CallResult<Vec<Group>> {
        no_groups()
    }
    async fn usage(&self, _: &str, _: &str) -> CallResult<Usage> {
        no_groups()
    }
}

/// A controller that acts, until it is dropped.
struct Stint {
    records: Arc<LocalRecords>,
    metrics: Arc<Metrics>,
    webhooks: String,
    _running: Vec<AbortOnDropHandle<()>>,
}

impl Stint {
    /// `source`: more fields of its `github`; `secret`: its Secret.
    async fn start(records: &Arc<LocalRecords>, github: &GitHubHandle, source: &str, secret: &str) -> Self {
        let documents = format!(
            "apiVersion: stint.dev/v1alpha1\nkind: RunnerSource\nmetadata: {{name: acme}}\n\
             spec: {{github: {{apiUrl: \"{}\", secretRef: acme, {source}}}}}\n---\n\
             apiVersion: stint.dev/v1alpha1\nkind: RunnerClass\nmetadata: {{name: stint}}\n\
             spec: {{resources: {{cpu: \"1\", memory: 1Gi}}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: acme}}\nstringData: {{{secret}}}\n",
            github.url()
        );
        let (documents, secrets) = directory::parse(&documents).unwrap();
        records.set_documents(documents);
        records.set_secrets(secrets);
        let metrics = Arc::new(Metrics::new());
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&Location::Memory).await.unwrap());
        let ledger_id = ledger.identify(None).await.unwrap();
        let assembly = Assembly::of(Parts {
            records: records.clone(),
            pods: None,
            groups: Arc::new(NoGroups),
            ledger,
            connect: Arc::new(client),
            installation: Installation { id: "stint".to_owned(), max_runners: 5, ..Installation::default() },
            metrics: metrics.clone(),
        });
        let background = AbortOnDropHandle::new(tokio::spawn(assembly.background()));
        let Assembly { mut reconciler, public, sources, .. } = assembly;
        sources.rules().wait_for(|rules| rules.ready).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhooks = format!("http://{}/webhooks/acme", listener.local_addr().unwrap());
        let serving = serve(listener, public, ServeLimits::default(), CancellationToken::new());
        records.take_over("test", &ledger_id, true).await.unwrap();
        let acting = tokio::spawn(async move {
            reconciler.run(&CancellationToken::new()).await.unwrap();
        });
        let running =
            vec![background, AbortOnDropHandle::new(tokio::spawn(serving)), AbortOnDropHandle::new(acting)];
        Self { records: records.clone(), metrics, webhooks, _running: running }
    }

    fn job(&self, id: JobId) -> Option<Job> {
        let jobs = self.records.observe().unwrap().jobs;
        jobs.into_iter().find(|job| job.key.id == id.to_string())
    }

    fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let found = text.lines().find_map(|have| have.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_default()
    }

    fn recovered(&self) -> u64 {
        self.metric("stint_deliveries_recovered_total{source=\"acme\"}")
    }

    fn adopted(&self) -> u64 {
        self.metric("stint_jobs_adopted_total{source=\"acme\"}")
    }

    /// When the last complete sweep began; 0 before the first.
    fn swept(&self) -> u64 {
        self.metric("stint_deliveries_swept_timestamp_seconds{source=\"acme\"}")
    }
}

async fn records() -> Arc<LocalRecords> {
    Arc::new(LocalRecords::open(&Location::Memory, 10_000).await.unwrap())
}

fn options() -> Options {
    let owners = vec![OwnerSpec::organization("acme")];
    let personal_token = Some(TOKEN.to_owned());
    Options { owners, personal_token, limits: RateLimits::unlimited(), ..Options::default() }
}

fn app(github: &GitHubHandle) -> String {
    let key = SecretString::from(github.app_private_key_pem().to_owned());
    format!(
        "appId: \"{}\", privateKey: {}, webhookSecret: \"{SECRET}\"",
        github.app_id(),
        serde_json::to_string(key.expose_secret()).unwrap()
    )
}

fn token() -> String {
    format!("token: \"{TOKEN}\", webhookSecret: \"{SECRET}\"")
}

fn queue(github: &GitHubHandle, repository: &str) -> JobId {
    github.queue_job(JobSpec::new(repository, &["stint"])).unwrap()
}

async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + within;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until GitHub has recorded so many deliveries about jobs.
async fn recorded(github: &GitHubHandle, count: usize) {
    eventually("the deliveries to be recorded", WITHIN, || {
        github.deliveries().iter().filter(|one| one.event == "workflow_job").count() >= count
    })
    .await;
}

/// Hides jobs from whoever lists them, so that only their deliveries tell of them.
fn hide_runs(github: &GitHubHandle) {
    let (status, headers, body) = (403, BTreeMap::new(), "{}".to_owned());
    let action = FaultAction::Fail { status, headers, body };
    github.faults().add(Fault { action, ..Fault::on("GET", "*/actions/runs") });
}

fn calls(github: &GitHubHandle, ending: &str) -> usize {
    github.journal().entries().iter().filter(|entry| entry.path.contains(ending)).count()
}

#[tokio::test]
async fn deliveries_that_failed_while_nobody_listened_are_stored_at_the_start_each_once() {
    let github = GitHub::start(options()).await.unwrap();
    hide_runs(&github);
    github.clock().advance(-SETTLED);
    github.set_webhook(NOWHERE, SECRET);
    let jobs = [queue(&github, "acme/app"), queue(&github, "acme/app"), queue(&github, "acme/lib")];
    github.cancel_job(jobs[1]).unwrap();
    // Of an owner that the source does not list.
    queue(&github, "umbrella/site");
    recorded(&github, 5).await;
    github.clock().advance(SETTLED);
    let records = records().await;
    let stint = Stint::start(&records, &github, "owners: [acme]", &app(&github)).await;
    eventually("all to be recovered", WITHIN, || stint.recovered() == 4).await;
    assert_eq!(records.observe().unwrap().jobs.len(), 3);
    let facts = stint.job(jobs[1]).unwrap().facts;
    let guids: Vec<String> = github.deliveries().into_iter().map(|one| one.guid).collect();
    assert!(facts.iter().all(|fact| guids.contains(&fact.id)), "{facts:?}");
    assert!(facts.iter().any(|fact| fact.action == JobAction::Completed));
    eventually("the cursor to be kept", WITHIN, || stint.swept() > 0).await;
    // Sent again by hand, after all.
    github.set_webhook(&stint.webhooks, SECRET);
    let first = github.deliveries().into_iter().find(|one| one.job == Some(jobs[0])).unwrap();
    github.redeliver(first.id).unwrap();
    eventually("the redelivery to be answered", WITHIN, || {
        github.deliveries().iter().any(|one| one.redelivery && one.status_code == 200)
    })
    .await;
    assert_eq!(stint.job(jobs[0]).unwrap().facts.len(), 1);
}

#[tokio::test]
async fn jobs_for_which_there_is_no_room_keep_no_news_of_stored_ones_from_being_read() {
    let github = GitHub::start(options()).await.unwrap();
    hide_runs(&github);
    github.clock().advance(-SETTLED);
    github.set_webhook(NOWHERE, SECRET);
    // More than are read at the same time; one of them finds room.
    let jobs: Vec<JobId> = (0..11).map(|_| queue(&github, "acme/app")).collect();
    recorded(&github, 11).await;
    for job in jobs {
        github.cancel_job(job).unwrap();
    }
    recorded(&github, 22).await;
    github.clock().advance(SETTLED);
    let one = Arc::new(LocalRecords::open(&Location::Memory, 1).await.unwrap());
    let _stint = Stint::start(&one, &github, "owners: [acme]", &app(&github)).await;
    eventually("the end of the stored one", WITHIN, || {
        let jobs = one.observe().unwrap().jobs;
        jobs.iter().any(|job| {
            let told = |action| job.facts.iter().any(|fact| fact.action == action);
            told(JobAction::Queued) && told(JobAction::Completed)
        })
    })
    .await;
}

#[tokio::test]
async fn what_intake_put_off_is_looked_for_at_once() {
    let github = GitHub::start(options()).await.unwrap();
    hide_runs(&github);
    let records = records().await;
    let stint = Stint::start(&records, &github, "owners: [acme]", &app(&github)).await;
    github.set_webhook(&stint.webhooks, SECRET);
    eventually("the first sweep", WITHIN, || stint.swept() > 0).await;
    let before = calls(&github, "/app/hook/deliveries");
    // No room for it: intake answers 503.
    let full = Arc::new(LocalRecords::open(&Location::Memory, 0).await.unwrap());
    let other = Stint::start(&full, &github, "owners: [acme]", &app(&github)).await;
    eventually("the other's first sweep", WITHIN, || other.swept() > 0).await;
    github.set_webhook(&other.webhooks, SECRET);
    let between = calls(&github, "/app/hook/deliveries");
    queue(&github, "acme/app");
    eventually("the delivery to be put off", WITHIN, || {
        github.deliveries().iter().any(|one| one.status_code == 503)
    })
    .await;
    eventually("another sweep, long before its minute is over", WITHIN, || {
        calls(&github, "/app/hook/deliveries") > between
    })
    .await;
    assert!(before > 0);
}

#[tokio::test]
async fn a_token_reads_the_hooks_of_its_organization_and_repositories_that_lead_to_the_source() {
    let github = GitHub::start(options()).await.unwrap();
    hide_runs(&github);
    github.add_repository("umbrella/site", false).unwrap();
    github.add_hook(HookKind::Organization("acme".to_owned()), NOWHERE, SECRET);
    github.add_hook(HookKind::Organization("acme".to_owned()), "http://127.0.0.1:9/webhooks/other", SECRET);
    github.add_hook(HookKind::Repository("umbrella/site".to_owned()), NOWHERE, SECRET);
    github.clock().advance(-SETTLED);
    let jobs = [queue(&github, "acme/app"), queue(&github, "umbrella/site")];
    recorded(&github, 3).await;
    github.clock().advance(SETTLED);
    let records = records().await;
    let source = "owners: [acme], repositories: [umbrella/site]";
    let stint = Stint::start(&records, &github, source, &token()).await;
    eventually("both to be recovered", WITHIN, || stint.recovered() == 2).await;
    assert!(jobs.iter().all(|job| stint.job(*job).is_some()));
    assert_eq!(
        calls(&github, "/orgs/acme/hooks"),
        1 + 2,
        "one list of hooks, one of deliveries, one delivery"
    );
}

#[tokio::test]
async fn a_sweep_goes_on_where_an_earlier_process_came_to() {
    let github = GitHub::start(options()).await.unwrap();
    hide_runs(&github);
    github.set_webhook(NOWHERE, SECRET);
    github.clock().advance(SignedDuration::from_mins(-30));
    let first = queue(&github, "acme/app");
    recorded(&github, 1).await;
    github.clock().advance(SignedDuration::from_mins(20));
    queue(&github, "acme/app");
    recorded(&github, 2).await;
    github.clock().advance(SignedDuration::from_mins(10));
    let records = records().await;
    {
        let stint = Stint::start(&records, &github, "owners: [acme]", &app(&github)).await;
        eventually("both to be recovered", WITHIN, || stint.recovered() == 2).await;
        let mut kept = None;
        let deadline = tokio::time::Instant::now() + WITHIN;
        let made = github.deliveries().into_iter().find(|one| one.job == Some(first)).unwrap().delivered_at;
        while kept.is_none_or(|kept| kept <= made) {
            assert!(tokio::time::Instant::now() < deadline, "{kept:?}");
            kept = records.swept("acme").await.unwrap().get("app/hook").copied();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let reads = calls(&github, "/app/hook/deliveries/");
    let stint = Stint::start(&records, &github, "owners: [acme]", &app(&github)).await;
    eventually("the second process to sweep", WITHIN, || stint.swept() > 0).await;
    eventually("the one of the last minutes to be read again", WITHIN, || {
        calls(&github, "/app/hook/deliveries/") == reads + 1
    })
    .await;
    assert_eq!(stint.recovered(), 0, "it was stored before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_lost_deliveries_drain_within_two_minutes_and_jobs_that_wait_come_first() {
    let github = GitHub::start(Options { limits: RateLimits::default(), ..options() }).await.unwrap();
    hide_runs(&github);
    github.set_webhook(NOWHERE, SECRET);
    github.clock().advance(-SETTLED);
    let ended: Vec<JobId> = (0..300).map(|_| queue(&github, "acme/app")).collect();
    for job in &ended {
        github.cancel_job(*job).unwrap();
    }
    let waiting: Vec<JobId> = (0..400).map(|_| queue(&github, "acme/app")).collect();
    recorded(&github, 1_000).await;
    github.clock().advance(SETTLED);
    let records = records().await;
    let stint = Stint::start(&records, &github, "owners: [acme]", &app(&github)).await;
    let of_waiting = || {
        let jobs = records.observe().unwrap().jobs;
        let stored: BTreeSet<&str> = jobs.iter().map(|job| job.key.id.as_str()).collect();
        waiting.iter().filter(|job| stored.contains(job.to_string().as_str())).count()
    };
    eventually("the jobs that wait", Duration::from_secs(120), || of_waiting() == waiting.len()).await;
    assert!(stint.recovered() <= 700, "news of jobs that are over came first");
    let told = || records.observe().unwrap().jobs.iter().map(|job| job.facts.len()).sum::<usize>();
    eventually("all", Duration::from_secs(60), || told() == 1_000).await;
}

#[tokio::test]
async fn queued_jobs_that_nothing_was_told_of_are_adopted_and_a_quiet_repository_costs_nothing() {
    let github = GitHub::start(options()).await.unwrap();
    github.add_webhook_rule(WebhookRule::on("*", WebhookEffect::Lose));
    let jobs = [queue(&github, "acme/app"), queue(&github, "umbrella/site")];
    queue(&github, "umbrella/other");
    // Nobody's label, and one that is over.
    github.queue_job(JobSpec::new("acme/app", &["ubuntu-latest"])).unwrap();
    let over = queue(&github, "acme/app");
    github.cancel_job(over).unwrap();
    let records = records().await;
    let source = "owners: [acme], repositories: [umbrella/site]";
    let stint = Stint::start(&records, &github, source, &app(&github)).await;
    eventually("both to be adopted", WITHIN, || stint.adopted() == 2).await;
    for job in jobs {
        let job = stint.job(job).unwrap();
        assert!(job.facts.iter().all(|fact| fact.id.starts_with(READ_PREFIX)), "{:?}", job.facts);
        assert_eq!(
            (job.description.labels.as_slice(), job.description.public),
            (&["stint".to_owned()][..], false)
        );
        assert!(job.description.created_at.is_some());
    }
    assert_eq!(records.observe().unwrap().jobs.len(), 2);
}

#[tokio::test]
async fn with_poll_every_delivery_is_read_wherever_it_goes_and_no_webhook_secret_is_needed() {
    let github = GitHub::start(options()).await.unwrap();
    hide_runs(&github);
    // GitHub brings them to somebody else.
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/anything", elsewhere.local_addr().unwrap());
    let takes_all = axum::Router::new().fallback(|| async { "taken" });
    tokio::spawn(serve(elsewhere, takes_all, ServeLimits::default(), CancellationToken::new()));
    github.set_webhook(&url, SECRET);
    let secret = app(&github).replace(&format!(", webhookSecret: \"{SECRET}\""), "");
    let records = records().await;
    let source = "owners: [acme], intake: poll, pollEvery: 2s";
    let stint = Stint::start(&records, &github, source, &secret).await;
    eventually("the first look", WITHIN, || stint.swept() > 0).await;
    let job = queue(&github, "acme/app");
    eventually("the job to be stored", WITHIN, || stint.job(job).is_some()).await;
    github.cancel_job(job).unwrap();
    eventually("its end to be stored", WITHIN, || {
        stint.job(job).is_some_and(|job| job.facts.iter().any(|fact| fact.action == JobAction::Completed))
    })
    .await;
    assert_eq!(stint.job(job).unwrap().facts.len(), 2);
    assert!(github.deliveries().iter().all(|one| one.status_code == 200), "none of them was lost");
    let reads = calls(&github, "/app/hook/deliveries/");
    assert_eq!(reads, 2, "each is read once");
}
