//! Acting alone: one replica holds the Lease, takes the reservations over, and runs the loop until it loses either.
//!
//! The Lease only keeps replicas from getting in each other's way. What makes a second one harmless is the
//! compare-and-swap on the reservations.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::intake::IntakeRules;
use crate::kubernetes::Cluster;
use crate::kubernetes::lease::Leadership;
use crate::ports::{CallError, CallErrorKind, Ledger, Records, another_ledger};
use crate::telemetry::Metrics;
use crate::web::internal::Readiness;

/// How long a replica that may not act waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The part of the process that acts, while it may.
pub(super) struct Acting {
    pub(super) reconciler: Reconciler,
    pub(super) records: Arc<dyn Records>,
    pub(super) ledger: Arc<dyn Ledger>,
    /// `None`: there is no other replica.
    pub(super) cluster: Option<Cluster>,
    pub(super) rules: watch::Receiver<Arc<IntakeRules>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) identity: String,
    pub(super) adopt_ledger: bool,
}

impl Acting {
    /// Acts whenever it may, until `stop`.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let mut rules = self.rules.clone();
        let read = async { rules.wait_for(|rules| rules.ready).await.is_ok() };
        if stop.run_until_cancelled(read).await != Some(true) {
            return;
        }
        while !stop.is_cancelled() {
            if let Err(error) = self.may_act().await {
                self.stand_by(&error, stop).await;
                continue;
            }
            // A replica that waits for the Lease takes deliveries meanwhile.
            self.readiness.send_replace(Readiness::Ready);
            match self.cluster.clone() {
                Some(cluster) => self.compete(&cluster, stop).await,
                None => self.act_alone(stop).await,
            }
            self.metrics.set_leader(false);
        }
    }

    /// Whether this replica's ledger is the installation's.
    async fn may_act(&self) -> Result<(), CallError> {
        match self.records.ledger_in_use().await? {
            Some(in_use) if in_use != self.ledger.id() && !self.adopt_ledger => {
                Err(another_ledger(self.ledger.id(), &in_use))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn stand_by(&self, error: &CallError, stop: &CancellationToken) {
        let why = Readiness::NotReady(error.message.clone());
        let news = self.readiness.send_if_modified(|known| {
            let news = *known != why;
            *known = why;
            news
        });
        if news {
            tracing::error!(%error, "this replica does not act: {error}");
        }
        pause(stop).await;
    }

    /// Competes for the Lease, and acts while it is held.
    async fn compete(&mut self, cluster: &Cluster, stop: &CancellationToken) {
        let leadership = match Leadership::compete(cluster, &self.identity).await {
            Ok(leadership) => leadership,
            Err(error) => {
                let error = CallError::new(CallErrorKind::Unavailable, format!("{error:#}"));
                return self.stand_by(&error, stop).await;
            }
        };
        let mut held = leadership.held();
        loop {
            let winning = async { held.wait_for(|held| *held).await.is_ok() };
            if stop.run_until_cancelled(winning).await != Some(true) {
                break;
            }
            let lost = stop.child_token();
            let losing = async { drop(held.wait_for(|held| !*held).await) };
            let result = {
                let acting = self.act(&lost);
                tokio::pin!(acting, losing);
                tokio::select! {
                biased;
                        result = &mut acting => result,
                        () = &mut losing => {
                            lost.cancel();
                            acting.await
                        }
                    }
            };
            self.metrics.set_leader(false);
            match result {
                Ok(()) => {}
                Err(error) if error.kind == CallErrorKind::Conflict => {
                    tracing::warn!(%error, "this replica no longer acts: {error}");
                    pause(stop).await;
                }
                // Whoever may not act must not keep the Lease from one that may.
                Err(error) => {
                    self.stand_by(&error, stop).await;
                    break;
                }
            }
        }
        drop(held);
        leadership.release().await;
    }

    /// Acts without a Lease: on one machine, where a second process on the same records can only be a mistake.
    async fn act_alone(&mut self, stop: &CancellationToken) {
        match self.act(stop).await {
            Ok(()) => {}
            Err(error) if error.kind == CallErrorKind::Conflict => {
                tracing::error!(%error, "another process works on the same records; this one ends");
                stop.cancel();
            }
            Err(error) => self.stand_by(&error, stop).await,
        }
    }

    async fn act(&mut self, stop: &CancellationToken) -> Result<(), CallError> {
        self.records.take_over(&self.identity, self.ledger.id(), self.adopt_ledger).await?;
        tracing::info!(identity = self.identity, "this replica acts");
        self.metrics.set_leader(true);
        let result = self.reconciler.run(stop).await;
        tracing::info!(identity = self.identity, "this replica no longer acts");
        result
    }
}

async fn pause(stop: &CancellationToken) {
    let _ended = stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await;
}
