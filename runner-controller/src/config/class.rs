//! `RunnerClass`: what a runner is, in one or more sizes.

#![expect(clippy::duplicated_attributes, reason = "every printer column of a kind names its own type")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use runner_core::setup::Need;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::DocumentStatus;

/// What a runner is.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "RunnerClass",
    plural = "runnerclasses",
    namespaced,
    category = "stint",
    derive = "PartialEq",
    derive = "Default",
    status = "DocumentStatus",
    doc = "What a runner is, in one or more sizes. Jobs ask for it by its name, or by name-size.",
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxRunners"),
    printcolumn(name = "Places", type_ = "string", json_path = ".spec.places.order"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.problem"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("has(self.resources) != (has(self.sizes) && size(self.sizes) > 0)").message("give either resources (one size) or sizes"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerClassSpec {
    /// Resources of the only size. Jobs ask for it by the class's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Sizes by name. Jobs ask for one by `<class>-<size>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, SizeSpec>,
    /// Within which bounds jobs may ask for a size of their own, by a label such as `stint/cpu=4/mem=16` (cores and GiB).
    /// Default: they may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_size: Option<CustomSizeSpec>,
    /// What the runners need that a virtual node cannot give, so that they start elsewhere only. What the podTemplate
    /// implies need not be said. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    pub needs: Vec<NeedSpec>,
    /// Labels that the runners carry besides `self-hosted`, `linux`, `x64` and the one that asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 256)))]
    pub labels: Vec<String>,
    /// How many runners of the class there may be at once. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runners: Option<u32>,
    /// Image of the runner. Default: the one of this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub image: Option<String>,
    /// Secrets with credentials for the image's registry, in the runners' namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<SecretName>,
    /// Additions to the runner's pod: `metadata.labels`, `metadata.annotations`, and a pod spec whose container
    /// `runner` may add environment and volume mounts. Fields that Stint sets are refused by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<serde_json::Value>,
    /// Where runners of the class may run. Default: the only place there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Places>,
    /// How long each stage of a runner's life may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadlines: Option<DeadlinesSpec>,
    /// How many runners may fail for one job before Stint gives it up. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub max_attempts: Option<u32>,
    /// How long a runner is expected to take, as `90s` or `15m`: what budgets reserve for it until it is billed. Default: the
    /// median of the class's last 100 rows in the ledger; 10m while there are fewer than 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_duration: Option<String>,
}

/// CPU and memory of a runner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// CPU, as `2` or `1500m`.
    pub cpu: String,
    /// Memory, as `4Gi` or `4G`.
    pub memory: String,
}

/// Within which bounds jobs may ask for a size of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomSizeSpec {
    /// Of CPU, as `1` or `500m`.
    pub cpu: BoundsSpec,
    /// Of memory, as `2Gi`.
    pub memory: BoundsSpec,
}

/// The least and the most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundsSpec {
    /// The least.
    pub min: String,
    /// The most.
    pub max: String,
}

/// What runners may need that not every place can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NeedSpec {
    /// A container engine in the job.
    Docker,
    /// A privileged container.
    Privileged,
    /// A GPU.
    Gpu,
    /// Windows.
    Windows,
    /// A PersistentVolumeClaim or the like.
    PersistentVolumes,
    /// Something of the node itself: its paths, its network, what a DaemonSet runs there.
    Node,
}

impl From<NeedSpec> for Need {
    fn from(spec: NeedSpec) -> Self {
        match spec {
            NeedSpec::Docker => Need::Docker,
            NeedSpec::Privileged => Need::Privileged,
            NeedSpec::Gpu => Need::Gpu,
            NeedSpec::Windows => Need::Windows,
            NeedSpec::PersistentVolumes => Need::PersistentVolumes,
            NeedSpec::Node => Need::Node,
        }
    }
}

/// One size of a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SizeSpec {
    /// CPU, as `2` or `1500m`.
    pub cpu: String,
    /// Memory, as `4Gi` or `4G`.
    pub memory: String,
    /// How many runners of this size there may be at once. Default: as many as the class may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runners: Option<u32>,
}

/// The name of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// Name of the Secret.
    pub name: String,
}

/// Where runners of a class may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Places {
    /// Names of places, the first that can start a runner is used.
    #[schemars(length(min = 1, max = 50))]
    pub order: Vec<String>,
}

/// How long each stage of a runner's life may take, as `90s` or `15m`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadlinesSpec {
    /// From the pod's creation until a node has it. Default: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<String>,
    /// From the pod's creation until its container runs, image pull included. Default: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// From then until its agent reports or has a job. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<String>,
    /// From then until it has a job. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
