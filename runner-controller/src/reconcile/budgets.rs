//! Tells how budgets stand: to the log where a threshold is reached, to metrics, the API, and beside the documents.
//!
//! Holds no job back: that is the planner's work.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runner_core::budget::{Budgets, Figures, money};

use crate::execute::Outside;
use crate::observe::View;

/// Which thresholds were told.
#[derive(Debug, Default)]
pub(super) struct BudgetTeller {
    /// By budget: the period, and the highest threshold in it.
    told: BTreeMap<String, (Timestamp, u32)>,
}

impl BudgetTeller {
    /// Tells how budgets stand now.
    pub(super) async fn tell(&mut self, outside: &Outside, view: &View, now: Timestamp) {
        let figures = Budgets::of(&view.snapshot, now).figures();
        outside.metrics.set_budgets(&figures);
        for one in self.alerts(&figures) {
            tracing::warn!(
                budget = one.budget,
                "budget {}: {} of {} {} are spent this {} ({} %, and {} are reserved for runners)",
                one.budget,
                money(one.spent.unwrap_or_default()),
                money(one.amount),
                one.currency,
                one.per.as_str(),
                one.percent(one.spent.unwrap_or_default()),
                money(one.reserved)
            );
        }
        if let Err(error) = outside.records.note_budgets(&figures).await {
            tracing::warn!(%error, "a budget's figures cannot be written beside its document");
        }
        outside.budgets.send_replace(figures.into());
    }

    /// Those that have reached a threshold that was not told yet in their period.
    fn alerts<'f>(&mut self, figures: &'f [Figures]) -> Vec<&'f Figures> {
        self.told.retain(|name, _| figures.iter().any(|one| one.budget == *name));
        let mut new = Vec::new();
        for one in figures {
            let Some(reached) = one.alert() else { continue };
            let before = self.told.get(&one.budget).filter(|(from, _)| *from == one.period.from);
            if before.is_none_or(|(_, before)| *before < reached) {
                self.told.insert(one.budget.clone(), (one.period.from, reached));
                new.push(one);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use runner_core::budget::{Per, Period, WhenSpent};
    use rust_decimal::Decimal;

    use super::*;

    #[test]
    fn a_threshold_is_told_once_in_each_period() {
        let day = |number: i64| {
            let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
            Period { from: at(number), until: at(number + 1) }
        };
        let figures = |spent: Option<i64>, period: Period| {
            vec![Figures {
                budget: "b".to_owned(),
                per: Per::Day,
                period,
                spent: spent.map(Decimal::from),
                reserved: Decimal::ZERO,
                amount: Decimal::from(10),
                currency: "USD".to_owned(),
                alert_at: vec![50, 80, 100],
                when_spent: WhenSpent::Warn,
            }]
        };
        let mut teller = BudgetTeller::default();
        let mut check = |spent, period, expect: usize| {
            assert_eq!(teller.alerts(&figures(spent, period)).len(), expect, "{spent:?}");
        };
        check(Some(4), day(1), 0);
        check(Some(5), day(1), 1);
        check(Some(7), day(1), 0);
        check(None, day(1), 0);
        check(Some(7), day(1), 0);
        check(Some(11), day(1), 1);
        check(Some(12), day(1), 0);
        check(Some(0), day(2), 0);
        check(Some(8), day(2), 1);
    }
}
