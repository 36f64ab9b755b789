//! What is billed in each budget's period, as a ledger would tell the planner.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use runner_core::budget::{Charge, Spending, USUAL_OF, usual_durations};
use runner_core::setup::Setup;
use rust_decimal::Decimal;

/// After how many bills it is judged anew how long runners usually take.
const USUAL_EVERY: u64 = 100;
/// So many bills are each looked at.
const FIRST: u64 = 20;

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Bills {
    /// By budget and the beginning of its period.
    sums: BTreeMap<(String, Timestamp), Decimal>,
    /// Billed seconds by class, the latest first.
    latest: BTreeMap<String, VecDeque<u64>>,
    count: u64,
}

impl Bills {
    /// Counts a bill whose meter stopped then, and tells the planner.
    pub(super) fn add(
        &mut self,
        setup: &Setup,
        charge: &Charge,
        seconds: u64,
        stopped: Timestamp,
        spending: &mut Spending,
    ) {
        if setup.budgets.is_empty() {
            return;
        }
        for budget in setup.budgets.values() {
            let period = (budget.name.clone(), budget.period(stopped).from);
            let sum = self.sums.entry(period).or_default();
            *sum = sum.saturating_add(budget.spent(std::slice::from_ref(charge)));
        }
        let own = self.latest.entry(charge.account.class.clone()).or_default();
        own.push_front(seconds);
        own.truncate(USUAL_OF as usize);
        if self.count.is_multiple_of(USUAL_EVERY) || self.count < FIRST {
            let latest = self
                .latest
                .iter()
                .flat_map(|(class, own)| own.iter().map(|seconds| (class.clone(), *seconds)));
            spending.usual = usual_durations(latest);
        }
        self.count += 1;
    }

    /// Tells the planner what is spent in the present periods.
    pub(super) fn tell(&self, setup: &Setup, now: Timestamp, spending: &mut Spending) {
        for budget in setup.budgets.values() {
            let period = (budget.name.clone(), budget.period(now).from);
            let sum = self.sums.get(&period).copied().unwrap_or_default();
            spending.spent.insert(budget.name.clone(), sum);
        }
    }
}
