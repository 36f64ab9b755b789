//! JSON of the REST API, in the shapes of Microsoft's client and of recorded answers.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{Agent, Job, Pool, Progress, Project, Run, Stage};
use crate::spec::{JobResult, JobState};
use crate::state::{State, stable_guid};

/// A time as the service writes it.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.7}")
}

/// `{count, value}`, in which every list comes.
pub(crate) fn list(value: Vec<Value>) -> Value {
    json!({"count": value.len(), "value": value})
}

/// Which parts of an agent are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AgentParts {
    pub(crate) capabilities: bool,
    pub(crate) assigned_request: bool,
    pub(crate) last_request: bool,
}

/// Puts `value` in only where there is one: the service leaves out what it does not have.
fn put(into: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(fields), Some(value)) = (into.as_object_mut(), value) {
        fields.insert(name.to_owned(), value);
    }
}

impl State {
    pub(crate) fn project_json(&self, project: &Project) -> Value {
        json!({
            "id": project.id,
            "name": project.name,
            "url": format!("{}/_apis/projects/{}", self.base, project.id),
            "state": "wellFormed",
            "revision": 11,
            "visibility": "private",
        })
    }

    pub(crate) fn pool_json(&self, pool: &Pool) -> Value {
        json!({
            "createdOn": time(pool.created_at),
            "autoProvision": false,
            "autoUpdate": true,
            "autoSize": true,
            "targetSize": null,
            "agentCloudId": null,
            "id": pool.id,
            "scope": self.organization_id,
            "name": pool.name,
            "isHosted": false,
            "poolType": "automation",
            "size": self.agents.values().filter(|agent| agent.pool == pool.id).count(),
            "isLegacy": false,
            "options": "none",
        })
    }

    pub(crate) fn agent_reference(&self, agent: &Agent) -> Value {
        let api = format!("{}/_apis/distributedtask/pools/{}/agents/{}", self.base, agent.pool, agent.id);
        let page = format!(
            "{}/_settings/agentpools?view=jobs&poolId={}&agentId={}",
            self.base, agent.pool, agent.id
        );
        let mut reference = json!({
            "_links": {"self": {"href": api}, "web": {"href": page}},
            "id": agent.id,
            "name": agent.name,
            "enabled": agent.enabled,
            "status": if agent.online { "online" } else { "offline" },
            "provisioningState": "Provisioned",
        });
        put(&mut reference, "version", agent.version.as_ref().map(|version| json!(version)));
        reference
    }

    pub(crate) fn agent_json(&self, agent: &Agent, parts: AgentParts) -> Value {
        let mut json = self.agent_reference(agent);
        json["maxParallelism"] = json!(agent.max_parallelism);
        json["createdOn"] = json!(time(agent.created_at));
        json["statusChangedOn"] = json!(time(agent.status_changed_at));
        json["accessPoint"] = json!("CodexAccessMapping");
        json["authorization"] = json!({"clientId": agent.client_id});
        put(&mut json, "osDescription", agent.os.as_ref().map(|os| json!(os)));
        if parts.capabilities {
            let mut system: Map<String, Value> =
                agent.system_capabilities.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            system.entry("Agent.Name").or_insert_with(|| json!(agent.name));
            if let Some(version) = &agent.version {
                system.entry("Agent.Version").or_insert_with(|| json!(version));
            }
            json["systemCapabilities"] = Value::Object(system);
            json["userCapabilities"] = json!(agent.user_capabilities);
        }
        let request = |id: Option<u64>| Some(self.request_json(self.jobs.get(&id?)?, false));
        if parts.assigned_request {
            put(&mut json, "assignedRequest", request(agent.request));
        }
        if parts.last_request {
            put(&mut json, "lastCompletedRequest", request(agent.last_request));
        }
        json
    }

