//! Jobs: how they come, what is told of them, and how they end.

use std::collections::HashMap;

use jiff::SignedDuration;
use runner_core::job::{Findings, Job, JobAction, JobDescription, JobFact, JobKey, JobReport, READ_PREFIX};
use runner_core::labels::{Matched, match_class};
use runner_core::lifecycle::RunnerFact;
use runner_core::setup::Scope;

use super::super::github::JobKind;
use super::super::history::PastJob;
use super::super::record::{GaugeKey, JobRecord, Outcome, STARTING};
use super::{Engine, Event, Tracked, TrueState, later};

/// GitHub fails a job that nobody took for so long (GitHub documentation, "Usage limits" of self-hosted runners).
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

impl Engine<'_> {
    /// Makes all jobs known, before any is queued.
    pub(super) fn track_all(&mut self) {
        let setup = &self.scenario.setup;
        let mut of_wants: HashMap<(String, (Matched, Scope)), usize> = HashMap::new();
        for past in self.past {
            let kind = JobKind {
                source: self.source_of(past),
                owner: past.owner().to_owned(),
                repository: past.repository.clone(),
                labels: past.labels.clone(),
            };
            let matched = match_class(setup, &past.labels).ok();
            let class = matched.as_ref().map(|matched| matched.class.clone());
            let label = matched.as_ref().map(Matched::label);
            let scope = setup
                .sources
                .get(&kind.source)
                .and_then(|source| source.scope_of(&kind.owner, &kind.repository));
            let wants = matched.zip(scope).map(|wants| {
                let next = of_wants.len();
                *of_wants.entry((kind.source.clone(), wants)).or_insert(next)
            });
            let kind = self.github.job_kind(kind);
            let record = JobRecord {
                // Each job gets another one at its end.
                outcome: Outcome::NeverStarted(STARTING),
                started_at: None,
                ended_at: past.queued_at,
                class: label,
                place: None,
                runners: 0,
                waited: Vec::new(),
            };
            self.tracked.push(Tracked {
                state: TrueState::NotYet,
                position: None,
                kind,
                wants,
                class,
                own_runners: 0,
                why: (STARTING, past.queued_at),
                refused: None,
                given_up: false,
                record,
            });
        }
    }

    /// The source that tells of a job: the one that it names, else the first that serves its repository, else the first.
    fn source_of(&self, past: &PastJob) -> String {
        let sources = &self.scenario.setup.sources;
        let serves =
            sources.values().find(|source| source.scope_of(past.owner(), &past.repository).is_some());
        past.source
            .clone()
            .or_else(|| serves.or(sources.values().next()).map(|source| source.name.clone()))
            .unwrap_or_default()
    }

    pub(super) fn arrives(&mut self, job: usize) {
        let (now, Some(past)) = (self.now, self.past.get(job)) else { return };
        let Some(tracked) = self.tracked.get_mut(job) else { return };
        tracked.state = TrueState::Queued;
        tracked.why.1 = now;
        let kind = tracked.kind;
        self.timeline.change(now, 1, 0);
        self.store(job);
        self.tell(job, JobAction::Queued, "hook-queued", None, None);
        self.github.queue(job, kind, past.queued_at);
        self.at(later(past.queued_at, LONGEST_WAIT), Event::GivenUpBySource(job));
        if let Some(at) = past.cancelled_at {
            self.at(at, Event::Cancelled(job));
        }
        if let Some(runner) = self.github.runner_for(kind) {
            self.begins(job, runner);
            self.dirty = true;
            return;
        }
        match self.full_for(job) {
            Some(code) => {
                self.waits_for(job, code);
                self.waiting = true;
            }
            None => self.dirty = true,
        }
    }

    /// Puts a job's record into the snapshot.
    fn store(&mut self, job: usize) {
        let source = self.past.get(job).map(|past| self.source_of(past));
        let (Some(past), Some(source)) = (self.past.get(job), source) else { return };
        let Some(tracked) = self.tracked.get_mut(job) else { return };
        tracked.position = Some(self.snapshot.jobs.len());
        self.snapshot.jobs.push(Job {
            key: JobKey { source, id: format!("{job:08}"), attempt: 1 },
            description: JobDescription {
                owner: past.owner().to_owned(),
                repository: past.repository.clone(),
                public: past.public,
                name: past.name.clone().unwrap_or_default(),
                workflow: past.workflow.clone(),
                url: None,
                labels: past.labels.clone(),
                created_at: Some(past.queued_at),
                head_sha: None,
                head_branch: None,
                run: None,
            },
            stored_at: self.now,
            facts: Vec::new(),
            // A history tells no branches.
            found: Findings { protected_branch: Some(false), ..Findings::default() },
            report: JobReport::default(),
        });
    }

    /// A job's record in the snapshot.
    pub(super) fn stored(&mut self, job: usize) -> Option<&mut Job> {
        let position = self.tracked.get(job)?.position?;
        self.snapshot.jobs.get_mut(position)
    }

    /// The source tells something of a job.
    fn tell(
        &mut self,
        job: usize,
        action: JobAction,
        id: &str,
        runner: Option<String>,
        conclusion: Option<String>,
    ) {
        let heard_at = self.now;
        if let Some(stored) = self.stored(job) {
            stored.facts.push(JobFact { id: id.to_owned(), action, heard_at, runner, conclusion });
        }
    }

    /// The source is asked about a job, and answers at once.
    pub(super) fn read(&mut self, job: usize) {
        let Some(tracked) = self.tracked.get(job) else { return };
        let action = match tracked.state {
            TrueState::NotYet | TrueState::Queued => JobAction::Queued,
            TrueState::Running => JobAction::InProgress,
            TrueState::Over => JobAction::Completed,
        };
        let told = self.stored(job).and_then(|stored| {
            // Who has it, and how it ended, were told before.
            let last = stored.facts.iter().rev().find(|fact| fact.action == action)?;
            Some((last.runner.clone(), last.conclusion.clone()))
        });
        let (runner, conclusion) = told.unwrap_or_default();
        let id = format!("{READ_PREFIX}{}", self.now.as_millisecond());
        self.tell(job, action, &id, runner, conclusion);
        self.dirty = true;
    }

    /// An agent gets a job.
    pub(super) fn begins(&mut self, job: usize, runner: usize) {
        let now = self.now;
        let Some(past) = self.past.get(job) else { return };
        // Where another runner stands for the job that could as well stand for this one's own, the two change places,
        // which the planner need not be asked about.
        let why = self.tracked.get(job).map_or(STARTING, |tracked| tracked.why.0);
        self.waits_for(job, STARTING);
        let Some(live) = self.runners.get_mut(runner) else { return };
        (live.job, live.busy) = (Some(job), true);
        let (name, own, place) = (live.name.clone(), live.own_job, live.position);
        let alike = |a: &Tracked, b: &Tracked| a.wants == b.wants && a.wants.is_some();
        let swaps = why == STARTING
            && self.tracked.get(job).zip(self.tracked.get(own)).is_some_and(|(job, own)| alike(job, own));
        let robbed = (own != job && !swaps).then_some(own);
        if own != job && swaps {
            let stood_for_it = self.stored(job).and_then(|stored| stored.report.runner.clone());
            if let Some(stored) = self.stored(own) {
                stored.report.runner = stood_for_it;
            }
        }
        let place = place
            .and_then(|position| self.snapshot.runners.get(position))
            .map(|recorded| recorded.place.clone());
        let Some(tracked) = self.tracked.get_mut(job) else { return };
        tracked.state = TrueState::Running;
        tracked.record.started_at = Some(now);
        tracked.record.place = place;
        let (kind, known) = (tracked.kind, tracked.position.is_some());
        let left_queue = if tracked.refused.is_some() { 0 } else { -1 };
        self.timeline.change(now, left_queue, 1);
        self.github.unqueue(job, kind, past.queued_at);
        self.github.not_idle(runner);
        if !known {
            // No runner is started for such a job, and it got one all the same.
            self.store(job);
            self.tell(job, JobAction::Queued, "hook-queued", None, None);
        }
        self.tell(job, JobAction::InProgress, "hook-in-progress", Some(name), None);
        self.record(runner, RunnerFact::AgentJobStarted(now));
        self.after(past.duration, Event::JobDone(runner));
        // The job for which the runner was started waits again. Where all is full, that is all there is to say.
        if let Some(robbed) = robbed {
            match self.full_for(robbed) {
                Some(code) => self.waits_for(robbed, code),
                None => self.dirty = true,
            }
        }
    }

    /// A runner's job is over.
    pub(super) fn job_done(&mut self, runner: usize) {
        let now = self.now;
        let Some(live) = self.runners.get_mut(runner) else { return };
        let Some(job) = live.job.filter(|_| live.busy) else { return };
        live.busy = false;
        live.registered = false;
        let (name, exit) = (live.name.clone(), live.draw.exit);
        let conclusion = self.past.get(job).and_then(|past| past.conclusion.clone());
        let conclusion = conclusion.unwrap_or_else(|| "success".to_owned());
        self.tell(job, JobAction::Completed, "hook-completed", Some(name), Some(conclusion));
        self.record(runner, RunnerFact::AgentJobCompleted(now));
        self.timeline.change(now, 0, -1);
        self.over(job, Outcome::Ran);
        self.after(exit, Event::Ended(runner));
    }

    /// A job ends that no agent has, if it still waits. Without an outcome, its source gives it up.
    pub(super) fn ends_waiting(&mut self, job: usize, outcome: Option<Outcome>) {
        let Some(tracked) = self.tracked.get(job).filter(|tracked| tracked.state == TrueState::Queued) else {
            return;
        };
        let (kind, why) = (tracked.kind, tracked.why.0);
        let outcome = outcome.unwrap_or(match (tracked.refused, tracked.given_up) {
            (Some(code), _) => Outcome::Refused(code),
            (None, true) => Outcome::GivenUp(why),
            (None, false) => Outcome::NeverStarted(why),
        });
        let left_queue = if tracked.refused.is_some() { 0 } else { -1 };
        self.waits_for(job, STARTING);
        self.timeline.change(self.now, left_queue, 0);
        if let Some(past) = self.past.get(job) {
            self.github.unqueue(job, kind, past.queued_at);
        }
        let conclusion = if outcome == Outcome::Cancelled { "cancelled" } else { "failure" };
        self.tell(job, JobAction::Completed, "hook-completed", None, Some(conclusion.to_owned()));
        self.over(job, outcome);
        self.dirty = true;
    }

    fn over(&mut self, job: usize, outcome: Outcome) {
        let now = self.now;
        let Some(tracked) = self.tracked.get_mut(job) else { return };
        tracked.state = TrueState::Over;
        tracked.record.outcome = outcome;
        tracked.record.ended_at = now;
        self.forget_if_over(job);
    }

    /// The planner refuses a job for good: only another configuration would change that.
    pub(super) fn refused(&mut self, job: usize, code: Option<&str>) {
        // The job waits for this reason by now: the plan said so.
        let Some(tracked) = self.tracked.get_mut(job) else { return };
        if tracked.refused.is_some() || tracked.state != TrueState::Queued || code != Some(tracked.why.0) {
            return;
        }
        tracked.refused = Some(tracked.why.0);
        let own_runners = tracked.own_runners;
        self.timeline.change(self.now, -1, 0);
        if own_runners == 0 {
            // GitHub's queue keeps it, the planner need not.
            self.forget(job);
        }
    }

    pub(super) fn given_up(&mut self, job: usize) {
        if let Some(tracked) = self.tracked.get_mut(job) {
            tracked.given_up = true;
        }
    }

    /// A job waits for this from now on; what it waited for before is added up.
    pub(super) fn waits_for(&mut self, job: usize, code: &'static str) {
        let now = self.now;
        let Some(tracked) = self.tracked.get_mut(job).filter(|tracked| tracked.state == TrueState::Queued)
        else {
            return;
        };
        let (before, since) = tracked.why;
        let passed = now.duration_since(since);
        tracked.why = (code, now);
        if passed.is_zero() {
            return;
        }
        let waited = &mut tracked.record.waited;
        match waited.iter_mut().find(|(known, _)| *known == before) {
            Some((_, sum)) => *sum = sum.saturating_add(passed),
            None => waited.push((before, passed)),
        }
    }

    /// Why no runner can be started for a job whatever the planner would say, if so: the cap of the installation, its class
    /// or its size is reached. The code is the one that the planner gives where these stand in the way.
    fn full_for(&self, job: usize) -> Option<&'static str> {
        let tracked = self.tracked.get(job)?;
        let label = tracked.record.class.as_deref()?;
        // One that is refused is not held up by a cap.
        tracked.wants?;
        let class = tracked.class.as_deref().unwrap_or_default();
        if self.gauges.is_full(&GaugeKey::Installation) {
            Some("InstallationFull")
        } else if self.gauges.is_full(&GaugeKey::Class(class.to_owned())) {
            Some("ClassFull")
        } else if self.gauges.is_full(&GaugeKey::Size(label.to_owned())) {
            Some("SizeFull")
        } else {
            None
        }
    }

    pub(super) fn forget_if_over(&mut self, job: usize) {
        let over = self
            .tracked
            .get(job)
            .is_some_and(|tracked| tracked.state == TrueState::Over && tracked.own_runners == 0);
        if over {
            self.forget(job);
        }
    }

    /// Takes a job's record out of the snapshot.
    pub(super) fn forget(&mut self, job: usize) {
        let Some(position) = self.tracked.get_mut(job).and_then(|tracked| tracked.position.take()) else {
            return;
        };
        if position < self.snapshot.jobs.len() {
            self.snapshot.jobs.swap_remove(position);
        }
        let moved = self.snapshot.jobs.get(position).and_then(|moved| self.job(&moved.key));
        if let Some(moved) = moved.and_then(|moved| self.tracked.get_mut(moved)) {
            moved.position = Some(position);
        }
    }
}
