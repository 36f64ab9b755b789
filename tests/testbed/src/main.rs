//! The command `testbed`: builds the test bed's programs, and runs clusters by hand or for a test.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use testbed::supervisor::{self, Mode};
use testbed::{Options, Programs, VirtualNode, VmNode};

/// A real Kubernetes control plane with virtual and VM nodes, as processes of this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Build those of the programs that are missing
    Build,
    /// Start a cluster, print how to reach it as one line of JSON, and run it until standard input ends or Ctrl-C
    Up(Up),
}

#[derive(Debug, Args)]
struct Up {
    /// Everything that the cluster shall hold, as JSON (the crate's `Options`)
    #[arg(long, value_name = "JSON")]
    options: Option<String>,

    /// Add a virtual node that uses this Azure Resource Manager
    #[arg(long, value_name = "URL")]
    arm_endpoint: Option<String>,

    /// Add a VM node; may be given several times
    #[arg(long, value_name = "NAME=CPU,MEMORY", value_parser = parse_vm_node)]
    vm_node: Vec<VmNode>,

    /// Run until a signal, even when there is no standard input
    #[arg(long)]
    ignore_stdin: bool,
}

// One thread: the processes' lives are tied to the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        CliCommand::Build => Programs::of_this_machine().and_then(|programs| programs.build_missing()),
        CliCommand::Up(arguments) => up(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn up(arguments: Up) -> Result<()> {
    let mut options: Options = match arguments.options {
        Some(json) => serde_json::from_str(&json).context("--options")?,
        None => Options::default(),
    };
    options.virtual_nodes.extend(arguments.arm_endpoint.map(VirtualNode::new));
    options.vm_nodes.extend(arguments.vm_node);
    supervisor::run(options, Mode { ignore_stdin: arguments.ignore_stdin }).await
}

fn parse_vm_node(text: &str) -> Result<VmNode, String> {
    let parts = || {
        let (name, size) = text.split_once('=')?;
        let (cpu, memory) = size.split_once(',')?;
        Some(VmNode::new(name, cpu, memory))
    };
    parts().ok_or_else(|| format!("{text:?} is not NAME=CPU,MEMORY, such as vm-0=4,16Gi"))
}
