//! The life of a group: deployment, pull, start, running, end. One task per run of a group moves it along.
//!
//! A life only ever changes its own group, found by key, number and run, so that a successor of the same name is
//! never touched. It ends early on an order (stop, vanish); its end is announced in `Group::idle`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::process::{Launch, Process};
use super::request::{Requested, RequestedContainer, RestartPolicy};
use super::volumes::GroupDirectory;
use super::{
    ContainerState, ContainerStatus, GroupKey, GroupState, Orders, ProvisioningState, to_millisecond,
    to_second,
};
use crate::scripts;
use crate::world::World;

/// How provisioning goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provisioning {
    Succeeds,
    /// With this error code.
    Fails(String),
    Never,
}

/// One run of one group.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) key: GroupKey,
    pub(crate) number: u64,
    pub(crate) run: u64,
    pub(crate) requested: Arc<Requested>,
    pub(crate) provisioning: Provisioning,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) idle: watch::Sender<bool>,
}

/// Why a life did not go on to its natural end.
enum Halt {
    /// An order came.
    Ordered,
    /// Provisioning failed.
    Failed { code: String, message: String },
}

impl Life {
    /// Moves the group until it has ended.
    pub(crate) async fn live(mut self) {
        let halt = self.deploy_and_run().await.err();
        self.settle(halt);
        self.idle.send_replace(true);
        self.world.changed();
    }

