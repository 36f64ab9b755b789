//! `emulator-azure-devops`: the emulator by hand.

use std::io::Write;
use std::net::SocketAddr;

use clap::Parser;
use emulator_azure_devops::{AzureDevOps, Identity, Options, SubscriptionSpec};

/// An Azure DevOps organization to test against. Steer it under /_emulator.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9280")]
    listen: SocketAddr,
    /// The address in answers, where clients reach the emulator under another name.
    #[arg(long)]
    public_url: Option<String>,
    /// The organization's name.
    #[arg(long, default_value = "acme")]
    organization: String,
    /// A project that exists; may be repeated.
    #[arg(long = "project", default_value = "app")]
    projects: Vec<String>,
    /// An agent pool that exists; may be repeated.
    #[arg(long = "pool", default_value = "Default")]
    pools: Vec<String>,
    /// A personal access token to accept, of an administrator of the pools.
    #[arg(long)]
    pat: Option<String>,
    /// Accept any bearer token as of an administrator of the pools.
    #[arg(long)]
    any_bearer: bool,
    /// Self-hosted jobs that may run at the same time; absent: any number.
    #[arg(long)]
    parallel_jobs: Option<u32>,
    /// Multiplies every modelled duration.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Where changes of jobs' states are sent.
    #[arg(long)]
    hook_url: Option<String>,
    /// The user name that the hook shows.
    #[arg(long, default_value = "")]
    hook_user: String,
    /// The password that the hook shows.
    #[arg(long, default_value = "")]
    hook_password: String,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let pat = args.pat.as_deref().map(|secret| Identity::pat("pat", secret));
    let bearer = args.any_bearer.then(|| Identity::any_bearer("entra"));
    let identities: Vec<Identity> = pat.into_iter().chain(bearer).collect();
    if identities.is_empty() {
        anyhow::bail!("nobody could call the API: give --pat or --any-bearer");
    }
    let devops = AzureDevOps::start(Options {
        addr: args.listen,
        public_url: args.public_url,
        organization: args.organization,
        projects: args.projects,
        pools: args.pools,
        identities,
        parallel_jobs: args.parallel_jobs,
        time_scale: args.time_scale,
        ..Options::default()
    })
    .await?;
    if let Some(url) = &args.hook_url {
        let spec = SubscriptionSpec::webhook("ms.vss-pipelines.job-state-changed-event", url)
            .consumer("basicAuthUsername", &args.hook_user)
            .consumer("basicAuthPassword", &args.hook_password);
        devops.subscribe(spec)?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", devops.organization_url())?;
    out.flush()?;
    tokio::signal::ctrl_c().await?;
    devops.shutdown().await;
    Ok(())
}
