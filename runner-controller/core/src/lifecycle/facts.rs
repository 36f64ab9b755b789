//! What is recorded of a runner, and how one more fact changes it. Decides nothing.

use jiff::Timestamp;

/// What is recorded of a runner. Every field is set once, but for `busy_seen` and `group`, which are overwritten
/// with later readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnerFacts {
    /// Its record was written again, from what its machine shows of it.
    pub found: Option<Timestamp>,
    /// The intent to register it, recorded before the call.
    pub registering: Option<Timestamp>,
    /// It is registered, and its credential is stored for its machine.
    pub registered: Option<Registered>,
    /// The intent to create its machine, recorded before the call.
    pub launching: Option<Timestamp>,
    /// Its machine was created.
    pub launched: Option<Launched>,
    /// Its source last said that it is busy.
    pub busy_seen: Option<Timestamp>,
    /// What its agent reported.
    pub agent: AgentFacts,
    /// It is to be torn down, and why.
    pub teardown: Option<Teardown>,
    /// What was last read of its container group.
    pub group: Option<GroupFacts>,
    /// Its group's times and logs were read after its end.
    pub captured: Option<Timestamp>,
    /// The deletion of its machine was asked for.
    pub deleting: Option<Timestamp>,
    /// Its machine was still there long after its deletion was asked for.
    pub stuck: Option<Timestamp>,
    /// Its machine was confirmed gone.
    pub gone: Option<Timestamp>,
    /// Its ledger row is committed.
    pub billed: Option<Timestamp>,
    /// Its source has confirmed that it knows it no longer.
    pub deregistered: Option<Timestamp>,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The source's id of the runner.
    pub id: u64,
    /// SHA-256, in lower-case hexadecimal, of the token that its agent's call-backs carry.
    pub callback_hash: String,
    /// When.
    pub at: Timestamp,
}

/// One thing to record of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerFact {
    /// Its record was written again, from what its machine shows of it.
    Found(Timestamp),
    /// The intent to register it.
    Registering(Timestamp),
    /// It is registered.
    Registered(Registered),
    /// The intent to create its machine.
    Launching(Timestamp),
    /// Its machine was created.
    Launched(Launched),
    /// Its source says that it is busy.
    BusySeen(Timestamp),
    /// Its agent is up.
    AgentBooted(Timestamp),
    /// Its agent began a job.
    AgentJobStarted(Timestamp),
    /// Its agent's job is over.
    AgentJobCompleted(Timestamp),
    /// Its agent is about to exit, with this code of its child.
    AgentExiting(Timestamp, Option<i32>),
    /// It is to be torn down.
    Teardown(Teardown),
    /// What was read of its group.
    Group(GroupFacts),
    /// Its group was read after its end.
    Captured(Timestamp),
    /// The deletion of its machine was asked for.
    Deleting(Timestamp),
    /// Its machine is still there long after its deletion was asked for.
    Stuck(Timestamp),
    /// Its machine is gone.
    Gone(Timestamp),
    /// Its ledger row is committed.
    Billed(Timestamp),
    /// Its source knows it no longer.
    Deregistered(Timestamp),
}

impl RunnerFacts {
    /// Adds a fact. What is set stays as it is, but for readings that replace earlier ones.
    pub fn apply(&mut self, fact: RunnerFact) {
        fn once<T>(slot: &mut Option<T>, value: T) {
            slot.get_or_insert(value);
        }
        match fact {
            RunnerFact::Found(at) => once(&mut self.found, at),
            RunnerFact::Registering(at) => once(&mut self.registering, at),
            RunnerFact::Registered(registered) => once(&mut self.registered, registered),
            RunnerFact::Launching(at) => once(&mut self.launching, at),
            RunnerFact::Launched(launched) => once(&mut self.launched, launched),
            RunnerFact::BusySeen(at) => self.busy_seen = self.busy_seen.max(Some(at)),
            RunnerFact::AgentBooted(at) => once(&mut self.agent.booted, at),
            RunnerFact::AgentJobStarted(at) => once(&mut self.agent.job_started, at),
            RunnerFact::AgentJobCompleted(at) => once(&mut self.agent.job_completed, at),
            RunnerFact::AgentExiting(at, code) => {
                once(&mut self.agent.exiting, at);
                self.agent.exit_code = self.agent.exit_code.or(code);
            }
            RunnerFact::Teardown(teardown) => once(&mut self.teardown, teardown),
            RunnerFact::Group(read) => self.group = Some(read.over(self.group.take())),
            RunnerFact::Captured(at) => once(&mut self.captured, at),
            RunnerFact::Deleting(at) => once(&mut self.deleting, at),
            RunnerFact::Stuck(at) => once(&mut self.stuck, at),
            RunnerFact::Gone(at) => once(&mut self.gone, at),
            RunnerFact::Billed(at) => once(&mut self.billed, at),
            RunnerFact::Deregistered(at) => once(&mut self.deregistered, at),
        }
    }
}

/// A machine that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The pod's UID, or the group's resource id where there is no cluster.
    pub uid: String,
    /// When.
    pub at: Timestamp,
}

/// What the agent inside reported by call-back. Nothing depends on any of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFacts {
    /// It is up.
    pub booted: Option<Timestamp>,
    /// It began a job.
    pub job_started: Option<Timestamp>,
    /// Its job is over.
    pub job_completed: Option<Timestamp>,
    /// It is about to exit.
    pub exiting: Option<Timestamp>,
    /// The exit code of its child, which the container's own exit code does not tell (azure-aci#417).
    pub exit_code: Option<i32>,
}

/// The decision to tear a runner down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teardown {
    /// Code of the reason.
    pub code: String,
    /// Its sentence.
    pub sentence: String,
    /// When it was decided.
    pub at: Timestamp,
}

/// What was read of a container group in Azure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its resource id.
    pub id: String,
    /// When the first image pull began: the meter's start.
    pub pull_started: Option<Timestamp>,
    /// When its container started.
    pub started: Option<Timestamp>,
    /// When its last container stopped.
    pub stopped: Option<Timestamp>,
    /// When this was read, with the group there.
    pub seen_at: Option<Timestamp>,
    /// Why the platform says that it could not be provisioned, if it says so.
    pub failed: Option<String>,
}

impl GroupFacts {
    /// This reading over an earlier one. A time that was read once stays known: Azure forgets a container's older
    /// events, and shows a group that is being deleted without its instance view. A failure is a state, and the later
    /// reading's counts: what failed may have been tried again.
    fn over(self, earlier: Option<GroupFacts>) -> GroupFacts {
        let Some(earlier) = earlier else { return self };
        let failed = if self.seen_at >= earlier.seen_at { self.failed } else { earlier.failed };
        GroupFacts {
            id: if self.id.is_empty() { earlier.id } else { self.id },
            pull_started: self.pull_started.into_iter().chain(earlier.pull_started).min(),
            started: self.started.into_iter().chain(earlier.started).min(),
            stopped: self.stopped.or(earlier.stopped),
            seen_at: self.seen_at.max(earlier.seen_at),
            failed,
        }
    }
}
