//! What an emulator is told when it starts. Defaults are Azure DevOps' own numbers where Microsoft publishes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use emulator_common::{Clock, Tls};
use jiff::Timestamp;

/// How an emulator behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Serve TLS with this certificate; absent: plain HTTP.
    pub tls: Option<Tls>,
    /// The address in answers, without the organization; absent: the one that is listened on.
    pub public_url: Option<String>,
    /// The clock to read.
    pub clock: Clock,
    /// Multiplies every modelled duration (not the jobs' own run time, nor any timestamp).
    pub time_scale: f64,
    /// The organization's name, which may begin every path.
    pub organization: String,
    /// Projects that exist from the start; others are added when first used.
    pub projects: Vec<String>,
    /// Agent pools that exist from the start.
    pub pools: Vec<String>,
    /// Who may call the API.
    pub identities: Vec<Identity>,
    /// Self-hosted jobs that may run at the same time in the organization; absent: any number.
    pub parallel_jobs: Option<u32>,
    /// The demand `Agent.Version -gtVersion …` that the service adds to every job; absent: none.
    pub minimum_agent_version: Option<String>,
    /// What may be asked how often.
    pub limits: RateLimits,
    /// How agents, jobs and notifications age.
    pub timing: Timing,
    /// Ways of the service that not every test wants to see.
    pub quirks: Quirks,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            public_url: None,
            clock: Clock::default(),
            time_scale: 1.0,
            organization: "acme".to_owned(),
            projects: vec!["app".to_owned()],
            pools: vec!["Default".to_owned()],
            identities: Vec::new(),
            parallel_jobs: None,
            minimum_agent_version: Some("2.182.1".to_owned()),
            limits: RateLimits::default(),
            timing: Timing::default(),
            quirks: Quirks::default(),
        }
    }
}

impl Options {
    /// `duration` as it passes in this emulator.
    pub(crate) fn scaled(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.time_scale.clamp(0.0, 1000.0))
    }
}

/// What kind of secret an identity shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    /// A personal access token: the password of basic authentication, whatever the user name.
    PersonalAccessToken,
    /// A token of Microsoft Entra: a bearer token, or in place of a personal access token.
    Entra,
    /// Any bearer token, for tests in which somebody else issues them.
    AnyBearer,
}

/// Someone who may call the API.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, in answers and errors.
    pub name: String,
    /// What it shows.
    pub kind: IdentityKind,
    /// The secret.
    pub secret: String,
    /// Whether it administers the agent pools: registers, changes and deletes agents.
    pub manages_pools: bool,
    /// When the secret stops being accepted; absent: never.
    pub expires_at: Option<Timestamp>,
}

impl Identity {
    /// A personal access token of an administrator of the pools.
    pub fn pat(name: &str, secret: &str) -> Self {
        Self::new(name, secret, IdentityKind::PersonalAccessToken)
    }

    /// A bearer token of an administrator of the pools.
    pub fn entra(name: &str, secret: &str) -> Self {
        Self::new(name, secret, IdentityKind::Entra)
    }

    /// Whoever shows a bearer token that is nobody else's: an administrator of the pools.
    pub fn any_bearer(name: &str) -> Self {
        Self::new(name, "", IdentityKind::AnyBearer)
    }

    fn new(name: &str, secret: &str, kind: IdentityKind) -> Self {
        let (name, secret) = (name.to_owned(), secret.to_owned());
        Self { name, kind, secret, manages_pools: true, expires_at: None }
    }

    /// May read only.
    #[must_use]
    pub fn reader(mut self) -> Self {
        self.manages_pools = false;
        self
    }

    /// Is accepted until `at`.
    #[must_use]
    pub fn until(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// The limit on consumption, in Azure DevOps throughput units (TSTU) of one identity.
///
/// The window, its 200 units and the longest delay are Microsoft's; what one request consumes is not published.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// The window over which units add up.
    pub window: Duration,
    /// Units in a window from which requests are delayed.
    pub delayed_from: f64,
    /// Units in a window from which requests are refused with 429.
    pub blocked_from: f64,
    /// The part of `delayed_from` from which answers carry `X-RateLimit-…`.
    pub headers_from: f64,
    /// The longest delay, reached at `blocked_from`.
    pub longest_delay: Duration,
    /// Units of a GET.
    pub read_cost: f64,
    /// Units of any other request.
    pub write_cost: f64,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            delayed_from: 200.0,
            blocked_from: 400.0,
            headers_from: 0.8,
            longest_delay: Duration::from_secs(30),
            read_cost: 0.05,
            write_cost: 0.2,
        }
    }
}

/// How agents, jobs and notifications age. Every duration here is multiplied by [`Options::time_scale`], save
/// `delivery_timeout` and `tick`.
#[derive(Clone, Debug)]
pub struct Timing {
    /// An agent that has not polled for this long is offline.
    pub offline_after: Duration,
    /// A running job whose agent is offline for this long is abandoned.
    pub lost_after: Duration,
    /// A job that was assigned and not fetched within this time waits for another agent.
    pub assigned_timeout: Duration,
    /// A cancelled job whose agent does not end it is ended after this.
    pub cancel_grace: Duration,
    /// The waits before each further attempt after 408, 502, 503 or 504.
    pub hook_retries: Vec<Duration>,
    /// The waits before each attempt of a subscription on probation; 36 hours in all.
    pub probation_retries: Vec<Duration>,
    /// A receiver has this long to answer a notification.
    pub delivery_timeout: Duration,
    /// How often the above is looked at.
    pub tick: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect();
        Self {
            offline_after: Duration::from_secs(120),
            lost_after: Duration::from_secs(600),
            assigned_timeout: Duration::from_secs(300),
            cancel_grace: Duration::from_secs(300),
            hook_retries: seconds(&[1, 2, 4, 8, 16, 32, 60, 60]),
            probation_retries: seconds(&[20, 120, 600, 3_600, 14_400, 36_000, 74_860]),
            delivery_timeout: Duration::from_secs(30),
            tick: Duration::from_millis(20),
        }
    }
}

/// Ways of the service that have been seen, and that not every test wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quirks {
    /// Service hooks write states and results with a capital (`Running`, `Succeeded`) and say `Running` for `inProgress`.
    pub capitalised_states: bool,
    /// An agent that was started with `--once` is given another job in the moment before it leaves.
    pub assigns_to_leaving_agents: bool,
}
