//! What passes decide under budgets, and by how much at most a budget is overspent.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::limits::told;
use super::starts;
use crate::billing;
use crate::budget::{Budget, Budgets, WhenSpent};
use crate::job::Job;
use crate::lifecycle::{Runner, RunnerFact};
use crate::limit::{Dimension, Glob};
use crate::plan::{Action, Hold, Snapshot, plan, runner_name};
use crate::reason::Reason;
use crate::setup::{Place, Price};
use crate::testing::{
    at, budget, group, job, key, place, runner, secs, setup, snapshot, stuck, sum, two_places,
};

/// At which a runner of two vCPU costs 0.002 a second, and 1.20 in the 10 minutes that one is expected to take.
fn price() -> Price {
    Price { currency: "USD".to_owned(), vcpu_hour: sum("3.6"), gb_hour: Decimal::ZERO }
}

/// Three jobs under these budgets, each with what is spent of it, if that is known.
fn under(budgets: Vec<(Budget, Option<&str>)>) -> Snapshot {
    let jobs = (1..=3).map(|id: i64| job(&id.to_string()).queued(id)).collect();
    let mut all = Snapshot { setup: setup(), ..snapshot(jobs, Vec::new()) };
    all.setup.places.get_mut("virtual").unwrap().price = price();
    for (one, spent) in budgets {
        all.spending.spent.extend(spent.map(|spent| (one.name.clone(), sum(spent))));
        all.setup.budgets.insert(one.name.clone(), one);
    }
    all
}

/// The same with a node pool `vms` beside the virtual node, in this order.
fn mixed(order: &str, budgets: Vec<(Budget, Option<&str>)>) -> Snapshot {
    let mut all = under(budgets);
    let budgets = std::mem::take(&mut all.setup.budgets);
    all.setup = two_places(order);
    all.setup.places.get_mut("virtual").unwrap().price = price();
    all.setup.budgets = budgets;
    all
}

fn about(mut one: Budget, dimension: Dimension, pattern: &str) -> Budget {
    one.matches.patterns.insert(dimension, vec![Glob::new(pattern)]);
    one
}

fn does(what: WhenSpent, one: Budget) -> Budget {
    Budget { when_spent: what, ..one }
}

/// Where each job's runner is started.
fn places(all: &Snapshot) -> String {
    let mut found = Vec::new();
    for action in plan(all, at(5)).actions {
        if let Action::Start(new) = action {
            found.push(format!("{} {}", new.job.id, new.place));
        }
    }
    found.join(", ")
}

#[test]
fn a_budget_holds_back_what_would_exceed_it_and_nothing_else() {
    let check = |one: Budget, spent: &str, expect: &str| {
        assert_eq!(told(&under(vec![(one.clone(), Some(spent))]), 5), expect, "{one:?}");
    };
    check(budget("b", "10"), "0", "1 2 3 | ");
    check(budget("b", "10"), "6.40", "1 2 3 | ");
    check(budget("b", "10"), "6.41", "1 2 | 3 BudgetSpent");
    check(budget("b", "10"), "8.8", "1 | 2 BudgetSpent, 3 BudgetSpent");
    check(budget("b", "10"), "12", " | 1 BudgetSpent, 2 BudgetSpent, 3 BudgetSpent");
    check(about(budget("b", "10"), Dimension::Repository, "acme/lib"), "12", "1 2 3 | ");
    check(about(budget("b", "10"), Dimension::Place, "elsewhere"), "12", "1 2 3 | ");
    check(about(budget("b", "1.2"), Dimension::Place, "VIRT*"), "0", "1 | 2 BudgetSpent, 3 BudgetSpent");
    check(Budget { currency: "EUR".to_owned(), ..budget("b", "1") }, "2", "1 2 3 | ");
    check(does(WhenSpent::Warn, budget("b", "1")), "2", "1 2 3 | ");
}

#[test]
fn all_budgets_that_match_apply_together() {
    let all = under(vec![(budget("a", "100"), Some("0")), (budget("b", "3"), Some("1"))]);
    assert_eq!(told(&all, 5), "1 | 2 BudgetSpent, 3 BudgetSpent");
}

#[test]
fn what_is_not_known_to_be_left_is_not_spent() {
    let check = |what: WhenSpent, expect: &str| {
        assert_eq!(told(&under(vec![(does(what, budget("b", "10")), None)]), 5), expect, "{what:?}");
    };
    check(WhenSpent::Hold, " | 1 BudgetUnknown, 2 BudgetUnknown, 3 BudgetUnknown");
    check(WhenSpent::NoBurst, " | 1 BudgetUnknown, 2 BudgetUnknown, 3 BudgetUnknown");
    check(WhenSpent::Warn, "1 2 3 | ");
    let other = about(budget("b", "10"), Dimension::Repository, "acme/lib");
    assert_eq!(told(&under(vec![(other, None)]), 5), "1 2 3 | ", "without a budget jobs start as ever");
}

