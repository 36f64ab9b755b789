//! The rule about what the pure crate depends on, read from cargo's own view of the dependency graph.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::rules::{CORE, CORE_FORBIDS, CORE_INSTEAD};

/// What is wrong with the pure crate's dependencies, given what `cargo metadata` says.
///
/// # Errors
/// When the metadata does not hold the pure crate or is not what cargo writes.
pub fn core_dependencies(metadata: &Value) -> Result<Vec<String>, String> {
    let names = names_by_id(metadata)?;
    let graph = normal_dependencies(metadata)?;
    let core = names
        .iter()
        .find(|(_, name)| **name == CORE)
        .map(|(id, _)| *id)
        .ok_or_else(|| format!("cargo knows no package {CORE}"))?;

    let mut wrong = Vec::new();
    let mut seen = BTreeSet::from([core]);
    let mut paths = vec![vec![core]];
    while let Some(path) = paths.pop() {
        for dependency in path.last().and_then(|last| graph.get(last)).into_iter().flatten() {
            if !seen.insert(*dependency) {
                continue;
            }
            let mut longer = path.clone();
            longer.push(*dependency);
            if is_forbidden(names.get(dependency).copied().unwrap_or_default()) {
                let chain: Vec<_> = longer.iter().filter_map(|id| names.get(id).copied()).collect();
                wrong.push(format!("{}: {CORE_INSTEAD}", chain.join(" → ")));
            } else {
                paths.push(longer);
            }
        }
    }
    Ok(wrong)
}

fn is_forbidden(name: &str) -> bool {
    CORE_FORBIDS.iter().any(|forbidden| match forbidden.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => name == *forbidden,
    })
}

fn names_by_id(metadata: &Value) -> Result<BTreeMap<&str, &str>, String> {
    array(metadata, "/packages")?
        .iter()
        .map(|package| Ok((text(package, "id")?, text(package, "name")?)))
        .collect()
}

/// For each package, those that its library needs at run time: neither development nor build dependencies.
fn normal_dependencies(metadata: &Value) -> Result<BTreeMap<&str, Vec<&str>>, String> {
    let mut graph = BTreeMap::new();
    for node in array(metadata, "/resolve/nodes")? {
        let mut normal = Vec::new();
        for dependency in array(node, "/deps")? {
            if array(dependency, "/dep_kinds")?.iter().any(|kind| kind["kind"].is_null()) {
                normal.push(text(dependency, "pkg")?);
            }
        }
        graph.insert(text(node, "id")?, normal);
    }
    Ok(graph)
}

fn array<'a>(value: &'a Value, pointer: &str) -> Result<&'a Vec<Value>, String> {
    value.pointer(pointer).and_then(Value::as_array).ok_or_else(|| format!("cargo metadata has no {pointer}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("cargo metadata has no {key}"))
}
