use super::*;
use crate::config::directory::parse;

fn read(spec: &str) -> anyhow::Result<Result<Limit, String>> {
    let (documents, _) = parse(&format!("kind: ConcurrencyLimit\nmetadata: {{name: l}}\nspec: {spec}\n"))?;
    Ok(resolve("l", &documents.limits["l"]))
}

#[track_caller]
fn refused(spec: &str, words: &[&str]) {
    let error = match read(spec) {
        Ok(found) => found.expect_err("it must be refused"),
        Err(error) => format!("{error:#}"),
    };
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
}

#[test]
fn a_limit_is_read_with_all_it_says() {
    let limit = read(
        "{match: {owners: [Acme, b*], places: [aks]}, groupBy: [repository, owner], \
         max: {runners: 3, cpu: '1.5', memory: 4Gi}, weights: {Acme: 3}}",
    );
    let limit = limit.unwrap().unwrap();
    assert_eq!(limit.caps, Caps { runners: Some(3), cpu_millis: Some(1500), memory_bytes: Some(4 << 30) });
    assert_eq!(limit.group_by, BTreeSet::from([Dimension::Owner, Dimension::Repository]));
    assert_eq!(limit.matches.protected_branch, None);
    let branch = |is: &str| read(&format!("{{match: {{protectedBranch: {is}}}, max: {{runners: 1}}}}"));
    assert_eq!(branch("true").unwrap().unwrap().matches.protected_branch, Some(true));
    assert_eq!(branch("false").unwrap().unwrap().matches.protected_branch, Some(false));
    let owners = &limit.matches.patterns[&Dimension::Owner];
    assert!(owners[0].matches("ACME") && owners[1].matches("beta") && limit.is_of_places());
    assert_eq!(limit.weights, BTreeMap::from([("acme".to_owned(), 3)]));
    assert!(!limit.paused);
}

#[test]
fn what_a_limit_cannot_be_is_refused_with_field_value_and_remedy() {
    refused("{}", &["max caps nothing", "max.runners", "paused: true"]);
    refused("{max: {}}", &["max caps nothing", "max.runners"]);
    refused("{paused: false}", &["max caps nothing"]);
    refused("{max: {cpu: many}}", &["max.cpu", "\"many\"", "1500m"]);
    refused("{max: {memory: '0'}}", &["max.memory", "\"0\"", "4Gi"]);
    refused("{max: {runners: 1}, weights: {acme: 0}}", &["weights.acme", "at least 1"]);
    refused("{max: {runners: 1}, groupBy: [team]}", &["spec.groupBy[0]", "\"team\"", "repository"]);
    refused("{max: {runners: 1}, match: {owner: acme}}", &["spec.match.owner", "owners"]);
    refused(
        "{max: {runners: 1}, match: {protectedBranch: main}}",
        &["spec.match.protectedBranch", "true or false"],
    );
    refused("{max: {runners: 1}, match: {owners: []}}", &["spec.match.owners is empty"]);
    assert!(read("{paused: true}").unwrap().unwrap().paused);
    assert_eq!(read("{max: {runners: 0}}").unwrap().unwrap().caps.runners, Some(0));
}

#[test]
fn what_a_limit_is_about_is_shown_in_words() {
    let spec = MatchSpec {
        owners: vec!["acme".to_owned(), "b*".to_owned()],
        classes: vec!["big".to_owned()],
        ..MatchSpec::default()
    };
    assert_eq!(spec.shown(), "owner acme or b*, class big");
    assert_eq!(MatchSpec::default().shown(), "all");
    let branch = |is| MatchSpec { protected_branch: Some(is), ..spec.clone() }.shown();
    assert_eq!(branch(true), "owner acme or b*, class big, a protected branch");
    assert_eq!(branch(false), "owner acme or b*, class big, no protected branch");
}

#[test]
fn priorities_are_a_list_in_which_the_first_match_holds() {
    let rules = priorities("- {match: {workflows: ['Deploy*']}, priority: 10}\n- {priority: -1}\n").unwrap();
    assert_eq!(rules.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [10, -1]);
    assert!(rules[0].matches.patterns[&Dimension::Workflow][0].matches("deploy to prod"));
    assert_eq!(rules[1].matches, JobMatch::default());
    let rules = priorities("- {match: {protectedBranch: true}, priority: 10}").unwrap();
    assert_eq!(rules[0].matches.protected_branch, Some(true));
    for (text, word) in [
        ("- {match: {}}", "priority"),
        ("- {priority: high}", "priority: 10"),
        ("- {priority: 1, match: {places: [aks]}}", "entry 1: match.places"),
        ("{priority: 1}", "list of priorities"),
        ("- {priority: 1, match: {owner: x}}", "owner"),
    ] {
        let error = priorities(text).unwrap_err();
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
}
