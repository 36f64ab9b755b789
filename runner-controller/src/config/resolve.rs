//! Documents, flags and nodes → what is in force: every default filled in, every value read, every problem named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use rust_decimal::Decimal;
use runner_core::setup::{Class, Deadlines, Place, PlaceKind, PlaceState, Price, Settings, Setup, Size, Source};

use super::origins::{Collector, From};
use super::place::{PriceSpec, StateSpec, VirtualNodeSpec};
use super::source::PublicRepositories;
use super::{
    DEFAULT_IMAGE, Documents, Installation, Problem, Resolved, ResolvedClass, ResolvedPlace, ResolvedSource,
    RunnerClassSpec, RunnerPlaceSpec, RunnerSourceSpec, pod_template, quantity,
};
use crate::ports::VirtualNodeSeen;

/// Label values by which AKS documents that pods select a virtual node (classic, then v2), in its order.
const NODE_LABELS: [(&str, &str); 5] = [
    ("kubernetes.io/role", "agent"),
    ("type", "virtual-kubelet"),
    ("virtualization", "virtualnode2"),
    ("kubernetes.io/os", "linux"),
    ("beta.kubernetes.io/os", "linux"),
];

/// Resolves the documents. One with a problem is left out and named in `problems`; the others are used.
pub fn resolve(documents: &Documents, nodes: &[VirtualNodeSeen], installation: &Installation) -> Resolved {
    let mut resolved = Resolved {
        setup: Setup {
            settings: Settings {
                installation: installation.id.clone(),
                max_runners: installation.max_runners,
                ..Settings::default()
            },
            ..Setup::default()
        },
        ..Resolved::default()
    };
    for (name, spec) in &documents.sources {
        let mut origins = Collector::new("RunnerSource", name);
        match source(name, spec, &mut origins) {
            Ok((planner, source)) => {
                resolved.setup.sources.insert(name.clone(), planner);
                resolved.sources.insert(name.clone(), Arc::new(source));
            }
            Err(message) => resolved.problem("RunnerSource", name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    for (name, spec) in &documents.classes {
        let mut origins = Collector::new("RunnerClass", name);
        match class(name, spec, &mut origins) {
            Ok((planner, class)) => {
                resolved.setup.classes.insert(name.clone(), planner);
                resolved.classes.insert(name.clone(), Arc::new(class));
            }
            Err(message) => resolved.problem("RunnerClass", name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    places(&mut resolved, documents, nodes, installation);
    let unknown: Vec<(String, String)> = documents
        .classes
        .iter()
        .flat_map(|(name, spec)| spec.places.iter().flat_map(|places| &places.order).map(move |place| (name, place)))
        .filter(|(_, place)| !documents.places.contains_key(*place) && !resolved.setup.places.contains_key(*place))
        .map(|(name, place)| (name.clone(), place.clone()))
        .collect();
    for (name, place) in unknown {
        let message = format!("places.order: there is no place {place}; create a RunnerPlace of that name or correct it");
        resolved.problem("RunnerClass", &name, message);
    }
    resolved
}

impl Resolved {
    fn problem(&mut self, kind: &'static str, name: &str, message: String) {
        self.problems.push(Problem { kind, name: name.to_owned(), message });
    }
}

fn source(
    name: &str,
    spec: &RunnerSourceSpec,
    origins: &mut Collector<'_>,
) -> Result<(Source, ResolvedSource), String> {
    let github = spec.github.as_ref().ok_or("github is missing: it is the only kind of source")?;
    if github.owners.is_empty() && github.repositories.is_empty() {
        return Err("github.owners and github.repositories are both empty: name at least one".to_owned());
    }
    if let Some(bad) = github.repositories.iter().find(|repository| repository.split('/').count() != 2) {
        return Err(format!("github.repositories: {bad:?} is not a repository: write it as owner/name"));
    }
    if github.secret_ref.is_empty() {
        return Err("github.secretRef is missing: name the Secret with appId, privateKey and webhookSecret".to_owned());
    }
    origins.note("github.owners", github.owners.join(", "), From::Document);
    origins.note("github.repositories", github.repositories.join(", "), From::Document);
    origins.note("github.secretRef", &github.secret_ref, From::Document);
    let api_url = origins.or_default("github.apiUrl", github.api_url.as_ref(), "https://api.github.com".to_owned());
    let runner_group_id = origins.or_default("github.runnerGroupId", github.runner_group_id.as_ref(), 1);
    let public = github.public_repositories.unwrap_or_default();
    origins.note("github.publicRepositories", format!("{public:?}"), given(github.public_repositories.is_some()));
    origins.note("github.proxy", shown(github.proxy.as_deref()), given(github.proxy.is_some()));
    let bundle = if github.ca_bundle.is_some() { "set" } else { "none" };
    origins.note("github.caBundle", bundle, given(github.ca_bundle.is_some()));
    let planner = Source {
        name: name.to_owned(),
        unavailable: None,
        allow_public: public == PublicRepositories::Allow,
        owners: github.owners.clone(),
        repositories: github.repositories.clone(),
    };
    let resolved = ResolvedSource {
        name: name.to_owned(),
        api_url,
        secret_ref: github.secret_ref.clone(),
        runner_group_id,
        proxy: github.proxy.clone(),
        ca_bundle: github.ca_bundle.clone(),
        owners: github.owners.clone(),
        repositories: github.repositories.clone(),
    };
    Ok((planner, resolved))
}

fn class(
    name: &str,
    spec: &RunnerClassSpec,
    origins: &mut Collector<'_>,
) -> Result<(Class, ResolvedClass), String> {
    let size = |path: &str, cpu: &str, memory: &str, max_runners| -> Result<Size, String> {
        Ok(Size {
            cpu_millis: quantity::cpu_millis(cpu).map_err(|error| format!("{path}.cpu: {error}"))?,
            memory_bytes: quantity::bytes(memory).map_err(|error| format!("{path}.memory: {error}"))?,
            max_runners,
        })
    };
    let sizes: BTreeMap<String, Size> = match (&spec.resources, spec.sizes.is_empty()) {
        (Some(only), true) => {
            origins.note("resources", format!("cpu {}, memory {}", only.cpu, only.memory), From::Document);
            BTreeMap::from([(String::new(), size("resources", &only.cpu, &only.memory, None)?)])
        }
        (None, false) => {
            let mut sizes = BTreeMap::new();
            for (key, one) in &spec.sizes {
                let path = format!("sizes.{key}");
                if key.is_empty() {
                    return Err("sizes: a size needs a name".to_owned());
                }
                origins.note(&path, format!("cpu {}, memory {}", one.cpu, one.memory), From::Document);
                sizes.insert(key.clone(), size(&path, &one.cpu, &one.memory, one.max_runners)?);
            }
            sizes
        }
        (Some(_), false) => return Err("give either resources (one size) or sizes, not both".to_owned()),
        (None, true) => return Err("give resources (one size) or sizes: a runner needs cpu and memory".to_owned()),
    };
    if let Some(template) = &spec.pod_template {
        pod_template::validate(template)?;
    }
    let max_runners = origins.or_default("maxRunners", spec.max_runners.as_ref(), 10);
    let image = origins.or_default("image", spec.image.as_ref(), DEFAULT_IMAGE.to_owned());
    let max_attempts = origins.or_default("maxAttempts", spec.max_attempts.as_ref(), 3);
    let order = spec.places.as_ref().map(|places| places.order.clone());
    let shown_order = order.as_ref().map_or_else(|| "the only place".to_owned(), |order| order.join(", "));
    origins.note("places.order", shown_order, given(order.is_some()));
    let secrets: Vec<String> = spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect();
    origins.note("imagePullSecrets", shown_list(&secrets), given(!secrets.is_empty()));
    origins.note("labels", shown_list(&spec.labels), given(!spec.labels.is_empty()));
    let template = if spec.pod_template.is_some() { "set" } else { "none" };
    origins.note("podTemplate", template, given(spec.pod_template.is_some()));
    let planner = Class {
        name: name.to_owned(),
        sizes,
        labels: spec.labels.iter().map(|label| label.to_lowercase()).collect(),
        max_runners,
        places: order,
        deadlines: deadlines(spec, origins)?,
        max_attempts,
    };
    let resolved = ResolvedClass {
        name: name.to_owned(),
        image,
        image_pull_secrets: secrets,
        pod_template: spec.pod_template.clone(),
    };
    Ok((planner, resolved))
}

fn deadlines(spec: &RunnerClassSpec, origins: &mut Collector<'_>) -> Result<Deadlines, String> {
    let default = Deadlines::default();
    let given_ones = spec.deadlines.clone().unwrap_or_default();
    let mut one = |field: &str, text: Option<&String>, default: SignedDuration| -> Result<SignedDuration, String> {
        let path = format!("deadlines.{field}");
        let value = match text {
            Some(text) => quantity::duration(text).map_err(|error| format!("{path}: {error}"))?,
            None => default,
        };
        origins.note(path, format!("{value:#}"), given(text.is_some()));
        Ok(value)
    };
    Ok(Deadlines {
        scheduled: one("scheduled", given_ones.scheduled.as_ref(), default.scheduled)?,
        running: one("running", given_ones.running.as_ref(), default.running)?,
        online: one("online", given_ones.online.as_ref(), default.online)?,
        idle: one("idle", given_ones.idle.as_ref(), default.idle)?,
    })
}

/// Places from documents, then one for each virtual node that no document names.
fn places(resolved: &mut Resolved, documents: &Documents, nodes: &[VirtualNodeSeen], installation: &Installation) {
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for (name, spec) in &documents.places {
        let mut origins = Collector::new("RunnerPlace", name);
        let node = match &spec.virtual_node {
            Some(wanted) => find_node(wanted, nodes).inspect(|found| {
                named.extend(wanted.node_name.as_deref());
                named.extend(found.map(|node| node.name.as_str()));
            }),
            None => Ok(None),
        };
        match node.and_then(|node| place(name, spec, node, installation, &mut origins)) {
            Ok(place) => resolved.add_place(name, place),
            Err(message) => resolved.problem("RunnerPlace", name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    for node in nodes.iter().filter(|node| !named.contains(node.name.as_str())) {
        if documents.places.contains_key(&node.name) {
            continue;
        }
        let spec = RunnerPlaceSpec {
            virtual_node: Some(VirtualNodeSpec { node_name: Some(node.name.clone()), node_selector: None }),
            ..RunnerPlaceSpec::default()
        };
        let mut origins = Collector::new("RunnerPlace", &node.name);
        match place(&node.name, &spec, Some(node), installation, &mut origins) {
            Ok(place) => resolved.add_place(&node.name, place),
            Err(message) => resolved.problem("RunnerPlace", &node.name, message),
        }
        resolved.origins.extend(origins.finish());
    }
}

impl Resolved {
    fn add_place(&mut self, name: &str, place: ResolvedPlace) {
        self.setup.places.insert(name.to_owned(), place.place.clone());
        self.places.insert(name.to_owned(), Arc::new(place));
    }
}

fn find_node<'a>(
    wanted: &VirtualNodeSpec,
    nodes: &'a [VirtualNodeSeen],
) -> Result<Option<&'a VirtualNodeSeen>, String> {
    match (&wanted.node_name, nodes) {
        (Some(name), _) => Ok(nodes.iter().find(|node| node.name == *name)),
        (None, [only]) => Ok(Some(only)),
        (None, []) => Ok(None),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|node| node.name.as_str()).collect();
            Err(format!("virtualNode.nodeName is missing: there are several virtual nodes, name one of {}", names.join(", ")))
        }
    }
}

fn place(
    name: &str,
    spec: &RunnerPlaceSpec,
    node: Option<&VirtualNodeSeen>,
    installation: &Installation,
    origins: &mut Collector<'_>,
) -> Result<ResolvedPlace, String> {
    let kind = match (&spec.virtual_node, &spec.container_instances) {
        (Some(_), None) => PlaceKind::VirtualNode,
        (None, Some(_)) => PlaceKind::ContainerInstances,
        (Some(_), Some(_)) | (None, None) => {
            return Err("give exactly one of virtualNode and containerInstances".to_owned());
        }
    };
    let node_selector = match &spec.virtual_node {
        Some(VirtualNodeSpec { node_selector: Some(selector), .. }) => {
            origins.note("virtualNode.nodeSelector", shown_map(selector), From::Document);
            selector.clone()
        }
        Some(VirtualNodeSpec { node_selector: None, .. }) => {
            let selector = node.map(selector_of).unwrap_or_default();
            origins.note("virtualNode.nodeSelector", shown_map(&selector), From::Node);
            selector
        }
        None => BTreeMap::new(),
    };
    let subscription =
        origins.or_installation("subscription", spec.subscription.as_ref(), installation.subscription.as_ref());
    let resource_group =
        origins.or_installation("resourceGroup", spec.resource_group.as_ref(), installation.resource_group.as_ref());
    let region = origins.or_installation("region", spec.region.as_ref(), installation.region.as_ref());
    let callback = origins.or_installation("callback", spec.callback.as_ref(), installation.callback.as_ref());
    let state = spec.state.unwrap_or_default();
    origins.note("state", format!("{state:?}"), given(spec.state.is_some()));
    let price = price(spec.price.as_ref())?;
    let shown_price = format!("{} {} per vCPU-hour, {} per GB-hour", price.currency, price.vcpu_hour, price.gb_hour);
    origins.note("price", shown_price, given(spec.price.is_some()));

    let unready = match (kind, node) {
        (PlaceKind::VirtualNode, None) => Some("its virtual node does not exist".to_owned()),
        (PlaceKind::VirtualNode, Some(node)) if !node.ready => Some(format!("node {} is not ready", node.name)),
        (PlaceKind::VirtualNode, Some(_)) | (PlaceKind::ContainerInstances, _) => {
            if subscription.is_none() {
                Some("no Azure subscription is known: set --azure-subscription or the place's subscription".to_owned())
            } else if resource_group.is_none() {
                Some("no resource group is known: set --azure-resource-group or the place's resourceGroup".to_owned())
            } else if kind == PlaceKind::ContainerInstances && region.is_none() {
                Some("no region is known: set --azure-region or the place's region".to_owned())
            } else {
                None
            }
        }
    };
    Ok(ResolvedPlace {
        place: Place {
            name: name.to_owned(),
            kind,
            state: match state {
                StateSpec::Active => PlaceState::Active,
                StateSpec::Draining => PlaceState::Draining,
                StateSpec::Paused => PlaceState::Paused,
            },
            unready,
            price,
        },
        v2: node_selector.get("virtualization").is_some_and(|value| value == "virtualnode2"),
        node_selector,
        subscription: subscription.unwrap_or_default(),
        resource_group: resource_group.unwrap_or_default(),
        region: region.unwrap_or_default(),
        callback,
    })
}

/// The documented labels that the node carries, and its own name, so that no other node can take the pod.
fn selector_of(node: &VirtualNodeSeen) -> BTreeMap<String, String> {
    let mut selector: BTreeMap<String, String> = NODE_LABELS
        .iter()
        .filter(|(key, value)| node.labels.get(*key).is_some_and(|carried| carried == value))
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    if let Some(name) = node.labels.get("kubernetes.io/hostname") {
        selector.insert("kubernetes.io/hostname".to_owned(), name.clone());
    }
    selector
}

fn price(spec: Option<&PriceSpec>) -> Result<Price, String> {
    let Some(spec) = spec else { return Ok(Price::default()) };
    let amount = |field: &str, text: &str| {
        text.parse::<Decimal>()
            .ok()
            .filter(|amount| !amount.is_sign_negative())
            .ok_or_else(|| format!("price.{field}: {text:?} is not an amount: write it as \"0.0405\""))
    };
    Ok(Price {
        currency: spec.currency.clone().unwrap_or_else(|| "USD".to_owned()),
        vcpu_hour: amount("vcpuHour", &spec.vcpu_hour)?,
        gb_hour: amount("gbHour", &spec.gb_hour)?,
    })
}

fn given(is: bool) -> From {
    if is { From::Document } else { From::Default }
}

fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("none")
}

fn shown_list(values: &[String]) -> String {
    if values.is_empty() { "none".to_owned() } else { values.join(", ") }
}

fn shown_map(values: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    shown_list(&pairs)
}

#[cfg(test)]
mod tests;
