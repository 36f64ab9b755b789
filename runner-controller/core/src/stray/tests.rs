use proptest::prelude::*;

use super::*;
use crate::job::JobKey;
use crate::plan::{Action, plan, runner_name};
use crate::setup::PlaceKind;
use crate::testing::{at, group, job, key, runner, setup, snapshot};

const OWN: &str = "0123456789abcdef";
const OTHER: &str = "fedcba9876543210";

/// The machine of the first runner of a job, marked by the installation of this origin.
fn machine(id: &str, origin: &str) -> FoundMachine {
    let runner = runner(id, 1).registered(1);
    FoundMachine {
        uid: format!("uid-{id}"),
        since: at(5),
        mark: Some(Mark::of(&runner, origin)),
        group: Some(group(Some(15), None, 21)),
        place: Some("virtual".to_owned()),
        runner: runner.name,
    }
}

fn registration(name: &str, origin: Option<&str>, first_seen: i64) -> FoundRegistration {
    let labels = ["stint".to_owned()].into_iter().chain(origin.map(|one| format!("{ORIGIN_LABEL}{one}")));
    FoundRegistration {
        source: "acme".to_owned(),
        scope: Scope::Owner("acme".to_owned()),
        id: 7,
        name: name.to_owned(),
        labels: labels.collect(),
        busy: false,
        first_seen: at(first_seen),
    }
}

fn found(machines: Vec<FoundMachine>, registrations: Vec<FoundRegistration>) -> Findings {
    Findings { machines, all_machines: true, all_pods: true, credentials: Vec::new(), registrations }
}

fn look(found: &Findings, known: Known, now: i64) -> Remedies {
    let setup = setup();
    decide(Own { setup: &setup, origin: OWN }, found, |_| known.clone(), at(now))
}

/// `Adopt NAME`, `Complete NAME`, `DeleteCredential NAME` or `Deregister NAME`.
fn show(remedies: &Remedies) -> Vec<String> {
    let one = |remedy: &Remedy| match remedy {
        Remedy::Adopt(foundling) => format!("Adopt {}", foundling.new.name),
        Remedy::Complete { runner, .. } => format!("Complete {runner}"),
        Remedy::DeleteCredential { runner } => format!("DeleteCredential {runner}"),
        Remedy::Deregister(registration) => format!("Deregister {}", registration.name),
    };
    remedies.remedies.iter().map(one).collect()
}

#[test]
fn a_machine_of_our_own_without_a_record_gets_it_back() {
    let decided = look(&found(vec![machine("1", OWN)], Vec::new()), Known::Nothing, 100);
    let [Remedy::Adopt(foundling)] = decided.remedies.as_slice() else { panic!("{decided:?}") };
    let adopted = foundling.facts.iter().cloned().fold(foundling.new.clone().record(at(5)), Runner::with);
    let before = runner("1", 1);
    assert_eq!((&adopted.name, &adopted.job, adopted.ordinal), (&before.name, &before.job, 1));
    assert_eq!((&adopted.scope, &adopted.matched), (&before.scope, &before.matched));
    assert_eq!((&adopted.labels, adopted.size, &adopted.place), (&before.labels, before.size, &before.place));
    assert_eq!(adopted.facts.found, Some(at(100)));
    assert_eq!(adopted.facts.launched.as_ref().map(|launched| launched.uid.as_str()), Some("uid-1"));
    assert_eq!(adopted.facts.registered.as_ref().map(|registered| registered.id), Some(7));
    assert_eq!(adopted.facts.group, Some(group(Some(15), None, 21)));
    assert!(adopted.counts() && adopted.may_be_billed(), "it takes room, and is paid for");
    assert!(decided.foreign.is_empty());
}

#[test]
fn the_job_of_a_foundling_gets_no_second_runner_and_its_next_one_another_name() {
    let decided = look(&found(vec![machine("1", OWN)], Vec::new()), Known::Nothing, 100);
    let [Remedy::Adopt(foundling)] = decided.remedies.as_slice() else { panic!("{decided:?}") };
    let adopted = foundling.facts.iter().cloned().fold(foundling.new.clone().record(at(5)), Runner::with);
    // Told anew after a restore: nothing is remembered of its first runner.
    let starts = |runner: Runner| -> Vec<String> {
        let plan = plan(&snapshot(vec![job("1").queued(101)], vec![runner]), at(400));
        let start = |action| if let Action::Start(new) = action { Some(new.name) } else { None };
        plan.actions.into_iter().filter_map(start).collect()
    };
    assert_eq!(starts(adopted.clone()), Vec::<String>::new());
    let refused = adopted.torn_down(&crate::reason::Reason::Surplus, 102);
    assert!(starts(refused).iter().all(|name| *name == runner_name("stint", &key("1"), 2)));
}

