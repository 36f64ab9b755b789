//! What may go wrong: each fault is one item of a plan, so that a failing plan can be made smaller by taking items out.

use std::fmt;

/// Whom the controller writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The Kubernetes API server.
    Kubernetes,
    /// GitHub.
    GitHub,
    /// Azure Resource Manager.
    Arm,
    /// The ledger.
    Ledger,
}

impl Peer {
    /// Every peer.
    pub const ALL: [Peer; 4] = [Peer::Kubernetes, Peer::GitHub, Peer::Arm, Peer::Ledger];
}

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// The replica crashes before it is carried out.
    CrashBefore,
    /// It is carried out, and the replica crashes without having read the answer.
    CrashAnswerLost,
    /// It is carried out and answered, and the replica crashes.
    CrashAfter,
    /// The peer has trouble of its own (5xx) and does nothing.
    Unavailable,
    /// It is carried out, and the connection breaks before the answer.
    AnswerLost,
    /// The peer asks for a pause of so many seconds.
    Throttled(u64),
    /// The peer says that somebody else was faster.
    Conflict,
}

impl WriteFault {
    /// The three ways to crash at a write.
    pub const CRASHES: [WriteFault; 3] =
        [WriteFault::CrashBefore, WriteFault::CrashAnswerLost, WriteFault::CrashAfter];
}

/// What goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Neither replica reaches this peer.
    Partition(Peer),
    /// The replica that acts is cut off from Kubernetes; the other is not.
    LeaderCutOff,
    /// Deliveries of webhooks reach nobody.
    ReceiverDown,
    /// Call-backs of agents reach nobody.
    CallbacksCut,
    /// The virtual node's process is away; its node shows as not ready.
    NodeAway,
    /// What watches show is late by so many milliseconds.
    WatchLag(u64),
    /// Others use Azure's quota, but for so many groups.
    Quota(u64),
    /// The controller's clock is wrong by so many seconds.
    Clock(i64),
    /// Two replicas hold themselves to be the one that acts.
    TwoLeaders,
    /// The replica that acts stands still, and does not know it when it goes on.
    Paused,
}

/// What becomes of one container group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFate {
    /// Its creation answers 503, and it is created all the same (azure-aci#132).
    SaidToFail,
    /// It cannot be provisioned, of which its pod shows nothing (azure-aci#378).
    NotProvisioned,
    /// Its image cannot be pulled.
    NotPulled,
    /// Its pod is taken up by the virtual node only after so many seconds.
    TakenUpLate(u64),
    /// It vanishes so many seconds after its container started.
    Vanishes(u64),
    /// Its container is started again so many seconds after it started.
    Restarts(u64),
    /// Deleted while it is being provisioned, it goes on, and bills (azure-aci#32).
    OutlivesItsDeletion,
    /// Its deletion takes so many seconds.
    StuckDeleting(u64),
    /// The virtual node forgets to delete it until its next sweep.
    DeletionForgotten,
    /// It does not tell when its pull began.
    PullForgotten,
}

/// What becomes of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentFate {
    /// It never reaches GitHub.
    NeverOnline,
    /// It ends before it takes a job.
    EndsWithoutJob,
    /// It hangs once its job is over.
    HangsAfterJob,
    /// GitHub refuses its version.
    VersionRefused,
    /// It picks its job up so late that GitHub has queued the job again.
    PicksUpLate,
}

/// One item of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// At the n-th write to a peer, counted over both replicas.
    Write {
        /// To whom.
        peer: Peer,
        /// Which, from 1.
        nth: u64,
        /// What happens.
        what: WriteFault,
    },
    /// For a while.
    While {
        /// What.
        what: Trouble,
        /// From this second on.
        from: u64,
        /// For so many seconds.
        lasts: u64,
    },
    /// The replica that acts is killed at this second.
    Killed {
        /// The second.
        at: u64,
    },
    /// Watches are told at this second that what they wait for is too old, so that all is listed anew.
    WatchesExpire {
        /// The second.
        at: u64,
    },
    /// The cluster's store is put back at this second to what it held so many seconds before.
    Restored {
        /// The second.
        at: u64,
        /// The seconds.
        back: u64,
    },
    /// All records, pods and credentials are deleted at this second, as with their namespace; the documents are applied again.
    Emptied {
        /// The second.
        at: u64,
    },
    /// The n-th group to be created.
    Group {
        /// Which, from 1.
        nth: u64,
        /// What becomes of it.
        fate: GroupFate,
    },
    /// The n-th agent to start.
    Agent {
        /// Which, from 1.
        nth: u64,
        /// What becomes of it.
        fate: AgentFate,
    },
    /// Webhooks, each in so many of a hundred cases.
    Webhooks {
        /// They are lost.
        lost: u64,
        /// They come twice.
        twice: u64,
        /// They are late by up to this many seconds.
        late: u64,
    },
    /// A runner that is not Stint's takes a job so many seconds after it was queued.
    Stolen {
        /// The job's number.
        job: u64,
        /// The seconds.
        after: u64,
    },
}

impl Fault {
    /// The second after which it changes nothing any more, where that is known.
    pub fn ends(&self) -> u64 {
        match self {
            Fault::While { from, lasts, .. } => from + lasts,
            Fault::Killed { at }
            | Fault::WatchesExpire { at }
            | Fault::Restored { at, .. }
            | Fault::Emptied { at } => *at,
            Fault::Write { .. }
            | Fault::Group { .. }
            | Fault::Agent { .. }
            | Fault::Webhooks { .. }
            | Fault::Stolen { .. } => 0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Write { peer, nth, what } => write!(f, "at write {nth} to {peer:?}: {what:?}"),
            Fault::While { what, from, lasts } => write!(f, "from second {from} for {lasts} s: {what:?}"),
            Fault::Killed { at } => write!(f, "at second {at}: the replica that acts is killed"),
            Fault::WatchesExpire { at } => write!(f, "at second {at}: all watches expire"),
            Fault::Restored { at, back } => {
                write!(f, "at second {at}: the cluster's store is put back by {back} s")
            }
            Fault::Emptied { at } => {
                write!(f, "at second {at}: all records, pods and credentials are deleted")
            }
            Fault::Group { nth, fate } => write!(f, "container group {nth}: {fate:?}"),
            Fault::Agent { nth, fate } => write!(f, "agent {nth}: {fate:?}"),
            Fault::Webhooks { lost, twice, late } => {
                write!(f, "webhooks: {lost} % lost, {twice} % twice, up to {late} s late")
            }
            Fault::Stolen { job, after } => {
                write!(f, "job {job} is taken by a foreign runner {after} s after it was queued")
            }
        }
    }
}
