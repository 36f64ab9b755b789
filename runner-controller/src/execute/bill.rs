//! The step that writes a runner's bill. What it comes to is decided by [`billing`].

use runner_core::admission::Purpose;
use runner_core::billing;
use runner_core::job::JobState;
use runner_core::lifecycle::RunnerFact;
use runner_core::setup::Price;

use super::{Outcome, Outside, StepOrder};
use crate::clock;
use crate::ports::{CallResult, LedgerRow};

impl Outside {
    /// Commits the runner's ledger row.
    pub(super) async fn bill(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        let price = order.place.as_ref().map_or_else(Price::default, |place| place.place.price.clone());
        let group = if runner.kind.has_group() { self.address(order).id() } else { String::new() };
        if let Some(bill) = billing::bill(runner, &group, &price) {
            let about = order.ran.as_ref().or(order.own.as_ref());
            let conclusion = order.ran.as_ref().and_then(|job| match job.state() {
                JobState::Ended { conclusion, .. } => conclusion,
                JobState::Queued { .. } | JobState::Waiting | JobState::Running { .. } => None,
            });
            let purpose = Purpose::of_runner(runner, order.own.as_ref());
            let row = LedgerRow {
                machine_uid: runner
                    .facts
                    .launched
                    .as_ref()
                    .map(|launched| launched.uid.clone())
                    .unwrap_or_default(),
                runner: runner.name.clone(),
                started_for: runner.job.clone(),
                for_owner: purpose.owner.to_owned(),
                for_repository: purpose.repository.to_owned(),
                for_workflow: purpose.workflow.to_owned(),
                for_class: purpose.matched.class.clone(),
                job: order.ran.as_ref().map(|job| job.key.clone()),
                repository: about.map(|job| job.description.repository.clone()).unwrap_or_default(),
                job_name: about.map(|job| job.description.name.clone()).unwrap_or_default(),
                class: runner.matched.label(),
                place: runner.place.clone(),
                ended_because: runner
                    .facts
                    .teardown
                    .as_ref()
                    .map(|teardown| teardown.code.clone())
                    .unwrap_or_default(),
                conclusion,
                bill,
            };
            let new = self.ledger.commit(&row).await?;
            self.spending.catch_up(&*self.ledger).await;
            if new {
                let LedgerRow { class, place, bill, .. } = &row;
                self.metrics.billed(class, place, bill.seconds, bill.amount, &bill.currency);
                tracing::info!(
                    runner = runner.name,
                    job = %runner.job,
                    seconds = row.bill.seconds,
                    amount = %row.bill.amount,
                    "runner {} is billed: {} s, {} {}",
                    runner.name,
                    row.bill.seconds,
                    row.bill.amount,
                    row.bill.currency
                );
            }
        }
        self.record(order, &[RunnerFact::Billed(clock::now())]).await?;
        Ok(Outcome::Done)
    }
}
