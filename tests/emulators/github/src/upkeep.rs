//! What happens by the clock alone: agents go offline, jobs are queued again or fail, unused runners are purged.

use emulator_common::clock::passed;
use jiff::Timestamp;

use crate::options::Timing;
use crate::spec::{Conclusion, JobId, JobStatus, RunnerId};
use crate::state::State;

impl State {
    /// Applies every deadline that has passed.
    pub(crate) fn tick(&mut self, timing: &Timing, now: Timestamp) {
        self.find_offline(timing, now);
        self.end_overdue_jobs(timing, now);
        self.requeue_unfetched(timing, now);
        self.purge_unused(timing, now);
    }

    fn find_offline(&mut self, timing: &Timing, now: Timestamp) {
        for session in self.sessions.values() {
            if session.polling == 0
                && passed(session.last_seen, now, timing.offline_after)
                && let Some(runner) = self.runners.get_mut(&session.runner)
            {
                runner.online = false;
                self.idle.remove(&session.runner);
            }
        }
    }

    fn end_overdue_jobs(&mut self, timing: &Timing, now: Timestamp) {
        let mut ended: Vec<(JobId, Conclusion)> = Vec::new();
        for id in &self.held_jobs {
            let Some(job) = self.jobs.get(id).filter(|job| job.status == JobStatus::InProgress) else {
                continue;
            };
            let runner = job.runner.as_ref().and_then(|runner| self.runners.get(&runner.id));
            let last_seen = runner
                .and_then(|runner| runner.session.as_ref())
                .and_then(|session| self.sessions.get(session))
                .map_or(job.started_at.unwrap_or(job.queued_at), |session| session.last_seen);
            let offline = runner.is_none_or(|runner| !runner.online);
            if job.cancel_requested_at.is_some_and(|at| passed(at, now, timing.cancel_grace)) {
                ended.push((*id, Conclusion::Cancelled));
            } else if offline && passed(last_seen, now, timing.lost_after) {
                ended.push((*id, Conclusion::Failure));
            }
        }
        for (_, id) in &self.queue {
            if self.jobs.get(id).is_some_and(|job| passed(job.queued_at, now, timing.queue_timeout)) {
                ended.push((*id, Conclusion::Failure));
            }
        }
        for (id, conclusion) in ended {
            self.complete(id, conclusion, now);
        }
    }

    fn requeue_unfetched(&mut self, timing: &Timing, now: Timestamp) {
        let unfetched: Vec<JobId> = self
            .held_jobs
            .iter()
            .filter(|id| {
                self.jobs.get(id).is_some_and(|job| {
                    job.status == JobStatus::Queued
                        && job.assigned_at.is_some_and(|at| passed(at, now, timing.assigned_timeout))
                })
            })
            .copied()
            .collect();
        for id in unfetched {
            // An agent that did not come for its job counts as offline until it asks again.
            let runner = self.jobs.get(&id).and_then(|job| job.runner.as_ref()).map(|runner| runner.id);
            if let Some(runner) = runner.and_then(|id| self.runners.get_mut(&id)) {
                runner.online = false;
            }
            self.take_back(id, now);
            self.enqueue(id);
            self.offer_job(id, now);
        }
    }

    fn purge_unused(&mut self, timing: &Timing, now: Timestamp) {
        let purged: Vec<RunnerId> = self
            .runners
            .values()
            .filter(|runner| runner.job.is_none())
            .filter(|runner| {
                let limit = if runner.used { timing.idle_purge } else { timing.unconnected_purge };
                limit.is_some_and(|limit| passed(runner.idle_since, now, limit))
            })
            .map(|runner| runner.id)
            .collect();
        for id in purged {
            self.remove_runner(id);
        }
    }
}
