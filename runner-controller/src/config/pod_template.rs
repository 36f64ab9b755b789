//! What a class's `podTemplate` may say: additions only. Fields that Stint sets are refused by name.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use runner_core::setup::Need;
use serde_json::Value;

use crate::ports::agent;

/// Name of the container that runs the agent.
pub const CONTAINER: &str = "runner";

const METADATA: [&str; 2] = ["labels", "annotations"];
/// Pod fields that do not touch what Stint decides: where the pod runs, how it ends and what it may reach.
const POD: [&str; 11] = [
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];
const IN_CONTAINER: [&str; 5] = ["name", "env", "volumeMounts", "securityContext", "workingDir"];

/// Why a Secret's values may not stand in the environment (read and seen with azure-aci 1.6.4).
const TO_AZURE: &str =
    "on a virtual node the environment reaches Azure in plain text; mount the Secret as a volume instead";

/// Finds the first thing in a `podTemplate` that Stint does not let a class say.
///
/// # Errors
/// The field, and why or what to do instead.
pub fn validate(template: &Value) -> Result<(), String> {
    let top = object(template, "podTemplate")?;
    only(top.keys(), &["metadata", "spec"], "podTemplate")?;
    if let Some(metadata) = top.get("metadata") {
        let metadata = object(metadata, "podTemplate.metadata")?;
        only(metadata.keys(), &METADATA, "podTemplate.metadata")?;
        for field in METADATA {
            let Some(map) = metadata.get(field) else { continue };
            let path = format!("podTemplate.metadata.{field}");
            for key in object(map, &path)?.keys() {
                let ours = key.starts_with("stint.dev/")
                    || key == "cluster-autoscaler.kubernetes.io/safe-to-evict"
                    || key == "karpenter.sh/do-not-disrupt"
                    || key == "app.kubernetes.io/managed-by";
                if ours {
                    return Err(format!("{path}: Stint sets {key} itself; remove it"));
                }
            }
        }
    }
    serde_json::from_value::<PodTemplateSpec>(template.clone())
        .map_err(|error| format!("podTemplate does not have the form of a pod: {error}"))?;
    let Some(spec) = top.get("spec") else { return Ok(()) };
    let spec = object(spec, "podTemplate.spec")?;
    only(spec.keys(), &POD, "podTemplate.spec")?;
    for (index, volume) in listed(spec.get("volumes")).enumerate() {
        let name = text(volume, "name");
        if name.starts_with("stint-") {
            return Err(format!(
                "podTemplate.spec.volumes[{index}].name: names that begin with stint-, as {name}, are Stint's own; rename it"
            ));
        }
    }
    let Some(containers) = spec.get("containers") else { return Ok(()) };
    let containers = containers.as_array().ok_or("podTemplate.spec.containers must be a list")?;
    for (index, container) in containers.iter().enumerate() {
        let path = format!("podTemplate.spec.containers[{index}]");
        let container = object(container, &path)?;
        if container.get("name").and_then(Value::as_str) != Some(CONTAINER) {
            return Err(format!(
                "{path}.name must be {CONTAINER}: a further container would keep the group running, and billed, after the job"
            ));
        }
        if index > 0 {
            return Err(format!("{path}: the container {CONTAINER} stands twice; merge the two"));
        }
        for mount in listed(container.get("volumeMounts")) {
            let at = text(mount, "mountPath");
            if Path::new(at).starts_with(agent::DIRECTORY) || Path::new(agent::DIRECTORY).starts_with(at) {
                return Err(format!(
                    "{path}.volumeMounts: {at:?} would hide {}, where Stint puts the runner's credential; mount it elsewhere",
                    agent::DIRECTORY
                ));
            }
        }
        if container.get("envFrom").is_some() {
            return Err(format!("{path}.envFrom: {TO_AZURE}"));
        }
        only(container.keys(), &IN_CONTAINER, &path)?;
        for variable in listed(container.get("env")) {
            let name = text(variable, "name");
            if variable.pointer("/valueFrom/secretKeyRef").is_some() {
                return Err(format!("{path}.env: {name} is a Secret's value: {TO_AZURE}"));
            }
            if name.starts_with("STINT_") {
                return Err(format!(
                    "{path}.env: Stint sets {name} itself; names that begin with STINT_ are its own"
                ));
            }
        }
    }
    Ok(())
}

/// What a `podTemplate` needs that not every place can give.
pub fn needs(template: &Value) -> BTreeSet<Need> {
    let mut needs = BTreeSet::new();
    for volume in listed(template.pointer("/spec/volumes")) {
        let is = |kind: &str| volume.get(kind).is_some();
        if is("hostPath") {
            needs.insert(Need::Node);
        }
        if ["persistentVolumeClaim", "ephemeral", "csi", "nfs", "azureDisk"].into_iter().any(is) {
            needs.insert(Need::PersistentVolumes);
        }
    }
    let contexts = listed(template.pointer("/spec/containers"))
        .filter_map(|container| container.get("securityContext"))
        .chain(template.pointer("/spec/securityContext"));
    for context in contexts {
        if context.get("privileged").and_then(Value::as_bool) == Some(true) {
            needs.insert(Need::Privileged);
        }
        if context.get("windowsOptions").is_some() {
            needs.insert(Need::Windows);
        }
    }
    needs
}

