//! The `Admission` object: which runners may be started, replaced whole and by compare-and-swap on its resource version.
//!
//! A process that was followed by another finds out at its next write, and may write no more.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kube::api::PostParams;
use runner_core::quota::Past;

use super::Cluster;
use super::errors::call_error;
use crate::config::Admission;
use crate::config::admission::{self, AdmissionSpec};
use crate::ports::{CallError, CallErrorKind, CallResult, another_ledger};

/// Name of the `Admission` object: one per shard, and there is one shard.
const ADMISSION: &str = "default";

/// The reservations, as this process last wrote them.
pub(super) struct Reservations {
    cluster: Cluster,
    known: Mutex<Option<Admission>>,
    /// What the next write is to remember.
    past: Mutex<Past>,
}

impl Reservations {
    /// Not taken over yet.
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), known: Mutex::new(None), past: Mutex::default() }
    }

    /// All reserved names.
    pub(super) fn all(&self) -> BTreeSet<String> {
        self.look(|admission| admission.spec.reserved.iter().cloned().collect()).unwrap_or_default()
    }

    /// What earlier writes remembered of groups that were made and deleted.
    pub(super) fn remembered(&self) -> Past {
        self.look(|admission| admission::past(&admission.spec.changes)).unwrap_or_default()
    }

    /// What the next write is to remember of them.
    pub(super) fn remember(&self, past: &Past) {
        let mut held = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        // Told at every pass, and seldom new.
        if *held != *past {
            held.clone_from(past);
        }
    }

    /// Whether a name is reserved.
    pub(super) fn holds(&self, runner: &str) -> bool {
        self.look(|admission| admission.spec.reserved.iter().any(|name| name == runner)).unwrap_or_default()
    }

    /// The ledger that holds this installation's rows, if any process has acted yet.
    pub(super) async fn ledger_in_use(&self) -> CallResult<Option<String>> {
        let found = self.cluster.api::<Admission>().get_opt(ADMISSION).await;
        let found = found.map_err(|error| call_error("read Admission", &error))?;
        Ok(found.map(|admission| admission.spec.ledger).filter(|ledger| !ledger.is_empty()))
    }

    /// Makes this process the one that may reserve.
    pub(super) async fn take_over(&self, holder: &str, ledger: &str, adopt: bool) -> CallResult<()> {
        let api = self.cluster.api::<Admission>();
        let found = api.get_opt(ADMISSION).await.map_err(|error| call_error("read Admission", &error))?;
        let Some(mut admission) = found else {
            let spec = AdmissionSpec {
                epoch: 1,
                holder: holder.to_owned(),
                ledger: ledger.to_owned(),
                ..AdmissionSpec::default()
            };
            let stored = api
                .create(&PostParams::default(), &Admission::new(ADMISSION, spec))
                .await
                .map_err(|error| call_error("create Admission", &error))?;
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored);
            return Ok(());
        };
        if !admission.spec.ledger.is_empty() && admission.spec.ledger != ledger && !adopt {
            return Err(another_ledger(ledger, &admission.spec.ledger));
        }
        admission.spec.epoch = admission.spec.epoch.saturating_add(1);
        holder.clone_into(&mut admission.spec.holder);
        ledger.clone_into(&mut admission.spec.ledger);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.replace_admission(&admission).await
    }

    /// Looks at the object as this process last wrote it, if it has.
    fn look<T>(&self, look: impl FnOnce(&Admission) -> T) -> Option<T> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }

    /// The reservations as this process last wrote them; read again where a write was not answered.
    async fn own_admission(&self) -> CallResult<Admission> {
        let lost =
            || CallError::new(CallErrorKind::Conflict, "another process has taken the reservations over");
        let own = self.look(Admission::clone).ok_or_else(lost)?;
        if own.metadata.resource_version.is_some() {
            return Ok(own);
        }
        let found = self.cluster.api::<Admission>().get_opt(ADMISSION).await;
        let found = found.map_err(|error| call_error("read Admission", &error))?;
        let stored = found
            .filter(|found| (found.spec.epoch, &found.spec.holder) == (own.spec.epoch, &own.spec.holder))
            .ok_or_else(lost)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored.clone());
        Ok(stored)
    }

    /// Replaces the reservations by what `change` makes of them, if nobody else has changed them since.
    pub(super) async fn swap(&self, change: impl FnOnce(&mut BTreeSet<String>) + Send) -> CallResult<()> {
        let mut admission = self.own_admission().await?;
        let before: BTreeSet<String> = admission.spec.reserved.iter().cloned().collect();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        admission.spec.reserved = after.into_iter().collect();
        admission.spec.changes =
            admission::past_records(&self.past.lock().unwrap_or_else(PoisonError::into_inner));
        self.replace_admission(&admission).await
    }

    async fn replace_admission(&self, admission: &Admission) -> CallResult<()> {
        let replaced =
            self.cluster.api::<Admission>().replace(ADMISSION, &PostParams::default(), admission).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match replaced {
            Ok(stored) => {
                *known = Some(stored);
                Ok(())
            }
            Err(error) => {
                let error = call_error("replace Admission", &error);
                if error.kind == CallErrorKind::Conflict || error.kind == CallErrorKind::NotFound {
                    *known = None;
                    return Err(CallError::new(CallErrorKind::Conflict, error.message));
                }
                // The answer may be lost: what is stored is read again before the next change.
                if let Some(known) = known.as_mut() {
                    known.metadata.resource_version = None;
                }
                Err(error)
            }
        }
    }
}
