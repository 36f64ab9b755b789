//! Lists of repositories, runs and jobs: what GitHub knows of, told or not.
//!
//! The same list is asked for again and again. Its tag is remembered with what was read from it, so that one that has not
//! changed is answered by a 304, which counts against no hourly limit (GitHub documentation, "Best practices for using the
//! REST API", conditional requests).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use runner_core::setup::Scope;
use serde_json::{Value, json};

use super::access::Access;
use super::errors::{Answer, Call};
use super::{checked, repository_path, wire};
use crate::ports::{CallResult, OpenRun, RepositorySeen};

/// Items on one page, the most that GitHub gives.
const PAGE: usize = 100;
/// Pages of repositories that are read of an account.
const MAX_REPOSITORY_PAGES: usize = 100;
/// Pages that are read of runs and jobs: GitHub lists 1,000 where a filter is given.
const MAX_PAGES: usize = 10;
const ACTIONS_READ: &str = "needs the repository permission Actions: read";
/// The most pages of a kind that are remembered: those of the runs of 5,000 repositories.
const MOST: usize = 25_000;
/// How long a page keeps its place after it was read last: longer than any round of reading all of them, since a round
/// in which each page took the place of another would find none of them.
const KEPT: SignedDuration = SignedDuration::from_hours(2);
/// The states of runs of which some job may be queued. One that runs or waits for an approval may have such jobs still.
const OPEN: [&str; 5] = ["queued", "in_progress", "waiting", "pending", "requested"];

/// What is remembered of lists.
#[derive(Default)]
pub(super) struct Lists {
    repositories: Remembered<Vec<RepositorySeen>>,
    runs: Remembered<Vec<OpenRun>>,
    jobs: Remembered<Vec<Vec<u8>>>,
}

