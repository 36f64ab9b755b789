//! `stint demo`: a few jobs from webhook to bill, on one machine.
//!
//! GitHub and Azure are emulated inside this process, over real HTTP; everything else is what `stint run --local` runs.
//! The container groups are local processes that run a stand-in agent.

mod table;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use emulator_azure::{Azure, AzureHandle, Timings};
use emulator_github::{Conclusion, GitHub, GitHubHandle, JobSpec, OwnerSpec};
use rust_decimal::Decimal;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::azure::{ArmOptions, CredentialKind};
use crate::config::Installation;
use crate::ledger::LedgerLocation;
use crate::ports::LedgerRow;
use crate::reconcile::wiring::{Controller, RecordsSettings, RunSettings};
use crate::sqlite::Location;
use crate::telemetry::{LogFormat, init_logging};
use table::{Line, Table};

/// Modelled durations (deployment, image pull, …) are this many times shorter than Azure's.
const SCALE: f64 = 0.1;
/// The longest that the demo may take.
const WITHIN: Duration = Duration::from_secs(55);
/// How often the table is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(250);
const SECRET: &str = "demo";
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";

/// Arguments of `stint demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Show the controller's log instead of the table.
    #[arg(long)]
    log: bool,
}

/// Name, label, seconds, and how it ends.
const JOBS: [(&str, &str, u64, Conclusion); 8] = [
    ("build", "demo-large", 6, Conclusion::Success),
    ("test (1)", "demo-medium", 4, Conclusion::Success),
    ("test (2)", "demo-medium", 5, Conclusion::Success),
    ("test (3)", "demo-medium", 3, Conclusion::Failure),
    ("lint", "demo-small", 2, Conclusion::Success),
    ("docs", "demo-small", 2, Conclusion::Success),
    ("licenses", "demo-small", 1, Conclusion::Success),
    ("package", "demo-huge", 3, Conclusion::Success),
];

pub(super) async fn demo(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    if arguments.log {
        init_logging(LogFormat::Pretty, "stint=info").context("logging")?;
    }
    let program = std::env::current_exe().context("the demo runs its own program as the agent")?;
    let azure = Azure::start(emulator_azure::Options {
        time_scale: SCALE,
        timings: Timings { image_mb: 100, ..Timings::default() },
        ..emulator_azure::Options::new([program.display().to_string(), "standin-agent".to_owned()])
    })
    .await?;
    let github = GitHub::start(emulator_github::Options {
        owners: vec![OwnerSpec::organization("acme")],
        ..emulator_github::Options::default()
    })
    .await?;
    let directory = tempfile::Builder::new()
        .prefix("stint-demo-")
        .tempdir()
        .context("the demo needs a temporary directory")?;
    let listen = free_address()?;
    let controller = start(&github, &azure, directory.path(), listen).await?;
    github.set_webhook(&format!("http://{}/webhooks/acme", controller.address), SECRET);
    say!(
        "Stint {} receives webhooks at http://{}/webhooks/acme.",
        env!("CARGO_PKG_VERSION"),
        controller.address
    );
    say!("GitHub is emulated at {}, Azure at {}; jobs run as local processes.", github.url(), azure.url());
    say!("Durations that Azure decides are {} times shorter here than there.", 1.0 / SCALE);
    say!("One job asks for a size that does not exist, on purpose: it is refused with a reason.\n");
    wait_ready(&controller).await?;

    for (name, label, seconds, conclusion) in JOBS {
        let spec = JobSpec::new("acme/app", &["self-hosted", label])
            .named(name)
            .workflow("ci")
            .lasting(Duration::from_secs(seconds))
            .ending(conclusion);
        github.queue_job(spec)?;
    }
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let finished = tokio::select! {
        finished = follow(&controller, &github, &azure, !arguments.log) => finished,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the jobs and their groups are ended")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated; the jobs and their groups are ended")),
    };
    let rows = controller.ledger.rows().await?;
    let result = finished.and_then(|()| {
        print_bill(&rows);
        compare(&rows, &azure)
    });
    controller.stop().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// A controller as `stint run --local` would be, on documents that are written to a directory.
