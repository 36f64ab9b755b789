//! What is there without a record: which of it is this installation's own, and what becomes of it.
//!
//! Records may be lost while what they stood for goes on: an older state of the cluster's store is restored, a namespace
//! is deleted. Whatever carries this installation's [`Mark`] gets its record back, from which the ordinary life of a
//! runner goes on: a busy one is kept, anything else is asked of its source, torn down and billed. A name alone proves
//! nothing: what bears one of ours without our mark is never touched, but [told](Foreign).
//!
//! Looks at what was found and decides; finding and doing are the controller's.

mod foreign;
mod mark;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

pub use self::foreign::{Document, Foreign, Way};
pub use self::mark::{Mark, ORIGIN_LABEL, installation_of, is_name_of, origin_in};

use self::foreign::Sightings;
use crate::labels;
use crate::lifecycle::{GroupFacts, Launched, Registered, Runner, RunnerFact};
use crate::plan::NewRunner;
use crate::setup::{Scope, Setup, saturating_add};

/// How long a registration that nothing stands for is left alone: it may be being made at this moment.
const GRACE: SignedDuration = SignedDuration::from_secs(90);
/// How long a record that is about to be let go may take until its name is looked at again.
const LET_GO: SignedDuration = SignedDuration::from_secs(30);

/// Whose eyes look.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// The configuration, with the installation's id.
    pub setup: &'a Setup,
    /// What tells this installation from any other of the same id.
    pub origin: &'a str,
}

/// A machine that bears a name of this installation's: a pod, a container group, or a pod with its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundMachine {
    /// The runner whose name it bears.
    pub runner: String,
    /// The pod's UID, or the group's resource id where there is no cluster.
    pub uid: String,
    /// Since when it is there, as far as is known.
    pub since: Timestamp,
    /// What its environment says of it.
    pub mark: Option<Mark>,
    /// What was read of its container group, if it has one.
    pub group: Option<GroupFacts>,
    /// The place in whose resource group its container group was found.
    pub place: Option<String>,
}

/// A registration that was found at a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRegistration {
    /// Name of the source.
    pub source: String,
    /// Where it is registered.
    pub scope: Scope,
    /// The source's id of it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Whether it runs a job.
    pub busy: bool,
    /// When it was first found.
    pub first_seen: Timestamp,
}

/// All that was found. What could not be listed is in none of the lists.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Pods and groups.
    pub machines: Vec<FoundMachine>,
    /// Whether every pod and every place's groups could be listed. If not, a registration may have a machine.
    pub all_machines: bool,
    /// Whether every pod could be listed. If not, a credential may be mounted.
    pub all_pods: bool,
    /// Names of runners for which a credential is stored.
    pub credentials: Vec<String>,
    /// Registrations.
    pub registrations: Vec<FoundRegistration>,
}

/// What is on record of a name, before the lists were read or after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// It is reserved: its record is about to be written.
    Reserved,
    /// Its record.
    Recorded(Box<Runner>),
}

/// A runner of which only its machine is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foundling {
    /// What it was started as.
    pub new: NewRunner,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// What is certain of it.
    pub facts: Vec<RunnerFact>,
}

/// What is to be done about something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Write a record again, facts included.
    Adopt(Box<Foundling>),
    /// Add to a record, which an older state has replaced, that its machine was made.
    Complete {
        /// Name of the runner.
        runner: String,
        /// The facts.
        facts: Vec<RunnerFact>,
    },
    /// Delete a credential that no runner will use.
    DeleteCredential {
        /// Name of the runner.
        runner: String,
    },
    /// Delete a registration behind which nothing stands; the source keeps it where it is busy.
    Deregister(FoundRegistration),
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedies {
    /// What to do, records first.
    pub remedies: Vec<Remedy>,
    /// What bears this installation's names, or serves its labels, and is somebody else's.
    pub foreign: Vec<Foreign>,
    /// How many groups bear a name of this installation's, have no record, and are left alone.
    pub left_alone: usize,
    /// When to look again at the latest, if that is known.
    pub again_at: Option<Timestamp>,
}

