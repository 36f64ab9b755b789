//! What the nodes do with pods, and what outages do to the nodes.

use serde_json::{Value, json};
use testbed::{Cluster, Component, Options, User, VirtualNode, VmNode};

use crate::arm::Arm;
use crate::eventually;

fn pod(name: &str, cpu: &str, selector: &Value) -> String {
    let resources =
        json!({"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": {"cpu": cpu, "memory": "1Gi"}});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "nodeSelector": selector,
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [{"name": "c", "image": "example.invalid/image:1", "command": ["x"], "resources": resources}],
        },
    })
    .to_string()
}

fn get(cluster: &Cluster, object: &str) -> Option<Value> {
    let text = cluster.kubectl(&["get", object, "-o", "json", "--ignore-not-found"]).ok()?;
    serde_json::from_str(&text).ok()
}

fn wait_for_phase(cluster: &Cluster, name: &str, phase: &str) -> Value {
    eventually(&format!("pod {name} is {phase}"), || {
        get(cluster, &format!("pod/{name}")).filter(|pod| pod["status"]["phase"] == phase)
    })
}

#[test]
fn vm_nodes_run_what_fits_and_end_it_when_told() {
    let options = Options::default().vm_node(VmNode::new("vm-0", "4", "8Gi").label("pool", "fixed"));
    let cluster = Cluster::start(options).unwrap();
    let selector = json!({"pool": "fixed"});

    cluster.apply(&pod("fits", "3", &selector)).unwrap();
    let fits = wait_for_phase(&cluster, "fits", "Running");
    assert_eq!(fits["spec"]["nodeName"], "vm-0");

    cluster.apply(&pod("fits-not", "3", &selector)).unwrap();
    eventually("the second pod is Unschedulable", || {
        let pod = get(&cluster, "pod/fits-not")?;
        let conditions = pod["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|it| it["type"] == "PodScheduled" && it["reason"] == "Unschedulable")
    });

    cluster.kubectl(&["annotate", "pod", "fits", "testbed.stint.dev/exit-code=3"]).unwrap();
    let ended = wait_for_phase(&cluster, "fits", "Failed");
    assert_eq!(ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    wait_for_phase(&cluster, "fits-not", "Running"); // the ended pod made room
    cluster.kubectl(&["annotate", "pod", "fits-not", "testbed.stint.dev/exit-code=0"]).unwrap();
    wait_for_phase(&cluster, "fits-not", "Succeeded");

    cluster.kubectl(&["delete", "pod", "fits", "fits-not"]).unwrap();
    assert_eq!(cluster.kubectl(&["get", "pods", "-o", "name"]).unwrap(), "");
}

#[test]
fn virtual_nodes_run_pods_as_container_groups_through_outages() {
    let arm = Arm::start();
    let other_arm = Arm::start();
    let options = |arm: &Arm| Options::default().virtual_node(VirtualNode::new(&arm.endpoint));
    let (cluster, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| Cluster::start(options(&other_arm)));
        (Cluster::start(options(&arm)).unwrap(), other.join().unwrap().unwrap())
    });
    let selector = json!({"type": "virtual-kubelet", "kubernetes.io/os": "linux"});

    cluster.apply(&pod("first", "1", &selector)).unwrap();
    wait_for_phase(&cluster, "first", "Running");
    assert_eq!(arm.names(), ["default-first"]);
    assert!(other_arm.names().is_empty(), "the clusters side by side have mixed");
    assert_eq!(other.kubectl(&["get", "pods", "-o", "name"]).unwrap(), "");

    cluster.stop_virtual_node().unwrap();
    assert!(cluster.stop_virtual_node().is_err(), "it does not run");
    cluster.apply(&pod("second", "1", &selector)).unwrap();
    cluster.stop_apiserver().unwrap();
    assert!(cluster.kubectl(&["get", "pods"]).is_err());
    cluster.start_apiserver().unwrap();
    assert_eq!(arm.names(), ["default-first"]);
    cluster.start_virtual_node().unwrap();
    wait_for_phase(&cluster, "second", "Running");

    cluster.kubectl(&["delete", "pod", "first", "second", "--grace-period=0", "--force"]).unwrap();
    eventually("the groups are gone", || arm.names().is_empty().then_some(()));
    let node = Component::VirtualNode("virtual-node-aci-linux".to_owned());
    assert!(cluster.logs(&node).contains("default"), "the log tells what it did");
}

#[test]
fn users_may_do_nothing_but_what_a_role_allows() {
    let user = User { name: "stint".to_owned(), groups: Vec::new() };
    let cluster = Cluster::start(Options::default().user(user)).unwrap();
    let kubeconfig = cluster.kubeconfig_of("stint");
    let may = || cluster.kubectl(&["--kubeconfig", kubeconfig.to_str().unwrap(), "get", "pods"]).is_ok();
    assert!(!may());
    cluster
        .kubectl(&["create", "clusterrolebinding", "stint", "--clusterrole=view", "--user=stint"])
        .unwrap();
    eventually("the binding is known", || may().then_some(()));
}
