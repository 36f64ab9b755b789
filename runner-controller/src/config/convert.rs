//! Between the API types of the records and the core's types.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::Resource;
use runner_core::job::{
    Finding, Findings, Job, JobAction, JobDescription, JobFact, JobKey, JobReport, Standing, Told,
};
use runner_core::labels::Matched;
use runner_core::lifecycle::{
    AgentFacts, GroupFacts, Launched, Registered, Runner as CoreRunner, RunnerFact, RunnerFacts, Teardown,
};
use runner_core::plan::NewRunner;
use runner_core::setup::{PlaceKind, Scope, Size};

use serde_json::{Value, json};

use super::records::{
    ActionName, AgentRecord, FactRecord, GroupRecord, LaunchedRecord, PlaceKindName, RegisteredRecord,
    Runner, RunnerJob, RunnerJobSpec, RunnerJobStatus, RunnerSpec, RunnerStatus, TeardownRecord,
};

impl From<JobAction> for ActionName {
    fn from(action: JobAction) -> Self {
        match action {
            JobAction::Queued => ActionName::Queued,
            JobAction::Waiting => ActionName::Waiting,
            JobAction::InProgress => ActionName::InProgress,
            JobAction::Completed => ActionName::Completed,
        }
    }
}

impl From<ActionName> for JobAction {
    fn from(action: ActionName) -> Self {
        match action {
            ActionName::Queued => JobAction::Queued,
            ActionName::Waiting => JobAction::Waiting,
            ActionName::InProgress => JobAction::InProgress,
            ActionName::Completed => JobAction::Completed,
        }
    }
}

/// A fact as it is stored, with the key under which it is.
pub fn fact_record(fact: &JobFact) -> (String, FactRecord) {
    let record = FactRecord {
        action: fact.action.into(),
        heard_at: fact.heard_at,
        runner: fact.runner.clone(),
        conclusion: fact.conclusion.clone(),
    };
    (fact.id.clone(), record)
}

/// The spec of a new job's record, with the fact that told of it.
pub fn job_spec(told: &Told) -> RunnerJobSpec {
    let what = &told.description;
    RunnerJobSpec {
        source: told.key.source.clone(),
        id: told.key.id.clone(),
        attempt: told.key.attempt,
        owner: what.owner.clone(),
        repository: what.repository.clone(),
        public: what.public,
        name: what.name.clone(),
        workflow: what.workflow.clone(),
        url: what.url.clone(),
        labels: what.labels.clone(),
        created_at: what.created_at,
        run: what.run.clone(),
        head_sha: what.head_sha.clone(),
        head_branch: what.head_branch.clone(),
        facts: BTreeMap::from([fact_record(&told.fact)]),
    }
}

/// A job, from its record.
pub fn job(record: &RunnerJob) -> Job {
    let spec = &record.spec;
    let facts: Vec<JobFact> = spec
        .facts
        .iter()
        .map(|(id, fact)| JobFact {
            id: id.clone(),
            action: fact.action.into(),
            heard_at: fact.heard_at,
            runner: fact.runner.clone(),
            conclusion: fact.conclusion.clone(),
        })
        .collect();
    let first_heard = facts.iter().map(|fact| fact.heard_at).min();
    Job {
        key: JobKey { source: spec.source.clone(), id: spec.id.clone(), attempt: spec.attempt },
        description: JobDescription {
            created_at: spec.created_at,
            owner: spec.owner.clone(),
            repository: spec.repository.clone(),
            public: spec.public,
            name: spec.name.clone(),
            workflow: spec.workflow.clone(),
            url: spec.url.clone(),
            labels: spec.labels.clone(),
            run: spec.run.clone(),
            head_sha: spec.head_sha.clone(),
            head_branch: spec.head_branch.clone(),
        },
        stored_at: created(record).or(first_heard).unwrap_or(Timestamp::UNIX_EPOCH),
        facts,
        report: record.status.as_ref().map(job_report).unwrap_or_default(),
        found: record.status.as_ref().map(findings).unwrap_or_default(),
    }
}

fn findings(status: &RunnerJobStatus) -> Findings {
    let notice = status.notice.clone().unwrap_or_default();
    Findings {
        protected_branch: status.protected_branch,
        notice_begun: notice.begun_at,
        notice_id: notice.id,
        notice_ended: notice.ended_at,
    }
}

/// The fields of a job's status that a finding sets, as a JSON merge patch of the status.
pub fn finding_patch(finding: &Finding) -> Value {
    match finding {
        Finding::ProtectedBranch(is) => json!({ "protectedBranch": is }),
        Finding::NoticeBegun(at) => json!({ "notice": { "begunAt": at } }),
        Finding::NoticeId(id) => json!({ "notice": { "id": id } }),
        Finding::NoticeEnded(at) => json!({ "notice": { "endedAt": at } }),
    }
}

