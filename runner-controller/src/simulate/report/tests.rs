use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::record::{JobRecord, Outcome};
use super::plot::escape;
use super::*;

const EVIL: &str = "a/b<script>alert('1')</script>&\"";

fn report(jobs: &[PastJob], compared: bool) -> Report<'_> {
    let ran = || Ran {
        jobs: jobs
            .iter()
            .map(|job| JobRecord {
                outcome: Outcome::Refused("NoClassNamed"),
                started_at: None,
                ended_at: job.queued_at,
                class: None,
                place: None,
                runners: 0,
                waited: vec![("NoClassNamed", SignedDuration::from_secs(7))],
            })
            .collect(),
        bills: Vec::new(),
        gauges: Vec::new(),
        timeline: Vec::new(),
        bin: SignedDuration::from_secs(60),
        runner_ends: BTreeMap::new(),
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::UNIX_EPOCH,
        passes: 1,
    };
    Report::new(jobs, ("first <config>", ran()), compared.then(|| ("second", ran())))
}

fn evil() -> Vec<PastJob> {
    vec![PastJob {
        id: "=1+1".to_owned(),
        queued_at: Timestamp::UNIX_EPOCH,
        duration: SignedDuration::from_secs(1),
        repository: EVIL.to_owned(),
        labels: vec!["x".to_owned()],
        source: None,
        public: false,
        workflow: Some("a,b\n\"c\"".to_owned()),
        name: None,
        conclusion: None,
        cancelled_at: None,
    }]
}

#[test]
fn nothing_from_input_reaches_the_page_unescaped() {
    let jobs = evil();
    for compared in [false, true] {
        let page = report(&jobs, compared).page();
        assert!(!page.contains("<script") && !page.contains("<config>"), "{page}");
        assert!(page.contains(&escape(EVIL)) && page.contains("first &lt;config&gt;"));
    }
}

#[test]
fn the_page_asks_nothing_of_others_and_tells_of_each_plot() {
    let jobs = evil();
    let page = report(&jobs, true).page();
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let count = |text: &str| page.matches(text).count();
    assert_eq!((count("<svg"), count("role=\"img\"")), (4, 4), "two plots for each, and no cost");
    assert_eq!(count("<title id="), 4);
    assert!(page.contains("color-scheme:light dark") && page.contains("prefers-color-scheme:dark"));
}

#[test]
fn jobs_are_csv_whatever_they_are_called() {
    let jobs = evil();
    let text = csv_jobs::of(&jobs, &report(&jobs, false).first.ran).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let row: BTreeMap<String, String> = reader.deserialize().next().unwrap().unwrap();
    assert_eq!((row["repository"].as_str(), row["workflow"].as_str()), (EVIL, "a,b\n\"c\""));
    assert_eq!((row["outcome"].as_str(), row["reason"].as_str()), ("refused", "NoClassNamed"));
}

#[test]
fn jobs_that_never_start_are_noted_in_the_table() {
    let jobs = evil();
    let table = report(&jobs, false).table();
    assert!(
        table.contains("1 refused NoClassNamed") && table.contains("note: 1 job never started"),
        "{table}"
    );
}

#[test]
fn spans_and_figures_read_well() {
    let spans = [0.0, 35.4, 99.0, 125.0, 3600.0, 100_000.0].map(span);
    assert_eq!(spans, ["0s", "35s", "99s", "2m05s", "1h00m", "27h46m"]);
    assert_eq!([1.0, 0.5, 0.126, 100.0].map(figure), ["1", "0.5", "0.13", "100"]);
}
