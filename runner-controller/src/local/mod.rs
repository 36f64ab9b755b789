//! The records of a Stint that runs on one machine without a cluster: in SQLite, with a copy in memory to look at.
//!
//! A write goes to SQLite first, then to memory, in one call that finishes even if nobody waits for it any more: what
//! was committed is always shown. Nothing here decides; a second process on the same file is told by its reservations.

mod beside;
mod error;
mod ledger_in_use;
mod memory;
mod mirror;
mod rows;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use runner_core::job::{Finding, JobKey, JobReport, Told};
use runner_core::lifecycle::{Runner, RunnerFact};
use runner_core::plan::NewRunner;
use runner_core::quota::Past;
use runner_core::stray::Foundling;
use secrecy::SecretString;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use self::error::StoreResult;
use self::memory::{Change, Memory};
use crate::clock;
use crate::config::{Documents, Problem};
use crate::ports::{CallError, CallErrorKind, CallResult, Observed, Records, Stored};
use crate::sqlite::{self, Location, Schema};

const SCHEMA: Schema = Schema {
    what: "records",
    application_id: 0x5374_5265,
    migrations: &[
        include_str!("schema_1.sql"),
        include_str!("schema_2.sql"),
        include_str!("schema_3.sql"),
        include_str!("schema_4.sql"),
        include_str!("schema_5.sql"),
    ],
};

/// Records in one SQLite file. Clones share them.
#[derive(Clone, Debug)]
pub struct LocalRecords {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: SqlitePool,
    memory: Memory,
    /// Held from the beginning of a write until memory shows it, so that both see writes in the same order.
    writing: Mutex<Writing>,
    max_jobs: usize,
    /// What the next write of reservations is to remember.
    past: std::sync::Mutex<Past>,
}

#[derive(Debug)]
struct Writing {
    /// The epoch of the reservations, as this process last read or wrote it.
    epoch: i64,
    /// A commit failed, so that SQLite may hold what memory does not show.
    unsure: bool,
}

impl LocalRecords {
    /// Opens the records, and creates them if there are none; at most `max_jobs` jobs are ever stored at once.
    ///
    /// Until [`set_documents`](Self::set_documents) was called, [`Records::observe`] answers `None`.
    ///
    /// # Errors
    /// `Refused` where the file cannot be created, read or written, is damaged, holds something else or was written
    /// by a newer program; `Unavailable` where another process keeps it locked.
    pub async fn open(at: &Location, max_jobs: usize) -> CallResult<Self> {
        let pool = sqlite::open(at, SCHEMA, 1).await?;
        let loading = async {
            let mut transaction = pool.begin().await?;
            store::load(&mut transaction).await
        };
        let (stored, epoch) =
            loading.await.map_err(|error| error.during(&format!("cannot read the records {at}")))?;
        let writing = Mutex::new(Writing { epoch, unsure: false });
        let inner = Inner { pool, memory: Memory::new(stored), writing, max_jobs, past: Default::default() };
        let records = Self { inner: Arc::new(inner) };
        // The process before may have ended between a deletion and this.
        records.forget_deleted().await;
        Ok(records)
    }

    /// Replaces the configuration documents.
    pub fn set_documents(&self, documents: Documents) {
        self.inner.memory.change(|contents| contents.documents = Some(Arc::new(documents)));
    }

    /// Replaces all secrets that documents may name: values by key, by the secret's name.
    pub fn set_secrets(&self, secrets: HashMap<String, HashMap<String, SecretString>>) {
        self.inner.memory.change(|contents| contents.secrets = secrets);
    }

    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        let _writing = self.inner.writing.lock().await;
        self.inner.pool.close().await;
    }

    /// Carries out one write, which finishes even if its caller goes away.
    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl for<'a> FnOnce(
            &'a mut SqliteConnection,
            &'a mut i64,
        ) -> BoxFuture<'a, StoreResult<(T, Change)>>
        + Send
        + 'static,
    ) -> CallResult<T> {
        let inner = Arc::clone(&self.inner);
        let write = tokio::spawn(async move { inner.write(work).await.map_err(|error| error.during(doing)) });
        match write.await {
            Ok(result) => result,
            Err(error) => Err(CallError::new(CallErrorKind::Unavailable, format!("{doing}: {error}"))),
        }
    }

    fn past(&self) -> Past {
        self.inner.past.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Empties the write-ahead log, so that a credential that was deleted is in no file any more.
    async fn forget_deleted(&self) {
        let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.inner.pool).await;
        if let Err(error) = emptied {
            tracing::warn!(%error, "a deleted credential may stay in the records' write-ahead log for a while");
        }
    }
}

