//! Strays: what is there without a record is looked for, and gets its record back or goes.
//!
//! Right after a replica has begun to act, and every few minutes. Until the first look is over nothing new is started, since
//! a restored state of the records makes the names of runners again that are there already. What becomes of what is found is
//! decided by [`runner_core::stray`]; how it is found is [`look`]'s.

mod look;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use runner_core::isolation::Isolation;
use runner_core::lifecycle::Step;
use runner_core::plan::Action;
use runner_core::setup::{Scope, Setup};
use runner_core::stray::{Foreign, Own, Remedy, decide};
use tokio::sync::Notify;

use self::look::{Looked, Looking};
use crate::clock;
use crate::config::Problem;
use crate::execute::Outside;
use crate::observe::View;
use crate::ports::{CallResult, Deregistered};

/// How often.
const EVERY: SignedDuration = SignedDuration::from_mins(5);
/// When again, where something could not be looked at.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// For how long the first look may keep new runners from being started.
const FIRST_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// The looking for strays of the replica that acts.
#[derive(Default)]
pub(super) struct Strays {
    memory: Arc<Memory>,
}

#[derive(Default)]
struct Memory {
    state: Mutex<State>,
    /// Told when a look has ended.
    looked: Notify,
}

#[derive(Default)]
struct State {
    /// When this replica began to act.
    began: Option<Timestamp>,
    /// When the next look is due; `None`: at once.
    due: Option<Timestamp>,
    under_way: bool,
    /// Whether every machine was looked at since this replica began to act.
    all_seen: bool,
    /// When each registration without a record was first seen, by source and id.
    first_seen: HashMap<(String, u64), Timestamp>,
    /// What is in this installation's way.
    foreign: Vec<Foreign>,
    /// Groups that were told of.
    told: BTreeSet<String>,
}

impl Strays {
    /// Forgets what an earlier time of acting has seen.
    pub(super) fn begin(&self, now: Timestamp) {
        let mut state = self.memory.state();
        state.began = Some(now);
        state.due = None;
        state.all_seen = false;
    }

    /// Until when nothing new may be started, if it is so.
    pub(super) fn hold_until(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.memory.state();
        let until = state.began?.saturating_add(FIRST_WITHIN).ok()?;
        (!state.all_seen && now < until).then_some(until)
    }

    /// Completes when a look has ended.
    pub(super) async fn looked(&self) {
        self.memory.looked.notified().await;
    }

    /// What people should know of sources and places.
    pub(super) fn advisories(&self) -> Vec<Problem> {
        let state = self.memory.state();
        let problem = |foreign: &Foreign| Problem {
            kind: foreign.document.as_str(),
            name: foreign.name.clone(),
            message: foreign.to_string(),
        };
        state.foreign.iter().map(problem).collect()
    }

    /// Begins a look that is due; it goes on beside the loop. Answers when the next one is due.
    pub(super) fn keep(&self, outside: &Arc<Outside>, view: &View, now: Timestamp) -> Option<Timestamp> {
        {
            let mut state = self.memory.state();
            if state.under_way {
                return None;
            }
            if let Some(due) = state.due.filter(|due| now < *due) {
                return Some(due);
            }
            state.under_way = true;
        }
        let (outside, memory) = (outside.clone(), self.memory.clone());
        let looking = Looking::of(view);
        tokio::spawn(async move {
            let guard = UnderWay(memory.clone());
            let next = look(&outside, &memory, &looking).await;
            memory.state().due = clock::now().saturating_add(next).ok();
            drop(guard);
        });
        None
    }
}

/// Whether an action makes something under a name that may be in use.
pub(super) fn begins(action: &Action) -> bool {
    match action {
        Action::Start(_) => true,
        Action::Step { step, .. } => match step {
            Step::Register | Step::Launch => true,
            Step::Recover
            | Step::Capture { .. }
            | Step::DeleteMachine
            | Step::ConfirmGone
            | Step::Bill
            | Step::Deregister
            | Step::Release => false,
        },
        Action::Report { .. }
        | Action::ReadJob { .. }
        | Action::ReadBranch { .. }
        | Action::Expire { .. }
        | Action::Unreserve { .. } => false,
    }
}