    /// A job request; with the agents that could have it where they are asked for and it waits.
    pub(crate) fn request_json(&self, job: &Job, with_matched: bool) -> Value {
        let Some(run) = self.runs.get(&job.run) else { return Value::Null };
        let mut json = json!({
            "requestId": job.request,
            "queueTime": time(job.queued_at),
            "serviceOwner": stable_guid("service owner"),
            "hostId": self.organization_id,
            "scopeId": run.project.id,
            "planType": "Build",
            "planId": run.plan_id,
            "jobId": job.job_id,
            "jobName": job.spec.job,
            "demands": job.demands,
            "definition": {
                "_links": {
                    "web": {"href": self.definition_page(run)},
                    "self": {"href": format!("{}/{}/_apis/build/Definitions/{}", self.base, run.project.id, run.definition.id)},
                },
                "id": run.definition.id,
                "name": run.definition.name,
            },
            "owner": {
                "_links": {"web": {"href": self.run_page(run)}, "self": {"href": self.build_url(run)}},
                "id": run.id,
                "name": run.number,
            },
            "data": {"ParallelismTag": "Private", "IsScheduledKey": "False"},
            "poolId": job.pool,
            "orchestrationId": orchestration_id(run, job),
            "priority": job.priority,
        });
        put(&mut json, "assignTime", job.assigned_at.map(|at| json!(time(at))));
        put(&mut json, "receiveTime", job.received_at.map(|at| json!(time(at))));
        put(&mut json, "finishTime", job.finished_at.map(|at| json!(time(at))));
        put(&mut json, "result", job.result.map(|result| json!(result.word())));
        let lock = job.received_at.or(job.assigned_at);
        let lock = lock.and_then(|at| at.checked_add(std::time::Duration::from_secs(600)).ok());
        put(&mut json, "lockedUntil", lock.map(|at| json!(time(at))));
        let reserved = job.agent.as_ref().map(|(id, name)| {
            self.agents.get(id).map_or_else(
                || json!({"id": id, "name": name, "status": "offline"}),
                |agent| {
                    let mut reference = self.agent_reference(agent);
                    reference["accessPoint"] = json!("CodexAccessMapping");
                    put(&mut reference, "osDescription", agent.os.as_ref().map(|os| json!(os)));
                    reference
                },
            )
        });
        put(&mut json, "reservedAgent", reserved);
        if with_matched && job.result.is_none() {
            let agents = self.matched_agents(job).into_iter();
            json["matchedAgents"] = agents.map(|agent| self.agent_reference(agent)).collect();
        }
        json
    }

    pub(crate) fn build_json(&self, run: &Run) -> Value {
        let pool = self.latest_jobs(run.id).first().and_then(|job| self.pools.get(&job.pool));
        let started = run.stages.iter().filter_map(|stage| stage.started_at).min();
        let timeline = format!("{}/Timeline", self.build_url(run));
        let plan = json!({"planId": run.plan_id});
        let mut json = json!({
            "_links": {
                "self": {"href": self.build_url(run)},
                "web": {"href": self.run_page(run)},
                "timeline": {"href": timeline},
            },
            "properties": {},
            "tags": [],
            "validationResults": [],
            "plans": [plan],
            "orchestrationPlan": plan,
            "triggerInfo": {},
            "id": run.id,
            "buildNumber": run.number,
            "status": run.status(),
            "queueTime": time(run.created_at),
            "url": self.build_url(run),
            "definition": {
                "drafts": [],
                "id": run.definition.id,
                "name": run.definition.name,
                "url": format!("{}/{}/_apis/build/Definitions/{}?revision=1", self.base, run.project.id, run.definition.id),
                "uri": format!("vstfs:///Build/Definition/{}", run.definition.id),
                "path": "\\",
                "type": "build",
                "queueStatus": "enabled",
                "revision": 1,
                "project": self.project_json(&run.project),
            },
            "buildNumberRevision": 1,
            "project": self.project_json(&run.project),
            "uri": format!("vstfs:///Build/Build/{}", run.id),
            "sourceBranch": run.branch,
            "sourceVersion": run.commit,
            "priority": "normal",
            "reason": run.reason,
            "keepForever": false,
            "retainedByRelease": false,
            "triggeredByBuild": null,
            "repository": {
                "id": stable_guid(&format!("repository {}", run.project.id)),
                "type": "TfsGit",
                "name": run.project.name,
                "url": format!("{}/{}/_git/{}", self.base, run.project.name, run.project.name),
                "clean": null,
                "checkoutSubmodules": false,
            },
        });
        put(&mut json, "startTime", started.map(|at| json!(time(at))));
        put(&mut json, "finishTime", run.finished_at.map(|at| json!(time(at))));
        put(&mut json, "result", run.result.map(|result| json!(build_result(result))));
        let queue = pool.map(
            |pool| json!({"id": pool.id, "name": pool.name, "pool": {"id": pool.id, "name": pool.name}}),
        );
        put(&mut json, "queue", queue);
        json
    }

    /// A run as the pipelines API gives it.
    pub(crate) fn pipeline_run_json(&self, run: &Run) -> Value {
        let address =
            format!("{}/{}/_apis/pipelines/{}/runs/{}", self.base, run.project.id, run.definition.id, run.id);
        let mut json = json!({
            "_links": {"self": {"href": address}, "web": {"href": self.run_page(run)}},
            "templateParameters": {},
            "pipeline": self.pipeline_resource(run),
            "state": match run.status() { "cancelling" => "canceling", other => other },
            "createdDate": time(run.created_at),
            "url": address,
            "id": run.id,
            "name": run.number,
        });
        put(&mut json, "finishedDate", run.finished_at.map(|at| json!(time(at))));
        put(&mut json, "result", run.result.map(|result| json!(result.outcome().word())));
        json
    }

