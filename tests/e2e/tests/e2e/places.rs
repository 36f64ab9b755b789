//! Sizes that jobs ask for, and how pods find virtual nodes v2.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_github::JobSpec;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// The runner's pod, once it is there.
async fn pod(bed: &Bed) -> Result<Value> {
    bed.eventually("a runner's pod", SOON, |bed| {
        let pods = bed.objects("pods")?;
        Ok(pods.first().cloned().ok_or(bed.stint.log_tail()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_the_size_that_its_label_asks_for_and_pays_for_that() -> Result<()> {
    let class = json!({
        "resources": {"cpu": "1", "memory": "1Gi"},
        "customSize": {"cpu": {"min": "1", "max": "8"}, "memory": {"min": "1Gi", "max": "16Gi"}},
    });
    let bed = Bed::start(BedOptions { class, ..BedOptions::default() }).await?;
    let refused = bed.github.queue_job(JobSpec::new("acme/app", &["stint/cpu=9/mem=4"]))?;
    let job =
        JobSpec::new("acme/app", &["self-hosted", "stint/cpu=2.5/mem=6"]).lasting(Duration::from_secs(1));
    let id = bed.github.queue_job(job)?;
    let pod = pod(&bed).await?;
    let requests = pod.pointer("/spec/containers/0/resources/requests").context("no requests")?;
    assert_eq!(*requests, json!({"cpu": "2500m", "memory": (6_u64 << 30).to_string()}));
    bed.github.wait_for_end(id, SOON).await?;
    bed.job_stands(refused, "Refused", SOON).await?;
    let why = bed.cli(&["why", &refused.to_string()])?;
    assert!(why.contains("cpu=9 is not between 1 and 8"), "{why}");
    bed.nothing_left(SOON).await?;
    let rows = bed.ledger_equals_meter().await?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_find_a_virtual_node_of_the_second_kind_by_its_own_label_and_keep_sidecars_out() -> Result<()> {
    let mut bed = Bed::prepare(BedOptions::default()).await?;
    let node = "virtual-node-aci-linux";
    // The test bed's node is of the first kind; what tells the kinds apart are its labels.
    bed.cluster.kubectl(&[
        "label",
        "node",
        node,
        "virtualization=virtualnode2",
        "type-",
        "kubernetes.io/role-",
    ])?;
    bed.stint.start()?;
    bed.stint.ready(SOON).await?;
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(1)))?;
    let pod = pod(&bed).await?;
    let at = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
    assert_eq!(at("/spec/nodeSelector/virtualization"), Some("virtualnode2"), "{pod}");
    assert_eq!(pod.pointer("/spec/nodeSelector/type"), None, "{pod}");
    let annotation = "/metadata/annotations/microsoft.containerinstance.virtualnode.injectkubeproxy";
    assert_eq!(at(annotation), Some("false"), "{pod}");
    let tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).context("no tolerations")?;
    let tolerated =
        tolerations.iter().any(|one| one.get("key") == Some(&json!("virtual-kubelet.io/provider")));
    assert!(tolerated, "{tolerations:?}");
    bed.github.wait_for_end(id, SOON).await?;
    assert_eq!(bed.cluster.kubectl(&["get", "runnerplaces", "-n", NAMESPACE, "-o", "name"])?.trim(), "");
    bed.nothing_left(SOON).await
}
