//! The sums that budgets are held against, on a real ledger.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use runner_core::billing::{Bill, TimeSource};
use runner_core::budget::{Budget, Per, WhenSpent};
use runner_core::job::JobKey;
use runner_core::limit::{Dimension, Glob, JobMatch};
use rust_decimal::Decimal;
use stint::execute::SpendingMemory;
use stint::ledger::SqliteLedger;
use stint::ports::{Ledger, LedgerRow};
use stint::sqlite::Location;

const DAY: i64 = 86_400;

/// So many seconds after a midnight in UTC.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(20_000 * DAY + seconds).unwrap()
}

fn row(machine: &str, repository: &str, stopped: i64, amount: i64) -> LedgerRow {
    LedgerRow {
        machine_uid: machine.to_owned(),
        runner: format!("stint-{machine}"),
        started_for: JobKey { source: "acme".to_owned(), id: machine.to_owned(), attempt: 1 },
        for_owner: "acme".to_owned(),
        for_repository: repository.to_owned(),
        for_workflow: String::new(),
        for_class: "stint".to_owned(),
        job: None,
        repository: repository.to_owned(),
        job_name: "build".to_owned(),
        class: "stint".to_owned(),
        place: "virtual".to_owned(),
        ended_because: "AgentExited".to_owned(),
        conclusion: None,
        bill: Bill {
            group_id: "g".to_owned(),
            started_at: at(stopped - 90),
            started_from: TimeSource::Arm,
            stopped_at: at(stopped),
            stopped_from: TimeSource::Arm,
            bound_seconds: 0,
            seconds: 90,
            vcpu: 2,
            memory_gb: Decimal::ONE,
            amount: Decimal::from(amount),
            currency: "USD".to_owned(),
        },
    }
}

/// `all` by day, and `web`, of one repository, by month.
fn budgets() -> BTreeMap<String, Budget> {
    let budget = |name: &str, per: Per, matches: JobMatch| Budget {
        name: name.to_owned(),
        matches,
        amount: Decimal::from(100),
        currency: "USD".to_owned(),
        per,
        time_zone: TimeZone::UTC,
        alert_at: Vec::new(),
        when_spent: WhenSpent::Hold,
    };
    let web = BTreeMap::from([(Dimension::Repository, vec![Glob::new("acme/web")])]);
    [
        budget("all", Per::Day, JobMatch::default()),
        budget("web", Per::Month, JobMatch { patterns: web, ..JobMatch::default() }),
    ]
    .into_iter()
    .map(|budget| (budget.name.clone(), budget))
    .collect()
}

async fn open(path: &Path) -> SqliteLedger {
    SqliteLedger::open(&Location::File(path.to_owned())).await.unwrap()
}

/// What is spent of `all` and `web`, as far as that is known.
async fn spent(memory: &SpendingMemory, ledger: &SqliteLedger, now: i64) -> Option<(Decimal, Decimal)> {
    let (spending, again) = memory.keep_up(ledger, &budgets(), at(now)).await;
    let of = |name: &str| spending.spent.get(name).copied();
    let both = of("all").zip(of("web"));
    assert_eq!(again.is_none(), both.is_some(), "what is not known is asked for again");
    both
}

fn sums(all: i64, web: i64) -> Option<(Decimal, Decimal)> {
    Some((Decimal::from(all), Decimal::from(web)))
}

#[tokio::test]
async fn sums_go_on_with_each_row_and_begin_anew_with_each_period() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("ledger.db")).await;
    ledger.commit(&row("yesterday", "acme/web", -5, 1)).await.unwrap();
    ledger.commit(&row("a", "acme/web", 5, 2)).await.unwrap();
    ledger.commit(&row("b", "acme/lib", 6, 4)).await.unwrap();
    let memory = SpendingMemory::default();
    assert_eq!(spent(&memory, &ledger, 10).await, sums(6, 3));
    ledger.commit(&row("c", "acme/web", 11, 8)).await.unwrap();
    assert_eq!(spent(&memory, &ledger, 12).await, sums(6, 3), "the ledger is not asked in every pass");
    memory.catch_up(&ledger).await;
    assert_eq!(spent(&memory, &ledger, 13).await, sums(14, 11));
    ledger.commit(&row("d", "acme/web", 14, 16)).await.unwrap();
    assert_eq!(spent(&memory, &ledger, 60).await, sums(30, 27), "another process may have written");
    assert_eq!(spent(&memory, &ledger, DAY).await, sums(0, 27));
    memory.catch_up(&ledger).await;
    assert_eq!(spent(&memory, &ledger, DAY + 1).await, sums(0, 27));
}

#[tokio::test]
async fn a_budget_that_changes_is_summed_up_anew_and_none_needs_no_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("ledger.db")).await;
    ledger.commit(&row("a", "acme/web", 5, 2)).await.unwrap();
    let memory = SpendingMemory::default();
    assert_eq!(spent(&memory, &ledger, 10).await, sums(2, 2));
    let mut changed = budgets();
    changed.get_mut("web").unwrap().matches = JobMatch::default();
    changed.remove("all");
    ledger.commit(&row("b", "acme/lib", 6, 4)).await.unwrap();
    let (spending, _) = memory.keep_up(&ledger, &changed, at(11)).await;
    assert_eq!(spending.spent, BTreeMap::from([("web".to_owned(), Decimal::from(6))]));
    ledger.close().await;
    let (spending, again) = memory.keep_up(&ledger, &BTreeMap::new(), at(12)).await;
    assert!(spending.spent.is_empty() && again.is_none());
}

#[tokio::test]
async fn without_a_ledger_nothing_is_known_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open(&path).await;
    ledger.commit(&row("a", "acme/web", 5, 2)).await.unwrap();
    let memory = SpendingMemory::default();
    assert_eq!(spent(&memory, &ledger, 10).await, sums(2, 2));
    ledger.close().await;
    // A row was committed, and its sum cannot be taken up.
    memory.catch_up(&ledger).await;
    assert_eq!(spent(&memory, &ledger, 11).await, None);
    let ledger = open(&path).await;
    assert_eq!(spent(&memory, &ledger, 100).await, sums(2, 2));
}

#[tokio::test]
async fn a_process_that_acts_again_finds_what_another_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("ledger.db")).await;
    let memory = SpendingMemory::default();
    assert_eq!(spent(&memory, &ledger, 10).await, sums(0, 0));
    ledger.commit(&row("a", "acme/web", 5, 2)).await.unwrap();
    memory.forget().await;
    assert_eq!(spent(&memory, &ledger, 11).await, sums(2, 2));
}

#[tokio::test]
async fn how_long_runners_usually_take_is_read_with_the_sums() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().join("ledger.db")).await;
    for number in 0..5 {
        ledger.commit(&row(&number.to_string(), "acme/web", 5, 2)).await.unwrap();
    }
    let (spending, _) = SpendingMemory::default().keep_up(&ledger, &budgets(), at(10)).await;
    assert_eq!(spending.usual, BTreeMap::from([("stint".to_owned(), SignedDuration::from_secs(90))]));
}
