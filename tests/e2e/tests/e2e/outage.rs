//! The virtual node or the API server away: for longer than Kubernetes tolerates, and at the moments that count.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_github::Conclusion;
use serde_json::json;

/// After so many seconds without a heartbeat a node is unreachable here; nodes send one every ten. Kubernetes' default is 50.
const UNREACHABLE_AFTER: u64 = 22;
/// So many seconds later Kubernetes evicts pods that say nothing of it here (DefaultTolerationSeconds). Its default is 300.
const TOLERATED: u64 = 5;
/// How long the virtual node is away: long enough for both, and for what Kubernetes adds.
const AWAY: Duration = Duration::from_secs(UNREACHABLE_AFTER + TOLERATED + 18);

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_job_outlives_the_eviction_of_pods_while_its_virtual_node_is_away() -> Result<()> {
    let cluster = testbed::Options {
        apiserver_flags: ["not-ready", "unreachable"]
            .map(|state| format!("--default-{state}-toleration-seconds={TOLERATED}"))
            .into(),
        controller_manager_flags: vec![format!("--node-monitor-grace-period={UNREACHABLE_AFTER}s")],
        ..testbed::Options::default()
    };
    // A second node, always ready: Kubernetes evicts nothing while all nodes of a cluster are unreachable.
    let cluster = cluster.vm_node(testbed::VmNode::new("vm-0", "4", "16Gi"));
    let bed = Bed::start(BedOptions { cluster, ..BedOptions::default() }).await?;
    let id = bed.github.queue_job(bed.job())?;
    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    // A pod of somebody else's on the same node, with the tolerations that everybody gets.
    let control = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "control", "namespace": NAMESPACE},
        "spec": {
            "automountServiceAccountToken": false,
            "nodeSelector": {"type": "virtual-kubelet"},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [{"name": "control", "image": "control", "command": ["sleep", "1000"],
                "resources": {"requests": {"cpu": "1", "memory": "1G"}, "limits": {"cpu": "1", "memory": "1G"}}}],
        },
    });
    bed.cluster.apply(&control.to_string())?;
    bed.eventually("the control pod to run", Duration::from_secs(60), |bed| {
        let phase = bed.cluster.kubectl(&[
            "get",
            "pod",
            "control",
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.status.phase}",
        ])?;
        Ok(if phase == "Running" { Ok(()) } else { Err(phase) })
    })
    .await?;

    let since = tokio::time::Instant::now();
    bed.cluster.stop_virtual_node()?;
    bed.eventually("the control pod to be evicted", AWAY + Duration::from_secs(60), |bed| {
        let pod = bed.cluster.kubectl(&[
            "get",
            "pod",
            "control",
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.metadata.deletionTimestamp}",
            "--ignore-not-found",
        ])?;
        let exists = bed.cluster.kubectl(&[
            "get",
            "pod",
            "control",
            "-n",
            NAMESPACE,
            "--ignore-not-found",
            "-o",
            "name",
        ])?;
        Ok(if exists.is_empty() || !pod.is_empty() { Ok(()) } else { Err("it is there".to_owned()) })
    })
    .await?;
    // The outage is as long as promised, whatever the eviction took.
    tokio::time::sleep_until(since + AWAY).await;
    let pods = bed.cluster.kubectl(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "stint.dev/runner",
        "-o",
        "jsonpath={.items[*].metadata.deletionTimestamp}{.items[*].metadata.name}",
    ])?;
    assert!(pods.starts_with(e2e::INSTALLATION), "the runner's pod is not being deleted: {pods}");
    bed.cluster.start_virtual_node()?;

    let job = bed.github.job(id)?;
    assert!(job.completed_at.is_none(), "the job runs on: {job:?}");
    bed.github.finish_job(id, Conclusion::Success)?;
    bed.github.wait_for_end(id, Duration::from_secs(30)).await?;
    bed.cluster.kubectl(&[
        "delete",
        "pod",
        "control",
        "-n",
        NAMESPACE,
        "--ignore-not-found",
        "--force",
        "--grace-period=0",
    ])?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    let rows = bed.ledger().await?;
    assert_eq!(rows.len(), 1);
    assert!(rows.iter().all(|row| row.conclusion.as_deref() == Some("success")), "{rows:#?}");
    Ok(())
}

/// Kills the virtual node's process and starts it again.
fn restart_virtual_node(bed: &Bed) -> Result<()> {
    tokio::task::block_in_place(|| {
        bed.cluster.stop_virtual_node()?;
        bed.cluster.start_virtual_node()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_node_that_restarts_while_jobs_start_and_end_costs_no_job() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let first = bed.github.queue_job(bed.job().named("starts").lasting(Duration::from_secs(1)))?;
    // Azure makes its group, and nobody has said yet that it runs.
    bed.azure.wait_for("the group", Duration::from_secs(30), |groups| !groups.is_empty()).await?;
    restart_virtual_node(&bed)?;
    bed.github.wait_for_end(first, Duration::from_secs(90)).await?;
    bed.nothing_left(Duration::from_secs(90)).await?;

    let second = bed.github.queue_job(bed.job().named("ends"))?;
    bed.job_stands(second, "Running", Duration::from_secs(60)).await?;
    bed.cluster.stop_virtual_node()?;
    bed.github.finish_job(second, Conclusion::Success)?;
    bed.github.wait_for_end(second, Duration::from_secs(30)).await?;
    // The pod is to be deleted while nobody is there who could delete its group.
    bed.eventually("the pod's deletion", Duration::from_secs(30), |bed| {
        let pods = bed.objects("pods")?;
        let asked = pods.iter().all(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
        Ok(if asked { Ok(()) } else { Err(format!("{pods:?}")) })
    })
    .await?;
    bed.cluster.start_virtual_node()?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    for id in [first, second] {
        let job = bed.github.job(id)?;
        assert_eq!((job.conclusion, job.assignments), (Some(Conclusion::Success), 1), "{job:?}");
        bed.job_stands(id, "Ended", Duration::from_secs(30)).await?;
    }
    assert_eq!(bed.ledger_equals_meter().await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_restarts_costs_no_job() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let running = bed.github.queue_job(bed.job().named("running"))?;
    bed.job_stands(running, "Running", Duration::from_secs(30)).await?;
    bed.cluster.stop_apiserver()?;

    // What cannot be stored is not answered 2xx, so that GitHub shows it as failed and sends it again when asked.
    let told =
        bed.github.queue_job(bed.job().named("told while it is away").lasting(Duration::from_secs(1)))?;
    let failed = bed
        .eventually("the delivery to fail", Duration::from_secs(30), |bed| {
            let delivery = bed.github.deliveries().into_iter().find(|delivery| delivery.job == Some(told));
            Ok(match delivery {
                Some(delivery) if delivery.status_code >= 500 => Ok(delivery),
                other => Err(format!("{other:?}")),
            })
        })
        .await?;
    bed.cluster.start_apiserver()?;
    bed.github.redeliver(failed.id)?;
    bed.github.wait_for_end(told, Duration::from_secs(90)).await?;
    bed.github.finish_job(running, Conclusion::Success)?;
    bed.github.wait_for_end(running, Duration::from_secs(30)).await?;
    bed.nothing_left(Duration::from_secs(120)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 2);
    Ok(())
}
