//! The registrations that sources list: which scopes are asked in a round, and what their answers were.
//!
//! Owners are asked in every round. Repositories may be thousands, so a bounded number of them is, in turn. Where a source
//! wants no calls or does not answer, the rest of its scopes is left for a round of its own. Decides nothing about what is
//! found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use runner_core::setup::Scope;
use runner_core::stray::{FoundRegistration, Known, is_name_of, origin_in};

use super::look::Looking;
use super::{AGAIN, EVERY, Memory};
use crate::clock;
use crate::execute::Outside;
use crate::ports::{CallError, CallErrorKind, RegisteredRunner};

/// How many repositories are asked for their registrations in a round.
const REPOSITORIES_A_ROUND: usize = 50;

/// A source and where runners are registered at it.
type At = (String, Scope);

/// What is known of registrations.
#[derive(Default)]
pub(super) struct Registered {
    /// When the next round is due; `None`: at once.
    due: Option<Timestamp>,
    /// Scopes that could not be asked in the last round, and when they are asked again.
    left: BTreeSet<At>,
    again: Option<Timestamp>,
    /// The repositories of owners whose runners may be registered at repositories.
    repositories: BTreeSet<At>,
    /// The repository that was asked last.
    last: Option<At>,
    /// What is registered and may concern people or be a stray, where it was last listed.
    seen: BTreeMap<At, Vec<FoundRegistration>>,
}

impl Registered {
    /// When the next scopes are asked.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.into_iter().chain(self.again).min()
    }

    /// Everything that was found.
    pub(super) fn found(&self) -> Vec<FoundRegistration> {
        self.seen.values().flatten().cloned().collect()
    }

    /// Forgets one that is gone, or busy: the next listing tells of it anew.
    pub(super) fn forget(&mut self, one: &FoundRegistration) {
        if let Some(seen) = self.seen.get_mut(&(one.source.clone(), one.scope.clone())) {
            seen.retain(|known| known.id != one.id);
        }
    }

    /// What is asked now: owners, the next repositories, and what was left. Nothing where nothing is due.
    fn round(&mut self, scopes: &BTreeSet<At>, now: Timestamp) -> Vec<At> {
        let left = if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            std::mem::take(&mut self.left)
        } else {
            BTreeSet::new()
        };
        if self.due.is_some_and(|due| now < due) {
            return left.into_iter().collect();
        }
        self.due = now.saturating_add(EVERY).ok();
        let (owners, repositories): (Vec<&At>, Vec<&At>) =
            scopes.iter().partition(|(_, scope)| matches!(scope, Scope::Owner(_)));
        let repositories: BTreeSet<&At> = repositories.into_iter().chain(&self.repositories).collect();
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<At> = repositories
            .range::<&At, _>((after, Bound::Unbounded))
            .take(REPOSITORIES_A_ROUND)
            .map(|at| (*at).clone())
            .collect();
        let all: BTreeSet<At> = owners.into_iter().cloned().chain(next.iter().cloned()).chain(left).collect();
        self.seen.retain(|at, _| scopes.contains(at) || self.repositories.contains(at));
        // With the last one asked, it begins anew.
        self.last = if next.len() < REPOSITORIES_A_ROUND { None } else { next.last().cloned() };
        all.into_iter().collect()
    }

    /// Whether the owners' repositories are to be listed before the next round: its turn begins with the first one.
    fn begins_a_turn(&self, now: Timestamp) -> bool {
        self.last.is_none() && self.due.is_none_or(|due| due <= now)
    }

    /// Leaves scopes for later.
    fn leave(&mut self, rest: impl IntoIterator<Item = At>, error: &CallError, now: Timestamp) {
        let pause = error.pause().and_then(|pause| SignedDuration::try_from(pause).ok()).unwrap_or(AGAIN);
        let at = now.saturating_add(pause.max(AGAIN)).unwrap_or(Timestamp::MAX);
        self.left.extend(rest);
        self.again = Some(self.again.map_or(at, |known| known.max(at)));
    }

    /// Keeps what a scope lists, as first seen when it was. `matters`: whether it may be told or be a stray.
    fn keep(
        &mut self,
        at: &At,
        listed: Vec<RegisteredRunner>,
        matters: impl Fn(&RegisteredRunner) -> bool,
        now: Timestamp,
    ) {
        let before = self.seen.remove(at).unwrap_or_default();
        let first = |id| before.iter().find(|known| known.id == id).map_or(now, |known| known.first_seen);
        let kept: Vec<FoundRegistration> = listed
            .into_iter()
            .filter(|one| matters(one))
            .map(|one| FoundRegistration {
                source: at.0.clone(),
                scope: at.1.clone(),
                first_seen: first(one.id),
                id: one.id,
                name: one.name,
                labels: one.labels,
                busy: one.busy,
            })
            .collect();
        if !kept.is_empty() {
            self.seen.insert(at.clone(), kept);
        }
    }
}

/// Whether the same source would answer its other scopes no better now.
fn stops_its_source(error: &CallError) -> bool {
    match error.kind {
        CallErrorKind::Throttled(_) | CallErrorKind::Unavailable => true,
        CallErrorKind::NotFound | CallErrorKind::Conflict | CallErrorKind::Refused => false,
    }
}

