//! A job's way through GitHub: made, perhaps held back, queued, assigned, run, over.

use std::sync::Arc;
use std::time::Duration;

use super::{GitHub, Job, State};
use crate::fault::Fault;
use crate::scenario;

/// How far attempts' ids are apart.
pub const ATTEMPT: u64 = 1_000;
/// How many seconds after a job its next attempt arrives, if it is over by then.
pub const AGAIN_AFTER: u64 = 700;

impl GitHub {
    /// Lets a planned job arrive, and whatever else is planned for it happen.
    pub async fn live(self: Arc<Self>, plan: scenario::Job) {
        self.board.clock.until(plan.arrives).await;
        self.arrive(&plan, plan.number, 1);
        if let Some(after) = plan.cancelled {
            let github = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(after)).await;
                github.cancel(plan.number);
            });
        }
        if let Some(after) = plan.approved {
            tokio::time::sleep(Duration::from_secs(after)).await;
            self.queue(plan.number);
        }
        for fault in self.board.faults() {
            if let Fault::Stolen { job, after } = fault
                && *job == plan.number
            {
                tokio::time::sleep(Duration::from_secs(*after)).await;
                self.steal(*job).await;
            }
        }
        if plan.again {
            self.board.clock.until(plan.arrives + AGAIN_AFTER).await;
            if !self.job(plan.number).is_some_and(|job| matches!(job.state, State::Over(_))) {
                return;
            }
            self.arrive(&plan, plan.number + ATTEMPT, 2);
        }
    }

    fn arrive(self: &Arc<Self>, plan: &scenario::Job, id: u64, attempt: u32) {
        let held_back = plan.approved.is_some() && attempt == 1;
        let job = Job {
            id,
            attempt,
            repository: plan.repository.to_owned(),
            labels: plan.labels.iter().map(|label| (*label).to_owned()).collect(),
            state: if held_back { State::HeldBack } else { State::Queued },
            runs_for: plan.runs_for,
            created_at: self.board.clock.now(),
            runner: None,
            over_at: None,
            meddled: false,
        };
        self.lock().jobs.insert(id, job);
        if plan.skipped && attempt == 1 {
            self.finish(id, "skipped");
        } else {
            // Approval gates give queued, waiting, and queued once more.
            self.tell(id, "queued");
            if held_back {
                self.tell(id, "waiting");
            } else {
                self.assign();
            }
        }
    }

    /// An approval lets a job go on.
    fn queue(self: &Arc<Self>, id: u64) {
        {
            let mut inner = self.lock();
            let Some(job) = inner.jobs.get_mut(&id).filter(|job| job.state == State::HeldBack) else {
                return;
            };
            job.state = State::Queued;
        }
        self.tell(id, "queued");
        self.assign();
    }

    /// A runner begins its job; `None` if that is no longer its own. Answers for how many seconds it runs.
    pub fn begin(self: &Arc<Self>, id: u64, runner: u64) -> Option<u64> {
        let runs_for = {
            let mut inner = self.lock();
            let job = inner.jobs.get_mut(&id).filter(|job| job.state == State::Assigned(runner))?;
            job.state = State::Running(runner);
            let runs_for = job.runs_for;
            if let Some(runner) = inner.runners.get_mut(&runner) {
                runner.had_job = true;
            }
            runs_for
        };
        self.tell(id, "in_progress");
        Some(runs_for)
    }

    /// Whether a runner still has its job.
    pub fn has(&self, id: u64, runner: u64) -> bool {
        self.job(id).is_some_and(|job| job.state == State::Running(runner))
    }

    /// A job is over; its runner, if it has one, is removed.
    pub fn finish(self: &Arc<Self>, id: u64, conclusion: &'static str) {
        {
            let mut inner = self.lock();
            let Some(job) = inner.jobs.get_mut(&id) else { return };
            if let State::Over(_) = job.state {
                return;
            }
            let runner = match job.state {
                State::Assigned(runner) | State::Running(runner) => Some(runner),
                State::HeldBack | State::Queued | State::Over(_) => None,
            };
            if let State::Assigned(_) = job.state {
                job.runner = None;
            }
            job.state = State::Over(conclusion);
            job.over_at = Some(self.board.clock.passed());
            if let Some(runner) = runner {
                inner.remove(runner);
            }
        }
        self.tell(id, "completed");
    }

    fn cancel(self: &Arc<Self>, id: u64) {
        if let Some(job) = self.lock().jobs.get_mut(&id) {
            job.meddled = true;
        }
        self.finish(id, "cancelled");
    }

    /// A runner that is not Stint's takes a job and runs it.
    async fn steal(self: &Arc<Self>, id: u64) {
        let (runs_for, runner) = {
            let mut inner = self.lock();
            inner.last_runner += 1;
            let foreign = inner.last_runner;
            let Some(job) = inner.jobs.get_mut(&id).filter(|job| job.state == State::Queued) else { return };
            job.state = State::Running(foreign);
            job.runner = Some((foreign, "foreign".to_owned()));
            job.meddled = true;
            (job.runs_for, foreign)
        };
        self.board.journal.fault(format_args!("a foreign runner takes job {id}"));
        self.tell(id, "in_progress");
        tokio::time::sleep(Duration::from_secs(runs_for)).await;
        if self.has(id, runner) {
            self.finish(id, "success");
        }
    }
}
