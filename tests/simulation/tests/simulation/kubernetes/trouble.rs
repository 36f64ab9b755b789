//! What goes wrong between the adapter and the server.

use std::sync::Arc;
use std::time::Duration;

use runner_core::job::{JobAction, Standing};
use runner_core::lifecycle::RunnerFact;
use runner_core::reason::Reason;
use simulation::kubernetes::{Verb, Verdict};
use stint::ports::{CallErrorKind, Records, Stored};
use tokio::time::{Instant, sleep, timeout};

use super::names;
use super::stage::{Script, key, new_runner, records, run, server, told, until};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn own_writes_show_at_once_and_those_of_others_when_the_watch_brings_them() {
    run(async {
        let (server, script) = server();
        script.lags("a", Duration::from_secs(60));
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        one.create_runner(&new_runner("own"), stint::clock::now()).await.unwrap();
        one.record("own", &[RunnerFact::BusySeen(stint::clock::now())]).await.unwrap();
        other.create_runner(&new_runner("foreign"), stint::clock::now()).await.unwrap();
        assert!(one.runner("own").unwrap().facts.busy_seen.is_some());
        let written = Instant::now();
        until(|| one.runner("foreign").is_some()).await;
        assert_eq!(written.elapsed().as_secs(), 60);
        assert!(one.runner("own").unwrap().facts.busy_seen.is_some());
    });
}

#[test]
fn less_lag_is_felt_once_the_watches_are_told() {
    run(async {
        let (server, script) = server();
        script.lags("a", LONG);
        let one = records(&server, "a").await;
        server.put("RunnerClass", serde_json::json!({"metadata": {"name": "c"}, "spec": {}}));
        script.lags("a", Duration::ZERO);
        server.lag_changed();
        until(|| {
            !one.documents().unwrap().unreadable.is_empty() || !one.documents().unwrap().classes.is_empty()
        })
        .await;
    });
}

#[test]
fn after_410_the_list_is_read_again() {
    run(async {
        let (server, script) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        other.create_runner(&new_runner("gone"), stint::clock::now()).await.unwrap();
        until(|| one.runner("gone").is_some()).await;
        script.lags("a", LONG);
        other.release("gone").await.unwrap();
        other.create_runner(&new_runner("made"), stint::clock::now()).await.unwrap();
        server.expire_watches("a");
        until(|| one.runner("gone").is_none() && one.runner("made").is_some()).await;
    });
}

#[test]
fn a_swap_whose_answer_was_lost_is_read_before_the_next_one() {
    run(async {
        let (server, script) = server();
        let records = records(&server, "a").await;
        records.take_over("a", "ledger", false).await.unwrap();
        script.next(Verb::Replace, "Admission", Verdict::CommitThenLose);
        let lost = records.reserve(&names(&["r1"])).await.unwrap_err();
        assert_eq!(lost.kind, CallErrorKind::Unavailable);
        assert_eq!(
            server.get("Admission", "default").unwrap()["spec"]["reserved"],
            serde_json::json!(["r1"])
        );
        records.reserve(&names(&["r2"])).await.unwrap();
        assert!(records.is_reserved("r1") && records.is_reserved("r2"));
    });
}

#[test]
fn a_call_that_is_dropped_was_carried_out_or_not() {
    run(async {
        let (server, script) = server();
        let records = records(&server, "a").await;
        for (carried_out, expect) in [(false, None), (true, Some(Stored::Known))] {
            script.next(Verb::Create, "RunnerJob", Verdict::Hang { carried_out, until: None });
            let queued = told("1", "d1", JobAction::Queued);
            assert!(timeout(Duration::from_secs(5), records.tell(&queued)).await.is_err());
            assert_eq!(server.get("RunnerJob", "acme-1-1").is_some(), carried_out);
            until(|| records.knows_job(&key("1")) == carried_out).await;
            if let Some(stored) = expect {
                assert_eq!(records.tell(&queued).await.unwrap(), stored);
            }
        }
    });
}

#[test]
fn refusals_reach_the_adapter_as_what_they_are() {
    run(async {
        let (server, script) = server();
        let records = records(&server, "a").await;
        let queued = told("1", "d1", JobAction::Queued);
        for (verdict, expect) in [
            (Verdict::FailBefore(500), CallErrorKind::Unavailable),
            (Verdict::FailBefore(403), CallErrorKind::Refused),
            (Verdict::LoseBefore, CallErrorKind::Unavailable),
        ] {
            script.next(Verb::Create, "RunnerJob", verdict);
            assert_eq!(records.tell(&queued).await.unwrap_err().kind, expect, "{verdict:?}");
        }
        assert!(server.list("RunnerJob").is_empty());
        // kube's client waits as long as it is told, and tries again.
        script.next(Verb::Create, "RunnerJob", Verdict::Throttle(7));
        let asked = Instant::now();
        assert_eq!(records.tell(&queued).await.unwrap(), Stored::NewJob);
        assert_eq!(asked.elapsed().as_secs(), 7);
    });
}

