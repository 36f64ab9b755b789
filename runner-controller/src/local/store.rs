//! The tables: one function per write, inside a transaction that its caller commits, and the reading back.
//!
//! Nothing here touches memory; each write answers what it has changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runner_core::job::{Finding, Job, JobFact, JobKey, JobReport, READ_PREFIX, Told};
use runner_core::lifecycle::{Runner, RunnerFact};
use runner_core::plan::NewRunner;
use runner_core::quota::Past;
use runner_core::stray::Foundling;
use sqlx::sqlite::SqliteConnection;

use super::error::{StoreError, StoreResult};
use super::memory::{Change, StoredRecords};
use super::mirror::{Json, action_word};
use super::rows::{read_fact, read_job, read_key};
use crate::config::admission::{self, ChangeRecord};
use crate::ports::{CallErrorKind, Stored};

/// Reads everything, and the epoch of the reservations.
pub(super) async fn load(db: &mut SqliteConnection) -> StoreResult<(StoredRecords, i64)> {
    let mut records = StoredRecords::default();
    for row in sqlx::query("SELECT * FROM jobs").fetch_all(&mut *db).await? {
        let job = read_job(&row)?;
        records.jobs.insert(job.key.clone(), job);
    }
    for row in sqlx::query("SELECT * FROM job_facts ORDER BY number").fetch_all(&mut *db).await? {
        if let Some(job) = records.jobs.get_mut(&read_key(&row)?) {
            job.facts.push(read_fact(&row)?);
        }
    }
    for record in sqlx::query_scalar::<_, String>("SELECT record FROM runners").fetch_all(&mut *db).await? {
        let runner = Runner::from_json(&record)?;
        records.runners.insert(runner.name.clone(), runner);
    }
    let reserved = sqlx::query_scalar("SELECT runner FROM reservations").fetch_all(&mut *db).await?;
    records.reserved = reserved.into_iter().collect();
    let (epoch, changes): (i64, String) =
        sqlx::query_as("SELECT epoch, changes FROM reservations_epoch").fetch_one(db).await?;
    records.past = admission::past(&read_changes(&changes)?);
    Ok((records, epoch))
}

pub(super) async fn tell(
    db: &mut SqliteConnection,
    told: &Told,
    now: Timestamp,
    max_jobs: usize,
) -> StoreResult<(Stored, Change)> {
    let new_job = sqlx::query(
        "INSERT INTO jobs (source, job_id, attempt, stored_at, description, report) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(&told.key.source)
    .bind(&told.key.id)
    .bind(told.key.attempt)
    .bind(now.to_string())
    .bind(told.description.to_json()?)
    .bind(JobReport::default().to_json()?)
    .execute(&mut *db)
    .await?
    .rows_affected()
        > 0;
    if new_job {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&mut *db).await?;
        if usize::try_from(count).is_ok_and(|count| count > max_jobs) {
            let message =
                format!("job {} is not stored: there are {max_jobs} already, the most allowed", told.key);
            return Err(StoreError::call(CallErrorKind::Refused, message));
        }
    }
    let facts_before = facts_of(db, &told.key).await?;
    let known = facts_before.iter().any(|fact| fact.id == told.fact.id);
    if !known {
        insert_fact(db, &told.key, &told.fact).await?;
    } else if told.fact.id.starts_with(READ_PREFIX) {
        refresh_fact(db, &told.key, &told.fact).await?;
    }
    let stored = match (new_job, known) {
        (true, _) => Stored::NewJob,
        (false, false) => Stored::Added,
        (false, true) => Stored::Known,
    };
    let job = find_job(db, &told.key).await?;
    let changed = new_job || job.facts != facts_before;
    Ok((stored, if changed { Change::Job(Box::new(job)) } else { Change::Nothing }))
}

pub(super) async fn report(
    db: &mut SqliteConnection,
    key: &JobKey,
    report: JobReport,
) -> StoreResult<Change> {
    let mut job = find_job(db, key).await?;
    if job.report == report {
        return Ok(Change::Nothing);
    }
    let update = "UPDATE jobs SET report = ? WHERE source = ? AND job_id = ? AND attempt = ?";
    write_column(db, key, update, report.to_json()?).await?;
    job.report = report;
    Ok(Change::Job(Box::new(job)))
}