#[test]
fn what_is_on_record_or_reserved_is_left_to_its_record() {
    let machines = found(vec![machine("1", OWN)], Vec::new());
    let decided = look(&machines, Known::Reserved, 100);
    assert_eq!(
        (show(&decided), decided.again_at),
        (vec![], Some(at(130))),
        "its reservation may be about to go"
    );
    let launched = Known::Recorded(Box::new(runner("1", 1).launched(2)));
    assert_eq!(look(&machines, launched, 100), Remedies::default());
}

#[test]
fn an_older_state_of_a_record_learns_that_its_machine_was_made() {
    let machines = found(vec![machine("1", OWN)], Vec::new());
    for older in [runner("1", 1), runner("1", 1).registered(1)] {
        let decided = look(&machines, Known::Recorded(Box::new(older.clone())), 100);
        let [Remedy::Complete { runner, facts }] = decided.remedies.as_slice() else { panic!("{decided:?}") };
        let after = facts.iter().cloned().fold(older, Runner::with);
        assert_eq!(*runner, after.name);
        assert!(after.facts.registered.is_some() && after.facts.launched.is_some(), "{after:?}");
    }
    // One that is being given up is let go first; its machine gets a record of its own then.
    let refused = runner("1", 1).torn_down(&crate::reason::Reason::Surplus, 5);
    let decided = look(&machines, Known::Recorded(Box::new(refused)), 100);
    assert_eq!((show(&decided), decided.again_at), (vec![], Some(at(130))));
    // So does one that Azure shows again after it was gone.
    let gone = runner("1", 1).launched(2).torn_down(&crate::reason::Reason::Surplus, 5).settled(9);
    assert_eq!(look(&machines, Known::Recorded(Box::new(gone)), 100).again_at, Some(at(130)));
}

#[test]
fn a_name_without_our_mark_is_told_and_never_touched() {
    let unmarked = FoundMachine { mark: None, ..machine("1", OWN) };
    for (machine, origin) in [(unmarked, None), (machine("1", OTHER), Some(OTHER.to_owned()))] {
        let name = machine.runner.clone();
        let registration = registration(&name, origin.as_deref(), 0);
        let decided = look(&found(vec![machine], vec![registration]), Known::Nothing, 1000);
        assert_eq!((show(&decided), decided.left_alone), (vec![], 1));
        let told: Vec<_> =
            decided.foreign.iter().map(|one| (one.document, one.name.as_str(), one.way)).collect();
        let expected = [(Document::Source, "acme", Way::SameId), (Document::Place, "virtual", Way::SameId)];
        assert_eq!(told, expected);
        assert!(decided.foreign.iter().all(|one| one.origin == origin), "{decided:?}");
        let text = decided.foreign.first().unwrap().to_string();
        assert!(text.contains(OWN) && text.contains(origin.as_deref().unwrap_or("mark")), "{text}");
        let later = Foreign { example: "another".to_owned(), count: 7, ..decided.foreign[0].clone() };
        assert_eq!(
            later.to_string(),
            text,
            "what changes all the time would be written to a status each time"
        );
    }
}

#[test]
fn what_was_made_before_there_were_marks_is_fine_as_long_as_it_is_on_record() {
    let unmarked = FoundMachine { mark: None, ..machine("1", OWN) };
    let findings = found(vec![unmarked.clone()], vec![registration(&unmarked.runner, None, 0)]);
    let known = Known::Recorded(Box::new(runner("1", 1).launched(2)));
    assert_eq!(look(&findings, known, 1000), Remedies::default());
}

#[test]
fn another_installation_of_our_labels_is_told() {
    let theirs = "other-00000000000000aa";
    let findings = found(
        Vec::new(),
        vec![
            registration(theirs, Some(OTHER), 0),
            registration("other-00000000000000ab", Some(OTHER), 0),
            FoundRegistration { labels: vec!["gpu".to_owned()], ..registration(theirs, Some(OTHER), 0) },
            registration("build-machine-7", None, 0),
        ],
    );
    let decided = look(&findings, Known::Nothing, 1000);
    assert_eq!(show(&decided), Vec::<String>::new());
    let [foreign] = decided.foreign.as_slice() else { panic!("{decided:?}") };
    assert_eq!((foreign.way, foreign.count, foreign.installation.as_str()), (Way::SameLabels, 2, "other"));
}

