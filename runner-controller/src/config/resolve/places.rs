//! Places: those that documents name, and one for each virtual node that none of them names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use runner_core::quota::{ChangeRate, Quota};
use runner_core::setup::{Place, PlaceKind, PlaceState, Price};
use rust_decimal::Decimal;

use super::{given, shown_map};
use crate::config::origins::{Collector, From};
use crate::config::place::{
    NodePoolSpec, PriceSpec, QuotaSpec, ScalingSpec, StateSpec, TolerationSpec, VirtualNodeSpec,
};
use crate::config::quantity;
use crate::config::{Documents, Installation, Resolved, ResolvedPlace, RunnerPlaceSpec};
use crate::ports::VirtualNodeSeen;

/// Label values by which AKS documents that pods select a virtual node (classic, then v2), in its order.
const NODE_LABELS: [(&str, &str); 5] = [
    ("kubernetes.io/role", "agent"),
    ("type", "virtual-kubelet"),
    ("virtualization", "virtualnode2"),
    ("kubernetes.io/os", "linux"),
    ("beta.kubernetes.io/os", "linux"),
];

/// Places from documents, then one for each virtual node that no document names.
pub(super) fn resolve(
    resolved: &mut Resolved,
    documents: &Documents,
    nodes: &[VirtualNodeSeen],
    installation: &Installation,
) {
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
            Ok((place, quota)) => resolved.add_place(name, place, quota),
            Err(message) => resolved.problem("RunnerPlace", name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    for node in nodes.iter().filter(|node| !named.contains(node.name.as_str())) {
        if documents.places.contains_key(&node.name) {
            continue;
        }
        let spec =
            RunnerPlaceSpec { virtual_node: Some(VirtualNodeSpec::default()), ..RunnerPlaceSpec::default() };
        let mut origins = Collector::new("RunnerPlace", &node.name);
        match place(&node.name, &spec, Some(node), installation, &mut origins) {
            Ok((place, quota)) => resolved.add_place(&node.name, place, quota),
            Err(message) => resolved.problem("RunnerPlace", &node.name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    for quota in resolved.setup.quotas.values_mut().filter(|quota| quota.changes.is_empty()) {
        quota.changes = ChangeRate::defaults();
    }
}

impl Resolved {
    fn add_place(&mut self, name: &str, place: ResolvedPlace, quota: Option<Quota>) {
        if let (Some(key), Some(quota)) = (&place.place.quota, quota) {
            match self.setup.quotas.get_mut(key) {
                Some(known) => share(known, quota),
                None => {
                    self.setup.quotas.insert(key.clone(), quota);
                }
            }
        }
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
            let names = names.join(", ");
            Err(format!(
                "virtualNode.nodeName is missing: there are several virtual nodes, name one of {names}"
            ))
        }
    }
}

fn place(
    name: &str,
    spec: &RunnerPlaceSpec,
    node: Option<&VirtualNodeSeen>,
    installation: &Installation,
    origins: &mut Collector<'_>,
) -> Result<(ResolvedPlace, Option<Quota>), String> {
    let kind = match (&spec.virtual_node, &spec.container_instances, &spec.node_pool) {
        (Some(_), None, None) => PlaceKind::VirtualNode,
        (None, Some(_), None) => PlaceKind::ContainerInstances,
        (None, None, Some(_)) => PlaceKind::NodePool,
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) | (None, None, None) => {
            return Err("give exactly one of virtualNode, containerInstances and nodePool".to_owned());
        }
    };
    if let Some(wanted) = &spec.virtual_node {
        let found = node.map_or("the only virtual node", |node| node.name.as_str());
        let (name, from) = match &wanted.node_name {
            Some(name) => (name.as_str(), From::Document),
            None => (found, From::Node),
        };
        origins.note("virtualNode.nodeName", name, from);
    }
    let node_selector = match &spec.virtual_node {
        Some(VirtualNodeSpec { node_selector: Some(selector), .. }) => {
            if selector.is_empty() {
                return Err("virtualNode.nodeSelector is empty: any node could take the pods; remove it or name labels \
                            that only the virtual node carries"
                    .to_owned());
            }
            origins.note("virtualNode.nodeSelector", shown_map(selector), From::Document);
            selector.clone()
        }
        Some(VirtualNodeSpec { node_selector: None, .. }) => {
            let selector = node.map(selector_of).unwrap_or_default();
            if let Some(node) = node.filter(|_| selector.is_empty()) {
                return Err(format!(
                    "virtualNode.nodeSelector is missing: node {} carries none of the labels of a virtual node; name \
                     labels that only this node carries",
                    node.name
                ));
            }
            let shown = node.map_or_else(|| "its documented labels".to_owned(), |_| shown_map(&selector));
            origins.note("virtualNode.nodeSelector", shown, From::Node);
            selector
        }
        None => BTreeMap::new(),
    };
    let pool = spec.node_pool.as_ref().map(|pool| node_pool(pool, origins)).transpose()?.unwrap_or_default();
    let callback =
        origins.or_installation("callback", spec.callback.as_ref(), installation.callback.as_ref());
    if let Some(bad) = callback.as_ref().filter(|callback| !is_http(&callback.url)) {
        return Err(format!("callback.url: {:?} is not an HTTP URL: write it as https://HOST", bad.url));
    }
    let state = spec.state.unwrap_or_default();
    origins.note("state", format!("{state:?}"), given(spec.state.is_some()));
    let azure = azure(spec, kind, installation, origins)?;

    let unready = match (kind, node) {
        (PlaceKind::VirtualNode, None) => Some("its virtual node does not exist".to_owned()),
        (PlaceKind::VirtualNode, Some(node)) if !node.ready => {
            Some(format!("node {} is not ready", node.name))
        }
        (PlaceKind::VirtualNode, Some(_)) | (PlaceKind::ContainerInstances, _) => {
            azure.lacks(kind).map(str::to_owned)
        }
        // Whether a node of the pool has room is the scheduler's to say.
        (PlaceKind::NodePool, _) => None,
    };
    let v2 = is_v2(&node_selector) || node.is_some_and(|node| is_v2(&node.labels));
    let resolved = ResolvedPlace {
        place: Place {
            name: name.to_owned(),
            kind,
            state: match state {
                StateSpec::Active => PlaceState::Active,
                StateSpec::Draining => PlaceState::Draining,
                StateSpec::Paused => PlaceState::Paused,
            },
            unready,
            quota: azure.quota_key(),
            price: azure.price,
            burst_after: pool.burst_after,
            v2,
        },
        v2,
        node_selector: if kind == PlaceKind::NodePool { pool.node_selector } else { node_selector },
        tolerations: pool.tolerations,
        subscription: azure.subscription.unwrap_or_default(),
        resource_group: azure.resource_group.unwrap_or_default(),
        region: azure.region.unwrap_or_default(),
        callback,
    };
    Ok((resolved, azure.quota))
}

/// What only container groups need.
#[derive(Default)]
struct Azure {
    subscription: Option<String>,
    resource_group: Option<String>,
    region: Option<String>,
    price: Price,
    /// What may be used of the quota, as far as this place says. None where no group stands behind its runners.
    quota: Option<Quota>,
}

impl Azure {
    /// Which quota its groups come under.
    fn quota_key(&self) -> Option<String> {
        let subscription = self.subscription.as_ref().filter(|_| self.quota.is_some())?;
        let region = self.region.as_deref().unwrap_or_default();
        Some(format!("{subscription}/{region}").to_lowercase())
    }

    /// What is missing for a group to be made or found, with the remedy.
    fn lacks(&self, kind: PlaceKind) -> Option<&'static str> {
        if self.subscription.is_none() {
            Some("no Azure subscription is known: set --azure-subscription or the place's subscription")
        } else if self.resource_group.is_none() {
            Some("no resource group is known: set --azure-resource-group or the place's resourceGroup")
        } else if kind == PlaceKind::ContainerInstances && self.region.is_none() {
            Some("no region is known: set --azure-region or the place's region")
        } else {
            None
        }
    }
}

fn azure(
    spec: &RunnerPlaceSpec,
    kind: PlaceKind,
    installation: &Installation,
    origins: &mut Collector<'_>,
) -> Result<Azure, String> {
    if !kind.has_group() {
        let fields = [
            ("subscription", spec.subscription.is_some()),
            ("resourceGroup", spec.resource_group.is_some()),
            ("region", spec.region.is_some()),
            ("price", spec.price.is_some()),
            ("quota", spec.quota.is_some()),
        ];
        return match fields.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(format!(
                "{field} says nothing of a nodePool: no container group stands behind its runners; remove it"
            )),
            None => Ok(Azure::default()),
        };
    }
    let subscription = origins.or_installation(
        "subscription",
        spec.subscription.as_ref(),
        installation.subscription.as_ref(),
    );
    let resource_group = origins.or_installation(
        "resourceGroup",
        spec.resource_group.as_ref(),
        installation.resource_group.as_ref(),
    );
    let region = origins.or_installation("region", spec.region.as_ref(), installation.region.as_ref());
    let price = price(spec.price.as_ref())?;
    let shown_price =
        format!("{} {} per vCPU-hour, {} per GB-hour", price.currency, price.vcpu_hour, price.gb_hour);
    origins.note("price", shown_price, given(spec.price.is_some()));
    let name = region.clone().or_else(|| subscription.clone()).unwrap_or_default();
    let quota = Some(quota(name, spec.quota.as_ref(), origins)?);
    Ok(Azure { subscription, resource_group, region, price, quota })
}

