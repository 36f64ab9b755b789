//! GitHub's JSON: accounts, repositories, jobs, runs, runners, and the `workflow_job` and `ping` events.
//!
//! Fields follow the schemas of `@octokit/openapi` 23.0.2 and `@octokit/openapi-webhooks` 12.1.0, which the checks in
//! `tests/vendor.rs` hold against what is sent.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::crypto::fingerprint;
use crate::model::{Job, JobRunner, Owner, Repository, Run, Runner};
use crate::spec::{Conclusion, JobStatus};

/// The addresses of one repository, as paths relative to it; GitHub's own templates.
const REPOSITORY_URLS: &[(&str, &str)] = &[
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
    ("url", ""),
];

const ACCOUNT_URLS: &[(&str, &str)] = &[
    ("events_url", "/events{/privacy}"),
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("organizations_url", "/orgs"),
    ("received_events_url", "/received_events"),
    ("repos_url", "/repos"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("url", ""),
];

const ORGANIZATION_URLS: &[(&str, &str)] = &[
    ("events_url", "/events"),
    ("hooks_url", "/hooks"),
    ("issues_url", "/issues"),
    ("members_url", "/members{/member}"),
    ("public_members_url", "/public_members{/member}"),
    ("repos_url", "/repos"),
    ("url", ""),
];

/// Writes JSON with the addresses of one emulator.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// The API's own address.
    pub(crate) base: &'a str,
}

/// A time as GitHub writes it: whole seconds, `Z`.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn time_or_null(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| json!(time(at)))
}

pub(crate) fn node_id(kind: &str, id: u64) -> String {
    format!("{kind}_kwDO{id:x}")
}

