//! What holds for the ledger in PostgreSQL alone: many writers, a server that goes and comes, and what it may refuse.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use postgres_server::{PASSWORD, Postgres, ROLE};
use runner_core::budget::{Budget, Per, Period, WhenSpent};
use runner_core::limit::JobMatch;
use rust_decimal::Decimal;
use secrecy::SecretString;
use sqlx::{Connection as _, PgConnection};
use stint::execute::SpendingMemory;
use stint::ledger::{LedgerLocation, PostgresLedger, PostgresSettings};
use stint::ports::{CallError, CallErrorKind, CallResult, Ledger, LedgerRow};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Bed;
use crate::laws::{at, key, logs, row};

/// An empty database on a server of its own.
pub(crate) struct Database {
    server: Postgres,
    url: String,
}

impl Bed for Database {
    async fn new() -> Self {
        let server = Postgres::start().unwrap();
        let url = server.create_database("ledger").unwrap();
        Self { server, url }
    }

    async fn open(&self) -> Arc<dyn Ledger> {
        let ledger = open(&self.url).await.unwrap();
        ledger.identify(None).await.unwrap();
        Arc::new(ledger)
    }
}

async fn open(url: &str) -> CallResult<PostgresLedger> {
    PostgresLedger::open(&PostgresSettings::new(&SecretString::from(url), None)?).await
}