pub(super) async fn note(db: &mut SqliteConnection, key: &JobKey, finding: Finding) -> StoreResult<Change> {
    let Some(mut job) = look_up_job(db, key).await? else { return Ok(Change::Nothing) };
    let before = job.found.clone();
    job.found.add(finding);
    if job.found == before {
        return Ok(Change::Nothing);
    }
    let update = "UPDATE jobs SET found = ? WHERE source = ? AND job_id = ? AND attempt = ?";
    write_column(db, key, update, job.found.to_json()?).await?;
    Ok(Change::Job(Box::new(job)))
}

pub(super) async fn expire(db: &mut SqliteConnection, key: JobKey) -> StoreResult<Change> {
    let deleted = sqlx::query("DELETE FROM jobs WHERE source = ? AND job_id = ? AND attempt = ?")
        .bind(&key.source)
        .bind(&key.id)
        .bind(key.attempt)
        .execute(db)
        .await?;
    Ok(if deleted.rows_affected() > 0 { Change::JobGone(key) } else { Change::Nothing })
}

pub(super) async fn reserve(
    db: &mut SqliteConnection,
    names: Vec<String>,
    past: &Past,
    epoch: &mut i64,
) -> StoreResult<Change> {
    if names.is_empty() {
        return Ok(Change::Nothing);
    }
    raise_epoch(db, epoch).await?;
    remember(db, past).await?;
    for name in &names {
        sqlx::query("INSERT INTO reservations VALUES (?) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(&mut *db)
            .await?;
    }
    Ok(Change::Reserved(names))
}

pub(super) async fn unreserve(
    db: &mut SqliteConnection,
    names: Vec<String>,
    past: &Past,
    epoch: &mut i64,
) -> StoreResult<Change> {
    let mut removed = 0;
    for name in &names {
        let deleted =
            sqlx::query("DELETE FROM reservations WHERE runner = ?").bind(name).execute(&mut *db).await?;
        removed = deleted.rows_affected().max(removed);
    }
    if removed == 0 {
        return Ok(Change::Nothing);
    }
    raise_epoch(db, epoch).await?;
    remember(db, past).await?;
    Ok(Change::Unreserved(names))
}

/// What tells these records from any others.
pub(super) async fn identity(db: &mut SqliteConnection) -> StoreResult<String> {
    Ok(sqlx::query_scalar("SELECT id FROM identity").fetch_one(db).await?)
}

pub(super) async fn create_runner(
    db: &mut SqliteConnection,
    new: NewRunner,
    at: Timestamp,
) -> StoreResult<Change> {
    insert_runner(db, new.record(at)).await
}

/// Writes the record of a runner that was found, with its facts.
pub(super) async fn adopt(db: &mut SqliteConnection, foundling: Foundling) -> StoreResult<Change> {
    let mut runner = foundling.new.record(foundling.created_at);
    for fact in foundling.facts {
        runner.facts.apply(fact);
    }
    insert_runner(db, runner).await
}

async fn insert_runner(db: &mut SqliteConnection, runner: Runner) -> StoreResult<Change> {
    let inserted = sqlx::query("INSERT INTO runners (name, record) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(&runner.name)
        .bind(runner.to_json()?)
        .execute(db)
        .await?;
    Ok(if inserted.rows_affected() > 0 { Change::Runner(Box::new(runner)) } else { Change::Nothing })
}

pub(super) async fn record(
    db: &mut SqliteConnection,
    name: &str,
    facts: Vec<RunnerFact>,
) -> StoreResult<Change> {
    let mut runner = find_runner(db, name).await?;
    let before = runner.facts.clone();
    for fact in facts {
        runner.facts.apply(fact);
    }
    if runner.facts == before {
        return Ok(Change::Nothing);
    }
    sqlx::query("UPDATE runners SET record = ? WHERE name = ?")
        .bind(runner.to_json()?)
        .bind(name)
        .execute(db)
        .await?;
    Ok(Change::Runner(Box::new(runner)))
}

/// Deletes a runner, and its credential with it.
pub(super) async fn release(db: &mut SqliteConnection, name: String) -> StoreResult<Change> {
    let deleted = sqlx::query("DELETE FROM runners WHERE name = ?").bind(&name).execute(db).await?;
    Ok(if deleted.rows_affected() > 0 { Change::RunnerGone(name) } else { Change::Nothing })
}

/// Makes this process the one whose reservations count, and reads what another one may have written.
pub(super) async fn take_over(db: &mut SqliteConnection, epoch: &mut i64) -> StoreResult<Change> {
    let (stored, current) = load(&mut *db).await?;
    *epoch = current;
    raise_epoch(db, epoch).await?;
    Ok(Change::All(Box::new(stored)))
}

async fn raise_epoch(db: &mut SqliteConnection, epoch: &mut i64) -> StoreResult<()> {
    let next = epoch.saturating_add(1);
    let raised = sqlx::query("UPDATE reservations_epoch SET epoch = ? WHERE epoch = ?")
        .bind(next)
        .bind(*epoch)
        .execute(db)
        .await?;
    if raised.rows_affected() == 0 {
        let message = "another process has changed the reservations: only one may act on these records";
        return Err(StoreError::call(CallErrorKind::Conflict, message));
    }
    *epoch = next;
    Ok(())
}

async fn write_column(
    db: &mut SqliteConnection,
    key: &JobKey,
    update: &'static str,
    value: String,
) -> StoreResult<()> {
    sqlx::query(update).bind(value).bind(&key.source).bind(&key.id).bind(key.attempt).execute(db).await?;
    Ok(())
}

async fn remember(db: &mut SqliteConnection, past: &Past) -> StoreResult<()> {
    let changes = serde_json::to_string(&admission::past_records(past))?;
    sqlx::query("UPDATE reservations_epoch SET changes = ?").bind(changes).execute(db).await?;
    Ok(())
}

fn read_changes(text: &str) -> StoreResult<BTreeMap<String, Vec<ChangeRecord>>> {
    Ok(serde_json::from_str(text)?)
}

async fn insert_fact(db: &mut SqliteConnection, key: &JobKey, fact: &JobFact) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO job_facts (source, job_id, attempt, id, action, heard_at, runner, conclusion)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&key.source)
    .bind(&key.id)
    .bind(key.attempt)
    .bind(&fact.id)
    .bind(action_word(fact.action))
    .bind(fact.heard_at.to_string())
    .bind(&fact.runner)
    .bind(&fact.conclusion)
    .execute(db)
    .await?;
    Ok(())
}

