//! The API listener: what `stint` asks a running controller for. It is bound to the loopback address, and to nobody
//! else's name: a page in a browser that made its own name resolve to this machine is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use runner_core::budget::Figures;
use runner_core::job::{Job, JobKey};
use runner_core::reason::Reason;
use serde::Serialize;
use tokio::sync::watch;

use super::{line, unavailable};
use crate::ports::{CallError, KeptLogs, Ledger, LedgerRow, Records};

/// What the API reads.
#[derive(Clone)]
pub struct ApiState {
    /// The records.
    pub records: Arc<dyn Records>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Why jobs wait, are refused or were given up; empty in a replica that does not act.
    pub reasons: watch::Receiver<Arc<BTreeMap<JobKey, Arc<Reason>>>>,
    /// How budgets stand; empty in a replica that does not act.
    pub budgets: watch::Receiver<Arc<[Figures]>>,
}

/// `GET /api/v1/logs/{runner or job}`, `/api/v1/ledger`, `/api/v1/jobs`, `/api/v1/budgets`.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/api/v1/logs/{of}", get(logs))
        .route("/api/v1/ledger", get(ledger))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/budgets", get(budgets))
        .layer(middleware::from_fn(only_local_names))
        .with_state(state)
}

async fn only_local_names(request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = named.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    match host.map_or(named, |(host, _)| host) {
        "localhost" | "127.0.0.1" | "[::1]" => next.run(request).await,
        _ => line(StatusCode::FORBIDDEN, "ask for this API as localhost"),
    }
}

async fn logs(State(state): State<ApiState>, Path(of): Path<String>) -> Response {
    match state.ledger.logs(&of).await {
        Ok(kept) if kept.is_empty() => {
            line(StatusCode::NOT_FOUND, "no logs are kept for a runner or job of this name")
        }
        Ok(kept) => line(StatusCode::OK, kept.iter().map(log_text).collect::<Vec<_>>().join("\n")),
        Err(error) => trouble("logs", &error),
    }
}

fn log_text(logs: &KeptLogs) -> String {
    let KeptLogs { runner, job, kept_at, origin, text } = logs;
    format!("==> {runner} (started for {job}, kept {kept_at}, from {origin}) <==\n{}", text.trim_end())
}

async fn ledger(State(state): State<ApiState>) -> Response {
    match state.ledger.rows().await {
        Ok(rows) => Json(rows.into_iter().map(Row::from).collect::<Vec<_>>()).into_response(),
        Err(error) => trouble("ledger", &error),
    }
}

async fn jobs(State(state): State<ApiState>) -> Response {
    match state.records.observe() {
        Some(observed) => {
            let reasons = state.reasons.borrow().clone();
            let row = |job: Job| {
                let why = reasons.get(&job.key).map(|reason| reason.sentence());
                JobRow { why, ..JobRow::from(job) }
            };
            let mut jobs: Vec<_> = observed.jobs.into_iter().map(row).collect();
            jobs.sort_by(|a, b| (&a.stored_at, &a.key).cmp(&(&b.stored_at, &b.key)));
            Json(jobs).into_response()
        }
        None => unavailable("the records are still being read", Some(5)),
    }
}

async fn budgets(State(state): State<ApiState>) -> Response {
    let all = state.budgets.borrow().clone();
    Json(all.iter().map(BudgetRow::from).collect::<Vec<_>>()).into_response()
}

fn trouble(what: &'static str, error: &CallError) -> Response {
    tracing::warn!(what, error = %error, "API could not answer: {what}");
    unavailable(format_args!("{what}: {error}"), None)
}

/// A row of the ledger; money and sizes are decimal strings, which no reader rounds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    machine_uid: String,
    runner: String,
    started_for: String,
    job: Option<String>,
    repository: String,
    job_name: String,
    class: String,
    place: String,
    ended_because: String,
    conclusion: Option<String>,
    group_id: String,
    started_at: String,
    started_from: &'static str,
    stopped_at: String,
    stopped_from: &'static str,
    bound_seconds: u64,
    seconds: u64,
    vcpu: u32,
    #[serde(rename = "memoryGB")]
    memory_gb: String,
    amount: String,
    currency: String,
}

impl From<LedgerRow> for Row {
    fn from(row: LedgerRow) -> Self {
        let bill = row.bill;
        Self {
            machine_uid: row.machine_uid,
            runner: row.runner,
            started_for: row.started_for.to_string(),
            job: row.job.map(|job| job.to_string()),
            repository: row.repository,
            job_name: row.job_name,
            class: row.class,
            place: row.place,
            ended_because: row.ended_because,
            conclusion: row.conclusion,
            group_id: bill.group_id,
            started_at: bill.started_at.to_string(),
            started_from: bill.started_from.as_str(),
            stopped_at: bill.stopped_at.to_string(),
            stopped_from: bill.stopped_from.as_str(),
            bound_seconds: bill.bound_seconds,
            seconds: bill.seconds,
            vcpu: bill.vcpu,
            memory_gb: bill.memory_gb.to_string(),
            amount: bill.amount.to_string(),
            currency: bill.currency,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobRow {
    key: String,
    repository: String,
    name: String,
    labels: Vec<String>,
    stored_at: String,
    standing: &'static str,
    reason: Option<String>,
    why: Option<String>,
    class: Option<String>,
    runner: Option<String>,
    conclusion: Option<String>,
    url: Option<String>,
}

impl From<Job> for JobRow {
    fn from(job: Job) -> Self {
        Self {
            key: job.key.to_string(),
            repository: job.description.repository,
            name: job.description.name,
            labels: job.description.labels,
            stored_at: job.stored_at.to_string(),
            standing: job.report.standing.as_str(),
            reason: job.report.reason,
            why: None,
            class: job.report.class,
            runner: job.report.runner,
            conclusion: job.report.conclusion,
            url: job.description.url,
        }
    }
}

/// How a budget stands; money is decimal strings.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BudgetRow {
    budget: String,
    per: &'static str,
    from: String,
    until: String,
    /// Absent while it is not known.
    spent: Option<String>,
    reserved: String,
    amount: String,
    currency: String,
    /// Percent of the amount that is spent.
    percent: Option<u32>,
    when_spent: &'static str,
}

impl From<&Figures> for BudgetRow {
    fn from(one: &Figures) -> Self {
        Self {
            budget: one.budget.clone(),
            per: one.per.as_str(),
            from: one.period.from.to_string(),
            until: one.period.until.to_string(),
            spent: one.spent.map(|spent| spent.to_string()),
            reserved: one.reserved.to_string(),
            amount: one.amount.to_string(),
            currency: one.currency.clone(),
            percent: one.spent.map(|spent| one.percent(spent)),
            when_spent: one.when_spent.as_str(),
        }
    }
}