fn listed(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a serde_json::Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{path} must be an object"))
}

fn only<'a>(keys: impl Iterator<Item = &'a String>, allowed: &[&str], path: &str) -> Result<(), String> {
    for key in keys {
        if !allowed.contains(&key.as_str()) {
            return Err(format!(
                "{path}.{key}: Stint sets this field itself; remove it (allowed: {})",
                allowed.join(", ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Need, needs, validate};

    fn refused(template: serde_json::Value, field: &str) {
        let error = validate(&template).expect_err("refused");
        assert!(error.contains(field), "{error}");
    }

    #[test]
    fn additions_pass() {
        let template = json!({
            "metadata": {"labels": {"team": "build"}, "annotations": {"a/b": "c"}},
            "spec": {
                "volumes": [{"name": "cache", "emptyDir": {}}],
                "containers": [{"name": "runner", "env": [{"name": "HTTPS_PROXY", "value": "http://p"}]}],
            },
        });
        assert_eq!(validate(&template), Ok(()));
    }

    #[test]
    fn what_a_virtual_node_cannot_give_is_found() {
        let check = |template: serde_json::Value, expect: &[Need]| {
            assert_eq!(validate(&template), Ok(()));
            assert_eq!(needs(&template).into_iter().collect::<Vec<_>>(), expect, "{template}");
        };
        let volume = |kind: &str, of: serde_json::Value| {
            let mut volume = json!({"name": "cache"});
            volume.as_object_mut().unwrap().insert(kind.to_owned(), of);
            json!({"spec": {"volumes": [volume]}})
        };
        check(json!({}), &[]);
        check(volume("emptyDir", json!({})), &[]);
        check(volume("hostPath", json!({"path": "/var/run"})), &[Need::Node]);
        check(volume("persistentVolumeClaim", json!({"claimName": "c"})), &[Need::PersistentVolumes]);
        let privileged = json!([{"name": "runner", "securityContext": {"privileged": true}}]);
        check(json!({"spec": {"containers": privileged}}), &[Need::Privileged]);
        let windows = json!({"windowsOptions": {"runAsUserName": "ContainerUser"}});
        check(json!({"spec": {"securityContext": windows}}), &[Need::Windows]);
    }

    #[test]
    fn what_stint_sets_is_refused_by_name() {
        refused(json!({"spec": {"restartPolicy": "Always"}}), "podTemplate.spec.restartPolicy");
        refused(json!({"spec": {"nodeSelector": {}}}), "podTemplate.spec.nodeSelector");
        refused(json!({"spec": {"serviceAccountName": "admin"}}), "podTemplate.spec.serviceAccountName");
        refused(json!({"spec": {"containers": [{"name": "runner", "image": "x"}]}}), "containers[0].image");
        refused(json!({"spec": {"containers": [{"name": "sidecar"}]}}), "containers[0].name");
        refused(
            json!({"spec": {"containers": [{"name": "runner", "env": [{"name": "STINT_RUNNER"}]}]}}),
            "STINT_RUNNER",
        );
        refused(json!({"metadata": {"labels": {"stint.dev/runner": "x"}}}), "stint.dev/runner");
        refused(json!({"metadata": {"name": "x"}}), "podTemplate.metadata.name");
        refused(json!([]), "podTemplate must be an object");
    }

    #[test]
    fn what_would_clash_with_stints_own_is_refused() {
        let container = |fields: serde_json::Value| {
            let mut container = json!({"name": "runner"});
            container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({"spec": {"containers": [container]}})
        };
        let mount = |at: &str| container(json!({"volumeMounts": [{"name": "cache", "mountPath": at}]}));
        refused(json!({"spec": {"volumes": [{"name": "stint-runner", "emptyDir": {}}]}}), "volumes[0].name");
        refused(mount("/run/stint"), "/run/stint");
        refused(mount("/run/stint/more"), "/run/stint/more");
        refused(mount("/run"), "would hide /run/stint");
        assert_eq!(validate(&mount("/run/stints")), Ok(()));
        refused(json!({"spec": {"containers": [{"name": "runner"}, {"name": "runner"}]}}), "stands twice");
    }

    #[test]
    fn what_is_no_pod_is_refused_before_a_runner_is_made_of_it() {
        refused(json!({"spec": {"tolerations": "all"}}), "does not have the form of a pod");
        refused(json!({"metadata": {"labels": {"team": 7}}}), "does not have the form of a pod");
    }
}