fn created(record: &impl Resource) -> Option<Timestamp> {
    record.meta().creation_timestamp.as_ref().map(|time| time.0)
}

fn job_report(status: &RunnerJobStatus) -> JobReport {
    JobReport {
        standing: Standing::ALL
            .into_iter()
            .find(|standing| Some(standing.as_str()) == status.state.as_deref())
            .unwrap_or_default(),
        reason: status.reason.clone(),
        class: status.class.clone(),
        runner: status.runner.clone(),
        conclusion: status.conclusion.clone(),
        runners_started: status.runners_started,
        failed: status.failed,
        counted: status.counted,
        retry_after: status.retry_after,
        ended_at: status.ended_at,
    }
}

/// A report as a JSON merge patch of the status of a job's record: the absent fields are spelled out, so that old values
/// go, and what is not the report's stays.
pub fn report_patch(report: &JobReport) -> Value {
    let mut value = json!({
        "state": null, "reason": null, "class": null, "runner": null, "conclusion": null,
        "retryAfter": null, "endedAt": null,
    });
    if let (Some(fields), Ok(Value::Object(set))) =
        (value.as_object_mut(), serde_json::to_value(job_status(report)))
    {
        fields.extend(set);
    }
    value
}

/// The status of a job's record, as far as a report goes.
pub fn job_status(report: &JobReport) -> RunnerJobStatus {
    RunnerJobStatus {
        state: Some(report.standing.as_str().to_owned()),
        reason: report.reason.clone(),
        class: report.class.clone(),
        runner: report.runner.clone(),
        conclusion: report.conclusion.clone(),
        runners_started: report.runners_started,
        failed: report.failed,
        counted: report.counted,
        retry_after: report.retry_after,
        ended_at: report.ended_at,
        conditions: Vec::new(),
        protected_branch: None,
        notice: None,
    }
}

/// The spec of a new runner's record.
pub fn runner_spec(new: &NewRunner, at: Timestamp) -> RunnerSpec {
    let (owner, repository) = match &new.scope {
        Scope::Owner(owner) => (Some(owner.clone()), None),
        Scope::Repository(repository) => (None, Some(repository.clone())),
    };
    RunnerSpec {
        source: new.job.source.clone(),
        job_id: new.job.id.clone(),
        attempt: new.job.attempt,
        job_name: new.job.to_string(),
        ordinal: new.ordinal,
        owner,
        repository,
        class: new.matched.class.clone(),
        size: new.matched.size.clone(),
        label: new.matched.label(),
        labels: new.labels.clone(),
        cpu_millis: new.size.cpu_millis,
        memory_bytes: new.size.memory_bytes,
        size_max_runners: new.size.max_runners,
        place: new.place.clone(),
        place_kind: match new.kind {
            PlaceKind::VirtualNode => PlaceKindName::VirtualNode,
            PlaceKind::ContainerInstances => PlaceKindName::ContainerInstances,
            PlaceKind::NodePool => PlaceKindName::NodePool,
        },
        created_at: Some(at),
        found: None,
    }
}

/// A runner, from its record.
pub fn runner(record: &Runner) -> CoreRunner {
    let spec = &record.spec;
    CoreRunner {
        name: record.meta().name.clone().unwrap_or_default(),
        job: JobKey { source: spec.source.clone(), id: spec.job_id.clone(), attempt: spec.attempt },
        ordinal: spec.ordinal,
        scope: match &spec.repository {
            Some(repository) => Scope::Repository(repository.clone()),
            None => Scope::Owner(spec.owner.clone().unwrap_or_default()),
        },
        matched: Matched { class: spec.class.clone(), size: spec.size.clone() },
        labels: spec.labels.clone(),
        size: Size {
            cpu_millis: spec.cpu_millis,
            memory_bytes: spec.memory_bytes,
            max_runners: spec.size_max_runners,
        },
        place: spec.place.clone(),
        kind: match spec.place_kind {
            PlaceKindName::VirtualNode => PlaceKind::VirtualNode,
            PlaceKindName::ContainerInstances => PlaceKind::ContainerInstances,
            PlaceKindName::NodePool => PlaceKind::NodePool,
        },
        created_at: spec.created_at.or_else(|| created(record)).unwrap_or(Timestamp::UNIX_EPOCH),
        deleted: record.meta().deletion_timestamp.is_some(),
        facts: {
            let mut facts = record.status.as_ref().map(runner_facts).unwrap_or_default();
            spec.found.iter().for_each(|found| found.add_to(&mut facts));
            facts
        },
    }
}

