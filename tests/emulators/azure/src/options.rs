//! What a test can choose about the emulator: durations, limits, images and how answers are shaped.

use std::time::Duration;

use emulator_common::{Clock, Tls};
use serde::{Deserialize, Serialize};

/// How the emulator behaves. `Options::new(agent)` gives Azure's documented limits and real-time durations.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// Serves HTTPS with this certificate; plain HTTP when absent.
    pub tls: Option<Tls>,
    /// Program and leading arguments of the stand-in agent: the default command of every image, and (as `… supervise -- cmd`)
    /// what runs all other commands, so that no process outlives the emulator.
    pub agent: Vec<String>,
    /// What images exist, first match wins. An image that matches nothing runs the agent and has `Timings::image_mb`.
    pub images: Vec<ImageRule>,
    /// The modelled durations.
    pub timings: Timings,
    /// Multiplies every modelled duration (not the containers' own run time, nor any timestamp).
    pub time_scale: f64,
    /// Quotas and rates.
    pub limits: Limits,
    /// Multiplies the length of the quota windows (1 h, 5 min).
    pub quota_scale: f64,
    /// Groups per page of a list.
    pub page_size: usize,
    /// What a DELETE of an existing group answers.
    pub delete_answer: DeleteAnswer,
    /// The resource groups that exist; `None` means any.
    pub resource_groups: Option<Vec<String>>,
    /// Which bearer tokens ARM accepts.
    pub bearer: Bearer,
    /// Value that the managed identity endpoint wants in `X-IDENTITY-HEADER`.
    pub identity_header: String,
    /// How long an issued token is valid.
    pub token_lifetime: Duration,
    /// The clock that timestamps and quota windows are read from.
    pub clock: Clock,
}

impl Options {
    /// Azure's defaults, with the command of the stand-in agent.
    pub fn new(agent: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            port: 0,
            tls: None,
            agent: agent.into_iter().map(Into::into).collect(),
            images: Vec::new(),
            timings: Timings::default(),
            time_scale: 1.0,
            limits: Limits::default(),
            quota_scale: 1.0,
            page_size: 50,
            delete_answer: DeleteAnswer::Accepted,
            resource_groups: None,
            bearer: Bearer::Any,
            identity_header: "emulated-identity-header".to_owned(),
            token_lifetime: Duration::from_hours(24),
            clock: Clock::default(),
        }
    }

    /// The same, for tests: modelled durations are 50 times shorter.
    pub fn fast(agent: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { time_scale: 0.02, ..Self::new(agent) }
    }
}

/// What the emulator knows of images whose reference fits a pattern.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRule {
    /// Image reference; `*` stands for anything.
    pub pattern: String,
    /// What runs; the stand-in agent when absent.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Keeps `command` (or the agent) even when the container asks for a command of its own.
    #[serde(default)]
    pub ignore_container_command: bool,
    /// Compressed size, which decides how long the pull takes.
    #[serde(default)]
    pub size_mb: Option<u32>,
}

impl ImageRule {
    /// Images that fit `pattern` run `command`.
    pub fn runs(pattern: &str, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            pattern: pattern.to_owned(),
            command: Some(command.into_iter().map(Into::into).collect()),
            ignore_container_command: false,
            size_mb: None,
        }
    }
}

/// Modelled durations. Start-up on ACI is undocumented; the defaults fit what users report: a 44 MB image up in about 60 s and
/// a 900 MB one in about 110 s (2021), 20-30 s for small ones later (azure-aci#151).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timings {
    /// From the accepted PUT to the first image pull; not billed.
    pub deployment: Duration,
    /// Fixed part of a pull.
    pub pull: Duration,
    /// Added for each MB of the image.
    pub pull_per_mb: Duration,
    /// Size of images that no rule describes.
    pub image_mb: u32,
    /// From pulled to started.
    pub start: Duration,
    /// Between SIGTERM and SIGKILL when a group is stopped or deleted.
    pub stop: Duration,
    /// From DELETE to 404.
    pub delete: Duration,
    /// Before a container is started again under `restartPolicy`.
    pub restart: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            deployment: Duration::from_secs(15),
            pull: Duration::from_secs(3),
            pull_per_mb: Duration::from_millis(58),
            image_mb: 300,
            start: Duration::from_secs(1),
            stop: Duration::from_secs(5),
            delete: Duration::from_secs(10),
            restart: Duration::from_secs(2),
        }
    }
}

/// Limits per subscription and region, and ARM's per caller. Azure's documented defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Container groups, ended ones included.
    pub groups: u32,
    /// Cores of groups that have not ended.
    pub cores: u32,
    /// Groups created in an hour.
    pub creates_per_hour: u32,
    /// Groups created in 5 minutes.
    pub creates_per_5_min: u32,
    /// Groups deleted in an hour.
    pub deletes_per_hour: u32,
    /// Groups deleted in 5 minutes.
    pub deletes_per_5_min: u32,
    /// ARM's bucket of reads: capacity.
    pub reads: u32,
    /// ARM's bucket of reads: refill per second.
    pub reads_per_second: u32,
    /// ARM's bucket of writes and deletes: capacity.
    pub writes: u32,
    /// ARM's bucket of writes and deletes: refill per second.
    pub writes_per_second: u32,
    /// vCPU of one group.
    pub group_vcpu: u32,
    /// Memory of one group in GB.
    pub group_memory_gb: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups: 100,
            cores: 100,
            creates_per_hour: 300,
            creates_per_5_min: 100,
            deletes_per_hour: 300,
            deletes_per_5_min: 100,
            reads: 250,
            reads_per_second: 25,
            writes: 200,
            writes_per_second: 10,
            group_vcpu: 31,
            group_memory_gb: 240,
        }
    }
}

/// What a DELETE of an existing group answers; all three are documented for this resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteAnswer {
    /// 200 with the group in the body.
    Ok,
    /// 202 with `Azure-AsyncOperation`, `Location` and `Retry-After`.
    Accepted,
}

/// Which bearer tokens ARM accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bearer {
    /// Any token, except one that the emulator issued and that has expired.
    Any,
    /// Only tokens that the emulator's own endpoints issued and that have not expired.
    Issued,
}

impl Options {
    /// `duration` as it passes in this emulator.
    pub(crate) fn scaled(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.time_scale.clamp(0.0, 1000.0))
    }

    /// The rule that fits an image, if any.
    pub(crate) fn image(&self, image: &str) -> Option<&ImageRule> {
        self.images.iter().find(|rule| emulator_common::glob_matches(&rule.pattern, image))
    }

    /// What runs for a container: the command line, and whether it is the agent itself.
    pub(crate) fn command_line(&self, image: &str, command: &[String]) -> Vec<String> {
        let rule = self.image(image);
        let ignored = rule.is_some_and(|rule| rule.ignore_container_command);
        let asked = (!ignored && !command.is_empty()).then(|| command.to_vec());
        match asked.or_else(|| rule.and_then(|rule| rule.command.clone())) {
            None => self.agent.clone(),
            Some(command) => {
                let supervise = ["supervise".to_owned(), "--".to_owned()];
                self.agent.iter().cloned().chain(supervise).chain(command).collect()
            }
        }
    }
}
