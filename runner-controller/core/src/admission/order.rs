//! In which order waiting jobs are looked at: by priority, then whose owner and whose repository has least of what the
//! job comes under, then by age.
//!
//! Shares only grow while jobs are admitted, so an entry that was put down earlier is never better than it says: the
//! best one is brought up to date when it is looked at, and none but that. Jobs with the same shares wait in one line,
//! so that an admission costs about the number of an owner's lines, not that of its jobs.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use foldhash::HashMap;

use super::{ProfileId, Usage};

/// A line's own key: the owner's share, the repository's, and the place of its first job by age.
type Key = (u64, u64, usize);
/// The least first.
type Least<K> = BinaryHeap<Reverse<(K, usize)>>;
/// A repository's key: its share, and the place of its first job by age.
type OfRepository = (u64, usize);
/// Jobs by age, with what they are for.
type Line = VecDeque<(usize, ProfileId)>;

/// The waiting jobs of one pass, in the order in which they are admitted.
#[derive(Debug)]
pub(crate) struct Order {
    /// By priority, the highest first; each by the owner's shares.
    levels: VecDeque<Level>,
}

#[derive(Debug, Default)]
struct Level {
    /// By owner, the least share first.
    owners: Least<Key>,
    /// By repository within each.
    repositories: HashMap<usize, Least<OfRepository>>,
    /// Those of one owner and repository, with what they are for.
    lines: HashMap<(usize, usize), Line>,
}

impl Order {
    /// Of jobs in the order of their age, each with its priority and what it is for.
    pub(crate) fn new(jobs: impl Iterator<Item = (usize, i64, ProfileId)>, usage: &Usage<'_>) -> Self {
        let mut levels: BTreeMap<Reverse<i64>, Level> = BTreeMap::new();
        for (rank, priority, profile) in jobs {
            let Some(known) = usage.profiles.get(profile.0) else { continue };
            let level = levels.entry(Reverse(priority)).or_default();
            let line = level.lines.entry((known.owner_lane, known.repository_lane)).or_default();
            line.push_back((rank, profile));
            if line.len() > 1 {
                continue;
            }
            let of_repository = (usage.repository_share(profile), rank);
            let repositories = level.repositories.entry(known.owner_lane).or_default();
            let first = repositories.is_empty();
            repositories.push(Reverse((of_repository, known.repository_lane)));
            if first {
                // It says no more than it must: a better repository may follow.
                let key = (usage.owner_share(profile), 0, 0);
                level.owners.push(Reverse((key, known.owner_lane)));
            }
        }
        Self { levels: levels.into_values().collect() }
    }

    /// Takes the next job out, as things are by now.
    pub(crate) fn next(&mut self, usage: &Usage<'_>) -> Option<usize> {
        while let Some(level) = self.levels.front_mut() {
            if let Some(rank) = level.next(usage) {
                return Some(rank);
            }
            self.levels.pop_front();
        }
        None
    }
}

impl Level {
    fn next(&mut self, usage: &Usage<'_>) -> Option<usize> {
        loop {
            let mut top = self.owners.peek_mut()?;
            let Reverse((said, owner)) = *top;
            let repositories = self.repositories.get_mut(&owner)?;
            let Some((repository, found)) = Self::first(repositories, &self.lines, owner, usage) else {
                PeekMut::pop(top);
                continue;
            };
            if found > said {
                *top = Reverse((found, owner));
                continue;
            }
            let line = self.lines.get_mut(&(owner, repository))?;
            let (rank, _) = line.pop_front()?;
            // The next one of the line, if any, stands no better than this one did.
            if line.is_empty() {
                repositories.pop();
            }
            return Some(rank);
        }
    }

    /// The best repository of an owner, with the key of its first job, as things are by now.
    fn first(
        repositories: &mut Least<OfRepository>,
        lines: &HashMap<(usize, usize), Line>,
        owner: usize,
        usage: &Usage<'_>,
    ) -> Option<(usize, Key)> {
        loop {
            let mut top = repositories.peek_mut()?;
            let Reverse((said, repository)) = *top;
            let Some((rank, profile)) = lines.get(&(owner, repository)).and_then(VecDeque::front) else {
                PeekMut::pop(top);
                continue;
            };
            let found = (usage.repository_share(*profile), *rank);
            if found > said {
                *top = Reverse((found, repository));
                continue;
            }
            return Some((repository, (usage.owner_share(*profile), found.0, found.1)));
        }
    }
}
