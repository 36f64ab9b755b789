//! The life of one runner: which step comes next, given what is known of it.
//!
//! Registration, machine (pod or container group) and agent are three independent facts, not one line of phases:
//!
//! ```text
//! Reserved ─▶ { registered? } { machine: launched, running, ended, gone } { agent: booted, busy, exiting } ─▶ billed
//! ```
//!
//! Expected flow: [`Step::Register`], [`Step::Launch`], [`Step::Capture`] once it runs, and when it is over
//! `Capture`, `DeleteMachine`, `ConfirmGone`, `Bill`, `Deregister`, `Release`.
//!
//! Guarantees: a call that cannot be repeated (register, launch) is planned at most once for a runner; a runner that
//! may be busy is deregistered before its machine is deleted, and kept if its source refuses; nothing is released
//! before its machine is confirmed gone and billed; nothing is begun for a runner that no job needs.

mod attempts;
mod facts;
mod machine;
mod verdict;

use jiff::{SignedDuration, Timestamp};

pub(crate) use self::attempts::pauses_the_next;
pub use self::attempts::{counts_as_attempt, start_failure};
pub use self::facts::{AgentFacts, GroupFacts, Launched, Registered, RunnerFact, RunnerFacts, Teardown};
pub use self::machine::{Machine, MachinePhase};
use self::verdict::Verdict;

use crate::job::JobKey;
use crate::labels::Matched;
use crate::reason::Reason;
use crate::setup::{Deadlines, PlaceKind, Scope, Size, saturating_add};

/// A runner that found itself busy is not asked again before this has passed.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(60);
/// How often a group is read while a fact is missing that only it tells.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(30);
/// How often at most the group of a machine that has run for long is read: Azure may have forgotten its pull time.
const LOOK_SELDOM: SignedDuration = SignedDuration::from_hours(1);
/// Code of the reason for which a runner leaves a place where the scheduler finds no node for it.
pub(crate) const UNSCHEDULABLE_CODE: &str = "Unschedulable";
/// How long a machine that was just created may be missing from what the outside shows, which lags.
const SHOWN_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// A runner, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Its name: also its pod's, and the name it registers with. Never used twice.
    pub name: String,
    /// The job that it was started for. It may be handed another.
    pub job: JobKey,
    /// Which of the job's runners it is, from 1.
    pub ordinal: u32,
    /// Where it registers.
    pub scope: Scope,
    /// Its class and size.
    pub matched: Matched,
    /// The labels that it registers with.
    pub labels: Vec<String>,
    /// Its resources.
    pub size: Size,
    /// Name of its place.
    pub place: String,
    /// What its place is.
    pub kind: PlaceKind,
    /// When its record was made.
    pub created_at: Timestamp,
    /// Whether somebody deleted its record (which its finalizer keeps until its machine is gone).
    pub deleted: bool,
    /// What is known of it.
    pub facts: RunnerFacts,
}

/// What a runner has to do with jobs, as pairing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupation {
    /// It has no job and a queued one needs it.
    Wanted,
    /// It has no job and none needs it, since the moment given.
    Unwanted {
        /// Since when.
        since: Timestamp,
    },
    /// It has a job.
    Busy,
    /// Its job is over, since the moment given.
    Done {
        /// Since when.
        since: Timestamp,
    },
}

/// The next thing to do for a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Record the intent, register it with its source, store the credential.
    Register,
    /// Record the intent, create its machine.
    Launch,
    /// See whether a machine exists that was about to be created when the controller stopped.
    Recover,
    /// Read its group's times, and its last logs if `last`.
    Capture {
        /// Whether this is the reading after its end.
        last: bool,
    },
    /// Delete its machine and its credential.
    DeleteMachine,
    /// Ask whether its machine is gone; delete the group if nothing else does.
    ConfirmGone,
    /// Commit its ledger row.
    Bill,
    /// Delete its registration; where the source says that it is busy, keep it.
    Deregister,
    /// Let its record go, and a credential that was never handed to a machine.
    Release,
}

