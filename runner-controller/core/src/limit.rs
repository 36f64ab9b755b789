//! Limits and priorities as admins configure them: which jobs they are about, and how much they allow.
//!
//! Counts nothing: that is `admission`'s work.

use std::collections::{BTreeMap, BTreeSet};

use crate::setup::Size;

/// A cap on what is started, for all jobs that it matches or for each group of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// Its name.
    pub name: String,
    /// Which jobs it is about.
    pub matches: JobMatch,
    /// What tells its groups apart: each combination of values that occurs has a counter of its own. Empty: one
    /// counter for all.
    pub group_by: BTreeSet<Dimension>,
    /// How much may be in use at once, in each group.
    pub caps: Caps,
    /// Whether nothing it matches is started for now.
    pub paused: bool,
    /// Weights of owners and of repositories (`owner/name`), in lower case. What no limit names weighs 1.
    pub weights: BTreeMap<String, u32>,
}

impl ConcurrencyLimit {
    /// Whether it can be judged only once a place is chosen.
    pub fn is_of_places(&self) -> bool {
        self.matches.patterns.contains_key(&Dimension::Place) || self.group_by.contains(&Dimension::Place)
    }

    /// Whether several owners may share one of its counters, so that it is to be divided fairly between them.
    pub(crate) fn is_shared_by_owners(&self) -> bool {
        self.is_shared_by_repositories()
            && !self.group_by.contains(&Dimension::Owner)
            && !self.matches.names_one(Dimension::Owner)
    }

    /// Whether several repositories may share one of its counters.
    pub(crate) fn is_shared_by_repositories(&self) -> bool {
        !self.group_by.contains(&Dimension::Repository) && !self.matches.names_one(Dimension::Repository)
    }
}

/// A rule of the list of priorities; the first one that matches a job holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriorityRule {
    /// Which jobs it is about. Never by place, which is chosen later.
    pub matches: JobMatch,
    /// Their priority. A higher one goes first; 0 is that of jobs that no rule matches.
    pub priority: i32,
}

/// What limits, rules and budgets tell jobs apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// Name of the source.
    Source,
    /// The account that owns the repository.
    Owner,
    /// The repository, as `owner/name`.
    Repository,
    /// Name of the workflow.
    Workflow,
    /// Name of the class.
    Class,
    /// Name of the place.
    Place,
}

impl Dimension {
    /// All of them, in the order of the enum.
    pub const ALL: [Dimension; 6] = [
        Dimension::Source,
        Dimension::Owner,
        Dimension::Repository,
        Dimension::Workflow,
        Dimension::Class,
        Dimension::Place,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Source => "source",
            Dimension::Owner => "owner",
            Dimension::Repository => "repository",
            Dimension::Workflow => "workflow",
            Dimension::Class => "class",
            Dimension::Place => "place",
        }
    }
}

/// Which jobs a limit or rule is about: those that match one of the patterns of each dimension that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobMatch {
    /// Patterns by dimension. An absent dimension matches all.
    pub patterns: BTreeMap<Dimension, Vec<Glob>>,
    /// Whether it is about jobs that run the code of a protected branch, or about all others; absent: about both.
    pub protected_branch: Option<bool>,
}

impl JobMatch {
    /// Its patterns of a dimension; none: it is about all values.
    pub(crate) fn of(&self, dimension: Dimension) -> &[Glob] {
        self.patterns.get(&dimension).map_or(&[], Vec::as_slice)
    }

    /// Whether the value of this dimension, in lower case, is one that it is about.
    pub(crate) fn covers(&self, dimension: Dimension, value: &str) -> bool {
        self.patterns.get(&dimension).is_none_or(|globs| globs.iter().any(|glob| glob.matches_lower(value)))
    }

    /// Whether it is about jobs that run the code of a protected branch, or do not.
    pub(crate) fn covers_branch(&self, protected: bool) -> bool {
        self.protected_branch.is_none_or(|wanted| wanted == protected)
    }

    /// Whether it is about one value of this dimension alone.
    fn names_one(&self, dimension: Dimension) -> bool {
        matches!(self.patterns.get(&dimension).map(Vec::as_slice), Some([only]) if !only.0.contains('*'))
    }
}

/// A name in which `*` stands for any text, compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Of a pattern as written.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_lowercase())
    }

    /// The pattern, in lower case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text, as written, matches.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_lower(&text.to_lowercase())
    }

    fn matches_lower(&self, text: &str) -> bool {
        let Some((head, tail)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut rest) = text.strip_prefix(head) else { return false };
        let mut parts = tail.split('*').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            // The earliest occurrence leaves the most for what follows.
            let Some(found) = rest.find(part) else { return false };
            rest = rest.get(found + part.len()..).unwrap_or_default();
        }
        true
    }
}

/// How much of something is in use or wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Runners.
    pub runners: u64,
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Amount {
    /// What one runner of this size takes.
    pub fn of(size: Size) -> Self {
        Self { runners: 1, cpu_millis: size.cpu_millis.into(), memory_bytes: size.memory_bytes }
    }

    /// The figure of one kind.
    pub fn get(self, what: Capped) -> u64 {
        match what {
            Capped::Runners => self.runners,
            Capped::Cpu => self.cpu_millis,
            Capped::Memory => self.memory_bytes,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            runners: self.runners.saturating_add(other.runners),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

/// How much may be in use, where that is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Runners.
    pub runners: Option<u64>,
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
}

impl Caps {
    /// Whether it caps nothing.
    pub fn is_empty(self) -> bool {
        Capped::ALL.into_iter().all(|what| self.get(what).is_none())
    }

    /// The cap of one kind.
    pub fn get(self, what: Capped) -> Option<u64> {
        match what {
            Capped::Runners => self.runners,
            Capped::Cpu => self.cpu_millis,
            Capped::Memory => self.memory_bytes,
        }
    }

    /// The first cap that an amount exceeds.
    pub(crate) fn exceeded_by(self, amount: Amount) -> Option<(Capped, u64)> {
        Capped::ALL
            .into_iter()
            .filter_map(|what| self.get(what).map(|cap| (what, cap)))
            .find(|(what, cap)| amount.get(*what) > *cap)
    }
}

/// What a limit caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capped {
    /// The number of runners.
    Runners,
    /// Their CPU.
    Cpu,
    /// Their memory.
    Memory,
}

impl Capped {
    /// All of them.
    pub const ALL: [Capped; 3] = [Capped::Runners, Capped::Cpu, Capped::Memory];

    /// A figure of this kind, for people, without its unit.
    pub fn figure(self, value: u64) -> String {
        let (unit, places) = match self {
            Capped::Runners => return value.to_string(),
            Capped::Cpu => (1000, 1000),
            Capped::Memory => (1 << 30, 100),
        };
        let (whole, rest) = (value / unit, value % unit);
        // At most so many digits that thousandths of a core, or hundredths of a GiB, can be told.
        let fraction = rest.saturating_mul(places) / unit;
        let digits = if places == 1000 { format!("{fraction:03}") } else { format!("{fraction:02}") };
        match digits.trim_end_matches('0') {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Capped::Runners => "runners",
            Capped::Cpu => "vCPU",
            Capped::Memory => "GiB of memory",
        }
    }
}

#[cfg(test)]
mod tests;