impl Inner {
    async fn write<T>(
        &self,
        work: impl for<'a> FnOnce(
            &'a mut SqliteConnection,
            &'a mut i64,
        ) -> BoxFuture<'a, StoreResult<(T, Change)>>,
    ) -> StoreResult<T> {
        let mut writing = self.writing.lock().await;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if writing.unsure {
            let (stored, _) = store::load(&mut transaction).await?;
            self.memory.change(|contents| contents.stored = stored);
            writing.unsure = false;
        }
        let mut epoch = writing.epoch;
        let (result, change) = work(&mut transaction, &mut epoch).await?;
        if let Err(error) = transaction.commit().await {
            writing.unsure = true;
            return Err(error.into());
        }
        writing.epoch = epoch;
        if !matches!(change, Change::Nothing) {
            self.memory.change(|contents| contents.stored.apply(change));
        }
        Ok(result)
    }
}

#[async_trait]
impl Records for LocalRecords {
    fn observe(&self) -> Option<Observed> {
        self.inner.memory.read(|contents| {
            contents.documents.as_ref()?;
            Some(Observed {
                jobs: contents.stored.jobs.values().cloned().collect(),
                runners: contents.stored.runners.values().cloned().collect(),
                reserved: contents.stored.reserved.clone(),
            })
        })
    }

    fn remembered(&self) -> Past {
        self.inner.memory.read(|contents| contents.stored.past.clone())
    }

    fn remember(&self, past: &Past) {
        let mut held = self.inner.past.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != *past {
            held.clone_from(past);
        }
    }

    fn documents(&self) -> Option<Arc<Documents>> {
        self.inner.memory.read(|contents| contents.documents.clone())
    }

    fn knows_job(&self, key: &JobKey) -> bool {
        self.inner.memory.read(|contents| contents.stored.jobs.contains_key(key))
    }

    async fn ledger_in_use(&self) -> CallResult<Option<String>> {
        let reading = async {
            let mut connection = self.inner.pool.acquire().await?;
            ledger_in_use::read(&mut connection).await
        };
        reading.await.map_err(|error| error.during("cannot read which ledger is in use"))
    }

    async fn identity(&self) -> CallResult<String> {
        let reading = async {
            let mut connection = self.inner.pool.acquire().await?;
            store::identity(&mut connection).await
        };
        reading.await.map_err(|error| error.during("cannot read the records' identity"))
    }

    async fn take_over(&self, _holder: &str, ledger: &str, adopt: bool) -> CallResult<()> {
        let ledger = ledger.to_owned();
        self.write("cannot take the reservations over", move |db, epoch| {
            async move {
                ledger_in_use::set(db, &ledger, adopt).await?;
                Ok(((), store::take_over(db, epoch).await?))
            }
            .boxed()
        })
        .await
    }

    async fn note_problems(&self, _problems: &[Problem]) -> CallResult<()> {
        // There is nothing beside a file to write to: the log tells.
        Ok(())
    }

    async fn swept(&self, source: &str) -> CallResult<BTreeMap<String, Timestamp>> {
        let reading = async {
            let mut connection = self.inner.pool.acquire().await?;
            beside::swept(&mut connection, source).await
        };
        reading.await.map_err(|error| error.during("cannot read how far a source is swept"))
    }

    async fn note_swept(&self, source: &str, hook: &str, to: Timestamp) -> CallResult<()> {
        let (source, hook) = (source.to_owned(), hook.to_owned());
        self.write("cannot keep how far a source is swept", move |db, _| {
            async move { Ok((beside::note_swept(db, &source, &hook, to).await?, Change::Nothing)) }.boxed()
        })
        .await
    }

    fn runner(&self, name: &str) -> Option<Runner> {
        self.inner.memory.read(|contents| contents.stored.runners.get(name).cloned())
    }

    async fn changed(&self) {
        self.inner.memory.changed().await;
    }

    async fn tell(&self, told: &Told) -> CallResult<Stored> {
        let (told, max_jobs) = (told.clone(), self.inner.max_jobs);
        self.write("cannot store a fact", move |db, _| {
            async move { store::tell(db, &told, clock::now(), max_jobs).await }.boxed()
        })
        .await
    }

