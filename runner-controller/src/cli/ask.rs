//! Commands that ask a running controller: `stint jobs`, `why`, `logs`, `bill` and `budgets`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use runner_core::budget::money;
use rust_decimal::Decimal;
use serde::Deserialize;

use crate::web::why::{Answer, MOST};

/// How many jobs are listed at most where several are meant.
const MOST_LISTED: usize = 20;

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
    /// Name of a RunnerJob, the source's id of a job, its address or its run's as the browser shows it, or its name.
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
    let rows: Vec<Row> = understood(&answer)?;
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
    let rows: Vec<BudgetRow> = understood(&answer)?;
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

/// A job, as far as it is listed.
#[derive(Debug, Deserialize)]
struct JobRow {
    key: String,
    repository: String,
    name: String,
    standing: String,
    reason: Option<String>,
    runner: Option<String>,
    conclusion: Option<String>,
}

pub(super) async fn jobs(arguments: &JobsArguments) -> anyhow::Result<ExitCode> {
    let rows: Vec<JobRow> = understood(&get(&arguments.api, &["api", "v1", "jobs"]).await?)?;
    say!("{:<24} {:<28} {:<9} {:<22} ABOUT", "RUNNERJOB", "JOB", "STATE", "RUNNER");
    for row in rows {
        let about = row.conclusion.or(row.reason).unwrap_or_default();
        let job = format!("{}: {}", row.repository, row.name);
        let runner = row.runner.unwrap_or_default();
        say!("{}", format!("{:<24} {job:<28} {:<9} {runner:<22} {about}", row.key, row.standing).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// An answer as people read it.
fn shown(answer: &Answer) -> String {
    let workflow = answer.workflow.as_ref().map(|workflow| format!("{workflow} / ")).unwrap_or_default();
    let mut lines = vec![format!(
        "{} ({}: {workflow}{}) is {} since {}",
        answer.key, answer.repository, answer.name, answer.standing, answer.since
    )];
    let why = match (&answer.why, &answer.reason) {
        (Some(why), Some(code)) => Some(format!("{why} ({code})")),
        (_, code) => code.clone(),
    };
    let line = answer.in_line.as_ref().map(|line| match line.of {
        1 => format!("alone, for {}", line.what),
        of => format!("number {} of {of} that wait for {}", line.rank, line.what),
    });
    let parts = [
        ("why", why),
        ("change", answer.remedy.clone()),
        ("in line", line),
        ("wait", answer.wait.clone()),
        ("result", answer.conclusion.clone()),
        ("runner", answer.runner.clone()),
        ("job", answer.url.clone()),
        ("see", answer.page.clone()),
    ];
    let told = parts.into_iter().filter_map(|(word, text)| Some((word, text?)));
    lines.extend(told.map(|(word, text)| format!("  {:<9}{text}", format!("{word}:"))));
    lines.join("\n")
}

pub(super) async fn why(arguments: &WhyArguments) -> anyhow::Result<ExitCode> {
    let answer = ask(&arguments.api, &["api", "v1", "why"], &[("of", &arguments.of)]).await?;
    let meant: Vec<Answer> = understood(&answer)?;
    if let [one] = meant.as_slice() {
        say!("{}", shown(one));
        return Ok(ExitCode::SUCCESS);
    }
    // The controller tells of no more than so many.
    let at_least = if meant.len() < MOST { "" } else { "at least " };
    say!(
        "{at_least}{} jobs are meant by {:?}; ask for one by its RUNNERJOB or its address:",
        meant.len(),
        arguments.of
    );
    say!("{:<24} {:<28} {:<9} {:<20} {:<18} ADDRESS", "RUNNERJOB", "JOB", "STATE", "SINCE", "ABOUT");
    for one in meant.iter().take(MOST_LISTED) {
        let about = one.conclusion.as_ref().or(one.reason.as_ref()).cloned().unwrap_or_default();
        let job = format!("{}: {}", one.repository, one.name);
        let url = one.url.clone().unwrap_or_default();
        let text =
            format!("{:<24} {job:<28} {:<9} {:<20} {about:<18} {url}", one.key, one.standing, one.since);
        say!("{}", text.trim_end());
    }
    if meant.len() > MOST_LISTED {
        say!("and {at_least}{} more", meant.len() - MOST_LISTED);
    }
    Ok(ExitCode::SUCCESS)
}

fn understood<T: serde::de::DeserializeOwned>(answer: &str) -> anyhow::Result<T> {
    serde_json::from_str(answer).context("the controller's answer is not understood")
}

async fn get(at: &ApiArguments, path: &[&str]) -> anyhow::Result<String> {
    ask(at, path, &[]).await
}

async fn ask(at: &ApiArguments, path: &[&str], query: &[(&str, &String)]) -> anyhow::Result<String> {
    let mut url = reqwest::Url::parse(&at.api)
        .with_context(|| format!("--api {:?} is not a URL: write it as http://127.0.0.1:9091", at.api))?;
    match url.path_segments_mut() {
        Ok(mut segments) => segments.pop_if_empty().extend(path),
        Err(()) => anyhow::bail!("--api {:?} is not a URL: write it as http://127.0.0.1:9091", at.api),
    };
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::why::InLine;

    #[test]
    fn an_answer_tells_all_that_is_known_and_nothing_else() {
        let mut answer: Answer = serde_json::from_value(serde_json::json!({
            "key": "acme-9-1", "repository": "acme/app", "workflow": "ci", "name": "test", "standing": "Waiting",
            "since": "2026-01-01T00:00:00Z", "reason": "LimitReached", "why": "limit app is full",
            "remedy": "raise it", "inLine": {"rank": 2, "of": 3, "what": "limit app"}, "wait": "about 4 min",
            "page": "docs/errors/LimitReached.md",
        }))
        .unwrap();
        assert_eq!(
            shown(&answer),
            "acme-9-1 (acme/app: ci / test) is Waiting since 2026-01-01T00:00:00Z
  why:     limit app is full (LimitReached)
  change:  raise it
  in line: number 2 of 3 that wait for limit app
  wait:    about 4 min
  see:     docs/errors/LimitReached.md"
        );
        answer.in_line = Some(InLine { rank: 1, of: 1, what: "limit app".to_owned() });
        assert!(shown(&answer).contains("in line: alone, for limit app"), "{}", shown(&answer));
    }
}
