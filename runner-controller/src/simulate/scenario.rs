//! What is simulated: documents and flags resolved to a set-up whose nodes are all there and ready, and the world around
//! it. Reads documents, and simulates nothing.

use std::collections::BTreeMap;
use std::path::Path;

use runner_core::setup::{PlaceKind, Setup};

use super::quota::Quota;
use super::start_model::StartModel;
use crate::config::{Documents, Installation, directory, resolve};
use crate::ports::VirtualNodeSeen;

/// The name of the one virtual node that documents without a place mean: AKS's own.
const ONLY_NODE: &str = "virtual-node-aci-linux";

/// A configuration, and the world in which it is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The configuration.
    pub setup: Setup,
    /// Subscription and region of each place whose runners are container groups.
    pub regions: BTreeMap<String, (String, String)>,
    /// How many runners each node pool has nodes for; one that is not named has as many as it takes.
    pub pools: BTreeMap<String, u32>,
    /// How machines start.
    pub model: StartModel,
    /// Azure's quota, for each subscription and region.
    pub quota: Quota,
    /// What single starts draw from.
    pub seed: u64,
}

impl Scenario {
    /// Reads a directory of documents. Virtual nodes and pools that they name are taken to be there and ready; a name in a
    /// class's order that no document explains is a virtual node; documents without any place mean one virtual node.
    ///
    /// # Errors
    /// What cannot be read, and what keeps the documents from being used, all of it.
    pub fn read(directory: &Path, installation: &Installation) -> anyhow::Result<Self> {
        let (documents, _) = directory::read(directory)?;
        Self::of(documents, installation)
            .map_err(|error| anyhow::anyhow!("{}: {error:#}", directory.display()))
    }

    /// Resolves documents.
    ///
    /// # Errors
    /// What keeps them from being used.
    pub fn of(mut documents: Documents, installation: &Installation) -> anyhow::Result<Self> {
        let nodes = implied_nodes(&mut documents);
        // Without a subscription there would be no quota to keep.
        let subscription = installation.subscription.clone().or_else(|| Some("simulated".to_owned()));
        let installation = &Installation { subscription, ..installation.clone() };
        let mut resolved = resolve(&documents, &nodes, installation);
        if !resolved.problems.is_empty() {
            let lines: Vec<String> = resolved
                .problems
                .iter()
                .map(|problem| format!("{} {}: {}", problem.kind, problem.name, problem.message))
                .collect();
            anyhow::bail!("the documents have problems, which `stint check` shows too: {}", lines.join("; "));
        }
        anyhow::ensure!(
            !resolved.setup.sources.is_empty(),
            "there is no RunnerSource, so no job would be heard of: add one"
        );
        anyhow::ensure!(
            !resolved.setup.classes.is_empty(),
            "there is no RunnerClass, so no job would get a runner: add one"
        );
        for place in resolved.setup.places.values_mut() {
            place.unready = None;
        }
        let regions = resolved
            .places
            .iter()
            .filter(|(_, place)| place.place.kind.has_group())
            .map(|(name, place)| (name.clone(), (place.subscription.clone(), place.region.clone())))
            .collect();
        Ok(Self {
            setup: resolved.setup,
            regions,
            pools: BTreeMap::new(),
            model: StartModel::default(),
            quota: Quota::default(),
            seed: 0,
        })
    }

    /// Limits a node pool, from `NAME=RUNNERS`.
    ///
    /// # Errors
    /// A text of another form, or a name that is no node pool of this configuration.
    pub fn limit_pool(&mut self, text: &str) -> anyhow::Result<()> {
        let (name, runners) = parse_pool(text)?;
        let known = self.setup.places.get(&name).is_some_and(|place| place.kind == PlaceKind::NodePool);
        anyhow::ensure!(
            known,
            "{text:?}: the configuration has no nodePool place {name:?}: correct the name, or add the RunnerPlace"
        );
        self.pools.insert(name, runners);
        Ok(())
    }
}

/// Reads `NAME=RUNNERS`.
fn parse_pool(text: &str) -> anyhow::Result<(String, u32)> {
    text.split_once('=')
        .and_then(|(name, runners)| Some((name.trim().to_owned(), runners.trim().parse().ok()?)))
        .ok_or_else(|| anyhow::anyhow!("{text:?} is not NAME=RUNNERS: write it as vms=20"))
}