/// What Stint reads from a source again replaces the last reading of the same id.
async fn refresh_fact(db: &mut SqliteConnection, key: &JobKey, fact: &JobFact) -> StoreResult<()> {
    sqlx::query(
        "UPDATE job_facts SET heard_at = ?, runner = ?, conclusion = ?
         WHERE source = ? AND job_id = ? AND attempt = ? AND id = ?",
    )
    .bind(fact.heard_at.to_string())
    .bind(&fact.runner)
    .bind(&fact.conclusion)
    .bind(&key.source)
    .bind(&key.id)
    .bind(key.attempt)
    .bind(&fact.id)
    .execute(db)
    .await?;
    Ok(())
}

async fn find_job(db: &mut SqliteConnection, key: &JobKey) -> StoreResult<Job> {
    let unknown = || StoreError::call(CallErrorKind::NotFound, format!("there is no record of job {key}"));
    look_up_job(db, key).await?.ok_or_else(unknown)
}

async fn look_up_job(db: &mut SqliteConnection, key: &JobKey) -> StoreResult<Option<Job>> {
    let row = sqlx::query("SELECT * FROM jobs WHERE source = ? AND job_id = ? AND attempt = ?")
        .bind(&key.source)
        .bind(&key.id)
        .bind(key.attempt)
        .fetch_optional(&mut *db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Job { facts: facts_of(db, key).await?, ..read_job(&row)? }))
}

async fn facts_of(db: &mut SqliteConnection, key: &JobKey) -> StoreResult<Vec<JobFact>> {
    let rows = sqlx::query(
        "SELECT * FROM job_facts WHERE source = ? AND job_id = ? AND attempt = ? ORDER BY number",
    )
    .bind(&key.source)
    .bind(&key.id)
    .bind(key.attempt)
    .fetch_all(db)
    .await?;
    rows.iter().map(read_fact).collect()
}

pub(super) async fn find_runner(db: &mut SqliteConnection, name: &str) -> StoreResult<Runner> {
    let record: Option<String> =
        sqlx::query_scalar("SELECT record FROM runners WHERE name = ?").bind(name).fetch_optional(db).await?;
    match record {
        Some(record) => Ok(Runner::from_json(&record)?),
        None => {
            Err(StoreError::call(CallErrorKind::NotFound, format!("there is no record of runner {name}")))
        }
    }
}
