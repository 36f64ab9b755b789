//! The ledger in memory, with what the trait promises: append-only, one row for a group and machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::budget::{Account, Charge, Period};
use runner_core::job::JobKey;
use stint::ports::{CallResult, Charges, KeptLogs, Ledger, LedgerRow};

use crate::fault::Peer;
use crate::process::Process;

/// The database that all replicas share.
#[derive(Default)]
pub struct MemoryLedger {
    rows: Mutex<Vec<LedgerRow>>,
    logs: Mutex<Vec<KeptLogs>>,
}

impl MemoryLedger {
    /// All rows, oldest first.
    pub fn rows(&self) -> Vec<LedgerRow> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LedgerRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_logs(&self) -> MutexGuard<'_, Vec<KeptLogs>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, row: &LedgerRow) -> bool {
        let mut rows = self.lock();
        let key = |row: &LedgerRow| (row.bill.group_id.clone(), row.machine_uid.clone());
        let new = rows.iter().all(|known| key(known) != key(row));
        if new {
            rows.push(row.clone());
        }
        new
    }

    fn charges(&self, periods: &[Period], after: u64) -> Charges {
        let rows = self.lock();
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let charge = |row: &LedgerRow| Charge {
            account: Account {
                source: row.started_for.source.clone(),
                owner: row.for_owner.clone(),
                repository: row.for_repository.clone(),
                workflow: row.for_workflow.clone(),
                class: row.for_class.clone(),
                place: row.place.clone(),
            },
            currency: row.bill.currency.clone(),
            amount: row.bill.amount,
        };
        let of = |period: &Period| {
            let within = |row: &&LedgerRow| (period.from..period.until).contains(&row.bill.stopped_at);
            rows.iter().skip(after).filter(within).map(charge).collect()
        };
        Charges { newest: rows.len() as u64, of: periods.iter().map(of).collect() }
    }

    fn latest_seconds(&self, of_each: u32) -> Vec<(String, u64)> {
        let rows = self.lock();
        let mut latest: Vec<(String, u64)> = Vec::new();
        for row in rows.iter().rev() {
            let known = latest.iter().filter(|(class, _)| *class == row.for_class).count();
            if known < usize::try_from(of_each).unwrap_or(usize::MAX) {
                latest.push((row.for_class.clone(), row.bill.seconds));
            }
        }
        latest
    }
}

/// What tells the ledger from any other.
pub const LEDGER: &str = "simulated";

/// A process's way to it.
pub struct LedgerLink {
    /// The database.
    pub ledger: Arc<MemoryLedger>,
    /// The process.
    pub process: Arc<Process>,
}

#[async_trait]
impl Ledger for LedgerLink {
    async fn identify(&self, _expected: Option<&str>) -> CallResult<String> {
        Ok(LEDGER.to_owned())
    }

    async fn commit(&self, row: &LedgerRow) -> CallResult<bool> {
        let what = format!("the row of {}", row.runner);
        self.process.write(Peer::Ledger, &what, || Ok(self.ledger.commit(row))).await
    }

    async fn rows(&self) -> CallResult<Vec<LedgerRow>> {
        self.process.read(Peer::Ledger, || Ok(self.ledger.rows())).await
    }

    async fn rows_of(&self, job: &JobKey) -> CallResult<Vec<LedgerRow>> {
        let of = |row: &LedgerRow| match &row.job {
            Some(ran) => ran == job,
            None => row.started_for == *job,
        };
        let rows = || Ok(self.ledger.rows().into_iter().filter(of).collect());
        self.process.read(Peer::Ledger, rows).await
    }

    async fn charges(&self, periods: &[Period], after: u64) -> CallResult<Charges> {
        self.process.read(Peer::Ledger, || Ok(self.ledger.charges(periods, after))).await
    }

    async fn latest_seconds(&self, of_each: u32) -> CallResult<Vec<(String, u64)>> {
        self.process.read(Peer::Ledger, || Ok(self.ledger.latest_seconds(of_each))).await
    }

    async fn keep_logs(&self, logs: &KeptLogs) -> CallResult<()> {
        let keep = || {
            let mut kept = self.ledger.lock_logs();
            kept.retain(|known| known.runner != logs.runner);
            kept.push(logs.clone());
            Ok(())
        };
        self.process.write(Peer::Ledger, &format!("the logs of {}", logs.runner), keep).await
    }

    async fn logs(&self, of: &str) -> CallResult<Vec<KeptLogs>> {
        let about = |logs: &&KeptLogs| logs.runner == of || logs.job.id == of || logs.job.to_string() == of;
        let read = || Ok(self.ledger.lock_logs().iter().rev().filter(about).cloned().collect());
        self.process.read(Peer::Ledger, read).await
    }

    async fn forget_logs_before(&self, before: Timestamp) -> CallResult<()> {
        // Changes nothing in a simulation, which is shorter than logs are kept: no write, hence.
        let forget = || {
            self.ledger.lock_logs().retain(|logs| logs.kept_at >= before);
            Ok(())
        };
        self.process.read(Peer::Ledger, forget).await
    }
}
