//! Observe: everything that a planning pass looks at, from memory.
//!
//! It reads no network and decides nothing.

pub mod group_machines;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use runner_core::budget::Spending;
use runner_core::health::Health;
use runner_core::plan::{Hold, Snapshot};
use runner_core::quota::Changes;
use runner_core::setup::Registrations;

use crate::config::{Documents, Installation, Resolved, resolve};
use crate::ports::{Pods, Records, VirtualNodeSeen};
use group_machines::GroupMachines;

/// Where a pass looks.
pub struct Observer {
    pub(crate) records: Arc<dyn Records>,
    pods: Option<Arc<dyn Pods>>,
    groups: Arc<GroupMachines>,
    installation: Installation,
    /// What was last resolved, and from what: documents and nodes change far less often than anything else.
    resolved: Mutex<Option<Resolution>>,
}

/// Documents and nodes, and what they resolve to.
type Resolution = (Arc<Documents>, Vec<VirtualNodeSeen>, Arc<Resolved>);

/// What a pass sees.
pub struct View {
    /// For the planner.
    pub snapshot: Snapshot,
    /// For execution.
    pub resolved: Arc<Resolved>,
}

impl Observer {
    /// Looks at records and documents, at pods and nodes where there is a cluster, and at groups that Stint creates itself.
    /// `installation`: what documents fall back on.
    pub fn new(
        records: Arc<dyn Records>,
        pods: Option<Arc<dyn Pods>>,
        groups: Arc<GroupMachines>,
        installation: Installation,
    ) -> Self {
        Self { records, pods, groups, installation, resolved: Mutex::default() }
    }

    /// Everything as last seen, or `None` while something has not been read once. `troubles`: sources at which no
    /// runner can register now, and why. `registrations`: how many more those let register that have told.
    pub fn observe(
        &self,
        held: HashMap<String, Hold>,
        troubles: &HashMap<String, String>,
        registrations: &HashMap<String, Registrations>,
    ) -> Option<View> {
        let records = self.records.observe()?;
        let mut machines = self.groups.observe(&records.runners)?;
        let nodes = match &self.pods {
            Some(pods) => {
                let seen = pods.observe()?;
                machines.extend(seen.machines);
                seen.nodes
            }
            None => Vec::new(),
        };
        let mut resolved = (*self.resolution(self.records.documents()?, nodes)).clone();
        for (name, why) in troubles {
            if let Some(source) = resolved.setup.sources.get_mut(name) {
                source.unavailable = Some(why.clone());
            }
        }
        for (name, left) in registrations {
            if let Some(source) = resolved.setup.sources.get_mut(name) {
                source.registrations = Some(*left);
            }
        }
        let snapshot = Snapshot {
            setup: resolved.setup.clone(),
            jobs: records.jobs,
            runners: records.runners,
            machines,
            health: Health::default(),
            changes: Changes::default(),
            azure: HashMap::new(),
            spending: Spending::default(),
            reserved: records.reserved,
            held,
        };
        Some(View { snapshot, resolved: Arc::new(resolved) })
    }

    /// What the documents resolve to, as last seen, or `None` while something has not been read once.
    pub fn resolve(&self) -> Option<Arc<Resolved>> {
        let nodes = match &self.pods {
            Some(pods) => pods.observe()?.nodes,
            None => Vec::new(),
        };
        Some(self.resolution(self.records.documents()?, nodes))
    }

    fn resolution(&self, documents: Arc<Documents>, nodes: Vec<VirtualNodeSeen>) -> Arc<Resolved> {
        let mut known = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, with, resolved)) = &*known
            && *of == documents
            && *with == nodes
        {
            return resolved.clone();
        }
        let resolved = Arc::new(resolve(&documents, &nodes, &self.installation));
        *known = Some((documents, nodes, resolved.clone()));
        resolved
    }

    /// Completes when a pass may see something new.
    pub async fn changed(&self) {
        let pods = async {
            match &self.pods {
                Some(pods) => pods.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.records.changed() => {}
            () = pods => {}
            () = self.groups.changed() => {}
        }
    }
}
