use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_core::job::{Finding, Findings, Job, JobAction, JobDescription, JobFact, Standing};
use runner_core::labels::Matched;
use runner_core::lifecycle::{GroupFacts, Registered};
use runner_core::setup::{PlaceKind, Scope, Size};
use secrecy::ExposeSecret;

use super::*;

const MANY: usize = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_700_000_000 + second, 5).unwrap()
}

fn key(id: &str) -> JobKey {
    JobKey { source: "acme".to_owned(), id: id.to_owned(), attempt: 1 }
}

fn fact(id: &str, action: JobAction, heard: i64) -> JobFact {
    JobFact { id: id.to_owned(), action, heard_at: at(heard), runner: None, conclusion: None }
}

fn told(job: &str, fact: JobFact) -> Told {
    let description = JobDescription {
        created_at: None,
        owner: "acme".to_owned(),
        repository: "acme/web".to_owned(),
        public: false,
        name: "build".to_owned(),
        workflow: Some("CI".to_owned()),
        url: None,
        labels: vec!["stint".to_owned()],
        run: None,
        head_sha: None,
        head_branch: None,
    };
    Told { key: key(job), description, fact }
}

fn queued(job: &str) -> Told {
    told(job, fact("delivery-1", JobAction::Queued, 0))
}

fn new_runner(name: &str) -> NewRunner {
    NewRunner {
        name: name.to_owned(),
        job: key("1"),
        ordinal: 1,
        scope: Scope::Repository("acme/web".to_owned()),
        matched: Matched { class: "stint".to_owned(), size: "small".to_owned() },
        labels: vec!["stint-small".to_owned()],
        size: Size { cpu_millis: 1000, memory_bytes: 2_000_000_000, max_runners: None },
        place: "aci".to_owned(),
        kind: PlaceKind::ContainerInstances,
    }
}

fn jit(value: &str) -> BTreeMap<String, SecretString> {
    BTreeMap::from([("jitconfig".to_owned(), SecretString::from(value))])
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn in_memory() -> LocalRecords {
    ready(LocalRecords::open(&Location::Memory, MANY).await.unwrap())
}

async fn in_file(path: &Path) -> LocalRecords {
    ready(LocalRecords::open(&Location::File(path.to_owned()), MANY).await.unwrap())
}

fn ready(records: LocalRecords) -> LocalRecords {
    records.set_documents(Documents::default());
    records
}

fn job(records: &LocalRecords, id: &str) -> Option<Job> {
    records.observe().unwrap().jobs.into_iter().find(|job| job.key == key(id))
}

/// Whether a change waits to be told of.
fn has_changed(records: &LocalRecords) -> bool {
    records.changed().now_or_never().is_some()
}

struct Folder {
    folder: tempfile::TempDir,
    file: PathBuf,
}

fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    Folder { file: folder.path().join("records.db"), folder }
}

#[tokio::test]
async fn nothing_is_observed_before_the_documents_were_read() {
    let records = LocalRecords::open(&Location::Memory, MANY).await.unwrap();
    assert!(records.observe().is_none());
    records.set_documents(Documents::default());
    assert!(records.observe().is_some());
}

#[tokio::test]
async fn a_fact_is_stored_once_and_shown_at_once() {
    let records = in_memory().await;
    assert_eq!(records.tell(&queued("1")).await.unwrap(), Stored::NewJob);
    assert_eq!(records.tell(&queued("1")).await.unwrap(), Stored::Known);
    let mut again = queued("1");
    again.fact.heard_at = at(9);
    again.fact.runner = Some("r".to_owned());
    again.description.name = "renamed".to_owned();
    assert_eq!(
        records.tell(&again).await.unwrap(),
        Stored::Known,
        "a redelivery keeps its id and changes nothing"
    );
    let started = told("1", fact("delivery-2", JobAction::InProgress, 3));
    assert_eq!(records.tell(&started).await.unwrap(), Stored::Added);

    let job = job(&records, "1").unwrap();
    assert_eq!(job.description, queued("1").description, "the first telling's is kept");
    assert_eq!(job.facts, [queued("1").fact, started.fact]);
    assert_eq!(job.report, JobReport::default());
}

