//! The API server in memory answers the same requests as a real one does.

use std::collections::BTreeMap;
use std::sync::Arc;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use simulation::kubernetes::{ApiServer, Faultless, NAMESPACE};
use testbed::{Cluster, Options};

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// One request: method, path below the namespace, and body. `$version:NAME`, `$uid:NAME` and `$old:NAME` stand for the last
/// version, the UID and the first version that an answer showed of an object.
fn requests() -> Vec<(&'static str, String, Value)> {
    let stint = |path: &str| format!("apis/stint.dev/v1alpha1/namespaces/{NAMESPACE}/{path}");
    let core = |path: &str| format!("api/v1/namespaces/{NAMESPACE}/{path}");
    let (runners, jobs) = (stint("runners"), stint("runnerjobs"));
    let runner = |name: &str, more: Value| {
        let mut object = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "Runner", "metadata": {"name": name},
            "spec": {
                "source": "acme", "jobId": "1", "attempt": 1, "jobName": "acme-1-1", "ordinal": 1, "size": "",
                "class": "stint", "label": "stint", "labels": ["stint"], "cpuMillis": 1, "memoryBytes": 1,
                "place": "vn", "placeKind": "VirtualNode",
            },
            "status": {"state": "dropped"},
        });
        for (field, value) in more.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        object
    };
    let pod = |name: &str, node: &str| {
        let mut spec = json!({
            "containers": [{"name": "runner", "image": "x"}], "tolerations": [{"operator": "Exists"}],
        });
        if !node.is_empty() {
            spec["nodeName"] = json!(node);
        } else {
            spec["schedulerName"] = json!("nobody");
        }
        let labels = json!({"stint.dev/installation": "sim"});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
    };
    let version = |version: &str| json!({"preconditions": {"resourceVersion": version}});
    let uid = |uid: &str| json!({"preconditions": {"uid": uid}});
    let at = |path: &str, name: &str| format!("{path}/{name}");
    let admission = |version: Value, epoch: u32| {
        json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "Admission",
            "metadata": {"name": "default", "resourceVersion": version}, "spec": {"epoch": epoch},
        })
    };
    let event = |count: u32| {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e1", "namespace": NAMESPACE},
            "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Admit", "reason": "R", "type": "Normal",
            "reportingController": "stint.dev/controller", "reportingInstance": "x",
            "regarding": {"kind": "RunnerJob", "namespace": NAMESPACE, "name": "j"},
            "series": if count > 1 { json!({"count": count, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}) } else { Value::Null },
        })
    };
    let owner = json!([{
        "apiVersion": "stint.dev/v1alpha1", "kind": "Runner", "name": "held", "uid": "$uid:held",
    }]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "immutable": true, "stringData": {"a": "text"},
        "metadata": {"name": "s1", "ownerReferences": owner},
    });
    let status = |value: Value| json!({ "status": value });
    vec![
        ("GET", at(&runners, "absent"), Value::Null),
        ("POST", runners.clone(), runner("plain", json!({}))),
        ("POST", runners.clone(), runner("plain", json!({}))),
        (
            "POST",
            runners.clone(),
            runner("held", json!({"finalizers": ["stint.dev/group"], "labels": {"a": "b"}})),
        ),
        ("POST", runners.clone(), runner("versioned", json!({"resourceVersion": "7"}))),
        // The status by itself, and not the rest with it.
        ("PATCH", at(&runners, "plain/status"), json!({"status": {"state": "Set"}, "spec": {"size": "no"}})),
        ("PATCH", at(&runners, "plain/status"), json!({"status": {"state": "Set"}})),
        ("PATCH", at(&runners, "plain"), json!({"status": {"state": "no"}, "spec": {"size": "yes"}})),
        (
            "PATCH",
            at(&runners, "plain/status"),
            json!({"metadata": {"resourceVersion": "$old:plain"}, "status": {"state": "late"}}),
        ),
        (
            "PATCH",
            at(&runners, "plain/status"),
            json!({"metadata": {"resourceVersion": "$version:plain"}, "status": {"state": "swapped"}}),
        ),
        ("PATCH", at(&runners, "plain/status"), status(json!({"state": null}))),
        ("PATCH", at(&runners, "absent/status"), status(json!({"state": "x"}))),
        ("PATCH", at(&runners, "plain"), json!({"metadata": {"uid": "another"}})),
        ("PATCH", at(&runners, "plain"), json!({"metadata": {"name": "another"}})),
        ("DELETE", at(&runners, "plain"), uid("another")),
        ("DELETE", at(&runners, "plain"), version("$old:plain")),
        ("DELETE", at(&runners, "plain"), uid("$uid:plain")),
        ("DELETE", at(&runners, "plain"), Value::Null),
        ("PATCH", at(&runners, "plain"), json!({"metadata": {"finalizers": null}})),
        // Finalizers.
        ("POST", core("secrets"), secret),
        ("GET", core("secrets/s1"), Value::Null),
        ("DELETE", at(&runners, "held"), json!({"propagationPolicy": "Background"})),
        ("DELETE", at(&runners, "held"), json!({"propagationPolicy": "Background"})),
        ("PATCH", at(&runners, "held/status"), status(json!({"state": "Ending"}))),
        ("PATCH", at(&runners, "held"), json!({"metadata": {"finalizers": null}})),
        ("GET", at(&runners, "held"), Value::Null),
        ("DELETE", core("secrets/s1"), Value::Null),
        // Compare and swap.
        ("POST", stint("admissions"), admission(Value::Null, 1)),
        ("PUT", stint("admissions/default"), admission(json!("$version:default"), 2)),
        ("PUT", stint("admissions/default"), admission(json!("$old:default"), 3)),
        ("PUT", stint("admissions/default"), admission(Value::Null, 4)),
        ("PUT", stint("admissions/default"), admission(json!("$version:default"), 2)),
        ("PUT", stint("admissions/absent"), admission(json!("$version:default"), 2)),
        ("PATCH", stint("admissions/default/status"), json!({})),
        // Pods.
        ("POST", core("pods"), pod("waits", "")),
        ("POST", core("pods"), pod("runs", "nowhere")),
        ("POST", core("pods"), pod("runs", "nowhere")),
        ("GET", core("pods?labelSelector=stint.dev%2Finstallation%3Dsim&limit=1"), Value::Null),
        ("GET", core("pods?labelSelector=stint.dev%2Finstallation%3Dother"), Value::Null),
        ("GET", core("pods?fieldSelector=metadata.name%3Druns"), Value::Null),
        ("PATCH", core("pods/runs/status"), status(json!({"phase": "Running"}))),
        (
            "DELETE",
            core("pods/waits"),
            json!({"gracePeriodSeconds": 30, "preconditions": {"uid": "another"}}),
        ),
        ("DELETE", core("pods/waits"), json!({"gracePeriodSeconds": 30})),
        ("GET", core("pods/waits"), Value::Null),
        ("DELETE", core("pods/runs"), json!({"gracePeriodSeconds": 30})),
        ("DELETE", core("pods/runs"), json!({"gracePeriodSeconds": 40})),
        (
            "DELETE",
            core("pods/runs"),
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "$uid:runs"}}),
        ),
        ("GET", core("pods/runs"), Value::Null),
        ("POST", core("pods"), pod("ended", "nowhere")),
        ("PATCH", core("pods/ended/status"), status(json!({"phase": "Succeeded"}))),
        ("DELETE", core("pods/ended"), Value::Null),
        ("GET", core("pods/ended"), Value::Null),
        // Events.
        ("POST", format!("apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"), event(1)),
        ("PATCH", format!("apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events/e1"), event(2)),
        // Places that are not there.
        ("POST", "apis/stint.dev/v1alpha1/namespaces/absent/runners".to_owned(), runner("x", json!({}))),
        ("GET", "apis/stint.dev/v1alpha1/namespaces/absent/runners".to_owned(), Value::Null),
        ("GET", at(&jobs, "x/unknown"), Value::Null),
        ("GET", format!("{jobs}?continue=unknown&limit=1"), Value::Null),
    ]
}