async fn start(
    github: &GitHubHandle,
    azure: &AzureHandle,
    directory: &Path,
    listen: std::net::SocketAddr,
) -> anyhow::Result<Controller> {
    let api = "stint.dev/v1alpha1";
    let size = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let documents = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme-app"}, "stringData": {
            "appId": github.app_id().to_string(), "privateKey": github.app_private_key_pem(), "webhookSecret": SECRET,
        }}),
        json!({"apiVersion": api, "kind": "RunnerSource", "metadata": {"name": "acme"}, "spec": {"github": {
            "owners": ["acme"], "secretRef": "acme-app", "apiUrl": github.url(),
        }}}),
        json!({"apiVersion": api, "kind": "RunnerClass", "metadata": {"name": "demo"}, "spec": {
            "maxRunners": 5,
            "sizes": {"small": size("1", "2Gi"), "medium": size("2", "4Gi"), "large": size("4", "8Gi")},
        }}),
        json!({"apiVersion": api, "kind": "RunnerPlace", "metadata": {"name": "container-instances"}, "spec": {
            "containerInstances": {},
        }}),
    ];
    let config = directory.join("config");
    std::fs::create_dir(&config)?;
    for (index, document) in documents.iter().enumerate() {
        // JSON is YAML.
        std::fs::write(config.join(format!("{index}.yaml")), serde_json::to_string_pretty(document)?)?;
    }
    Controller::start(RunSettings {
        installation: Installation {
            id: "demo".to_owned(),
            max_runners: 20,
            callback: Some(crate::config::Callback { url: format!("http://{listen}"), ca_bundle: None }),
            subscription: Some(SUBSCRIPTION.to_owned()),
            resource_group: Some("demo".to_owned()),
            region: Some("westeurope".to_owned()),
            ..Installation::default()
        },
        records: RecordsSettings::Local {
            documents: config,
            state: Location::File(directory.join("records.db")),
        },
        ledger: LedgerLocation::Sqlite(Location::File(directory.join("ledger.db"))),
        azure: ArmOptions { endpoint: azure.url().to_owned(), ..ArmOptions::default() },
        azure_credential: CredentialKind::Token("emulated".to_owned().into()),
        identity: "demo".to_owned(),
        adopt_ledger: false,
        most_jobs: 1000,
        shutdown_delay: Duration::ZERO,
        listen,
        internal_listen: ([127, 0, 0, 1], 0).into(),
        api_listen: ([127, 0, 0, 1], 0).into(),
    })
    .await
}

/// An address that is free now: agents are told it before it is listened on.
fn free_address() -> anyhow::Result<std::net::SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

async fn wait_ready(controller: &Controller) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    let url = format!("http://{}/readyz", controller.internal_address);
    loop {
        let ready = reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success());
        if ready {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the controller did not become ready; run `stint demo --log`");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Draws the table until every job has ended or was refused, and nothing is left behind.
async fn follow(
    controller: &Controller,
    github: &GitHubHandle,
    azure: &AzureHandle,
    draw: bool,
) -> anyhow::Result<()> {
    let end = Instant::now() + WITHIN;
    let mut table = Table::new(std::io::stdout().is_terminal());
    loop {
        let observed = controller.records.observe().context("the records cannot be read")?;
        let states: HashMap<String, String> = azure
            .groups()
            .into_iter()
            .map(|group| (group.name.clone(), format!("{:?}", group.state)))
            .collect();
        let lines: Vec<Line> = observed.jobs.iter().map(|job| Line::of(job, &states)).collect();
        if draw {
            table.draw(&lines);
        }
        let settled = lines.len() == JOBS.len()
            && lines.iter().all(|line| line.settled)
            && observed.runners.is_empty()
            && azure.groups().is_empty()
            && github.runners().is_empty();
        if settled {
            table.end();
            say!("Every runner is gone: no container group in Azure, no registration at GitHub.\n");
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the jobs have not ended after {WITHIN:?}; run `stint demo --log` to see why"
        );
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

fn print_bill(rows: &[LedgerRow]) {
    say!("{:<10} {:<12} {:>7} {:>5} {:>9}  {:>12}", "JOB", "CLASS", "BILLED", "VCPU", "MEMORY", "COST");
    let mut total = Decimal::ZERO;
    for row in rows {
        let bill = &row.bill;
        total += bill.amount;
        say!(
            "{:<10} {:<12} {:>5} s {:>5} {:>6} GB  {:>8} {}",
            row.job_name,
            row.class,
            bill.seconds,
            bill.vcpu,
            bill.memory_gb,
            bill.amount,
            bill.currency
        );
    }
    say!("{:<10} {:<12} {:>7} {:>5} {:>9}  {total:>8} USD", "total", "", "", "", "");
}

/// The emulator of Azure keeps its own meter, which knows nothing of Stint's bill.
fn compare(rows: &[LedgerRow], azure: &AzureHandle) -> anyhow::Result<()> {
    let billed: Vec<_> = azure.meter().into_iter().filter(|meter| meter.started_at.is_some()).collect();
    let seconds: i64 = billed.iter().map(|meter| meter.billed_seconds).sum();
    let ours: u64 = rows.iter().map(|row| row.bill.seconds).sum();
    say!(
        "\nAzure's own meter: {} groups, {seconds} s. Stint's ledger: {} rows, {ours} s.",
        billed.len(),
        rows.len()
    );
    let bound: u64 = rows.iter().map(|row| row.bill.bound_seconds).sum();
    ensure!(
        billed.len() == rows.len() && ours.abs_diff(u64::try_from(seconds)?) <= bound,
        "the ledger and Azure's meter differ, which is a bug of Stint's"
    );
    Ok(())
}
