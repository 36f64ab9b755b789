//! The cluster's store put back to a copy.

use testbed::{Cluster, Options};

#[test]
fn a_cluster_put_back_to_a_copy_holds_what_it_held_then_and_goes_on() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let create = |name: &str| cluster.kubectl(&["create", "configmap", name]).unwrap();
    let names = || {
        let names = ["get", "configmap", "-o", "jsonpath={.items[*].metadata.name}"];
        let names = cluster.kubectl(&names).unwrap();
        // Kubernetes keeps one of its own in each namespace.
        names.split(' ').filter(|name| *name != "kube-root-ca.crt").map(str::to_owned).collect::<Vec<_>>()
    };
    create("before");
    cluster.save_store("copy").unwrap();
    create("after");
    cluster.kubectl(&["delete", "configmap", "before"]).unwrap();
    assert_eq!(names(), ["after"]);

    cluster.restore_store("copy").unwrap();
    assert_eq!(names(), ["before"]);
    create("later");
    assert_eq!(names(), ["before", "later"]);
    let error = cluster.restore_store("none").expect_err("there is no such copy");
    assert!(error.to_string().contains("none"), "{error}");
}
