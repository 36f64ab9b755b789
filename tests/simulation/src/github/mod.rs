//! GitHub: jobs, runners, who gets which job, and webhooks.
//!
//! Faithful to what matters: a runner takes any queued job of its scope whose labels it covers; a busy runner cannot be
//! deleted (422); a job that is not picked up within 60 s is queued again; an idle runner is removed after some minutes;
//! a job whose runner is lost fails only later; webhooks may be lost, late, repeated and out of order, and what was tried
//! can be read for three days.

mod hook;
mod jobs;
mod provider;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::setup::Scope;
use tokio::sync::Notify;

pub use jobs::{AGAIN_AFTER, ATTEMPT};
pub use provider::GitHubLink;

use crate::board::Board;
use crate::chance::Chance;
use crate::front::Front;
use crate::time::pause;

/// How long an assigned job waits to be picked up before it is queued again.
const PICKED_UP_WITHIN: Duration = Duration::from_secs(60);
/// After how long a job fails whose runner is lost.
const LOST_AFTER: Duration = Duration::from_secs(600);
/// The webhook's secret; of no use anywhere else.
pub const WEBHOOK_SECRET: &str = "simulated webhook";

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// An approval holds it back.
    HeldBack,
    /// It waits for a runner.
    Queued,
    /// A runner was told to take it.
    Assigned(u64),
    /// A runner has it.
    Running(u64),
    /// It is over.
    Over(&'static str),
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: u64,
    /// Which attempt of its run.
    pub attempt: u32,
    /// Its repository.
    pub repository: String,
    /// What it asks for.
    pub labels: Vec<String>,
    /// How far it is.
    pub state: State,
    /// For how long it runs.
    pub runs_for: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// The runner that has or had it.
    pub runner: Option<(u64, String)>,
    /// When it was over.
    pub over_at: Option<Duration>,
    /// Whether it was cancelled or taken by a foreign runner: how it ends is not Stint's affair.
    pub meddled: bool,
}

impl Job {
    /// The run that it belongs to, which all its attempts share.
    fn run(&self) -> u64 {
        self.id % ATTEMPT
    }
}

/// A registered runner.
#[derive(Clone, Debug)]
struct Runner {
    name: String,
    scope: Scope,
    labels: Vec<String>,
    online: bool,
    job: Option<u64>,
    had_job: bool,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<u64, Job>,
    runners: BTreeMap<u64, Runner>,
    last_runner: u64,
    deliveries: u64,
    attempts: u64,
    /// All attempts to deliver, in the order in which they ended.
    sent: Vec<hook::Sent>,
    spent: hook::Spent,
    /// Of each job, when it was first tried to tell that it is queued.
    told: BTreeMap<u64, Duration>,
    check_runs: BTreeMap<String, u64>,
    /// Jobs of which a delivery was answered with 2xx and stored.
    accepted: BTreeSet<u64>,
}

/// GitHub.
pub struct GitHub {
    board: Arc<Board>,
    front: Arc<Front>,
    inner: Mutex<Inner>,
}

/// What an agent hears when it asks for its next job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigned {
    /// To take this job.
    Job(u64),
    /// That its registration is gone.
    Removed,
}

impl GitHub {
    /// Nothing is queued, nobody registered.
    pub fn new(board: Arc<Board>, front: Arc<Front>) -> Arc<Self> {
        Arc::new(Self { board, front, inner: Mutex::default() })
    }

    /// All jobs, by id.
    pub fn jobs(&self) -> Vec<Job> {
        self.lock().jobs.values().cloned().collect()
    }

    /// Jobs of which Stint has stored something.
    pub fn accepted(&self) -> BTreeSet<u64> {
        self.lock().accepted.clone()
    }

    /// Names of all registered runners, and whether each is online.
    pub fn runners(&self) -> Vec<(String, bool)> {
        self.lock().runners.values().map(|runner| (runner.name.clone(), runner.online)).collect()
    }

    /// The job that a runner of this name is running at this moment, unless somebody meddled with it. One whose agent is
    /// gone runs nothing any more, whatever GitHub believes.
    pub fn running_on(&self, name: &str) -> Option<u64> {
        let inner = self.lock();
        let runner = inner.runners.values().find(|runner| runner.name == name && runner.online)?;
        let job = runner.job?;
        let job = inner.jobs.get(&job)?;
        (matches!(job.state, State::Running(_)) && !job.meddled).then_some(job.id)
    }

    /// Registers a runner; `None` if there is one of that name.
    fn register(&self, name: &str, scope: &Scope, labels: &[String]) -> Option<u64> {
        let mut inner = self.lock();
        if inner.runners.values().any(|runner| runner.name == name) {
            return None;
        }
        inner.last_runner += 1;
        let id = inner.last_runner;
        let runner = Runner {
            name: name.to_owned(),
            scope: scope.clone(),
            labels: labels.to_vec(),
            online: false,
            job: None,
            had_job: false,
            news: Arc::default(),
        };
        inner.runners.insert(id, runner);
        Some(id)
    }

