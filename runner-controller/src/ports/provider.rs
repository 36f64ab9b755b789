//! What the loop needs of a source of jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::job::{JobAction, JobDescription, JobKey};
use runner_core::notice::{Stage, Text};
use runner_core::setup::Scope;
use runner_core::sweep::{Attempt, Page};
use secrecy::SecretString;

use super::{CallError, CallErrorKind, CallResult};

/// A source of jobs, where runners register.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Registers an ephemeral runner and answers what its agent needs. Never retried by the adapter: a lost answer
    /// may have left a registration.
    async fn register(&self, registration: &Registration) -> CallResult<Credential>;
    /// Deletes a registration, found by id or else by name. The source alone knows whether the runner is busy.
    async fn deregister(&self, scope: &Scope, name: &str, id: Option<u64>) -> CallResult<Deregistered>;
    /// All runners that are registered at a scope, whoever registered them. Calls that can wait are spared for this too.
    async fn runners(&self, _scope: &Scope) -> CallResult<Vec<RegisteredRunner>> {
        Ok(Vec::new())
    }
    /// The runner of this name, whoever registered it; `None` if the source lists none.
    ///
    /// # Errors
    /// `Refused` where the source cannot tell.
    async fn named(&self, _scope: &Scope, _name: &str) -> CallResult<Option<RegisteredRunner>> {
        Err(CallError::new(CallErrorKind::Refused, "the source lists no runners"))
    }
    /// How a job stands; `None` if the source does not know it.
    async fn read_job(&self, job: &JobKey, what: &JobDescription) -> CallResult<Option<JobReading>>;
    /// Whether a job runs the code of a protected branch: neither a fork's, nor code that is only proposed. What the source
    /// does not know counts as not protected.
    ///
    /// # Errors
    /// `Refused` where the source does not let Stint ask, with what would have to be granted.
    async fn is_of_protected_branch(&self, what: &JobDescription) -> CallResult<bool>;
    /// Shows something of a job at its commit, or changes what is shown. The same again changes nothing.
    ///
    /// # Errors
    /// `Refused` where the source does not let Stint publish at all, with what would have to be granted.
    async fn publish(&self, notice: &CheckRun) -> CallResult<Published>;
    /// The repositories of an account that the source lets Stint see, in no particular order.
    ///
    /// # Errors
    /// `Refused` where the source does not let Stint list them, with what would have to be granted.
    async fn repositories(&self, owner: &str) -> CallResult<Vec<RepositorySeen>>;
    /// The hooks that bring deliveries to Stint and of which the source shows the deliveries, as names that the two calls
    /// below take. None where the source has no such thing.
    ///
    /// # Errors
    /// `Refused` where the source does not let Stint look, with what would have to be granted.
    async fn hooks(&self, _wanted: &HooksWanted) -> CallResult<Vec<String>> {
        Ok(Vec::new())
    }
    /// A page of a hook's deliveries, the latest record first.
    async fn deliveries(&self, hook: &str, _page: &Page) -> CallResult<DeliveryPage> {
        Err(no_deliveries(hook))
    }
    /// What a delivery said; `None` if the source no longer keeps it.
    async fn delivery(&self, hook: &str, _id: u64) -> CallResult<Option<Delivery>> {
        Err(no_deliveries(hook))
    }
    /// The runs of a repository that are not over: any of their jobs may be queued.
    async fn open_runs(&self, _repository: &str) -> CallResult<Vec<OpenRun>> {
        Ok(Vec::new())
    }
    /// The queued jobs of such a run, each in the form of the delivery that tells of it.
    async fn queued_jobs(&self, _repository: &str, _run: &OpenRun) -> CallResult<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// What the source last said is left of each of its rate limits.
    fn rate_limits(&self) -> Vec<RateLimit> {
        Vec::new()
    }
    /// How long calls that can wait should, so that enough are left for runners; `None`: not at all.
    fn spares_calls_for(&self) -> Option<Duration> {
        None
    }
    /// The same for calls about hooks, which may come under a limit of their own.
    fn spares_calls_about_hooks_for(&self) -> Option<Duration> {
        self.spares_calls_for()
    }
    /// What is left of the limit on registrations, where they have one of their own and the source has told of it.
    fn registrations(&self) -> Option<RateLimit> {
        None
    }
    /// Whether a job runs the code of a protected branch, where that is still believed and needs no call.
    fn known_of_protected_branch(&self, _what: &JobDescription) -> Option<bool> {
        None
    }
}

