//! Strays: what is there without a record is looked for, and gets its record back or goes.
//!
//! Right after a replica has begun to act, and every few minutes. Until the first look is over nothing new is started, since
//! a restored state of the records makes the names of runners again that are there already. Machines come first, and what
//! sources list of registrations after them, however long that takes. What becomes of what is found is decided by
//! [`runner_core::stray`]; how it is found is [`look`]'s and [`registered`]'s.

mod look;
mod registered;
mod scopes;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use runner_core::lifecycle::Step;
use runner_core::plan::Action;
use runner_core::setup::Setup;
use runner_core::stray::{Findings, Foreign, Own, Remedies, Remedy, decide};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use self::look::{Looked, Looking};
use self::registered::Registered;
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
    /// The look that is under way, or the last one.
    task: Option<AbortOnDropHandle<()>>,
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
    /// When machines are due; `None`: at once.
    machines_due: Option<Timestamp>,
    under_way: bool,
    /// Whether every machine was looked at since this replica began to act.
    all_seen: bool,
    /// The machines and credentials that were found last.
    machines: Arc<Findings>,
    registered: Registered,
    /// Why not every machine may have been found.
    obstacles: BTreeSet<String>,
    /// Why it is not known what marks this installation's, which keeps everything from starting.
    no_origin: Option<String>,
    /// What is in this installation's way.
    foreign: Vec<Foreign>,
    /// Groups that were told of.
    told: BTreeSet<String>,
}

impl Strays {
    /// Forgets what an earlier time of acting has seen.
    pub(super) async fn begin(&mut self, now: Timestamp) {
        self.stop().await;
        *self.memory.state() = State { began: Some(now), ..State::default() };
    }

    /// Breaks off what is under way: whoever acts next looks anew.
    pub(super) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // However it ended, it is over.
            let _ = task.await;
        }
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

    /// What keeps every runner from being started, told at each source.
    pub(super) fn problems(&self, setup: &Setup) -> Vec<Problem> {
        let state = self.memory.state();
        let Some(why) = &state.no_origin else { return Vec::new() };
        let problem = |name: &String| Problem {
            kind: "RunnerSource",
            name: name.clone(),
            message: format!("no runner can be started: {why}"),
        };
        setup.sources.keys().map(problem).collect()
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
    pub(super) fn keep(&mut self, outside: &Arc<Outside>, view: &View, now: Timestamp) -> Option<Timestamp> {
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
        let looking = Looking::of(&outside, view);
        self.task = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let guard = UnderWay(memory.clone());
            let next = look(&outside, &memory, &looking).await;
            memory.state().due = Some(next);
            drop(guard);
        })));
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

/// Looks once. Answers when to look again.
async fn look(outside: &Outside, memory: &Memory, looking: &Looking) -> Timestamp {
    let origin = outside.origin().await;
    memory.state().no_origin = origin.as_ref().err().map(|error| error.message.clone());
    let origin = match origin {
        Ok(origin) => origin,
        Err(error) => {
            tracing::error!(%error, "nothing can be told apart from another installation's: {error}");
            return later(AGAIN);
        }
    };
    if memory.state().machines_due.is_none_or(|due| due <= clock::now()) {
        look_at_machines(outside, memory, looking, origin).await;
        // Runners may start by now, whatever sources say.
        memory.looked.notify_one();
    }
    registered::ask(outside, memory, looking, origin).await;
    let decided = decide_all(outside, memory, looking, origin);
    let mut again = decided.again_at;
    for remedy in &decided.remedies {
        let Remedy::Deregister(stray) = remedy else { continue };
        match apply(outside, remedy).await {
            Ok(()) => memory.state().registered.forget(stray),
            Err(error) => {
                again = Some(again.map_or(later(AGAIN), |at| at.min(later(AGAIN))));
                tracing::warn!(%error, "a stray cannot be looked after now: {error}");
            }
        }
    }
    let mut state = memory.state();
    // What is deregistered has no machine by then.
    let again = again.map(|at| at.max(later(SignedDuration::from_secs(1))));
    state.machines_due = state.machines_due.into_iter().chain(again).min();
    state.machines_due.into_iter().chain(state.registered.next()).min().unwrap_or_else(|| later(EVERY))
}

/// Looks at what is this installation's own, and gives it its records back.
async fn look_at_machines(outside: &Outside, memory: &Memory, looking: &Looking, origin: &str) {
    let Looked { found, all_own, obstacles } = looking.find(outside).await;
    {
        let mut state = memory.state();
        for obstacle in obstacles.difference(&state.obstacles) {
            tracing::warn!("{obstacle}; until then no registration is deleted behind which nothing is found");
        }
        state.obstacles = obstacles;
        state.machines = Arc::new(found);
    }
    let decided = decide_all(outside, memory, looking, origin);
    let (mut all_done, mut all_recorded) = (all_own, all_own);
    for remedy in decided.remedies.iter().filter(|remedy| !matches!(remedy, Remedy::Deregister(_))) {
        if let Err(error) = apply(outside, remedy).await {
            all_done = false;
            all_recorded &= !matches!(remedy, Remedy::Adopt(_) | Remedy::Complete { .. });
            tracing::warn!(%error, "a stray cannot be looked after now: {error}");
        }
    }
    let mut state = memory.state();
    state.all_seen |= all_recorded;
    state.machines_due = Some(later(if all_done { EVERY } else { AGAIN }));
}

/// Decides on everything that is known by now, and tells of what is another's.
fn decide_all(outside: &Outside, memory: &Memory, looking: &Looking, origin: &str) -> Remedies {
    let found = {
        let state = memory.state();
        Findings { registrations: state.registered.found(), ..Findings::clone(&state.machines) }
    };
    let own = Own { setup: &looking.setup, origin };
    let decided = decide(own, &found, |name| looking.known(outside, name), clock::now());
    tell(outside, memory, looking, &found, &decided.foreign, origin);
    outside.metrics.set_strays(i64::try_from(decided.left_alone).unwrap_or(i64::MAX));
    outside.metrics.set_foreign(&decided.foreign);
    memory.state().foreign.clone_from(&decided.foreign);
    decided
}

fn later(by: SignedDuration) -> Timestamp {
    clock::now().saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Says once of each group that bears a name of this installation's why it is left alone, and of each other installation
/// how it is in the way.
fn tell(
    outside: &Outside,
    memory: &Memory,
    looking: &Looking,
    found: &Findings,
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
        tracing::warn!(
            kind = one.document.as_str(),
            name = one.name,
            example = one.example,
            count = one.count,
            "{one}"
        );
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
