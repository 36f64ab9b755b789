//! Finding what is there: pods, container groups and credentials. Decides nothing and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::strtime;
use runner_core::setup::{Scope, Setup};
use runner_core::stray::{Findings, FoundMachine, Known, Mark, is_name_of};

use super::scopes::{owners_of_scopes, scopes};
use crate::clock;
use crate::execute::{Outside, as_read};
use crate::observe::View;
use crate::ports::{CallErrorKind, Group, GroupAddress, INSTALLATION_TAG, PodFound, RUNNER_TAG};

/// Tags in which azure-aci keeps what pod a group is made of.
const POD: &str = "PodName";
const NAMESPACE: &str = "Namespace";
const UID: &str = "UID";
const CREATED: &str = "CreationTimestamp";

/// What was found, and what of it could be listed.
pub(super) struct Looked {
    /// Without registrations.
    pub(super) found: Findings,
    /// Every pod, every place's groups as far as it is known where they are, and every credential.
    pub(super) all_own: bool,
    /// Why not every machine may have been found, in a sentence each.
    pub(super) obstacles: BTreeSet<String>,
}

/// A resource group in which groups of this installation's may be.
struct ResourceGroup {
    subscription: String,
    name: String,
    /// The place that stands for it, unless none has its groups there now.
    place: Option<String>,
}

/// What a look needs of what was seen when it began.
pub(super) struct Looking {
    pub(super) setup: Arc<Setup>,
    /// Names that were recorded or reserved.
    known: BTreeSet<String>,
    /// Resource groups by subscription and name in lower case, since Azure's names have none.
    resource_groups: BTreeMap<(String, String), ResourceGroup>,
    /// Places of which it is not known where their groups are.
    unplaced: BTreeSet<String>,
    /// Where runners may be registered.
    pub(super) scopes: BTreeSet<(String, Scope)>,
    /// Owners at whose repositories runners may be registered beside those.
    pub(super) owners: BTreeSet<(String, String)>,
}

impl Looking {
    pub(super) fn of(outside: &Outside, view: &View) -> Self {
        let snapshot = &view.snapshot;
        let recorded = snapshot.runners.iter().map(|runner| runner.name.clone());
        let mut resource_groups = BTreeMap::new();
        let mut unplaced = BTreeSet::new();
        let mut add = |subscription: &str, name: &str, place: Option<&str>| {
            let at = (subscription.to_lowercase(), name.to_lowercase());
            resource_groups.entry(at).or_insert_with(|| ResourceGroup {
                subscription: subscription.to_owned(),
                name: name.to_owned(),
                place: place.map(str::to_owned),
            });
        };
        for place in view.resolved.places.values().filter(|place| place.place.kind.has_group()) {
            if place.subscription.is_empty() || place.resource_group.is_empty() {
                unplaced.insert(place.place.name.clone());
                continue;
            }
            add(&place.subscription, &place.resource_group, Some(&place.place.name));
        }
        // A place may have been changed or deleted since its groups were made.
        for runner in &snapshot.runners {
            let Some(group) = &runner.facts.group else { continue };
            let address = address_of_id(&group.id);
            if !address.subscription.is_empty() && !address.resource_group.is_empty() {
                add(&address.subscription, &address.resource_group, Some(&runner.place));
            }
        }
        let defaults = &outside.installation;
        if let (Some(subscription), Some(name)) = (&defaults.subscription, &defaults.resource_group)
            && !subscription.is_empty()
            && !name.is_empty()
        {
            add(subscription, name, None);
        }
        Self {
            setup: Arc::new(snapshot.setup.clone()),
            known: recorded.chain(snapshot.reserved.iter().cloned()).collect(),
            resource_groups,
            unplaced,
            scopes: scopes(view),
            owners: owners_of_scopes(&snapshot.setup),
        }
    }

    /// What is on record of a name, before anything was listed or now.
    pub(super) fn known(&self, outside: &Outside, name: &str) -> Known {
        match outside.records.runner(name) {
            Some(runner) => Known::Recorded(Box::new(runner)),
            None if self.known.contains(name) || outside.records.is_reserved(name) => Known::Reserved,
            None => Known::Nothing,
        }
    }

    pub(super) fn is_unknown(&self, outside: &Outside, name: &str) -> bool {
        matches!(self.known(outside, name), Known::Nothing)
    }

    /// Every machine and credential that can be found.
    pub(super) async fn find(&self, outside: &Outside) -> Looked {
        let mut found = Findings { all_machines: true, all_pods: true, ..Findings::default() };
        let mut obstacles = BTreeSet::new();
        let mut pods = Vec::new();
        if let Some(adapter) = &outside.pods {
            match adapter.list().await {
                Ok(listed) => pods = listed,
                Err(error) => {
                    obstacles.insert(format!("the pods of runners cannot be listed: {error}"));
                    found.all_machines = false;
                    found.all_pods = false;
                }
            }
        }
        let id = &self.setup.settings.installation;
        found.machines.extend(pods.into_iter().filter(|pod| is_name_of(id, &pod.name)).map(of_pod));
        for ResourceGroup { subscription, name, place } in self.resource_groups.values() {
            match outside.groups.list(subscription, name).await {
                Ok(groups) => {
                    for group in groups {
                        self.add(outside, &mut found, group, place.as_deref()).await;
                    }
                }
                // Where no resource group is, there are no groups either.
                Err(error) if error.kind == CallErrorKind::NotFound => {}
                Err(error) => {
                    let whose = place.as_ref().map(|place| format!(" of place {place}")).unwrap_or_default();
                    obstacles.insert(format!(
                        "the container groups of resource group {name}{whose} cannot be listed: {error}"
                    ));
                    found.all_machines = false;
                }
            }
        }
        let mut all_own = found.all_machines;
        found.all_machines &= self.unplaced.is_empty();
        obstacles.extend(self.unplaced.iter().map(|place| {
            format!(
                "it is not known where place {place} has its container groups: name its subscription and resourceGroup, or \
                 --azure-subscription and --azure-resource-group"
            )
        }));
        match outside.records.credentials().await {
            Ok(names) => found.credentials = names.into_iter().filter(|name| is_name_of(id, name)).collect(),
            Err(error) => {
                all_own = false;
                tracing::warn!(%error, "the credentials of runners cannot be listed: {error}");
            }
        }
        Looked { found, all_own, obstacles }
    }

