//! What happens by the clock alone: agents go offline, jobs wait for another agent, run out of time or are given up.

use std::time::Duration;

use emulator_common::clock::passed;
use jiff::Timestamp;

use crate::options::Options;
use crate::spec::{AgentId, JobResult, JobState, RequestId};
use crate::state::State;

impl State {
    /// Applies every deadline that has passed.
    pub(crate) fn tick(&mut self, options: &Options, now: Timestamp) {
        self.find_offline(options, now);
        self.reassign_unfetched(options, now);
        self.end_overdue(options, now);
    }

    fn find_offline(&mut self, options: &Options, now: Timestamp) {
        let limit = options.scaled(options.timing.offline_after);
        let quiet: Vec<AgentId> = self
            .sessions
            .values()
            .filter(|session| session.polling == 0 && passed(session.last_seen, now, limit))
            .map(|session| session.agent)
            .collect();
        for agent in quiet {
            self.gone_quiet(agent, now);
        }
    }

    fn reassign_unfetched(&mut self, options: &Options, now: Timestamp) {
        let limit = options.scaled(options.timing.assigned_timeout);
        let unfetched: Vec<(RequestId, AgentId)> = self
            .held
            .iter()
            .filter_map(|request| self.jobs.get(request))
            .filter(|job| job.state() == JobState::Assigned)
            .filter(|job| job.assigned_at.is_some_and(|at| passed(at, now, limit)))
            .filter_map(|job| Some((job.request, job.agent.as_ref()?.0)))
            .collect();
        for (request, agent) in &unfetched {
            // An agent that did not come for its job counts as offline until it asks again.
            self.gone_quiet(*agent, now);
            self.take_back(*request);
        }
        if !unfetched.is_empty() {
            self.match_up(now);
        }
    }

    fn end_overdue(&mut self, options: &Options, now: Timestamp) {
        let grace = options.scaled(options.timing.cancel_grace);
        let lost = options.scaled(options.timing.lost_after);
        let mut ended: Vec<(RequestId, JobResult, Option<String>)> = Vec::new();
        let mut timed_out: Vec<(RequestId, String)> = Vec::new();
        for job in self.held.iter().filter_map(|request| self.jobs.get(request)) {
            let Some(received_at) = job.received_at else { continue };
            let Some((id, name)) = &job.agent else { continue };
            let agent = self.agents.get(id);
            let session = agent.and_then(|agent| agent.session.as_ref());
            let session = session.and_then(|session| self.sessions.get(session));
            let seen = session.map_or_else(
                || agent.map_or(received_at, |agent| agent.status_changed_at),
                |session| session.last_seen,
            );
            let offline = agent.is_none_or(|agent| !agent.online);
            let limit = job.spec.timeout_ms.map(|ms| options.scaled(Duration::from_millis(ms)));
            if job.cancel_requested_at.is_some_and(|at| passed(at, now, grace)) {
                ended.push((job.request, JobResult::Canceled, None));
            } else if offline && passed(seen, now, lost) {
                let complaint = format!(
                    "We stopped hearing from agent {name}. Verify the agent machine is running and has a healthy network connection."
                );
                ended.push((job.request, JobResult::Abandoned, Some(complaint)));
            } else if job.cancel_requested_at.is_none()
                && limit.is_some_and(|limit| passed(received_at, now, limit))
            {
                let complaint = format!("The job running on agent {name} ran longer than its maximum time.");
                timed_out.push((job.request, complaint));
            }
        }
        for (request, complaint) in timed_out {
            if let Some(job) = self.jobs.get_mut(&request) {
                job.issues.push(complaint);
            }
            // The request is there, or it would not have been found.
            let _ = self.cancel_job(request, now);
        }
        for (request, result, complaint) in ended {
            match complaint {
                Some(complaint) => self.fail_with(request, result, complaint, now),
                None => self.complete(request, result, now),
            }
        }
    }
}
