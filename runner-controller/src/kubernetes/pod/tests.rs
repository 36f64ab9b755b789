use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use runner_core::job::JobKey;
use runner_core::labels::Matched;
use runner_core::lifecycle::{Runner, RunnerFacts};
use runner_core::plan::runner_name;
use runner_core::setup::{PlaceKind, Scope, Size};
use serde_json::{Value, json};

use super::*;
use crate::config::directory::parse;
use crate::config::{Callback, Installation, resolve};
use crate::ports::VirtualNodeSeen;

/// A cluster that no test calls.
fn cluster() -> Cluster {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    Cluster { client, namespace: "stint".to_owned(), installation: "prod1".to_owned() }
}

fn key(id: &str) -> JobKey {
    JobKey { source: "acme".to_owned(), id: id.to_owned(), attempt: 1 }
}

fn runner() -> Runner {
    Runner {
        name: runner_name("prod1", &key("4711"), 1),
        job: key("4711"),
        ordinal: 1,
        scope: Scope::Owner("acme".to_owned()),
        matched: Matched { class: "stint".to_owned(), size: String::new() },
        labels: vec!["stint".to_owned(), "self-hosted".to_owned()],
        size: Size { cpu_millis: 1500, memory_bytes: 4 << 30, max_runners: None },
        place: "vn".to_owned(),
        kind: PlaceKind::VirtualNode,
        created_at: Timestamp::UNIX_EPOCH,
        deleted: false,
        facts: RunnerFacts::default(),
    }
}

const CLASSIC: [(&str, &str); 4] = [
    ("type", "virtual-kubelet"),
    ("kubernetes.io/role", "agent"),
    ("kubernetes.io/os", "linux"),
    ("kubernetes.io/hostname", "vn"),
];
const V2: [(&str, &str); 3] =
    [("virtualization", "virtualnode2"), ("kubernetes.io/os", "linux"), ("kubernetes.io/hostname", "vn")];

/// The order that documents, a node and an installation come to.
fn order(class: &str, labels: &[(&str, &str)], callback: Option<Callback>) -> PodOrder {
    let text = format!(
        "kind: RunnerClass\nmetadata: {{name: stint}}\nspec:\n  resources: {{cpu: 1500m, memory: 4Gi}}\n{class}"
    );
    let (documents, _) = parse(&text).unwrap();
    let node = VirtualNodeSeen {
        name: "vn".to_owned(),
        ready: true,
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        taints: Vec::new(),
    };
    let installation = Installation { id: "prod1".to_owned(), callback, ..Installation::default() };
    let resolved = resolve(&documents, &[node], &installation);
    assert_eq!(resolved.problems, []);
    PodOrder {
        runner: runner(),
        class: Arc::clone(&resolved.classes["stint"]),
        place: Arc::clone(&resolved.places["vn"]),
        origin: "0123456789abcdef".to_owned(),
    }
}

fn callback() -> Option<Callback> {
    Some(Callback { url: "https://10.0.0.7:8443/".to_owned(), ca_bundle: Some("PEM".to_owned()) })
}

fn built(order: &PodOrder) -> Pod {
    build(&cluster(), order).unwrap()
}

/// Compares with the committed snapshot of this name; `UPDATE_SNAPSHOTS=1` writes it anew.
#[track_caller]
fn is_snapshot(name: &str, pod: &Pod) {
    let text = serde_saphyr::to_string(&serde_json::to_value(pod).unwrap()).unwrap();
    // The release's number is no part of what the snapshot shows.
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kubernetes/pod/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == committed,
        "pod/snapshots/{name} shows something else; if this is right, write it anew with UPDATE_SNAPSHOTS=1:\n{text}"
    );
}

#[test]
fn a_classic_virtual_node_with_a_callback() {
    is_snapshot("classic.yaml", &built(&order("", &CLASSIC, callback())));
}

#[test]
fn a_node_of_virtual_nodes_v2() {
    is_snapshot("v2.yaml", &built(&order("", &V2, callback())));
}

#[test]
fn a_node_pool_is_selected_and_tolerated_as_its_document_says() {
    let mut order = order(ADDITIONS, &CLASSIC, callback());
    let text = "kind: RunnerPlace\nmetadata: {name: vms}\nspec:\n  nodePool:\n    nodeSelector: {pool: ci}\n    \
                tolerations: [{key: ci, value: 'true', effect: NoSchedule}, {key: spot}]\n";
    let (documents, _) = parse(text).unwrap();
    let resolved =
        resolve(&documents, &[], &Installation { callback: callback(), ..Installation::default() });
    order.place = Arc::clone(&resolved.places["vms"]);
    order.runner = Runner { place: "vms".to_owned(), kind: PlaceKind::NodePool, ..order.runner };
    is_snapshot("node-pool.yaml", &built(&order));
}

#[test]
fn without_a_callback_the_agent_is_told_of_none() {
    is_snapshot("no-callback.yaml", &built(&order("", &CLASSIC, None)));
}

const ADDITIONS: &str = "
  imagePullSecrets: [{name: acr}, {name: mirror}]
  image: acr.example/runner:7
  podTemplate:
    metadata:
      labels: {team: build}
      annotations: {example.com/owner: build, microsoft.containerinstance.virtualnode.injectkubeproxy: 'true'}
    spec:
      tolerations: [{key: ci, operator: Exists, effect: NoSchedule}]
      volumes: [{name: cache, emptyDir: {}}]
      dnsPolicy: Default
      containers:
      - name: runner
        env: [{name: HTTPS_PROXY, value: 'http://proxy:3128'}]
        volumeMounts: [{name: cache, mountPath: /cache}]
        securityContext: {runAsNonRoot: true}
