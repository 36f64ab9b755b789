//! `Budget`s → what the planner counts money by. After the places, whose currencies they are compared with.

use super::super::budget::{ALERT_AT, CURRENCY, TIME_ZONE};
use super::super::origins::Collector;
use super::super::{BudgetSpec, Documents, Resolved, budget};
use super::{given, shown_list};

/// Resolves every budget. One with a problem is left out and named.
pub(super) fn resolve(resolved: &mut Resolved, documents: &Documents) {
    for (name, spec) in &documents.budgets {
        let found = budget::resolve(name, spec).and_then(|budget| {
            let currencies = budget.currencies(resolved.setup.places.values());
            // Without a place that bills, none is known yet.
            if currencies.is_empty() || currencies.contains(budget.currency.as_str()) {
                return Ok(budget);
            }
            Err(format!(
                "currency: no place that it matches bills in {}, so that it would count nothing: write {}, or correct \
                 price.currency of the RunnerPlace",
                budget.currency,
                currencies.into_iter().collect::<Vec<_>>().join(" or ")
            ))
        });
        match found {
            Ok(budget) => drop(resolved.setup.budgets.insert(name.clone(), budget)),
            Err(message) => resolved.problem("Budget", name, message),
        }
        let mut origins = Collector::new("Budget", name);
        note(spec, &mut origins);
        resolved.origins.extend(origins.finish());
    }
}

fn note(spec: &BudgetSpec, origins: &mut Collector<'_>) {
    let about = spec.matches.clone().unwrap_or_default().shown();
    origins.note("match", about, given(spec.matches.is_some()));
    origins.note("amount", &spec.amount, given(true));
    origins.or_default("currency", spec.currency.as_ref(), CURRENCY.to_owned());
    origins.note("per", format!("{:?}", spec.per), given(true));
    origins.or_default("timeZone", spec.time_zone.as_ref(), TIME_ZONE.to_owned());
    let alerts = spec.alert_at.clone().unwrap_or_else(|| ALERT_AT.to_vec());
    let alerts: Vec<String> = alerts.iter().map(|percent| format!("{percent} %")).collect();
    origins.note("alertAt", shown_list(&alerts), given(spec.alert_at.is_some()));
    let when_spent = spec.when_spent.unwrap_or_default();
    origins.note("whenSpent", format!("{when_spent:?}"), given(spec.when_spent.is_some()));
}
