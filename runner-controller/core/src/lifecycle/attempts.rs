//! What the end of a runner says: whose fault a failed start is, and what follows for the job's next runner.

use crate::reason::Reason;

/// Azure's words for a quota, a rate or a region that is used up (facts about ACI, "Limits and failures").
const NO_CAPACITY: [&str; 4] =
    ["ContainerGroupQuotaReached", "TooManyRequests", "ServiceUnavailable", "ContainerGroupQuotaExceeded"];

/// Why a container could not be started: its own fault, or no room for it.
pub fn start_failure(why: String) -> Reason {
    if NO_CAPACITY.iter().any(|code| why.contains(code)) {
        Reason::NoCapacity { why }
    } else {
        Reason::StartFailed { why }
    }
}

/// Of a job's runners, so many may have their registrations removed while they wait without counting as attempts. It
/// happens where another runner took the job; time after time only where its source does not hand the job out, as with a
/// runner group that is closed to the repository.
const IDLE_REMOVED_FREE: u32 = 2;

/// Whether a job's runner of this number that ended for this reason counts as a failed attempt at it, given that it had
/// no job.
///
/// What its source, the platform's limits or the controller itself did does not count, nor what an admin did.
pub fn counts_as_attempt(code: &str, ordinal: u32) -> bool {
    match code {
        "IdleRemoved" => ordinal > IDLE_REMOVED_FREE,
        "RegistrationFailed" | "Interrupted" | "NameTaken" | "NoCapacity" | "Unschedulable" | "Surplus"
        | "Deleted" => false,
        _ => true,
    }
}

/// Whether the next runner for the job waits after one that ended for this reason: whatever failed may fail again. Where
/// a place had no room, it is the place that gets a pause ([`crate::health`]), and the job goes on to the next one.
pub(crate) fn pauses_the_next(code: &str) -> bool {
    !matches!(code, "NoCapacity" | "Unschedulable" | "Surplus" | "Deleted")
}
