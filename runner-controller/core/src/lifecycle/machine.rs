//! What the outside shows of a runner's machine. Decides nothing.

use jiff::Timestamp;

/// The scheduler's word for a pod that no node can take.
const UNSCHEDULABLE: &str = "Unschedulable";

/// What the outside shows of a runner's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The pod's UID, or the group's resource id.
    pub uid: String,
    /// How far it is.
    pub phase: MachinePhase,
    /// Whether a node has it.
    pub scheduled: bool,
    /// When the phase began, as far as the outside says, else when it was seen.
    pub since: Timestamp,
    /// The outside's word for why, such as `ProviderFailed` or `Unschedulable`.
    pub why: Option<String>,
    /// Whether its deletion is under way.
    pub deleting: bool,
    /// How often its container was started again, which Azure may do whatever the restart policy says.
    pub restarts: u32,
}

impl Machine {
    /// Why the scheduler finds no node for its pod, in its own words, if it says that there is none.
    pub fn unschedulable(&self) -> Option<&str> {
        let why = self.why.as_deref()?;
        let pending = self.phase == MachinePhase::Pending && !self.scheduled && !self.deleting;
        (pending && why.starts_with(UNSCHEDULABLE)).then_some(why)
    }
}

/// How far a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MachinePhase {
    /// Its container does not run yet.
    Pending,
    /// Its container runs.
    Running,
    /// Its container ran and ended.
    Ended,
    /// It could not be started, as the platform says, which may be wrong: the group may live (azure-aci#132).
    StartFailed,
}