/// What comes next for a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This step. `because`: the reason to tear down, where that was decided only now.
    Do {
        /// The step.
        step: Step,
        /// The new reason. With [`Step::Deregister`] the source decides: it is recorded if the registration is gone,
        /// and dropped if the runner is busy. With any other step it is recorded first, whatever comes of the step.
        because: Option<Reason>,
    },
    /// Nothing before the moment given, if one is known.
    Wait(Option<Timestamp>),
}

/// What a decision about one runner needs besides its record.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Its machine, if the outside shows one.
    pub machine: Option<&'a Machine>,
    /// What it has to do with jobs.
    pub occupation: Occupation,
    /// How long each stage may take.
    pub deadlines: Deadlines,
    /// How long an unwanted runner is kept.
    pub surplus_grace: SignedDuration,
    /// How long its pod may find no node before it is given up.
    pub leave_after: SignedDuration,
    /// Now.
    pub now: Timestamp,
}

impl Runner {
    /// Whether it still counts against limits: until its machine is confirmed gone, or it is certain that there will
    /// never be one.
    pub fn counts(&self) -> bool {
        self.facts.gone.is_none() && !(self.ending() && self.facts.launching.is_none())
    }

    /// Whether it may still cost what the ledger does not hold: until it is billed, or it is certain that there will
    /// never be anything to bill.
    pub fn may_be_billed(&self) -> bool {
        self.facts.billed.is_none() && !(self.ending() && self.facts.launching.is_none())
    }

    /// Whether its teardown has begun.
    pub fn ending(&self) -> bool {
        self.facts.teardown.is_some()
    }

    /// Which step comes next.
    pub fn next(&self, around: Surroundings<'_>) -> Next {
        if self.ending() {
            return self.unless_asked_lately(self.teardown_step(false), None, around.now);
        }
        match self.verdict(around) {
            Verdict::End { reason, ask } => {
                self.unless_asked_lately(self.teardown_step(ask), Some(reason), around.now)
            }
            Verdict::Keep(until) => match self.start_step(around) {
                Some(step) => Next::Do { step, because: None },
                None => Next::Wait(until.into_iter().chain(self.look_at(around)).min()),
            },
        }
    }

    /// What comes next where its place turned out to be full before its machine was asked for.
    pub(crate) fn turned_away(&self) -> Next {
        let why = format!("place {} turned another runner away meanwhile", self.place);
        let reason = match self.kind {
            PlaceKind::NodePool => Reason::Unschedulable { why },
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => Reason::NoCapacity { why },
        };
        Next::Do { step: self.teardown_step(true), because: Some(reason) }
    }

    fn start_step(&self, around: Surroundings<'_>) -> Option<Step> {
        let facts = &self.facts;
        // Whatever became of its record, its machine was made.
        if facts.launching.is_none() && facts.found.is_none() {
            let needed = match around.occupation {
                Occupation::Wanted | Occupation::Busy => true,
                Occupation::Unwanted { .. } | Occupation::Done { .. } => false,
            };
            let step = if facts.registering.is_none() { Step::Register } else { Step::Launch };
            return needed.then_some(step);
        }
        if facts.launched.is_none() {
            return Some(Step::Recover);
        }
        let due = self.look_at(around).is_some_and(|at| at <= around.now);
        due.then_some(Step::Capture { last: false })
    }

