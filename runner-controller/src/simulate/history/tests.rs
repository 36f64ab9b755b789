use super::*;

const FULL: &str = r#"{"id": "a", "queuedAt": "2026-01-05T09:00:00Z", "seconds": 90.5, "repository": "acme/web", "labels": ["stint", "linux"], "source": "acme", "public": true, "workflow": "ci", "name": "build", "conclusion": "failure", "cancelledAt": "2026-01-05T09:10:00Z"}"#;

fn only(jobs: Vec<PastJob>) -> PastJob {
    assert_eq!(jobs.len(), 1);
    jobs.into_iter().next().unwrap()
}

#[test]
fn json_lines_and_csv_say_the_same() {
    let csv = "id,queuedAt,seconds,repository,labels,source,public,workflow,name,conclusion,cancelledAt\n\
               a,2026-01-05T09:00:00Z,90.5,acme/web,stint;linux,acme,true,ci,build,failure,2026-01-05T09:10:00Z\n";
    let job = only(of_json_lines(FULL.as_bytes()).unwrap());
    assert_eq!(job, only(of_csv(csv.as_bytes()).unwrap()));
    assert_eq!((job.duration, job.owner()), (SignedDuration::from_millis(90_500), "acme"));
}

#[test]
fn what_is_written_is_read_back() {
    let job = only(of_json_lines(FULL.as_bytes()).unwrap());
    let line = serde_json::to_string(&job).unwrap();
    assert_eq!(only(of_json_lines(line.as_bytes()).unwrap()), job);
}

#[test]
fn absent_fields_have_defaults_and_jobs_come_in_order() {
    let text = "queuedAt,seconds,repository,labels,workflow\n\
                2026-01-05T10:00:00Z,5,acme/web,stint,\n\
                2026-01-05T09:00:00+01:00,6,acme/api,stint,ci\n";
    let jobs = of_csv(text.as_bytes()).unwrap();
    let seen: Vec<(&str, i64, Option<&str>)> =
        jobs.iter().map(|job| (job.id.as_str(), job.duration.as_secs(), job.workflow.as_deref())).collect();
    assert_eq!(seen, [("3", 6, Some("ci")), ("2", 5, None)]);
}

#[test]
fn what_cannot_be_used_is_named_with_line_field_value_and_remedy() {
    #[track_caller]
    fn check(change: (&str, &str), words: &[&str]) {
        assert!(FULL.contains(change.0));
        let text = format!("{FULL}\n\n{}\n", FULL.replace(change.0, change.1));
        let error = format!("{:#}", of_json_lines(text.as_bytes()).unwrap_err());
        for word in ["line 3"].iter().chain(words) {
            assert!(error.contains(word), "{word:?} is missing in: {error}");
        }
    }
    check(("\"seconds\"", "\"secs\""), &["\"secs\"", "no such field", "seconds"]);
    check(("90.5", "-1"), &["seconds", "-1", "90"]);
    check(("90.5", "\"long\""), &["seconds", "\"long\""]);
    check(("2026-01-05T09:00:00Z", "yesterday"), &["queuedAt", "\"yesterday\"", "RFC 3339"]);
    check(("\"acme/web\"", "\"web\""), &["repository", "\"web\"", "owner/name"]);
    check(("[\"stint\", \"linux\"]", "[]"), &["labels", "[]", "runs-on"]);
    check(("[\"stint\", \"linux\"]", "\"stint\""), &["labels", "\"stint\""]);
    check(("true", "1"), &["public", "1", "true nor false"]);
    check(("\"ci\"", "7"), &["workflow", "7", "quotes"]);
    check(("\"ci\"", "\"\""), &["workflow", "empty"]);
    check(("T09:10", "T08:10"), &["cancelledAt", "2026-01-05T08:10:00Z", "before"]);
    check(("\"labels\": [\"stint\", \"linux\"], ", ""), &["labels is missing"]);
    check(("{", "["), &["not a JSON object", "queuedAt"]);
}

#[test]
fn csv_says_where_too() {
    let error = |text: &str| format!("{:#}", of_csv(text.as_bytes()).unwrap_err());
    let header = "queuedAt,seconds,repository,labels\n";
    assert!(error("queuedAt,secs\n").contains("line 1: \"secs\""));
    let bad = error(&format!(
        "{header}2026-01-05T09:00:00Z,5,acme/web,stint\n2026-01-05T09:00:00Z,x,acme/web,stint\n"
    ));
    assert!(bad.contains("line 3: seconds: \"x\""), "{bad}");
    assert!(error(&format!("{header}2026-01-05T09:00:00Z,5\n")).contains("line 2"));
    assert!(error(header).contains("holds no job"));
}
