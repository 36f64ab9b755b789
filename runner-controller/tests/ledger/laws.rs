//! The laws of the ledger, which hold in every database. Each takes a bed, on which the same ledger can be opened anew.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use runner_core::billing::{Bill, TimeSource};
use runner_core::budget::{Account, Charge, Period};
use runner_core::job::JobKey;
use rust_decimal::Decimal;
use stint::ports::{CallErrorKind, Charges, KeptLogs, Ledger, LedgerRow};

use crate::Bed;

const LOG_LIMIT: usize = 64 * 1024;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn key(source: &str, id: &str, attempt: u32) -> JobKey {
    JobKey { source: source.to_owned(), id: id.to_owned(), attempt }
}

pub(crate) fn row(group: &str, machine: &str) -> LedgerRow {
    LedgerRow {
        machine_uid: machine.to_owned(),
        runner: format!("stint-{machine}"),
        started_for: key("acme", "4711", 1),
        for_owner: "acme".to_owned(),
        for_repository: "acme/web".to_owned(),
        for_workflow: "ci".to_owned(),
        for_class: "stint".to_owned(),
        job: Some(key("acme", "4712", 1)),
        repository: "acme/web".to_owned(),
        job_name: "build".to_owned(),
        class: "stint-small".to_owned(),
        place: "virtual".to_owned(),
        ended_because: "AgentExited".to_owned(),
        conclusion: Some("success".to_owned()),
        bill: Bill {
            group_id: group.to_owned(),
            started_at: at(0),
            started_from: TimeSource::Arm,
            stopped_at: at(61),
            stopped_from: TimeSource::CallBack,
            bound_seconds: 3,
            seconds: 61,
            vcpu: 2,
            memory_gb: "4.20".parse().unwrap(),
            amount: "0.00154321".parse().unwrap(),
            currency: "USD".to_owned(),
        },
    }
}

pub(crate) fn logs(runner: &str, job: JobKey, kept: i64, text: &str) -> KeptLogs {
    KeptLogs {
        runner: runner.to_owned(),
        job,
        kept_at: at(kept),
        origin: "arm".to_owned(),
        text: text.to_owned(),
    }
}

async fn runners_of(ledger: &dyn Ledger, of: &str) -> Vec<String> {
    ledger.logs(of).await.unwrap().into_iter().map(|logs| logs.runner).collect()
}

pub(crate) async fn a_row_is_new_once_and_reads_back_as_committed(bed: &impl Bed) {
    let ledger = bed.open().await;
    let first = row("g", "m");
    assert!(ledger.commit(&first).await.unwrap());
    let mut changed = first.clone();
    changed.bill.amount = Decimal::ONE;
    changed.place = "elsewhere".to_owned();
    assert!(!ledger.commit(&changed).await.unwrap());
    assert_eq!(ledger.rows().await.unwrap(), [first]);
}

pub(crate) async fn the_key_is_group_and_machine_together(bed: &impl Bed) {
    let ledger = bed.open().await;
    for (group, machine) in [("g", "m"), ("g", "n"), ("h", "m")] {
        assert!(ledger.commit(&row(group, machine)).await.unwrap());
    }
    let order: Vec<_> =
        ledger.rows().await.unwrap().into_iter().map(|row| (row.bill.group_id, row.machine_uid)).collect();
    let expected = [("g", "m"), ("g", "n"), ("h", "m")].map(|(g, m)| (g.to_owned(), m.to_owned()));
    assert_eq!(order, expected, "oldest first");
}

pub(crate) async fn a_runner_without_a_job_has_none_in_its_row(bed: &impl Bed) {
    let ledger = bed.open().await;
    let idle = LedgerRow { job: None, conclusion: None, ..row("g", "m") };
    ledger.commit(&idle).await.unwrap();
    assert_eq!(ledger.rows().await.unwrap(), [idle]);
}

pub(crate) async fn the_rows_of_a_job_are_those_it_ran_on_and_those_that_ran_nothing_for_it(bed: &impl Bed) {
    let ledger = bed.open().await;
    let job = key("acme", "4711", 1);
    let ran = LedgerRow { started_for: key("acme", "9", 1), job: Some(job.clone()), ..row("g", "ran") };
    let lost = LedgerRow { job: None, ..row("g", "lost") };
    let others = [
        row("g", "ran another"),
        LedgerRow { started_for: key("acme", "4711", 2), job: None, ..row("g", "another attempt") },
        LedgerRow { job: Some(key("other", "4711", 1)), ..row("g", "another source") },
    ];
    for row in others.iter().chain([&ran, &lost]) {
        ledger.commit(row).await.unwrap();
    }
    assert_eq!(ledger.rows_of(&job).await.unwrap(), [ran, lost]);
}

