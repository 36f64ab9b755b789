//! Commands that ask a running controller: `stint logs, jobs, why, bill, budgets`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use runner_core::budget::money;
use rust_decimal::Decimal;
use serde::Deserialize;

/// Where the controller's API is.
#[derive(Debug, Args)]
struct ApiArguments {
    /// The controller's API. In a cluster: `kubectl port-forward deploy/stint 9091`, which asks for the rights to it.
    #[arg(long, env = "STINT_API", default_value = "http://127.0.0.1:9091")]
    api: String,
}

/// Arguments of `stint logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArguments {
    /// Name of a runner, name of a RunnerJob, or the source's id of a job.
    of: String,
    #[command(flatten)]
    api: ApiArguments,
}

/// Arguments of `stint jobs`.
#[derive(Debug, Args)]
pub(super) struct JobsArguments {
    #[command(flatten)]
    api: ApiArguments,
}

/// Arguments of `stint why`.
#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// Name of a RunnerJob, the source's id of a job, its address at the source, or its name.
    of: String,
    #[command(flatten)]
    api: ApiArguments,
}

/// Arguments of `stint bill`.
#[derive(Debug, Args)]
pub(super) struct BillArguments {
    #[command(flatten)]
    api: ApiArguments,
}

/// Arguments of `stint budgets`.
#[derive(Debug, Args)]
pub(super) struct BudgetsArguments {
    #[command(flatten)]
    api: ApiArguments,
}

pub(super) async fn logs(arguments: &LogsArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        !arguments.of.trim().is_empty(),
        "name a runner, a RunnerJob or the source's id of a job"
    );
    let answer = get(&arguments.api, &["api", "v1", "logs", &arguments.of]).await?;
    say!("{}", answer.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// A ledger row, as far as it is shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    runner: String,
    repository: String,
    job_name: String,
    class: String,
    seconds: u64,
    amount: String,
    currency: String,
    ended_because: String,
    conclusion: Option<String>,
}