#[test]
fn no_burst_leaves_the_machines_that_are_paid_for_anyway_and_hold_leaves_none() {
    let check = |order: &str, what: WhenSpent, spent: Option<&str>, expect: &str| {
        let all = mixed(order, vec![(does(what, budget("b", "10")), spent)]);
        assert_eq!(places(&all), expect, "{order} {what:?} {spent:?}");
    };
    check("virtual vms", WhenSpent::NoBurst, Some("8"), "1 virtual, 2 vms, 3 vms");
    check("virtual vms", WhenSpent::NoBurst, None, "1 vms, 2 vms, 3 vms");
    check("vms virtual", WhenSpent::NoBurst, Some("12"), "1 vms, 2 vms, 3 vms");
    check("virtual vms", WhenSpent::Hold, Some("8"), "1 virtual");
    check("vms virtual", WhenSpent::Hold, Some("8"), "1 vms, 2 vms, 3 vms");
    check("vms virtual", WhenSpent::Hold, Some("12"), "");
    check("virtual vms", WhenSpent::Hold, None, "");
    check("vms", WhenSpent::Hold, Some("12"), "1 vms, 2 vms, 3 vms");
}

#[test]
fn a_dearer_place_is_passed_over_for_one_that_the_budget_has_room_for() {
    let mut all = mixed("dear virtual", vec![(budget("b", "10"), Some("8"))]);
    let dear = Price { vcpu_hour: sum("36"), ..price() };
    all.setup.places.insert("dear".to_owned(), Place { price: dear, ..place("dear") });
    assert_eq!(places(&all), "1 virtual");
}

#[test]
fn a_runner_is_reserved_for_until_it_is_billed() {
    let reserved = |change: &dyn Fn(&mut Snapshot)| {
        let mut all = under(vec![(budget("b", "10"), Some("0"))]);
        all.runners = vec![runner("1", 1)];
        change(&mut all);
        Budgets::of(&all, at(1000)).figures()[0].reserved
    };
    let launched = || runner("1", 1).launched(100);
    assert_eq!(reserved(&|_| {}), sum("1.2"), "what is expected, from the reservation on");
    assert_eq!(reserved(&|all| all.runners = vec![launched()]), sum("1.8"), "it has run for 900 s");
    let pulled = |stopped| launched().with(RunnerFact::Group(group(Some(200), stopped, 900)));
    assert_eq!(reserved(&|all| all.runners = vec![pulled(None)]), sum("1.8"));
    assert_eq!(reserved(&|all| all.runners = vec![pulled(Some(850))]), sum("1.5"), "the meter has stopped");
    assert_eq!(reserved(&|all| all.runners = vec![pulled(Some(300))]), sum("1.2"));
    let gone = || pulled(Some(850)).torn_down(&Reason::ContainerEnded, 860).with(RunnerFact::Gone(at(900)));
    assert_eq!(reserved(&|all| all.runners = vec![gone()]), sum("1.5"), "gone is not billed yet");
    assert_eq!(reserved(&|all| all.runners = vec![gone().with(RunnerFact::Billed(at(901)))]), sum("0"));
    let never = || runner("1", 1).registered(2).torn_down(&Reason::Surplus, 3);
    assert_eq!(reserved(&|all| all.runners = vec![never()]), sum("0"), "it will never cost anything");
    assert_eq!(reserved(&|all| all.runners = vec![launched().pooled()]), sum("0"));
    let expected = |all: &mut Snapshot, seconds| {
        all.setup.classes.get_mut("stint").unwrap().expected_duration = Some(secs(seconds));
    };
    assert_eq!(reserved(&|all| expected(all, 60)), sum("0.12"));
    assert_eq!(
        reserved(&|all| all.spending.usual = BTreeMap::from([("stint".to_owned(), secs(90))])),
        sum("0.18")
    );
    // Its bill will be at the default price.
    let usd = sum("0.016615");
    assert_eq!(reserved(&|all| drop(all.setup.places.remove("virtual"))), usd);
}

#[test]
fn a_start_under_way_is_reserved_for() {
    let mut all = under(vec![(budget("b", "2"), Some("0"))]);
    all.held.insert(runner_name("stint", &key("1"), 1), Hold::InFlight);
    assert_eq!(told(&all, 5), " | 2 BudgetSpent, 3 BudgetSpent");
}

#[test]
fn a_reason_has_the_budgets_figures_and_the_pass_comes_again_when_the_period_ends() {
    let all = under(vec![(budget("b", "3"), Some("1"))]);
    let plan = plan(&all, at(5));
    let reason = plan.reasons.get(&key("3")).map(|reason| reason.sentence());
    let expect = "budget b: of 3 USD until 2026-01-02T00:00:00Z, 1 are spent and 1.2 reserved for runners, which \
                  leaves too little for the 1.2 that the job is expected to cost";
    assert_eq!(reason.as_deref(), Some(expect));
    assert_eq!(plan.wake_at, Some(at(86_400)));
}