/// Asks the scopes that are due.
pub(super) async fn ask(outside: &Outside, memory: &Memory, looking: &Looking, origin: &str) {
    if memory.state().registered.begins_a_turn(clock::now()) {
        list_repositories(outside, memory, looking).await;
    }
    let round = memory.state().registered.round(&looking.scopes, clock::now());
    let mut stopped: BTreeMap<String, CallError> = BTreeMap::new();
    for at in round {
        let (source, scope) = &at;
        if let Some(error) = stopped.get(source) {
            memory.state().registered.leave([at.clone()], error, clock::now());
            continue;
        }
        let listed = match outside.sources.provider(source) {
            Ok(provider) => provider.runners(scope).await,
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) => {
                let id = &looking.setup.settings.installation;
                // What has a record is asked by its record.
                let matters = |one: &RegisteredRunner| {
                    let own = is_name_of(id, &one.name) && origin_in(&one.labels) == Some(origin);
                    !own || matches!(looking.known(outside, &one.name), Known::Nothing)
                };
                memory.state().registered.keep(&at, listed, matters, clock::now());
            }
            // Nothing is done on the account of what could not be read.
            Err(error) => {
                tracing::warn!(source, ?scope, %error, "the runners that are registered cannot be listed: {error}");
                if stops_its_source(&error) {
                    memory.state().registered.leave([at.clone()], &error, clock::now());
                    stopped.insert(source.clone(), error);
                }
            }
        }
    }
}

/// Lists the repositories of the owners at whose repositories runners may be registered. Those of an owner that cannot be
/// listed stay as they were known.
async fn list_repositories(outside: &Outside, memory: &Memory, looking: &Looking) {
    let mut stopped = BTreeSet::new();
    let mut repositories = BTreeSet::new();
    let of = |scope: &Scope, owner: &str| {
        matches!(scope, Scope::Repository(name)
            if name.split('/').next().is_some_and(|of| of.eq_ignore_ascii_case(owner)))
    };
    for (source, owner) in &looking.owners {
        let listed = match outside.sources.provider(source) {
            _ if stopped.contains(source) => None,
            Ok(provider) => Some(provider.repositories(owner).await),
            Err(error) => Some(Err(error)),
        };
        if let Some(Ok(all)) = listed {
            repositories
                .extend(all.into_iter().map(|one| (source.clone(), Scope::Repository(one.full_name))));
            continue;
        }
        if let Some(Err(error)) = listed {
            tracing::warn!(source, owner, %error, "the repositories of {owner} cannot be listed: {error}");
            if stops_its_source(&error) {
                stopped.insert(source.clone());
            }
        }
        let state = memory.state();
        let known = state.registered.repositories.iter();
        repositories.extend(known.filter(|(at, scope)| at == source && of(scope, owner)).cloned());
    }
    memory.state().registered.repositories = repositories;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn owner() -> At {
        ("acme".to_owned(), Scope::Owner("acme".to_owned()))
    }

    fn scopes(repositories: usize) -> BTreeSet<At> {
        let repository = |number| ("acme".to_owned(), Scope::Repository(format!("acme/r{number:04}")));
        (0..repositories).map(repository).chain([owner()]).collect()
    }

    #[test]
    fn a_round_asks_every_owner_and_a_bounded_number_of_repositories_in_turn() {
        let all = scopes(120);
        let mut registered = Registered::default();
        let mut asked = BTreeSet::new();
        for (round, count) in [(0, 51), (300, 51), (600, 21)] {
            let now = registered.round(&all, at(round));
            assert!(now.contains(&owner()));
            assert_eq!(now.len(), count);
            asked.extend(now);
            assert_eq!(registered.round(&all, at(round + 30)), [], "not before the next one is due");
        }
        assert_eq!(asked, all);
        assert!(registered.begins_a_turn(at(900)));
        assert_eq!(registered.round(&all, at(900)).len(), 51);
    }

    #[test]
    fn only_what_was_left_is_asked_again_and_not_before_the_source_wants_it() {
        let all = scopes(3);
        let mut registered = Registered::default();
        registered.round(&all, at(0));
        let pause = std::time::Duration::from_secs(60);
        let error = CallError::new(CallErrorKind::Throttled(Some(pause)), "later");
        registered.leave([owner()], &error, at(1));
        assert_eq!(registered.next(), Some(at(61)));
        assert_eq!(registered.round(&all, at(60)), []);
        assert_eq!(registered.round(&all, at(61)), [owner()]);
        assert_eq!((registered.round(&all, at(62)), registered.next()), (vec![], Some(at(300))));
    }

    #[test]
    fn a_registration_keeps_when_it_was_first_seen() {
        let mut registered = Registered::default();
        let runner = |id| RegisteredRunner {
            id,
            name: format!("other-{id}"),
            busy: false,
            online: true,
            labels: Vec::new(),
        };
        registered.keep(&owner(), vec![runner(1), runner(3)], |one| one.id != 3, at(0));
        registered.keep(&owner(), vec![runner(1), runner(2)], |_| true, at(60));
        let seen: Vec<_> = registered.found().iter().map(|one| (one.id, one.first_seen)).collect();
        assert_eq!(seen, [(1, at(0)), (2, at(60))]);
        registered.keep(&owner(), vec![runner(2)], |_| true, at(90));
        assert_eq!(registered.found().len(), 1);
        let one = registered.found().remove(0);
        registered.forget(&one);
        assert!(registered.found().is_empty());
    }
}