pub(crate) async fn more_seconds_than_the_table_holds_are_refused(bed: &impl Bed) {
    let ledger = bed.open().await;
    let mut long = row("g", "m");
    long.bill.seconds = u64::MAX;
    assert_eq!(ledger.commit(&long).await.unwrap_err().kind, CallErrorKind::Refused);
}

pub(crate) async fn concurrent_commits_of_one_row_are_new_exactly_once(bed: &impl Bed) {
    let ledgers = [bed.open().await, bed.open().await];
    let (row, other) = (row("g", "m"), row("g", "n"));
    let commits = (0..40).map(|n: usize| {
        let ledger = &ledgers[n % 2];
        let row = if n % 4 < 2 { &row } else { &other };
        async move { ledger.commit(row).await.unwrap() }
    });
    let new = futures::future::join_all(commits).await.into_iter().filter(|new| *new).count();
    assert_eq!(new, 2);
    for ledger in &ledgers {
        assert_eq!(ledger.rows().await.unwrap().len(), 2);
    }
}

fn charge(repository: &str, currency: &str, amount: &str) -> Charge {
    let account = Account {
        source: "acme".to_owned(),
        owner: "acme".to_owned(),
        repository: repository.to_owned(),
        workflow: "ci".to_owned(),
        class: "stint".to_owned(),
        place: "virtual".to_owned(),
    };
    Charge { account, currency: currency.to_owned(), amount: amount.parse().unwrap() }
}

/// A row for a job of this repository whose meter stopped then.
fn charged(machine: &str, repository: &str, stopped: Timestamp, currency: &str, amount: &str) -> LedgerRow {
    let mut row = LedgerRow { for_repository: repository.to_owned(), ..row("g", machine) };
    // What it ran in the end does not matter.
    row.repository = "acme/other".to_owned();
    row.bill.stopped_at = stopped;
    row.bill.currency = currency.to_owned();
    row.bill.amount = amount.parse().unwrap();
    row
}

pub(crate) async fn charges_are_exact_sums_of_what_stopped_in_a_period_by_what_budgets_tell_apart(
    bed: &impl Bed,
) {
    let ledger = bed.open().await;
    let (from, until) = (at(1000), at(2000));
    let just = SignedDuration::from_nanos(1);
    for (machine, repository, stopped, currency, amount) in [
        ("before", "acme/web", from - just, "USD", "100"),
        ("first", "acme/web", from, "USD", "0.10000001"),
        ("last", "acme/web", until - just, "USD", "0.20000002"),
        ("euros", "acme/web", at(1500), "EUR", "7"),
        ("lib", "acme/lib", at(1500), "USD", "0.3"),
        ("after", "acme/web", until, "USD", "100"),
    ] {
        ledger.commit(&charged(machine, repository, stopped, currency, amount)).await.unwrap();
    }
    let period = Period { from, until };
    let later = Period { from: until, until: at(3000) };
    let found = ledger.charges(&[period, later], 0).await.unwrap();
    assert_eq!(found.newest, 6);
    let mut of_first = found.of[0].clone();
    of_first.sort_by(|a, b| (&a.account, &a.currency).cmp(&(&b.account, &b.currency)));
    let expect = [
        charge("acme/lib", "USD", "0.3"),
        charge("acme/web", "EUR", "7"),
        charge("acme/web", "USD", "0.30000003"),
    ];
    assert_eq!(of_first, expect);
    assert_eq!(found.of[1], [charge("acme/web", "USD", "100")]);
}

