use super::*;

fn check(labels: &[&str], expect: bool) {
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let classes = ["Stint".to_owned(), "gpu".to_owned()];
    assert_eq!(claimed(&labels, &classes), expect, "{labels:?}");
}

#[test]
fn labels_that_may_ask_for_our_runners_are_claimed() {
    check(&[], true);
    check(&["self-hosted"], true);
    check(&["Self-Hosted", "linux"], true);
    check(&["stint"], true);
    check(&["STINT-small"], true);
    check(&["stint/cpu=4/mem=16"], true);
    check(&["ubuntu-latest", "gpu"], true);
}

#[test]
fn other_labels_are_not() {
    check(&["ubuntu-latest"], false);
    check(&["stinted"], false);
    check(&["gp"], false);
    check(&["my-stint"], false);
}

#[test]
fn the_rules_show_no_secret() {
    let source =
        IntakeSource { secrets: vec![SecretString::from("canary-secret")], ..IntakeSource::default() };
    let rules =
        IntakeRules { sources: HashMap::from([("acme".to_owned(), source)]), ..IntakeRules::default() };
    assert!(!format!("{rules:?}").contains("canary"));
}
