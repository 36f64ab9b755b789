//! One CSV row for each job.

use rust_decimal::Decimal;

use super::super::history::PastJob;
use super::super::record::Ran;
use super::super::statistics::wait;

const HEADER: [&str; 15] = [
    "id",
    "repository",
    "workflow",
    "name",
    "class",
    "queuedAt",
    "startedAt",
    "endedAt",
    "waitSeconds",
    "outcome",
    "reason",
    "place",
    "runners",
    "cost",
    "currency",
];

pub(super) fn of(jobs: &[PastJob], ran: &Ran) -> anyhow::Result<Vec<u8>> {
    let mut costs: Vec<Option<(Decimal, &str)>> = vec![None; jobs.len()];
    for record in &ran.bills {
        if let Some(cost) = costs.get_mut(record.job) {
            let (sum, currency) = cost.unwrap_or((Decimal::ZERO, &record.bill.currency));
            // A job's runners at places of different currencies cannot be added up: the first one's stands.
            if currency == record.bill.currency {
                *cost = Some((sum.checked_add(record.bill.amount).unwrap_or(Decimal::MAX), currency));
            }
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for ((past, record), cost) in jobs.iter().zip(&ran.jobs).zip(&costs) {
        let queued_at = past.queued_at.to_string();
        let started_at = record.started_at.map(|at| at.to_string()).unwrap_or_default();
        let ended_at = record.ended_at.to_string();
        let waited = wait(past, record).map(|seconds| seconds.to_string()).unwrap_or_default();
        let amount = cost.map(|(amount, _)| amount.to_string()).unwrap_or_default();
        writer.write_record([
            past.id.as_str(),
            &past.repository,
            past.workflow.as_deref().unwrap_or_default(),
            past.name.as_deref().unwrap_or_default(),
            record.class.as_deref().unwrap_or_default(),
            &queued_at,
            &started_at,
            &ended_at,
            &waited,
            record.outcome.as_str(),
            record.outcome.code().unwrap_or_default(),
            record.place.as_deref().unwrap_or_default(),
            &record.runners.to_string(),
            &amount,
            cost.map_or("", |(_, currency)| currency),
        ])?;
    }
    writer.into_inner().map_err(|error| anyhow::anyhow!("the jobs cannot be written as CSV: {error}"))
}
