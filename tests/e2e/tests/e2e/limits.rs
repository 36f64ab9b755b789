//! Limits that admins set while jobs run.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Bed, BedOptions, NAMESPACE};
use emulator_github::{Conclusion, JobSpec};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_all_but_protected_branches_holds_a_forks_main_back_and_not_the_real_one() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    bed.github.set_branch("acme/app", "main", true)?;
    let paused = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ConcurrencyLimit",
        "metadata": {"name": "proposals", "namespace": NAMESPACE},
        "spec": {"match": {"protectedBranch": false}, "paused": true},
    });
    bed.cluster.apply(&paused.to_string())?;
    bed.eventually("the limit to be in use", Duration::from_secs(20), |bed| {
        let limits = bed.objects("concurrencylimits")?;
        let ready = limits.iter().any(|limit| limit.pointer("/status/ready") == Some(&json!("True")));
        Ok(if ready { Ok(()) } else { Err(format!("{limits:?}")) })
    })
    .await?;
    // GitHub would hand the runner of the one to the other, which is older.
    bed.github.hold_assignment(true);
    let forks = bed.github.queue_job(bed.job().from_fork("mallory/app"))?;
    let real = bed.github.queue_job(bed.job())?;
    let waiting = bed.job_stands(forks, "Waiting", Duration::from_secs(60)).await?;
    bed.eventually("both to be known", Duration::from_secs(60), |bed| {
        let of =
            |id| bed.job_status(id).map(|status| status.and_then(|one| one.get("protectedBranch").cloned()));
        let both = (of(forks)?, of(real)?);
        Ok(if both == (Some(json!(false)), Some(json!(true))) { Ok(()) } else { Err(format!("{both:?}")) })
    })
    .await?;
    let why = |status: &Value| status.get("reason").and_then(Value::as_str).map(str::to_owned);
    assert!(matches!(why(&waiting).as_deref(), Some("ReadingBranch" | "LimitPaused")), "{waiting:?}");
    let started_for = bed
        .eventually("a runner", Duration::from_secs(60), |bed| {
            let rows = bed.objects("runners")?;
            let jobs: Vec<_> = rows.iter().filter_map(|one| one.pointer("/spec/jobId").cloned()).collect();
            Ok(if jobs.is_empty() { Err("none".to_owned()) } else { Ok(jobs) })
        })
        .await?;
    assert_eq!(started_for, [json!(real.to_string())]);
    Ok(())
}

fn limit(runners: u32) -> String {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ConcurrencyLimit",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {"match": {"repositories": ["acme/app"]}, "max": {"runners": runners}},
    })
    .to_string()
}

