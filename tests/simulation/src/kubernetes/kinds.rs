//! The kinds that the server knows, and how each is written.

/// A kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Place in [`KINDS`].
    pub(super) at: usize,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) namespaced: bool,
    /// Whether the status is written by itself.
    pub(super) status: bool,
    /// Whether it is defined by a CustomResourceDefinition.
    pub(super) custom: bool,
}

impl Kind {
    /// As `apiVersion` says it.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As messages of the server name it.
    pub(super) fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

const fn custom(at: usize, kind: &'static str, plural: &'static str, status: bool) -> Kind {
    Kind { at, kind, plural, group: "stint.dev", version: "v1alpha1", namespaced: true, status, custom: true }
}

const fn builtin(
    at: usize,
    kind: &'static str,
    plural: &'static str,
    group: &'static str,
    status: bool,
) -> Kind {
    Kind { at, kind, plural, group, version: "v1", namespaced: true, status, custom: false }
}

/// All kinds.
pub(super) static KINDS: [Kind; 14] = [
    custom(0, "RunnerSource", "runnersources", true),
    custom(1, "RunnerClass", "runnerclasses", true),
    custom(2, "RunnerPlace", "runnerplaces", true),
    custom(3, "ConcurrencyLimit", "concurrencylimits", true),
    custom(4, "Budget", "budgets", true),
    custom(5, "RunnerJob", "runnerjobs", true),
    custom(6, "Runner", "runners", true),
    custom(7, "Admission", "admissions", false),
    builtin(8, "Pod", "pods", "", true),
    Kind { namespaced: false, ..builtin(9, "Node", "nodes", "", true) },
    builtin(10, "Secret", "secrets", "", false),
    builtin(11, "Event", "events", "events.k8s.io", false),
    builtin(12, "Lease", "leases", "coordination.k8s.io", false),
    Kind { namespaced: false, ..builtin(13, "Namespace", "namespaces", "", true) },
];

/// The kind of this name.
pub(super) fn find(kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|one| one.kind == kind)
}

/// The kind that a path names.
pub(super) fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|one| one.group == group && one.version == version && one.plural == plural)
}