/// The nodes that documents mean without describing them. Virtual nodes that documents describe need none.
fn implied_nodes(documents: &mut Documents) -> Vec<VirtualNodeSeen> {
    // Each describes a node of its own, so that what is implied is not taken for it.
    for (name, place) in &mut documents.places {
        if let Some(node) = &mut place.virtual_node {
            node.node_name.get_or_insert_with(|| name.clone());
        }
    }
    let orders = documents.classes.values().filter_map(|class| class.places.as_ref());
    let mut names: Vec<&str> = orders
        .flat_map(|places| places.order.iter().map(String::as_str))
        .filter(|name| !documents.places.contains_key(*name))
        .collect();
    if names.is_empty() && documents.places.is_empty() {
        names.push(ONLY_NODE);
    }
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(node).collect()
}

fn node(name: &str) -> VirtualNodeSeen {
    let labels = [("type", "virtual-kubelet"), ("kubernetes.io/hostname", name)];
    VirtualNodeSeen {
        name: name.to_owned(),
        ready: true,
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        taints: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "kind: RunnerSource
metadata: {name: acme}
spec: {github: {owners: [acme], secretRef: acme-app}}
---
";

    fn scenario(text: &str) -> anyhow::Result<Scenario> {
        let (documents, _) = directory::parse(&format!("{SOURCE}{text}"))?;
        let installation =
            Installation { id: "stint".to_owned(), max_runners: 50, ..Installation::default() };
        Scenario::of(documents, &installation)
    }

    fn class(order: &str) -> String {
        format!(
            "kind: RunnerClass\nmetadata: {{name: stint}}\nspec: {{resources: {{cpu: '2', memory: 4Gi}}, {order}}}\n"
        )
    }

    fn places(text: &str) -> Vec<(String, PlaceKind)> {
        let scenario = scenario(text).unwrap();
        assert!(scenario.setup.places.values().all(|place| place.unready.is_none()));
        scenario.setup.places.values().map(|place| (place.name.clone(), place.kind)).collect()
    }

    #[test]
    fn documents_without_a_place_mean_one_virtual_node() {
        assert_eq!(places(&class("")), [(ONLY_NODE.to_owned(), PlaceKind::VirtualNode)]);
    }

    #[test]
    fn nodes_that_documents_name_are_there() {
        let vms =
            "---\nkind: RunnerPlace\nmetadata: {name: vms}\nspec: {nodePool: {nodeSelector: {pool: ci}}}\n";
        let text = class("places: {order: [vms, vn]}") + vms;
        let expect = [("vms".to_owned(), PlaceKind::NodePool), ("vn".to_owned(), PlaceKind::VirtualNode)];
        assert_eq!(places(&text), expect);
        let own = "---\nkind: RunnerPlace\nmetadata: {name: vn}\nspec: {virtualNode: {}}\n";
        assert_eq!(places(&(text + own)), expect);
    }

    #[test]
    fn what_keeps_documents_from_being_used_is_said() {
        let error = format!("{:#}", scenario("").unwrap_err());
        assert!(error.contains("no RunnerClass"), "{error}");
        let error = format!("{:#}", scenario(&class("places: {order: []}")).unwrap_err());
        assert!(error.contains("spec.places.order"), "{error}");
        let bad = class("").replace("'2'", "lots");
        let error = format!("{:#}", scenario(&bad).unwrap_err());
        assert!(error.contains("RunnerClass stint: resources.cpu") && error.contains("lots"), "{error}");
    }

    #[test]
    fn a_pool_that_is_not_there_is_refused() {
        let vms =
            "---\nkind: RunnerPlace\nmetadata: {name: vms}\nspec: {nodePool: {nodeSelector: {pool: ci}}}\n";
        let mut scenario = scenario(&(class("") + vms)).unwrap();
        scenario.limit_pool("vms=3").unwrap();
        assert_eq!(scenario.pools.get("vms"), Some(&3));
        for (text, word) in [("vm=3", "\"vm\""), ("vms", "NAME=RUNNERS"), ("vms=many", "NAME=RUNNERS")] {
            let error = scenario.limit_pool(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
