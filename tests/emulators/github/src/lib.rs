//! A GitHub to test against: real HTTP, real signatures, real rate limits, no GitHub.
//!
//! It emulates what Stint needs of GitHub's REST API, webhooks and job assignment. Status codes, headers and bodies are
//! held against GitHub's published OpenAPI description by GitHub's own client (`tests/vendor.rs`). The one part that is not
//! GitHub's is how agents talk to it (described in `agent.rs`): the real protocol is not public.
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use emulator_github::{GitHub, JobSpec, Options};
//! let github = GitHub::start(Options::default()).await?;
//! github.set_webhook("http://127.0.0.1:8080/webhooks/github", "secret");
//! let job = github.queue_job(JobSpec::new("acme/app", &["stint"]).lasting(Duration::from_secs(2)))?;
//! let ended = github.wait_for_end(job, Duration::from_secs(30)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Modules, in the order of a job's way: `steer` (the controls) and `control` (the same by HTTP), `jobs`, `fleet` (runners,
//! sessions, assignment), `upkeep` (deadlines), `state` and `model` (the records), `commits`
//! (branches and check-runs), `payload` (GitHub's JSON), `hooks` and
//! `deliver` (webhooks), `gate` and `rate` (who may ask how often), `routes` (the REST API), `agent` (the stand-in protocol).

mod agent;
mod answer;
mod commits;
mod control;
mod crypto;
mod deliver;
mod fleet;
mod gate;
mod handle;
mod hooks;
mod jobs;
mod model;
mod options;
mod payload;
mod rate;
mod routes;
mod shared;
mod spec;
mod state;
mod steer;
mod upkeep;

pub use commits::CheckRunView;
pub use handle::{GitHub, GitHubHandle};
pub use hooks::{Chaos, DeliveryView, HookKind, WebhookEffect, WebhookRule};
pub use options::{Assignment, Options, OwnerSpec, RateLimits, RunnerGroupSpec, Timing};
pub use spec::{Conclusion, JobId, JobSpec, JobStatus, JobView, RunId, RunnerId, RunnerView};
pub use steer::GitHubControl;

pub use emulator_common::{Clock, Fault, FaultAction, Faults, Journal, RequestEntry, Tls};
