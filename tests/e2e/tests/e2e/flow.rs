//! The main job: from a signed delivery to a confirmed teardown and a bill.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use rust_decimal::Decimal;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_becomes_a_pod_that_runs_and_is_gone_and_billed() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_secs(8)))?;

    bed.job_stands(id, "Running", Duration::from_secs(30)).await?;
    let pods = bed.objects("pods")?;
    let pod = pods.first().context("a pod")?;
    as_the_virtual_node_needs_it(pod)?;
    holds_no_secret(pod)?;
    let runners = bed.cluster.kubectl(&["get", "runners", "-n", NAMESPACE])?;
    let jobs = bed.cluster.kubectl(&["get", "runnerjobs", "-n", NAMESPACE])?;
    reads_well(&jobs, &["Running", "stint", "acme/app"]);
    reads_well(&runners, &["stint", "virtual-node-aci-linux", &format!("acme-{id}-1")]);

    let job = bed.github.wait_for_end(id, Duration::from_secs(30)).await?;
    assert_eq!(job.assignments, 1);
    bed.nothing_left(Duration::from_secs(30)).await?;
    bed.job_stands(id, "Ended", Duration::from_secs(10)).await?;

    let rows = bed.ledger_equals_meter().await?;
    let row = rows.first().context("a row")?;
    assert_eq!(rows.len(), 1);
    assert_eq!((row.started_from.as_str(), row.stopped_from.as_str(), row.bound_seconds), ("arm", "arm", 0));
    assert_eq!((row.vcpu, row.memory_gb), (2, Decimal::new(21, 1)), "1500m and 2Gi, as Azure bills them");
    assert_eq!(row.conclusion.as_deref(), Some("success"));
    assert!(row.seconds >= 8 && row.amount > Decimal::ZERO, "{row:#?}");

    let bill = bed.cli(&["bill"])?;
    assert!(bill.contains(&row.runner) && bill.contains(&row.amount.to_string()), "{bill}");
    let metrics = reqwest::get(format!("{}/metrics", bed.stint.internal_url())).await?.text().await?;
    let counted = |line: &str| metrics.lines().any(|found| found.starts_with(line));
    assert!(
        counted("stint_deliveries_total{source=\"acme\",event=\"workflow_job\"")
            && counted("stint_billed_seconds"),
        "{metrics}"
    );
    Ok(())
}

/// What facts about AKS and azure-aci ask of the pod.
fn as_the_virtual_node_needs_it(pod: &Value) -> Result<()> {
    let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or(Value::Null);
    assert_eq!(at("/spec/nodeSelector/type"), "virtual-kubelet");
    assert_eq!(at("/spec/nodeSelector/kubernetes.io~1role"), "agent");
    assert_eq!(at("/spec/nodeName"), "virtual-node-aci-linux");
    assert_eq!(at("/spec/restartPolicy"), "Never");
    assert_eq!(at("/spec/automountServiceAccountToken"), false);
    assert_eq!(at("/spec/terminationGracePeriodSeconds"), 0);
    assert!(at("/spec/activeDeadlineSeconds").as_i64() > Some(0));
    assert_eq!(at("/spec/containers/0/resources/requests"), at("/spec/containers/0/resources/limits"));
    assert_eq!(at("/metadata/annotations/cluster-autoscaler.kubernetes.io~1safe-to-evict"), "false");
    assert_eq!(at("/metadata/finalizers"), Value::Null);
    assert_eq!(at("/metadata/ownerReferences"), Value::Null);
    let tolerations = at("/spec/tolerations");
    for (key, effect) in [
        ("virtual-kubelet.io/provider", "NoSchedule"),
        ("azure.com/aci", "NoSchedule"),
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    ] {
        let found = tolerations.as_array().into_iter().flatten().find(|toleration| {
            toleration.get("key").and_then(Value::as_str) == Some(key)
                && toleration.get("effect").and_then(Value::as_str) == Some(effect)
        });
        let found = found.with_context(|| format!("no toleration of {key}: {tolerations}"))?;
        assert_eq!(found.get("tolerationSeconds"), None, "{key} is tolerated without a time limit");
    }
    Ok(())
}

/// The credential comes as a Secret volume: what stands in the environment reaches Azure in plain text.
fn holds_no_secret(pod: &Value) -> Result<()> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let secret = volumes.iter().find_map(|volume| volume.get("secret")).context("no Secret volume")?;
    assert_eq!(secret.get("optional"), Some(&Value::Bool(false)));
    let env = pod.pointer("/spec/containers/0/env").and_then(Value::as_array).cloned().unwrap_or_default();
    for variable in &env {
        assert!(variable.get("valueFrom").is_none(), "{variable}");
        let value = variable.get("value").and_then(Value::as_str).unwrap_or_default();
        assert!(value.len() < 200, "as long as a credential: {variable}");
    }
    Ok(())
}

/// One header and one line per object, every word of it shown, nothing wider than a screen.
fn reads_well(table: &str, words: &[&str]) {
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    for word in words {
        assert!(lines.get(1).is_some_and(|line| line.contains(word)), "{word} is missing:\n{table}");
    }
    assert!(lines.iter().all(|line| line.len() <= 160), "too wide:\n{table}");
}
