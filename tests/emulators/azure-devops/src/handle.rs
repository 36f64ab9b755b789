//! Starts an emulator inside the calling process.

use std::ops::Deref;
use std::sync::Arc;

use emulator_common::{ServeOptions, ServerHandle, instrument, serve};
use tokio::task::JoinHandle;

use crate::options::Options;
use crate::shared::Shared;
use crate::steer::AzureDevOpsControl;
use crate::{agent, control, gate};

/// The emulator of Azure DevOps.
#[derive(Debug)]
pub struct AzureDevOps;

/// A running emulator, with its controls. Dropping it closes its port and stops its notifications.
#[derive(Debug)]
pub struct AzureDevOpsHandle {
    control: AzureDevOpsControl,
    server: ServerHandle,
    _ticking: Ticking,
}

impl AzureDevOps {
    /// Starts an emulator.
    ///
    /// # Errors
    /// The address cannot be bound, or a project's or pool's name cannot be used.
    pub async fn start(options: Options) -> anyhow::Result<AzureDevOpsHandle> {
        let shared = Arc::new(Shared::new(options, tokio::runtime::Handle::current())?);
        let router =
            agent::routes(&shared).merge(control::routes(&shared)).fallback_service(gate::service(&shared));
        let serve_options =
            ServeOptions { addr: shared.options.addr, tls: shared.options.tls.clone(), host: None };
        let server = serve(instrument(router, &shared.faults, &shared.journal), serve_options).await?;
        // This is the only place that sets it.
        let _ = shared.url.set(server.url.clone());
        let base = shared.base();
        shared.change(|state, _| state.base = base);
        let ticking = Ticking(tokio::spawn(tick(Arc::clone(&shared))));
        Ok(AzureDevOpsHandle { control: AzureDevOpsControl { shared }, server, _ticking: ticking })
    }
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(shared.options.timing.tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shared.change(|state, now| state.tick(&shared.options, now));
    }
}

/// Ends the clockwork when dropped.
#[derive(Debug)]
struct Ticking(JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AzureDevOpsHandle {
    /// Where the server is, without the organization.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Stops, and waits until the address is free.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl Deref for AzureDevOpsHandle {
    type Target = AzureDevOpsControl;

    fn deref(&self) -> &AzureDevOpsControl {
        &self.control
    }
}
