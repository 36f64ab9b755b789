use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::*;
use crate::quota::{Exceeded, QuotaKind};
use crate::setup::Need;
use crate::testing::{at, sum, words};

/// One of each, in the order of the enum.
fn every() -> Vec<Reason> {
    let text = || "x".to_owned();
    let (running, started, limit) = (1, 1, 2);
    vec![
        Reason::InstallationFull { running, limit },
        Reason::ClassFull { class: text(), running, limit },
        Reason::SizeFull { label: text(), running, limit },
        limit_reached("repository acme/web", Capped::Cpu, 6500, 8000, 2000),
        Reason::LimitPaused { limit: text() },
        Reason::ReservedForAnother { limit: text(), job: text() },
        budget_spent("0.125"),
        Reason::BudgetUnknown { budget: text() },
        Reason::AwaitingApproval,
        Reason::ConfirmingWithSource,
        Reason::ReadingBranch,
        Reason::SourceUnavailable { source: text(), why: text() },
        Reason::RegistrationsSpent { source: text(), until: at(0) },
        Reason::NoPlace,
        Reason::PlaceUnknown { class: text(), place: text() },
        Reason::PlaceAmbiguous { class: text(), places: words("a b") },
        Reason::PlaceNotReady { place: text(), why: text() },
        Reason::PlaceUnsuitable { place: text(), class: text(), need: Need::Docker },
        Reason::PlaceFull { place: text(), until: Some(at(0)) },
        Reason::QuotaReached {
            place: text(),
            of: text(),
            exceeded: Exceeded {
                what: QuotaKind::Creates(SignedDuration::from_mins(5)),
                used: 100,
                cap: 100,
                needs: 1,
                until: Some(at(0)),
            },
        },
        Reason::RetryPause { until: at(0), started, limit },
        Reason::NoClassNamed { labels: words("a b") },
        Reason::SeveralClassesNamed { labels: words("a b") },
        Reason::SizeMissing { class: text(), sizes: words("s l") },
        Reason::SizeUnknown { class: text(), size: text(), sizes: words("s l") },
        Reason::CustomSizeRefused { label: text(), why: text() },
        Reason::LabelNotCarried { class: text(), label: text() },
        Reason::SourceMissing { source: text() },
        Reason::RepositoryNotServed { source: text(), repository: text() },
        Reason::PublicRepository { source: text(), repository: text() },
        Reason::AttemptsExhausted { started, limit },
        Reason::ContainerEnded,
        Reason::AgentExited,
        Reason::RunnerTooOld,
        Reason::IdleRemoved,
        Reason::Restarted,
        Reason::StartFailed { why: text() },
        Reason::NoCapacity { why: text() },
        Reason::Unschedulable { why: text() },
        Reason::Vanished,
        Reason::Interrupted { call: text() },
        Reason::RegistrationFailed { why: text() },
        Reason::NameTaken { why: "there is a container group /groups/stint-1".to_owned() },
        Reason::NotScheduled,
        Reason::NotRunning,
        Reason::NotOnline,
        Reason::Idle,
        Reason::Surplus,
        Reason::Deleted,
    ]
}

fn budget_spent(needs: &str) -> Reason {
    let figures = Shortage {
        spent: sum("8.2049"),
        reserved: sum("1.75"),
        needs: sum(needs),
        amount: sum("10.00"),
        currency: "USD".to_owned(),
        until: at(0),
    };
    Reason::BudgetSpent { budget: "x".to_owned(), figures: Box::new(figures) }
}

fn limit_reached(group: &str, what: Capped, used: u64, cap: u64, needs: u64) -> Reason {
    Reason::LimitReached { limit: "x".to_owned(), group: group.to_owned(), what, used, cap, needs }
}