    /// When its group is to be read for what nothing else tells, if anything is missing.
    fn look_at(&self, around: Surroundings<'_>) -> Option<Timestamp> {
        let launched = self.facts.launched.as_ref().filter(|_| self.kind.has_group())?;
        let machine = around.machine?;
        let group = self.facts.group.as_ref();
        let seen = group.and_then(|group| group.seen_at);
        match machine.phase {
            // A pod whose group could not be provisioned stays Pending for ever (azure-aci#378); a group of Stint's own
            // making shows that itself. Whatever has a job, or is not needed, does not wait for its start.
            MachinePhase::Pending => {
                let waits = machine.scheduled
                    && self.kind == PlaceKind::VirtualNode
                    && around.occupation == Occupation::Wanted;
                let last = seen.map_or(launched.at, |seen| seen.max(launched.at));
                waits.then(|| saturating_add(last, LOOK_EVERY))
            }
            // The meter's start: once it runs, then ever less often.
            MachinePhase::Running if group.is_none_or(|group| group.pull_started.is_none()) => {
                let since = machine.since.max(launched.at);
                Some(match seen.filter(|seen| *seen >= since) {
                    Some(seen) => {
                        saturating_add(seen, seen.duration_since(since).clamp(LOOK_EVERY, LOOK_SELDOM))
                    }
                    None => since,
                })
            }
            MachinePhase::Running | MachinePhase::Ended | MachinePhase::StartFailed => None,
        }
    }

    /// Ends the runner if its source lets it go; waits where that said a moment ago that it is busy.
    fn ask(&self, reason: Reason, now: Timestamp) -> Verdict {
        match self.asked_lately(now) {
            Some(until) => Verdict::Keep(Some(until)),
            None => Verdict::End { reason, ask: true },
        }
    }

    /// This step now, unless it would ask a source again that said a moment ago that the runner is busy: also one whose
    /// machine is gone or was never known may be held to be so.
    fn unless_asked_lately(&self, step: Step, because: Option<Reason>, now: Timestamp) -> Next {
        match self.asked_lately(now) {
            Some(until) if step == Step::Deregister => Next::Wait(Some(until)),
            Some(_) | None => Next::Do { step, because },
        }
    }

    /// Until when the source is not asked again, where it said lately that the runner is busy.
    fn asked_lately(&self, now: Timestamp) -> Option<Timestamp> {
        self.facts.busy_seen.map(|seen| saturating_add(seen, ASK_AGAIN)).filter(|until| now < *until)
    }

    /// When the runner first showed that the job it has or had is over.
    pub(crate) fn end_sign(&self) -> Option<Timestamp> {
        let facts = &self.facts;
        let torn_down = facts.teardown.as_ref().filter(|_| self.may_have_run()).map(|teardown| teardown.at);
        facts.agent.job_completed.into_iter().chain(facts.agent.exiting).chain(torn_down).min()
    }

    /// Whether its container may ever have run: its machine was asked for, and if that found no node, its registration
    /// went before a node could still take it.
    pub(crate) fn may_have_run(&self) -> bool {
        let turned_away =
            self.facts.teardown.as_ref().is_some_and(|teardown| teardown.code == UNSCHEDULABLE_CODE);
        self.facts.launching.is_some() && !turned_away
    }

    /// When the runner showed, by its agent or by its source, that it has a job.
    pub(crate) fn start_sign(&self) -> Option<Timestamp> {
        self.facts.agent.job_started.into_iter().chain(self.facts.busy_seen).min()
    }

    /// Which step of the teardown comes next. `ask`: the registration goes first, since the source alone knows
    /// whether the runner is busy.
    fn teardown_step(&self, ask: bool) -> Step {
        let facts = &self.facts;
        let registration_left = facts.registering.is_some() && facts.deregistered.is_none();
        if ask && registration_left {
            return Step::Deregister;
        }
        if facts.launching.is_some() {
            if facts.captured.is_none() && self.kind.has_group() {
                return Step::Capture { last: true };
            }
            if facts.deleting.is_none() {
                return Step::DeleteMachine;
            }
            if facts.gone.is_none() {
                return Step::ConfirmGone;
            }
            if facts.billed.is_none() {
                return Step::Bill;
            }
        }
        if registration_left { Step::Deregister } else { Step::Release }
    }
}

#[cfg(test)]
mod tests;