/// Why a ledger is refused at its start, or cannot be reached yet.
async fn trouble(url: &str) -> CallError {
    let error = match open(url).await {
        Ok(ledger) => ledger.identify(None).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    assert!(error.message.contains("--ledger"), "{error}");
    error
}

#[track_caller]
fn refused(error: &CallError, says: &str) {
    assert_eq!(error.kind, CallErrorKind::Refused, "{error}");
    assert!(error.message.contains(says), "{error}");
}

async fn until<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < end, "it does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Commits a row again until that succeeds, as the loop does; whether it was new then.
async fn commit_at_last(ledger: Arc<dyn Ledger>, row: LedgerRow) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match ledger.commit(&row).await {
            Ok(new) => return new,
            Err(error) => {
                assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
                assert!(Instant::now() < end, "{error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nobody_changes_or_deletes_a_row() {
    let bed = Database::new().await;
    let ledger = bed.open().await;
    ledger.commit(&row("g", "m")).await.unwrap();
    let id = ledger.identify(None).await.unwrap();
    for sql in [
        "UPDATE stint.ledger SET amount = 0",
        "DELETE FROM stint.ledger",
        "TRUNCATE stint.ledger",
        "UPDATE stint.identity SET id = 'x'",
        "DELETE FROM stint.identity",
        "INSERT INTO stint.ledger SELECT * FROM stint.ledger ON CONFLICT (group_id, machine_uid) DO UPDATE SET amount = 0",
    ] {
        for role in ["origin", "replica"] {
            let sql = format!("SET session_replication_role = {role}; {sql}");
            let error = bed.server.sql("ledger", &sql).unwrap_err().to_string();
            assert!(error.contains("append-only") || error.contains("job_key"), "{sql}: {error}");
        }
    }
    assert_eq!(ledger.rows().await.unwrap(), [row("g", "m")]);
    assert_eq!(bed.open().await.identify(None).await.unwrap(), id);
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_ledger() {
    let bed = Database::new().await;
    let ledgers = futures::future::join_all((0..6).map(|_| bed.open())).await;
    let ids = futures::future::join_all(ledgers.iter().map(|ledger| ledger.identify(None))).await;
    let first = ids[0].clone().unwrap();
    assert!(ids.iter().all(|id| *id.as_ref().unwrap() == first), "{ids:?}");
    assert_eq!(bed.server.sql("ledger", "SELECT count(*) FROM stint.schema_version").unwrap(), "1");
}

#[tokio::test]
async fn a_later_number_is_visible_later() {
    let bed = Database::new().await;
    let ledger = bed.open().await;
    ledger.commit(&row("g", "template")).await.unwrap();
    let mut slow = PgConnection::connect(&bed.url).await.unwrap();
    let mut open = slow.begin().await.unwrap();
    let columns = "runner, started_for_source, started_for_id, started_for_attempt, for_owner, for_repository, \
                   for_workflow, for_class, repository, job_name, class, place, ended_because, started_at, started_from, \
                   stopped_at, stopped_from, bound_seconds, seconds, vcpu, memory_gb, amount, currency";
    let copy = format!(
        "INSERT INTO stint.ledger (group_id, machine_uid, {columns}) SELECT 'g', 'slow', {columns} FROM stint.ledger"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut *open).await.unwrap();
    let quick = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.commit(&row("g", "quick")).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
    until(async || (bed.server.sql("ledger", waiting).unwrap() == "1").then_some(())).await;
    assert_eq!(ledger.charges(&[], 0).await.unwrap().newest, 1);
    open.commit().await.unwrap();
    assert!(quick.await.unwrap().unwrap());
    let order: Vec<_> = ledger.rows().await.unwrap().into_iter().map(|row| row.machine_uid).collect();
    assert_eq!(order, ["template", "slow", "quick"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_on_from_the_newest_number_misses_no_row_of_many_writers() {
    let bed = Database::new().await;
    let (one, other, reader) = (bed.open().await, bed.open().await, bed.open().await);
    let writers: Vec<_> = (0..200)
        .map(|number: usize| {
            let ledger = if number.is_multiple_of(2) { one.clone() } else { other.clone() };
            let mut row = row("g", &number.to_string());
            row.bill.amount = Decimal::ONE;
            tokio::spawn(commit_at_last(ledger, row))
        })
        .collect();
    let period = Period { from: at(0), until: at(1000) };
    let (mut newest, mut sum) = (0, Decimal::ZERO);
    until(async || {
        let found = reader.charges(&[period], newest).await.unwrap();
        newest = found.newest;
        sum += found.of[0].iter().map(|charge| charge.amount).sum::<Decimal>();
        (sum == Decimal::from(200)).then_some(())
    })
    .await;
    assert!(futures::future::join_all(writers).await.into_iter().all(|new| new.unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_tried_again_while_the_server_crashes_are_there_exactly_once() {
    let mut bed = Database::new().await;
    let ledger = bed.open().await;
    let writers: Vec<_> = (0..60)
        .map(|number: usize| tokio::spawn(commit_at_last(ledger.clone(), row("g", &number.to_string()))))
        .collect();
    let some = "SELECT count(*) > 3 FROM stint.ledger";
    until(async || (bed.server.sql("ledger", some).unwrap() == "t").then_some(())).await;
    bed.server.kill().unwrap();
    bed.server.restart().unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(bed.server.sql("ledger", "SELECT count(*) FROM stint.ledger").unwrap(), "60");
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_the_same_row_is_committed_once_it_is_back() {
    let mut bed = Database::new().await;
    let ledger = bed.open().await;
    ledger.commit(&row("g", "before")).await.unwrap();
    bed.server.kill().unwrap();
    let error = ledger.commit(&row("g", "m")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("--ledger does not answer"), "{error}");
    bed.server.restart().unwrap();
    assert!(ledger.commit(&row("g", "m")).await.unwrap());
    assert!(!ledger.commit(&row("g", "before")).await.unwrap());
    assert_eq!(ledger.rows().await.unwrap(), [row("g", "before"), row("g", "m")]);
}

/// Passes connections on to a port of this machine, those that are open only until it is silenced: they stay open, and
/// nothing comes through any more, as in a network that lost its way.
struct Network {
    port: u16,
    silence: watch::Sender<u64>,
}

impl Network {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silence = watch::Sender::new(0);
        let silenced = silence.clone();
        tokio::spawn(async move {
            let mut lost = Vec::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let mut silence = silenced.subscribe();
                lost.push(tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = silence.changed() => std::future::pending().await,
                    }
                }));
            }
        });
        Self { port, silence }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_went_silent_are_given_up_and_replaced() {
    let bed = Database::new().await;
    let network = Network::to(bed.server.port()).await;
    let through = bed.url.replace(&bed.server.port().to_string(), &network.port.to_string());
    let ledger = Arc::new(open(&through).await.unwrap());
    ledger.identify(None).await.unwrap();
    let mut blocking = PgConnection::connect(&bed.url).await.unwrap();
    let mut held = blocking.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE stint.ledger IN EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let rows: Vec<_> = (0..4).map(|number: usize| row("g", &number.to_string())).collect();
    let commits: Vec<_> = rows
        .iter()
        .map(|row| {
            let (ledger, row) = (ledger.clone(), row.clone());
            tokio::spawn(async move { ledger.commit(&row).await })
        })
        .collect();
    let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted";
    until(async || (bed.server.sql("ledger", waiting).unwrap() == "t").then_some(())).await;
    network.silence.send_modify(|times| *times += 1);
    for commit in commits {
        assert_eq!(commit.await.unwrap().unwrap_err().kind, CallErrorKind::Unavailable);
    }
    held.commit().await.unwrap();
    // Whether the server took the rows without being able to say so, or takes them now: they are there once.
    for row in rows {
        commit_at_last(ledger.clone(), row).await;
    }
    assert_eq!(ledger.rows().await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_found_later_and_budgets_are_unknown_until_then() {
    let mut bed = Database::new().await;
    bed.server.kill().unwrap();
    let ledger = open(&bed.url).await.unwrap();
    for error in [ledger.identify(None).await.unwrap_err(), ledger.commit(&row("g", "m")).await.unwrap_err()]
    {
        assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
    }
    let budget = Budget {
        name: "all".to_owned(),
        matches: JobMatch::default(),
        amount: Decimal::from(100),
        currency: "USD".to_owned(),
        per: Per::Day,
        time_zone: TimeZone::UTC,
        alert_at: Vec::new(),
        when_spent: WhenSpent::Hold,
    };
    let budgets = BTreeMap::from([("all".to_owned(), budget)]);
    let memory = SpendingMemory::default();
    let (spending, again) = memory.keep_up(&ledger, &budgets, at(0)).await;
    assert!(spending.spent.is_empty() && again.is_some());
    bed.server.restart().unwrap();
    ledger.identify(None).await.unwrap();
    ledger.commit(&row("g", "m")).await.unwrap();
    let (spending, again) = memory.keep_up(&ledger, &budgets, at(100)).await;
    assert_eq!((spending.spent["all"], again), ("0.00154321".parse().unwrap(), None));
}

#[tokio::test]
async fn a_ledger_that_is_not_the_expected_one_takes_and_tells_nothing() {
    let bed = Database::new().await;
    let ledger = open(&bed.url).await.unwrap();
    refused(
        &ledger.identify(Some("another")).await.unwrap_err(),
        "not the one that holds this installation's rows",
    );
    assert_eq!(ledger.commit(&row("g", "m")).await.unwrap_err().kind, CallErrorKind::Unavailable);
    let id = ledger.identify(None).await.unwrap();
    assert!(ledger.commit(&row("g", "m")).await.unwrap());
    assert_eq!(ledger.identify(Some(&id)).await.unwrap(), id);
    refused(&ledger.identify(Some("another")).await.unwrap_err(), "--adopt-ledger");
}

#[tokio::test]
async fn a_database_that_was_replaced_takes_no_row_of_the_one_before() {
    let bed = Database::new().await;
    let ledger = bed.open().await;
    bed.server.sql("ledger", "DROP SCHEMA stint CASCADE").unwrap();
    refused(&ledger.commit(&row("g", "m")).await.unwrap_err(), "does not hold Stint's ledger");
    bed.open().await;
    refused(
        &ledger.commit(&row("g", "m")).await.unwrap_err(),
        "not the one that holds this installation's rows",
    );
    assert_eq!(bed.server.sql("ledger", "SELECT count(*) FROM stint.ledger").unwrap(), "0");
}

#[tokio::test]
async fn what_the_server_refuses_is_said_with_the_remedy() {
    let bed = Database::new().await;
    let url = &bed.url;
    refused(&trouble(&url.replace(PASSWORD, "canary")).await, "does not accept the password");
    refused(&trouble(&url.replace("/ledger?", "/nowhere?")).await, "no such database");
    refused(&trouble(&url.replace("=disable", "=require")).await, "see that the server offers TLS");
    bed.server.sql("postgres", "CREATE DATABASE foreign_one").unwrap();
    refused(&trouble(&bed.server.url("foreign_one")).await, "make it the owner of the database");
    bed.server
        .sql("postgres", "CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0 OWNER stint")
        .unwrap();
    refused(&trouble(&bed.server.url("old")).await, "ENCODING 'UTF8'");
    let used = bed.server.create_database("used").unwrap();
    bed.server.sql("used", "CREATE SCHEMA stint AUTHORIZATION stint; CREATE TABLE stint.t ()").unwrap();
    refused(&trouble(&used).await, "not a ledger of Stint");
    bed.open().await;
    bed.server.sql("ledger", "INSERT INTO stint.schema_version VALUES (99)").unwrap();
    let error = open(url).await.unwrap_err();
    refused(&error, "schema version 99");
    refused(&error, "use the newer release");
}

#[tokio::test]
async fn an_unreachable_server_is_no_reason_to_end() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let error = trouble(&format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/ledger")).await;
    assert_eq!(error.kind, CallErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("see that it runs"), "{error}");
}

#[tokio::test]
async fn a_server_proves_who_it_is_by_a_certificate() {
    let bed = Database::new().await;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    bed.server.offer_tls(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    refused(&trouble(&bed.url.replace("=disable", "=verify-full")).await, "no trusted connection by TLS");
    let trusted = bed.url.replace("=disable", &format!("=verify-full&sslrootcert={}", ca.display()));
    let ledger = open(&trusted).await.unwrap();
    ledger.identify(None).await.unwrap();
    assert!(ledger.commit(&row("g", "m")).await.unwrap());
    let sql =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'stint'";
    assert_eq!(bed.server.sql("ledger", sql).unwrap(), "t");
    refused(&trouble(&trusted.replace("127.0.0.1", "localhost")).await, "no trusted connection by TLS");
}

#[tokio::test]
async fn a_password_that_is_changed_in_its_file_is_taken_up() {
    let bed = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let write = |password: &str| std::fs::write(&file, format!("{password}\n")).unwrap();
    write(PASSWORD);
    let url = bed.url.replace(&format!(":{PASSWORD}"), "");
    let settings = PostgresSettings::new(&SecretString::from(url), Some(Path::new(&file))).unwrap();
    let ledger = LedgerLocation::Postgres(settings).open().await.unwrap();
    ledger.identify(None).await.unwrap();
    write("changed");
    bed.server.sql("ledger", "ALTER ROLE stint PASSWORD 'changed'").unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stint'";
    bed.server.sql("ledger", end).unwrap();
    // The first call may still find the old password refused.
    until(async || ledger.commit(&row("g", "m")).await.ok()).await;
}

#[tokio::test]
async fn a_role_with_few_rights_is_enough_once_the_schema_is_there() {
    let bed = Database::new().await;
    bed.open().await;
    let sql = "REASSIGN OWNED BY stint TO postgres; ALTER SCHEMA stint OWNER TO postgres;
               GRANT USAGE ON SCHEMA stint TO stint; GRANT SELECT ON ALL TABLES IN SCHEMA stint TO stint;
               GRANT INSERT ON stint.ledger TO stint; GRANT INSERT, UPDATE, DELETE ON stint.logs TO stint;
               GRANT USAGE ON SEQUENCE stint.ledger_number TO stint";
    bed.server.sql("ledger", sql).unwrap();
    let ledger = bed.open().await;
    assert!(ledger.commit(&row("g", "m")).await.unwrap());
    ledger.keep_logs(&logs("r", key("acme", "1", 1), 0, "first")).await.unwrap();
    ledger.keep_logs(&logs("r", key("acme", "1", 1), 1, "second")).await.unwrap();
    ledger.forget_logs_before(at(5)).await.unwrap();
    let mut raw = PgConnection::connect(&bed.url).await.unwrap();
    let error =
        sqlx::raw_sql("ALTER TABLE stint.ledger DISABLE TRIGGER ALL").execute(&mut raw).await.unwrap_err();
    assert!(error.to_string().contains("must be owner"), "{error}");
}

#[tokio::test]
async fn characters_that_postgresql_does_not_keep_cost_neither_a_row_nor_logs() {
    let bed = Database::new().await;
    let ledger = bed.open().await;
    let mut odd = row("g", "m");
    odd.job_name = "a\0b".to_owned();
    assert!(ledger.commit(&odd).await.unwrap());
    assert_eq!(ledger.rows().await.unwrap()[0].job_name, "a\u{fffd}b");
    ledger.keep_logs(&logs("r", key("acme", "1", 1), 0, "x\0y")).await.unwrap();
    assert_eq!(ledger.logs("r").await.unwrap()[0].text, "x\u{fffd}y");
    assert_eq!(ledger.logs("\0").await.unwrap(), []);
}

#[tokio::test]
async fn a_large_ledger_is_never_read_as_a_whole_for_a_part() {
    let bed = Database::new().await;
    let ledger = bed.open().await;
    ledger.commit(&row("g", "m")).await.unwrap();
    let fill = "INSERT INTO stint.ledger (group_id, machine_uid, runner, started_for_source, started_for_id,
            started_for_attempt, for_owner, for_repository, for_workflow, for_class, job_source, job_id, job_attempt, repository,
            job_name, class, place, ended_because, started_at, started_from, stopped_at, stopped_from, bound_seconds, seconds,
            vcpu, memory_gb, amount, currency)
        SELECT group_id, 'n' || n, 'r' || n, started_for_source, 's' || n, 1, for_owner, for_repository, for_workflow,
            'class' || n % 5, job_source, CASE WHEN n % 10 > 0 THEN 'j' || n END, 1, repository, job_name, class, place,
            ended_because, started_at, started_from, to_char(timestamptz '2024-01-01Z' + n * interval '1 minute',
            'YYYY-MM-DD\"T\"HH24:MI:SS\".000000000Z\"'), stopped_from, 0, 60, 2, 4, 0.001, currency
        FROM stint.ledger, generate_series(1, 30000) AS n;
        INSERT INTO stint.logs (runner, job_source, job_id, job_attempt, kept_at, origin, text)
        SELECT 'r' || n, 'acme', 's' || n, 1, '2024-01-01T00:00:00.000000000Z', 'arm', 'text' FROM generate_series(1, 30000) AS n;
        ANALYZE stint.ledger; ANALYZE stint.logs";
    bed.server.sql("ledger", fill).unwrap();
    // What a connection counted is told when it ends.
    let scans = "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('ledger', 'logs')";
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'stint'";
    let reader = open(&bed.url).await.unwrap();
    reader.identify(None).await.unwrap();
    let read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('ledger', 'logs')";
    let read = || bed.server.sql("ledger", read).unwrap().parse::<u64>().unwrap();
    let (before, read_before) = (bed.server.sql("ledger", scans).unwrap(), read());
    let day = Period {
        from: "2024-01-05T00:00:00Z".parse().unwrap(),
        until: "2024-01-06T00:00:00Z".parse().unwrap(),
    };
    let charged = reader.charges(&[day], 0).await.unwrap().of;
    assert_eq!(charged[0].iter().map(|charge| charge.amount).sum::<Decimal>(), "1.44".parse().unwrap());
    reader.charges(&[day], 29_000).await.unwrap();
    assert_eq!(reader.latest_seconds(20).await.unwrap().len(), 5 * 20 + 1);
    assert_eq!(reader.rows_of(&key("acme", "j77", 1)).await.unwrap().len(), 1);
    assert_eq!(reader.rows_of(&key("acme", "s70", 1)).await.unwrap().len(), 1);
    assert_eq!(reader.logs("acme-s77-1").await.unwrap().len(), 1);
    assert_eq!(reader.logs("j77").await.unwrap().len(), 1);
    reader.close().await;
    drop(ledger);
    until(async || (bed.server.sql("ledger", gone).unwrap() == "0").then_some(())).await;
    assert_eq!(bed.server.sql("ledger", scans).unwrap(), before);
    // A day has 1440 rows, and 1001 come after the number.
    assert!(read() - read_before < 6000, "{} entries of indices", read() - read_before);
}