pub(crate) async fn charges_go_on_from_the_newest_row_that_was_seen(bed: &impl Bed) {
    let ledger = bed.open().await;
    let period = Period { from: at(0), until: at(1000) };
    assert_eq!(ledger.charges(&[period], 0).await.unwrap(), Charges { newest: 0, of: vec![vec![]] });
    let mut newest = 0;
    for (machine, amount) in [("a", "1"), ("b", "2"), ("c", "4")] {
        ledger.commit(&charged(machine, "acme/web", at(10), "USD", amount)).await.unwrap();
        let found = ledger.charges(&[period], newest).await.unwrap();
        assert_eq!(found.of, [vec![charge("acme/web", "USD", amount)]]);
        newest = found.newest;
    }
    assert_eq!(ledger.charges(&[period], newest).await.unwrap().of, [vec![]]);
    assert_eq!(ledger.charges(&[period], 0).await.unwrap().of, [vec![charge("acme/web", "USD", "7")]]);
}

pub(crate) async fn absurd_amounts_are_summed_up_as_the_most_there_is(bed: &impl Bed) {
    let ledger = bed.open().await;
    let period = Period { from: at(0), until: at(1000) };
    for (machine, amount) in [("a", Decimal::MAX), ("b", Decimal::MAX), ("c", Decimal::MIN)] {
        let mut row = charged(machine, "acme/web", at(10), "USD", "0");
        row.bill.amount = amount;
        ledger.commit(&row).await.unwrap();
    }
    let found = ledger.charges(&[period], 0).await.unwrap();
    assert_eq!(found.of, [vec![charge("acme/web", "USD", "1000000000")]]);
}

/// Commits rows of a class, each with its own billed seconds.
pub(crate) async fn took(ledger: &dyn Ledger, class: &str, seconds: impl IntoIterator<Item = u64>) {
    for seconds in seconds {
        let mut one = row("g", &format!("{class}-{seconds}"));
        one.for_class = class.to_owned();
        one.bill.seconds = seconds;
        ledger.commit(&one).await.unwrap();
    }
}

pub(crate) async fn the_latest_rows_of_each_class_tell_how_long_they_took_however_many_another_has(
    bed: &impl Bed,
) {
    let ledger = bed.open().await;
    assert_eq!(ledger.latest_seconds(2).await.unwrap(), []);
    took(&*ledger, "rare", [14_400, 14_500, 14_600]).await;
    took(&*ledger, "often", 1..=60).await;
    took(&*ledger, "once", [7]).await;
    let latest = ledger.latest_seconds(2).await.unwrap();
    let expect = [("once", 7), ("often", 60), ("often", 59), ("rare", 14_600), ("rare", 14_500)];
    assert_eq!(latest, expect.map(|(class, seconds)| (class.to_owned(), seconds)));
}

pub(crate) async fn later_logs_of_a_runner_replace_earlier_ones(bed: &impl Bed) {
    let ledger = bed.open().await;
    ledger.keep_logs(&logs("r", key("acme", "1", 1), 0, "first")).await.unwrap();
    let second = logs("r", key("acme", "1", 1), 1, "second");
    ledger.keep_logs(&second).await.unwrap();
    assert_eq!(ledger.logs("r").await.unwrap(), [second]);
}

pub(crate) async fn logs_are_cut_to_their_last_64_kib_between_characters(bed: &impl Bed) {
    let ledger = bed.open().await;
    for (text, expected) in [
        ("a".repeat(LOG_LIMIT), "a".repeat(LOG_LIMIT)),
        (format!("x{}", "a".repeat(LOG_LIMIT)), "a".repeat(LOG_LIMIT)),
        (format!("é{}", "a".repeat(LOG_LIMIT - 1)), "a".repeat(LOG_LIMIT - 1)),
    ] {
        ledger.keep_logs(&logs("r", key("acme", "1", 1), 0, &text)).await.unwrap();
        assert!(ledger.logs("r").await.unwrap()[0].text == expected, "{} bytes", text.len());
    }
}

pub(crate) async fn logs_are_found_by_runner_and_by_the_job_it_was_started_for_newest_first(bed: &impl Bed) {
    let ledger = bed.open().await;
    for (runner, attempt, kept) in [("r1", 1, 5), ("r2", 1, 9), ("r3", 2, 7)] {
        ledger.keep_logs(&logs(runner, key("acme", "1", attempt), kept, "")).await.unwrap();
    }
    ledger.keep_logs(&logs("r4", key("acme", "11", 1), 8, "")).await.unwrap();
    for (of, expected) in [
        ("r1", vec!["r1"]),
        ("acme-1-1", vec!["r2", "r1"]),
        ("1", vec!["r2", "r3", "r1"]),
        ("acme", vec![]),
        ("%", vec![]),
    ] {
        assert_eq!(runners_of(&*ledger, of).await, expected, "{of}");
    }
}

