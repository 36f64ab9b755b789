use super::*;

#[test]
fn a_star_stands_for_any_text_and_case_does_not_matter() {
    let check = |pattern: &str, text: &str, expect: bool| {
        assert_eq!(Glob::new(pattern).matches(text), expect, "{pattern} against {text}");
    };
    check("acme", "ACME", true);
    check("Acme", "acme", true);
    check("acme", "acme2", false);
    check("*", "", true);
    check("*", "anything/at all", true);
    check("acme/*", "acme/web", true);
    check("acme/*", "acme2/web", false);
    check("*/web", "acme/web", true);
    check("*/web", "acme/webs", false);
    check("a*b*c", "aXbYc", true);
    check("a*b*c", "acb", false);
    check("a*a", "a", false);
    check("a*a", "aa", true);
    check("*ab*ab", "ab", false);
    check("*ab*ab", "xabab", true);
    check("", "", true);
    check("", "x", false);
    check("é*", "Épicerie", true);
}

#[test]
fn a_match_takes_one_of_each_dimension_given() {
    let globs = |names: &[&str]| names.iter().map(|name| Glob::new(name)).collect::<Vec<_>>();
    let all = JobMatch::default();
    assert!(Dimension::ALL.into_iter().all(|dimension| all.covers(dimension, "anything")));
    let patterns = BTreeMap::from([(Dimension::Owner, globs(&["acme", "b*"]))]);
    let some = JobMatch { patterns, ..JobMatch::default() };
    let check = |value, expect| assert_eq!(some.covers(Dimension::Owner, value), expect, "{value}");
    check("acme", true);
    check("beta", true);
    check("corp", false);
    assert!(some.covers(Dimension::Class, "corp"));
}

#[test]
fn a_limit_is_shared_unless_its_counters_belong_to_one() {
    let check = |group_by: &[Dimension], owner: Option<&str>, expect: (bool, bool)| {
        let owners = owner.map(|owner| (Dimension::Owner, vec![Glob::new(owner)]));
        let limit = ConcurrencyLimit {
            group_by: group_by.iter().copied().collect(),
            matches: JobMatch { patterns: owners.into_iter().collect(), ..JobMatch::default() },
            ..ConcurrencyLimit::default()
        };
        let found = (limit.is_shared_by_owners(), limit.is_shared_by_repositories());
        assert_eq!(found, expect, "{group_by:?} {owner:?}");
    };
    check(&[], None, (true, true));
    check(&[Dimension::Class], None, (true, true));
    check(&[Dimension::Owner], None, (false, true));
    check(&[Dimension::Repository], None, (false, false));
    check(&[], Some("acme"), (false, true));
    check(&[], Some("a*"), (true, true));
}

#[test]
fn figures_read_as_people_write_them() {
    let check = |what: Capped, value, expect: &str| assert_eq!(what.figure(value), expect);
    check(Capped::Runners, 12, "12");
    check(Capped::Cpu, 8000, "8");
    check(Capped::Cpu, 1500, "1.5");
    check(Capped::Cpu, 50, "0.05");
    check(Capped::Memory, 4 << 30, "4");
    check(Capped::Memory, (4 << 30) + (1 << 29), "4.5");
    check(Capped::Memory, 0, "0");
}
