//! `emulator-github`: the emulator by hand.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use emulator_github::{GitHub, Options, OwnerSpec, RateLimits, Timing};

/// A GitHub to test against. Steer it under /_emulator.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9180")]
    listen: SocketAddr,
    /// The address in answers and JIT configs, where agents reach the emulator under another name.
    #[arg(long)]
    public_url: Option<String>,
    /// The App's id.
    #[arg(long, default_value_t = 1001)]
    app_id: u64,
    /// A file with the App's private key (PEM); without it one is made.
    #[arg(long)]
    app_key: Option<PathBuf>,
    /// Write the App's private key here.
    #[arg(long)]
    write_app_key: Option<PathBuf>,
    /// A personal access token to accept.
    #[arg(long)]
    token: Option<String>,
    /// An organization that has the App installed; may be repeated.
    #[arg(long = "organization", default_value = "acme")]
    organizations: Vec<String>,
    /// A repository that exists, as owner/name; may be repeated.
    #[arg(long = "repository")]
    repositories: Vec<String>,
    /// Where the App's webhooks go.
    #[arg(long)]
    webhook_url: Option<String>,
    /// Their secret.
    #[arg(long, default_value = "")]
    webhook_secret: String,
    /// Lift all rate limits.
    #[arg(long)]
    unlimited: bool,
    /// Seconds after which a registered runner that never connected is removed; 0: never.
    #[arg(long, default_value_t = 120)]
    unconnected_purge: u64,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let app_key_pem =
        args.app_key.as_ref().map(std::fs::read_to_string).transpose().context("the App's key")?;
    let purge = Some(Duration::from_secs(args.unconnected_purge)).filter(|after| !after.is_zero());
    let github = GitHub::start(Options {
        addr: args.listen,
        public_url: args.public_url,
        app_id: args.app_id,
        app_key_pem,
        personal_token: args.token,
        owners: args.organizations.iter().map(|login| OwnerSpec::organization(login)).collect(),
        repositories: args.repositories,
        webhook: args.webhook_url.map(|url| (url, args.webhook_secret)),
        limits: if args.unlimited { RateLimits::unlimited() } else { RateLimits::default() },
        timing: Timing { unconnected_purge: purge, ..Timing::default() },
        ..Options::default()
    })
    .await?;
    if let Some(path) = args.write_app_key {
        std::fs::write(&path, github.app_private_key_pem()).context("cannot write the App's key")?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}, App id {}", github.url(), github.app_id())?;
    for login in &args.organizations {
        writeln!(out, "{login}: installation {}", github.installation_id(login))?;
    }
    out.flush()?;
    tokio::signal::ctrl_c().await?;
    github.shutdown().await;
    Ok(())
}
