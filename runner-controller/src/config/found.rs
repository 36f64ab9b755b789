//! The part of a `Runner` record that was lost and written again: what its machine showed.
//!
//! It stands in the spec, since that and the status of a record are two writes, and one without it would pass for a runner
//! that is yet to be started.

use jiff::Timestamp;
use runner_core::lifecycle::{GroupFacts, Launched, Registered, RunnerFact, RunnerFacts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a runner's machine showed when its record was written again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundRecord {
    /// When that was.
    pub at: Timestamp,
    /// Since when the machine is there.
    pub since: Timestamp,
    /// UID of the pod, or resource id of the group.
    pub uid: String,
    /// Resource id of its container group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The source's id of the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<u64>,
    /// SHA-256 of the token that its call-backs carry, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub callback_hash: String,
}

impl FoundRecord {
    /// What these facts say of a machine that was found.
    pub fn of(facts: &[RunnerFact]) -> Option<Self> {
        let mut all = RunnerFacts::default();
        for fact in facts {
            all.apply(fact.clone());
        }
        let launched = all.launched?;
        Some(Self {
            at: all.found?,
            since: launched.at,
            uid: launched.uid,
            group: all.group.map(|group| group.id),
            registration: all.registered.as_ref().map(|registered| registered.id),
            callback_hash: all.registered.map(|registered| registered.callback_hash).unwrap_or_default(),
        })
    }

    /// Adds what follows from it to what the status tells.
    pub fn add_to(&self, facts: &mut RunnerFacts) {
        let at = self.since;
        facts.apply(RunnerFact::Found(self.at));
        facts.apply(RunnerFact::Registering(at));
        if let Some(id) = self.registration {
            let callback_hash = self.callback_hash.clone();
            facts.apply(RunnerFact::Registered(Registered { id, callback_hash, at }));
        }
        facts.apply(RunnerFact::Launching(at));
        facts.apply(RunnerFact::Launched(Launched { uid: self.uid.clone(), at }));
        if let Some(id) = &self.group {
            let read = facts.group.take().unwrap_or_default();
            facts.group = Some(GroupFacts { id: id.clone(), ..read });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_back_as_facts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let registered = Registered { id: 7, callback_hash: "ab".to_owned(), at: at(1) };
        let group = GroupFacts { id: "/g".to_owned(), ..GroupFacts::default() };
        let facts = [
            RunnerFact::Registering(at(1)),
            RunnerFact::Registered(registered),
            RunnerFact::Launching(at(1)),
            RunnerFact::Launched(Launched { uid: "u".to_owned(), at: at(1) }),
            RunnerFact::Group(group),
            RunnerFact::Found(at(9)),
        ];
        let mut expected = RunnerFacts::default();
        facts.iter().cloned().for_each(|fact| expected.apply(fact));
        let mut read = RunnerFacts::default();
        FoundRecord::of(&facts).unwrap().add_to(&mut read);
        assert_eq!(read, expected);
        assert_eq!(FoundRecord::of(&facts[..5]), None, "it was not found, but made");
    }
}
