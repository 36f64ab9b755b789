//! The command line. Every flag of `stint run` can also be set by an environment variable.

/// Prints a line. A reader that has gone, as of `| head`, is no error.
macro_rules! say {
    ($($part:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

mod ask;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod run;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An ephemeral runner for each queued CI job, on Azure Container Instances.
#[derive(Debug, Parser)]
#[command(name = "stint", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller.
    Run(Box<run::RunArguments>),
    /// Check configuration documents, and show what is in force.
    Check(Box<check::CheckArguments>),
    /// Show the last logs of a runner, or of a job's runners; they outlive both.
    Logs(ask::LogsArguments),
    /// List the jobs that are stored.
    Jobs(ask::JobsArguments),
    /// Say in one line why a job waits, or where it stands.
    Why(ask::WhyArguments),
    /// Show what runners cost.
    Bill(ask::BillArguments),
    /// Show what is spent and reserved of each budget.
    Budgets(ask::BudgetsArguments),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`.
    Crds,
    /// Run a few jobs on this machine, against emulators of GitHub and Azure inside this process.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArguments),
    /// The agent that the demo's container groups run.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    StandinAgent {
        /// As the emulator passes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "demo")]
    if let Command::StandinAgent { arguments } = cli.command {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        return emulator_azure::standin_agent::main_from(arguments, environment);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!("no runtime: {error}")),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(arguments) => run::run(*arguments).await,
            Command::Check(arguments) => check::check(&arguments),
            Command::Logs(arguments) => ask::logs(&arguments).await,
            Command::Jobs(arguments) => ask::jobs(&arguments).await,
            Command::Why(arguments) => ask::why(&arguments).await,
            Command::Bill(arguments) => ask::bill(&arguments).await,
            Command::Budgets(arguments) => ask::budgets(&arguments).await,
            Command::Crds => crate::config::crds::yaml().map(|text| {
                say!("{}", text.trim_end());
                ExitCode::SUCCESS
            }),
            #[cfg(feature = "demo")]
            Command::Demo(arguments) => demo::demo(&arguments).await,
            #[cfg(feature = "demo")]
            Command::StandinAgent { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // What may still block (a name being looked up) does not hold the end up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("stint: {error:#}");
    ExitCode::FAILURE
}
