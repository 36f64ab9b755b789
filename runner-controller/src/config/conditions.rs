//! The conditions of a `RunnerJob`: whether it was admitted, in the form that Kubernetes knows.

use jiff::Timestamp;
use runner_core::job::{JobReport, Standing};
use runner_core::reason::gist;

use super::records::{ConditionRecord, RunnerJob};

/// The condition that tells whether a runner was started for a job.
pub const ADMITTED: &str = "Admitted";
/// The status of a condition that holds.
const TRUE: &str = "True";

/// The conditions of a job's record. `known`: whether it was admitted before, and since when, which stays while that does.
pub fn of(report: &JobReport, known: Option<(bool, Timestamp)>, now: Timestamp) -> Vec<ConditionRecord> {
    let waits = |word: &str| {
        let code = report.reason.as_deref().unwrap_or(word);
        let gist = gist(code).unwrap_or("It has no runner.");
        (false, code.to_owned(), format!("{gist} See docs/errors/{code}.md."))
    };
    let word = report.standing.as_str();
    let (admitted, reason, message) = match report.standing {
        Standing::Stored => return Vec::new(),
        Standing::Waiting | Standing::Refused | Standing::GivenUp => waits(word),
        Standing::Starting => (true, word.to_owned(), "A runner is being started for it.".to_owned()),
        Standing::Running => (true, word.to_owned(), "A runner has it.".to_owned()),
        Standing::Ended => {
            let had = report.runner.is_some() || report.runners_started > 0;
            let message = if had { "It is over." } else { "It was over before it had a runner." };
            (had, word.to_owned(), message.to_owned())
        }
    };
    let since = known.filter(|(before, _)| *before == admitted).map(|(_, since)| since);
    vec![ConditionRecord {
        kind: ADMITTED.to_owned(),
        status: if admitted { TRUE } else { "False" }.to_owned(),
        reason,
        message,
        last_transition_time: since.unwrap_or(now),
    }]
}

/// Whether a job's record says that it was admitted, and since when it says so.
pub fn admitted(record: &RunnerJob) -> Option<(bool, Timestamp)> {
    let conditions = &record.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.kind == ADMITTED)?;
    Some((found.status == TRUE, found.last_transition_time))
}

#[cfg(test)]
mod tests;
