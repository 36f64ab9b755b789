use std::str::FromStr;

use super::*;
use crate::lifecycle::{GroupFacts, RunnerFact};
use crate::reason::Reason;
use crate::testing::{at, group, runner};

fn dec(text: &str) -> Decimal {
    Decimal::from_str(text).unwrap()
}

fn size(cpu_millis: u32, memory_bytes: u64) -> Size {
    Size { cpu_millis, memory_bytes, max_runners: None }
}

#[test]
fn a_group_is_sized_as_azure_aci_asks_for_it() {
    let check = |(cpu, memory), expect: (&str, &str)| {
        assert_eq!(group_size(size(cpu, memory)), (dec(expect.0), dec(expect.1)), "{cpu}m {memory}");
    };
    check((1500, 2 << 30), ("1.5", "2.1"));
    check((2000, 4 << 30), ("2", "4.2"));
    check((1999, 16_000_000_000), ("1.99", "16"));
    check((5, 1), ("0.01", "0.1"));
    check((0, 0), ("0.01", "0.1"));
    check((250, 99_999_999), ("0.25", "0.1"));
}

#[test]
fn a_begun_second_counts_whole() {
    let nanos = |nanos| Timestamp::from_nanosecond(at(0).as_nanosecond() + nanos).unwrap();
    let check = |to, expect| assert_eq!(ceil_seconds(at(0), to), expect, "{to}");
    check(at(0), 0);
    check(nanos(1), 1);
    check(at(1), 1);
    check(nanos(1_000_000_001), 2);
    check(at(-5), 0);
}

/// A runner of this size that was torn down and whose machine is gone since 200.
fn over(size: Size) -> Runner {
    let runner = Runner { size, ..runner("1", 1) };
    runner.launched(10).torn_down(&Reason::ContainerEnded, 100).settled(200)
}

fn billed(runner: &Runner) -> Bill {
    bill(runner, "/fallback", &Price::default()).unwrap()
}

#[test]
fn times_from_azure_bill_to_the_second_with_whole_cores() {
    let runner = over(size(1500, 2 << 30)).with(RunnerFact::Group(group(Some(20), Some(80), 81)));
    let bill = billed(&runner);
    assert_eq!((bill.seconds, bill.bound_seconds), (60, 0));
    assert_eq!((bill.vcpu, bill.memory_gb), (2, dec("2.1")));
    assert_eq!((bill.started_from, bill.stopped_from), (TimeSource::Arm, TimeSource::Arm));
    // (2 × 0.0405 + 2.1 × 0.00445) / 60
    assert_eq!(bill.amount, dec("0.00150575"));
    assert_eq!((bill.currency.as_str(), bill.group_id.as_str()), ("USD", "/group"));
}

#[test]
fn money_is_decimal_and_rounded_once() {
    let price = Price { currency: "EUR".to_owned(), vcpu_hour: dec("0.1"), gb_hour: dec("0") };
    let runner = over(size(1000, 1 << 30)).with(RunnerFact::Group(group(Some(0), Some(1), 2)));
    let bill = bill(&runner, "/fallback", &price).unwrap();
    assert_eq!((bill.amount, bill.currency.as_str()), (dec("0.00002778"), "EUR"));
}

#[test]
fn a_cost_beyond_all_measure_is_the_highest_there_is() {
    let check = |vcpu_hour, gb_hour, memory_bytes| {
        let price = Price { currency: "USD".to_owned(), vcpu_hour, gb_hour };
        let runner =
            over(size(u32::MAX, memory_bytes)).with(RunnerFact::Group(group(Some(0), Some(9_000_000), 2)));
        assert_eq!(bill(&runner, "/fallback", &price).unwrap().amount, Decimal::MAX);
    };
    check(Decimal::MAX, Decimal::ZERO, 1);
    check(Decimal::ZERO, Decimal::MAX, u64::MAX);
    // Each part fits, their sum does not; then the sum does, the product with the time does not.
    let part = Decimal::MAX.checked_div(Decimal::from(4_294_968)).unwrap();
    check(part, Decimal::MAX, 1_000_000_000);
    check(part, Decimal::ZERO, 1);
}

/// Where the times come from, the billed seconds, and by how many they may be off.
fn summary(runner: &Runner) -> (TimeSource, TimeSource, u64, u64) {
    let bill = billed(runner);
    (bill.started_from, bill.stopped_from, bill.seconds, bill.bound_seconds)
}

#[test]
fn missing_times_are_estimated_and_say_by_how_much() {
    use TimeSource::{Arm, CallBack, Estimated};
    let over = || over(size(2000, 4 << 30));
    // Pull known, stop told by the agent at 90; last seen running at 70, gone at 200.
    let told = over()
        .with(RunnerFact::Group(group(Some(20), None, 70)))
        .with(RunnerFact::AgentExiting(at(90), Some(0)));
    assert_eq!(summary(&told), (Arm, CallBack, 70, 130));
    // Nothing but Stint's own calls for the stop: asked to delete at 200.
    let silent = over().with(RunnerFact::Group(group(Some(20), None, 70)));
    assert_eq!(summary(&silent), (Arm, Estimated, 180, 130));
    // The agent alone tells that there was anything: created at 10, up at 40.
    let unseen = over().with(RunnerFact::AgentBooted(at(40))).with(RunnerFact::AgentExiting(at(90), None));
    assert_eq!(summary(&unseen), (Estimated, CallBack, 80, 30 + 190));
    // Only its source ever said that it ran.
    let busy = over().with(RunnerFact::BusySeen(at(60)));
    assert_eq!(summary(&busy), (Estimated, Estimated, 190, 50 + 190));
    // The container's start is known, the pull's is not.
    let started = GroupFacts { started: Some(at(30)), ..group(None, Some(80), 81) };
    assert_eq!(summary(&over().with(RunnerFact::Group(started))), (Estimated, Arm, 70, 20));
}

#[test]
fn what_never_ran_is_not_billed() {
    let never = over(size(2000, 4 << 30));
    assert_eq!(bill(&never, "/fallback", &Price::default()), None);
    let never = never.with(RunnerFact::Group(group(None, None, 50)));
    assert_eq!(bill(&never, "/fallback", &Price::default()), None);
}

#[test]
fn nothing_is_billed_before_the_machine_is_gone() {
    let running = runner("1", 1).launched(10).with(RunnerFact::Group(group(Some(20), Some(80), 81)));
    assert_eq!(bill(&running, "/fallback", &Price::default()), None);
}

#[test]
fn a_clock_that_steps_back_bills_nothing_negative() {
    let skewed = over(size(2000, 4 << 30)).with(RunnerFact::Group(group(Some(80), Some(20), 81)));
    let bill = billed(&skewed);
    assert_eq!((bill.seconds, bill.amount), (0, Decimal::ZERO));
    assert_eq!(bill.stopped_at, bill.started_at);
}

#[test]
fn the_address_stands_in_for_a_group_that_was_never_read() {
    let unseen = over(size(2000, 4 << 30)).with(RunnerFact::AgentBooted(at(40)));
    assert_eq!(billed(&unseen).group_id, "/fallback");
}

#[test]
fn sources_of_times_have_a_word_each() {
    assert_eq!(TimeSource::ALL.map(TimeSource::as_str), ["arm", "call-back", "estimated"]);
}