    async fn deploy_and_run(&mut self) -> Result<(), Halt> {
        let timings = self.world.timings();
        self.pause(self.world.options.scaled(timings.deployment)).await?;
        match self.provisioning.clone() {
            Provisioning::Succeeds => {}
            Provisioning::Never => {
                self.ordered().await;
                return Err(Halt::Ordered);
            }
            Provisioning::Fails(code) => {
                let message = format!("The deployment of the container group failed: {code}.");
                return Err(Halt::Failed { code, message });
            }
        }
        self.pull().await?;
        self.pause(self.world.options.scaled(timings.start)).await?;
        let base = self.world.directory.clone();
        let name = format!("{}-{}", self.key.name, self.number);
        let directory = GroupDirectory::create(&base, &name, &self.requested).map_err(|error| {
            Halt::Failed { code: "VolumeMountFailed".into(), message: format!("{error:#}") }
        })?;
        let directory = Arc::new(directory);
        for container in self.requested.clone().init_containers.iter() {
            let code = self.clone().run_container(container.clone(), directory.clone()).await;
            self.check_orders()?;
            if code != 0 {
                let message = format!("The init container '{}' ended with {code}.", container.name);
                return Err(Halt::Failed { code: "InitContainerFailed".into(), message });
            }
        }
        let mut running = JoinSet::new();
        for container in &self.requested.containers {
            running.spawn(self.clone().run_container(container.clone(), directory.clone()));
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a container's task ended unexpectedly");
            }
        }
        self.check_orders()
    }

    async fn pull(&mut self) -> Result<(), Halt> {
        self.update(|group, now| {
            if group.provisioning == ProvisioningState::Pending {
                group.provisioning = ProvisioningState::Creating;
            }
            group.billed.push((to_second(now), None));
            for container in group.all_containers() {
                container.event("Pulling", "Normal", format!("pulling image \"{}\"", container.image), now);
            }
        });
        let images = || self.requested.init_containers.iter().chain(&self.requested.containers);
        let times = images().map(|container| self.world.pull_time(&container.image));
        let longest = times.max().unwrap_or_default();
        let inaccessible = images()
            .map(|container| container.image.clone())
            .find(|image| self.world.lock().scripts.is_unpullable(image, true));
        self.pause(longest).await?;
        if let Some(image) = inaccessible {
            self.update(|group, now| {
                for container in group.all_containers().filter(|container| container.image == image) {
                    container.event("Failed", "Warning", format!("Failed to pull image \"{image}\""), now);
                    container.current = ContainerState::waiting("ErrImagePull");
                }
            });
            let message = format!("The image '{image}' is not accessible.");
            return Err(Halt::Failed { code: "InaccessibleImage".into(), message });
        }
        self.update(|group, now| {
            for container in group.all_containers() {
                let message = format!("Successfully pulled image \"{}\"", container.image);
                container.event("Pulled", "Normal", message, now);
            }
        });
        Ok(())
    }

    /// Runs one container for as long as its restart policy says; its last exit code.
    async fn run_container(mut self, container: RequestedContainer, directory: Arc<GroupDirectory>) -> i32 {
        let mut restarts_seen = self.forced_restarts(&container.name);
        loop {
            let (code, by_order) = match self.start(&container, &directory) {
                Err(error) => {
                    self.fail_to_start(&container, &format!("{error:#}"));
                    (128, false)
                }
                Ok(mut process) => {
                    let interrupted = {
                        let name = container.name.as_str();
                        let interesting = |orders: &Orders| {
                            orders.stop || orders.vanish || orders.restarts.get(name).copied() > restarts_seen
                        };
                        tokio::select! {
                            code = process.wait() => Ok(code),
                            orders = self.orders.wait_for(interesting) => Err(orders.is_ok_and(|orders| orders.vanish)),
                        }
                    };
                    let code = match interrupted {
                        Ok(code) => (code, false),
                        Err(at_once) => {
                            let grace = self.world.options.scaled(self.world.timings().stop);
                            (process.terminate(if at_once { Duration::ZERO } else { grace }).await, true)
                        }
                    };
                    self.ended(&container, code.0, code.1);
                    code
                }
            };
            if self.check_orders().is_err() {
                return code;
            }
            let forced = by_order && self.forced_restarts(&container.name) > restarts_seen;
            restarts_seen = self.forced_restarts(&container.name);
            let again = forced
                || match self.requested.restart_policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::OnFailure => code != 0,
                    RestartPolicy::Never => code != 0 && self.ignores_never(),
                };
            let is_init = self.requested.init_containers.iter().any(|init| init.name == container.name);
            if !again || (is_init && code == 0) {
                return code;
            }
            self.wait_again(&container.name);
            if self.pause(self.world.options.scaled(self.world.timings().restart)).await.is_err() {
                return code;
            }
        }
    }

    fn forced_restarts(&self, container: &str) -> Option<u32> {
        self.orders.borrow().restarts.get(container).copied()
    }

    fn ignores_never(&self) -> bool {
        scripts::take(&mut self.world.lock().scripts.ignore_never, &self.key.name).is_some()
    }

    fn start(&self, container: &RequestedContainer, directory: &GroupDirectory) -> anyhow::Result<Process> {
        let logs = self
            .update(|group, _| group.container_mut(&container.name).map(|container| container.logs.clone()))
            .flatten()
            .unwrap_or_default();
        let process = Process::spawn(&Launch {
            command: &self.world.options.command_line(&container.image, &container.command),
            environment: &container.environment,
            root: &directory.root(&container.name),
            logs: &logs,
            clock: &self.world.options.clock,
            groups: &self.world.processes,
        })?;
        self.update(|group, now| {
            if let Some(shown) = group.container_mut(&container.name) {
                shown.pid = process.id();
                shown.current = ContainerState {
                    status: ContainerStatus::Running,
                    detail: String::new(),
                    started_at: Some(to_millisecond(now)),
                    finished_at: None,
                    exit_code: None,
                };
                shown.event("Created", "Normal", format!("Created container {}", container.name), now);
                shown.event("Started", "Normal", format!("Started container {}", container.name), now);
            }
            let waits = |container: &super::Container| container.current.status == ContainerStatus::Waiting;
            if !group.containers.iter().any(waits) {
                group.state = GroupState::Running;
                if group.provisioning == ProvisioningState::Creating {
                    group.provisioning = ProvisioningState::Succeeded;
                }
            }
        });
        Ok(process)
    }

    fn ended(&self, container: &RequestedContainer, code: i32, by_order: bool) {
        self.update(|group, now| {
            let Some(shown) = group.container_mut(&container.name) else { return };
            let message = format!("Killing container {}", container.name);
            if by_order {
                shown.event("Killing", "Normal", message, now);
            }
            let at = to_millisecond(now);
            shown.pid = None;
            shown.current.status = ContainerStatus::Terminated;
            shown.current.detail = if code == 0 { "Completed" } else { "Error" }.to_owned();
            shown.current.finished_at = Some(shown.current.started_at.map_or(at, |started| at.max(started)));
            shown.current.exit_code = Some(code);
            shown.logs.lock().unwrap_or_else(PoisonError::into_inner).ended();
        });
    }

    fn fail_to_start(&self, container: &RequestedContainer, why: &str) {
        self.update(|group, now| {
            let Some(shown) = group.container_mut(&container.name) else { return };
            shown.event("Failed", "Warning", format!("Error: {why}"), now);
            let at = Some(to_millisecond(now));
            shown.current = ContainerState {
                status: ContainerStatus::Terminated,
                detail: "StartError".to_owned(),
                started_at: at,
                finished_at: at,
                exit_code: Some(128),
            };
            if group.provisioning == ProvisioningState::Creating {
                group.provisioning = ProvisioningState::Succeeded;
            }
        });
    }

    fn wait_again(&self, container: &str) {
        self.update(|group, now| {
            let Some(shown) = group.container_mut(container) else { return };
            let next = ContainerState::waiting("CrashLoopBackOff");
            shown.previous = Some(std::mem::replace(&mut shown.current, next));
            shown.restart_count = shown.restart_count.saturating_add(1);
            shown.event("BackOff", "Warning", "Back-off restarting container".to_owned(), now);
        });
    }

    /// Writes down how it ended.
    fn settle(&self, halt: Option<Halt>) {
        self.update(|group, now| {
            let finished = group.all_containers().filter_map(|container| container.current.finished_at).max();
            let deleting = group.provisioning == ProvisioningState::Deleting;
            match halt {
                None => {
                    let failed = |container: &super::Container| container.current.exit_code != Some(0);
                    let any_failed = group.containers.iter().any(failed);
                    group.state = if any_failed { GroupState::Failed } else { GroupState::Succeeded };
                    group.stop_billing(finished.unwrap_or(now));
                }
                Some(Halt::Ordered) => {
                    group.state = GroupState::Stopped;
                    if !deleting {
                        group.provisioning = ProvisioningState::Succeeded;
                    }
                    group.stop_billing(finished.unwrap_or(to_millisecond(now)));
                }
                Some(Halt::Failed { code, message }) => {
                    group.state = GroupState::Failed;
                    if !deleting {
                        group.provisioning = ProvisioningState::Failed;
                    }
                    let at = to_second(now);
                    let message = format!("{code}: {message}");
                    let event = super::Event {
                        name: "Failed",
                        kind: "Warning",
                        message,
                        first: at,
                        last: at,
                        count: 1,
                    };
                    group.events.push(event);
                    group.stop_billing(to_millisecond(now));
                }
            }
        });
    }

    fn update<R>(&self, change: impl FnOnce(&mut super::Group, jiff::Timestamp) -> R) -> Option<R> {
        self.world.update(&self.key, (self.number, self.run), change)
    }

    fn check_orders(&self) -> Result<(), Halt> {
        let orders = self.orders.borrow();
        if orders.stop || orders.vanish { Err(Halt::Ordered) } else { Ok(()) }
    }

    async fn ordered(&mut self) {
        // An error means that the group is gone for good.
        let _ = self.orders.wait_for(|orders| orders.stop || orders.vanish).await;
    }

    async fn pause(&mut self, duration: Duration) -> Result<(), Halt> {
        tokio::select! {
            () = tokio::time::sleep(duration) => self.check_orders(),
            () = self.ordered() => Err(Halt::Ordered),
        }
    }
}