/// Applies the limit, and waits until it is in use.
async fn apply(bed: &Bed, runners: u32) -> Result<()> {
    bed.cluster.apply(&limit(runners))?;
    bed.eventually("the limit to be in use", Duration::from_secs(20), |bed| {
        let ready = bed.cluster.kubectl(&[
            "get",
            "concurrencylimit",
            "app",
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.status.ready}",
        ])?;
        Ok(if ready == "True" { Ok(()) } else { Err(ready) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_lowered_live_ends_nothing_and_raised_lets_the_next_job_start() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    apply(&bed, 2).await?;
    let ids = (0..3).map(|_| bed.github.queue_job(bed.job())).collect::<Result<Vec<_>>>()?;
    let last = *ids.last().context("three jobs")?;
    // Which of the three waits is GitHub's choice as much as ours.
    let waiting = bed
        .eventually("two jobs to run and one to wait", Duration::from_secs(60), |bed| {
            let jobs = bed.objects("runnerjobs")?;
            let of = |state: &str| {
                let is = |job: &&Value| job.pointer("/status/state").and_then(Value::as_str) == Some(state);
                jobs.iter().filter(is).collect::<Vec<_>>()
            };
            Ok(match (of("Running").len(), of("Waiting").as_slice()) {
                (2, [one]) => Ok((*one).clone()),
                _ => Err(format!("{jobs:?}")),
            })
        })
        .await?;
    assert_eq!(waiting.pointer("/status/reason").and_then(Value::as_str), Some("LimitReached"));
    let name = waiting.pointer("/metadata/name").and_then(Value::as_str).context("a name")?;
    let why = bed.cli(&["why", name])?;
    assert!(why.contains("app") && why.contains("2 of"), "{why}");

    bed.cluster.apply(&limit(1))?;
    bed.eventually("the lower limit to be named", Duration::from_secs(20), |bed| {
        let why = bed.cli(&["why", name])?;
        Ok(if why.contains("of 1") || why.contains("of at most 1") { Ok(()) } else { Err(why) })
    })
    .await?;
    assert_eq!(bed.azure.groups().len(), 2, "what runs is let be");

    bed.cluster.apply(&limit(5))?;
    bed.eventually("the third job to run", Duration::from_secs(60), |bed| {
        let started =
            ids.iter().filter(|id| bed.github.job(**id).is_ok_and(|job| job.started_at.is_some())).count();
        Ok(if started == 3 { Ok(()) } else { Err(format!("{started} run; the last is {last}")) })
    })
    .await?;
    for id in ids {
        bed.github.finish_job(id, Conclusion::Success)?;
    }
    bed.nothing_left(Duration::from_secs(60)).await?;
    assert_eq!(bed.ledger_equals_meter().await?.len(), 3);
    Ok(())
}

/// GitHub hands a runner the oldest job that it may have, and all of the capped repository's are older than those of the
/// free one: a runner that both could have would never reach the job that it was started for.
#[tokio::test(flavor = "multi_thread")]
async fn a_capped_repository_with_100_jobs_beside_a_free_one_takes_none_of_its_runners() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    apply(&bed, 2).await?;
    for number in 0..100 {
        bed.github.queue_job(bed.job().named(&format!("capped ({number})")))?;
    }
    let of_capped = |bed: &Bed| {
        let started = bed.github.jobs().into_iter().filter(|job| job.started_at.is_some());
        started.filter(|job| job.repository == "acme/app").collect::<Vec<_>>()
    };
    bed.eventually("two of the capped repository's jobs to run", Duration::from_secs(60), |bed| {
        let run = of_capped(bed);
        Ok(if run.len() == 2 { Ok(()) } else { Err(format!("{run:?}")) })
    })
    .await?;

    let free = (0..5)
        .map(|number| {
            let job = JobSpec::new("acme/free", &["self-hosted", "stint"]).named(&format!("free ({number})"));
            bed.github.queue_job(job.lasting(Duration::from_secs(1)))
        })
        .collect::<Result<Vec<_>>>()?;
    for id in &free {
        let job = bed.github.wait_for_end(*id, Duration::from_secs(60)).await?;
        let waited = job.started_at.context("it ran")?.duration_since(job.queued_at);
        assert!(waited.as_secs() < 20, "{} waited {waited}", job.name);
    }
    assert_eq!(of_capped(&bed).len(), 2, "no runner of the free repository's went to the capped one");
    let rows = bed
        .eventually("the free repository's runners to be billed", Duration::from_secs(60), |bed| {
            let rows = tokio::runtime::Handle::current().block_on(bed.ledger())?;
            Ok(if rows.len() == free.len() { Ok(rows) } else { Err(format!("{rows:?}")) })
        })
        .await?;
    // Which of the repository's own runners a job got is GitHub's choice.
    let free: BTreeSet<String> = free.into_iter().map(|id| format!("acme-{id}-1")).collect();
    let started_for: BTreeSet<String> = rows.iter().map(|row| row.started_for.clone()).collect();
    let ran: BTreeSet<String> = rows.iter().filter_map(|row| row.job.clone()).collect();
    assert_eq!((&started_for, &ran), (&free, &free), "{rows:#?}");
    let names: BTreeSet<&str> = rows.iter().map(|row| row.runner.as_str()).collect();
    let jobs = bed.github.jobs().into_iter().filter(|job| job.repository == "acme/free");
    let runners: BTreeSet<String> = jobs.filter_map(|job| job.runner_name).collect();
    assert_eq!(names, runners.iter().map(String::as_str).collect());
    assert_eq!(names.len(), free.len(), "one runner for each job");
    Ok(())
}

/// The job's condition, its columns and its Events, as `kubectl` shows them to whoever has no `stint` at hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_in_its_condition_and_in_an_event_why_it_has_no_runner() -> Result<()> {
    let bed = Bed::start(BedOptions::default()).await?;
    let id = bed.github.queue_job(JobSpec::new("acme/app", &["self-hosted", "later"]))?;
    let status = bed.job_stands(id, "Refused", Duration::from_secs(20)).await?;
    let condition = |status: &Value, field: &str| {
        let found = status.pointer(&format!("/conditions/0/{field}")).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let told = ["type", "status", "reason"].map(|field| condition(&status, field));
    assert_eq!(told, ["Admitted", "False", "NoClassNamed"]);
    let since = condition(&status, "lastTransitionTime");
    let name = format!("acme-{id}-1");
    let wide = bed.cluster.kubectl(&["get", "runnerjob", &name, "-n", NAMESPACE, "-o", "wide"])?;
    assert!(wide.contains("None of the job's labels names a class."), "{wide}");
    let event = bed
        .eventually("an Event on the job", Duration::from_secs(20), |bed| {
            let events = bed.objects("events.events.k8s.io")?;
            let of_job =
                |event: &&Value| event.pointer("/regarding/name").and_then(Value::as_str) == Some(&name);
            Ok(events.iter().find(of_job).cloned().ok_or(format!("{events:?}")))
        })
        .await?;
    let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
    assert_eq!((text("type"), text("reason")), ("Warning", "NoClassNamed"), "{event}");
    assert!(text("note").contains("create a RunnerClass named later"), "{event}");
    let described = bed.cluster.kubectl(&["describe", "runnerjob", &name, "-n", NAMESPACE])?;
    assert!(
        described.contains("NoClassNamed") && described.contains("create a RunnerClass named later"),
        "{described}"
    );

    let class = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "RunnerClass",
        "metadata": {"name": "later", "namespace": NAMESPACE},
        "spec": {"resources": {"cpu": "1", "memory": "1Gi"}},
    });
    bed.cluster.apply(&class.to_string())?;
    bed.cluster.kubectl(&[
        "wait",
        "--for=condition=Admitted",
        "--timeout=20s",
        &format!("runnerjob/{name}"),
        "-n",
        NAMESPACE,
    ])?;
    let status = bed.job_status(id)?.context("no record")?;
    assert!(condition(&status, "lastTransitionTime") > since, "{status}");
    let why = bed.cli(&["why", &format!("https://github.example/acme/app/actions/runs/1/job/{id}?pr=2")])?;
    assert!(why.starts_with(&name), "{why}");
    Ok(())
}
