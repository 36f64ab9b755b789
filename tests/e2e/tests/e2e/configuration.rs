//! What the API server and the controller make of good and bad documents.

use std::time::Duration;

use anyhow::Result;
use e2e::{Bed, BedOptions, NAMESPACE};
use serde_json::{Value, json};

fn document(kind: &str, name: &str, spec: Value) -> String {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_documents_that_cannot_work_and_says_why() -> Result<()> {
    let bed = Bed::prepare(BedOptions::default()).await?;
    let cases = [
        ("RunnerSource", json!({}), "spec.github is required"),
        ("RunnerSource", json!({"github": {"secretRef": "x"}}), "name at least one owner"),
        ("RunnerSource", json!({"github": {"owners": ["a"]}}), "secretRef"),
        ("RunnerSource", json!({"github": {"repositories": ["a"], "secretRef": "x"}}), "repositories"),
        ("RunnerClass", json!({}), "either resources (one size) or sizes"),
        (
            "RunnerClass",
            json!({"resources": {"cpu": "1", "memory": "1Gi"}, "sizes": {"a": {"cpu": "1", "memory": "1Gi"}}}),
            "either resources (one size) or sizes",
        ),
        ("RunnerPlace", json!({}), "exactly one of virtualNode, containerInstances and nodePool"),
        ("RunnerPlace", json!({"virtualNode": {}, "state": "Gone"}), "state"),
    ];
    for (kind, spec, says) in cases {
        let refused =
            bed.cluster.apply(&document(kind, "bad", spec.clone())).expect_err(&format!("{kind} {spec}"));
        assert!(format!("{refused:#}").contains(says), "{kind} {spec}: {refused:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_only_stint_can_judge_says_beside_itself_what_is_wrong() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    bed.cluster.apply(&document(
        "RunnerClass",
        "lots",
        json!({"resources": {"cpu": "lots", "memory": "1Gi"}}),
    ))?;
    bed.cluster.apply(&document(
        "RunnerClass",
        "template",
        json!({
            "resources": {"cpu": "1", "memory": "1Gi"},
            "podTemplate": {"spec": {"restartPolicy": "Always"}},
        }),
    ))?;
    bed.cluster.apply(&document(
        "RunnerSource",
        "nosecret",
        json!({"github": {"owners": ["other"], "secretRef": "absent"}}),
    ))?;
    for (kind, name, says) in [
        ("runnerclass", "lots", "resources.cpu: \"lots\" is not an amount of CPU"),
        ("runnerclass", "template", "podTemplate.spec.restartPolicy"),
        ("runnersource", "nosecret", "there is no Secret absent"),
    ] {
        bed.eventually(&format!("{kind} {name} to say what is wrong"), Duration::from_secs(30), |bed| {
            let problem = bed.cluster.kubectl(&[
                "get",
                kind,
                name,
                "-n",
                NAMESPACE,
                "-o",
                "jsonpath={.status.problem}",
            ])?;
            Ok(if problem.contains(says) { Ok(()) } else { Err(problem) })
        })
        .await?;
    }
    let good = bed.cluster.kubectl(&[
        "get",
        "runnerclass",
        "stint",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.status.ready}",
    ])?;
    assert_eq!(good, "True");
    let all = bed.cluster.kubectl(&["get", "stint", "-n", NAMESPACE])?;
    assert!(
        all.contains("runnersource.stint.dev/acme") && all.contains("runnerclass.stint.dev/stint"),
        "{all}"
    );
    Ok(())
}