#[tokio::test]
async fn a_reading_of_the_source_replaces_the_last_one_of_its_id() {
    let records = in_memory().await;
    records.tell(&queued("1")).await.unwrap();
    records.tell(&told("1", fact("read-completed", JobAction::Completed, 5))).await.unwrap();
    let mut later = fact("read-completed", JobAction::Completed, 8);
    later.runner = Some("r".to_owned());
    later.conclusion = Some("success".to_owned());
    assert_eq!(records.tell(&told("1", later.clone())).await.unwrap(), Stored::Known);
    assert_eq!(job(&records, "1").unwrap().facts, [queued("1").fact, later]);
}

#[tokio::test]
async fn no_more_jobs_than_allowed_are_stored_and_facts_of_those_stored_still_are() {
    let records = ready(LocalRecords::open(&Location::Memory, 2).await.unwrap());
    for id in ["1", "2"] {
        records.tell(&queued(id)).await.unwrap();
    }
    let error = records.tell(&queued("3")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("acme-3-1") && error.message.contains('2'), "{error}");
    assert!(job(&records, "3").is_none());
    let more = told("1", fact("delivery-2", JobAction::Completed, 1));
    assert_eq!(records.tell(&more).await.unwrap(), Stored::Added);
    records.expire(&key("1")).await.unwrap();
    assert_eq!(records.tell(&queued("3")).await.unwrap(), Stored::NewJob);
}

#[tokio::test]
async fn a_report_is_shown_and_one_of_an_unknown_job_is_not_found() {
    let records = in_memory().await;
    records.tell(&queued("1")).await.unwrap();
    let report = JobReport { standing: Standing::Running, failed: 2, ..JobReport::default() };
    records.report(&key("1"), &report).await.unwrap();
    assert_eq!(job(&records, "1").unwrap().report, report);
    let error = records.report(&key("2"), &report).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NotFound);
}

#[tokio::test]
async fn what_was_found_of_a_job_is_set_once_and_outlives_its_reports_and_the_process() {
    let folder = folder();
    let records = in_file(&folder.file).await;
    records.tell(&queued("1")).await.unwrap();
    let findings = [
        Finding::ProtectedBranch(true),
        Finding::NoticeBegun(at(1)),
        Finding::NoticeId("77".to_owned()),
        Finding::ProtectedBranch(false),
        Finding::NoticeId("78".to_owned()),
    ];
    for finding in &findings {
        records.note(&key("1"), finding).await.unwrap();
    }
    let report = JobReport { standing: Standing::Waiting, ..JobReport::default() };
    records.report(&key("1"), &report).await.unwrap();
    records.note(&key("unknown"), &findings[0]).await.unwrap();
    let expect = Findings {
        protected_branch: Some(true),
        notice_begun: Some(at(1)),
        notice_id: Some("77".to_owned()),
        notice_ended: None,
    };
    assert_eq!(job(&records, "1").unwrap().found, expect);
    records.close().await;
    let again = in_file(&folder.file).await;
    assert_eq!(job(&again, "1").unwrap().found, expect);
    assert!(job(&again, "unknown").is_none());
}

#[tokio::test]
async fn an_expired_job_is_gone_with_its_facts_and_may_come_back_new() {
    let records = in_memory().await;
    records.tell(&queued("1")).await.unwrap();
    for _ in 0..2 {
        records.expire(&key("1")).await.unwrap();
        assert!(job(&records, "1").is_none());
    }
    assert_eq!(records.tell(&queued("1")).await.unwrap(), Stored::NewJob);
}