/// Marks the end of a look, however it ends.
struct UnderWay(Arc<Memory>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().under_way = false;
        self.0.looked.notify_one();
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where runners may be registered: at every owner and repository that sources list, and wherever a runner of a known job
/// would register or does.
fn scopes(view: &View) -> BTreeSet<(String, Scope)> {
    let setup: &Setup = &view.snapshot.setup;
    let mut scopes = BTreeSet::new();
    for (name, source) in &setup.sources {
        scopes.extend(source.owners.iter().map(|owner| (name.clone(), Scope::Owner(owner.clone()))));
        let listed = source.repositories.iter();
        scopes.extend(listed.map(|repository| (name.clone(), Scope::Repository(repository.clone()))));
    }
    let mut isolation = Isolation::of(setup);
    let mut asked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for job in &view.snapshot.jobs {
        let what = &job.description;
        let Some(source) = setup.sources.get(&job.key.source) else { continue };
        if !asked.insert((&source.name, &what.repository)) {
            continue;
        }
        let Some(listed) = source.scope_of(&what.owner, &what.repository) else { continue };
        for class in setup.classes.values() {
            let scope = isolation.scope(source, listed.clone(), &what.owner, &what.repository, &class.name);
            scopes.insert((source.name.clone(), scope));
        }
    }
    let known = view.snapshot.runners.iter().filter(|runner| setup.sources.contains_key(&runner.job.source));
    scopes.extend(known.map(|runner| (runner.job.source.clone(), runner.scope.clone())));
    scopes
}

/// Owners, by source, at any of whose repositories runners may be registered.
fn owners_of_scopes(setup: &Setup) -> BTreeSet<(String, String)> {
    let mut isolation = Isolation::of(setup);
    let mut owners = BTreeSet::new();
    for source in setup.sources.values() {
        for owner in &source.owners {
            let at_repository = setup.classes.values().any(|class| {
                let repository = format!("{owner}/-");
                let scope =
                    isolation.scope(source, Scope::Owner(owner.clone()), owner, &repository, &class.name);
                matches!(scope, Scope::Repository(_))
            });
            if at_repository {
                owners.insert((source.name.clone(), owner.clone()));
            }
        }
    }
    owners
}

/// Looks once. Answers when to look again.
async fn look(outside: &Outside, memory: &Memory, looking: &Looking) -> SignedDuration {
    let origin = match outside.origin().await {
        Ok(origin) => origin,
        Err(error) => {
            tracing::error!(%error, "nothing can be told apart from another installation's: {error}");
            return AGAIN;
        }
    };
    let Looked { mut found, all_own, all_registrations } = looking.find(outside).await;
    {
        let mut state = memory.state();
        let now = clock::now();
        let mut first_seen = HashMap::new();
        for one in &mut found.registrations {
            let key = (one.source.clone(), one.id);
            one.first_seen = state.first_seen.get(&key).copied().unwrap_or(now);
            first_seen.insert(key, one.first_seen);
        }
        // What could not be listed this time keeps its grace.
        if all_registrations {
            state.first_seen = first_seen;
        } else {
            state.first_seen.extend(first_seen);
        }
    }
    let own = Own { setup: &looking.setup, origin };
    let now = clock::now();
    let decided = decide(own, &found, |name| looking.known(outside, name), now);
    let (mut all_done, mut all_recorded) = (all_own, all_own);
    for remedy in &decided.remedies {
        if let Err(error) = apply(outside, remedy).await {
            all_done = false;
            all_recorded &= !matches!(remedy, Remedy::Adopt(_) | Remedy::Complete { .. });
            tracing::warn!(%error, "a stray cannot be looked after now: {error}");
        }
    }
    tell(outside, memory, looking, &found, &decided.foreign, origin);
    outside.metrics.set_strays(i64::try_from(decided.left_alone).unwrap_or(i64::MAX));
    outside.metrics.set_foreign(&decided.foreign);
    let mut state = memory.state();
    state.all_seen |= all_recorded;
    state.foreign = decided.foreign;
    let again = decided.again_at.map(|at| at.duration_since(now).max(SignedDuration::from_secs(1)));
    let usual = if all_done { EVERY } else { AGAIN };
    again.map_or(usual, |again| again.min(usual))
}

/// Says once of each group that bears a name of this installation's why it is left alone, and of each other installation
/// how it is in the way.
fn tell(
    outside: &Outside,
    memory: &Memory,
    looking: &Looking,
    found: &runner_core::stray::Findings,
    foreign: &[Foreign],
    origin: &str,
) {
    let mut state = memory.state();
    let mut there = BTreeSet::new();
    for machine in &found.machines {
        let ours = machine.mark.as_ref().is_some_and(|mark| mark.origin == origin);
        let Some(group) = machine.group.as_ref().filter(|_| !ours) else { continue };
        if !looking.is_unknown(outside, &machine.runner) {
            continue;
        }
        there.insert(group.id.clone());
        if !state.told.contains(&group.id) {
            let runner = &machine.runner;
            tracing::error!(
                group = group.id,
                "group {} bears the name of runner {runner}, of which there is no record, and not this installation's mark; \
                 if nothing of it is needed, delete it: az container delete --ids {}",
                group.id,
                group.id
            );
        }
    }
    state.told = there;
    // How many there are changes all the time.
    let same = |a: &Foreign, b: &Foreign| {
        (a.document, &a.name, a.way, &a.origin, &a.installation)
            == (b.document, &b.name, b.way, &b.origin, &b.installation)
    };
    for one in foreign.iter().filter(|one| !state.foreign.iter().any(|known| same(known, one))) {
        tracing::warn!(kind = one.document.as_str(), name = one.name, "{one}");
    }
}

async fn apply(outside: &Outside, remedy: &Remedy) -> CallResult<()> {
    match remedy {
        Remedy::Adopt(foundling) => {
            outside.records.adopt(foundling).await?;
            outside.metrics.machine_recorded();
            tracing::warn!(
                runner = foundling.new.name,
                job = %foundling.new.job,
                "the machine of runner {} is there, and there was no record of it: it has one again",
                foundling.new.name
            );
            Ok(())
        }
        Remedy::Complete { runner, facts } => {
            outside.records.record(runner, facts).await?;
            tracing::warn!(
                runner,
                "the machine of runner {runner} is there already, as its record did not tell"
            );
            Ok(())
        }
        Remedy::DeleteCredential { runner } => {
            outside.records.delete_credential(runner).await?;
            tracing::warn!(
                runner,
                "the credential of runner {runner}, of which there is no record, is deleted"
            );
            Ok(())
        }
        Remedy::Deregister(stray) => {
            let provider = outside.sources.provider(&stray.source)?;
            let (name, source) = (&stray.name, &stray.source);
            match provider.deregister(&stray.scope, name, Some(stray.id)).await? {
                Deregistered::Gone => {
                    tracing::warn!(
                        runner = name,
                        source,
                        "the registration {name}, behind which nothing stood, is deleted"
                    )
                }
                Deregistered::Busy => {
                    tracing::warn!(
                        runner = name,
                        source,
                        "the registration {name} has no record, and is busy: it stays"
                    )
                }
            }
            Ok(())
        }
    }
}