/// Decides what becomes of everything that was found. `known`: what is on record of a name, not only now but also as it
/// was before anything was listed.
pub fn decide(own: Own<'_>, found: &Findings, known: impl Fn(&str) -> Known, now: Timestamp) -> Remedies {
    let mut decided = Remedies::default();
    let mut sightings = Sightings::new(own);
    let mut with_machine: BTreeSet<&str> = BTreeSet::new();
    let registered = own_registrations(own, &found.registrations);
    // Marked or not: whatever has the name may mount the credential of that name.
    let named: BTreeSet<&str> = found.machines.iter().map(|machine| machine.runner.as_str()).collect();
    for machine in &found.machines {
        let known = known(&machine.runner);
        let Some(mark) = machine.mark.as_ref().filter(|mark| mark.origin == own.origin) else {
            sightings.machine(machine, &known);
            if matches!(known, Known::Nothing) && machine.group.is_some() {
                decided.left_alone += 1;
            }
            continue;
        };
        with_machine.insert(&machine.runner);
        let registration = registered.get(machine.runner.as_str()).copied();
        match known {
            Known::Nothing => {
                let foundling = foundling(own, machine, mark, registration, now);
                decided.remedies.push(Remedy::Adopt(Box::new(foundling)));
            }
            Known::Recorded(runner) if runner.facts.launching.is_none() && !runner.ending() => {
                let facts = launch_facts(machine, mark, registration);
                decided.remedies.push(Remedy::Complete { runner: runner.name, facts });
            }
            // It is about to be let go, or was found gone once: what its machine still is gets a record of its own then.
            Known::Recorded(runner) if runner.facts.launching.is_none() || runner.facts.gone.is_some() => {
                decided.look_again(saturating_add(now, LET_GO));
            }
            // Its record was deleted, and its reservation is about to follow.
            Known::Reserved => decided.look_again(saturating_add(now, LET_GO)),
            Known::Recorded(_) => {}
        }
    }
    for runner in found.credentials.iter().filter(|_| found.all_pods) {
        if matches!(known(runner), Known::Nothing) && !named.contains(runner.as_str()) {
            decided.remedies.push(Remedy::DeleteCredential { runner: runner.clone() });
        }
    }
    for registration in &found.registrations {
        let known = known(&registration.name);
        if !is_own(own, registration) {
            // What was registered before there were origins has a record instead.
            if origin_in(&registration.labels).is_some() || matches!(known, Known::Nothing) {
                sightings.registration(registration);
            }
            continue;
        }
        // Behind what could not be listed there may be a machine, and whoever has one is asked by its record.
        let stray = matches!(known, Known::Nothing)
            && !with_machine.contains(registration.name.as_str())
            && found.all_machines;
        if !stray {
            continue;
        }
        let due = saturating_add(registration.first_seen, GRACE);
        if due <= now && !registration.busy {
            decided.remedies.push(Remedy::Deregister(registration.clone()));
        } else if due > now {
            decided.look_again(due);
        }
    }
    decided.foreign = sightings.foreign();
    decided
}

impl Remedies {
    fn look_again(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |known| known.min(at)));
    }
}

fn is_own(own: Own<'_>, registration: &FoundRegistration) -> bool {
    is_name_of(&own.setup.settings.installation, &registration.name)
        && origin_in(&registration.labels) == Some(own.origin)
}

fn own_registrations<'a>(
    own: Own<'_>,
    all: &'a [FoundRegistration],
) -> BTreeMap<&'a str, &'a FoundRegistration> {
    all.iter().filter(|one| is_own(own, one)).map(|one| (one.name.as_str(), one)).collect()
}

/// What is certain of a machine that is there: it was asked for, hence registered before.
fn launch_facts(
    machine: &FoundMachine,
    mark: &Mark,
    registration: Option<&FoundRegistration>,
) -> Vec<RunnerFact> {
    let at = machine.since;
    let (id, callback_hash) = match (&mark.registration, registration) {
        (Some((id, hash)), _) => (Some(*id), hash.clone()),
        (None, found) => (found.map(|found| found.id), String::new()),
    };
    let registered = id.map(|id| RunnerFact::Registered(Registered { id, callback_hash, at }));
    [RunnerFact::Registering(at)]
        .into_iter()
        .chain(registered)
        .chain([RunnerFact::Launching(at), RunnerFact::Launched(Launched { uid: machine.uid.clone(), at })])
        .chain(machine.group.clone().map(RunnerFact::Group))
        .collect()
}

/// The record of a runner of which only its machine is left.
fn foundling(
    own: Own<'_>,
    machine: &FoundMachine,
    mark: &Mark,
    registration: Option<&FoundRegistration>,
    now: Timestamp,
) -> Foundling {
    let class = own.setup.classes.get(&mark.matched.class);
    let new = NewRunner {
        name: machine.runner.clone(),
        job: mark.job.clone(),
        ordinal: mark.ordinal,
        scope: registration.map_or_else(|| mark.scope.clone(), |found| found.scope.clone()),
        matched: mark.matched.clone(),
        labels: class.map_or_else(
            || vec![mark.matched.label()],
            |class| labels::registered_labels(class, &mark.matched),
        ),
        size: mark.size,
        place: mark.place.clone(),
        kind: mark.kind,
    };
    let mut facts = launch_facts(machine, mark, registration);
    facts.push(RunnerFact::Found(now));
    Foundling { new, created_at: machine.since, facts }
}

#[cfg(test)]
mod tests;
