//! Actions on jobs: what their source says of them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::job::{Finding, Job, JobAction, JobFact, READ_PREFIX, Told};

use super::holds::Failing;
use super::{Outcome, Outside};
use crate::clock;
use crate::ports::{CallError, CallErrorKind, CallResult};

/// After how many failures, and after how long, a branch that cannot be read counts as not protected: an answer that is
/// too large or that the source fails to give stays so.
const GIVEN_UP_FROM: u32 = 5;
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// How long a source's branches are left alone where it is not known when they can be read.
const PAUSE: Duration = Duration::from_secs(60);

impl Outside {
    /// Reads a job from its source and stores the answer as a fact of its own.
    pub(super) async fn read_job(&self, job: &Job) -> CallResult<Outcome> {
        let provider = self.provider(&job.key.source)?;
        let reading = provider.read_job(&job.key, &job.description).await?;
        // A job that its source no longer knows will neither run nor end in any other way.
        let (action, runner, conclusion) = match reading {
            Some(reading) => (reading.action, reading.runner, reading.conclusion),
            None => (JobAction::Completed, None, Some("vanished".to_owned())),
        };
        let word = match action {
            JobAction::Queued => "queued",
            JobAction::Waiting => "waiting",
            JobAction::InProgress => "in-progress",
            JobAction::Completed => "completed",
        };
        let heard_at = clock::now();
        let id = format!("{READ_PREFIX}{word}-{}", heard_at.as_millisecond());
        let fact = JobFact { id, action, heard_at, runner, conclusion };
        let told = Told { key: job.key.clone(), description: job.description.clone(), fact };
        self.records.tell(&told).await.map(|_| Outcome::Done)
    }

    /// Asks a job's source whether the job runs the code of a protected branch, and notes the answer. What keeps the
    /// source from being asked about any job is no answer; what keeps failing about this one is.
    pub(super) async fn read_branch(&self, job: &Job, failing: Failing) -> CallResult<Outcome> {
        let asked = match self.provider(&job.key.source) {
            Ok(provider) => provider.is_of_protected_branch(&job.description).await,
            Err(error) => return Ok(no_branches(job, &error)),
        };
        let protected = match asked {
            Ok(protected) => protected,
            Err(error) => match verdict(&error, failing, clock::now()) {
                Verdict::AskNobody => return Ok(no_branches(job, &error)),
                Verdict::AskAgain => return Err(error),
                Verdict::NotProtected => {
                    tracing::warn!(
                        job = %job.key,
                        %error,
                        "job {} counts as not of a protected branch, since that cannot be read: {error}",
                        job.key
                    );
                    false
                }
            },
        };
        self.records.note(&job.key, &Finding::ProtectedBranch(protected)).await.map(|()| Outcome::Done)
    }
}

/// What to make of a branch that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No other job's could be read either.
    AskNobody,
    /// It may be read later.
    AskAgain,
    /// The job would wait for ever.
    NotProtected,
}

fn verdict(error: &CallError, failing: Failing, now: Timestamp) -> Verdict {
    if error.of_credentials {
        // Somebody renews a key or token, and then all is as before.
        return Verdict::AskNobody;
    }
    match error.kind {
        CallErrorKind::Throttled(_) => Verdict::AskNobody,
        CallErrorKind::Unavailable => {
            let for_long = failing.since.is_some_and(|since| now.duration_since(since) >= GIVEN_UP_AFTER);
            if failing.times >= GIVEN_UP_FROM && for_long { Verdict::NotProtected } else { Verdict::AskAgain }
        }
        CallErrorKind::NotFound | CallErrorKind::Conflict | CallErrorKind::Refused => Verdict::NotProtected,
    }
}

fn no_branches(job: &Job, error: &CallError) -> Outcome {
    let source = job.key.source.clone();
    let after = error.pause().unwrap_or(PAUSE);
    let seconds = after.as_secs();
    tracing::info!(source, %error, "branches at source {source} are not read for {seconds} s: {error}");
    Outcome::NoBranches { source, after }
}

#[cfg(test)]
mod tests;
