//! Strays, with a whole controller on the emulated GitHub and Azure: what is lost from its records is found in Azure.
//!
//! The records of a controller without a cluster are one file, so that an older state is restored by copying it back.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails with it")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use emulator_azure::{Azure, AzureHandle, ImageRule, Timings};
use emulator_github::{GitHub, GitHubHandle, JobSpec, JobStatus, OwnerSpec, RateLimits};
use runner_core::job::JobState;
use serde_json::{Value, json};
use stint::azure::{ArmOptions, CredentialKind};
use stint::config::{Callback, Installation};
use stint::reconcile::wiring::{Controller, RecordsSettings, RunSettings};
use stint::sqlite::Location;

const SECRET: &str = "strays webhook";
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
const WITHIN: Duration = Duration::from_secs(100);

struct Bed {
    github: GitHubHandle,
    azure: AzureHandle,
    directory: tempfile::TempDir,
    listen: SocketAddr,
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

impl Bed {
    async fn prepare() -> Self {
        Self::with(json!({"resources": {"cpu": "1", "memory": "1Gi"}})).await
    }

    /// With this class. The image `sleeper` runs no agent, and does nothing for long.
    async fn with(class: Value) -> Self {
        if std::env::var_os("STINT_TEST_LOG").is_some() {
            let _ = stint::telemetry::init_logging(stint::telemetry::LogFormat::Pretty, "stint=debug");
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let agent = env!("CARGO_BIN_EXE_stint");
        let azure = emulator_azure::Options {
            timings: Timings { image_mb: 50, ..Timings::default() },
            images: vec![ImageRule::runs("sleeper", ["sleep", "600"])],
            ..emulator_azure::Options::fast([agent, "standin-agent"])
        };
        let github = emulator_github::Options {
            owners: vec![OwnerSpec::organization("acme")],
            limits: RateLimits::unlimited(),
            ..emulator_github::Options::default()
        };
        let bed = Self {
            azure: Azure::start(azure).await.unwrap(),
            github: GitHub::start(github).await.unwrap(),
            directory: tempfile::tempdir().unwrap(),
            listen: free_address(),
        };
        bed.github.set_webhook(&format!("http://{}/webhooks/acme", bed.listen), SECRET);
        bed.write_documents(&class);
        bed
    }

    fn write_documents(&self, class: &Value) {
        let api = "stint.dev/v1alpha1";
        let documents = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme-app"}, "stringData": {
                "appId": self.github.app_id().to_string(), "privateKey": self.github.app_private_key_pem(),
                "webhookSecret": SECRET,
            }}),
            json!({"apiVersion": api, "kind": "RunnerSource", "metadata": {"name": "acme"}, "spec": {"github": {
                "owners": ["acme"], "secretRef": "acme-app", "apiUrl": self.github.url(),
            }}}),
            json!({"apiVersion": api, "kind": "RunnerClass", "metadata": {"name": "stint"}, "spec": class}),
            json!({"apiVersion": api, "kind": "RunnerPlace", "metadata": {"name": "aci"}, "spec": {
                "containerInstances": {},
            }}),
        ];
        let config = self.directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        for (index, document) in documents.iter().enumerate() {
            std::fs::write(config.join(format!("{index}.yaml")), document.to_string()).unwrap();
        }
    }

    /// A controller whose records are in `state`.
    async fn start(&self, state: &str) -> Controller {
        let directory = self.directory.path().join(state);
        std::fs::create_dir_all(&directory).unwrap();
        let controller = Controller::start(RunSettings {
            installation: Installation {
                id: "prod".to_owned(),
                max_runners: 20,
                callback: Some(Callback { url: format!("http://{}", self.listen), ca_bundle: None }),
                subscription: Some(SUBSCRIPTION.to_owned()),
                resource_group: Some("runners".to_owned()),
                region: Some("westeurope".to_owned()),
                ..Installation::default()
            },
            records: RecordsSettings::Local {
                documents: self.directory.path().join("config"),
                state: Location::File(directory.join("records.db")),
            },
            ledger: stint::ledger::LedgerLocation::Sqlite(Location::File(
                self.directory.path().join("ledger.db"),
            )),
            azure: ArmOptions { endpoint: self.azure.url().to_owned(), ..ArmOptions::default() },
            azure_credential: CredentialKind::Token("emulated".to_owned().into()),
            identity: "strays".to_owned(),
            adopt_ledger: false,
            most_jobs: 1000,
            shutdown_delay: Duration::ZERO,
            listen: self.listen,
            internal_listen: ([127, 0, 0, 1], 0).into(),
            api_listen: ([127, 0, 0, 1], 0).into(),
        })
        .await
        .unwrap();
        let url = format!("http://{}/readyz", controller.internal_address);
        eventually("readiness", async || {
            reqwest::get(&url)
                .await
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(())
                .ok_or("not yet")
        })
        .await;
        controller
    }

    /// The file of the records, and those beside it.
    fn records(&self, state: &str) -> [PathBuf; 3] {
        let directory = self.directory.path().join(state);
        ["records.db", "records.db-wal", "records.db-shm"].map(|name| directory.join(name))
    }

    /// Keeps the records as they are now; the controller must not run.
    fn back_up(&self, state: &str) -> [Option<Vec<u8>>; 3] {
        self.records(state).map(|file| std::fs::read(file).ok())
    }

    /// Restores an older state; the controller must not run.
    fn restore(&self, state: &str, kept: &[Option<Vec<u8>>; 3]) {
        for (file, kept) in self.records(state).iter().zip(kept) {
            let _ = std::fs::remove_file(file);
            if let Some(kept) = kept {
                std::fs::write(file, kept).unwrap();
            }
        }
    }

    /// Waits until nothing of any runner is left, and the ledger says of each group what the meter does.
    async fn nothing_left(&self, controller: &Controller) {
        eventually("nothing to be left", async || {
            let runners = controller.records.observe().unwrap().runners;
            let (groups, registrations) = (self.azure.groups(), self.github.runners());
            if runners.is_empty() && groups.is_empty() && registrations.is_empty() {
                Ok(())
            } else {
                Err(format!("{runners:#?}\n{groups:#?}\n{registrations:#?}"))
            }
        })
        .await;
        let rows = controller.ledger.rows().await.unwrap();
        let billed: Vec<_> =
            self.azure.meter().into_iter().filter(|meter| meter.billed_seconds > 0).collect();
        assert_eq!(rows.len(), billed.len(), "{rows:#?}\n{billed:#?}");
        for row in &rows {
            let name = row.bill.group_id.rsplit('/').next().unwrap();
            let meter = billed.iter().find(|meter| meter.group == name).unwrap();
            let off = i64::try_from(row.bill.seconds).unwrap() - meter.billed_seconds;
            let bound = i64::try_from(row.bill.bound_seconds).unwrap();
            assert!(off.abs() <= bound + 1, "{row:#?}\n{meter:#?}");
        }
    }

    async fn metric(&self, controller: &Controller, name: &str) -> Option<String> {
        let url = format!("http://{}/metrics", controller.internal_address);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    }

    /// Tells again that the job was queued.
    fn redeliver_queued(&self) {
        let deliveries = self.github.deliveries();
        let queued = deliveries.iter().find(|one| one.action.as_deref() == Some("queued")).unwrap();
        self.github.redeliver(queued.id).unwrap();
    }

    fn job(&self) -> JobSpec {
        JobSpec::new("acme/app", &["self-hosted", "stint"])
    }
}

