//! An Azure DevOps organization to test against: real HTTP, real service hooks, real rate limits, no Azure DevOps.
//!
//! It emulates what Stint needs of agent pools, job requests, builds, service hooks and of the way the service gives queued
//! jobs to agents. Its answers are held against Microsoft's own client (`tests/vendor.rs`). The one part that is
//! not Microsoft's is how agents talk to it (described in `agent.rs`).
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use emulator_azure_devops::{AzureDevOps, Identity, JobSpec, Options};
//! let options = Options { identities: vec![Identity::pat("controller", "a token")], ..Options::default() };
//! let devops = AzureDevOps::start(options).await?;
//! devops.add_offline_agent("Default", "placeholder", &[("stint", "small")])?;
//! let request = devops.queue_job(JobSpec::new("Default", &["stint -equals small"]))?;
//! let ended = devops.wait_for_end(request, Duration::from_secs(30)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Modules, in the order of a job's way: `steer` (the controls) and `control` (the same by HTTP), `runs` (queueing and
//! retrying), `demand` (what a job asks for), `fleet` (agents, sessions, assignment), `endings`, `upkeep` (deadlines), `state`
//! and `model` (the records), `payload` (JSON of the REST API), `events`, `hooks` and `deliver` (service hooks), `gate` and
//! `rate` (who may ask how often), `locations` and `routes` (the REST API), `agent` (the stand-in protocol).

mod agent;
mod answer;
mod control;
mod deliver;
mod demand;
mod endings;
mod events;
mod fleet;
mod gate;
mod handle;
mod hooks;
mod locations;
mod model;
mod options;
mod payload;
mod rate;
mod routes;
mod runs;
mod shared;
mod spec;
mod state;
mod steer;
mod upkeep;

pub use handle::{AzureDevOps, AzureDevOpsHandle};
pub use hooks::{HookStatus, NotificationView, SubscriptionSpec, SubscriptionView};
pub use options::{Identity, IdentityKind, Options, Quirks, RateLimits, Timing};
pub use spec::{
    AgentId, AgentView, JobResult, JobSpec, JobState, JobView, PoolId, RequestId, RunId, RunView,
};
pub use steer::AzureDevOpsControl;

pub use emulator_common::{Clock, Fault, FaultAction, Faults, Journal, RequestEntry, Tls};
