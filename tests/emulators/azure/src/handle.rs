//! The handle that a test steers the emulator with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use emulator_common::{Faults, Journal, ServeOptions, ServerHandle, instrument, serve};

use crate::arm;
use crate::changes;
use crate::groups::meter::{self, MeterRow};
use crate::groups::view::{self, GroupView};
use crate::options::{Limits, Options, Timings};
use crate::quota::Usage;
use crate::scripts::{self, Refusal, Script};
use crate::world::World;

/// The emulated Azure.
#[derive(Debug)]
pub struct Azure;

impl Azure {
    /// Starts an emulator on a loopback port. It and every process of its groups end when the handle is dropped.
    ///
    /// # Errors
    /// The agent is not built, the port cannot be bound, or the certificate cannot be used.
    pub async fn start(options: Options) -> Result<AzureHandle> {
        let Some(agent) = options.agent.first() else { bail!("the command of the stand-in agent is empty") };
        if agent.contains('/') && !Path::new(agent).is_file() {
            bail!("the stand-in agent '{agent}' is not built: `cargo build -p emulator-azure` does it");
        }
        let serve_options = ServeOptions {
            addr: ([127, 0, 0, 1], options.port).into(),
            tls: options.tls.clone(),
            ..ServeOptions::default()
        };
        let world = Arc::new(World::new(options));
        let (faults, journal) = (Faults::default(), Journal::default());
        let emulated = instrument(arm::router(world.clone()), &faults, &journal);
        let router = arm::control::router(world.clone()).fallback_service(emulated);
        let server = serve(router, serve_options).await.context("starting the Azure emulator")?;
        Ok(AzureHandle { world, server, faults, journal })
    }
}

/// A running emulator.
#[derive(Debug)]
pub struct AzureHandle {
    world: Arc<World>,
    server: ServerHandle,
    faults: Faults,
    journal: Journal,
}

impl Drop for AzureHandle {
    fn drop(&mut self) {
        self.world.shut_down();
    }
}

impl AzureHandle {
    /// ARM's base URL, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Value for `IDENTITY_ENDPOINT`.
    pub fn msi_endpoint(&self) -> String {
        format!("{}/msi/token", self.server.url)
    }

    /// Value for `IDENTITY_HEADER`.
    pub fn identity_header(&self) -> &str {
        &self.world.options.identity_header
    }

    /// Where the groups' directories are; exists only while a group runs.
    pub fn directory(&self) -> PathBuf {
        self.world.directory.clone()
    }

    /// Every group that ARM does not answer 404 for.
    pub fn groups(&self) -> Vec<GroupView> {
        groups(&self.world)
    }

    /// The live group of that name, whatever its resource group.
    pub fn group(&self, name: &str) -> Option<GroupView> {
        self.groups().into_iter().find(|group| group.name == name)
    }

    /// Every group there ever was, oldest first.
    pub fn history(&self) -> Vec<GroupView> {
        history(&self.world)
    }

    /// What each of them costs, oldest first.
    pub fn meter(&self) -> Vec<MeterRow> {
        meter(&self.world)
    }

    /// Requests that came in.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Scripted faults of the wire.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Gives an instruction.
    pub fn script(&self, script: Script) {
        apply(&self.world, script);
    }

    /// The next group is accepted and then fails to provision with `code`.
    pub fn fail_next_provisioning(&self, code: &str) {
        self.script(Script::FailProvisioning { group: "*".to_owned(), code: code.to_owned(), count: 1 });
    }

    /// The next group stays Pending for ever.
    pub fn never_provision_next(&self) {
        self.script(Script::NeverProvision { group: "*".to_owned(), count: 1 });
    }

    /// PUTs of that image are refused with `InaccessibleImage`.
    pub fn make_unpullable(&self, image: &str) {
        self.script(Script::MakeUnpullable { image: image.to_owned(), at_pull: false });
    }

    /// The group vanishes.
    pub fn vanish(&self, group: &str) {
        self.script(Script::Vanish { group: group.to_owned() });
    }

    /// DELETEs of the group are accepted and do not end until [`Self::release_delete`].
    pub fn hold_delete(&self, group: &str, keeps_running: bool) {
        self.script(Script::HoldDelete { group: group.to_owned(), keeps_running });
    }