impl Writer<'_> {
    pub(crate) fn account(self, owner: &Owner) -> Value {
        let kind = if owner.organization { "Organization" } else { "User" };
        self.account_of(&owner.login, owner.id, kind)
    }

    /// Whoever pushed: a person who exists in every emulator.
    pub(crate) fn sender(self) -> Value {
        self.account_of("octocat", 583_231, "User")
    }

    fn account_of(self, login: &str, id: u64, kind: &str) -> Value {
        let mut map = Map::new();
        urls(&mut map, &format!("{}/users/{login}", self.base), ACCOUNT_URLS);
        for (field, value) in [
            ("login", json!(login)),
            ("id", json!(id)),
            ("node_id", json!(node_id("U", id))),
            ("avatar_url", json!(format!("{}/avatars/u/{id}?v=4", self.base))),
            ("gravatar_id", json!("")),
            ("html_url", json!(format!("{}/{login}", self.base))),
            ("type", json!(kind)),
            ("user_view_type", json!("public")),
            ("site_admin", json!(false)),
        ] {
            map.insert(field.to_owned(), value);
        }
        Value::Object(map)
    }

    pub(crate) fn organization(self, owner: &Owner) -> Value {
        let mut map = Map::new();
        urls(&mut map, &format!("{}/orgs/{}", self.base, owner.login), ORGANIZATION_URLS);
        for (field, value) in [
            ("login", json!(owner.login)),
            ("id", json!(owner.id)),
            ("node_id", json!(node_id("O", owner.id))),
            ("avatar_url", json!(format!("{}/avatars/u/{}?v=4", self.base, owner.id))),
            ("description", json!("")),
        ] {
            map.insert(field.to_owned(), value);
        }
        Value::Object(map)
    }

    /// A repository with every field of `minimal-repository` and `repository-webhooks`.
    pub(crate) fn repository(self, repository: &Repository, owner: &Owner) -> Value {
        let full = repository.full_name();
        let html = format!("{}/{full}", self.base);
        let host = self.base.split_once("://").map_or(self.base, |(_, host)| host);
        let mut map = Map::new();
        urls(&mut map, &format!("{}/repos/{full}", self.base), REPOSITORY_URLS);
        for field in ["has_issues", "has_projects", "has_downloads", "has_wiki", "allow_forking"] {
            map.insert(field.to_owned(), json!(true));
        }
        for field in [
            "has_pages",
            "has_discussions",
            "archived",
            "disabled",
            "is_template",
            "web_commit_signoff_required",
        ] {
            map.insert(field.to_owned(), json!(false));
        }
        for field in [
            "size",
            "stargazers_count",
            "watchers_count",
            "forks_count",
            "open_issues_count",
            "forks",
            "open_issues",
            "watchers",
        ] {
            map.insert(field.to_owned(), json!(0));
        }
        for field in ["description", "homepage", "language", "mirror_url", "license"] {
            map.insert(field.to_owned(), Value::Null);
        }
        for field in ["created_at", "updated_at", "pushed_at"] {
            map.insert(field.to_owned(), json!(time(repository.created_at)));
        }
        for (field, value) in [
            ("id", json!(repository.id)),
            ("node_id", json!(node_id("R", repository.id))),
            ("name", json!(repository.name)),
            ("full_name", json!(full)),
            ("private", json!(!repository.public)),
            ("visibility", json!(if repository.public { "public" } else { "private" })),
            ("owner", self.account(owner)),
            ("html_url", json!(html)),
            ("fork", json!(repository.fork)),
            ("git_url", json!(format!("git://{host}/{full}.git"))),
            ("ssh_url", json!(format!("git@{host}:{full}.git"))),
            ("clone_url", json!(format!("{html}.git"))),
            ("svn_url", json!(html)),
            ("default_branch", json!("main")),
            ("topics", json!([])),
            ("custom_properties", json!({})),
        ] {
            map.insert(field.to_owned(), value);
        }
        Value::Object(map)
    }

    /// A job as the REST API and, but for `steps`, the webhook shows it.
    pub(crate) fn job(self, job: &Job, run: &Run) -> Value {
        let api = format!("{}/repos/{}", self.base, job.spec.repository);
        let started = job.started_at.unwrap_or(job.queued_at);
        let status = job.status.word();
        json!({
            "id": job.id,
            "run_id": job.run_id,
            "workflow_name": run.workflow_name,
            "head_branch": run.head_branch,
            "run_url": format!("{api}/actions/runs/{}", job.run_id),
            "run_attempt": job.attempt,
            "node_id": node_id("CR", job.id),
            "head_sha": job.head_sha,
            "url": format!("{api}/actions/jobs/{}", job.id),
            "html_url": format!("{}/{}/actions/runs/{}/job/{}", self.base, job.spec.repository, job.run_id, job.id),
            "status": status,
            "conclusion": job.conclusion.map(Conclusion::word),
            "created_at": time(job.created_at),
            "started_at": time(started),
            "completed_at": time_or_null(job.completed_at),
            "name": job.spec.job_name,
            "steps": steps(job, started),
            "check_run_url": format!("{api}/check-runs/{}", job.id),
            "labels": job.spec.labels,
            "runner_id": runner_field(job, |runner| json!(runner.id), json!(0)),
            "runner_name": runner_field(job, |runner| json!(runner.name), json!("")),
            "runner_group_id": runner_field(job, |runner| json!(runner.group_id), json!(0)),
            "runner_group_name": runner_field(job, |runner| json!(runner.group_name), json!("")),
        })
    }

    pub(crate) fn runner(self, runner: &Runner) -> Value {
        let labels: Vec<Value> = runner
            .labels
            .iter()
            .zip(1_u64..)
            .map(|(name, id)| json!({"id": id, "name": name, "type": label_type(name)}))
            .collect();
        json!({
            "id": runner.id,
            "runner_group_id": runner.group_id,
            "name": runner.name,
            "os": runner.os,
            "status": if runner.online { "online" } else { "offline" },
            "busy": runner.job.is_some(),
            "ephemeral": true,
            "version": runner.version,
            "labels": labels,
        })
    }

    pub(crate) fn run(self, run: &Run, jobs: &[&Job], repository: &Value, head_repository: &Value) -> Value {
        let api = format!("{}/repos/{}", self.base, run.repository);
        let url = format!("{api}/actions/runs/{}", run.id);
        let (status, conclusion) = run_status(jobs);
        let author = json!({"name": "octocat", "email": "octocat@example.com"});
        let suite = run.id + 1;
        let mut map = Map::new();
        for (field, value) in [
            ("id", json!(run.id)),
            ("name", json!(run.workflow_name)),
            ("node_id", json!(node_id("WFR", run.id))),
            ("check_suite_id", json!(suite)),
            ("check_suite_node_id", json!(node_id("CS", suite))),
            ("head_branch", json!(run.head_branch)),
            ("head_sha", json!(run.head_sha)),
            ("path", json!(format!(".github/workflows/{}.yml", run.workflow_name.to_lowercase()))),
            ("display_title", json!(format!("Change on {}", run.head_branch))),
            ("run_number", json!(run.number)),
            ("run_attempt", json!(run.attempt)),
            ("event", json!(run.event)),
            ("status", json!(status.word())),
            ("conclusion", json!(conclusion.map(Conclusion::word))),
            ("workflow_id", json!(run.workflow_id)),
            ("url", json!(url)),
            ("html_url", json!(format!("{}/{}/actions/runs/{}", self.base, run.repository, run.id))),
            ("pull_requests", json!([])),
            ("created_at", json!(time(run.created_at))),
            ("updated_at", json!(time(run.updated_at))),
            ("run_started_at", json!(time(run.started_at))),
            ("actor", self.sender()),
            ("triggering_actor", self.sender()),
            ("referenced_workflows", json!([])),
            ("jobs_url", json!(format!("{url}/jobs"))),
            ("logs_url", json!(format!("{url}/logs"))),
            ("check_suite_url", json!(format!("{api}/check-suites/{suite}"))),
            ("artifacts_url", json!(format!("{url}/artifacts"))),
            ("cancel_url", json!(format!("{url}/cancel"))),
            ("rerun_url", json!(format!("{url}/rerun"))),
            ("previous_attempt_url", previous_attempt(&url, run.attempt)),
            ("workflow_url", json!(format!("{api}/actions/workflows/{}", run.workflow_id))),
            (
                "head_commit",
                json!({
                    "id": run.head_sha,
                    "tree_id": run.head_sha,
                    "message": format!("Change on {}", run.head_branch),
                    "timestamp": time(run.created_at),
                    "author": author,
                    "committer": author,
                }),
            ),
            ("repository", repository.clone()),
            ("head_repository", head_repository.clone()),
        ] {
            map.insert(field.to_owned(), value);
        }
        Value::Object(map)
    }
}

