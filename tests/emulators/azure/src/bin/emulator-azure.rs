//! The Azure emulator as a program, for use by hand and from test beds in other languages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use emulator_azure::{Azure, Bearer, DeleteAnswer, ImageRule, Limits, Options};
use emulator_common::Tls;

/// Emulates Azure Resource Manager and Container Instances on 127.0.0.1, with processes for containers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8700)]
    port: u16,
    /// Multiplies every modelled duration
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Multiplies the length of the quota windows
    #[arg(long, default_value_t = 1.0)]
    quota_scale: f64,
    /// Program of the stand-in agent, with leading arguments; the one beside this program by default
    #[arg(long, num_args = 1..)]
    agent: Vec<String>,
    /// What images matching a pattern run: `PATTERN=COMMAND ARGUMENT…`; may be repeated
    #[arg(long = "image", value_parser = parse_image)]
    images: Vec<ImageRule>,
    /// Groups per page of a list
    #[arg(long, default_value_t = 50)]
    page_size: usize,
    /// DELETE answers 200 with the group instead of 202
    #[arg(long)]
    delete_ok: bool,
    /// Accept only tokens that this emulator issued
    #[arg(long)]
    issued_tokens_only: bool,
    /// A resource group that exists; may be repeated. Without it, all do
    #[arg(long = "resource-group")]
    resource_groups: Vec<String>,
    /// Limits as JSON, such as `{"groups":10}`
    #[arg(long, value_parser = parse_limits, default_value = "{}")]
    limits: Limits,
    /// Certificate chain (PEM) to serve HTTPS with
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

fn parse_image(text: &str) -> Result<ImageRule, String> {
    let (pattern, command) = text.split_once('=').ok_or("expected PATTERN=COMMAND")?;
    Ok(ImageRule::runs(pattern, command.split_whitespace()))
}

fn parse_limits(text: &str) -> Result<Limits, serde_json::Error> {
    serde_json::from_str(text)
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let arguments = Arguments::parse();
    let agent = if arguments.agent.is_empty() {
        let program =
            std::env::current_exe().context("finding this program")?.with_file_name("standin-agent");
        vec![program.to_str().context("the path of the agent is not text")?.to_owned()]
    } else {
        arguments.agent
    };
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("reading '{}'", path.display()))
    };
    let tls = match arguments.tls_cert.zip(arguments.tls_key) {
        Some((cert, key)) => Some(Tls { cert_pem: read(cert)?, key_pem: read(key)? }),
        None => None,
    };
    let azure = Azure::start(Options {
        port: arguments.port,
        tls,
        time_scale: arguments.time_scale,
        quota_scale: arguments.quota_scale,
        images: arguments.images,
        page_size: arguments.page_size,
        delete_answer: if arguments.delete_ok { DeleteAnswer::Ok } else { DeleteAnswer::Accepted },
        bearer: if arguments.issued_tokens_only { Bearer::Issued } else { Bearer::Any },
        resource_groups: (!arguments.resource_groups.is_empty()).then_some(arguments.resource_groups),
        limits: arguments.limits,
        ..Options::new(agent)
    })
    .await?;
    // One line each, so that a script can read what it needs.
    println!("ARM_ENDPOINT={}", azure.url());
    println!("IDENTITY_ENDPOINT={}", azure.msi_endpoint());
    println!("IDENTITY_HEADER={}", azure.identity_header());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("waiting for a signal")?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