";

#[test]
fn a_class_adds_to_the_pod_and_replaces_nothing_of_it() {
    is_snapshot("additions.yaml", &built(&order(ADDITIONS, &V2, callback())));
}

#[test]
fn requests_equal_limits() {
    let pod = built(&order("", &CLASSIC, None));
    let resources = pod.spec.unwrap().containers.remove(0).resources.unwrap();
    assert_eq!(resources.requests, resources.limits);
    assert_eq!(resources.limits.unwrap()["memory"].0, "4294967296");
}

#[test]
fn a_pod_has_neither_finalizer_nor_owner() {
    let pod = built(&order(ADDITIONS, &CLASSIC, callback()));
    assert_eq!((pod.metadata.finalizers, pod.metadata.owner_references), (None, None));
}

#[test]
fn the_credential_comes_from_a_volume_that_must_exist_and_from_no_variable() {
    let spec = built(&order("", &CLASSIC, callback())).spec.unwrap();
    let secret = spec.volumes.unwrap().remove(0).secret.unwrap();
    assert_eq!((secret.optional, secret.default_mode), (Some(false), Some(0o400)));
    assert!(spec.containers[0].env.iter().flatten().all(|variable| variable.value_from.is_none()));
    assert_eq!(spec.containers[0].env_from, None);
}

/// A pod without what of its runner's mark depends on its job, and that.
fn without_mark(mut pod: Pod) -> (Pod, Vec<(String, String)>) {
    let mut mark = Vec::new();
    let env = pod.spec.as_mut().unwrap().containers[0].env.as_mut().unwrap();
    env.retain(|variable| {
        let of_job = ["STINT_JOB", "STINT_SCOPE"].contains(&variable.name.as_str());
        if of_job {
            mark.push((variable.name.clone(), variable.value.clone().unwrap_or_default()));
        }
        !of_job
    });
    (pod, mark)
}

/// Everything of a runner that a job, its repository or its owner can choose.
fn told_by_a_job() -> impl Strategy<Value = (JobKey, Scope, Vec<String>, u32)> {
    let text = "[ -~äµ]{0,300}";
    let scope = prop_oneof![text.prop_map(Scope::Owner), text.prop_map(Scope::Repository)];
    (text, 1..99_u32, scope, prop::collection::vec(text, 0..5), 1..99_u32).prop_map(
        |(id, attempt, scope, labels, ordinal)| {
            (JobKey { source: "acme".to_owned(), id, attempt }, scope, labels, ordinal)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_a_job_tells_changes_the_pod_but_for_the_runners_name_and_mark(told in told_by_a_job()) {
        let (job, scope, labels, ordinal) = told;
        let mut order = order(ADDITIONS, &CLASSIC, callback());
        let name = runner_name("prod1", &job, ordinal);
        let (pod, _) = without_mark(built(&order));
        let plain = serde_json::to_string(&pod).unwrap().replace(&order.runner.name, &name);
        order.runner = Runner { name, job, scope, labels, ordinal, ..order.runner };
        let (pod, mark) = without_mark(built(&order));
        prop_assert_eq!(serde_json::to_string(&pod).unwrap(), plain);
        for (variable, value) in mark {
            let fine = |one: char| match variable.as_str() {
                "STINT_JOB" => one.is_ascii_digit() || one == '/',
                _ => one.is_ascii_alphanumeric() || "._-=/:".contains(one),
            };
            prop_assert!(value.chars().all(fine), "{variable}={value}");
        }
    }

    #[test]
    fn names_are_those_that_pods_groups_and_labels_allow(told in told_by_a_job(), installation in "[a-z][a-z0-9]{0,7}") {
        let (job, _, _, ordinal) = told;
        let name = runner_name(&installation, &job, ordinal);
        // A container group is named namespace-pod, in at most 63 characters.
        prop_assert!(name.len() <= 25, "{name}");
        prop_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
        prop_assert!(name.starts_with(|first: char| first.is_ascii_lowercase()));
        prop_assert!(!name.ends_with('-'));
        let mut order = order("", &CLASSIC, None);
        order.runner = Runner { name: name.clone(), job, ..order.runner };
        let pod = built(&order);
        for (_, value) in pod.metadata.labels.unwrap_or_default() {
            prop_assert!(value.len() <= 63, "{value}");
        }
        prop_assert_eq!(pod.metadata.name, Some(name));
        for volume in pod.spec.unwrap().volumes.unwrap_or_default() {
            prop_assert!((5..=63).contains(&volume.name.len()), "{}", volume.name);
        }
    }
}

#[test]
fn a_template_that_is_no_pod_is_an_error_and_no_pod() {
    let mut order = order("", &CLASSIC, None);
    let mut class = (*order.class).clone();
    class.pod_template = Some(json!({"spec": {"volumes": Value::Bool(true)}}));
    order.class = Arc::new(class);
    let error = build(&cluster(), &order).unwrap_err();
    assert!(error.starts_with("podTemplate: "), "{error}");
}
