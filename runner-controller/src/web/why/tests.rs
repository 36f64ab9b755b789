use std::sync::Arc;

use runner_core::job::{Findings, JobDescription, JobKey, JobReport};
use runner_core::reason::Reason;

use super::*;

fn job(id: &str, run: &str, name: &str, attempt: u32) -> Job {
    Job {
        key: JobKey { source: "acme".to_owned(), id: id.to_owned(), attempt },
        description: JobDescription {
            owner: "acme".to_owned(),
            repository: "acme/web".to_owned(),
            public: false,
            name: name.to_owned(),
            workflow: None,
            url: Some(format!("https://github.com/acme/web/actions/runs/{run}/job/{id}")),
            labels: Vec::new(),
            created_at: None,
            head_sha: None,
            head_branch: None,
            run: None,
        },
        stored_at: Timestamp::UNIX_EPOCH,
        facts: Vec::new(),
        found: Findings::default(),
        report: JobReport::default(),
    }
}

#[test]
fn a_job_is_found_by_whatever_people_have_at_hand() {
    let jobs = [
        job("11", "7", "build", 1),
        job("12", "7", "Test (3)", 1),
        job("13", "8", "build", 2),
        // A name like another's id.
        job("14", "9", "11", 1),
    ];
    let at = |path: &str| format!("https://github.com/{path}");
    for (of, expect) in [
        ("acme-11-1".to_owned(), "11"),
        ("11".to_owned(), "11"),
        ("build".to_owned(), "11 13"),
        ("test (3)".to_owned(), "12"),
        (at("acme/web/actions/runs/7/job/12"), "12"),
        (at("acme/web/actions/runs/7/job/12?pr=4#step:3:1"), "12"),
        (at("acme/web/actions/runs/7/job/12#step:3:1"), "12"),
        (at("ACME/Web/actions/runs/7/job/12/"), "12"),
        (at("acme/web/runs/12?check_suite_focus=true"), "12"),
        (at("acme/web/actions/runs/7"), "11 12"),
        (at("acme/web/actions/runs/7/?pr=4"), "11 12"),
        (at("acme/web/actions/runs/8/attempts/2"), "13"),
        (at("acme/web/actions/runs/8/attempts/1"), ""),
        (at("acme/web/actions/runs/8/attempts/2/job/13"), "13"),
        ("https://api.github.com/repos/acme/web/actions/jobs/12".to_owned(), "12"),
        ("http://ghes.example/api/v3/repos/acme/web/actions/jobs/12".to_owned(), "12"),
        // Others'.
        (at("acme/api/actions/runs/7/job/12"), ""),
        (at("acme/web/actions/runs/77"), ""),
        (at("acme/web"), ""),
        ("https://".to_owned(), ""),
        ("99".to_owned(), ""),
    ] {
        let found: Vec<&str> = meant_by(&of, &jobs).into_iter().map(|job| job.key.id.as_str()).collect();
        assert_eq!(found.join(" "), expect, "{of}");
    }
}

#[test]
fn waits_are_forecast_where_few_jobs_are_meant() {
    let jobs: Vec<Job> = (0..6).map(|id| job(&id.to_string(), "7", "build", 1)).collect();
    let full = Arc::new(Reason::InstallationFull { running: 2, limit: 2 });
    let reasons = jobs.iter().map(|job| (job.key.clone(), full.clone())).collect();
    let waiting = Waiting { reasons, line: Vec::new() };
    for (count, expect) in [(1, true), (5, true), (6, false)] {
        let meant: Vec<&Job> = jobs.iter().take(count).collect();
        let answers = answers(&meant, &jobs, &waiting, Timestamp::UNIX_EPOCH);
        assert_eq!(answers.len(), count);
        for answer in answers {
            assert_eq!((answer.wait.is_some(), answer.in_line.is_some()), (expect, expect), "{count}");
            assert!(answer.why.is_some());
        }
    }
}

#[test]
fn of_many_jobs_the_newest_are_told_of() {
    let mut jobs: Vec<Job> = (1000..1150).map(|id| job(&id.to_string(), "7", "build", 1)).collect();
    for (job, second) in jobs.iter_mut().zip(0..) {
        job.stored_at = Timestamp::from_second(second).unwrap();
    }
    let mut meant = meant_by("build", &jobs);
    only_first(&mut meant);
    let ids: Vec<&str> = meant.iter().map(|job| job.key.id.as_str()).collect();
    assert_eq!((ids.len(), ids.first(), ids.last()), (MOST, Some(&"1149"), Some(&"1050")));
}

#[test]
fn a_repository_may_be_called_actions() {
    let mut jobs = [job("12", "7", "build", 1)];
    jobs[0].description.repository = "acme/actions".to_owned();
    jobs[0].description.url = Some("https://github.com/acme/actions/actions/runs/7/job/12".to_owned());
    for of in [
        "https://github.com/acme/actions/actions/runs/7/job/12?pr=1",
        "https://api.github.com/repos/acme/actions/actions/jobs/12",
        "https://github.com/acme/actions/actions/runs/7",
    ] {
        assert_eq!(meant_by(of, &jobs).len(), 1, "{of}");
    }
}