/// What a runner registers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Where.
    pub scope: Scope,
    /// The runner's name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
}

/// A runner, as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredRunner {
    /// The source's id of it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it runs a job.
    pub busy: bool,
    /// Whether its agent is connected.
    pub online: bool,
    /// Its labels.
    pub labels: Vec<String>,
}

/// What an agent needs to take a job.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The source's id of the runner.
    pub runner_id: u64,
    /// Files by name, such as `jitconfig`.
    pub files: BTreeMap<String, SecretString>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deregistered {
    /// The source knows the runner no longer.
    Gone,
    /// The runner is running a job and stays.
    Busy,
}

/// How a job stands, read from its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReading {
    /// What was last to happen.
    pub action: JobAction,
    /// The runner that has or had it.
    pub runner: Option<String>,
    /// How it ended.
    pub conclusion: Option<String>,
}

/// Something to show of a job at its commit (GitHub: a check-run).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRun {
    /// The job; what is shown carries its key, by which it is found again.
    pub job: JobKey,
    /// The repository, as `owner/name`.
    pub repository: String,
    /// The commit, in hexadecimal.
    pub sha: String,
    /// What people see in the list of checks.
    pub name: String,
    /// Where people see the job.
    pub url: Option<String>,
    /// How far the job is.
    pub stage: Stage,
    /// What to say.
    pub text: Text,
    /// When the job was over, at the end.
    pub ended_at: Option<Timestamp>,
    /// The source's id of what is shown, where that is known.
    pub id: Option<String>,
    /// Whether one may be there although its id is not known: it is looked for first.
    pub look: bool,
}

/// What became of something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is shown, under this id.
    As(String),
    /// The source knows no such commit, or what was shown has been removed: nothing can be shown of this job.
    Nowhere,
}

/// A repository, as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySeen {
    /// Its name, as `owner/name`.
    pub full_name: String,
    /// When somebody last pushed to it, by the source's clock, where it says so.
    pub pushed_at: Option<Timestamp>,
}

fn no_deliveries(hook: &str) -> CallError {
    CallError::new(CallErrorKind::Refused, format!("the source shows no deliveries of hook {hook}"))
}

/// Which hooks are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HooksWanted {
    /// Name of the source, with which the path ends that deliveries are sent to.
    pub source: String,
    /// Whether the App's hook may send them anywhere.
    pub anywhere: bool,
    /// Accounts whose hooks are looked through.
    pub owners: Vec<String>,
    /// Repositories (`owner/name`) whose hooks are looked through.
    pub repositories: Vec<String>,
}

/// A page of a hook's deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The attempts on it.
    pub attempts: Vec<Attempt>,
    /// What the source calls the next page, if there is one.
    pub next: Option<String>,
}

/// A delivery, read from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its guid.
    pub guid: String,
    /// The event, in the source's word.
    pub event: String,
    /// The body.
    pub payload: Vec<u8>,
}

/// A run that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// The source's id of it.
    pub id: u64,
    /// Its repository in the source's own form, for the jobs' deliveries.
    pub repository: String,
}

/// What is left of one of a source's rate limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The source's word for what is limited, such as `core`.
    pub resource: String,
    /// Calls that are left until `reset`.
    pub remaining: u64,
    /// Calls that there are in all.
    pub limit: u64,
    /// When they are given anew.
    pub reset: Timestamp,
}
