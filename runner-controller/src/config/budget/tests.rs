use jiff::Timestamp;

use super::*;
use crate::config::directory::parse;

fn read(spec: &str) -> anyhow::Result<Result<Core, String>> {
    let (documents, _) = parse(&format!("kind: Budget\nmetadata: {{name: b}}\nspec: {spec}\n"))?;
    Ok(resolve("b", &documents.budgets["b"]))
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
fn a_budget_is_read_with_all_it_says() {
    let budget = read(
        "{match: {owners: [Acme]}, amount: '250.50', currency: EUR, per: Month, timeZone: Europe/Berlin, \
         alertAt: [100, 10, 100], whenSpent: NoBurst}",
    );
    let budget = budget.unwrap().unwrap();
    assert_eq!((budget.amount.to_string(), budget.currency.as_str()), ("250.50".to_owned(), "EUR"));
    assert_eq!((budget.per, budget.when_spent), (Per::Month, WhenSpent::NoBurst));
    assert_eq!(budget.alert_at, [10, 100]);
    assert!(!budget.matches.patterns.is_empty());
    let now: Timestamp = "2026-03-31T22:30:00Z".parse().unwrap();
    assert_eq!(budget.period(now).from.to_string(), "2026-03-31T22:00:00Z", "it is April in Berlin");
}

#[test]
fn a_budget_has_defaults_for_all_but_amount_and_period() {
    let budget = read("{amount: '10', per: Day}").unwrap().unwrap();
    assert_eq!((budget.currency.as_str(), budget.when_spent), ("USD", WhenSpent::Warn));
    assert_eq!(budget.alert_at, ALERT_AT);
    assert_eq!(budget.time_zone.iana_name(), Some("UTC"));
    assert!(budget.matches.patterns.is_empty());
    assert!(read("{amount: '10', per: Day, alertAt: []}").unwrap().unwrap().alert_at.is_empty());
}

#[test]
fn what_a_budget_cannot_be_is_refused_with_field_value_and_remedy() {
    refused(
        "{amount: '10', per: Day, match: {protectedBranch: true}}",
        &["match.protectedBranch", "remove it"],
    );
    refused("{per: Day}", &["spec.amount is missing"]);
    refused("{amount: '10'}", &["spec.per is missing"]);
    refused("{amount: 10, per: Day}", &["spec.amount must be text", "\"10\""]);
    refused("{amount: ten, per: Day}", &["amount", "\"ten\"", "250.00"]);
    refused("{amount: '-5', per: Day}", &["amount", "\"-5\"", "250.00"]);
    refused("{amount: '0.0', per: Day}", &["amount", "more than 0", "paused: true"]);
    refused("{amount: '1', per: Week}", &["spec.per", "\"Week\"", "Day or Month"]);
    refused("{amount: '1', per: Day, currency: usd}", &["currency", "\"usd\"", "ISO 4217"]);
    refused("{amount: '1', per: Day, timeZone: Berlin}", &["timeZone", "\"Berlin\"", "Europe/Berlin"]);
    refused("{amount: '1', per: Day, alertAt: [0]}", &["spec.alertAt[0]", "at least 1"]);
    refused(
        "{amount: '1', per: Day, whenSpent: Stop}",
        &["spec.whenSpent", "\"Stop\"", "Warn or NoBurst or Hold"],
    );
    refused("{amount: '1', per: Day, match: {owner: acme}}", &["spec.match.owner", "owners"]);
}
