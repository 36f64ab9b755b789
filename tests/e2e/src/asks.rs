//! What tests ask of a bed: how a job stands, what is left, and whether the bills are right.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Bed, LedgerRow};

impl Bed {
    /// The status of a job's record, if there is one.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn job_status(&self, id: u64) -> Result<Option<Value>> {
        let found = self
            .objects("runnerjobs")?
            .into_iter()
            .find(|job| job.pointer("/spec/id").and_then(Value::as_str) == Some(&id.to_string()));
        Ok(found.map(|job| job.get("status").cloned().unwrap_or(Value::Null)))
    }

    /// Waits until a job's record says that it stands so.
    ///
    /// # Errors
    /// Once the deadline has passed.
    pub async fn job_stands(&self, id: u64, state: &str, deadline: Duration) -> Result<Value> {
        self.eventually(&format!("job {id} to be {state}"), deadline, |bed| {
            let status = bed.job_status(id)?;
            Ok(match status {
                Some(status) if status.get("state").and_then(Value::as_str) == Some(state) => Ok(status),
                other => Err(format!("{other:?}")),
            })
        })
        .await
    }

    /// Everything of Stint's that is left: runners, their pods and Secrets, groups, registrations.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn leftovers(&self) -> Result<BTreeMap<&'static str, Vec<String>>> {
        let names = |kind: &str, ours: fn(&Value) -> bool| -> Result<Vec<String>> {
            let objects = self.objects(kind)?;
            Ok(objects
                .iter()
                .filter(|object| ours(object))
                .filter_map(|object| {
                    object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned)
                })
                .collect())
        };
        let of_a_runner = |object: &Value| {
            object
                .pointer("/metadata/labels")
                .and_then(Value::as_object)
                .is_some_and(|labels| labels.contains_key("stint.dev/runner"))
        };
        let reserved = self.objects("admissions")?;
        let reserved = reserved
            .iter()
            .flat_map(|admission| {
                admission.pointer("/spec/reserved").and_then(Value::as_array).into_iter().flatten()
            })
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        let all = [
            ("runners", names("runners", |_| true)?),
            ("pods", names("pods", of_a_runner)?),
            ("secrets", names("secrets", of_a_runner)?),
            ("groups", self.azure.groups().into_iter().map(|group| group.name).collect()),
            ("registrations", self.github.runners().into_iter().map(|runner| runner.name).collect()),
            ("reservations", reserved),
        ];
        Ok(all.into_iter().filter(|(_, names)| !names.is_empty()).collect())
    }

    /// Waits until nothing of Stint's is left anywhere.
    ///
    /// # Errors
    /// What is left once the deadline has passed.
    pub async fn nothing_left(&self, deadline: Duration) -> Result<()> {
        self.eventually("nothing to be left", deadline, |bed| {
            let left = bed.leftovers()?;
            Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
        })
        .await
    }

    /// The ledger's rows.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn ledger(&self) -> Result<Vec<LedgerRow>> {
        self.stint.ledger().await
    }

    /// Compares the ledger with Azure's meter: one row per group that billed, equal to the second and the cent.
    ///
    /// # Errors
    /// The first difference.
    pub async fn ledger_equals_meter(&self) -> Result<Vec<LedgerRow>> {
        self.equals_meter(self.ledger().await?)
    }

    /// Compares rows, of all ledgers that there are together, with Azure's meter.
    ///
    /// # Errors
    /// The first difference.
    pub fn equals_meter(&self, rows: Vec<LedgerRow>) -> Result<Vec<LedgerRow>> {
        let billed: Vec<_> = self.azure.meter().into_iter().filter(|row| row.started_at.is_some()).collect();
        ensure!(
            rows.len() == billed.len(),
            "{} ledger rows for {} groups that billed: {rows:#?}\n{billed:#?}",
            rows.len(),
            billed.len()
        );
        for meter in &billed {
            let row = rows
                .iter()
                .find(|row| match &meter.uid {
                    Some(uid) => row.machine_uid == *uid,
                    // A group that Stint made itself stands for no pod.
                    None => row.group_id == meter.id,
                })
                .with_context(|| format!("no ledger row for {meter:?}"))?;
            let seconds = i64::try_from(row.seconds)?;
            if row.bound_seconds == 0 {
                ensure!(seconds == meter.billed_seconds, "the ledger has {row:#?}, the meter {meter:#?}");
                ensure!(
                    row.amount.round_dp(6) == meter.cost.round_dp(6),
                    "the ledger has {row:#?}, the meter {meter:#?}"
                );
            } else {
                let off = seconds.abs_diff(meter.billed_seconds);
                ensure!(off <= row.bound_seconds + 1, "the ledger has {row:#?}, the meter {meter:#?}");
            }
        }
        Ok(rows)
    }
}