#[tokio::test]
async fn reservations_are_added_and_taken_out() {
    let records = in_memory().await;
    records.reserve(&names(&["a", "b"])).await.unwrap();
    records.reserve(&names(&["b", "c"])).await.unwrap();
    records.unreserve(&names(&["a", "unknown"])).await.unwrap();
    records.unreserve(&names(&["a"])).await.unwrap();
    assert!(!records.is_reserved("a") && records.is_reserved("b") && records.is_reserved("c"));
    assert_eq!(records.observe().unwrap().reserved, names(&["b", "c"]).into_iter().collect());
}

#[tokio::test]
async fn changes_of_groups_are_remembered_with_the_next_reservation() {
    let folder = folder();
    let change = runner_core::quota::Change { creates: 3, deletes: 1 };
    let past: Past = [("sub/west".to_owned(), [(at(5), change)].into())].into();
    {
        let records = in_file(&folder.file).await;
        records.remember(&past);
        assert_eq!(records.remembered(), Past::new(), "nothing was written yet");
        records.reserve(&names(&["a"])).await.unwrap();
        records.close().await;
    }
    let again = in_file(&folder.file).await;
    assert_eq!(again.remembered(), past);
    again.unreserve(&names(&["a"])).await.unwrap();
    again.close().await;
    assert_eq!(in_file(&folder.file).await.remembered(), Past::new(), "what is over is forgotten");
}

#[tokio::test]
async fn a_process_that_is_not_alone_is_told_by_its_reservations_and_reserves_nothing() {
    let folder = folder();
    let (one, two) = (in_file(&folder.file).await, in_file(&folder.file).await);
    one.reserve(&names(&["a"])).await.unwrap();
    for _ in 0..2 {
        let error = two.reserve(&names(&["b", "c"])).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Conflict);
        assert!(!two.is_reserved("b"));
    }
    one.reserve(&names(&["d"])).await.unwrap();
    assert_eq!(two.unreserve(&names(&["a"])).await.unwrap_err().kind, CallErrorKind::Conflict);
    let three = in_file(&folder.file).await;
    assert_eq!(three.observe().unwrap().reserved, names(&["a", "d"]).into_iter().collect());
    three.reserve(&names(&["e"])).await.unwrap();
    assert_eq!(one.reserve(&names(&["f"])).await.unwrap_err().kind, CallErrorKind::Conflict);
}

#[tokio::test]
async fn the_ledger_that_a_process_acted_with_is_replaced_only_if_another_is_adopted() {
    let folder = folder();
    let records = in_file(&folder.file).await;
    assert_eq!(records.ledger_in_use().await.unwrap(), None);
    records.take_over("one", "first", false).await.unwrap();
    records.close().await;
    let records = in_file(&folder.file).await;
    let error = records.take_over("one", "second", false).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("--adopt-ledger"), "{error}");
    assert_eq!(records.ledger_in_use().await.unwrap(), Some("first".to_owned()));
    records.take_over("one", "second", true).await.unwrap();
    assert_eq!(records.ledger_in_use().await.unwrap(), Some("second".to_owned()));
}

#[tokio::test]
async fn a_runner_is_created_once_and_its_facts_accumulate() {
    let records = in_memory().await;
    records.create_runner(&new_runner("r"), at(0)).await.unwrap();
    records.record("r", &[RunnerFact::Registering(at(1)), RunnerFact::Launching(at(2))]).await.unwrap();
    records.create_runner(&new_runner("r"), at(7)).await.unwrap();
    records.record("r", &[RunnerFact::Registering(at(9)), RunnerFact::BusySeen(at(9))]).await.unwrap();
    records.record("r", &[RunnerFact::BusySeen(at(11))]).await.unwrap();
    let runner = records.runner("r").unwrap();
    assert_eq!(
        (runner.created_at, runner.deleted, &runner.matched),
        (at(0), false, &new_runner("r").matched)
    );
    assert_eq!((runner.facts.registering, runner.facts.busy_seen), (Some(at(1)), Some(at(11))));
    assert_eq!(records.observe().unwrap().runners, [runner]);
    assert!(records.runner("other").is_none());
}

