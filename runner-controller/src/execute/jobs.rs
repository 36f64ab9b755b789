//! Actions on jobs: what their source says of them.

use runner_core::job::{Job, JobAction, JobFact, READ_PREFIX, Told};

use super::{Outcome, Outside};
use crate::clock;
use crate::ports::CallResult;

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
}
