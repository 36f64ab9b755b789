//! `stint simulate`: jobs replayed through the planner under given documents, and a generator of jobs to replay.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::run::InstallationArguments;
use crate::config::Installation;
use crate::simulate::{self, Generator, PastJob, Quota, Report, Scenario, StartModel};

/// Arguments of `stint simulate`.
#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
    #[command(subcommand)]
    command: Option<SimulateCommand>,
    /// Directory with the documents (*.yaml, *.yml). Nodes that they name or mean are taken to be there and ready.
    #[arg(long, value_name = "DIRECTORY")]
    config: Option<PathBuf>,
    /// Directory with other documents, to replay the same jobs under.
    #[arg(long, value_name = "DIRECTORY")]
    compare: Option<PathBuf>,
    /// How many runners there may be at once under --compare. Default: as many as under --config.
    #[arg(long, value_name = "RUNNERS", requires = "compare")]
    compare_max_runners: Option<u32>,
    /// Jobs to replay: JSON Lines, or CSV if the name ends in .csv.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ledger", "generate"])]
    jobs: Option<PathBuf>,
    /// A ledger to replay: ledger.db of a state directory, or the JSON of /api/v1/ledger.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    ledger: Option<PathBuf>,
    /// Generate the jobs, as `stint simulate generate` does.
    #[arg(long)]
    generate: bool,
    /// How many jobs --generate makes.
    #[arg(long, default_value_t = 10_000, value_name = "JOBS")]
    jobs_count: usize,
    /// Over how many days --generate spreads them.
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// What --generate and single starts draw from. The same seed gives the same result.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How machines start: KEY=VALUE,… of deploy, pull (or image, by size), agent, pool, exit, gone (medians) and spread.
    /// `image=2G,spread=0` means exact times, and an image of 2 GB.
    #[arg(long, value_name = "MODEL", default_value = "", hide_default_value = true)]
    start_model: String,
    /// Azure's quota for each subscription and region: `none`, or KEY=VALUE,… of groups, cores, creates-per-hour and
    /// creates-per-5min. Default: Azure's own, 100, 100, 300 and 100.
    #[arg(long, default_value = "", hide_default_value = true)]
    quota: String,
    /// How many runners a node pool has nodes for. Default: as many as it gets. May be repeated.
    #[arg(long, value_name = "PLACE=RUNNERS")]
    pool: Vec<String>,
    /// Directory for summary.json, jobs.csv and report.html.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Print the summary as JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    installation: InstallationArguments,
}

#[derive(Debug, Subcommand)]
enum SimulateCommand {
    /// Print a realistic workload as JSON Lines: working days, matrix bursts, a few busy repositories.
    Generate(GenerateArguments),
}

#[derive(Debug, Args)]
struct GenerateArguments {
    /// Directory with documents whose owners, repositories and classes the jobs are of. Default: acme and globex, and
    /// the label stint.
    #[arg(long, value_name = "DIRECTORY")]
    config: Option<PathBuf>,
    /// The same seed gives the same jobs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many jobs.
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// Over how many days.
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// The first moment, in RFC 3339. Hours and weekends are those of UTC.
    #[arg(long, default_value = FROM)]
    from: Timestamp,
}

/// A Monday, so that a week begins as weeks do.
const FROM: &str = "2026-01-05T00:00:00Z";

