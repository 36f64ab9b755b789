//! GitHub as a provider: registers and deletes runners, reads jobs and branches, and shows check-runs.
//!
//! octocrab signs and carries the calls; what is read is read with the small structs of `wire`, since GitHub, its
//! Enterprise Server and Gitea differ in the fields that nobody needs here. This module decides nothing, keeps no
//! record of runners, and sends each call once: a lost answer to a registration may have left one behind, and only
//! the caller knows what to do then.

mod access;
mod branches;
mod check_runs;
mod deliveries;
mod errors;
mod lists;
mod rate_limits;
mod runners;
mod settings;
mod transport;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use runner_core::job::{JobAction, JobDescription, JobKey};
use runner_core::setup::Scope;
use runner_core::sweep::Page;
use secrecy::ExposeSecret;

use self::access::Access;
use self::branches::Branches;
use self::deliveries::Deliveries;
use self::errors::{Answer, Call};
use self::lists::Lists;
use self::rate_limits::{Bucket, RateLimits};
pub use self::settings::{GitHubAuth, GitHubSettings, GitHubSettingsError};
use self::transport::Transport;
use crate::ports::{
    CallError, CallErrorKind, CallResult, CheckRun, Credential, Delivery, DeliveryPage, Deregistered,
    HooksWanted, JobReading, OpenRun, Provider, Published, RateLimit, RegisteredRunner, Registration,
    RepositorySeen,
};

/// The name of the file that holds a runner's JIT configuration.
pub const JIT_CONFIG_FILE: &str = "jitconfig";
/// Where a runner works, below its own folder; GitHub's default.
const WORK_FOLDER: &str = "_work";
/// The group of every runner that registers at a repository.
const DEFAULT_GROUP: u64 = 1;
/// For how long an answer from a scope's runner endpoints shows that these may be read and written.
const PROOF_LASTS: SignedDuration = SignedDuration::from_mins(10);

/// GitHub, for one source.
pub struct GitHubProvider {
    access: Access,
    runner_group_id: u64,
    rate_limits: Arc<RateLimits>,
    branches: Branches,
    lists: Lists,
    deliveries: Deliveries,
    /// When each scope's runner endpoints last answered a call, hence were allowed.
    proven: Mutex<HashMap<Scope, Timestamp>>,
}

impl GitHubProvider {
    /// Prepares the connection; nothing is sent yet. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(settings: GitHubSettings) -> Result<Self, GitHubSettingsError> {
        let rate_limits = Arc::new(RateLimits::default());
        let transport = Transport::new(&settings)?;
        let access = Access::new(transport, Arc::clone(&rate_limits), &settings.auth)?;
        Ok(Self {
            access,
            runner_group_id: settings.runner_group_id,
            rate_limits,
            branches: Branches::default(),
            lists: Lists::default(),
            deliveries: Deliveries::default(),
            proven: Mutex::new(HashMap::new()),
        })
    }

    async fn send(&self, scope: &Scope, call: Call) -> CallResult<Answer> {
        self.access.send(scope, call).await
    }

    fn prove(&self, scope: &Scope) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.insert(scope.clone(), crate::clock::now());
    }

    fn is_proven(&self, scope: &Scope) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.get(scope).is_some_and(|at| crate::clock::now().duration_since(*at) < PROOF_LASTS)
    }

    /// Deletes a registration by id; `None` if GitHub says that there is no such thing, or that it may not be seen.
    async fn delete_runner(&self, scope: &Scope, id: u64) -> CallResult<Option<Deregistered>> {
        let path = format!("{}/{id}", runners_path(scope)?);
        let answer = self.send(scope, Call::new("delete runner", Method::DELETE, path, None)).await?;
        match answer.status {
            status if status.is_success() => {
                self.prove(scope);
                Ok(Some(Deregistered::Gone))
            }
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNPROCESSABLE_ENTITY if answer.says_busy() => {
                self.prove(scope);
                Ok(Some(Deregistered::Busy))
            }
            _ => Err(answer.error(runners_remedy(scope))),
        }
    }
}

#[async_trait]
impl Provider for GitHubProvider {
    async fn register(&self, registration: &Registration) -> CallResult<Credential> {
        let scope = &registration.scope;
        let path = format!("{}/generate-jitconfig", runners_path(scope)?);
        let body = wire::GenerateJitConfig {
            name: &registration.name,
            runner_group_id: match scope {
                Scope::Owner(_) => self.runner_group_id,
                Scope::Repository(_) => DEFAULT_GROUP,
            },
            labels: &registration.labels,
            work_folder: WORK_FOLDER,
        };
        let body = serde_json::to_vec(&body).map_err(|error| {
            CallError::new(CallErrorKind::Refused, format!("generate JIT config: {error}"))
        })?;
        let call = Call::new("generate JIT config", Method::POST, path, Some(body));
        let answer = self.send(scope, call).await?;
        self.rate_limits.note_registration(&answer.headers);
        if !answer.status.is_success() {
            return Err(answer.error(runners_remedy(scope)));
        }
        self.prove(scope);
        let made: wire::JitConfig = answer.read()?;
        if made.runner.id == 0 || made.encoded_jit_config.expose_secret().is_empty() {
            return Err(answer.unreadable("runner.id or encoded_jit_config is missing"));
        }
        Ok(Credential {
            runner_id: made.runner.id,
            files: BTreeMap::from([(JIT_CONFIG_FILE.to_owned(), made.encoded_jit_config)]),
        })
    }

