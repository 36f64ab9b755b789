//! The words that metrics tell things apart by.

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryOutcome {
    /// Stored, and the first of its job.
    NewJob,
    /// Stored.
    Stored,
    /// Stored before.
    Known,
    /// Of no use to Stint.
    Ignored,
    /// Not signed with a secret of the source.
    Unauthorized,
    /// Not understood.
    Malformed,
    /// Too large.
    TooLarge,
    /// Too slow.
    TooSlow,
    /// For a source that there is not.
    UnknownSource,
    /// Not stored: Stint is starting, or its store is in trouble.
    Unavailable,
}

impl DeliveryOutcome {
    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryOutcome::NewJob => "new_job",
            DeliveryOutcome::Stored => "stored",
            DeliveryOutcome::Known => "known",
            DeliveryOutcome::Ignored => "ignored",
            DeliveryOutcome::Unauthorized => "unauthorized",
            DeliveryOutcome::Malformed => "malformed",
            DeliveryOutcome::TooLarge => "too_large",
            DeliveryOutcome::TooSlow => "too_slow",
            DeliveryOutcome::UnknownSource => "unknown_source",
            DeliveryOutcome::Unavailable => "unavailable",
        }
    }
}

/// Whom Stint calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A source of jobs.
    Provider,
    /// Azure.
    Azure,
}

impl Peer {
    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Peer::Provider => "provider",
            Peer::Azure => "azure",
        }
    }
}

/// How far a runner is, coarsely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunnerState {
    /// Until it is online.
    Starting,
    /// Online, without a job.
    Idle,
    /// It has a job.
    Busy,
    /// Being torn down.
    Ending,
}

impl RunnerState {
    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            RunnerState::Starting => "starting",
            RunnerState::Idle => "idle",
            RunnerState::Busy => "busy",
            RunnerState::Ending => "ending",
        }
    }
}
