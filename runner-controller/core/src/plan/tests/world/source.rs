//! The source: hands queued jobs to idle runners that cover them, and tells of it.

use super::{Event, Fate, TrueState, World};
use crate::job::{Findings, Job, JobAction, JobDescription, JobFact, JobKey, JobReport};
use crate::labels;
use crate::lifecycle::RunnerFact;

impl World {
    pub(super) fn set(&mut self, key: &JobKey, state: TrueState) {
        self.jobs.get_mut(key).unwrap().state = state;
    }

    pub(super) fn over_if_waiting(&mut self, key: &JobKey, conclusion: &str) {
        if matches!(self.jobs[key].state, TrueState::HeldBack | TrueState::Queued) {
            self.finish(key, conclusion, None);
        }
    }

    pub(super) fn finish(&mut self, key: &JobKey, conclusion: &str, runner: Option<String>) {
        self.note(&format!("job {key} is over: {conclusion}"));
        self.set(key, TrueState::Over { conclusion: conclusion.to_owned(), runner });
        self.tell(key, JobAction::Completed);
    }

    pub(super) fn begin_job(&mut self, key: &JobKey, runner: &str) {
        self.note(&format!("job {key} runs on {runner}"));
        self.set(key, TrueState::Running(runner.to_owned()));
        self.tell(key, JobAction::InProgress);
        let runs_for = u64::try_from(self.jobs[key].script.runs_for).unwrap();
        self.after(runs_for, Event::JobDone(key.clone()));
    }

    /// Hands queued jobs to whatever idle runner covers them.
    pub(super) fn assign(&mut self) {
        let queued: Vec<JobKey> = self
            .jobs
            .iter()
            .filter(|(_, job)| matches!(job.state, TrueState::Queued))
            .map(|(key, _)| key.clone())
            .collect();
        for key in queued {
            let script = &self.jobs[&key].script;
            let owner = script.repository.split('/').next().unwrap_or_default();
            let fit: Vec<String> = self
                .registrations
                .iter()
                .filter(|(_, registration)| registration.online && registration.job.is_none())
                .filter(|(_, registration)| registration.scope.serves(owner, &script.repository))
                .filter(|(_, registration)| labels::covers(&registration.labels, &script.labels))
                .map(|(name, _)| name.clone())
                .collect();
            if fit.is_empty() {
                continue;
            }
            let which = usize::try_from(self.dice.below(fit.len() as u64)).unwrap();
            let name = fit[which].clone();
            self.registrations.get_mut(&name).unwrap().job = Some(key.clone());
            self.call_back(&name, RunnerFact::AgentJobStarted);
            self.begin_job(&key, &name);
        }
    }

    pub(super) fn job_done(&mut self, key: &JobKey) {
        let TrueState::Running(runner) = self.jobs[key].state.clone() else { return };
        let lost =
            runner != "elsewhere" && !self.machines.get(&runner).is_some_and(|machine| machine.running);
        if lost {
            return;
        }
        self.registrations.remove(&runner);
        self.call_back(&runner, RunnerFact::AgentJobCompleted);
        self.finish(key, "success", Some(runner.clone()));
        let hangs = self.machines.get(&runner).is_some_and(|machine| machine.fate == Fate::HangsAfterJob);
        if !hangs {
            self.call_back(&runner, |at| RunnerFact::AgentExiting(at, Some(0)));
            self.after(2, Event::Ends(runner));
        }
    }

    /// Sends a webhook of how the job stands, as lossy and late as the faults say.
    pub(super) fn tell(&mut self, key: &JobKey, action: JobAction) {
        self.counter += 1;
        let mut fact = self.fact(key, format!("hook-{}", self.counter));
        fact.action = action;
        if self.dice.chance(self.faults.webhook_lost) {
            return;
        }
        let copies = if self.dice.chance(self.faults.webhook_twice) { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.dice.below(self.faults.webhook_late + 1);
            self.after(late, Event::Told(key.clone(), fact.clone()));
        }
    }

    pub(super) fn fact(&self, key: &JobKey, id: String) -> JobFact {
        let (action, runner, conclusion) = match &self.jobs[key].state {
            TrueState::HeldBack => (JobAction::Waiting, None, None),
            TrueState::Queued => (JobAction::Queued, None, None),
            TrueState::Running(runner) => (JobAction::InProgress, Some(runner.clone()), None),
            TrueState::Over { conclusion, runner } => {
                (JobAction::Completed, runner.clone(), Some(conclusion.clone()))
            }
        };
        JobFact { id, action, heard_at: self.now, runner, conclusion }
    }

    pub(super) fn read(&mut self, key: &JobKey) {
        self.counter += 1;
        let fact = self.fact(key, format!("read-{}", self.counter));
        self.store(key, fact);
    }

    pub(super) fn store(&mut self, key: &JobKey, mut fact: JobFact) {
        fact.heard_at = self.now;
        if self.finals.contains_key(key) {
            return;
        }
        let script = &self.jobs[key].script;
        let place = match self.snapshot.jobs.iter().position(|job| job.key == *key) {
            Some(place) => place,
            None => {
                self.snapshot.jobs.push(Job {
                    key: key.clone(),
                    description: JobDescription {
                        created_at: None,
                        owner: script.repository.split('/').next().unwrap_or_default().to_owned(),
                        repository: script.repository.clone(),
                        public: false,
                        name: script.id.clone(),
                        workflow: None,
                        url: None,
                        labels: script.labels.clone(),
                        run: None,
                        head_sha: None,
                        head_branch: None,
                    },
                    stored_at: self.now,
                    facts: Vec::new(),
                    report: JobReport::default(),
                    found: Findings::default(),
                });
                self.snapshot.jobs.len() - 1
            }
        };
        let job = &mut self.snapshot.jobs[place];
        if job.facts.iter().all(|known| known.id != fact.id) {
            job.facts.push(fact);
        }
    }
}