#[tokio::test]
async fn facts_of_an_unknown_runner_are_not_found() {
    let records = in_memory().await;
    let error = records.record("r", &[RunnerFact::Gone(at(0))]).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NotFound);
    assert!(error.message.contains('r'), "{error}");
}

#[tokio::test]
async fn facts_are_added_to_what_is_stored_even_if_another_process_wrote_it() {
    let folder = folder();
    let one = in_file(&folder.file).await;
    one.create_runner(&new_runner("r"), at(0)).await.unwrap();
    let two = in_file(&folder.file).await;
    two.record("r", &[RunnerFact::Registering(at(1))]).await.unwrap();
    one.record("r", &[RunnerFact::Registering(at(2)), RunnerFact::Launching(at(3))]).await.unwrap();
    let facts = one.runner("r").unwrap().facts;
    assert_eq!((facts.registering, facts.launching), (Some(at(1)), Some(at(3))));
}

#[tokio::test]
async fn a_credential_is_replaced_read_and_deleted() {
    let records = in_memory().await;
    assert_eq!(records.put_credential("r", &jit("x")).await.unwrap_err().kind, CallErrorKind::NotFound);
    records.create_runner(&new_runner("r"), at(0)).await.unwrap();
    assert_eq!(records.credential("r").await.unwrap_err().kind, CallErrorKind::NotFound);
    let two =
        BTreeMap::from([("token".to_owned(), SecretString::from("t")), jit("first").pop_first().unwrap()]);
    records.put_credential("r", &two).await.unwrap();
    records.put_credential("r", &jit("second")).await.unwrap();
    let read = records.credential("r").await.unwrap();
    let read: Vec<_> = read.iter().map(|(file, content)| (file.as_str(), content.expose_secret())).collect();
    assert_eq!(read, [("jitconfig", "second")]);
    for _ in 0..2 {
        records.delete_credential("r").await.unwrap();
        assert_eq!(records.credential("r").await.unwrap_err().kind, CallErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_released_runner_is_gone_with_its_credential() {
    let records = in_memory().await;
    records.create_runner(&new_runner("r"), at(0)).await.unwrap();
    records.put_credential("r", &jit("x")).await.unwrap();
    for _ in 0..2 {
        records.release("r").await.unwrap();
        assert!(records.runner("r").is_none());
        assert_eq!(records.credential("r").await.unwrap_err().kind, CallErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_deleted_credential_is_in_no_file_any_more() {
    let folder = folder();
    let records = in_file(&folder.file).await;
    let canary = "canary-8d1f6e";
    let legible = || {
        let files = std::fs::read_dir(folder.folder.path()).unwrap();
        files
            .filter(|file| {
                let bytes = std::fs::read(file.as_ref().unwrap().path()).unwrap();
                bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
            })
            .count()
    };
    for released in [false, true] {
        records.create_runner(&new_runner("r"), at(0)).await.unwrap();
        records.put_credential("r", &jit(canary)).await.unwrap();
        assert!(legible() > 0);
        match released {
            false => records.delete_credential("r").await.unwrap(),
            true => records.release("r").await.unwrap(),
        }
        assert_eq!(legible(), 0);
    }
}

#[tokio::test]
async fn secrets_are_those_last_set() {
    let records = in_memory().await;
    let secrets = |value: &str| {
        let values = HashMap::from([("token".to_owned(), SecretString::from(value))]);
        HashMap::from([("acme-app".to_owned(), values)])
    };
    assert_eq!(records.secret("acme-app").await.unwrap_err().kind, CallErrorKind::NotFound);
    records.set_secrets(secrets("one"));
    records.set_secrets(secrets("two"));
    assert_eq!(records.secret("acme-app").await.unwrap()["token"].expose_secret(), "two");
    assert!(!format!("{records:?}").contains("two"));
}

#[tokio::test]
async fn every_write_that_changes_something_is_told_of_once_and_no_other() {
    let records = in_memory().await;
    assert!(has_changed(&records), "what was there at the start is news");
    assert!(!has_changed(&records));
    let report = JobReport { failed: 1, ..JobReport::default() };
    let steps: [(&str, BoxFuture<'_, ()>); 8] = [
        ("tell", async { records.tell(&queued("1")).await.map(|_| ()).unwrap() }.boxed()),
        ("report", async { records.report(&key("1"), &report).await.unwrap() }.boxed()),
        ("reserve", async { records.reserve(&names(&["r"])).await.unwrap() }.boxed()),
        ("create", async { records.create_runner(&new_runner("r"), at(0)).await.unwrap() }.boxed()),
        ("record", async { records.record("r", &[RunnerFact::Gone(at(1))]).await.unwrap() }.boxed()),
        ("unreserve", async { records.unreserve(&names(&["r"])).await.unwrap() }.boxed()),
        ("release", async { records.release("r").await.unwrap() }.boxed()),
        ("expire", async { records.expire(&key("1")).await.unwrap() }.boxed()),
    ];
    for (name, step) in steps {
        step.await;
        assert!(has_changed(&records), "{name}");
        assert!(!has_changed(&records), "{name}");
    }
    records.expire(&key("1")).await.unwrap();
    records.release("r").await.unwrap();
    records.unreserve(&names(&["r"])).await.unwrap();
    assert!(!has_changed(&records), "nothing was there to change");
    records.tell(&queued("1")).await.unwrap();
    assert!(has_changed(&records));
    records.tell(&queued("1")).await.unwrap();
    records.report(&key("1"), &JobReport::default()).await.unwrap();
    assert!(!has_changed(&records), "nothing new was said");
}

#[tokio::test]
async fn a_change_wakes_all_who_wait_and_one_before_a_dropped_wait_is_not_lost() {
    let records = in_memory().await;
    assert!(has_changed(&records));
    let (one, two) = (records.changed(), records.changed());
    let telling = async { records.tell(&queued("1")).await.unwrap() };
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(one, two, telling) }).await.unwrap();
    assert!(!has_changed(&records));
    drop(records.changed());
    records.tell(&queued("2")).await.unwrap();
    drop(records.changed());
    assert!(has_changed(&records));
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_is_carried_out_and_shown() {
    let records = in_memory().await;
    assert!(has_changed(&records));
    let told = queued("1");
    let mut telling = records.tell(&told);
    // Polled once and dropped, as a server does with a handler whose client hangs up.
    assert!((&mut telling).now_or_never().is_none());
    drop(telling);
    tokio::time::timeout(Duration::from_secs(10), records.changed()).await.unwrap();
    assert!(job(&records, "1").is_some());
}

#[tokio::test]
async fn many_tellers_at_once_lose_nothing() {
    let records = in_memory().await;
    let tellings = (0..60).map(|n| {
        let records = &records;
        async move {
            let fact = fact(&format!("delivery-{}", n % 20), JobAction::Queued, n);
            records.tell(&told(&(n % 3).to_string(), fact)).await.unwrap()
        }
    });
    let results = futures::future::join_all(tellings).await;
    assert_eq!(results.iter().filter(|stored| **stored == Stored::NewJob).count(), 3);
    let jobs = records.observe().unwrap().jobs;
    assert_eq!(jobs.iter().map(|job| job.facts.len()).sum::<usize>(), 60);
}

/// What a crash at this moment would leave behind, opened again.
async fn after_a_crash(folder: &Folder, number: usize) -> LocalRecords {
    let copy = folder.folder.path().join(format!("crash-{number}.db"));
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&folder.file), name(&copy)).unwrap();
    }
    in_file(&copy).await
}

#[tokio::test]
async fn a_crash_after_any_call_leaves_what_was_observed() {
    let folder = folder();
    let records = in_file(&folder.file).await;
    let registered = Registered { id: u64::MAX, callback_hash: "ab".to_owned(), at: at(3) };
    let group = GroupFacts { id: "g".to_owned(), pull_started: Some(at(4)), ..GroupFacts::default() };
    let mut ended = fact("read-completed", JobAction::Completed, 6);
    ended.conclusion = Some("success".to_owned());
    ended.runner = Some("r".to_owned());
    let report = JobReport { standing: Standing::Ended, ended_at: Some(at(6)), ..JobReport::default() };
    let facts = [
        RunnerFact::Registered(registered),
        RunnerFact::Group(group),
        RunnerFact::AgentExiting(at(5), Some(1)),
    ];
    let steps: [BoxFuture<'_, ()>; 12] = [
        async { records.tell(&queued("1")).await.map(|_| ()).unwrap() }.boxed(),
        async { records.tell(&queued("2")).await.map(|_| ()).unwrap() }.boxed(),
        async { records.reserve(&names(&["r", "s"])).await.unwrap() }.boxed(),
        async { records.create_runner(&new_runner("r"), at(1)).await.unwrap() }.boxed(),
        async { records.put_credential("r", &jit("x")).await.unwrap() }.boxed(),
        async { records.record("r", &facts).await.unwrap() }.boxed(),
        async { records.tell(&told("1", ended)).await.map(|_| ()).unwrap() }.boxed(),
        async { records.report(&key("1"), &report).await.unwrap() }.boxed(),
        async { records.unreserve(&names(&["s"])).await.unwrap() }.boxed(),
        async { records.delete_credential("r").await.unwrap() }.boxed(),
        async { records.release("r").await.unwrap() }.boxed(),
        async { records.expire(&key("1")).await.unwrap() }.boxed(),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        step.await;
        let again = after_a_crash(&folder, number).await;
        let (before, after) = (records.observe().unwrap(), again.observe().unwrap());
        assert_eq!(after.jobs, before.jobs, "after step {number}");
        assert_eq!(after.runners, before.runners, "after step {number}");
        assert_eq!(after.reserved, before.reserved, "after step {number}");
        let credential =
            |found: CallResult<BTreeMap<String, SecretString>>| found.map(|files| files.len()).ok();
        assert_eq!(credential(again.credential("r").await), credential(records.credential("r").await));
        again.reserve(&names(&["t"])).await.unwrap();
    }
}

#[tokio::test]
async fn closing_and_opening_again_shows_the_same() {
    let folder = folder();
    let records = in_file(&folder.file).await;
    records.tell(&queued("1")).await.unwrap();
    records.close().await;
    assert_eq!(records.tell(&queued("2")).await.unwrap_err().kind, CallErrorKind::Unavailable);
    assert!(job(&in_file(&folder.file).await, "1").is_some());
}

#[tokio::test]
async fn a_ledger_is_not_taken_for_records() {
    let folder = folder();
    let other = Schema { what: "other", application_id: 7, migrations: &["CREATE TABLE t (a)"] };
    sqlite::open(&Location::File(folder.file.clone()), other, 1).await.unwrap().close().await;
    let error = LocalRecords::open(&Location::File(folder.file.clone()), MANY).await.unwrap_err();
    assert!(error.message.contains("not hold the records of Stint"), "{error}");
}

#[tokio::test]
async fn a_record_of_an_unknown_form_is_refused_at_opening() {
    let folder = folder();
    let records = in_file(&folder.file).await;
    sqlx::query("INSERT INTO runners VALUES ('r', '{}')").execute(&records.inner.pool).await.unwrap();
    records.close().await;
    let error = LocalRecords::open(&Location::File(folder.file.clone()), MANY).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("records.db") && error.message.contains("missing field"), "{error}");
}