    async fn report(&self, job: &JobKey, report: &JobReport) -> CallResult<()> {
        let (job, report) = (job.clone(), report.clone());
        self.write("cannot write a job's report", move |db, _| {
            async move { Ok(((), store::report(db, &job, report).await?)) }.boxed()
        })
        .await
    }

    async fn note(&self, job: &JobKey, finding: &Finding) -> CallResult<()> {
        let (job, finding) = (job.clone(), finding.clone());
        self.write("cannot note what was found of a job", move |db, _| {
            async move { Ok(((), store::note(db, &job, finding).await?)) }.boxed()
        })
        .await
    }

    async fn expire(&self, job: &JobKey) -> CallResult<()> {
        let job = job.clone();
        self.write("cannot delete a job's record", move |db, _| {
            async move { Ok(((), store::expire(db, job).await?)) }.boxed()
        })
        .await
    }

    async fn reserve(&self, runners: &[String]) -> CallResult<()> {
        let (names, past) = (runners.to_vec(), self.past());
        self.write("cannot reserve runners", move |db, epoch| {
            async move { Ok(((), store::reserve(db, names, &past, epoch).await?)) }.boxed()
        })
        .await
    }

    fn is_reserved(&self, runner: &str) -> bool {
        self.inner.memory.read(|contents| contents.stored.reserved.contains(runner))
    }

    async fn unreserve(&self, runners: &[String]) -> CallResult<()> {
        let (names, past) = (runners.to_vec(), self.past());
        self.write("cannot give reservations back", move |db, epoch| {
            async move { Ok(((), store::unreserve(db, names, &past, epoch).await?)) }.boxed()
        })
        .await
    }

    async fn create_runner(&self, new: &NewRunner, at: Timestamp) -> CallResult<()> {
        let new = new.clone();
        self.write("cannot write a runner's record", move |db, _| {
            async move { Ok(((), store::create_runner(db, new, at).await?)) }.boxed()
        })
        .await
    }

    async fn adopt(&self, foundling: &Foundling) -> CallResult<()> {
        let foundling = foundling.clone();
        self.write("cannot write a runner's record again", move |db, _| {
            async move { Ok(((), store::adopt(db, foundling).await?)) }.boxed()
        })
        .await
    }

    async fn record(&self, runner: &str, facts: &[RunnerFact]) -> CallResult<()> {
        let (runner, facts) = (runner.to_owned(), facts.to_vec());
        self.write("cannot record facts of a runner", move |db, _| {
            async move { Ok(((), store::record(db, &runner, facts).await?)) }.boxed()
        })
        .await
    }

    async fn put_credential(&self, runner: &str, files: &BTreeMap<String, SecretString>) -> CallResult<()> {
        let (runner, files) = (runner.to_owned(), files.clone());
        self.write("cannot store a credential", move |db, _| {
            async move { Ok((beside::put_credential(db, &runner, &files).await?, Change::Nothing)) }.boxed()
        })
        .await
    }

    async fn delete_credential(&self, runner: &str) -> CallResult<()> {
        let runner = runner.to_owned();
        let deleted = self.write("cannot delete a credential", move |db, _| {
            async move { Ok((beside::delete_credential(db, &runner).await?, Change::Nothing)) }.boxed()
        });
        if deleted.await? {
            self.forget_deleted().await;
        }
        Ok(())
    }

    async fn credential(&self, runner: &str) -> CallResult<BTreeMap<String, SecretString>> {
        let reading = async {
            let mut connection = self.inner.pool.acquire().await?;
            beside::credential(&mut connection, runner).await
        };
        reading.await.map_err(|error| error.during("cannot read a credential"))
    }

    async fn release(&self, runner: &str) -> CallResult<()> {
        let runner = runner.to_owned();
        let had_credential = self.write("cannot release a runner", move |db, _| {
            async move {
                let had_credential = beside::delete_credential(db, &runner).await?;
                Ok((had_credential, store::release(db, runner).await?))
            }
            .boxed()
        });
        if had_credential.await? {
            self.forget_deleted().await;
        }
        Ok(())
    }

    async fn secret(&self, name: &str) -> CallResult<HashMap<String, SecretString>> {
        let found = self.inner.memory.read(|contents| contents.secrets.get(name).cloned());
        found.ok_or_else(|| CallError::new(CallErrorKind::NotFound, format!("there is no secret {name}")))
    }
}

#[cfg(test)]
mod tests;
