//! The step that deletes a runner's registration: its source alone knows whether the runner is busy.

use runner_core::lifecycle::RunnerFact;
use runner_core::reason::Reason;
use runner_core::stray::origin_in;

use super::{Outcome, Outside, StepOrder, teardown_fact};
use crate::clock;
use crate::ports::{CallErrorKind, CallResult, Deregistered};

impl Outside {
    /// Deletes the runner's registration; where its source says that it is busy, the runner stays.
    pub(super) async fn deregister(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        if !self.sources.is_configured(&runner.job.source)
            && (runner.ending() || !self.still_runs(order).await?)
        {
            // Nobody can be asked any more, and nothing of it runs.
            tracing::warn!(
                runner = runner.name,
                source = runner.job.source,
                "source {} is no longer configured; the registration of {} is left to it",
                runner.job.source,
                runner.name
            );
            return self.deregistered(order, order.because.clone()).await;
        }
        let provider = self.provider(&runner.job.source)?;
        let mut id = runner.facts.registered.as_ref().map(|registered| registered.id);
        let waited_in_vain = order.because == Some(Reason::Idle);
        let mut because = order.because.clone();
        if id.is_none() || waited_in_vain {
            let own = self.origin().await?;
            match provider.named(&runner.scope, &runner.name).await {
                // Another installation of the same id has given a runner of its own this name.
                Ok(Some(found)) if origin_in(&found.labels).is_some_and(|origin| origin != own) => {
                    tracing::warn!(
                        runner = runner.name,
                        origin = origin_in(&found.labels),
                        own,
                        "the registration {} is another installation's, and stays",
                        runner.name
                    );
                    return self.deregistered(order, because).await;
                }
                Ok(Some(found)) => id = Some(found.id),
                // It was removed while its agent waited, and has not noticed.
                Ok(None) if waited_in_vain => because = Some(Reason::IdleRemoved),
                Ok(None) => {}
                Err(error) if error.kind == CallErrorKind::Refused => {}
                Err(error) => return Err(error),
            }
        }
        match provider.deregister(&runner.scope, &runner.name, id).await? {
            Deregistered::Gone => self.deregistered(order, because).await,
            Deregistered::Busy => {
                tracing::info!(runner = runner.name, "runner {} is busy and stays", runner.name);
                self.records.record(&runner.name, &[RunnerFact::BusySeen(clock::now())]).await?;
                Ok(Outcome::Done)
            }
        }
    }

    /// Whether anything of a runner runs, as whoever runs it says: a job may be on it.
    async fn still_runs(&self, order: &StepOrder) -> CallResult<bool> {
        let runner = &order.runner;
        if runner.kind.has_group() {
            let group = self.own_group(order, &self.address(order)).await?;
            return Ok(group.is_some_and(|group| group.stopped.is_none()));
        }
        match &self.pods {
            Some(pods) => Ok(pods.find(runner).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Records that its source knows the runner no longer, and that it ends where that was the question.
    async fn deregistered(&self, order: &StepOrder, because: Option<Reason>) -> CallResult<Outcome> {
        let mut facts = vec![RunnerFact::Deregistered(clock::now())];
        facts.extend(because.as_ref().map(teardown_fact));
        self.record(order, &facts).await?;
        Ok(Outcome::Done)
    }
}
