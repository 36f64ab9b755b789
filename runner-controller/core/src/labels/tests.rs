use super::*;
use crate::testing::{class, setup, words};

fn classes() -> Setup {
    let mut setup = setup();
    setup.classes.insert("big".to_owned(), class("big", &["s", "L"]));
    setup.classes.insert("big-gpu".to_owned(), class("big-gpu", &[""]));
    setup.classes.insert("a".to_owned(), class("a", &["b-c"]));
    setup.classes.insert("a-b".to_owned(), class("a-b", &["c"]));
    setup.classes.get_mut("stint").unwrap().labels = words("gpu größe linux");
    setup
}

#[test]
fn labels_name_one_class_and_size_or_say_why_not() {
    let setup = classes();
    let check = |labels: &str, expect: Result<&str, &str>| {
        let found = match_class(&setup, &words(labels));
        let found = found.as_ref().map(Matched::label).map_err(Reason::code);
        assert_eq!(found, expect.map(str::to_owned), "{labels}");
    };
    check("stint", Ok("stint"));
    check("STINT", Ok("stint"));
    check("stint stint", Ok("stint"));
    check("self-hosted Linux X64 stint", Ok("stint"));
    check("stint gpu", Ok("stint"));
    check("stint GRÖSSE", Err("LabelNotCarried"));
    check("stint GRÖßE", Ok("stint"));
    check("big-s", Ok("big-s"));
    check("big-l", Ok("big-L"));
    check("big-gpu", Ok("big-gpu"));
    check("", Err("NoClassNamed"));
    check("self-hosted", Err("NoClassNamed"));
    check("stintx", Err("NoClassNamed"));
    check("stint-large", Err("NoClassNamed"));
    check("big", Err("SizeMissing"));
    check("big-xl", Err("SizeUnknown"));
    check("big-s big-xl", Err("LabelNotCarried"));
    check("big-s big-l", Err("SeveralClassesNamed"));
    check("stint big-s", Err("SeveralClassesNamed"));
    check("a-b-c", Err("SeveralClassesNamed"));
    check("stint arm64", Err("LabelNotCarried"));
    check("big-s gpu", Err("LabelNotCarried"));
}

#[test]
fn the_reason_names_what_was_written() {
    let reason = match_class(&classes(), &words("stint ARM64")).unwrap_err();
    assert_eq!(reason, Reason::LabelNotCarried { class: "stint".to_owned(), label: "ARM64".to_owned() });
    let reason = match_class(&classes(), &words("big-xl")).unwrap_err();
    assert_eq!(reason.sentence(), "class big has no size xl: ask for one of big-L, big-s");
}

#[test]
fn a_runner_registers_with_each_label_once() {
    let setup = classes();
    let matched = Matched { class: "stint".to_owned(), size: String::new() };
    let labels = registered_labels(&setup.classes["stint"], &matched);
    assert_eq!(labels, words("stint self-hosted linux x64 gpu größe"));
}

#[test]
fn what_matches_is_covered_by_what_is_registered() {
    let setup = classes();
    for asked in ["stint", "Self-Hosted STINT GPU", "stint GRÖßE", "big-L", "x64 BIG-s"] {
        let asked = words(asked);
        let matched = match_class(&setup, &asked).unwrap();
        let carried = registered_labels(&setup.classes[&matched.class], &matched);
        assert!(covers(&carried, &asked), "{asked:?} by {carried:?}");
    }
    assert!(covers(&[], &[]));
    assert!(!covers(&words("stint"), &words("stint gpu")));
}