    /// Deletes a registration; `false` if the runner is busy.
    fn deregister(&self, name: &str, id: Option<u64>) -> bool {
        let mut inner = self.lock();
        let found = id
            .filter(|id| inner.runners.contains_key(id))
            .or_else(|| inner.runners.iter().find(|(_, runner)| runner.name == name).map(|(id, _)| *id));
        let Some(id) = found else { return true };
        if inner.runners.get(&id).is_some_and(|runner| runner.job.is_some()) {
            return false;
        }
        inner.remove(id);
        true
    }

    /// A runner's agent comes online with its JIT configuration; `false` if its registration is gone or in use.
    pub fn connect(self: &Arc<Self>, id: u64) -> bool {
        {
            let mut inner = self.lock();
            let Some(runner) = inner.runners.get_mut(&id).filter(|runner| !runner.online && !runner.had_job)
            else {
                return false;
            };
            runner.online = true;
            let name = runner.name.clone();
            drop(inner);
            self.board.journal.note("GitHub", format_args!("runner {name} is online"));
        }
        self.assign();
        // An idle runner is removed after some minutes (actions/runner#4726).
        let github = self.clone();
        let idle_for = Chance::of(self.board.seed, &format!("idle {id}")).between(120_000, 360_000);
        tokio::spawn(async move {
            pause(idle_for).await;
            let mut inner = github.lock();
            let idle = |runner: &&Runner| runner.job.is_none() && !runner.had_job;
            let Some(name) = inner.runners.get(&id).filter(idle).map(|runner| runner.name.clone()) else {
                return;
            };
            inner.remove(id);
            drop(inner);
            github.board.journal.note("GitHub", format_args!("removes idle runner {name}"));
        });
        true
    }

    /// Waits until a runner is told to take a job, or is removed.
    pub async fn next_job(&self, id: u64) -> Assigned {
        loop {
            let news = {
                let inner = self.lock();
                let Some(runner) = inner.runners.get(&id) else { return Assigned::Removed };
                if let Some(job) = runner.job {
                    return Assigned::Job(job);
                }
                runner.news.clone()
            };
            news.notified().await;
        }
    }

    /// A runner's agent is gone, with or without a job.
    pub fn disconnect(self: &Arc<Self>, id: u64) {
        let running = {
            let mut inner = self.lock();
            let Some(runner) = inner.runners.get_mut(&id) else { return };
            runner.online = false;
            let job = runner.job;
            job.filter(|job| inner.jobs.get(job).is_some_and(|job| matches!(job.state, State::Running(_))))
        };
        if let Some(job) = running {
            let github = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LOST_AFTER).await;
                if github.job(job).is_some_and(|job| job.state == State::Running(id)) {
                    github.finish(job, "failure");
                }
            });
        }
    }

    /// Hands queued jobs to idle runners.
    fn assign(self: &Arc<Self>) {
        let mut inner = self.lock();
        let mut assigned = Vec::new();
        loop {
            let queued: Vec<u64> =
                inner.jobs.values().filter(|job| job.state == State::Queued).map(|job| job.id).collect();
            let pair = inner.runners.iter().find_map(|(id, runner)| {
                let idle = runner.online && runner.job.is_none() && !runner.had_job;
                let fitting: Vec<u64> = queued
                    .iter()
                    .filter(|job| idle && inner.jobs.get(*job).is_some_and(|job| runner.covers(job)))
                    .copied()
                    .collect();
                // Which one of those that fit is GitHub's affair.
                let mut chance = Chance::of(self.board.seed, &format!("assignment {id}"));
                chance.one_of(&fitting).map(|job| (*id, *job))
            });
            let Some((id, job)) = pair else { break };
            if let Some(runner) = inner.runners.get_mut(&id) {
                runner.job = Some(job);
                runner.news.notify_one();
                let name = runner.name.clone();
                if let Some(job) = inner.jobs.get_mut(&job) {
                    job.state = State::Assigned(id);
                    job.runner = Some((id, name.clone()));
                }
                assigned.push((id, job, name));
            }
        }
        drop(inner);
        for (id, job, name) in assigned {
            self.board.journal.note("GitHub", format_args!("gives job {job} to runner {name}"));
            let github = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PICKED_UP_WITHIN).await;
                github.queue_again(job, id);
            });
        }
    }

    fn queue_again(self: &Arc<Self>, id: u64, runner: u64) {
        {
            let mut inner = self.lock();
            let Some(job) = inner.jobs.get_mut(&id).filter(|job| job.state == State::Assigned(runner)) else {
                return;
            };
            job.state = State::Queued;
            job.runner = None;
            // A runner that did not take its one job gets no other.
            inner.remove(runner);
        }
        self.board.journal.note("GitHub", format_args!("queues job {id} again: not picked up"));
        self.assign();
    }

    fn job(&self, id: u64) -> Option<Job> {
        self.lock().jobs.get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, runner: u64) {
        if let Some(runner) = self.runners.remove(&runner) {
            runner.news.notify_one();
        }
    }
}

impl Runner {
    fn covers(&self, job: &Job) -> bool {
        let owner = job.repository.split('/').next().unwrap_or_default();
        self.scope.serves(owner, &job.repository)
            && job.labels.iter().all(|label| self.labels.iter().any(|own| own.eq_ignore_ascii_case(label)))
    }
}
