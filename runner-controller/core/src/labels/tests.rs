use super::*;
use crate::setup::CustomSize;
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

/// `stint` of a single size, and `big` with sizes, both with custom ones from 1 to 8 cores and 2 to 32 GiB.
fn custom() -> Setup {
    let mut setup = classes();
    let bounds = CustomSize { cpu_millis: (1000, 8000), memory_bytes: (2 << 30, 32 << 30) };
    for name in ["stint", "big"] {
        setup.classes.get_mut(name).unwrap().custom_size = Some(bounds);
    }
    setup
}

#[test]
fn a_job_may_ask_for_a_size_of_its_own_within_the_bounds() {
    let setup = custom();
    let check = |label: &str, expect: Result<(u32, u64), &str>| {
        let found = match_class(&setup, &words(label)).map(|matched| {
            assert_eq!(
                matched.label().to_lowercase(),
                label.to_lowercase(),
                "GitHub compares the whole label"
            );
            let size = matched.size_in(&setup.classes[&matched.class]).unwrap();
            (size.cpu_millis, size.memory_bytes >> 20)
        });
        match (found, expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{label}"),
            (Err(reason), Err(words)) => {
                assert_eq!(reason.code(), "CustomSizeRefused", "{label}");
                assert!(reason.sentence().contains(words), "{label}: {}", reason.sentence());
            }
            (found, _) => panic!("{label}: {found:?}"),
        }
    };
    check("stint/cpu=4/mem=16", Ok((4000, 16 << 10)));
    check("stint/mem=16/cpu=4", Ok((4000, 16 << 10)));
    check("STINT/CPU=1.5/MEM=2.5", Ok((1500, 2560)));
    check("big/cpu=8/mem=32", Ok((8000, 32 << 10)));
    check("stint/cpu=4", Ok((4000, 4 << 10)));
    check("stint/mem=8", Ok((2000, 8 << 10)));
    check("big/cpu=4", Err("both cpu and mem"));
    check("stint/cpu=9/mem=16", Err("cpu=9 is not between 1 and 8"));
    check("stint/cpu=4/mem=1.5", Err("mem=1.5 is not between 2 and 32 (GiB)"));
    check("stint/cpu=-4/mem=8", Err("no number: write it as stint/cpu=4/mem=16"));
    check("stint/cpu=4/cpu=4", Err("cpu stands twice"));
    check("stint/cpu=4/gpu=1", Err("\"gpu=1\" is neither"));
    check("stint/", Err("neither cpu=… nor mem=…"));
    check("stint/cpu=99999999999999999999", Err("no number"));
    check("stint/cpu=4/mem=18446744073709551", Err("is not between"));
    check("big-gpu/cpu=4/mem=16", Err("offers no sizes but its own"));
}

#[test]
fn a_custom_size_and_a_size_together_are_several() {
    let found = match_class(&custom(), &words("stint stint/cpu=4/mem=16")).map_err(|reason| reason.code());
    assert_eq!(found, Err("SeveralClassesNamed"));
}
