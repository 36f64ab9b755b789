//! Where runners register, so that a limit or budget on one repository does not hold another one's runners.
//!
//! A source hands a runner any queued job of its scope that its labels cover. A runner that is registered at an owner may
//! thus be handed a job that a limit holds back, while the one that it was started for goes on waiting. Where a limit, or a
//! budget that holds jobs back, tells an owner's repositories apart, every runner that its jobs could be handed registers at
//! the repository.
//!
//! What refuses public repositories needs no such thing: GitHub's runner groups leave them out unless an admin of the
//! organization lets them in. Decides nothing about limits and budgets themselves.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::budget::{Budget, WhenSpent};
use crate::limit::{ConcurrencyLimit, Dimension, Glob, JobMatch};
use crate::setup::{RegisterAt, Scope, Setup, Source};

/// Whose repositories limits and budgets tell apart. Made once for a pass.
#[derive(Clone, Debug)]
pub struct Isolation<'a> {
    rules: Vec<Rule<'a>>,
    /// Answers, by source, owner and class.
    known: HashMap<(&'a str, &'a str, &'a str), bool>,
}

/// A limit or budget that holds jobs back.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Its document's kind.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    matches: &'a JobMatch,
    /// `None`: it has one sum for all.
    group_by: Option<&'a BTreeSet<Dimension>>,
}

impl<'a> Rule<'a> {
    fn of_limit(limit: &'a ConcurrencyLimit) -> Option<Self> {
        let ConcurrencyLimit { name, matches, group_by, caps, paused, .. } = limit;
        let binds = *paused || !caps.is_empty();
        binds.then_some(Self { kind: "ConcurrencyLimit", name, matches, group_by: Some(group_by) })
    }

    fn of_budget(budget: &'a Budget) -> Option<Self> {
        let Budget { name, matches, when_spent, .. } = budget;
        let binds = *when_spent != WhenSpent::Warn;
        binds.then_some(Self { kind: "Budget", name, matches, group_by: None })
    }

    fn groups_by(self, dimension: Dimension) -> bool {
        self.group_by.is_some_and(|all| all.contains(&dimension))
    }
}

/// A limit or budget that runners' registration does not enforce.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advisory {
    /// Its document's kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: AdvisoryReason,
}

/// Why its jobs may be handed runners that were started for others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdvisoryReason {
    /// The source registers all runners of this owner at the owner.
    AtOwner {
        /// Name of the source.
        source: String,
        /// The owner.
        owner: String,
    },
    /// It tells workflows of one repository apart, which no registration does.
    Workflows,
    /// It tells protected branches of one repository from others, which no registration does.
    Branches,
}

impl fmt::Display for Advisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            AdvisoryReason::AtOwner { source, owner } => write!(
                f,
                "advisory for {owner}: RunnerSource {source} registers all its runners at the owner (github.registerAt, or \
                 a runner group), so jobs that it holds back may be handed runners that were started for other \
                 repositories"
            ),
            AdvisoryReason::Workflows => f.write_str(
                "advisory within a repository: it tells workflows apart, and GitHub hands a repository's runner to a job \
                 of any of its workflows",
            ),
            AdvisoryReason::Branches => f.write_str(
                "advisory within a repository: it tells protected branches from others, and GitHub hands a repository's \
                 runner to a job of any of its branches",
            ),
        }
    }
}

impl<'a> Isolation<'a> {
    /// Of a configuration.
    pub fn of(setup: &'a Setup) -> Self {
        let limits = setup.limits.values().filter_map(Rule::of_limit);
        let budgets = setup.budgets.values().filter_map(Rule::of_budget);
        Self { rules: limits.chain(budgets).collect(), known: HashMap::new() }
    }

