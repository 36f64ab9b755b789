//! The controller's own Kubernetes adapter against the API server in memory.

mod stage;
mod trouble;

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::job::JobAction;
use runner_core::lifecycle::{Launched, RunnerFact};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use stint::ports::{CallErrorKind, Pods, Records, Stored};

use stage::{key, new_runner, order, pods, records, run, runner, server, told, until};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_one_replica_is_told_the_other_sees() {
    run(async {
        let (server, _) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        let queued = told("1", "d1", JobAction::Queued);
        assert_eq!(one.tell(&queued).await.unwrap(), Stored::NewJob);
        assert_eq!(one.tell(&queued).await.unwrap(), Stored::Known);
        until(|| other.knows_job(&key("1"))).await;
        assert_eq!(other.tell(&told("1", "d2", JobAction::Completed)).await.unwrap(), Stored::Added);
        until(|| one.observe().unwrap().jobs[0].facts.len() == 2).await;
        let stored = server.get("RunnerJob", "acme-1-1").unwrap();
        assert_eq!(stored["metadata"]["generation"], 2);
        one.expire(&key("1")).await.unwrap();
        until(|| !other.knows_job(&key("1"))).await;
    });
}

#[test]
fn of_two_that_would_reserve_the_later_one_may() {
    run(async {
        let (server, _) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        one.take_over("a", "ledger", false).await.unwrap();
        one.reserve(&names(&["r1"])).await.unwrap();
        other.take_over("b", "ledger", false).await.unwrap();
        assert!(other.is_reserved("r1"));
        let refused = one.reserve(&names(&["r2"])).await.unwrap_err();
        assert_eq!(refused.kind, CallErrorKind::Conflict);
        other.unreserve(&names(&["r1"])).await.unwrap();
        assert_eq!(server.get("Admission", "default").unwrap()["spec"]["reserved"], json!([]));
    });
}

#[test]
fn an_intent_is_written_by_whoever_has_seen_the_last_state() {
    run(async {
        let (server, script) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        one.create_runner(&new_runner("r1"), stint::clock::now()).await.unwrap();
        until(|| other.runner("r1").is_some()).await;
        script.lags("b", Duration::from_secs(600));
        let intent = [RunnerFact::Registering(stint::clock::now())];
        one.record("r1", &intent).await.unwrap();
        let late = other.record("r1", &intent).await.unwrap_err();
        assert_eq!(late.kind, CallErrorKind::Conflict);
    });
}

#[test]
fn a_released_runner_goes_with_its_finalizer_and_its_secret_after_it() {
    run(async {
        let (server, _) = server();
        let records = records(&server, "a").await;
        let collector = server.clone();
        let collector = tokio::spawn(async move { collector.collect_garbage(Duration::from_secs(20)).await });
        records.create_runner(&new_runner("r1"), stint::clock::now()).await.unwrap();
        let files = BTreeMap::from([("jitconfig".to_owned(), SecretString::from("x"))]);
        records.put_credential("r1", &files).await.unwrap();
        let kept = records.credential("r1").await.unwrap();
        assert_eq!(kept["jitconfig"].expose_secret(), "x");
        records.release("r1").await.unwrap();
        assert_eq!(server.get("Runner", "r1"), None);
        assert!(records.runner("r1").is_none());
        let released = stint::clock::now();
        assert!(server.get("Secret", "r1").is_some());
        until(|| server.get("Secret", "r1").is_none()).await;
        assert_eq!(stint::clock::now().duration_since(released).as_secs(), 20);
        collector.abort();
    });
}

#[test]
fn a_runner_that_somebody_deletes_stays_until_its_finalizer_goes() {
    run(async {
        let (server, _) = server();
        let records = records(&server, "a").await;
        records.create_runner(&new_runner("r1"), stint::clock::now()).await.unwrap();
        let api: kube::Api<stint::config::Runner> = kube::Api::default_namespaced(server.client("person"));
        let answer = api.delete("r1", &kube::api::DeleteParams::default()).await.unwrap();
        assert!(answer.is_left(), "the object that stays is answered");
        until(|| records.runner("r1").is_some_and(|runner| runner.deleted)).await;
        records.release("r1").await.unwrap();
        assert_eq!(server.list("Runner"), Vec::<Value>::new());
    });
}

