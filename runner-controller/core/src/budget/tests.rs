use super::*;
use crate::limit::Glob;
use crate::testing::{budget, class, place, sum};

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Berlin's rule, and one by which clocks go back from 00:01 to 23:01 of the day before.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const OVER_MIDNIGHT: &str = "NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01";

#[test]
fn a_period_runs_from_local_midnight_to_local_midnight() {
    let check = |zone: &str, per: Per, now: &str, from: &str, until: &str| {
        let time_zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::posix(zone).unwrap() };
        let period = Budget { time_zone, per, ..budget("b", "1") }.period(moment(now));
        let expect = Period { from: moment(from), until: moment(until) };
        assert_eq!(period, expect, "{zone} {per:?} {now}");
    };
    check("UTC", Per::Day, "2026-01-31T12:00:00Z", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z");
    check("UTC", Per::Day, "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z");
    check("UTC", Per::Day, "2026-01-31T23:59:59.999Z", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z");
    check("UTC", Per::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    check("UTC", Per::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
    // It is the next day in Berlin already.
    check(BERLIN, Per::Day, "2026-01-31T23:30:00Z", "2026-01-31T23:00:00Z", "2026-02-01T23:00:00Z");
    check(BERLIN, Per::Month, "2026-01-31T23:30:00Z", "2026-01-31T23:00:00Z", "2026-02-28T23:00:00Z");
    // 23 and 25 hours long, and a month that begins in winter and ends in summer.
    check(BERLIN, Per::Day, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    check(BERLIN, Per::Day, "2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    check(BERLIN, Per::Month, "2026-03-15T12:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    // The first minute of the second, then 23:01 of the first again, which is over.
    check(OVER_MIDNIGHT, Per::Day, "2026-11-01T02:30:30Z", "2026-11-01T02:30:00Z", "2026-11-02T03:30:00Z");
    check(OVER_MIDNIGHT, Per::Day, "2026-11-01T03:00:00Z", "2026-11-01T02:30:00Z", "2026-11-02T03:30:00Z");
}

proptest::proptest! {
    #[test]
    fn every_moment_is_in_its_period_and_periods_abut(
        seconds in 0..4_000_000_000_i64,
        zone in proptest::sample::select(vec![BERLIN, OVER_MIDNIGHT, "UTC0", "<+14>-14", "<-12>12"]),
        month in proptest::bool::ANY,
    ) {
        let per = if month { Per::Month } else { Per::Day };
        let one = Budget { time_zone: TimeZone::posix(zone).unwrap(), per, ..budget("b", "1") };
        let now = Timestamp::from_second(seconds).unwrap();
        let period = one.period(now);
        assert!(period.from <= now && now < period.until, "{now} {period:?}");
        assert_eq!(one.period(period.until).from, period.until);
        assert_eq!(one.period(period.from), period);
    }
}

#[test]
fn what_is_spent_is_what_matches_in_the_budgets_currency() {
    let charge = |repository: &str, place: &str, currency: &str, amount: &str| Charge {
        account: Account {
            source: "acme".to_owned(),
            owner: "Acme".to_owned(),
            repository: repository.to_owned(),
            workflow: String::new(),
            class: "stint".to_owned(),
            place: place.to_owned(),
        },
        currency: currency.to_owned(),
        amount: sum(amount),
    };
    let charges = [
        charge("Acme/Web", "virtual", "USD", "1.25"),
        charge("Acme/Web", "virtual", "EUR", "100"),
        charge("Acme/Lib", "virtual", "USD", "0.5"),
        charge("Acme/Web", "West", "USD", "2"),
    ];
    let check = |patterns: &[(Dimension, &str)], expect: &str| {
        let globs = patterns.iter().map(|(dimension, glob)| (*dimension, vec![Glob::new(glob)]));
        let matches = JobMatch { patterns: globs.collect(), ..JobMatch::default() };
        let spent = Budget { matches, ..budget("b", "1") }.spent(&charges);
        assert_eq!(spent, sum(expect), "{patterns:?}");
    };
    check(&[], "3.75");
    check(&[(Dimension::Repository, "acme/w*")], "3.25");
    check(&[(Dimension::Place, "west")], "2");
    check(&[(Dimension::Owner, "ACME"), (Dimension::Repository, "*/lib")], "0.5");
    check(&[(Dimension::Workflow, "nightly")], "0");
}

#[test]
fn a_budget_finds_the_currencies_of_billed_places_that_it_matches() {
    let euros = |name: &str| {
        let price = Price { currency: "EUR".to_owned(), ..Price::default() };
        Place { price, ..place(name) }
    };
    let places = [Place { kind: PlaceKind::NodePool, ..euros("vms") }, euros("a"), place("b")];
    let check = |pattern: &str, expect: &[&str]| {
        let mut one = budget("b", "1");
        one.matches.patterns.insert(Dimension::Place, vec![Glob::new(pattern)]);
        assert_eq!(one.currencies(&places), expect.iter().copied().collect(), "{pattern}");
    };
    check("*", &["EUR", "USD"]);
    check("A", &["EUR"]);
    check("vms", &[]);
}

#[test]
fn the_usual_duration_is_the_median_of_enough_late_rows() {
    let rows = |class: &str, all: &[u64]| all.iter().map(|s| (class.to_owned(), *s)).collect::<Vec<_>>();
    let few = rows("few", &[1, 2, 3, 4]);
    let odd = rows("odd", &[50, 1, 40, 2, 30]);
    let many = rows("many", &[&[7; 100][..], &[9000; 500]].concat());
    let usual = usual_durations([few, odd, many].concat());
    let expect = [("many", 7), ("odd", 30)];
    assert_eq!(usual, expect.map(|(class, s)| (class.to_owned(), SignedDuration::from_secs(s))).into());
}

#[test]
fn what_a_class_says_goes_before_what_is_usual() {
    let spending = Spending {
        usual: BTreeMap::from([("stint".to_owned(), SignedDuration::from_secs(90))]),
        ..Spending::default()
    };
    let said = Class { expected_duration: Some(SignedDuration::from_secs(60)), ..class("stint", &[""]) };
    assert_eq!(spending.expected("stint", Some(&said)), SignedDuration::from_secs(60));
    assert_eq!(spending.expected("stint", Some(&class("stint", &[""]))), SignedDuration::from_secs(90));
    assert_eq!(spending.expected("other", None), EXPECTED);
}

#[test]
fn an_alert_is_the_highest_percentage_that_is_reached() {
    let check = |spent: Option<&str>, amount: &str, expect: Option<u32>| {
        let figures = Figures {
            budget: "b".to_owned(),
            per: Per::Day,
            period: budget("b", "1").period(Timestamp::UNIX_EPOCH),
            spent: spent.map(sum),
            reserved: sum("100"),
            amount: sum(amount),
            currency: "USD".to_owned(),
            alert_at: vec![80, 50, 100],
            when_spent: WhenSpent::Warn,
        };
        assert_eq!(figures.alert(), expect, "{spent:?} of {amount}");
    };
    check(None, "10", None);
    check(Some("4.9999"), "10", None);
    check(Some("5"), "10", Some(50));
    check(Some("9.99"), "10", Some(80));
    check(Some("5000"), "10", Some(100));
    check(Some("0"), "0", Some(100));
}

#[test]
fn money_is_told_in_hundredths_or_three_digits() {
    let check = |text: &str, expect: &str| assert_eq!(money(sum(text)), expect);
    check("12.3456", "12.35");
    check("10.00", "10");
    check("0", "0");
    check("0.00154321", "0.00154");
    check("0.5", "0.5");
}