pub(crate) async fn logs_are_found_by_the_job_that_the_runner_ran_instead(bed: &impl Bed) {
    let ledger = bed.open().await;
    let row = row("g", "m");
    ledger.keep_logs(&logs(&row.runner, row.started_for.clone(), 0, "")).await.unwrap();
    ledger.commit(&row).await.unwrap();
    for of in ["acme-4712-1", "4712", "acme-4711-1"] {
        assert_eq!(runners_of(&*ledger, of).await, [row.runner.as_str()], "{of}");
    }
}

pub(crate) async fn logs_kept_before_a_moment_are_forgotten_and_those_of_that_moment_stay(bed: &impl Bed) {
    let ledger = bed.open().await;
    let moment = at(10);
    for (runner, kept_at) in [
        ("before", moment - SignedDuration::from_nanos(1)),
        ("at", moment),
        ("after", moment + SignedDuration::from_nanos(1)),
    ] {
        let kept = KeptLogs { kept_at, ..logs(runner, key("acme", "1", 1), 0, "") };
        ledger.keep_logs(&kept).await.unwrap();
    }
    ledger.forget_logs_before(moment).await.unwrap();
    assert_eq!(runners_of(&*ledger, "1").await, ["after", "at"]);
}

/// Text of any kind, without the one character that PostgreSQL does not keep.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_i64, 0..1_000_000_000_i32).prop_map(|(s, ns)| Timestamp::new(s, ns).unwrap())
}

fn decimal() -> impl Strategy<Value = Decimal> {
    (any::<i64>(), 0..=18_u32).prop_map(|(digits, scale)| Decimal::new(digits, scale))
}

fn bill() -> impl Strategy<Value = Bill> {
    let from = || prop::sample::select(TimeSource::ALL.to_vec());
    let count = || 0..=i64::MAX as u64;
    (
        (text(), moment(), from(), moment(), from()),
        (count(), count(), any::<u32>(), decimal(), decimal(), text()),
    )
        .prop_map(|((group_id, started_at, started_from, stopped_at, stopped_from), rest)| {
            let (bound_seconds, seconds, vcpu, memory_gb, amount, currency) = rest;
            Bill {
                group_id,
                started_at,
                started_from,
                stopped_at,
                stopped_from,
                bound_seconds,
                seconds,
                vcpu,
                memory_gb,
                amount,
                currency,
            }
        })
}

fn job_key() -> impl Strategy<Value = JobKey> {
    (text(), text(), any::<u32>()).prop_map(|(source, id, attempt)| key(&source, &id, attempt))
}

fn any_row() -> impl Strategy<Value = LedgerRow> {
    let texts = prop::array::uniform11(text());
    (texts, job_key(), prop::option::of(job_key()), prop::option::of(text()), bill()).prop_map(
        |(
            [
                machine_uid,
                runner,
                repository,
                job_name,
                class,
                place,
                ended_because,
                owner,
                of,
                workflow,
                alone,
            ],
            started_for,
            job,
            end,
            bill,
        )| {
            LedgerRow {
                machine_uid,
                runner,
                started_for,
                for_owner: owner,
                for_repository: of,
                for_workflow: workflow,
                for_class: alone,
                job,
                repository,
                job_name,
                class,
                place,
                ended_because,
                conclusion: end,
                bill,
            }
        },
    )
}

pub(crate) async fn any_row_reads_back_as_committed(bed: &impl Bed) {
    let ledger = bed.open().await;
    let mut runner = TestRunner::deterministic();
    let mut committed = Vec::new();
    for number in 0..64 {
        let mut row = any_row().new_tree(&mut runner).unwrap().current();
        // Each is a row of its own.
        row.machine_uid.push_str(&number.to_string());
        assert!(ledger.commit(&row).await.unwrap());
        committed.push(row);
    }
    let read = ledger.rows().await.unwrap();
    for (row, read) in committed.iter().zip(&read) {
        assert_eq!(read.bill.amount.to_string(), row.bill.amount.to_string(), "trailing zeros are kept");
    }
    assert_eq!(read, committed);
}
