//! Virtual machines and the virtual node together, on the real scheduler. Nothing runs in the pods of the virtual
//! machines, so that GitHub is told what their agents would do.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_azure::Script;
use emulator_github::Conclusion;
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::VmNode;

/// The annotation by which the test bed ends a pod on a virtual machine.
const EXIT_CODE_ANNOTATION: &str = "testbed.stint.dev/exit-code";
const SOON: Duration = Duration::from_secs(30);
pub(super) const VIRTUAL: &str = "virtual-node-aci-linux";

/// One virtual machine with room for one runner, whose pool `vms` the class names in this order.
pub(super) async fn bed(order: [&str; 2]) -> Result<Bed> {
    let options = BedOptions {
        cluster: testbed::Options::default().vm_node(VmNode::new("vm-0", "2", "8Gi").label("pool", "ci")),
        class: json!({
            "resources": {"cpu": "1500m", "memory": "2Gi"}, "maxRunners": 10, "places": {"order": order},
        }),
        ..BedOptions::default()
    };
    let mut bed = Bed::prepare(options).await?;
    let place = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "RunnerPlace",
        "metadata": {"name": "vms", "namespace": NAMESPACE},
        "spec": {"nodePool": {"nodeSelector": {"pool": "ci"}}},
    });
    bed.cluster.apply(&place.to_string())?;
    bed.stint.start()?;
    bed.stint.ready(SOON).await?;
    Ok(bed)
}

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// The runner's pod that runs on the virtual machine.
pub(super) async fn on_the_machine(bed: &Bed) -> Result<String> {
    bed.eventually("a pod to run on the virtual machine", SOON, |bed| {
        let pods = bed.objects("pods")?;
        let runs = pods.iter().find(|pod| {
            text(pod, "/spec/nodeName") == Some("vm-0") && text(pod, "/status/phase") == Some("Running")
        });
        Ok(runs.and_then(|pod| text(pod, "/metadata/name")).map(str::to_owned).ok_or(format!("{pods:?}")))
    })
    .await
}

/// Ends the pod as its agent's end would, unless the agent's call-back has already had it deleted.
pub(super) fn end(bed: &Bed, pod: &str) -> Result<()> {
    if bed
        .cluster
        .kubectl(&["get", "pod", pod, "-n", NAMESPACE, "--ignore-not-found", "-o", "name"])?
        .is_empty()
    {
        return Ok(());
    }
    let annotation = format!("{EXIT_CODE_ANNOTATION}=0");
    let ended = bed.cluster.kubectl(&["annotate", "pod", pod, "-n", NAMESPACE, &annotation]);
    ended
        .map(drop)
        .or_else(|error| if format!("{error:#}").contains("NotFound") { Ok(()) } else { Err(error) })
}

/// When the controller's log says that a runner was reserved at a place.
fn reserved_at(bed: &Bed, job: u64, place: &str) -> Option<Timestamp> {
    let log = bed.stint.log();
    let line =
        log.lines().find(|line| line.contains(&format!("of job acme-{job}-1 is reserved at {place}")))?;
    let line: Value = serde_json::from_str(line).ok()?;
    text(&line, "/timestamp")?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_bursts_to_the_virtual_node_within_a_second_when_the_machines_are_full() -> Result<()> {
    let bed = bed(["vms", VIRTUAL]).await?;
    let first = bed.github.queue_job(bed.job().named("on the machine"))?;
    let pod = on_the_machine(&bed).await?;
    // Nothing runs in pods of these machines: an agent beside them does what theirs would.
    let _agent = bed.agent(&pod)?;
    bed.github.wait_for_job(first, |job| job.started_at.is_some(), SOON).await?;

    let second = bed.github.queue_job(bed.job().named("bursts").lasting(Duration::from_secs(1)))?;
    let (refused, burst) = bed
        .eventually("the second job's runner at the virtual node", SOON, |bed| {
            let both = reserved_at(bed, second, "vms").zip(reserved_at(bed, second, VIRTUAL));
            Ok(both.ok_or_else(|| bed.stint.log_tail()))
        })
        .await?;
    // The scheduler's word came in between. On a quiet machine this takes some 150 ms; a pause of the job's or the
    // place's would take 10 s at least.
    let took = burst.duration_since(refused);
    assert!(
        took.as_secs() < 5,
        "from the reservation at the pool to the one at the virtual node it took {took}"
    );
    bed.github.wait_for_end(second, SOON).await?;

    bed.github.finish_job(first, Conclusion::Success)?;
    bed.github.wait_for_end(first, SOON).await?;
    end(&bed, &pod)?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    // The machine is paid for anyway: only the group has a row, and nothing failed.
    assert_eq!(bed.ledger_equals_meter().await?.len(), 1);
    let status = bed.job_status(second)?.context("no record")?;
    assert_eq!(status.pointer("/failed").and_then(Value::as_u64).unwrap_or(0), 0, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fails_over_to_the_machines_when_azure_has_no_capacity() -> Result<()> {
    let bed = bed([VIRTUAL, "vms"]).await?;
    bed.azure.script(Script::NoCapacity { region: "westeurope".to_owned(), short: true });
    let job = bed.github.queue_job(bed.job().named("fails over").lasting(Duration::from_secs(1)))?;
    let pod = bed
        .eventually("a pod on the machine", Duration::from_secs(60), |bed| {
            let pods = bed.objects("pods")?;
            let there = pods.iter().find(|pod| text(pod, "/spec/nodeName") == Some("vm-0"));
            Ok(there
                .and_then(|pod| text(pod, "/metadata/name"))
                .map(str::to_owned)
                .ok_or(format!("{pods:?}")))
        })
        .await?;
    assert_eq!(on_the_machine(&bed).await?, pod);
    let _agent = bed.agent(&pod)?;
    bed.github.wait_for_end(job, SOON).await?;
    end(&bed, &pod)?;
    bed.nothing_left(Duration::from_secs(60)).await?;
    assert_eq!(bed.ledger().await?.len(), 0);
    let status = bed.job_status(job)?.context("no record")?;
    assert_eq!(status.pointer("/failed").and_then(Value::as_u64).unwrap_or(0), 0, "{status}");
    Ok(())
}
