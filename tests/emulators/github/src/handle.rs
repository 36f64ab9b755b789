//! Starts an emulator inside the calling process.

use std::ops::Deref;
use std::sync::Arc;

use emulator_common::{ServeOptions, ServerHandle, instrument, serve};
use tokio::task::JoinHandle;

use crate::options::{Assignment, Options};
use crate::shared::Shared;
use crate::steer::GitHubControl;
use crate::{agent, control, routes};

/// The emulator of GitHub.
#[derive(Debug)]
pub struct GitHub;

/// A running emulator, with its controls. Dropping it closes its port and stops its deliveries.
#[derive(Debug)]
pub struct GitHubHandle {
    control: GitHubControl,
    server: ServerHandle,
    _ticking: Ticking,
}

impl GitHub {
    /// Starts an emulator.
    ///
    /// # Errors
    /// The address cannot be bound, a name is malformed, or the App's key cannot be used.
    pub async fn start(options: Options) -> anyhow::Result<GitHubHandle> {
        let shared = Arc::new(Shared::new(options, tokio::runtime::Handle::current())?);
        let router = routes::api(&shared).merge(agent::routes(&shared)).merge(control::routes(&shared));
        let serve_options =
            ServeOptions { addr: shared.options.addr, tls: shared.options.tls.clone(), host: None };
        let server = serve(instrument(router, &shared.faults, &shared.journal), serve_options).await?;
        // This is the only place that sets it.
        let _ = shared.url.set(server.url.clone());
        populate(&shared)?;
        let ticking = Ticking(tokio::spawn(tick(Arc::clone(&shared))));
        let control = GitHubControl { shared };
        if let Some((url, secret)) = &control.shared.options.webhook {
            control.set_webhook(url, secret);
        }
        Ok(GitHubHandle { control, server, _ticking: ticking })
    }
}

fn populate(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let base = shared.base();
    shared.change(|state, now| {
        let options = &shared.options;
        state.base = base;
        state.assignment = options.assignment;
        state.add_self_hosted_label = options.add_self_hosted_label;
        if let Assignment::Seeded(seed) = options.assignment {
            state.random = seed.wrapping_mul(2) | 1;
        }
        for group in &options.runner_groups {
            state.groups.retain(|old| old.id != group.id);
            state.groups.push(group.clone());
        }
        for owner in &options.owners {
            state.owner(owner, now);
        }
        for name in &options.repositories {
            state.repository(name, false, now)?;
        }
        Ok(())
    })
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(shared.options.timing.tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shared.change(|state, now| state.tick(&shared.options.timing, now));
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

impl GitHubHandle {
    /// Where the API is.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Stops, and waits until the address is free.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl Deref for GitHubHandle {
    type Target = GitHubControl;

    fn deref(&self) -> &GitHubControl {
        &self.control
    }
}
