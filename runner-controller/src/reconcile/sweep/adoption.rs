//! Queued jobs that nothing was told of: they are looked for at their source, repository by repository.
//!
//! After an outage that is longer than deliveries are kept, or where no hook can be read, there is no other way to hear of
//! them.

use std::collections::{BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::{Complaints, add, after};
use crate::clock;
use crate::config::ResolvedSource;
use crate::execute::Outside;
use crate::intake::recovered::{self, Recovered};
use crate::ports::{CallErrorKind, CallResult, Provider, RepositorySeen, Stored};

/// The pause between two looks through all repositories; the first comes at once. From the end of one, since with many
/// repositories a look takes longer than this.
const EVERY: SignedDuration = SignedDuration::from_mins(15);
/// Repositories that are looked through before anything else of the source gets its turn.
const REPOSITORIES: usize = 20;

/// Where the look through a source's repositories is.
#[derive(Default)]
pub(super) struct Adoption {
    /// When the last round ended; `None`: none did yet.
    ended: Option<Timestamp>,
    /// Repositories that it has not come to yet.
    queue: VecDeque<String>,
    /// Those that could not be read in it and get one more chance.
    failed: BTreeSet<String>,
}

impl Adoption {
    /// Does what is due. Answers when there is more.
    pub(super) async fn pass(
        &mut self,
        outside: &Outside,
        source: &ResolvedSource,
        provider: &dyn Provider,
        complaints: &mut Complaints,
    ) -> Timestamp {
        let now = clock::now();
        if self.queue.is_empty() {
            let due = self.ended.map_or(now, |ended| add(ended, EVERY));
            if due > now {
                return due;
            }
            match repositories(source, provider, complaints).await {
                Ok(queue) => *self = Self { ended: None, queue, failed: BTreeSet::new() },
                Err(again) => return again,
            }
        }
        let mut adopted = 0;
        let mut next = now;
        for _ in 0..REPOSITORIES {
            let Some(repository) = self.queue.pop_front() else { break };
            match look(outside, source, provider, &repository).await {
                Ok(found) => adopted += found,
                Err(error) => {
                    let name = &source.name;
                    match error.kind {
                        CallErrorKind::Refused | CallErrorKind::NotFound => {
                            if complaints.is_news("runs", &error.message) {
                                tracing::warn!(
                                    source = name,
                                    repository,
                                    %error,
                                    "queued jobs of {repository} are not looked for: {error}"
                                );
                            }
                            continue;
                        }
                        CallErrorKind::Throttled(_) => self.queue.push_front(repository),
                        CallErrorKind::Unavailable | CallErrorKind::Conflict => {
                            tracing::debug!(source = name, repository, %error, "queued jobs cannot be read: {error}");
                            if self.failed.insert(repository.clone()) {
                                self.queue.push_back(repository);
                            }
                        }
                    }
                    next = after(&error);
                    break;
                }
            }
        }
        outside.metrics.adopted(&source.name, adopted);
        if adopted > 0 {
            let name = &source.name;
            tracing::info!(
                source = name,
                adopted,
                "source {name}: {adopted} queued jobs that nothing was told of"
            );
        }
        if !self.queue.is_empty() {
            return next;
        }
        let ended = clock::now();
        self.ended = Some(ended);
        add(ended, EVERY)
    }
}

/// The repositories of a source, those first that somebody pushed to last; or when they can be listed again.
async fn repositories(
    source: &ResolvedSource,
    provider: &dyn Provider,
    complaints: &mut Complaints,
) -> Result<VecDeque<String>, Timestamp> {
    let mut found: Vec<RepositorySeen> = Vec::new();
    for owner in &source.owners {
        match provider.repositories(owner).await {
            Ok(listed) => found.extend(listed),
            Err(error) if matches!(error.kind, CallErrorKind::Refused | CallErrorKind::NotFound) => {
                let name = &source.name;
                if complaints.is_news("repositories", &error.message) {
                    tracing::warn!(
                        source = name,
                        owner,
                        %error,
                        "queued jobs of {owner} are not looked for: {error}"
                    );
                }
            }
            Err(error) => return Err(after(&error)),
        }
    }
    Ok(in_order(&source.repositories, found))
}

/// Each once: those that are listed by name, then the others, the latest push first.
fn in_order(listed: &[String], mut found: Vec<RepositorySeen>) -> VecDeque<String> {
    found.sort_by(|a, b| (b.pushed_at, &a.full_name).cmp(&(a.pushed_at, &b.full_name)));
    let all = listed.iter().cloned().chain(found.into_iter().map(|seen| seen.full_name));
    let mut known = BTreeSet::new();
    all.filter(|name| known.insert(name.to_lowercase())).collect()
}

/// Stores the queued jobs of a repository that are not known yet. Answers how many there were.
async fn look(
    outside: &Outside,
    source: &ResolvedSource,
    provider: &dyn Provider,
    repository: &str,
) -> CallResult<u64> {
    let mut adopted = 0;
    let rules = outside.sources.rules().borrow().clone();
    for run in provider.open_runs(repository).await? {
        for job in provider.queued_jobs(repository, &run).await? {
            match recovered::queued_job(&*outside.records, &rules, &source.name, &job).await? {
                Recovered::Stored(Stored::NewJob | Stored::Added) => adopted += 1,
                Recovered::Stored(Stored::Known) | Recovered::Unused(_) => {}
            }
        }
    }
    Ok(adopted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repository_is_looked_at_once_and_the_latest_push_first() {
        let seen = |name: &str, second: Option<i64>| RepositorySeen {
            full_name: name.to_owned(),
            pushed_at: second.map(|second| Timestamp::from_second(second).unwrap()),
        };
        let found = vec![
            seen("a/old", Some(1)),
            seen("a/never", None),
            seen("A/New", Some(9)),
            seen("b/Own", Some(5)),
        ];
        assert_eq!(in_order(&["b/own".to_owned()], found), ["b/own", "A/New", "a/old", "a/never"]);
    }
}
