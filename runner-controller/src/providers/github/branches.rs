//! Whether a job runs the code of a protected branch.
//!
//! Three things must hold: what started its run runs a branch's own code, the run is of the repository itself and not of a
//! fork, and GitHub protects the branch, be it by a rule of its own or by any ruleset (hub4j/github-api#2062). Since GitHub tells branches and tags apart in no field of a run, its commit must
//! also be on that branch: whoever may push tags could give one the name of a branch.
//!
//! Answers are remembered for a few minutes, and asked for once however many jobs of a run want to know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use runner_core::job::JobDescription;
use runner_core::setup::Scope;
use tokio::sync::Mutex;

use super::access::Access;
use super::errors::Call;
use super::{encode, repository_path, wire};
use crate::clock;
use crate::ports::{CallError, CallErrorKind, CallResult};

/// How long an answer is believed.
const BELIEVED: SignedDuration = SignedDuration::from_mins(5);
/// The most answers of a kind that are remembered.
const MOST: usize = 10_000;
/// What starts runs of a branch's own code (GitHub documentation, "Events that trigger workflows"). Not among them: pull
/// requests, whose code is proposed and not yet the branch's, and `workflow_run`, whose branch is that of another run.
const OWN_CODE: [&str; 6] =
    ["push", "schedule", "workflow_dispatch", "repository_dispatch", "release", "merge_group"];

/// Answers by repository and what was asked about.
type Answers<T> = StdMutex<HashMap<(String, String), (Timestamp, Arc<Mutex<Option<T>>>)>>;

/// What is remembered.
#[derive(Default)]
pub(super) struct Branches {
    runs: Answers<bool>,
    branches: Answers<Branch>,
}

/// A branch; `None`: there is none of that name.
type Branch = Option<wire::Branch>;

impl Branches {
    /// Whether a job runs the code of a protected branch.
    pub(super) async fn is_protected(&self, access: &Access, what: &JobDescription) -> CallResult<bool> {
        let Some(run) = &what.run else { return Ok(false) };
        let id: u64 = run.parse().map_err(|_| {
            CallError::new(CallErrorKind::Refused, "read run: its id is no number, as GitHub's are")
        })?;
        let slot = slot(&self.runs, &what.repository, run);
        let mut known = slot.lock().await;
        if let Some(known) = *known {
            return Ok(known);
        }
        let answer = self.ask(access, &what.repository, id).await?;
        *known = Some(answer);
        Ok(answer)
    }

    /// The answer for a job, where it is remembered.
    pub(super) fn known(&self, what: &JobDescription) -> Option<bool> {
        let run = what.run.as_ref()?;
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, slot) = runs.get(&(what.repository.to_lowercase(), run.clone()))?;
        let believed = clock::now().duration_since(*since) < BELIEVED;
        // Where somebody holds it, it is being asked for.
        slot.try_lock().ok().and_then(|known| *known).filter(|_| believed)
    }

    async fn ask(&self, access: &Access, repository: &str, run: u64) -> CallResult<bool> {
        let at = Place {
            access,
            scope: Scope::Repository(repository.to_owned()),
            base: repository_path(repository)?,
        };
        let Some(run) = at.run(run).await? else { return Ok(false) };
        let of_itself =
            run.head_repository.as_ref().is_some_and(|head| head.full_name.eq_ignore_ascii_case(repository));
        let Some(branch) = run.head_branch.as_deref().filter(|branch| !branch.is_empty()) else {
            return Ok(false);
        };
        if !of_itself || run.head_sha.is_empty() || !OWN_CODE.contains(&run.event.as_str()) {
            return Ok(false);
        }
        let slot = slot(&self.branches, repository, branch);
        let mut known = slot.lock().await;
        let remembered = known.is_some();
        let mut seen = match &*known {
            Some(seen) => seen.clone(),
            None => at.branch(branch).await?,
        };
        // What was just pushed is newer than what is remembered.
        let moved = |seen: &Branch| {
            seen.as_ref().is_some_and(|branch| branch.protected && branch.commit.sha != run.head_sha)
        };
        if remembered && moved(&seen) {
            seen = at.branch(branch).await?;
        }
        *known = Some(seen.clone());
        drop(known);
        match &seen {
            Some(branch) if branch.protected => Ok(branch.commit.sha == run.head_sha
                || at.is_ancestor(&run.head_sha, &branch.commit.sha).await?),
            Some(_) | None => Ok(false),
        }
    }
}

/// The repository that is asked about.
struct Place<'a> {
    access: &'a Access,
    scope: Scope,
    base: String,
}

impl Place<'_> {
    async fn run(&self, id: u64) -> CallResult<Option<wire::Run>> {
        let path = format!("{}/actions/runs/{id}", self.base);
        let answer = self.access.send(&self.scope, Call::get("read run", path)).await?;
        match answer.status {
            StatusCode::OK => answer.read().map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.error("needs the repository permission Actions: read")),
        }
    }

    async fn branch(&self, name: &str) -> CallResult<Branch> {
        let path = format!("{}/branches/{}", self.base, encode(name));
        let answer = self.access.send(&self.scope, Call::get("read branch", path)).await?;
        match answer.status {
            StatusCode::OK => answer.read().map(Some),
            // It was deleted, or has another name by now.
            StatusCode::NOT_FOUND | StatusCode::MOVED_PERMANENTLY => Ok(None),
            _ => Err(answer.error("needs the repository permission Contents: read")),
        }
    }

    /// Whether a commit is one of those that lead to another one.
    async fn is_ancestor(&self, sha: &str, of: &str) -> CallResult<bool> {
        let path = format!("{}/compare/{}...{}?per_page=1", self.base, encode(of), encode(sha));
        let answer = self.access.send(&self.scope, Call::get("compare commits", path)).await?;
        match answer.status {
            StatusCode::OK => {
                let compared: wire::Comparison = answer.read()?;
                Ok(matches!(compared.status.as_str(), "behind" | "identical"))
            }
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(answer.error("needs the repository permission Contents: read")),
        }
    }
}

/// The place of an answer, which whoever asks first fills while others wait.
fn slot<T>(answers: &Answers<T>, repository: &str, about: &str) -> Arc<Mutex<Option<T>>> {
    let now = clock::now();
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    if answers.len() >= MOST {
        answers.retain(|_, (since, _)| now.duration_since(*since) < BELIEVED);
    }
    if answers.len() >= MOST {
        answers.clear();
    }
    let entry =
        answers.entry((repository.to_lowercase(), about.to_owned())).or_insert_with(|| (now, Arc::default()));
    if now.duration_since(entry.0) >= BELIEVED {
        *entry = (now, Arc::default());
    }
    entry.1.clone()
}
