//! `Admission`: which runners may be started, and what was done lately that Azure limits.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The reservations of one shard: a runner that is not reserved here is never started.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "Admission",
    plural = "admissions",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "Reservations of runners, changed by compare-and-swap only. Written by Stint.",
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.epoch"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionSpec {
    /// Counts the processes that have acted; each one raises it before it acts.
    #[serde(default)]
    pub epoch: u64,
    /// Who acts.
    #[serde(default)]
    pub holder: String,
    /// The ledger that holds this installation's rows: a replica with another one must not act.
    #[serde(default)]
    pub ledger: String,
    /// Reserved runner names.
    #[serde(default)]
    pub reserved: Vec<String>,
    /// Container groups that were made and deleted lately and whose runners' records are gone, by subscription and region:
    /// Azure limits both, and a process that takes over must not exceed that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changes: BTreeMap<String, Vec<ChangeRecord>>,
}

/// Container groups that were made and deleted until a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecord {
    /// The moment.
    pub at: Timestamp,
    /// Groups made.
    #[serde(default)]
    pub creates: u32,
    /// Groups deleted.
    #[serde(default)]
    pub deletes: u32,
}
