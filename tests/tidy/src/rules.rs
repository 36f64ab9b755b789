//! The rules, as data.

/// The folder of the controller's own crate.
pub const CONTROLLER: &str = "runner-controller/src/";

/// The adapters: each speaks to one kind of outside and knows no other.
pub const ADAPTERS: [&str; 5] = ["kubernetes", "providers", "azure", "ledger", "local"];

/// What to do instead of importing an adapter into another.
pub const ADAPTERS_INSTEAD: &str = "say what is needed as a trait or type in crate::ports or runner-core, and let reconcile's wiring connect the two";

/// Crates whose types stay in some folders of the controller.
pub struct CrateHome {
    /// Crates by the name that code uses. A trailing `*` stands for any ending.
    pub crates: &'static [&'static str],
    /// The folders, under [`CONTROLLER`], that may name them.
    pub homes: &'static [&'static str],
    /// What to do elsewhere.
    pub instead: &'static str,
}

/// Where the types of software development kits stay.
pub const CRATE_HOMES: [CrateHome; 3] = [
    CrateHome {
        crates: &["kube", "k8s_openapi"],
        homes: &["kubernetes/", "config/"],
        instead: "convert to a type of runner-core or crate::ports in the kubernetes folder (config holds the types of the API)",
    },
    CrateHome {
        crates: &["octocrab"],
        homes: &["providers/github/"],
        instead: "convert to a type of runner-core or crate::ports in providers/github",
    },
    CrateHome {
        crates: &["azure_*"],
        homes: &["azure/"],
        instead: "convert to a type of runner-core or crate::ports in the azure folder",
    },
];

/// The pure crate.
pub const CORE: &str = "runner-core";

/// Crates that the pure crate must not depend on, however indirectly. A trailing `*` stands for any ending.
pub const CORE_FORBIDS: [&str; 10] =
    ["axum", "azure*", "hyper", "hyper-*", "kube", "kube-*", "octocrab", "reqwest", "sqlx*", "tokio*"];

/// What to do instead.
pub const CORE_INSTEAD: &str =
    "runner-core does no I/O: take what is needed as an argument, and do the I/O in runner-controller";

/// How long a file may be, without its tests.
pub const MAX_LINES: usize = 400;

/// Top folders of this project's machines, which mean nothing elsewhere.
pub const MACHINE_FOLDERS: [&str; 2] = ["root", "work"];

/// Hosts of package registries, in halves so that this file does not name them.
pub const REGISTRY_HOSTS: [(&str, &str); 9] = [
    ("static.crates", ".io"),
    ("index.crates", ".io"),
    ("registry.npm", "js.org"),
    ("registry.yarn", "pkg.com"),
    ("py", "pi.org"),
    ("files.python", "hosted.org"),
    ("proxy.go", "lang.org"),
    ("sum.go", "lang.org"),
    ("deb.de", "bian.org"),
];

/// Files that a tool writes and that nobody can keep free of what the text rules forbid.
pub const NOT_OURS: [&str; 1] = ["Cargo.lock"];