    /// Lets held DELETEs go on.
    pub fn release_delete(&self, group: &str) {
        self.script(Script::ReleaseDelete { group: group.to_owned() });
    }

    /// The limits in force.
    pub fn quota(&self) -> Limits {
        self.world.lock().limits
    }

    /// Replaces all limits.
    pub fn set_quota(&self, limits: Limits) {
        self.script(Script::SetLimits { limits });
    }

    /// Replaces the modelled durations for what starts from now on.
    pub fn set_timings(&self, timings: Timings) {
        self.script(Script::SetTimings { timings });
    }

    /// What others use of a region's standing quota.
    pub fn set_usage_by_others(&self, region: &str, groups: u32, cores: u32) {
        self.script(Script::SetUsageByOthers { region: region.to_owned(), groups, cores });
    }

    /// Waits until `done` holds of the live groups; returns them.
    ///
    /// # Errors
    /// `deadline` passed; the message tells how the groups stood.
    pub async fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        mut done: impl FnMut(&[GroupView]) -> bool,
    ) -> Result<Vec<GroupView>> {
        let mut changes = self.world.watch();
        let end = tokio::time::Instant::now() + deadline;
        loop {
            changes.mark_unchanged();
            let groups = self.groups();
            if done(&groups) {
                return Ok(groups);
            }
            // The sender lives as long as the handle, so an error is the deadline's.
            if tokio::time::timeout_at(end, changes.changed()).await.is_err() {
                bail!("waited {deadline:?} for {what}; the groups are {groups:#?}");
            }
        }
    }

    /// Stops the emulator, and waits until its port is closed.
    pub async fn shut_down(self) {
        self.world.shut_down();
    }
}

pub(crate) fn groups(world: &World) -> Vec<GroupView> {
    world.lock().live.values().map(view::snapshot).collect()
}

pub(crate) fn history(world: &World) -> Vec<GroupView> {
    world.lock().all_groups().into_iter().map(view::snapshot).collect()
}

pub(crate) fn meter(world: &World) -> Vec<MeterRow> {
    let now = world.now();
    world.lock().all_groups().into_iter().map(|group| meter::row(group, now)).collect()
}

/// Carries out an instruction.
pub(crate) fn apply(world: &World, script: Script) {
    let mut inner = world.lock();
    let orders = &mut inner.scripts;
    match script {
        Script::FailProvisioning { group, code, count } => {
            scripts::arm(&mut orders.fail_provisioning, group, count, code);
        }
        Script::NeverProvision { group, count } => {
            scripts::arm(&mut orders.never_provision, group, count, ())
        }
        Script::RefusePut { group, status, code, retry_after, count } => {
            scripts::arm(&mut orders.refuse_put, group, count, Refusal { status, code, retry_after });
        }
        Script::AnswerPutWith503 { group, count } => {
            scripts::arm(&mut orders.answer_put_with_503, group, count, ());
        }
        Script::NoCapacity { region, short } => {
            let region = region.to_lowercase();
            orders.no_capacity.retain(|known| *known != region);
            orders.no_capacity.extend(short.then_some(region));
        }
        Script::MakeUnpullable { image, at_pull } => {
            orders.unpullable.insert(image, at_pull);
        }
        Script::MakePullable { image } => {
            orders.unpullable.remove(&image);
        }
        Script::IgnoreNever { group, count } => scripts::arm(&mut orders.ignore_never, group, count, ()),
        Script::HoldDelete { group, keeps_running } => orders.hold_delete.push((group, keeps_running)),
        Script::ReleaseDelete { group } => orders.hold_delete.retain(|(pattern, _)| *pattern != group),
        Script::LoseDelete { group, count } => scripts::arm(&mut orders.lose_delete, group, count, ()),
        Script::SetLimits { limits } => inner.limits = limits,
        Script::SetTimings { timings } => inner.timings = timings,
        Script::SetUsageByOthers { region, groups, cores } => {
            inner.quotas.others.insert(region.to_lowercase(), Usage { groups, cores });
        }
        Script::Vanish { group } => {
            drop(inner);
            changes::vanish(world, &group);
            return;
        }
        Script::RestartContainers { group } => {
            drop(inner);
            changes::restart_containers(world, &group);
            return;
        }
    }
    drop(inner);
    world.changed();
}
