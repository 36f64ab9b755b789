//! `ConcurrencyLimit`s → what the planner counts by.

use super::super::origins::Collector;
use super::super::{ConcurrencyLimitSpec, Documents, Resolved, limit};
use super::{given, shown_list};

/// Resolves every limit. One with a problem is left out and named.
pub(super) fn resolve(resolved: &mut Resolved, documents: &Documents) {
    for (name, spec) in &documents.limits {
        match limit::resolve(name, spec) {
            Ok(limit) => drop(resolved.setup.limits.insert(name.clone(), limit)),
            Err(message) => resolved.problem("ConcurrencyLimit", name, message),
        }
        let mut origins = Collector::new("ConcurrencyLimit", name);
        note(spec, &mut origins);
        resolved.origins.extend(origins.finish());
    }
}

fn note(spec: &ConcurrencyLimitSpec, origins: &mut Collector<'_>) {
    let about = spec.matches.clone().unwrap_or_default().shown();
    origins.note("match", about, given(spec.matches.is_some()));
    let words = |one: &limit::DimensionSpec| runner_core::limit::Dimension::from(*one).as_str().to_owned();
    let groups: Vec<String> = spec.group_by.iter().map(words).collect();
    origins.note("groupBy", shown_list(&groups), given(!groups.is_empty()));
    let max = spec.max.clone().unwrap_or_default();
    let uncapped = || "not capped".to_owned();
    let runners = max.runners.map(|most| most.to_string());
    for (field, value) in [("max.runners", runners), ("max.cpu", max.cpu), ("max.memory", max.memory)] {
        let from = given(value.is_some());
        origins.note(field, value.unwrap_or_else(uncapped), from);
    }
    origins.note("paused", spec.paused.unwrap_or_default(), given(spec.paused.is_some()));
    let weights: Vec<String> = spec.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    let shown = if weights.is_empty() { "1 each".to_owned() } else { weights.join(", ") };
    origins.note("weights", shown, given(!weights.is_empty()));
}
