//! Records and a ledger in memory, with trouble on request, and a server on the loopback address.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use jiff::Timestamp;
use runner_core::budget::Period;
use runner_core::job::{Finding, Findings, Job, JobKey, JobReport, Told};
use runner_core::lifecycle::{Runner, RunnerFact};
use runner_core::plan::NewRunner;
use runner_core::quota::Past;
use secrecy::SecretString;
use stint::config::{Documents, Problem};
use stint::ports::{
    CallError, CallErrorKind, CallResult, Charges, KeptLogs, Ledger, LedgerRow, Observed, Records, Stored,
};
use stint::web::serve::{ServeLimits, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What is stored, and what the store answers.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) jobs: Mutex<Vec<Job>>,
    pub(crate) runners: Mutex<HashMap<String, Runner>>,
    pub(crate) logs: Mutex<Vec<KeptLogs>>,
    pub(crate) rows: Mutex<Vec<LedgerRow>>,
    pub(crate) store_trouble: Mutex<Option<CallErrorKind>>,
    pub(crate) ledger_trouble: Mutex<Option<CallErrorKind>>,
}

fn trouble(kind: &Mutex<Option<CallErrorKind>>) -> CallResult<()> {
    match *kind.lock().unwrap() {
        Some(kind) => Err(CallError::new(kind, "the store is in trouble")),
        None => Ok(()),
    }
}

#[async_trait]
impl Records for Memory {
    fn observe(&self) -> Option<Observed> {
        let jobs = self.jobs.lock().unwrap().clone();
        Some(Observed { jobs, ..Observed::default() })
    }

    fn runner(&self, name: &str) -> Option<Runner> {
        self.runners.lock().unwrap().get(name).cloned()
    }

    fn knows_job(&self, key: &JobKey) -> bool {
        self.jobs.lock().unwrap().iter().any(|job| job.key == *key)
    }

    async fn changed(&self) {}

    async fn tell(&self, told: &Told) -> CallResult<Stored> {
        trouble(&self.store_trouble)?;
        let mut jobs = self.jobs.lock().unwrap();
        let Some(job) = jobs.iter_mut().find(|job| job.key == told.key) else {
            jobs.push(Job {
                key: told.key.clone(),
                description: told.description.clone(),
                stored_at: told.fact.heard_at,
                facts: vec![told.fact.clone()],
                report: JobReport::default(),
                found: Findings::default(),
            });
            return Ok(Stored::NewJob);
        };
        if job.facts.iter().any(|fact| fact.id == told.fact.id) {
            return Ok(Stored::Known);
        }
        job.facts.push(told.fact.clone());
        Ok(Stored::Added)
    }

    async fn record(&self, runner: &str, facts: &[RunnerFact]) -> CallResult<()> {
        trouble(&self.store_trouble)?;
        let mut runners = self.runners.lock().unwrap();
        let runner =
            runners.get_mut(runner).ok_or(CallError::new(CallErrorKind::NotFound, "no such runner"))?;
        facts.iter().for_each(|fact| runner.facts.apply(fact.clone()));
        Ok(())
    }

    fn documents(&self) -> Option<Arc<Documents>> {
        unreachable!("web and intake read no document")
    }
    async fn take_over(&self, _: &str, _: &str, _: bool) -> CallResult<()> {
        unreachable!("web and intake do not act")
    }
    async fn ledger_in_use(&self) -> CallResult<Option<String>> {
        unreachable!("web and intake do not act")
    }
    async fn note_problems(&self, _: &[Problem]) -> CallResult<()> {
        unreachable!("web and intake judge no document")
    }
    async fn report(&self, _: &JobKey, _: &JobReport) -> CallResult<()> {
        unreachable!("web and intake do not report")
    }
    async fn note(&self, _: &JobKey, _: &Finding) -> CallResult<()> {
        unreachable!("web and intake find nothing out")
    }
    async fn expire(&self, _: &JobKey) -> CallResult<()> {
        unreachable!("web and intake do not expire")
    }
    async fn reserve(&self, _: &[String]) -> CallResult<()> {
        unreachable!("web and intake do not reserve")
    }
    fn remembered(&self) -> Past {
        unreachable!("web and intake do not reserve")
    }
    fn remember(&self, _: &Past) {
        unreachable!("web and intake do not reserve")
    }
    fn is_reserved(&self, _: &str) -> bool {
        unreachable!("web and intake do not reserve")
    }
    async fn unreserve(&self, _: &[String]) -> CallResult<()> {
        unreachable!("web and intake do not reserve")
    }
    async fn create_runner(&self, _: &NewRunner, _: Timestamp) -> CallResult<()> {
        unreachable!("web and intake create no runner")
    }
    async fn put_credential(&self, _: &str, _: &BTreeMap<String, SecretString>) -> CallResult<()> {
        unreachable!("web and intake touch no credential")
    }
    async fn delete_credential(&self, _: &str) -> CallResult<()> {
        unreachable!("web and intake touch no credential")
    }
    async fn credential(&self, _: &str) -> CallResult<BTreeMap<String, SecretString>> {
        unreachable!("web and intake touch no credential")
    }
    async fn release(&self, _: &str) -> CallResult<()> {
        unreachable!("web and intake release nothing")
    }
    async fn secret(&self, _: &str) -> CallResult<HashMap<String, SecretString>> {
        unreachable!("web and intake read no secret")
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn identify(&self, _: Option<&str>) -> CallResult<String> {
        Ok("memory".to_owned())
    }
    async fn commit(&self, _: &LedgerRow) -> CallResult<bool> {
        unreachable!("web commits nothing")
    }
    async fn rows(&self) -> CallResult<Vec<LedgerRow>> {
        trouble(&self.ledger_trouble)?;
        Ok(self.rows.lock().unwrap().clone())
    }
    async fn rows_of(&self, _: &JobKey) -> CallResult<Vec<LedgerRow>> {
        unreachable!("web asks for all rows")
    }
    async fn charges(&self, _: &[Period], _: u64) -> CallResult<Charges> {
        unreachable!("web sums nothing up")
    }
    async fn latest_seconds(&self, _: u32) -> CallResult<Vec<(String, u64)>> {
        unreachable!("web judges nothing by it")
    }
    async fn keep_logs(&self, logs: &KeptLogs) -> CallResult<()> {
        trouble(&self.ledger_trouble)?;
        self.logs.lock().unwrap().push(logs.clone());
        Ok(())
    }
    async fn logs(&self, of: &str) -> CallResult<Vec<KeptLogs>> {
        trouble(&self.ledger_trouble)?;
        Ok(self.logs.lock().unwrap().iter().filter(|logs| logs.runner == of).cloned().collect())
    }
    async fn forget_logs_before(&self, _: Timestamp) -> CallResult<()> {
        unreachable!("web forgets nothing")
    }
}

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        Self::with_limits(router, ServeLimits::default()).await
    }

    pub(crate) async fn with_limits(router: Router, limits: ServeLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let ended = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self { address, stop, ended }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.ended.abort();
    }
}
