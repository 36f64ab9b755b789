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
use crate::ports::{CallError, CallErrorKind, Ledger, Records};
use crate::telemetry::Metrics;
use crate::web::internal::Readiness;

/// How long a replica that may not act waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a replica that lost the Lease waits for what is under way. Whatever takes longer ends beside what it does next.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

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
    /// Id of the ledger that this replica acts with; nothing before it may.
    pub(super) acts_with: String,
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
            let (id, unreached) = match self.ledger_to_act_with().await {
                Ok(found) => found,
                Err(error) => {
                    self.stand_by(&error, stop).await;
                    continue;
                }
            };
            // A replica that waits for the Lease takes deliveries meanwhile.
            self.readiness.send_replace(match &unreached {
                Some(error) => Readiness::NotReady(error.message.clone()),
                None => Readiness::Ready,
            });
            let turn = stop.child_token();
            let confirm = Confirm {
                ledger: self.ledger.clone(),
                readiness: self.readiness.clone(),
                expected: id.clone(),
                turn: turn.clone(),
            };
            self.acts_with = id;
            let act = async {
                match self.cluster.clone() {
                    Some(cluster) => self.compete(&cluster, &turn).await,
                    None => self.act_alone(&turn, stop).await,
                }
                turn.cancel();
            };
            match unreached {
                Some(error) => drop(tokio::join!(act, confirm.run(error))),
                None => act.await,
            }
            self.metrics.set_leader(false);
        }
    }

    /// The id of the ledger to act with, which is the installation's. While this replica's own cannot be reached, it is taken
    /// for that one, and the error comes with it: what runs must be torn down, and until the ledger is reached it takes
    /// no row and tells no budget.
    async fn ledger_to_act_with(&self) -> Result<(String, Option<CallError>), CallError> {
        let in_use = self.records.ledger_in_use().await?.filter(|_| !self.adopt_ledger);
        match (self.ledger.identify(in_use.as_deref()).await, in_use) {
            (Ok(id), _) => Ok((id, None)),
            (Err(error), Some(in_use)) if error.kind == CallErrorKind::Unavailable => {
                Ok((in_use, Some(error)))
            }
            (Err(error), _) => Err(error),
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
                        leave(acting).await
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

    /// Acts without a Lease: on one machine, where a second process on the same records can only be a mistake, which ends
    /// this one.
    async fn act_alone(&mut self, turn: &CancellationToken, process: &CancellationToken) {
        match self.act(turn).await {
            Ok(()) => {}
            Err(error) if error.kind == CallErrorKind::Conflict => {
                tracing::error!(%error, "another process works on the same records; this one ends");
                process.cancel();
            }
            Err(error) => self.stand_by(&error, turn).await,
        }
    }

    async fn act(&mut self, stop: &CancellationToken) -> Result<(), CallError> {
        self.records.take_over(&self.identity, &self.acts_with, self.adopt_ledger).await?;
        tracing::info!(identity = self.identity, "this replica acts");
        self.metrics.set_leader(true);
        let result = self.reconciler.run(stop).await;
        tracing::info!(identity = self.identity, "this replica no longer acts");
        result
    }
}

/// Waits for a ledger that could not be reached when this replica began its turn.
struct Confirm {
    ledger: Arc<dyn Ledger>,
    readiness: watch::Sender<Readiness>,
    expected: String,
    turn: CancellationToken,
}

impl Confirm {
    /// Asks until the ledger is known to be the installation's, and then says that the replica is ready. If it is another
    /// one or can never be used, the turn ends.
    async fn run(self, mut error: CallError) {
        while error.kind != CallErrorKind::Refused {
            pause(&self.turn).await;
            if self.turn.is_cancelled() {
                return;
            }
            match self.ledger.identify(Some(&self.expected)).await {
                Ok(id) => {
                    tracing::info!(ledger = id, "the ledger is reached, and is this installation's");
                    self.readiness.send_replace(Readiness::Ready);
                    return;
                }
                Err(again) => error = again,
            }
        }
        self.turn.cancel();
    }
}

/// Waits until this replica no longer acts, but not for ever: it may be the one that gets the Lease next.
async fn leave(acting: impl Future<Output = Result<(), CallError>>) -> Result<(), CallError> {
    tokio::time::timeout(LEAVE_WITHIN, acting).await.unwrap_or_else(|_elapsed| {
        tracing::warn!("what was under way when the Lease was lost still is");
        Ok(())
    })
}

async fn pause(stop: &CancellationToken) {
    let _ended = stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await;
}