    pub(crate) fn timeline_json(&self, run: &Run) -> Value {
        let mut records = Vec::new();
        for (order, stage) in (1..).zip(&run.stages) {
            records.push(self.stage_record(stage, order));
            for (order, job) in (1..).zip(self.jobs_of_stage(run.id, &stage.name)) {
                records.push(self.job_record(run, stage, job, order));
            }
        }
        json!({
            "records": records,
            "lastChangedBy": stable_guid("service owner"),
            "lastChangedOn": time(run.finished_at.unwrap_or(run.created_at)),
            "id": run.plan_id,
            "changeId": records.len(),
            "url": format!("{}/Timeline/{}", self.build_url(run), run.plan_id),
        })
    }

    fn stage_record(&self, stage: &Stage, order: u64) -> Value {
        let (state, result) = match stage.progress {
            Progress::Waiting => ("pending", None),
            Progress::Running => ("inProgress", None),
            Progress::Completed(result) => ("completed", Some(result)),
        };
        json!({
            "previousAttempts": [],
            "id": stage.id,
            "parentId": null,
            "type": "Stage",
            "name": stage.name,
            "startTime": stage.started_at.map(time),
            "finishTime": stage.finished_at.map(time),
            "percentComplete": null,
            "state": state,
            "result": result.map(JobResult::word),
            "order": order,
            "attempt": stage.attempt,
            "identifier": stage.name,
            "issues": [],
        })
    }

    fn job_record(&self, run: &Run, stage: &Stage, job: &Job, order: u64) -> Value {
        let state = match job.state() {
            JobState::Queued | JobState::Assigned => "pending",
            JobState::Running => "inProgress",
            JobState::Completed => "completed",
        };
        let earlier = run.requests.iter().filter_map(|request| self.jobs.get(request)).filter(|other| {
            other.attempt < job.attempt
                && other.spec.job == job.spec.job
                && other.spec.stage == job.spec.stage
        });
        let previous: Vec<Value> = earlier
            .map(|other| json!({"attempt": other.attempt, "timelineId": run.plan_id, "recordId": other.job_id}))
            .collect();
        let issues: Vec<Value> =
            job.issues.iter().map(|issue| json!({"type": "error", "message": issue})).collect();
        json!({
            "previousAttempts": previous,
            "id": job.job_id,
            "parentId": stage.id,
            "type": "Job",
            "name": job.spec.job,
            "startTime": job.received_at.map(time),
            "finishTime": job.finished_at.map(time),
            "percentComplete": null,
            "state": state,
            "result": job.result.map(JobResult::word),
            "workerName": job.agent.as_ref().map(|(_, name)| name),
            "queueId": job.pool,
            "order": order,
            "errorCount": issues.len(),
            "attempt": job.attempt,
            "identifier": format!("{}.{}.__default", stage.name, job.spec.job),
            "issues": issues,
        })
    }

    pub(crate) fn pipeline_resource(&self, run: &Run) -> Value {
        json!({
            "url": format!("{}/{}/_apis/pipelines/{}?revision=1", self.base, run.project.id, run.definition.id),
            "id": run.definition.id,
            "revision": 1,
            "name": run.definition.name,
            "folder": "\\",
        })
    }

    pub(crate) fn run_page(&self, run: &Run) -> String {
        format!("{}/{}/_build/results?buildId={}", self.base, run.project.id, run.id)
    }

    pub(crate) fn definition_page(&self, run: &Run) -> String {
        format!("{}/{}/_build/definition?definitionId={}", self.base, run.project.id, run.definition.id)
    }

    fn build_url(&self, run: &Run) -> String {
        format!("{}/{}/_apis/build/Builds/{}", self.base, run.project.id, run.id)
    }
}

fn orchestration_id(run: &Run, job: &Job) -> String {
    format!("{}.{}.{}.__default", run.plan_id, job.spec.stage.to_lowercase(), job.spec.job.to_lowercase())
}

/// The build API's word for a result, which calls some failures partial.
fn build_result(result: JobResult) -> &'static str {
    match result {
        JobResult::Succeeded => "succeeded",
        JobResult::SucceededWithIssues => "partiallySucceeded",
        JobResult::Failed | JobResult::Abandoned => "failed",
        JobResult::Canceled => "canceled",
        JobResult::Skipped => "none",
    }
}