    /// Adds a group that bears a name of this installation's, to its pod if that was found.
    async fn add(&self, outside: &Outside, found: &mut Findings, group: Group, place: Option<&str>) {
        let Some((runner, uid)) = bearer(outside, &self.setup.settings.installation, &group) else { return };
        let open = match self.known(outside, &runner) {
            Known::Nothing => true,
            Known::Recorded(known) => known.facts.launching.is_none(),
            Known::Reserved => false,
        };
        let mut group = group;
        if open {
            // The list leaves out when its containers ran.
            match outside.groups.get(&address_of(&group)).await {
                Ok(Some(read)) => group = read,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(group = group.id, %error, "group {} cannot be read: {error}", group.id);
                    found.all_machines = false;
                    return;
                }
            }
        }
        let pod = found.machines.iter_mut().find(|machine| machine.runner == runner);
        match pod {
            Some(pod) if pod.uid == uid => {
                pod.group = Some(as_read(&group));
                pod.place = place.map(str::to_owned);
            }
            Some(_) => tracing::warn!(
                group = group.id,
                runner,
                "group {} is of an earlier pod of the name {runner}; it is looked at again when that one is gone",
                group.id
            ),
            None => found.machines.push(FoundMachine {
                since: created(&group).or(group.pull_started).unwrap_or_else(clock::now),
                mark: Mark::read(&group.env),
                group: Some(as_read(&group)),
                place: place.map(str::to_owned),
                runner,
                uid,
            }),
        }
    }
}

fn of_pod(pod: PodFound) -> FoundMachine {
    FoundMachine {
        since: pod.created_at.unwrap_or_else(clock::now),
        mark: Mark::read(&pod.env),
        group: None,
        place: None,
        runner: pod.name,
        uid: pod.uid,
    }
}

/// The runner of this installation whose name a group bears, and the UID that it goes by. Tags decide: of `a-b` and `c`
/// on one hand and `a` and `b-c` on the other, the group's own name tells nothing. It is only asked where there are none.
fn bearer(outside: &Outside, installation: &str, group: &Group) -> Option<(String, String)> {
    let tag = |name: &str| group.tags.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if let Some(runner) = tag(RUNNER_TAG).filter(|_| tag(INSTALLATION_TAG) == Some(installation)) {
        return Some((runner.to_owned(), group.id.clone()));
    }
    match (tag(POD), tag(NAMESPACE)) {
        (Some(pod), Some(namespace)) => {
            let here = outside.pods.as_ref().is_none_or(|pods| pods.namespace() == namespace);
            let uid = tag(UID).unwrap_or(&group.id).to_owned();
            (here && is_name_of(installation, pod)).then(|| (pod.to_owned(), uid))
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => {
            let runner = outside.runner_of(&group.name).filter(|name| is_name_of(installation, name))?;
            Some((runner, group.id.clone()))
        }
    }
}

/// Where a group is that was listed.
fn address_of(group: &Group) -> GroupAddress {
    GroupAddress { name: group.name.clone(), ..address_of_id(&group.id) }
}

fn address_of_id(id: &str) -> GroupAddress {
    let parts: Vec<&str> = id.trim_start_matches('/').split('/').collect();
    let part = |index: usize| parts.get(index).map(|part| (*part).to_owned()).unwrap_or_default();
    GroupAddress { subscription: part(1), resource_group: part(3), name: part(7) }
}

/// When its pod was created, as azure-aci tags it (Go's `2006-01-02 15:04:05.999999999 -0700 MST`).
fn created(group: &Group) -> Option<Timestamp> {
    let text: Vec<&str> = group.tags.get(CREATED)?.split_whitespace().take(3).collect();
    strtime::parse("%Y-%m-%d %H:%M:%S%.f %z", text.join(" ")).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_creation_is_read_as_go_writes_it() {
        for (text, expect) in [
            ("2026-11-24 18:05:49 +0000 UTC", Some("2026-11-24T18:05:49Z")),
            ("2026-11-24 20:05:49.25 +0200 CEST", Some("2026-11-24T18:05:49.25Z")),
            ("yesterday", None),
        ] {
            let tags = BTreeMap::from([(CREATED.to_owned(), text.to_owned())]);
            let group = Group { tags, ..Group::default() };
            assert_eq!(created(&group), expect.map(|text| text.parse().unwrap()), "{text}");
        }
    }
}
