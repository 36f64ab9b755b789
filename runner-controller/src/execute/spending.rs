//! What the ledger has charged to budgets, kept in memory: summed once for each period, then carried on with the rows
//! that come after. Decides nothing.
//!
//! Guarantees: the sums hold every row whose runner's record says that it is billed, since [`SpendingMemory::catch_up`]
//! stands between the two; where they may not, they are not known. Between a row and that record its runner counts
//! twice, never not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::budget::{Budget, Period, Spending, USUAL_OF, usual_durations};
use rust_decimal::Decimal;
use tokio::sync::Mutex;

use crate::ports::{CallError, CallErrorKind, CallResult, Ledger};

/// The longest that is waited for the ledger.
const WITHIN: Duration = Duration::from_secs(3);
/// How soon a ledger that could not be read is asked again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// How often rows are looked for that another process wrote.
const CATCH_UP_EVERY: SignedDuration = SignedDuration::from_secs(30);
/// How often it is looked how long runners usually take.
const USUAL_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// The sums, shared by the loop and the actions that commit rows.
#[derive(Debug, Default)]
pub struct SpendingMemory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The budgets that are summed, each with its period.
    budgets: BTreeMap<String, (Budget, Period)>,
    /// Their sums; `None` where they may lack a row.
    sums: Option<Sums>,
    usual: BTreeMap<String, SignedDuration>,
    usual_at: Option<Timestamp>,
    asked_at: Option<Timestamp>,
    complained: bool,
}

#[derive(Debug, Default)]
struct Sums {
    /// The number of the newest row that is in them.
    newest: u64,
    spent: BTreeMap<String, Decimal>,
}

impl SpendingMemory {
    /// What is spent of these budgets now, and when that is to be asked again if it is not known.
    pub async fn keep_up(
        &self,
        ledger: &dyn Ledger,
        budgets: &BTreeMap<String, Budget>,
        now: Timestamp,
    ) -> (Spending, Option<Timestamp>) {
        let mut state = self.state.lock().await;
        if budgets.is_empty() {
            *state = State::default();
            return (Spending::default(), None);
        }
        let same = state.budgets.len() == budgets.len()
            && state.budgets.values().all(|(known, period)| {
                budgets.get(&known.name) == Some(known) && (period.from..period.until).contains(&now)
            });
        if !same {
            let with_period =
                |(name, budget): (&String, &Budget)| (name.clone(), (budget.clone(), budget.period(now)));
            state.budgets = budgets.iter().map(with_period).collect();
            state.sums = None;
            state.asked_at = None;
        }
        let since = state.asked_at.map(|at| now.duration_since(at));
        let pause = if state.sums.is_some() { CATCH_UP_EVERY } else { RETRY };
        if since.is_none_or(|since| since >= pause || since.is_negative()) {
            state.read(ledger).await;
            state.asked_at = Some(now);
        }
        if state.sums.is_some() && state.usual_at.is_none_or(|at| now.duration_since(at) >= USUAL_EVERY) {
            state.usual_at = Some(now);
            match within(ledger.latest_seconds(USUAL_OF)).await {
                Ok(latest) => state.usual = usual_durations(latest),
                Err(error) => tracing::warn!(%error, "how long runners usually take cannot be read"),
            }
        }
        let again = if state.sums.is_some() { None } else { now.checked_add(RETRY).ok() };
        let spent = state.sums.as_ref().map(|sums| sums.spent.clone()).unwrap_or_default();
        (Spending { spent, usual: state.usual.clone() }, again)
    }

    /// Forgets everything: another process may have written rows meanwhile.
    pub async fn forget(&self) {
        *self.state.lock().await = State::default();
    }

    /// Takes up the rows that were committed since. To be called between a row's commit and the record of it.
    pub async fn catch_up(&self, ledger: &dyn Ledger) {
        let mut state = self.state.lock().await;
        if state.sums.is_some() {
            state.read(ledger).await;
        }
    }
}

impl State {
    /// Sums anew, or carries sums on; without an answer they are not known.
    async fn read(&mut self, ledger: &dyn Ledger) {
        let mut periods: Vec<Period> = self.budgets.values().map(|(_, period)| *period).collect();
        periods.sort_unstable();
        periods.dedup();
        let mut sums = self.sums.take().unwrap_or_default();
        match within(ledger.charges(&periods, sums.newest)).await {
            Ok(charges) => {
                sums.newest = charges.newest;
                for (name, (budget, period)) in &self.budgets {
                    let own = periods.binary_search(period).ok().and_then(|index| charges.of.get(index));
                    let more = own.map(|own| budget.spent(own)).unwrap_or_default();
                    let spent = sums.spent.entry(name.clone()).or_default();
                    *spent = spent.saturating_add(more);
                }
                self.sums = Some(sums);
                self.complained = false;
            }
            Err(error) if self.complained => tracing::debug!(%error, "the ledger still cannot be read"),
            Err(error) => {
                self.complained = true;
                tracing::error!(%error, "the ledger cannot be read for budgets, under which nothing starts: {error}");
            }
        }
    }
}

async fn within<T>(call: impl Future<Output = CallResult<T>>) -> CallResult<T> {
    match tokio::time::timeout(WITHIN, call).await {
        Ok(result) => result,
        Err(_) => Err(CallError::new(CallErrorKind::Unavailable, "the ledger did not answer in time")),
    }
}
