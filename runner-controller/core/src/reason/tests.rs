use std::collections::BTreeSet;

use super::*;
use crate::testing::{at, words};

/// One of each, in the order of the enum.
fn every() -> Vec<Reason> {
    let text = || "x".to_owned();
    let (running, started, limit) = (1, 1, 2);
    vec![
        Reason::InstallationFull { running, limit },
        Reason::ClassFull { class: text(), running, limit },
        Reason::SizeFull { label: text(), running, limit },
        Reason::AwaitingApproval,
        Reason::ConfirmingWithSource,
        Reason::SourceUnavailable { source: text(), why: text() },
        Reason::NoPlace,
        Reason::PlaceUnknown { class: text(), place: text() },
        Reason::PlaceAmbiguous { class: text(), places: words("a b") },
        Reason::PlaceNotReady { place: text(), why: text() },
        Reason::PlaceFull { place: text(), until: Some(at(0)) },
        Reason::RetryPause { until: at(0), started, limit },
        Reason::NoClassNamed { labels: words("a b") },
        Reason::SeveralClassesNamed { labels: words("a b") },
        Reason::SizeMissing { class: text(), sizes: words("s l") },
        Reason::SizeUnknown { class: text(), size: text(), sizes: words("s l") },
        Reason::LabelNotCarried { class: text(), label: text() },
        Reason::SourceMissing { source: text() },
        Reason::RepositoryNotServed { source: text(), repository: text() },
        Reason::PublicRepository { source: text(), repository: text() },
        Reason::AttemptsExhausted { started, limit },
        Reason::ContainerEnded,
        Reason::AgentExited,
        Reason::StartFailed { why: text() },
        Reason::NoCapacity { why: text() },
        Reason::Unschedulable { why: text() },
        Reason::Vanished,
        Reason::Interrupted { call: text() },
        Reason::RegistrationFailed { why: text() },
        Reason::NotScheduled,
        Reason::NotRunning,
        Reason::NotOnline,
        Reason::Idle,
        Reason::Surplus,
        Reason::Deleted,
    ]
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
