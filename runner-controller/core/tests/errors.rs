//! Every reason code has its page in `docs/errors`, and every page its code.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use runner_core::reason::Reason;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

#[test]
fn pages_and_codes_are_the_same() {
    let pages: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".md").map(str::to_owned))
        .filter(|page| page != "README")
        .collect();
    let codes: BTreeSet<String> = Reason::CODES.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(pages, codes);
}

#[test]
fn each_page_says_what_it_means_why_and_what_to_do() {
    for code in Reason::CODES {
        let page = fs::read_to_string(folder().join(format!("{code}.md"))).unwrap();
        for part in [&format!("# {code}\n"), "\n## What it means\n", "\n## Cause\n", "\n## What to do\n"] {
            assert!(page.contains(part), "{code}.md lacks {part:?}");
        }
    }
}

#[test]
fn the_index_lists_every_page_once() {
    let index = fs::read_to_string(folder().join("README.md")).unwrap();
    for code in Reason::CODES {
        assert_eq!(index.matches(&format!("({code}.md)")).count(), 1, "{code}");
    }
}