/// What a place says of its quota. No rates where it says nothing of them: other places there may.
fn quota(name: String, spec: Option<&QuotaSpec>, origins: &mut Collector<'_>) -> Result<Quota, String> {
    let given_spec = spec.cloned().unwrap_or_default();
    let mut changes = Vec::new();
    for (index, rate) in given_spec.changes.iter().enumerate() {
        let per =
            quantity::duration(&rate.per).map_err(|error| format!("quota.changes[{index}].per: {error}"))?;
        changes.push(ChangeRate { count: rate.count.into(), per });
    }
    let standing =
        |of: Option<u32>| of.map_or_else(|| "as Azure says, else 100".to_owned(), |of| of.to_string());
    origins.note("quota.groups", standing(given_spec.groups), given(given_spec.groups.is_some()));
    origins.note("quota.cores", standing(given_spec.cores), given(given_spec.cores.is_some()));
    let rates = if changes.is_empty() { ChangeRate::defaults() } else { changes.clone() };
    let shown: Vec<String> = rates.iter().map(|rate| format!("{} per {:#}", rate.count, rate.per)).collect();
    origins.note("quota.changes", shown.join(", "), given(!changes.is_empty()));
    let (groups, cores) = (given_spec.groups.map(u64::from), given_spec.cores.map(u64::from));
    Ok(Quota { name, groups, cores, changes })
}

