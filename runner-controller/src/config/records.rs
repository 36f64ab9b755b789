//! `RunnerJob` and `Runner`: what Stint writes and people read.
//! A `RunnerJob`'s spec is what its source told (written by intake alone), its status what the planner makes of it.

#![expect(clippy::duplicated_attributes, reason = "every printer column of a kind names its own type")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One attempt of one CI job, for as long as it matters.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "RunnerJob",
    namespaced,
    category = "stint",
    shortname = "rj",
    derive = "PartialEq",
    derive = "Default",
    status = "RunnerJobStatus",
    doc = "One attempt of one CI job. Written by Stint.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Class", type_ = "string", json_path = ".status.class"),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repository"),
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Runner", type_ = "string", json_path = ".status.runner"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.conclusion"),
    printcolumn(
        name = "About",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Admitted')].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerJobSpec {
    /// Name of the source.
    pub source: String,
    /// The source's id of the job.
    pub id: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// The account that owns the repository.
    pub owner: String,
    /// The repository, as owner/name.
    pub repository: String,
    /// Whether anybody may read the repository.
    #[serde(default)]
    pub public: bool,
    /// Name of the job.
    pub name: String,
    /// Name of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Where people see the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The labels that it asks for.
    #[serde(default)]
    pub labels: Vec<String>,
    /// When its source made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The source's id of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The commit that it builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_sha: Option<String>,
    /// The branch that it says it builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_branch: Option<String>,
    /// What was heard of it, by the delivery that told it.
    #[serde(default)]
    pub facts: BTreeMap<String, FactRecord>,
}

/// One thing that was heard of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FactRecord {
    /// What happened.
    pub action: ActionName,
    /// When Stint heard of it.
    pub heard_at: Timestamp,
    /// The runner that has the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<String>,
}

/// What a source says has happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActionName {
    /// It waits for a runner.
    Queued,
    /// It waits for something else.
    Waiting,
    /// A runner has it.
    InProgress,
    /// It is over.
    Completed,
}

/// What the planner makes of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunnerJobStatus {
    /// Where it stands: Waiting, Refused, Starting, Running, Ended or GivenUp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why it waits, is refused or was given up: a code with a page in docs/errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The class and size that it matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The runner that has it or is meant for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<String>,
    /// How many runners were started for it.
    #[serde(default)]
    pub runners_started: u32,
    /// How many of them failed before they had a job.
    #[serde(default)]
    pub failed: u32,
    /// The number of the last runner that was looked at for `failed`.
    #[serde(default)]
    pub counted: u32,
    /// No further runner is started before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// `Admitted`: whether a runner was started for it, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<ConditionRecord>,
    /// Whether it runs the code of a protected branch; absent where nobody needed to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_branch: Option<bool>,
    /// What its commit shows of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<NoticeRecord>,
}

/// A condition as Kubernetes knows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionRecord {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// True or False.
    pub status: String,
    /// Why, in a word: where it is False, a code with a page in docs/errors.
    pub reason: String,
    /// Why, in a sentence without figures: `stint why` has those.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
}

/// What a commit shows of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoticeRecord {
    /// When it was about to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Timestamp>,
    /// The source's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it was given its last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// One runner, from its reservation until it is gone and billed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "Runner",
    namespaced,
    category = "stint",
    derive = "PartialEq",
    derive = "Default",
    status = "RunnerStatus",
    doc = "One runner. Written by Stint; its finalizer stays until its container group is gone and billed.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.label"),
    printcolumn(name = "Place", type_ = "string", json_path = ".spec.place"),
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobName"),
    printcolumn(name = "Ends because", type_ = "string", json_path = ".status.teardown.code"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerSpec {
    /// Name of the job's source.
    pub source: String,
    /// The source's id of the job that the runner was started for.
    pub job_id: String,
    /// Attempt of that job.
    pub attempt: u32,
    /// Name of that job's `RunnerJob`.
    pub job_name: String,
    /// Which of the job's runners it is, from 1.
    pub ordinal: u32,
    /// The organization where it registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The repository where it registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Its class.
    pub class: String,
    /// Its size; empty for a class with one.
    #[serde(default)]
    pub size: String,
    /// The label that asks for class and size.
    pub label: String,
    /// All labels that it registers with.
    pub labels: Vec<String>,
    /// CPU in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size limit that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_max_runners: Option<u32>,
    /// Name of its place.
    pub place: String,
    /// What its place is.
    pub place_kind: PlaceKindName,
    /// When it was reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Where the record was lost and written again: what its machine showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<super::found::FoundRecord>,
}

/// What a place is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlaceKindName {
    /// An AKS virtual node.
    #[default]
    VirtualNode,
    /// Azure Container Instances without a cluster.
    ContainerInstances,
    /// A pool of virtual machines in the cluster.
    NodePool,
}

/// What is known of a runner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunnerStatus {
    /// How far it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The intent to register it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registering_at: Option<Timestamp>,
    /// Its registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<RegisteredRecord>,
    /// The intent to create its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launching_at: Option<Timestamp>,
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<LaunchedRecord>,
    /// When its source last said that it is busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_seen_at: Option<Timestamp>,
    /// What its agent reported.
    #[serde(default, skip_serializing_if = "AgentRecord::is_empty")]
    pub agent: AgentRecord,
    /// Why it is torn down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teardown: Option<TeardownRecord>,
    /// What was last read of its container group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRecord>,
    /// When its group was read after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<Timestamp>,
    /// When the deletion of its machine was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting_at: Option<Timestamp>,
    /// When its machine was still there long after its deletion was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_at: Option<Timestamp>,
    /// When its machine was confirmed gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Timestamp>,
    /// When its ledger row was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_at: Option<Timestamp>,
    /// When its source was found to know it no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deregistered_at: Option<Timestamp>,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredRecord {
    /// The source's id of the runner.
    pub id: u64,
    /// SHA-256 of the token that its call-backs carry, in hexadecimal.
    #[serde(default)]
    pub callback_hash: String,
    /// When.
    pub at: Timestamp,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchedRecord {
    /// UID of the pod, or resource id of the group.
    pub uid: String,
    /// When.
    pub at: Timestamp,
}

/// What an agent reported by call-back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRecord {
    /// It is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<Timestamp>,
    /// It began a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_started_at: Option<Timestamp>,
    /// Its job is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_completed_at: Option<Timestamp>,
    /// It is about to exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exiting_at: Option<Timestamp>,
    /// Exit code of its child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl AgentRecord {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a runner is torn down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TeardownRecord {
    /// A code with a page in docs/errors.
    pub code: String,
    /// Its sentence.
    pub sentence: String,
    /// When it was decided.
    pub at: Timestamp,
}

/// What was read of a container group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupRecord {
    /// Resource id.
    pub id: String,
    /// When the first image pull began.
    #[serde(default)]
    pub pull_started_at: Option<Timestamp>,
    /// When its container started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When its last container stopped.
    #[serde(default)]
    pub stopped_at: Option<Timestamp>,
    /// When it was last read.
    #[serde(default)]
    pub seen_at: Option<Timestamp>,
    /// Why Azure could not provision it, if so.
    #[serde(default)]
    pub failed: Option<String>,
}
