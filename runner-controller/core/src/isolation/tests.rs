use super::*;
use crate::testing::{budget, class, limit, setup};

/// Where a runner registers for a job of `acme/web` that asks for `stint`, under this limit.
fn registers(limit: ConcurrencyLimit, at: RegisterAt) -> String {
    let mut setup = setup();
    setup.limits.insert(limit.name.clone(), limit);
    registers_under(setup, at)
}

fn registers_under(mut setup: Setup, at: RegisterAt) -> String {
    setup.classes.insert("big".to_owned(), class("big", &[""]));
    if let Some(source) = setup.sources.get_mut("acme") {
        source.register_at = at;
    }
    let source = &setup.sources["acme"];
    let listed = source.scope_of("acme", "acme/web").unwrap();
    match Isolation::of(&setup).scope(source, listed, "acme", "acme/web", "stint") {
        Scope::Owner(owner) => owner,
        Scope::Repository(repository) => repository,
    }
}

#[test]
fn runners_register_at_the_repository_where_a_limit_tells_repositories_apart() {
    use Dimension::{Class, Owner, Place, Repository, Source, Workflow};
    let one = || limit("x").most(1);
    for (limit, expect) in [
        (one(), "acme"),
        (one().about(Repository, "acme/api"), "acme/web"),
        (one().about(Repository, "ACME/api"), "acme/web"),
        (one().about(Repository, "acme/w*"), "acme/web"),
        (one().about(Repository, "*/api"), "acme/web"),
        (one().about(Repository, "*/api other/x"), "acme/web"),
        (one().by(&[Repository]), "acme/web"),
        (one().by(&[Owner, Repository]), "acme/web"),
        (one().by(&[Workflow]), "acme/web"),
        (one().about(Workflow, "nightly"), "acme/web"),
        (one().on_branches(true), "acme/web"),
        (one().on_branches(false), "acme/web"),
        (one().about(Repository, "acme/*").on_branches(false), "acme/web"),
        // They say the same of all of the owner's repositories.
        (one().about(Repository, "*"), "acme"),
        (one().about(Repository, "acme/*"), "acme"),
        (one().about(Repository, "acme/* acme/api"), "acme"),
        (one().about(Workflow, "*"), "acme"),
        (one().by(&[Owner]), "acme"),
        (one().by(&[Source, Class, Place]), "acme"),
        (one().about(Owner, "acme"), "acme"),
        // They are about others.
        (one().about(Repository, "other/api"), "acme"),
        (one().about(Repository, "acme2/*"), "acme"),
        (one().about(Repository, "other/api").by(&[Repository]), "acme"),
        (one().about(Repository, "other/*").on_branches(true), "acme"),
        (one().about(Owner, "other").by(&[Repository]), "acme"),
        (one().about(Source, "other").by(&[Repository]), "acme"),
        (one().about(Class, "big").by(&[Repository]), "acme"),
        (one().about(Class, "stint").by(&[Repository]), "acme/web"),
        // One that holds nothing back.
        (limit("x").by(&[Repository]), "acme"),
        (ConcurrencyLimit { paused: true, ..limit("x").about(Repository, "acme/api") }, "acme/web"),
        (limit("x").cores(4).about(Repository, "acme/api"), "acme/web"),
    ] {
        let shown = format!("{limit:?}");
        assert_eq!(registers(limit, RegisterAt::Auto), expect, "{shown}");
    }
}

#[test]
fn a_budget_that_holds_jobs_back_tells_repositories_apart_as_a_limit_does() {
    use Dimension::{Class, Owner, Repository, Workflow};
    use WhenSpent::{Hold, NoBurst, Warn};
    let all = || limit("x");
    for (what, about, expect) in [
        (Hold, all(), "acme"),
        (Hold, all().about(Repository, "acme/api"), "acme/web"),
        (NoBurst, all().about(Repository, "acme/api"), "acme/web"),
        (Warn, all().about(Repository, "acme/api"), "acme"),
        (Hold, all().about(Workflow, "nightly"), "acme/web"),
        (Hold, all().about(Owner, "acme"), "acme"),
        (Hold, all().about(Repository, "other/api"), "acme"),
        (Hold, all().about(Class, "big").about(Repository, "acme/api"), "acme"),
    ] {
        let mut setup = setup();
        let one = Budget { matches: about.matches, when_spent: what, ..budget("team", "10") };
        let shown = format!("{one:?}");
        setup.budgets.insert(one.name.clone(), one);
        assert_eq!(registers_under(setup, RegisterAt::Auto), expect, "{shown}");
    }
}

#[test]
fn an_admin_decides_otherwise() {
    let apart = || limit("x").most(1).by(&[Dimension::Repository]);
    assert_eq!(registers(apart(), RegisterAt::Owner), "acme");
    assert_eq!(registers(limit("x"), RegisterAt::Repository), "acme/web");
}

#[test]
fn a_listed_repository_registers_there() {
    let mut setup = setup();
    let listed = Scope::Repository("acme/web".to_owned());
    if let Some(source) = setup.sources.get_mut("acme") {
        source.register_at = RegisterAt::Owner;
    }
    let source = &setup.sources["acme"];
    let found = Isolation::of(&setup).scope(source, listed.clone(), "acme", "acme/web", "stint");
    assert_eq!(found, listed);
}

#[test]
fn what_registration_does_not_enforce_is_told() {
    let mut setup = setup();
    let mut add = |limit: ConcurrencyLimit| setup.limits.insert(limit.name.clone(), limit);
    add(limit("by-owner").most(1).by(&[Dimension::Owner]));
    add(limit("api").most(1).about(Dimension::Repository, "acme/api"));
    add(limit("nightly").most(1).about(Dimension::Workflow, "nightly*"));
    add(limit("proposals").most(1).on_branches(false));
    let mut money = budget("team", "10");
    money.matches = limit("").about(Dimension::Repository, "acme/api").matches;
    setup.budgets.insert(money.name.clone(), money);
    let told = |setup: &Setup| -> Vec<String> {
        let found = Isolation::of(setup).advisories(setup);
        found.iter().map(|one| format!("{}: {one}", one.name)).collect()
    };
    assert_eq!(
        told(&setup),
        [
            "nightly: advisory within a repository: it tells workflows apart, and GitHub hands a repository's runner to a job of any of its workflows",
            "proposals: advisory within a repository: it tells protected branches from others, and GitHub hands a repository's runner to a job of any of its branches",
        ]
    );
    if let Some(source) = setup.sources.get_mut("acme") {
        source.register_at = RegisterAt::Owner;
    }
    let told = told(&setup);
    assert_eq!(told.len(), 6, "{told:?}");
    assert!(told[0].starts_with("team: advisory for acme:"), "{told:?}");
    assert!(told[1].starts_with("api: advisory for acme: RunnerSource acme registers"), "{told:?}");
}