fn runner_facts(status: &RunnerStatus) -> RunnerFacts {
    RunnerFacts {
        // Of the spec, where that says so.
        found: None,
        registering: status.registering_at,
        registered: status.registered.as_ref().map(|registered| Registered {
            id: registered.id,
            callback_hash: registered.callback_hash.clone(),
            at: registered.at,
        }),
        launching: status.launching_at,
        launched: status
            .launched
            .as_ref()
            .map(|launched| Launched { uid: launched.uid.clone(), at: launched.at }),
        busy_seen: status.busy_seen_at,
        agent: AgentFacts {
            booted: status.agent.booted_at,
            job_started: status.agent.job_started_at,
            job_completed: status.agent.job_completed_at,
            exiting: status.agent.exiting_at,
            exit_code: status.agent.exit_code,
        },
        teardown: status.teardown.as_ref().map(|teardown| Teardown {
            code: teardown.code.clone(),
            sentence: teardown.sentence.clone(),
            at: teardown.at,
        }),
        group: status.group.as_ref().map(|group| GroupFacts {
            id: group.id.clone(),
            pull_started: group.pull_started_at,
            started: group.started_at,
            stopped: group.stopped_at,
            seen_at: group.seen_at,
            failed: group.failed.clone(),
        }),
        captured: status.captured_at,
        deleting: status.deleting_at,
        stuck: status.stuck_at,
        gone: status.gone_at,
        billed: status.billed_at,
        deregistered: status.deregistered_at,
    }
}

/// The status of a runner's record.
pub fn runner_status(facts: &RunnerFacts) -> RunnerStatus {
    RunnerStatus {
        state: Some(state_word(facts).to_owned()),
        registering_at: facts.registering,
        registered: facts.registered.as_ref().map(|registered| RegisteredRecord {
            id: registered.id,
            callback_hash: registered.callback_hash.clone(),
            at: registered.at,
        }),
        launching_at: facts.launching,
        launched: facts
            .launched
            .as_ref()
            .map(|launched| LaunchedRecord { uid: launched.uid.clone(), at: launched.at }),
        busy_seen_at: facts.busy_seen,
        agent: AgentRecord {
            booted_at: facts.agent.booted,
            job_started_at: facts.agent.job_started,
            job_completed_at: facts.agent.job_completed,
            exiting_at: facts.agent.exiting,
            exit_code: facts.agent.exit_code,
        },
        teardown: facts.teardown.as_ref().map(|teardown| TeardownRecord {
            code: teardown.code.clone(),
            sentence: teardown.sentence.clone(),
            at: teardown.at,
        }),
        group: facts.group.as_ref().map(|group| GroupRecord {
            id: group.id.clone(),
            pull_started_at: group.pull_started,
            started_at: group.started,
            stopped_at: group.stopped,
            seen_at: group.seen_at,
            failed: group.failed.clone(),
        }),
        captured_at: facts.captured,
        deleting_at: facts.deleting,
        stuck_at: facts.stuck,
        gone_at: facts.gone,
        billed_at: facts.billed,
        deregistered_at: facts.deregistered,
    }
}

/// The fields of a runner's status that these facts change, as a JSON merge patch of the status: writers of different
/// facts never overwrite each other, and what is set once stays. `None` if nothing changes.
///
/// # Errors
/// A status that does not serialise.
pub fn status_patch(stored: &RunnerFacts, facts: &[RunnerFact]) -> Result<Option<Value>, serde_json::Error> {
    let mut after = stored.clone();
    for fact in facts {
        after.apply(fact.clone());
    }
    if after == *stored {
        return Ok(None);
    }
    let (Value::Object(before), Value::Object(mut after)) =
        (serde_json::to_value(runner_status(stored))?, serde_json::to_value(runner_status(&after))?)
    else {
        return Ok(None);
    };
    after.retain(|field, value| before.get(field) != Some(value));
    Ok(Some(Value::Object(after)))
}

/// How far a runner is, in the words of `kubectl get runners`.
fn state_word(facts: &RunnerFacts) -> &'static str {
    let runs =
        facts.agent.booted.is_some() || facts.group.as_ref().is_some_and(|group| group.started.is_some());
    if facts.gone.is_some() {
        "Gone"
    } else if facts.stuck.is_some() {
        "Stuck"
    } else if facts.teardown.is_some() || facts.agent.exiting.is_some() {
        "Ending"
    } else if facts.agent.job_started.is_some() {
        "Busy"
    } else if runs {
        "Running"
    } else if facts.launching.is_some() {
        "Starting"
    } else if facts.registered.is_some() {
        "Registered"
    } else {
        "Reserved"
    }
}