fn urls(map: &mut Map<String, Value>, base: &str, templates: &[(&str, &str)]) {
    for (field, suffix) in templates {
        map.insert((*field).to_owned(), json!(format!("{base}{suffix}")));
    }
}

/// Labels that GitHub applies by itself are read-only.
fn label_type(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "self-hosted" | "linux" | "windows" | "macos" | "x64" | "x86" | "arm64" | "arm" => "read-only",
        _ => "custom",
    }
}

/// Null while a job is queued; zero and empty where it ended without ever having a runner.
fn runner_field(job: &Job, field: impl Fn(&JobRunner) -> Value, never: Value) -> Value {
    match (&job.runner, job.status) {
        (Some(runner), _) => field(runner),
        (None, JobStatus::Completed) if job.conclusion != Some(Conclusion::Skipped) => never,
        (None, JobStatus::Completed) => Value::Null,
        (None, JobStatus::Queued | JobStatus::Waiting | JobStatus::InProgress) => Value::Null,
    }
}

fn steps(job: &Job, started: Timestamp) -> Vec<Value> {
    if job.runner.is_none() || job.started_at.is_none() {
        return Vec::new();
    }
    let step = |number: u64, name: &str, ended: bool, conclusion: &str| {
        json!({
            "name": name,
            "status": if ended { "completed" } else { "in_progress" },
            "conclusion": if ended { json!(conclusion) } else { Value::Null },
            "number": number,
            "started_at": time(started),
            "completed_at": if ended { time_or_null(job.completed_at.or(Some(started))) } else { Value::Null },
        })
    };
    let mut steps = vec![step(1, "Set up job", job.completed_at.is_some(), "success")];
    if let Some(conclusion) = job.conclusion {
        let of_step = match conclusion {
            Conclusion::Success | Conclusion::Neutral => "success",
            Conclusion::Failure | Conclusion::TimedOut => "failure",
            Conclusion::Cancelled => "cancelled",
            Conclusion::Skipped => "skipped",
        };
        steps.push(step(2, &format!("Run {}", job.spec.job_name), true, of_step));
        steps.push(step(3, "Complete job", true, "success"));
    }
    steps
}

fn previous_attempt(url: &str, attempt: u32) -> Value {
    if attempt > 1 { json!(format!("{url}/attempts/{}", attempt - 1)) } else { Value::Null }
}

/// A run's status from the jobs of its latest attempt: in progress as soon as one has started, even if others are
/// still queued, so that a list of queued runs does not show it.
pub(crate) fn run_status(jobs: &[&Job]) -> (JobStatus, Option<Conclusion>) {
    let any = |status| jobs.iter().any(|job| job.status == status);
    if jobs.iter().all(|job| job.status == JobStatus::Completed) {
        let ended = |conclusion| jobs.iter().any(|job| job.conclusion == Some(conclusion));
        let worst = [Conclusion::Failure, Conclusion::TimedOut, Conclusion::Cancelled, Conclusion::Success]
            .into_iter()
            .find(|conclusion| ended(*conclusion));
        (JobStatus::Completed, Some(worst.unwrap_or(Conclusion::Skipped)))
    } else if any(JobStatus::InProgress) || any(JobStatus::Completed) {
        (JobStatus::InProgress, None)
    } else if any(JobStatus::Queued) {
        (JobStatus::Queued, None)
    } else {
        (JobStatus::Waiting, None)
    }
}

/// A commit's name for the `n`th run.
pub(crate) fn commit_sha(n: u64) -> String {
    fingerprint(&n.to_le_bytes()).get(..40).unwrap_or_default().to_owned()
}
