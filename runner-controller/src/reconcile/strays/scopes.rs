//! Where this installation's runners may be registered, as its documents and records say.

use std::collections::BTreeSet;

use runner_core::isolation::Isolation;
use runner_core::setup::{Scope, Setup};

use crate::observe::View;

/// Where runners may be registered: at every owner and repository that sources list, and wherever a runner of a known job
/// would register or does.
pub(super) fn scopes(view: &View) -> BTreeSet<(String, Scope)> {
    let setup: &Setup = &view.snapshot.setup;
    let mut scopes = BTreeSet::new();
    for (name, source) in &setup.sources {
        scopes.extend(source.owners.iter().map(|owner| (name.clone(), Scope::Owner(owner.clone()))));
        let listed = source.repositories.iter();
        scopes.extend(listed.map(|repository| (name.clone(), Scope::Repository(repository.clone()))));
    }
    let mut isolation = Isolation::of(setup);
    let mut asked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for job in &view.snapshot.jobs {
        let what = &job.description;
        let Some(source) = setup.sources.get(&job.key.source) else { continue };
        if !asked.insert((&source.name, &what.repository)) {
            continue;
        }
        let Some(listed) = source.scope_of(&what.owner, &what.repository) else { continue };
        for class in setup.classes.values() {
            let scope = isolation.scope(source, listed.clone(), &what.owner, &what.repository, &class.name);
            scopes.insert((source.name.clone(), scope));
        }
    }
    let known = view.snapshot.runners.iter().filter(|runner| setup.sources.contains_key(&runner.job.source));
    scopes.extend(known.map(|runner| (runner.job.source.clone(), runner.scope.clone())));
    scopes
}

/// Owners, by source, at any of whose repositories runners may be registered.
pub(super) fn owners_of_scopes(setup: &Setup) -> BTreeSet<(String, String)> {
    let mut isolation = Isolation::of(setup);
    let mut owners = BTreeSet::new();
    for source in setup.sources.values() {
        for owner in &source.owners {
            let at_repository = setup.classes.values().any(|class| {
                let repository = format!("{owner}/-");
                let scope =
                    isolation.scope(source, Scope::Owner(owner.clone()), owner, &repository, &class.name);
                matches!(scope, Scope::Repository(_))
            });
            if at_repository {
                owners.insert((source.name.clone(), owner.clone()));
            }
        }
    }
    owners
}