    /// Where a runner for a job of this repository and class registers. `listed`: where it does by the source's lists
    /// alone ([`Source::scope_of`]). A repository that is listed itself registers there, whatever limits and budgets say.
    pub fn scope(
        &mut self,
        source: &'a Source,
        listed: Scope,
        owner: &'a str,
        repository: &str,
        class: &'a str,
    ) -> Scope {
        let separate = match (&listed, source.register_at) {
            (Scope::Repository(_), _) | (_, RegisterAt::Owner) => false,
            (_, RegisterAt::Repository) => true,
            (_, RegisterAt::Auto) if self.rules.is_empty() => false,
            (_, RegisterAt::Auto) => {
                let key = (source.name.as_str(), owner, class);
                match self.known.get(&key) {
                    Some(known) => *known,
                    None => {
                        let found = self.separating(&source.name, owner, Some(class)).is_some();
                        self.known.insert(key, found);
                        found
                    }
                }
            }
        };
        if separate { Scope::Repository(repository.to_owned()) } else { listed }
    }

    /// The first limit or budget that tells this owner's repositories apart, for jobs of this class (`None`: of any).
    pub fn separating(&self, source: &str, owner: &str, class: Option<&str>) -> Option<Rule<'a>> {
        let (source, owner) = (source.to_lowercase(), owner.to_lowercase());
        let class = class.map(str::to_lowercase);
        self.rules.iter().copied().find(|rule| {
            rule.matches.covers(Dimension::Source, &source)
                && rule.matches.covers(Dimension::Owner, &owner)
                && class.as_ref().is_none_or(|class| rule.matches.covers(Dimension::Class, class))
                && tells_repositories_apart(*rule, &owner)
        })
    }

    /// Which limits and budgets hold only as far as GitHub happens to hand runners, by kind and name.
    pub fn advisories(&self, setup: &Setup) -> Vec<Advisory> {
        let mut found: Vec<Advisory> = Vec::new();
        for rule in &self.rules {
            let advisory = |why| Advisory { kind: rule.kind, name: rule.name.to_owned(), why };
            if tells_workflows_apart(*rule) {
                found.push(advisory(AdvisoryReason::Workflows));
            }
            if rule.matches.protected_branch.is_some() {
                found.push(advisory(AdvisoryReason::Branches));
            }
            let alone = Self { rules: vec![*rule], known: HashMap::new() };
            for source in setup.sources.values().filter(|source| source.register_at == RegisterAt::Owner) {
                for owner in &source.owners {
                    if alone.separating(&source.name, owner, None).is_some() {
                        let (source, owner) = (source.name.clone(), owner.clone());
                        found.push(advisory(AdvisoryReason::AtOwner { source, owner }));
                    }
                }
            }
        }
        found.sort();
        found
    }
}

/// Whether two repositories of this owner, in lower case, may come under different counters of it, or one under none.
fn tells_repositories_apart(rule: Rule<'_>, owner: &str) -> bool {
    let all: Vec<Reach> =
        rule.matches.of(Dimension::Repository).iter().map(|glob| reach(glob, owner)).collect();
    if !all.is_empty() && all.iter().all(|one| *one == Reach::None) {
        return false;
    }
    let only_some = !all.is_empty() && !all.contains(&Reach::All);
    only_some
        || rule.groups_by(Dimension::Repository)
        || rule.matches.protected_branch.is_some()
        || tells_workflows_apart(rule)
}

/// Whether two workflows may.
fn tells_workflows_apart(rule: Rule<'_>) -> bool {
    let named = rule.matches.of(Dimension::Workflow);
    let only_some =
        !named.is_empty() && !named.iter().any(|glob| glob.as_str().chars().all(|one| one == '*'));
    only_some || rule.groups_by(Dimension::Workflow)
}

/// How many of an owner's repositories a pattern may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    None,
    Some,
    All,
}

fn reach(glob: &Glob, owner: &str) -> Reach {
    let prefix = format!("{owner}/");
    match glob.as_str().split_once('*') {
        None if glob.as_str().starts_with(&prefix) => Reach::Some,
        None => Reach::None,
        Some((head, tail)) if prefix.starts_with(head) && tail.chars().all(|one| one == '*') => Reach::All,
        Some((head, _)) if prefix.starts_with(head) || head.starts_with(&prefix) => Reach::Some,
        Some(_) => Reach::None,
    }
}

#[cfg(test)]
mod tests;
