//! Budgets that admins set while jobs run.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_github::Conclusion;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::mixed::{self, VIRTUAL, end, on_the_machine, text};

const SOON: Duration = Duration::from_secs(60);

/// Sets a budget on everything, and waits until it is in use.
async fn budget(bed: &Bed, amount: &str, when_spent: &str) -> Result<()> {
    let document = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "Budget",
        "metadata": {"name": "team", "namespace": NAMESPACE},
        "spec": {
            "match": {"owners": ["acme"]}, "amount": amount, "per": "Month", "timeZone": "Europe/Berlin",
            "whenSpent": when_spent,
        },
    });
    bed.cluster.apply(&document.to_string())?;
    bed.eventually("the budget to be in use", SOON, |bed| {
        let budgets = bed.objects("budgets")?;
        let ready = budgets.iter().any(|one| text(one, "/status/ready") == Some("True"));
        Ok(if ready { Ok(()) } else { Err(format!("{budgets:?}")) })
    })
    .await
}

/// How the budget stands, as the API tells.
async fn stands(bed: &Bed) -> Result<Value> {
    let rows: Vec<Value> =
        reqwest::get(format!("{}/api/v1/budgets", bed.stint.api_url())).await?.json().await?;
    rows.into_iter().next().context("no budget")
}

fn sum(row: &Value, field: &str) -> Result<Decimal> {
    Ok(row.get(field).and_then(Value::as_str).with_context(|| format!("no {field} in {row}"))?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_a_budget_that_is_spoken_for_and_raising_it_lets_the_job_start() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    // One runner is expected to cost 0.015 in its 10 minutes.
    budget(&bed, "0.02", "Hold").await?;
    let first = bed.github.queue_job(bed.job().named("first"))?;
    bed.github.wait_for_job(first, |job| job.started_at.is_some(), SOON).await?;
    let second = bed.github.queue_job(bed.job().named("second"))?;
    let status = bed.job_stands(second, "Waiting", SOON).await?;
    assert_eq!(text(&status, "/reason"), Some("BudgetSpent"), "{status}");
    let why = bed.cli(&["why", "second"])?;
    assert!(why.contains("budget team: of 0.02 USD") && why.contains("0.0151 reserved"), "{why}");
    let shown = bed.cli(&["budgets"])?;
    assert!(shown.contains("team") && shown.contains("0.02 USD") && shown.contains("hold"), "{shown}");
    bed.eventually("the figures beside the document", SOON, |bed| {
        let budgets = bed.objects("budgets")?;
        let written = budgets.iter().any(|one| text(one, "/status/reserved") == Some("0.0151 USD"));
        Ok(if written { Ok(()) } else { Err(format!("{budgets:?}")) })
    })
    .await?;
    assert_eq!(bed.azure.groups().len(), 1);

    budget(&bed, "1", "Hold").await?;
    bed.github.wait_for_job(second, |job| job.started_at.is_some(), SOON).await?;
    for id in [first, second] {
        bed.github.finish_job(id, Conclusion::Success)?;
    }
    bed.nothing_left(SOON).await?;
    let billed: Decimal = bed.ledger_equals_meter().await?.iter().map(|row| row.amount).sum();
    let row = stands(&bed).await?;
    assert_eq!((sum(&row, "spent")?, sum(&row, "reserved")?), (billed, Decimal::ZERO), "{row}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_burst_a_job_goes_to_the_machines_that_are_paid_for_anyway() -> Result<()> {
    let bed = mixed::bed([VIRTUAL, "vms"]).await?;
    budget(&bed, "0.001", "NoBurst").await?;
    let job = bed.github.queue_job(bed.job().named("on the machine").lasting(Duration::from_secs(1)))?;
    let pod = on_the_machine(&bed).await?;
    let _agent = bed.agent(&pod)?;
    bed.github.wait_for_end(job, SOON).await?;
    end(&bed, &pod)?;
    bed.nothing_left(SOON).await?;
    assert_eq!(bed.ledger().await?.len(), 0);
    assert_eq!(sum(&stands(&bed).await?, "spent")?, Decimal::ZERO);
    Ok(())
}