pub(super) async fn bill(arguments: &BillArguments) -> anyhow::Result<ExitCode> {
    let answer = get(&arguments.api, &["api", "v1", "ledger"]).await?;
    let rows: Vec<Row> =
        serde_json::from_str(&answer).context("the controller's answer is not understood")?;
    say!("{:<28} {:<24} {:<14} {:>8} {:>14}  RESULT", "RUNNER", "JOB", "CLASS", "SECONDS", "COST");
    for row in rows {
        let result = row.conclusion.unwrap_or(row.ended_because);
        let job = format!("{}: {}", row.repository, row.job_name);
        say!(
            "{:<28} {:<24} {:<14} {:>8} {:>10} {}  {result}",
            row.runner,
            job,
            row.class,
            row.seconds,
            row.amount,
            row.currency
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// How a budget stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BudgetRow {
    budget: String,
    per: String,
    from: String,
    until: String,
    spent: Option<Decimal>,
    reserved: Decimal,
    amount: Decimal,
    currency: String,
    percent: Option<u32>,
    when_spent: String,
}

pub(super) async fn budgets(arguments: &BudgetsArguments) -> anyhow::Result<ExitCode> {
    let answer = get(&arguments.api, &["api", "v1", "budgets"]).await?;
    let rows: Vec<BudgetRow> =
        serde_json::from_str(&answer).context("the controller's answer is not understood")?;
    if rows.is_empty() {
        say!("no budget is in use; of several replicas, the one that acts knows how they stand");
        return Ok(ExitCode::SUCCESS);
    }
    say!(
        "{:<20} {:>10} {:>10} {:>14} {:>5}  {:<5} {:<42} WHEN SPENT",
        "BUDGET",
        "SPENT",
        "RESERVED",
        "AMOUNT",
        "%",
        "PER",
        "FROM, UNTIL"
    );
    for row in rows {
        let unknown = || "unknown".to_owned();
        say!(
            "{:<20} {:>10} {:>10} {:>14} {:>5}  {:<5} {:<42} {}",
            row.budget,
            row.spent.map_or_else(unknown, money),
            money(row.reserved),
            format!("{} {}", money(row.amount), row.currency),
            row.percent.map_or_else(|| "?".to_owned(), |percent| percent.to_string()),
            row.per,
            format!("{}, {}", row.from, row.until),
            row.when_spent
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A job, as far as it is shown.
#[derive(Debug, Deserialize)]
struct JobRow {
    key: String,
    repository: String,
    name: String,
    standing: String,
    reason: Option<String>,
    why: Option<String>,
    runner: Option<String>,
    conclusion: Option<String>,
    url: Option<String>,
}

impl JobRow {
    /// Whether somebody who names a job like this may mean it: by record, by the source's id, by address or by name.
    fn is_meant_by(&self, of: &str) -> bool {
        let id = self.key.rsplit('-').nth(1);
        self.key == of || id == Some(of) || self.url.as_deref() == Some(of) || self.name == of
    }
}

pub(super) async fn jobs(arguments: &JobsArguments) -> anyhow::Result<ExitCode> {
    let rows = fetch_jobs(&arguments.api).await?;
    say!("{:<24} {:<28} {:<9} {:<22} ABOUT", "RUNNERJOB", "JOB", "STATE", "RUNNER");
    for row in rows {
        let about = row.conclusion.or(row.reason).unwrap_or_default();
        let job = format!("{}: {}", row.repository, row.name);
        let runner = row.runner.unwrap_or_default();
        say!("{}", format!("{:<24} {job:<28} {:<9} {runner:<22} {about}", row.key, row.standing).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn why(arguments: &WhyArguments) -> anyhow::Result<ExitCode> {
    let rows = fetch_jobs(&arguments.api).await?;
    let meant: Vec<JobRow> = rows.into_iter().filter(|row| row.is_meant_by(&arguments.of)).collect();
    anyhow::ensure!(
        !meant.is_empty(),
        "no job is stored by {:?}: name a RunnerJob, the source's id of a job, its address or its name; `stint jobs` lists \
         them, and GitHub's list of deliveries shows what reached Stint",
        arguments.of
    );
    for row in meant {
        let subject = format!("{} ({}: {}) is {}", row.key, row.repository, row.name, row.standing);
        match (row.why.or_else(|| row.reason.clone()), row.reason) {
            (Some(why), Some(code)) => say!("{subject}: {why}. See docs/errors/{code}.md"),
            (_, _) => match (row.conclusion, row.runner) {
                (Some(conclusion), _) => say!("{subject}: {conclusion}"),
                (None, Some(runner)) => say!("{subject} on {runner}"),
                (None, None) => say!("{subject}"),
            },
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch_jobs(api: &ApiArguments) -> anyhow::Result<Vec<JobRow>> {
    let answer = get(api, &["api", "v1", "jobs"]).await?;
    serde_json::from_str(&answer).context("the controller's answer is not understood")
}

async fn get(at: &ApiArguments, path: &[&str]) -> anyhow::Result<String> {
    let mut url = reqwest::Url::parse(&at.api)
        .with_context(|| format!("--api {:?} is not a URL: write it as http://127.0.0.1:9091", at.api))?;
    match url.path_segments_mut() {
        Ok(mut segments) => segments.pop_if_empty().extend(path),
        Err(()) => anyhow::bail!("--api {:?} is not a URL: write it as http://127.0.0.1:9091", at.api),
    };
    let answer = reqwest::get(url).await.with_context(|| {
        format!(
            "no controller answers at {}: pass the --api-listen address of a running one as --api; in a cluster, forward \
             its port with kubectl port-forward deploy/stint 9091",
            at.api
        )
    })?;
    let status = answer.status();
    let text = answer.text().await.context("the controller's answer broke off")?;
    let said = text.trim();
    anyhow::ensure!(
        status.is_success(),
        "{}",
        if said.is_empty() { status.to_string() } else { said.to_owned() }
    );
    Ok(text)
}