    async fn deregister(&self, scope: &Scope, name: &str, id: Option<u64>) -> CallResult<Deregistered> {
        let id = match id {
            Some(id) => id,
            None => match self.look_up(scope, name).await? {
                Some(found) => found.id,
                None => return Ok(Deregistered::Gone),
            },
        };
        if let Some(done) = self.delete_runner(scope, id).await? {
            return Ok(done);
        }
        // GitHub also answers 404 where it does not let us look, and taking that for "gone" would end a busy machine.
        if self.is_proven(scope) {
            return Ok(Deregistered::Gone);
        }
        match self.look_up(scope, name).await? {
            Some(found) if found.id == id => Err(CallError::new(
                CallErrorKind::Unavailable,
                format!("delete runner: GitHub lists runner {name} and answers 404 to its deletion"),
            )),
            Some(_) | None => Ok(Deregistered::Gone),
        }
    }

    async fn runners(&self, scope: &Scope) -> CallResult<Vec<RegisteredRunner>> {
        self.list_runners(scope).await
    }

    async fn named(&self, scope: &Scope, name: &str) -> CallResult<Option<RegisteredRunner>> {
        self.look_up(scope, name).await
    }

    async fn read_job(&self, job: &JobKey, what: &JobDescription) -> CallResult<Option<JobReading>> {
        let scope = Scope::Repository(what.repository.clone());
        let id: u64 = job.id.parse().map_err(|_| {
            CallError::new(CallErrorKind::Refused, "read job: its id is not a number, as GitHub's are")
        })?;
        let path = format!("{}/actions/jobs/{id}", repository_path(&what.repository)?);
        let answer = self.send(&scope, Call::get("read job", path)).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                // The repository may have left the App's reach; only where it has not is the job unknown.
                self.access.confirm(&scope).await?;
                return Ok(None);
            }
            _ => return Err(answer.error("needs the repository permission Actions: read")),
        }
        let read: wire::Job = answer.read()?;
        let attempt = read.run_attempt.unwrap_or(job.attempt);
        if attempt > job.attempt {
            return Ok(Some(JobReading { action: JobAction::Completed, runner: None, conclusion: None }));
        }
        if attempt < job.attempt {
            let problem =
                format!("GitHub shows attempt {attempt} of the job, not yet attempt {}", job.attempt);
            return Err(answer.unreadable(&problem));
        }
        let action = match read.status.as_str() {
            "queued" => JobAction::Queued,
            "requested" | "waiting" | "pending" => JobAction::Waiting,
            "in_progress" => JobAction::InProgress,
            "completed" => JobAction::Completed,
            _ => return Err(answer.unreadable("its status is none that Stint knows")),
        };
        let runner = read.runner_name.filter(|name| !name.is_empty() && read.runner_id != Some(0));
        Ok(Some(JobReading { action, runner, conclusion: read.conclusion }))
    }

    async fn is_of_protected_branch(&self, what: &JobDescription) -> CallResult<bool> {
        self.branches.is_protected(&self.access, what).await
    }

    async fn publish(&self, notice: &CheckRun) -> CallResult<Published> {
        check_runs::publish(&self.access, notice).await
    }

    async fn repositories(&self, owner: &str) -> CallResult<Vec<RepositorySeen>> {
        self.lists.repositories(&self.access, owner).await
    }

    async fn hooks(&self, wanted: &HooksWanted) -> CallResult<Vec<String>> {
        deliveries::hooks(&self.access, wanted).await
    }

    async fn deliveries(&self, hook: &str, page: &Page) -> CallResult<DeliveryPage> {
        self.deliveries.page(&self.access, hook, page).await
    }

    async fn delivery(&self, hook: &str, id: u64) -> CallResult<Option<Delivery>> {
        deliveries::read(&self.access, hook, id).await
    }

    async fn open_runs(&self, repository: &str) -> CallResult<Vec<OpenRun>> {
        self.lists.open_runs(&self.access, repository).await
    }

    async fn queued_jobs(&self, repository: &str, run: &OpenRun) -> CallResult<Vec<Vec<u8>>> {
        self.lists.queued_jobs(&self.access, repository, run).await
    }

    fn rate_limits(&self) -> Vec<RateLimit> {
        self.rate_limits.all()
    }

    fn spares_calls_for(&self) -> Option<Duration> {
        self.rate_limits.spares(|bucket| *bucket != Bucket::App)
    }

    fn spares_calls_about_hooks_for(&self) -> Option<Duration> {
        let own = self.access.is_app();
        self.rate_limits.spares(|bucket| (*bucket == Bucket::App) == own)
    }

    fn registrations(&self) -> Option<RateLimit> {
        self.rate_limits.registrations()
    }

    fn known_of_protected_branch(&self, what: &JobDescription) -> Option<bool> {
        self.branches.known(what)
    }
}

fn runners_path(scope: &Scope) -> CallResult<String> {
    let base = match scope {
        Scope::Owner(owner) => format!("/orgs/{}", checked(owner)?),
        Scope::Repository(repository) => repository_path(repository)?,
    };
    Ok(format!("{base}/actions/runners"))
}

fn repository_path(repository: &str) -> CallResult<String> {
    let (owner, name) = repository.split_once('/').unwrap_or((repository, ""));
    Ok(format!("/repos/{}/{}", checked(owner)?, checked(name)?))
}

/// An account's or repository's name as part of a path. It comes from a webhook, so it must not lead elsewhere.
fn checked(name: &str) -> CallResult<&str> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !plain || name.is_empty() || name == "." || name == ".." {
        return Err(CallError::new(
            CallErrorKind::Refused,
            "the repository is not OWNER/NAME in the characters that GitHub allows",
        ));
    }
    Ok(name)
}

/// A runner's name as a query value.
fn encode(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What to grant where GitHub refuses to let us handle runners.
fn runners_remedy(scope: &Scope) -> &'static str {
    match scope {
        Scope::Owner(_) => "needs the organization permission Self-hosted runners: write",
        Scope::Repository(_) => "needs the repository permission Administration: write",
    }
}
