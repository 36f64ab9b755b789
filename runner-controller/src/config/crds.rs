//! The CustomResourceDefinitions of all kinds, generated from the API types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{Admission, Budget, ConcurrencyLimit, Runner, RunnerClass, RunnerJob, RunnerPlace, RunnerSource};

/// All CustomResourceDefinitions, in the order in which a reader meets the kinds.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        RunnerSource::crd(),
        RunnerClass::crd(),
        RunnerPlace::crd(),
        ConcurrencyLimit::crd(),
        Budget::crd(),
        RunnerJob::crd(),
        Runner::crd(),
        Admission::crd(),
    ]
}

/// All of them as one YAML stream, as `stint crds` prints it.
///
/// # Errors
/// A definition that does not serialise.
pub fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for crd in all() {
        text.push_str("---\n");
        // By way of JSON, so that absent fields stay absent and keys are in a fixed order.
        text.push_str(&serde_saphyr::to_string(&serde_json::to_value(&crd)?)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}
