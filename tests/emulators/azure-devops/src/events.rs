//! What service hooks are told: the events of the publisher `pipelines`, as JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::{Job, Progress, Run, Stage};
use crate::payload::time;
use crate::spec::{JobResult, JobState, RequestId, RunId};
use crate::state::State;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Job,
    /// The stage of this name.
    Stage(String),
    Run,
}

impl EventKind {
    /// The event's type, as subscriptions name it.
    fn event_type(&self) -> &'static str {
        match self {
            Self::Job => "ms.vss-pipelines.job-state-changed-event",
            Self::Stage(_) => "ms.vss-pipelines.stage-state-changed-event",
            Self::Run => "ms.vss-pipelines.run-state-changed-event",
        }
    }

    /// The beginning of its filters' names in a subscription's inputs.
    fn filter(&self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Stage(_) => "stage",
            Self::Run => "run",
        }
    }
}

/// The event types that a subscription may name.
pub(crate) const EVENT_TYPES: [&str; 3] = [
    "ms.vss-pipelines.job-state-changed-event",
    "ms.vss-pipelines.stage-state-changed-event",
    "ms.vss-pipelines.run-state-changed-event",
];

/// Something that subscriptions may hear.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) event_type: &'static str,
    pub(crate) filter: &'static str,
    pub(crate) project_id: String,
    pub(crate) pipeline_id: u64,
    pub(crate) stage: Option<String>,
    /// The state in the words of subscriptions' filters.
    pub(crate) state: &'static str,
    pub(crate) result: Option<JobResult>,
    pub(crate) text: String,
    pub(crate) link: String,
    pub(crate) resource: Value,
    pub(crate) containers: Value,
}

impl State {
    /// Tells every subscription that hears it what has changed.
    pub(crate) fn publish(
        &mut self,
        kind: EventKind,
        run: RunId,
        request: Option<RequestId>,
        now: Timestamp,
    ) {
        if self.hooks.is_empty() {
            return;
        }
        let Some(run) = self.runs.get(&run) else { return };
        let job = request.and_then(|request| self.jobs.get(&request));
        let stage = match (&kind, job) {
            (EventKind::Stage(name), _) => run.stage(name),
            (EventKind::Job, Some(job)) => run.stage(&job.spec.stage),
            (EventKind::Job | EventKind::Run, _) => None,
        };
        let event = self.event(&kind, run, stage, job);
        self.hooks.publish(&event, now);
    }

    fn event(&self, kind: &EventKind, run: &Run, stage: Option<&Stage>, job: Option<&Job>) -> Event {
        let of_run = if run.result.is_some() { "Completed" } else { "Running" };
        let (state, result, subject) = match (kind, stage, job) {
            (EventKind::Job, stage, Some(job)) => {
                let stage = stage.map(|stage| stage.name.as_str()).unwrap_or_default();
                (job_state(job.state()), job.result, format!(" stage {stage} job {}", job.spec.job))
            }
            (EventKind::Stage(_), Some(stage), _) => {
                let (state, result) = stage_state(stage.progress);
                (state, result, format!(" stage {}", stage.name))
            }
            (EventKind::Job | EventKind::Stage(_) | EventKind::Run, _, _) => {
                (of_run, run.result, String::new())
            }
        };
        let result = result.map(JobResult::outcome);
        let said = result.map_or_else(|| state.to_lowercase(), |result| result.word().to_owned());
        let mut resource = json!({
            "run": self.run_resource(run),
            "pipeline": self.pipeline_resource(run),
            "repositories": [self.repository_resource(run)],
            "projectId": run.project.id,
        });
        if let Some(job) = job {
            resource["job"] = self.job_resource(run, job);
        }
        if let Some(stage) = stage {
            resource["stage"] = self.stage_resource(stage);
        }
        let address = format!("{}/", self.base);
        Event {
            event_type: kind.event_type(),
            filter: kind.filter(),
            project_id: run.project.id.clone(),
            pipeline_id: run.definition.id,
            stage: stage.map(|stage| stage.name.clone()),
            state,
            result,
            text: format!("Run {}{subject} {said}.", run.number),
            link: self.run_page(run),
            resource,
            containers: json!({
                "collection": {"id": self.organization_id, "baseUrl": address},
                "account": {"id": self.organization_id, "baseUrl": address},
                "project": {"id": run.project.id, "baseUrl": address},
            }),
        }
    }

    fn state_word(&self, state: &'static str) -> &'static str {
        match state {
            _ if self.quirks.capitalised_states => state,
            "Waiting" => "waiting",
            "Running" => "inProgress",
            _ => "completed",
        }
    }

    fn result_word(&self, result: Option<JobResult>) -> Value {
        let Some(word) = result.map(|result| result.outcome().word()) else { return Value::Null };
        if !self.quirks.capitalised_states {
            return json!(word);
        }
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        json!(first.into_iter().chain(letters).collect::<String>())
    }

    fn job_resource(&self, run: &Run, job: &Job) -> Value {
        json!({
            "_links": {
                "web": {"href": self.run_page(run)},
                "pipeline.web": {"href": self.definition_page(run)},
            },
            "id": job.job_id,
            "name": job.spec.job,
            "attempt": job.attempt,
            "state": self.state_word(job_state(job.state())),
            "result": self.result_word(job.result),
            "startTime": job.received_at.map(time),
            "finishTime": job.finished_at.map(time),
        })
    }

    fn stage_resource(&self, stage: &Stage) -> Value {
        let (state, result) = stage_state(stage.progress);
        json!({
            "id": stage.id,
            "name": stage.name,
            "displayName": null,
            "attempt": stage.attempt,
            "state": self.state_word(state),
            "result": self.result_word(result),
            "startTime": stage.started_at.map(time),
            "finishTime": stage.finished_at.map(time),
        })
    }

    fn run_resource(&self, run: &Run) -> Value {
        let state = match (run.result, run.cancelling) {
            (Some(_), _) => self.state_word("Completed"),
            (None, true) => "canceling",
            (None, false) => self.state_word("Running"),
        };
        json!({
            "pipeline": self.pipeline_resource(run),
            "state": state,
            "result": self.result_word(run.result),
            "createdDate": time(run.created_at),
            "finishedDate": run.finished_at.map(time),
            "id": run.id,
            "name": run.number,
        })
    }

    fn repository_resource(&self, run: &Run) -> Value {
        let author =
            json!({"name": "Somebody", "email": "somebody@example.com", "date": time(run.created_at)});
        json!({
            "type": "Git",
            "change": {"author": author, "committer": author, "message": "A change"},
            "url": format!("{}/{}/_git/{}", self.base, run.project.name, run.project.name),
        })
    }
}

fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Queued | JobState::Assigned => "Waiting",
        JobState::Running => "Running",
        JobState::Completed => "Completed",
    }
}

fn stage_state(progress: Progress) -> (&'static str, Option<JobResult>) {
    match progress {
        Progress::Waiting => ("Waiting", None),
        Progress::Running => ("Running", None),
        Progress::Completed(result) => ("Completed", Some(result)),
    }
}
