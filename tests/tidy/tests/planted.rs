//! Each rule finds a violation that is planted for it, and leaves alone what only looks like one.

use serde_json::{Value, json};

/// What the check says about a file, as `line: beginning of the message`.
#[track_caller]
fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
    let found = tidy::check(path, text);
    let lines: Vec<_> = found.iter().map(|it| it.line).collect();
    assert_eq!(lines, expected.iter().map(|(line, _)| *line).collect::<Vec<_>>(), "{found:#?}");
    for (violation, (_, part)) in found.iter().zip(expected) {
        assert!(violation.message.contains(part), "{violation} does not say {part:?}");
    }
}

#[test]
fn files_say_what_they_own() {
    check("a/src/lib.rs", "//! Owns a.\n\nfn a() {}\n", &[]);
    check("a/src/lib.rs", "fn a() {}\n", &[(1, "open the file with //!")]);
    check("a/src/plan/tests.rs", "use super::*;\n", &[]);
    check("a/notes.md", "no module\n", &[]);
}

#[test]
fn files_have_an_end() {
    let long = format!("//! Long.\n{}", "fn a() {}\n".repeat(400));
    check("a/src/lib.rs", &long, &[(1, "401 lines")]);
    check("tests/testbed/src/lib.rs", &long, &[(1, "401 lines")]);
    check("a/src/plan/tests.rs", &long, &[]);
    check("a/tests/flow.rs", &long, &[]);
    let tested = format!(
        "//! Tested.\n#[cfg(test)]\nmod tests {{\n{}}}\nfn a() {{}}\n",
        "    fn a() {}\n".repeat(500)
    );
    check("a/src/lib.rs", &tested, &[]);
}

#[test]
fn adapters_do_not_know_each_other() {
    let at = |folder: &str, code: &str, expected: &[(usize, &str)]| {
        check(&format!("runner-controller/src/{folder}"), &format!("//! A file.\n{code}\n"), expected);
    };
    at(
        "azure/groups.rs",
        "use crate::kubernetes::pods::Pod;",
        &[(2, "must not know the adapter kubernetes")],
    );
    at("azure.rs", "let store = crate::ledger::open();", &[(2, "the adapter ledger")]);
    at(
        "azure/groups.rs",
        "use crate::{\n    ports::Groups,\n    local::{a, b},\n};",
        &[(2, "the adapter local")],
    );
    at("azure/groups.rs", "use crate::{ports::{kubernetes, local}, azure::Client};", &[]);
    at("azure/groups.rs", "use crate::azure::prices;\nuse crate::ports::Groups;", &[]);
    at("azure/groups.rs", "// as crate::kubernetes does", &[]);
    at("reconcile.rs", "use crate::kubernetes::Store;\nuse crate::azure::Groups;", &[]);
}

#[test]
fn types_of_sdks_stay_in_their_folder() {
    let at = |path: &str, code: &str, expected: &[(usize, &str)]| {
        check(&format!("runner-controller/{path}"), &format!("//! A file.\n{code}\n"), expected);
    };
    at("src/execute.rs", "use kube::Api;", &[(2, "kube stays in")]);
    at("src/observe.rs", "fn f(pod: &k8s_openapi::api::core::v1::Pod) {}", &[(2, "k8s_openapi stays in")]);
    at("src/kubernetes/pods.rs", "use kube::Api;", &[]);
    at("src/kubernetes.rs", "use kube::Api;", &[]);
    at("src/config/class.rs", "use kube::CustomResource;", &[]);
    at("src/web/mod.rs", "use octocrab::Octocrab;", &[(2, "octocrab stays in")]);
    at("src/providers/azure_devops/mod.rs", "use octocrab::Octocrab;", &[(2, "octocrab stays in")]);
    at("src/providers/github/mod.rs", "use octocrab::Octocrab;", &[]);
    at("src/cli/mod.rs", "let c = azure_identity::AzureCliCredential::new();", &[(2, "azure_* stays in")]);
    at("src/azure/credentials.rs", "use azure_core::credentials::TokenCredential;", &[]);
    at("src/reconcile.rs", "use crate::providers::azure_devops::Pools;\nlet kube = crate::kube::x();", &[]);
    at("core/src/plan.rs", "let kube = 1;", &[]);
}

#[test]
fn nothing_belongs_to_one_machine() {
    let (root, work) = ("/root", "/work");
    let machine = "is one machine's folder";
    check("docs/a.md", &format!("see {work}/main/x\n"), &[(1, machine)]);
    check("a.sh", &format!("cd \"{root}/x\"\n"), &[(1, machine)]);
    check(
        "a.sh",
        "cd /home/runner/work/x\ncd /actions/_work/y\ncd $HOME/root/z\nls /rooted /workspace/x /root\n",
        &[],
    );
    check(
        "package-lock.json",
        &format!("\"resolved\": \"https://registry.npm{}/a\"\n", "js.org"),
        &[(1, "registry")],
    );
    check("Cargo.lock", &format!("https://index.crates{}\n", ".io"), &[]);
}

#[test]
fn core_depends_on_nothing_that_does_io() {
    let metadata = |kind: Value| {
        json!({
            "packages": [
                {"id": "1", "name": "runner-core"}, {"id": "2", "name": "helpful"}, {"id": "3", "name": "tokio"},
            ],
            "resolve": {"nodes": [
                {"id": "1", "deps": [{"pkg": "2", "dep_kinds": [{"kind": null}]}]},
                {"id": "2", "deps": [{"pkg": "3", "dep_kinds": [{"kind": kind}]}]},
                {"id": "3", "deps": []},
            ]},
        })
    };
    let wrong = tidy::core_dependencies(&metadata(Value::Null)).unwrap();
    assert!(wrong.len() == 1 && wrong[0].starts_with("runner-core → helpful → tokio: "), "{wrong:?}");
    assert_eq!(tidy::core_dependencies(&metadata(json!("dev"))).unwrap(), Vec::<String>::new());
}
