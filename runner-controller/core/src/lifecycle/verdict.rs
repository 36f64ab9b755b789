//! Whether a runner is over, and why. What follows is [`super`]'s.

use jiff::{SignedDuration, Timestamp};

use super::{MachinePhase, Occupation, Runner, SHOWN_WITHIN, Surroundings, start_failure};
use crate::reason::Reason;
use crate::setup::saturating_add;

/// With this code GitHub's runner ends where its version is refused (actions/runner,
/// `ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE`).
const VERSION_REFUSED: i32 = 7;
/// An agent that waited for a job for so long was fine: GitHub removes registrations that are idle for 2 to 6 minutes
/// (actions/actions-runner-controller#4726), whereas an agent that cannot work ends at once.
const WAITED_LONG: SignedDuration = SignedDuration::from_secs(60);

pub(super) enum Verdict {
    Keep(Option<Timestamp>),
    End { reason: Reason, ask: bool },
}

impl Verdict {
    pub(super) fn certain(reason: Reason) -> Self {
        Verdict::End { reason, ask: false }
    }
}

impl Runner {
    /// Whether the runner is over. `ask`: it may be busy for all that is known here, so its source decides.
    pub(super) fn verdict(&self, around: Surroundings<'_>) -> Verdict {
        let facts = &self.facts;
        let now = around.now;
        if let Some(at) = facts.agent.exiting {
            return Verdict::certain(self.exit(at, around.occupation));
        }
        // Of a record that was written again the rest may not be known.
        if facts.registering.is_some() && facts.registered.is_none() && facts.found.is_none() {
            return Verdict::certain(Reason::Interrupted { call: "registered it".to_owned() });
        }
        let begun = match (&facts.launched, around.machine) {
            (Some(launched), None) => {
                let until = saturating_add(launched.at, SHOWN_WITHIN);
                return if now < until {
                    Verdict::Keep(Some(until))
                } else {
                    self.ask(Reason::Vanished, now)
                };
            }
            (Some(_), Some(machine)) => Some(machine),
            (None, _) => None,
        };
        match begun.map(|machine| machine.phase) {
            Some(MachinePhase::Ended) => return Verdict::certain(Reason::ContainerEnded),
            Some(MachinePhase::StartFailed) => {
                let why = begun
                    .and_then(|machine| machine.why.clone())
                    .unwrap_or_else(|| "no reason given".to_owned());
                return self.ask(start_failure(why), now);
            }
            Some(MachinePhase::Pending) => {
                if let Some(why) = facts.group.as_ref().and_then(|group| group.failed.clone()) {
                    return self.ask(start_failure(why), now);
                }
            }
            Some(MachinePhase::Running) | None => {}
        }
        if begun.is_some_and(|machine| machine.deleting) {
            return self.ask(Reason::Vanished, now);
        }
        if begun.is_some_and(|machine| machine.restarts > 0) {
            return self.ask(Reason::Restarted, now);
        }
        if self.deleted {
            return self.ask(Reason::Deleted, now);
        }
        match around.occupation {
            Occupation::Busy => return Verdict::Keep(None),
            Occupation::Unwanted { since } | Occupation::Done { since } => {
                let until = saturating_add(since, around.surplus_grace);
                if now >= until {
                    return self.ask(Reason::Surplus, now);
                }
                return Verdict::Keep(Some(until));
            }
            Occupation::Wanted => {}
        }
        let Some(machine) = begun else { return Verdict::Keep(None) };
        let launched_at = facts.launched.as_ref().map_or(self.created_at, |launched| launched.at);
        let (since, allowed, reason) = match machine.phase {
            MachinePhase::Running => match facts.agent.booted {
                None => (machine.since, around.deadlines.online, Reason::NotOnline),
                Some(online) => (online, around.deadlines.idle, Reason::Idle),
            },
            MachinePhase::Pending | MachinePhase::Ended | MachinePhase::StartFailed => {
                match machine.unschedulable() {
                    Some(why) => {
                        (launched_at, around.leave_after, Reason::Unschedulable { why: why.to_owned() })
                    }
                    None if machine.scheduled => (launched_at, around.deadlines.running, Reason::NotRunning),
                    None => (launched_at, around.deadlines.scheduled, Reason::NotScheduled),
                }
            }
        };
        let until = saturating_add(since, allowed);
        if now < until { Verdict::Keep(Some(until)) } else { self.ask(reason, now) }
    }

    /// What its agent's exit at this moment says.
    fn exit(&self, at: Timestamp, occupation: Occupation) -> Reason {
        let had_job = match occupation {
            Occupation::Busy | Occupation::Done { .. } => true,
            Occupation::Wanted | Occupation::Unwanted { .. } => self.start_sign().is_some(),
        };
        let agent = &self.facts.agent;
        let waited = agent.booted.map(|booted| at.duration_since(booted)).unwrap_or_default();
        match agent.exit_code {
            _ if had_job => Reason::AgentExited,
            Some(VERSION_REFUSED) => Reason::RunnerTooOld,
            Some(_) | None if waited >= WAITED_LONG => Reason::IdleRemoved,
            Some(_) | None => Reason::AgentExited,
        }
    }
}
