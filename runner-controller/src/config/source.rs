//! `RunnerSource`: where jobs come from and runners register.

#![expect(clippy::duplicated_attributes, reason = "every printer column of a kind names its own type")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use runner_core::setup::RegisterAt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where jobs come from and where runners register.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "RunnerSource",
    namespaced,
    category = "stint",
    derive = "PartialEq",
    derive = "Default",
    status = "SourceStatus",
    doc = "Where jobs come from and where runners register.",
    printcolumn(name = "Owners", type_ = "string", json_path = ".spec.github.owners"),
    printcolumn(name = "Repositories", type_ = "string", json_path = ".spec.github.repositories"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.problem"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("has(self.github)").message("spec.github is required: it is the only kind of source"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerSourceSpec {
    /// A GitHub organization or repositories, on github.com or GitHub Enterprise Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubSpec>,
}

/// GitHub as a source.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(has(self.owners) && size(self.owners) > 0) || (has(self.repositories) && size(self.repositories) > 0)").message("name at least one owner in owners or one owner/name in repositories"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitHubSpec {
    /// Organizations whose jobs are served. Their runners register at the organization.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 100)))]
    pub owners: Vec<String>,
    /// Repositories (owner/name) whose jobs are served. Their runners register at the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(regex(pattern = "^[^/ ]+/[^/ ]+$")))]
    pub repositories: Vec<String>,
    /// Name of the Secret with `appId` and `privateKey` of a GitHub App, or `token`; and `webhookSecret`, besides
    /// which `webhookSecretNext` may stand while secrets are rotated. With `intake: poll` no webhookSecret is needed.
    #[schemars(length(min = 1))]
    pub secret_ref: String,
    /// Base URL of the REST API. Default: https://api.github.com; GitHub Enterprise Server: https://HOST/api/v3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^https?://"))]
    pub api_url: Option<String>,
    /// How Stint hears of jobs. Default: webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intake: Option<IntakeSpec>,
    /// How often the hook's deliveries are read with `intake: poll`, as `5s` or `1m`: 2 s to 5 min. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 20))]
    pub poll_every: Option<String>,
    /// Runner group in which runners register. Default: 1, the default group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub runner_group_id: Option<u64>,
    /// Where runners for jobs of `owners` register. Default: Auto: at the organization, but at the repository where a
    /// ConcurrencyLimit, or a Budget that holds jobs back, tells the organization's repositories apart, which needs the
    /// permission *Administration*, write;
    /// always at the organization where `runnerGroupId` names another group than the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register_at: Option<RegisterAtSpec>,
    /// Whether jobs of public repositories get runners. Default: Refuse, since anybody can propose code to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_repositories: Option<PublicRepositories>,
    /// What a commit shows of its jobs, for people who see the repository and not the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportSpec>,
    /// HTTP proxy for calls to GitHub, as http://[user:password@]host:port. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^http://"))]
    pub proxy: Option<String>,
    /// PEM certificates to trust besides the public ones, for GitHub Enterprise Server or an inspecting proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// How Stint hears of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IntakeSpec {
    /// GitHub sends deliveries to Stint; those that are lost are read from GitHub.
    #[default]
    Webhook,
    /// Stint reads every delivery of the hook from GitHub, wherever GitHub sends it: nothing has to reach Stint.
    Poll,
}

/// Where runners for jobs of an organization register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RegisterAtSpec {
    /// At the organization, but at the repository where a ConcurrencyLimit or Budget tells repositories apart.
    #[default]
    Auto,
    /// At the organization. Jobs that a limit holds back may be handed runners that were started for others.
    Owner,
    /// At the repository.
    Repository,
}

impl From<RegisterAtSpec> for RegisterAt {
    fn from(spec: RegisterAtSpec) -> Self {
        match spec {
            RegisterAtSpec::Auto => RegisterAt::Auto,
            RegisterAtSpec::Owner => RegisterAt::Owner,
            RegisterAtSpec::Repository => RegisterAt::Repository,
        }
    }
}

/// What a commit shows of its jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportSpec {
    /// Whether a check-run on its commit tells why a job waits, its place in line, and at the end its cost. Needs a
    /// GitHub App with the repository permission Checks: write. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_runs: Option<bool>,
    /// How long a job waits before it gets a check-run, as `90s` or `5m`. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 20))]
    pub after: Option<String>,
}

/// Whether jobs of public repositories get runners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PublicRepositories {
    /// They do not.
    #[default]
    Refuse,
    /// They do.
    Allow,
}

/// What Stint found of a document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentStatus {
    /// `True` where the document is in use, `False` where a problem keeps it from being used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The problem, in one line with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What people should know of the document although it is in use, as that another installation is in its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
}

/// What Stint found of a RunnerSource, and how far it has read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// `True` where the document is in use, `False` where a problem keeps it from being used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The problem, in one line with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What people should know of the document although it is in use, as that another installation is in its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
    /// By hook: every delivery that GitHub made before this moment is accounted for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub swept: BTreeMap<String, String>,
}
