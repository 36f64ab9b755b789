//! `ConcurrencyLimit`: how much may be started at once of what; and the list of priorities, which matches as it does.

#![expect(clippy::duplicated_attributes, reason = "every printer column of a kind names its own type")]

use std::collections::{BTreeMap, BTreeSet};

use kube::{CustomResource, KubeSchema};
use runner_core::limit::{Caps, ConcurrencyLimit as Limit, Dimension, Glob, JobMatch, PriorityRule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity;
use super::source::DocumentStatus;

/// How much may be started at once of what.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "ConcurrencyLimit",
    namespaced,
    category = "stint",
    derive = "PartialEq",
    derive = "Default",
    status = "DocumentStatus",
    doc = "How much may be started at once of what. All limits that match a job apply together; lowering one ends nothing.",
    printcolumn(name = "Match", type_ = "string", json_path = ".spec.match"),
    printcolumn(name = "Max", type_ = "string", json_path = ".spec.max"),
    printcolumn(name = "Paused", type_ = "string", json_path = ".spec.paused"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.problem"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("(has(self.paused) && self.paused) || (has(self.max) && (has(self.max.runners) || has(self.max.cpu) || has(self.max.memory)))").message("cap at least one of max.runners, max.cpu and max.memory, or set paused: true"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConcurrencyLimitSpec {
    /// Which jobs it is about. Default: all.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchSpec>,
    /// What tells its groups apart: each combination of values that occurs is capped by itself. Default: nothing, so
    /// that all it matches is capped together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    pub group_by: Vec<DimensionSpec>,
    /// How much may be in use at once, in each group. What counts is what Stint started, until its group is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<MaxSpec>,
    /// Whether nothing it matches is started for now; what runs goes on. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How much owners, and repositories (owner/name), count for where several want the same: with weight 2, one gets
    /// twice as much as with 1. The first limit by name that names one decides, for all limits. Default: 1 each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("additionalProperties" = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 1000}))]
    pub weights: BTreeMap<String, u32>,
}

/// Which jobs: those that one of the names in each list given fits. `*` stands for any text, case does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchSpec {
    /// Names of sources. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub sources: Vec<String>,
    /// Owners of repositories. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub owners: Vec<String>,
    /// Repositories, as owner/name. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub repositories: Vec<String>,
    /// Names of workflows. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub workflows: Vec<String>,
    /// Names of classes. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub classes: Vec<String>,
    /// Names of places. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub places: Vec<String>,
    /// Whether it is about jobs that run the code of a protected branch (true) or about all others (false): those of forks
    /// and pull requests, and those of which that cannot be read. Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_branch: Option<bool>,
}

/// What groups are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DimensionSpec {
    /// The source.
    Source,
    /// The owner of the repository.
    Owner,
    /// The repository.
    Repository,
    /// The workflow.
    Workflow,
    /// The class.
    Class,
    /// The place.
    Place,
}

/// How much may be in use at once. What is absent is not capped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaxSpec {
    /// Runners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runners: Option<u32>,
    /// Their CPU together, as `16` or `1500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Their memory together, as `64Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// One entry of the list of priorities.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PrioritySpec {
    #[serde(rename = "match", default)]
    matches: MatchSpec,
    priority: i32,
}

/// What a match is about that asks for the branch, for people.
const PROTECTED: &str = "a protected branch";
const NOT_PROTECTED: &str = "no protected branch";

impl MatchSpec {
    /// Each list that may be given, with what it is about.
    fn lists(&self) -> [(Dimension, &Vec<String>); 6] {
        [
            (Dimension::Source, &self.sources),
            (Dimension::Owner, &self.owners),
            (Dimension::Repository, &self.repositories),
            (Dimension::Workflow, &self.workflows),
            (Dimension::Class, &self.classes),
            (Dimension::Place, &self.places),
        ]
    }

    pub(super) fn resolve(&self) -> JobMatch {
        let given = self.lists().into_iter().filter(|(_, names)| !names.is_empty());
        let globs = |names: &Vec<String>| names.iter().map(|name| Glob::new(name)).collect();
        JobMatch {
            patterns: given.map(|(dimension, names)| (dimension, globs(names))).collect(),
            protected_branch: self.protected_branch,
        }
    }

    /// What it is about, for people.
    pub(super) fn shown(&self) -> String {
        let given = self.lists().into_iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<String> = given
            .map(|(dimension, names)| format!("{} {}", dimension.as_str(), names.join(" or ")))
            .chain(self.protected_branch.map(|is| if is { PROTECTED } else { NOT_PROTECTED }.to_owned()))
            .collect();
        if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
    }
}

impl From<DimensionSpec> for Dimension {
    fn from(spec: DimensionSpec) -> Self {
        match spec {
            DimensionSpec::Source => Dimension::Source,
            DimensionSpec::Owner => Dimension::Owner,
            DimensionSpec::Repository => Dimension::Repository,
            DimensionSpec::Workflow => Dimension::Workflow,
            DimensionSpec::Class => Dimension::Class,
            DimensionSpec::Place => Dimension::Place,
        }
    }
}

/// The planner's view of a limit.
///
/// # Errors
/// The field, the value and the remedy.
pub(super) fn resolve(name: &str, spec: &ConcurrencyLimitSpec) -> Result<Limit, String> {
    let max = spec.max.clone().unwrap_or_default();
    let cpu = max.cpu.as_deref().map(quantity::cpu_millis).transpose();
    let memory = max.memory.as_deref().map(quantity::bytes).transpose();
    let caps = Caps {
        runners: max.runners.map(u64::from),
        cpu_millis: cpu.map_err(|error| format!("max.cpu: {error}"))?.map(u64::from),
        memory_bytes: memory.map_err(|error| format!("max.memory: {error}"))?,
    };
    let paused = spec.paused.unwrap_or_default();
    if caps == Caps::default() && !paused {
        return Err(
            "max caps nothing: give at least one of max.runners, max.cpu and max.memory, or paused: true"
                .to_owned(),
        );
    }
    if let Some((of, _)) = spec.weights.iter().find(|(_, weight)| **weight == 0) {
        return Err(format!(
            "weights.{of} is 0: at least 1; to start nothing of it, use a limit with paused: true"
        ));
    }
    Ok(Limit {
        name: name.to_owned(),
        matches: spec.matches.clone().unwrap_or_default().resolve(),
        group_by: spec.group_by.iter().copied().map(Dimension::from).collect::<BTreeSet<_>>(),
        caps,
        paused,
        weights: spec.weights.iter().map(|(name, weight)| (name.to_lowercase(), *weight)).collect(),
    })
}

/// Reads the list of priorities: YAML, each entry with `match` and `priority`.
///
/// # Errors
/// What is wrong with it, and how it should look.
pub fn priorities(text: &str) -> Result<Vec<PriorityRule>, String> {
    let rules: Vec<PrioritySpec> = serde_saphyr::from_str(text).map_err(|error| {
        format!(
            "not a list of priorities: {}; write each as - {{match: {{repositories: [acme/*]}}, priority: 10}}",
            error.without_snippet()
        )
    })?;
    let mut resolved = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        if !rule.matches.places.is_empty() {
            return Err(format!(
                "entry {}: match.places cannot be used here, since a place is chosen after the order: remove it",
                index + 1
            ));
        }
        resolved.push(PriorityRule { matches: rule.matches.resolve(), priority: rule.priority });
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests;