impl Lists {
    /// The repositories of an account, but for those that are archived.
    pub(super) async fn repositories(&self, access: &Access, owner: &str) -> CallResult<Vec<RepositorySeen>> {
        let scope = Scope::Owner(owner.to_owned());
        let base = match access.is_app() {
            true => "/installation/repositories?".to_owned(),
            false => format!("/orgs/{}/repos?sort=pushed&", checked(owner)?),
        };
        let mut all = Vec::new();
        for page in 1..=MAX_REPOSITORY_PAGES {
            let path = format!("{base}per_page={PAGE}&page={page}");
            let key = format!("{owner} {path}");
            let call = Call::get("list repositories", path);
            let read = |answer: &Answer| {
                let listed = match access.is_app() {
                    true => answer.read::<wire::Repositories>()?.repositories,
                    false => answer.read::<Vec<wire::ListedRepository>>()?,
                };
                let last = listed.len() < PAGE;
                Ok((listed.into_iter().filter(|one| !one.archived).map(seen).collect(), last))
            };
            let remedy = "needs the repository permission Metadata: read";
            let (found, last) = self.repositories.get(access, &scope, key, call, read, remedy).await?;
            all.extend(found.iter().cloned());
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// The runs of a repository of which some job may be queued.
    pub(super) async fn open_runs(&self, access: &Access, repository: &str) -> CallResult<Vec<OpenRun>> {
        let scope = Scope::Repository(repository.to_owned());
        let base = repository_path(repository)?;
        let mut all: Vec<OpenRun> = Vec::new();
        for status in OPEN {
            for page in 1..=MAX_PAGES {
                let path = format!("{base}/actions/runs?status={status}&per_page={PAGE}&page={page}");
                let read = |answer: &Answer| {
                    let listed = answer.read::<wire::Runs>()?.workflow_runs;
                    let last = listed.len() < PAGE;
                    Ok((listed.into_iter().map(open_run).collect(), last))
                };
                let (key, call) = (path.clone(), Call::get("list runs", path));
                let (found, last) = self.runs.get(access, &scope, key, call, read, ACTIONS_READ).await?;
                // One may have moved from the one list to the other meanwhile.
                let new = found.iter().filter(|run| !all.iter().any(|known| known.id == run.id));
                all.extend(new.cloned().collect::<Vec<_>>());
                if last {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// The queued jobs of a run, each in the form of a `workflow_job` delivery.
    pub(super) async fn queued_jobs(
        &self,
        access: &Access,
        repository: &str,
        run: &OpenRun,
    ) -> CallResult<Vec<Vec<u8>>> {
        let scope = Scope::Repository(repository.to_owned());
        let base = format!("{}/actions/runs/{}/jobs", repository_path(repository)?, run.id);
        let of: Value = serde_json::from_str(&run.repository).unwrap_or_default();
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("{base}?filter=latest&per_page={PAGE}&page={page}");
            let read = |answer: &Answer| {
                let listed = answer.read::<wire::Jobs>()?.jobs;
                let last = listed.len() < PAGE;
                let queued = listed.into_iter().filter(|job| job["status"] == "queued");
                let told = queued.map(|job| {
                    json!({"action": "queued", "workflow_job": job, "repository": of})
                        .to_string()
                        .into_bytes()
                });
                Ok((told.collect(), last))
            };
            let (key, call) = (path.clone(), Call::get("list jobs", path));
            let (found, last) = self.jobs.get(access, &scope, key, call, read, ACTIONS_READ).await?;
            all.extend(found.iter().cloned());
            if last {
                break;
            }
        }
        Ok(all)
    }
}

fn open_run(listed: wire::ListedRun) -> OpenRun {
    OpenRun { id: listed.id, repository: listed.repository.to_string() }
}

fn seen(listed: wire::ListedRepository) -> RepositorySeen {
    let pushed_at = listed.pushed_at.and_then(|at| at.parse().ok());
    RepositorySeen { full_name: listed.full_name, pushed_at }
}

/// What was read from a page, its tag, and whether it was the last one.
struct Known<T> {
    tag: String,
    read: Arc<T>,
    last: bool,
    /// When it was read last, or found not to have changed.
    used_at: Timestamp,
}

/// Whether a page may be remembered beside at most `most` others. Where there is no room, the one goes that was not read
/// for the longest time, if that is long enough.
fn has_room<T>(known: &mut HashMap<String, Known<T>>, key: &str, most: usize, now: Timestamp) -> bool {
    if known.len() < most || known.contains_key(key) {
        return true;
    }
    let oldest = known.iter().min_by_key(|(_, page)| page.used_at);
    match oldest.filter(|(_, page)| now.duration_since(page.used_at) >= KEPT).map(|(key, _)| key.clone()) {
        Some(oldest) => known.remove(&oldest).is_some(),
        None => false,
    }
}

/// Pages that were read.
pub(super) struct Remembered<T>(Mutex<HashMap<String, Known<T>>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Remembered<T> {
    /// Reads a page, or answers what is remembered of it where GitHub says that it has not changed.
    pub(super) async fn get(
        &self,
        access: &Access,
        scope: &Scope,
        key: String,
        mut call: Call,
        read: impl Fn(&Answer) -> CallResult<(T, bool)>,
        remedy: &str,
    ) -> CallResult<(Arc<T>, bool)> {
        call.unless = self.tag(&key);
        let answer = access.send(scope, call).await?;
        self.take(key, &answer, read, remedy)
    }

    /// The tag of a page that is remembered.
    pub(super) fn tag(&self, key: &str) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).map(|known| known.tag.clone())
    }

    /// Reads an answer, and remembers what was read.
    pub(super) fn take(
        &self,
        key: String,
        answer: &Answer,
        read: impl Fn(&Answer) -> CallResult<(T, bool)>,
        remedy: &str,
    ) -> CallResult<(Arc<T>, bool)> {
        match answer.status {
            StatusCode::OK => {
                let (fresh, last) = read(answer)?;
                let fresh = Arc::new(fresh);
                let tag = answer.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let used_at = crate::clock::now();
                match tag {
                    Some(tag) if has_room(&mut known, &key, MOST, used_at) => {
                        let read = Arc::clone(&fresh);
                        known.insert(key, Known { tag: tag.to_owned(), read, last, used_at });
                    }
                    Some(_) | None => drop(known.remove(&key)),
                }
                Ok((fresh, last))
            }
            StatusCode::NOT_MODIFIED => {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                match known.get_mut(&key) {
                    Some(known) => {
                        known.used_at = crate::clock::now();
                        Ok((Arc::clone(&known.read), known.last))
                    }
                    // It made room for others meanwhile; the next call asks without a tag.
                    None => Err(answer.unreadable("nothing is remembered of what has not changed")),
                }
            }
            _ => Err(answer.error(remedy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_room_the_page_goes_that_nobody_reads_any_more() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let page = |hours| Known { tag: String::new(), read: Arc::new(()), last: true, used_at: at(hours) };
        let mut known = HashMap::from([("old".to_owned(), page(0)), ("new".to_owned(), page(1))]);
        assert!(has_room(&mut known, "third", 3, at(2)), "room is left");
        assert!(!has_room(&mut known, "third", 2, at(1)), "each is still read");
        assert!(has_room(&mut known, "new", 2, at(1)), "it is known");
        assert_eq!(known.len(), 2);
        assert!(has_room(&mut known, "third", 2, at(2)));
        assert_eq!(known.keys().collect::<Vec<_>>(), ["new"]);
    }
}
