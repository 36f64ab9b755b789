//! Where in Azure a runner's container group is. A runner in a node pool has none, and nothing here is asked of it.

use runner_core::lifecycle::Runner;
use runner_core::setup::PlaceKind;

use super::{Outside, StepOrder};
use crate::config::ResolvedPlace;
use crate::ports::GroupAddress;

impl Outside {
    /// Where the group is, with what the installation says where neither record nor place says it.
    pub(super) fn address(&self, order: &StepOrder) -> GroupAddress {
        let mut address = address_of(&order.runner, order.place.as_deref());
        if address.subscription.is_empty() {
            address.subscription = self.installation.subscription.clone().unwrap_or_default();
            address.resource_group = self.installation.resource_group.clone().unwrap_or_default();
        }
        if order.runner.kind == PlaceKind::VirtualNode
            && let Some(pods) = &self.pods
        {
            address.name = pods.group_name(&order.runner.name);
        }
        address
    }
}

/// Where a runner's container group is: as its record says, else as its place says.
pub fn address_of(runner: &Runner, place: Option<&ResolvedPlace>) -> GroupAddress {
    let ids = [
        runner.facts.group.as_ref().map(|group| group.id.as_str()),
        runner.facts.launched.as_ref().map(|launched| launched.uid.as_str()),
    ];
    for id in ids.into_iter().flatten() {
        let parts: Vec<&str> = id.trim_start_matches('/').split('/').collect();
        if let [_, subscription, _, resource_group, _, _, _, name] = parts.as_slice() {
            return GroupAddress {
                subscription: (*subscription).to_owned(),
                resource_group: (*resource_group).to_owned(),
                name: (*name).to_owned(),
            };
        }
    }
    GroupAddress {
        subscription: place.map(|place| place.subscription.clone()).unwrap_or_default(),
        resource_group: place.map(|place| place.resource_group.clone()).unwrap_or_default(),
        name: runner.name.clone(),
    }
}