#[test]
fn a_registration_alone_goes_after_a_grace_unless_it_may_have_a_machine() {
    let name = runner_name("stint", &key("1"), 1);
    let mut findings = found(Vec::new(), vec![registration(&name, Some(OWN), 100)]);
    assert_eq!(look(&findings, Known::Nothing, 100).again_at, Some(at(190)));
    assert_eq!(show(&look(&findings, Known::Nothing, 189)), Vec::<String>::new());
    assert_eq!(show(&look(&findings, Known::Nothing, 190)), [format!("Deregister {name}")]);
    assert_eq!(look(&findings, Known::Reserved, 190), Remedies::default());
    findings.all_machines = false;
    assert_eq!(show(&look(&findings, Known::Nothing, 190)), Vec::<String>::new());
    findings.all_machines = true;
    findings.registrations[0].busy = true;
    assert_eq!(show(&look(&findings, Known::Nothing, 190)), Vec::<String>::new(), "it runs a job somewhere");
    findings.registrations[0].busy = false;
    findings.machines.push(machine("1", OWN));
    assert_eq!(show(&look(&findings, Known::Nothing, 190)), [format!("Adopt {name}")], "the source is asked");
}

#[test]
fn a_credential_alone_goes_at_once() {
    let name = runner_name("stint", &key("1"), 1);
    let mut findings = Findings { credentials: vec![name.clone()], ..found(Vec::new(), Vec::new()) };
    assert_eq!(show(&look(&findings, Known::Nothing, 1)), [format!("DeleteCredential {name}")]);
    assert_eq!(look(&findings, Known::Reserved, 1), Remedies::default());
    findings.all_pods = false;
    assert_eq!(show(&look(&findings, Known::Nothing, 1)), Vec::<String>::new(), "a pod may mount it");
    findings.all_pods = true;
    findings.machines.push(FoundMachine { mark: None, group: None, ..machine("1", OWN) });
    assert_eq!(
        show(&look(&findings, Known::Nothing, 1)),
        Vec::<String>::new(),
        "a pod of the name mounts it"
    );
    findings.machines.clear();
    // A machine that is not running yet may still mount it.
    findings.machines.push(machine("1", OWN));
    assert_eq!(show(&look(&findings, Known::Nothing, 1)), [format!("Adopt {name}")]);
}

#[test]
fn names_tell_whose_they_may_be() {
    for (name, expect) in [
        ("stint-0123456789abcdef", Some("stint")),
        ("c-0123456789abcdef", Some("c")),
        // Neither an id with a dash, nor another hash.
        ("b-c-0123456789abcdef", None),
        ("stint-0123456789abcde", None),
        ("stint-0123456789ABCDEF", None),
        ("7up-0123456789abcdef", None),
        ("ninechars-0123456789abcdef", None),
        ("stint", None),
    ] {
        assert_eq!(installation_of(name), expect, "{name}");
    }
    assert!(is_name_of("stint", &runner_name("stint", &key("1"), 1)));
}

fn plain() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,20}"
}

proptest! {
    #[test]
    fn a_mark_is_read_back_as_it_was_written(
        source in plain(), class in plain(), size in "[a-z0-9=/]{0,12}", place in plain(),
        id in any::<u64>(), attempt in any::<u32>(), ordinal in any::<u32>(),
        kind in 0..3_usize, at_repository in any::<bool>(), registered in proptest::option::of(any::<u64>()),
    ) {
        let kind = [PlaceKind::VirtualNode, PlaceKind::ContainerInstances, PlaceKind::NodePool][kind];
        let scope = if at_repository {
            Scope::Repository("acme/Web_1.x".to_owned())
        } else {
            Scope::Owner("acme".to_owned())
        };
        let before = runner("1", 1);
        let runner = Runner {
            job: JobKey { source, id: id.to_string(), attempt },
            ordinal,
            matched: crate::labels::Matched { class, size },
            place,
            kind,
            scope,
            ..before
        };
        let mut mark = Mark::of(&runner, OWN);
        mark.registration = registered.map(|id| (id, "ab".repeat(32)));
        prop_assert_eq!(Mark::read(&mark.environment()), Some(mark));
    }

    /// What could lead elsewhere when it is shown or used is in no environment.
    #[test]
    fn nothing_but_plain_values_is_ever_written(id in ".{0,40}", class in ".{0,40}", owner in ".{0,40}") {
        let before = runner("1", 1);
        let runner = Runner {
            job: JobKey { id, ..before.job.clone() },
            matched: crate::labels::Matched { class, size: String::new() },
            scope: Scope::Owner(owner),
            ..before
        };
        for (name, value) in Mark::of(&runner, OWN).environment() {
            let fine = |one: char| one.is_ascii_alphanumeric() || "._-=/:".contains(one);
            prop_assert!(!value.is_empty() && value.chars().all(fine), "{name}={value:?}");
        }
    }
}