#[test]
fn a_pod_that_waits_for_a_machine_is_not_given_up_for_a_place_that_the_budget_closes() {
    let leaves = |spent: &str| {
        let mut all = mixed("vms virtual", vec![(does(WhenSpent::NoBurst, budget("b", "10")), Some(spent))]);
        all.jobs.truncate(1);
        let pod = runner("1", 1).pooled().launched(2);
        all.machines.insert(pod.name.clone(), stuck(2));
        all.runners = vec![pod];
        let steps = plan(&all, at(30)).actions;
        steps.iter().any(|action| matches!(action, Action::Step { because: Some(_), .. }))
    };
    assert!(leaves("0"));
    assert!(!leaves("12"));
}

/// Runs jobs, each queued so many seconds after the one before and lasting so many, under a budget that holds; a pass is
/// made every `step` seconds. Answers for each of the budget's periods what was spent, and by how much the runners that
/// were billed in it cost more than was reserved for them at their start.
fn spend(amount: &str, jobs: &[(i64, i64)], step: usize) -> BTreeMap<Timestamp, (Decimal, Decimal)> {
    let one = budget("b", amount);
    let mut all = under(vec![(one.clone(), None)]);
    all.jobs.clear();
    all.setup.settings.max_runners = 1000;
    all.setup.classes.get_mut("stint").unwrap().max_runners = 1000;
    // Nobody is asked here whether a job still waits.
    all.setup.settings.confirm_after = SignedDuration::from_hours(10_000);
    let mut arrives = 0;
    let mut coming: Vec<(i64, Job)> = Vec::new();
    for (id, (after, _)) in jobs.iter().enumerate() {
        arrives += after;
        coming.push((arrives, job(&id.to_string()).queued(arrives)));
    }
    let mut told: BTreeMap<Timestamp, (Decimal, Decimal)> = BTreeMap::new();
    let mut last = (0, 0, one.period(at(-1)));
    // Twenty days end any of these worlds.
    for now in (0..20 * 86_400).step_by(step) {
        all.jobs.extend(coming.extract_if(.., |(arrives, _)| *arrives <= now).map(|(_, job)| job));
        let end = |runner: &Runner| {
            let launched = runner.facts.launched.as_ref().unwrap().at.duration_since(at(0)).as_secs();
            (launched, launched + jobs[runner.job.id.parse::<usize>().unwrap()].1)
        };
        for over in all.runners.extract_if(.., |runner| end(runner).1 <= now) {
            let (launched, stopped) = end(&over);
            all.jobs.retain(|job| job.key != over.job);
            let read = group(Some(launched), Some(stopped), stopped);
            let over = over.with(RunnerFact::Group(read)).with(RunnerFact::Gone(at(now)));
            let bill = billing::bill(&over, "", &price()).unwrap();
            let (spent, beyond) = told.entry(one.period(bill.stopped_at).from).or_default();
            *spent += bill.amount;
            *beyond += (bill.amount - sum("1.2")).max(Decimal::ZERO);
        }
        // Only then can another pass start anything.
        let seen = (all.jobs.len(), coming.len(), one.period(at(now)));
        if seen == last {
            continue;
        }
        last = seen;
        let spent = told.get(&one.period(at(now)).from).map_or(Decimal::ZERO, |(spent, _)| *spent);
        all.spending.spent.insert("b".to_owned(), spent);
        let plan = plan(&all, at(now));
        let records = starts(&plan).into_iter().map(|new| new.clone().record(at(now)));
        let started: Vec<Runner> = records.map(|record| record.launched(now)).collect();
        if !started.is_empty() {
            all.runners.extend(started);
            let figures = &Budgets::of(&all, at(now)).figures()[0];
            assert!(spent + figures.reserved <= figures.amount, "{figures:?}");
        }
        if all.jobs.is_empty() && coming.is_empty() {
            break;
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The bound that docs/limits-and-places.md states.
    #[test]
    fn a_budget_that_holds_is_overspent_by_no_more_than_runners_cost_beyond_what_was_reserved(
        amount in prop::sample::select(vec!["1.2", "2.5", "4", "10", "0.5"]),
        jobs in prop::collection::vec((0..20_000_i64, 1..30_000_i64), 1..25),
        step in prop::sample::select(vec![60_usize, 599, 3600]),
    ) {
        for (period, (spent, beyond)) in spend(amount, &jobs, step) {
            prop_assert!(spent <= sum(amount) + beyond, "{period}: {spent} of {amount}, {beyond} beyond");
        }
    }
}

#[test]
fn the_bound_is_met_by_jobs_that_all_run_too_long() {
    // Two fit; both take 3,000 s instead of 600.
    let told = spend("2.4", &[(0, 3000), (0, 3000), (0, 3000)], 60);
    assert_eq!(told[&at(0)], (sum("12"), sum("9.6")));
    assert_eq!(told[&at(86_400)], (sum("6"), sum("4.8")), "the third starts when the next day does");
}