/// What two places say of the same quota holds together.
fn share(known: &mut Quota, other: Quota) {
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    known.groups = least(known.groups, other.groups);
    known.cores = least(known.cores, other.cores);
    known.changes.extend(other.changes);
}

/// A node pool, resolved.
#[derive(Default)]
struct Pool {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<TolerationSpec>,
    burst_after: SignedDuration,
}

fn node_pool(spec: &NodePoolSpec, origins: &mut Collector<'_>) -> Result<Pool, String> {
    if spec.node_selector.is_empty() {
        return Err(
            "nodePool.nodeSelector is empty: any node could take the pods; name labels that only the pool's \
                    nodes carry"
                .to_owned(),
        );
    }
    origins.note("nodePool.nodeSelector", shown_map(&spec.node_selector), From::Document);
    let keys: Vec<&str> = spec.tolerations.iter().map(|toleration| toleration.key.as_str()).collect();
    let shown = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    origins.note("nodePool.tolerations", shown, given(!keys.is_empty()));
    let scaling = spec.scaling.unwrap_or_default();
    origins.note("nodePool.scaling", format!("{scaling:?}"), given(spec.scaling.is_some()));
    let burst_after = match (&spec.burst_after, scaling) {
        (Some(text), _) if text == "0s" => SignedDuration::ZERO,
        (Some(text), _) => {
            quantity::duration(text).map_err(|error| format!("nodePool.burstAfter: {error}"))?
        }
        (None, ScalingSpec::Fixed) => SignedDuration::ZERO,
        (None, ScalingSpec::Autoscaled) => SignedDuration::from_mins(2),
    };
    origins.note("nodePool.burstAfter", format!("{burst_after:#}"), given(spec.burst_after.is_some()));
    Ok(Pool { node_selector: spec.node_selector.clone(), tolerations: spec.tolerations.clone(), burst_after })
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

fn is_http(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|host| !host.is_empty()))
}

fn is_v2(labels: &BTreeMap<String, String>) -> bool {
    labels.get("virtualization").is_some_and(|value| value == "virtualnode2")
}

fn price(spec: Option<&PriceSpec>) -> Result<Price, String> {
    let Some(spec) = spec else { return Ok(Price::default()) };
    let amount = |field: &str, text: &str| {
        text.parse::<Decimal>()
            .ok()
            .filter(|amount| !amount.is_sign_negative())
            .ok_or_else(|| format!("price.{field}: {text:?} is not an amount: write it as \"0.0405\""))
    };
    let currency = spec.currency.clone().unwrap_or_else(|| Price::default().currency);
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(format!(
            "price.currency: {currency:?} is not a currency: write its ISO 4217 code, such as USD"
        ));
    }
    Ok(Price {
        currency,
        vcpu_hour: amount("vcpuHour", &spec.vcpu_hour)?,
        gb_hour: amount("gbHour", &spec.gb_hour)?,
    })
}
