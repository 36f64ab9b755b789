//! What is billed in each budget's period, as a ledger would tell the planner.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use runner_core::budget::{Charge, Spending, usual_durations};
use runner_core::setup::Setup;
use rust_decimal::Decimal;

/// From how many bills it is judged how long runners usually take, over all classes.
const USUAL_BILLS: usize = 1000;
/// After how many bills that is judged anew.
const USUAL_EVERY: u64 = 100;

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Bills {
    /// By budget and the beginning of its period.
    sums: BTreeMap<(String, Timestamp), Decimal>,
    /// Classes and billed seconds, the latest first.
    latest: VecDeque<(String, u64)>,
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
        self.latest.push_front((charge.account.class.clone(), seconds));
        self.latest.truncate(USUAL_BILLS);
        if self.count.is_multiple_of(USUAL_EVERY) || self.latest.len() < 20 {
            spending.usual = usual_durations(self.latest.iter().cloned());
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