#[test]
fn a_limit_tells_its_figures_in_their_unit() {
    let check = |reason: Reason, expect: &str| assert_eq!(reason.sentence(), expect);
    check(
        limit_reached("", Capped::Runners, 3, 3, 1),
        "limit x: 3 of 3 runners are in use, and the job needs 1",
    );
    check(
        limit_reached("owner acme", Capped::Memory, 6 << 30, 8 << 30, 4 << 30),
        "limit x for owner acme: 6 of 8 GiB of memory are in use, and the job needs 4",
    );
    check(
        limit_reached("owner acme", Capped::Cpu, 0, 4000, 8000),
        "limit x allows 4 vCPU for owner acme, and the job alone needs 8",
    );
}

#[test]
fn a_budget_tells_that_the_job_alone_is_too_dear() {
    let told = budget_spent("12.5").sentence();
    assert_eq!(told, "budget x allows 10 USD, and the job alone is expected to cost 12.5");
}

#[test]
fn a_quota_that_is_too_small_for_the_job_promises_no_room() {
    let exceeded = Exceeded { what: QuotaKind::Cores, used: 0, cap: 1, needs: 4, until: None };
    let reason = Reason::QuotaReached { place: "x".to_owned(), of: "westeurope".to_owned(), exceeded };
    assert_eq!(
        reason.sentence(),
        "place x has too little quota for the job: 1 cores in westeurope are allowed, and the runner alone needs 4"
    );
    assert_eq!(
        reason.remedy(),
        "ask for a smaller size, or have Azure raise the quota and spec.quota of place x with it, or name a further place in the class's spec.places.order"
    );
}

#[test]
fn every_reason_has_its_code() {
    let codes: Vec<&str> = every().iter().map(Reason::code).collect();
    assert_eq!(codes, Reason::CODES);
    assert_eq!(BTreeSet::from(Reason::CODES).len(), Reason::CODES.len());
}

#[test]
fn a_code_is_the_name_of_its_variant() {
    for reason in every() {
        let debug = format!("{reason:?}");
        let name: String = debug.chars().take_while(|letter| letter.is_ascii_alphabetic()).collect();
        assert_eq!(reason.code(), name);
    }
}

#[test]
fn every_sentence_reads_as_one() {
    insta::assert_snapshot!(every().iter().map(Reason::sentence).collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_remedy_names_what_to_change() {
    let remedies = every().into_iter().map(|reason| format!("{}: {}", reason.code(), reason.remedy()));
    insta::assert_snapshot!(remedies.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_remedy_is_one_line_and_names_the_field_that_caps() {
    assert!(every().iter().all(|reason| !reason.remedy().contains('\n')));
    let check = |reason: Reason, expect: &str| assert_eq!(reason.remedy(), expect);
    check(
        limit_reached("", Capped::Runners, 3, 3, 1),
        "a runner that counts there ends by itself; for more at once: kubectl edit concurrencylimit x: raise spec.max.runners",
    );
    check(
        limit_reached("", Capped::Memory, 0, 1 << 30, 2 << 30),
        "ask for a smaller size, or: kubectl edit concurrencylimit x: raise spec.max.memory to what the job needs",
    );
    check(
        budget_spent("12.5"),
        "ask for a smaller size, or: `kubectl edit budget x`: raise spec.amount to what the job is expected to cost, or set spec.whenSpent to Warn; if its class's runners take less time, set the class's spec.expectedDuration",
    );
    let named = |labels| Reason::NoClassNamed { labels: words(labels) };
    check(
        named("Self-Hosted big"),
        "name a class's label in the workflow's runs-on, or create a RunnerClass named big",
    );
    check(named("self-hosted linux"), "name a class's label in the workflow's runs-on");
}

#[test]
fn every_code_has_a_gist_that_the_list_of_pages_gives_too() {
    let list = include_str!("../../../../docs/errors/README.md");
    for code in Reason::CODES {
        let gist = gist(code).unwrap_or_else(|| panic!("{code} has no gist"));
        let row = format!("| [{code}]({code}.md) | {gist} |");
        assert!(list.lines().any(|line| line == row), "docs/errors/README.md has no line {row}");
    }
    assert_eq!(gist("Nothing"), None);
}