/// What both servers must agree on of an answer.
fn common(code: u16, answer: &Value) -> Value {
    if answer["kind"] == "Status" {
        return json!({"code": code, "status": answer["status"], "reason": answer["reason"]});
    }
    if let Some(items) = answer["items"].as_array() {
        let names: Vec<_> = items.iter().map(|item| &item["metadata"]["name"]).collect();
        return json!({"code": code, "names": names, "more": answer["metadata"]["continue"].as_str().is_some_and(|token| !token.is_empty())});
    }
    let meta = &answer["metadata"];
    let kept = ["name", "namespace", "labels", "finalizers", "generation", "deletionGracePeriodSeconds"];
    let kept: BTreeMap<_, _> = kept.iter().map(|field| (*field, meta[*field].clone())).collect();
    json!({
        "code": code, "meta": kept, "kind": answer["kind"], "deleting": meta["deletionTimestamp"].is_string(),
        "state": answer["status"]["state"], "phase": answer["status"]["phase"], "size": answer["spec"]["size"],
        "epoch": answer["spec"]["epoch"], "data": answer["data"], "clear": answer["stringData"],
        "series": answer["series"]["count"],
    })
}

#[derive(Default)]
struct Known {
    uid: String,
    old: String,
    version: String,
}

fn fill(value: &mut Value, known: &BTreeMap<String, Known>) {
    match value {
        Value::String(text) => {
            let Some((what, name)) = text.strip_prefix('$').and_then(|text| text.split_once(':')) else {
                return;
            };
            let known = &known[name];
            *text = match what {
                "uid" => known.uid.clone(),
                "old" => known.old.clone(),
                _ => known.version.clone(),
            };
        }
        Value::Array(all) => all.iter_mut().for_each(|value| fill(value, known)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a server answers, and then shows to a watch from the beginning.
async fn outcomes(client: &Client) -> Vec<Value> {
    let mut known = BTreeMap::<String, Known>::new();
    let mut outcomes = Vec::new();
    let runners = format!("/apis/stint.dev/v1alpha1/namespaces/{NAMESPACE}/runners");
    let (_, before) = send(client, "GET", &runners, Value::Null).await;
    for (method, path, mut body) in requests() {
        fill(&mut body, &known);
        let (code, answer) = send(client, method, &format!("/{path}"), body).await;
        let meta = &answer["metadata"];
        if let (Some(name), Some(version), Some(uid)) =
            (meta["name"].as_str(), meta["resourceVersion"].as_str(), meta["uid"].as_str())
        {
            let known = known.entry(name.to_owned()).or_default();
            if known.uid != uid {
                *known = Known { uid: uid.to_owned(), old: version.to_owned(), version: String::new() };
            }
            let order = (known.version.parse::<u64>().unwrap_or(0), version.parse::<u64>().unwrap());
            known.version = version.to_owned();
            outcomes.push(json!([method, path, common(code, &answer), {"version": format!("{:?}", order.1.cmp(&order.0))}]));
        } else {
            outcomes.push(json!([method, path, common(code, &answer)]));
        }
    }
    let from = before["metadata"]["resourceVersion"].as_str().unwrap();
    for path in [runners, format!("/api/v1/namespaces/{NAMESPACE}/pods")] {
        let path = format!("{path}?watch=true&timeoutSeconds=2&resourceVersion={from}");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let events = client.request_text(request).await.unwrap();
        for event in events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if event["type"] != "BOOKMARK" {
                outcomes.push(json!([event["type"], common(0, &event["object"])]));
            }
        }
    }
    outcomes
}

async fn send(client: &Client, method: &str, path: &str, body: Value) -> (u16, Value) {
    let content = if method == "PATCH" { MERGE } else { JSON };
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content);
    let answer = client.send(request.body(Body::from(bytes)).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[test]
fn the_same_requests_have_the_same_outcome_on_a_real_server() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.apply(include_str!("../../../../docs/install/crds.yaml")).unwrap();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
    let established = "--for=condition=Established";
    for kind in ["runners", "runnerjobs", "admissions"] {
        cluster.kubectl(&["wait", established, "--timeout=20s", &format!("crd/{kind}.stint.dev")]).unwrap();
    }
    cluster
        .kubectl(&["wait", "--for=create", "--timeout=20s", "-n", NAMESPACE, "serviceaccount/default"])
        .unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let real = runtime.block_on(async {
        let file = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        outcomes(&Client::try_from(config).unwrap()).await
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let simulated = runtime.block_on(async {
        let server = ApiServer::new(Arc::new(Faultless), Arc::new(Faultless));
        outcomes(&server.client("test")).await
    });
    let differences: Vec<_> = real
        .iter()
        .zip(&simulated)
        .filter(|(real, simulated)| real != simulated)
        .map(|(real, simulated)| format!("real      {real}\nsimulated {simulated}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert_eq!(real.len(), simulated.len());
}