#[test]
fn pods_are_created_found_seen_and_deleted() {
    run(async {
        let (server, _) = server();
        server.put(
            "Node",
            json!({
                "metadata": {"name": "vn", "labels": {"type": "virtual-kubelet"}},
                "spec": {},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }),
        );
        let pods = pods(&server, "a").await;
        assert!(pods.observe().unwrap().nodes[0].ready);
        let uid = pods.create(&order("r1")).await.unwrap();
        assert!(!pods.observe().unwrap().machines["r1"].scheduled);
        assert_eq!(pods.create(&order("r1")).await.unwrap(), uid, "it is there already");
        server.change("Pod", "r1", |pod| pod["spec"]["nodeName"] = json!("vn"));
        until(|| pods.observe().unwrap().machines["r1"].scheduled).await;
        let mut launched = runner("r1");
        launched.facts.launched = Some(Launched { uid, at: stint::clock::now() });
        pods.delete(&launched).await.unwrap();
        until(|| server.get("Pod", "r1").is_none() && pods.observe().unwrap().machines.is_empty()).await;
    });
}

#[test]
fn a_pod_of_the_same_name_and_another_uid_is_left_alone() {
    run(async {
        let (server, _) = server();
        let pods = pods(&server, "a").await;
        let uid = pods.create(&order("r1")).await.unwrap();
        let mut other = server.get("Pod", "r1").unwrap();
        server.remove("Pod", "r1");
        other["metadata"]["uid"] = json!("another");
        other["spec"]["nodeName"] = json!("vn");
        server.put("Pod", other);
        until(|| pods.observe().unwrap().machines.get("r1").is_some_and(|pod| pod.scheduled)).await;
        let mut launched = runner("r1");
        launched.facts.launched = Some(Launched { uid, at: stint::clock::now() });
        pods.delete(&launched).await.unwrap();
        assert_eq!(server.get("Pod", "r1").unwrap()["metadata"]["uid"], "another");
    });
}

#[test]
fn a_pod_that_got_a_node_meanwhile_is_looked_at_again_before_it_goes() {
    run(async {
        let (server, script) = server();
        let pods = pods(&server, "a").await;
        let uid = pods.create(&order("r1")).await.unwrap();
        script.lags("a", Duration::from_secs(60));
        server.change("Pod", "r1", |pod| pod["spec"]["nodeName"] = json!("vn"));
        let mut launched = runner("r1");
        launched.facts.launched = Some(Launched { uid, at: stint::clock::now() });
        assert_eq!(pods.delete(&launched).await.unwrap_err().kind, CallErrorKind::Conflict);
        until(|| pods.observe().unwrap().machines["r1"].scheduled).await;
        pods.delete(&launched).await.unwrap();
        assert!(server.get("Pod", "r1").is_none());
    });
}

#[test]
fn a_running_pod_has_its_grace_and_its_watch_only_what_it_selects() {
    run(async {
        let (server, _) = server();
        let pods = pods(&server, "a").await;
        server.put(
            "Pod",
            json!({"metadata": {"name": "foreign"}, "spec": {"nodeName": "vn"}, "status": {"phase": "Running"}}),
        );
        pods.create(&order("r1")).await.unwrap();
        server.change("Pod", "r1", |pod| {
            pod["spec"]["nodeName"] = json!("vn");
            pod["status"]["phase"] = json!("Running");
        });
        until(|| pods.observe().unwrap().machines["r1"].scheduled).await;
        assert!(!pods.observe().unwrap().machines.contains_key("foreign"));
        let person: kube::Api<kube::api::DynamicObject> = kube::Api::default_namespaced_with(
            server.client("person"),
            &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "v1", "Pod")),
        );
        person.delete("r1", &kube::api::DeleteParams::default().grace_period(30)).await.unwrap();
        until(|| pods.observe().unwrap().machines["r1"].deleting).await;
        // Without its label it is none of this installation's.
        server.change("Pod", "r1", |pod| pod["metadata"]["labels"] = json!({}));
        until(|| pods.observe().unwrap().machines.is_empty()).await;
    });
}

#[test]
fn long_lists_are_read_page_by_page() {
    run(async {
        let (server, _) = server();
        for number in 0..1234 {
            let record = json!({"metadata": {"name": format!("r{number:04}")}, "spec": {
                "source": "acme", "jobId": "1", "attempt": 1, "jobName": "acme-1-1", "ordinal": 1,
                "class": "stint", "label": "stint", "labels": [], "cpuMillis": 1, "memoryBytes": 1,
                "place": "vn", "placeKind": "VirtualNode", "repository": "acme/web",
            }});
            server.put("Runner", record);
        }
        let records = records(&server, "a").await;
        assert_eq!(records.observe().unwrap().runners.len(), 1234);
    });
}