pub(super) async fn simulate(arguments: &SimulateArguments) -> anyhow::Result<ExitCode> {
    if let Some(SimulateCommand::Generate(arguments)) = &arguments.command {
        return generate(arguments);
    }
    let config = arguments
        .config
        .as_ref()
        .context("--config is missing: name the directory with the documents to simulate")?;
    let installation = arguments.installation.resolve()?;
    let model = StartModel::parse(&arguments.start_model)
        .map_err(|error| anyhow::anyhow!("--start-model: {error}"))?;
    let quota = Quota::parse(&arguments.quota).map_err(|error| anyhow::anyhow!("--quota: {error}"))?;
    let scenario = |directory: &PathBuf, installation: &Installation| -> anyhow::Result<Scenario> {
        let mut scenario = Scenario::read(directory, installation)?;
        scenario.model = model.clone();
        scenario.quota = quota;
        scenario.seed = arguments.seed;
        Ok(scenario)
    };
    let mut first = scenario(config, &installation)?;
    let mut second = match &arguments.compare {
        Some(directory) => {
            let most = arguments.compare_max_runners.unwrap_or(installation.max_runners);
            let installation = Installation { max_runners: most, ..installation };
            Some((directory.display().to_string(), scenario(directory, &installation)?))
        }
        None => None,
    };
    limit_pools(&arguments.pool, &mut first, second.as_mut().map(|(_, scenario)| scenario))?;
    let jobs = jobs(arguments, &first).await?;
    let ran = simulate::run(&first, &jobs)?;
    let compared = match &second {
        Some((name, scenario)) => Some((name.as_str(), simulate::run(scenario, &jobs)?)),
        None => None,
    };
    let name = config.display().to_string();
    let report = Report::new(&jobs, (&name, ran), compared);
    if arguments.json {
        say!("{}", report.json()?.trim_end());
    } else {
        say!("{}", report.table().trim_end());
    }
    if let Some(directory) = &arguments.out {
        report.write(directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Limits the pools that are named; each must be one of some configuration.
fn limit_pools(
    pools: &[String],
    first: &mut Scenario,
    mut second: Option<&mut Scenario>,
) -> anyhow::Result<()> {
    for pool in pools {
        let in_first = first.limit_pool(pool);
        let in_second = second.as_mut().map(|second| second.limit_pool(pool));
        if !matches!(in_second, Some(Ok(()))) {
            in_first.context("--pool")?;
        }
    }
    Ok(())
}

async fn jobs(arguments: &SimulateArguments, scenario: &Scenario) -> anyhow::Result<Vec<PastJob>> {
    match (&arguments.jobs, &arguments.ledger, arguments.generate) {
        (Some(file), None, false) => simulate::read_jobs(file).context("--jobs"),
        (None, Some(file), false) => {
            let history = simulate::read_ledger(file, &scenario.model).await.context("--ledger")?;
            if history.without_job > 0 {
                eprintln!("note: {} rows of the ledger are of runners that had no job", history.without_job);
            }
            Ok(history.jobs)
        }
        (None, None, true) => {
            let (count, days) = (arguments.jobs_count, arguments.days);
            let from = FROM.parse().context("the first moment of a generated workload")?;
            let jobs = Generator::of(&scenario.setup, arguments.seed, count, days, from).generate();
            anyhow::ensure!(
                !jobs.is_empty(),
                "--generate makes no job: give --jobs-count and --days of at least 1"
            );
            Ok(jobs)
        }
        (_, _, _) => {
            anyhow::bail!("nothing to replay: give one of --jobs FILE, --ledger FILE and --generate")
        }
    }
}

fn generate(arguments: &GenerateArguments) -> anyhow::Result<ExitCode> {
    let GenerateArguments { seed, jobs, days, from, .. } = *arguments;
    let generator = match &arguments.config {
        Some(directory) => {
            let scenario = Scenario::read(directory, &Installation::default())?;
            Generator::of(&scenario.setup, seed, jobs, days, from)
        }
        None => {
            let invented = (1..=12)
                .flat_map(|number| ["acme", "globex"].map(|owner| format!("{owner}/service-{number}")));
            let (repositories, labels) = (invented.collect(), vec![vec!["stint".to_owned()]]);
            Generator { seed, jobs, days, from, repositories, labels }
        }
    };
    let generated = generator.generate();
    anyhow::ensure!(
        !generated.is_empty(),
        "there is nothing to generate: give --jobs and --days of at least 1"
    );
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for job in &generated {
        let line = serde_json::to_string(job)?;
        if writeln!(out, "{line}").is_err() {
            // Whoever reads has enough.
            return Ok(ExitCode::SUCCESS);
        }
    }
    let _ = out.flush();
    Ok(ExitCode::SUCCESS)
}
