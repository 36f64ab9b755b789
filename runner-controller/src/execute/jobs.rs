//! Actions on jobs: what their source says of them.

use runner_core::job::{Finding, Job, JobAction, JobFact, READ_PREFIX, Told};

use super::{Outcome, Outside};
use crate::clock;
use crate::ports::{CallErrorKind, CallResult};

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

    /// Asks a job's source whether the job runs the code of a protected branch, and notes the answer.
    pub(super) async fn read_branch(&self, job: &Job) -> CallResult<Outcome> {
        let provider = self.provider(&job.key.source)?;
        let protected = match provider.is_of_protected_branch(&job.description).await {
            Ok(protected) => protected,
            Err(error) => match error.kind {
                CallErrorKind::Unavailable | CallErrorKind::Throttled(_) => return Err(error),
                // It would be refused again, and the job would wait for ever.
                CallErrorKind::NotFound | CallErrorKind::Conflict | CallErrorKind::Refused => {
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