#[test]
fn a_partition_fails_calls_and_breaks_watches_until_it_ends() {
    run(async {
        let (server, _) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        server.disconnect("a", Some(Instant::now() + Duration::from_secs(60)));
        let failed = one.tell(&told("1", "d1", JobAction::Queued)).await.unwrap_err();
        assert_eq!(failed.kind, CallErrorKind::Unavailable);
        other.create_runner(&new_runner("r1"), stint::clock::now()).await.unwrap();
        sleep(Duration::from_secs(30)).await;
        assert!(one.runner("r1").is_none());
        until(|| one.runner("r1").is_some()).await;
    });
}

#[test]
fn after_a_restore_everything_is_listed_again_although_the_watches_ended_without_an_error() {
    run(async {
        let (server, _) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        let before = server.snapshot();
        for name in ["r1", "r2", "r3"] {
            other.create_runner(&new_runner(name), stint::clock::now()).await.unwrap();
        }
        until(|| one.runner("r3").is_some()).await;
        server.restore(&before);
        assert!(server.list("Runner").is_empty());
        other.create_runner(&new_runner("r4"), stint::clock::now()).await.unwrap();
        until(|| one.runner("r1").is_none() && one.runner("r4").is_some()).await;
    });
}

#[test]
fn a_watch_of_a_server_restored_with_raised_versions_lists_again() {
    run(async {
        let (server, _) = server();
        let (one, other) = (records(&server, "a").await, records(&server, "b").await);
        other.create_runner(&new_runner("kept"), stint::clock::now()).await.unwrap();
        let before = server.snapshot();
        other.create_runner(&new_runner("lost"), stint::clock::now()).await.unwrap();
        until(|| one.runner("lost").is_some()).await;
        server.restore_raised(&before, 1000);
        until(|| one.runner("lost").is_none() && one.runner("kept").is_some()).await;
        other.create_runner(&new_runner("new"), stint::clock::now()).await.unwrap();
        until(|| one.runner("new").is_some()).await;
    });
}

#[test]
fn a_write_that_is_never_answered_fails() {
    run(async {
        let (server, script) = server();
        let records = records(&server, "a").await;
        script.next(Verb::Create, "RunnerJob", Verdict::Hang { carried_out: true, until: None });
        let asked = Instant::now();
        let failed = records.tell(&told("1", "d1", JobAction::Queued)).await.unwrap_err();
        assert_eq!((failed.kind, asked.elapsed().as_secs()), (CallErrorKind::Unavailable, 15));
    });
}

#[test]
fn watches_outlast_hours_without_an_event() {
    run(async {
        let (server, _) = server();
        let one = records(&server, "a").await;
        sleep(Duration::from_secs(7200)).await;
        server.put("RunnerClass", serde_json::json!({"metadata": {"name": "c"}, "spec": {"maxRunners": 1}}));
        let written = Instant::now();
        until(|| {
            !one.documents().unwrap().unreadable.is_empty() || !one.documents().unwrap().classes.is_empty()
        })
        .await;
        assert!(written.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn the_same_sequence_leaves_the_same_journal() {
    fn events(script: &Script) -> usize {
        script.journal().iter().filter(|line| line.contains(" Event ")).count()
    }
    fn journal() -> Vec<String> {
        run(async {
            let (server, script) = server();
            let (one, other) = (records(&server, "a").await, records(&server, "b").await);
            let (one, other) = (Arc::new(one), Arc::new(other));
            one.take_over("a", "ledger", false).await.unwrap();
            script.lags("b", Duration::from_millis(700));
            let mut tasks = Vec::new();
            for (number, records) in [&one, &other, &one, &other, &one].into_iter().enumerate() {
                let records = records.clone();
                tasks.push(tokio::spawn(async move {
                    let name = format!("r{number}");
                    drop(records.tell(&told("1", &name, JobAction::Queued)).await);
                    drop(records.reserve(std::slice::from_ref(&name)).await);
                    drop(records.create_runner(&new_runner(&name), stint::clock::now()).await);
                    drop(records.record(&name, &[RunnerFact::Registering(stint::clock::now())]).await);
                }));
            }
            // Watches fail and are taken up again after pauses that have a random part.
            server.disconnect("a", Some(Instant::now() + Duration::from_secs(3)));
            for task in tasks {
                task.await.unwrap();
            }
            sleep(LONG).await;
            until(|| one.observe().unwrap().runners.len() == server.list("Runner").len()).await;
            let paused = Reason::LimitPaused { limit: "x".to_owned() };
            for count in [1, 2] {
                one.announce(&key("1"), Standing::Waiting, &paused);
                until(|| events(&script) == count).await;
            }
            one.release("r0").await.unwrap();
            let mut lines = script.journal();
            lines.push(format!("{} {}", stint::clock::now(), server.version()));
            lines.extend(server.list("Runner").iter().map(ToString::to_string));
            lines
        })
    }
    let first = journal();
    assert!(first.len() > 10, "{first:#?}");
    assert_eq!(first, journal());
}