async fn eventually<T, E: std::fmt::Display>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = tokio::time::Instant::now() + WITHIN;
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(state) => {
                assert!(tokio::time::Instant::now() < end, "waited {WITHIN:?} for {what}; now: {state}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A job that runs on its runner.
async fn running(bed: &Bed) -> u64 {
    let id = bed.github.queue_job(bed.job()).unwrap();
    bed.github.wait_for_job(id, |job| job.status == JobStatus::InProgress, WITHIN).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runner_that_a_restored_state_does_not_know_is_followed_to_its_end_and_billed() {
    let bed = Bed::prepare().await;
    bed.start("state").await.stop().await;
    let before = bed.back_up("state");
    let controller = bed.start("state").await;
    let id = running(&bed).await;
    controller.stop().await;
    bed.restore("state", &before);

    let controller = bed.start("state").await;
    let found = eventually("the record", async || {
        let runners = controller.records.observe().unwrap().runners;
        runners.into_iter().find(|runner| runner.facts.found.is_some()).ok_or("no record")
    })
    .await;
    assert_eq!(found.job.id, id.to_string());
    // Its source is asked, unless its agent, or a delivery that nobody took, says so first.
    eventually("it to be known as busy", async || {
        let observed = controller.records.observe().unwrap();
        let asked = observed
            .runners
            .iter()
            .any(|runner| runner.facts.busy_seen.is_some() || runner.facts.agent.job_started.is_some());
        let told = observed
            .jobs
            .iter()
            .any(|job| matches!(job.state(), JobState::Running { runner: Some(on) } if on == found.name));
        if asked || told { Ok(()) } else { Err(format!("{observed:#?}")) }
    })
    .await;
    assert_eq!(bed.azure.groups().len(), 1, "it is busy and stays");
    assert_eq!(bed.metric(&controller, "stint_adopted_runners_total").await.as_deref(), Some("1"));
    bed.github.finish_job(id, emulator_github::Conclusion::Success).unwrap();
    bed.github.wait_for_end(id, WITHIN).await.unwrap();
    bed.nothing_left(&controller).await;
    assert_eq!(bed.azure.history().len(), 1, "no second runner was started for it");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_told_anew_after_a_restore_gets_no_second_group_of_a_name() {
    let bed = Bed::prepare().await;
    bed.start("state").await.stop().await;
    let before = bed.back_up("state");
    let controller = bed.start("state").await;
    // Its runner is there, and waits for a job that GitHub does not hand out.
    bed.github.hold_assignment(true);
    let id = bed.github.queue_job(bed.job()).unwrap();
    bed.azure
        .wait_for("a running group", WITHIN, |groups| {
            groups.iter().any(|group| group.containers.iter().any(|container| container.pid.is_some()))
        })
        .await
        .unwrap();
    controller.stop().await;
    bed.restore("state", &before);

    let controller = bed.start("state").await;
    bed.redeliver_queued();
    eventually("the job and its runner", async || {
        let observed = controller.records.observe().unwrap();
        (observed.jobs.len() == 1 && observed.runners.len() == 1)
            .then_some(())
            .ok_or(format!("{observed:#?}"))
    })
    .await;
    bed.github.hold_assignment(false);
    bed.github.wait_for_job(id, |job| job.status == JobStatus::InProgress, WITHIN).await.unwrap();
    bed.github.finish_job(id, emulator_github::Conclusion::Success).unwrap();
    bed.github.wait_for_end(id, WITHIN).await.unwrap();
    bed.nothing_left(&controller).await;
    assert_eq!(bed.azure.history().len(), 1, "the runner that was there took it");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_of_one_id_leave_each_others_runners_alone_and_say_so() {
    let bed = Bed::prepare().await;
    let first = bed.start("first").await;
    let id = running(&bed).await;
    first.stop().await;
    let group = bed.azure.groups().first().unwrap().name.clone();

    // Of the same id, on the same organization and resource group, with records of its own.
    let second = bed.start("second").await;
    let metric = |kind: &str, name: &str| format!("stint_foreign_runners{{kind=\"{kind}\",name=\"{name}\"}}");
    for name in
        [metric("RunnerPlace", "aci"), metric("RunnerSource", "acme"), "stint_stray_groups".to_owned()]
    {
        eventually(&name, async || match bed.metric(&second, &name).await.as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    // The same job, told to the second one, makes the same name.
    bed.redeliver_queued();
    eventually("the job at the second one", async || {
        let jobs = second.records.observe().unwrap().jobs;
        jobs.first().map(drop).ok_or("none")
    })
    .await;
    let refused = eventually("its runner to be given up", async || {
        let runners = second.records.observe().unwrap().runners;
        let ended = runners.into_iter().find(|runner| runner.facts.teardown.is_some());
        ended.and_then(|runner| runner.facts.teardown).ok_or("none")
    })
    .await;
    assert_eq!(refused.code, "NameTaken");
    assert!(second.records.observe().unwrap().runners.iter().all(|runner| runner.facts.found.is_none()));
    second.stop().await;
    assert!(bed.azure.group(&group).is_some() && bed.github.job(id).unwrap().status == JobStatus::InProgress);

    let first = bed.start("first").await;
    bed.github.finish_job(id, emulator_github::Conclusion::Success).unwrap();
    bed.nothing_left(&first).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_lives_on_after_its_deletion_is_deleted_again_and_billed_to_its_end() {
    let bed = Bed::prepare().await;
    let controller = bed.start("state").await;
    // Azure takes the deletion, and the group runs on.
    bed.azure.script(emulator_azure::Script::LoseDelete { group: "*".to_owned(), count: 1 });
    let id = bed.github.queue_job(bed.job().lasting(Duration::from_millis(200))).unwrap();
    bed.github.wait_for_end(id, WITHIN).await.unwrap();
    bed.nothing_left(&controller).await;
    let deletes = bed.azure.journal().count("DELETE", "*");
    assert!(deletes >= 2, "{deletes}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_azure_starts_again_is_ended_and_the_job_gets_the_next_runner() {
    let class = json!({"resources": {"cpu": "1", "memory": "1Gi"}, "image": "sleeper", "deadlines": {"online": "10m"}});
    let bed = Bed::with(class).await;
    let controller = bed.start("state").await;
    bed.github.queue_job(bed.job()).unwrap();
    let runs = |groups: &[emulator_azure::GroupView]| {
        groups.iter().any(|group| group.containers.iter().any(|container| container.pid.is_some()))
    };
    bed.azure.wait_for("a running group", WITHIN, runs).await.unwrap();
    bed.azure.script(emulator_azure::Script::RestartContainers { group: "*".to_owned() });
    let row = eventually("its bill", async || {
        controller.ledger.rows().await.unwrap().into_iter().next().ok_or("no row")
    })
    .await;
    assert_eq!(row.ended_because, "Restarted");
    eventually("the next runner", async || {
        let runners = controller.records.observe().unwrap().runners;
        runners.into_iter().find(|runner| runner.ordinal == 2).map(drop).ok_or("none")
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_delays_no_record() {
    let bed = Bed::prepare().await;
    bed.start("state").await.stop().await;
    let before = bed.back_up("state");
    let controller = bed.start("state").await;
    let id = running(&bed).await;
    controller.stop().await;
    bed.restore("state", &before);

    // It takes connections, and never answers.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let file = bed.directory.path().join("config/1.yaml");
    let document = std::fs::read_to_string(&file).unwrap();
    let there = format!("http://{}", silent.local_addr().unwrap());
    std::fs::write(&file, document.replace(bed.github.url(), &there)).unwrap();
    let began = std::time::Instant::now();
    let controller = bed.start("state").await;
    let found = eventually("the record", async || {
        let runners = controller.records.observe().unwrap().runners;
        runners.into_iter().find(|runner| runner.facts.found.is_some()).ok_or("no record")
    })
    .await;
    assert_eq!(found.job.id, id.to_string());
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "a call to a source takes up to 30 s: {:?}",
        began.elapsed()
    );
    controller.stop().await;
}
