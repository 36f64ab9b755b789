//! What an emulator is told when it starts. Defaults are GitHub's own numbers where GitHub publishes them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use emulator_common::{Clock, Tls};

use crate::hooks::Chaos;

/// How an emulator behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Serve TLS with this certificate; absent: plain HTTP.
    pub tls: Option<Tls>,
    /// The address in answers and JIT configs; absent: the one that is listened on. Containers need another name for it.
    pub public_url: Option<String>,
    /// The clock to read.
    pub clock: Clock,
    /// The App's id; its client id is `Iv23li` followed by it.
    pub app_id: u64,
    /// The App's slug.
    pub app_slug: String,
    /// The App's private key as PEM; absent: one is made.
    pub app_key_pem: Option<String>,
    /// The App's permissions, which its installations carry.
    pub permissions: BTreeMap<String, String>,
    /// A personal access token that may do everything; absent: none is accepted.
    pub personal_token: Option<String>,
    /// Owners that have the App installed from the start; others are added when first used.
    pub owners: Vec<OwnerSpec>,
    /// Repositories that exist from the start, as `owner/name`; others are added when first used.
    pub repositories: Vec<String>,
    /// Runner groups besides the default one (id 1, every private repository).
    pub runner_groups: Vec<RunnerGroupSpec>,
    /// Where the App's webhooks go, and their secret.
    pub webhook: Option<(String, String)>,
    /// Losses and other mischief on every delivery.
    pub chaos: Chaos,
    /// What may be asked how often.
    pub limits: RateLimits,
    /// How runners and jobs age.
    pub timing: Timing,
    /// Which queued job an idle runner gets.
    pub assignment: Assignment,
    /// Whether every registered runner carries `self-hosted` even where the request did not name it. GitHub's
    /// example answer shows only labels that were asked for, so the default is the stricter reading.
    pub add_self_hosted_label: bool,
    /// What GitHub Enterprise Server says in its headers (version); absent: github.com.
    pub enterprise_version: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        let permissions = [
            ("actions", "write"),
            ("administration", "write"),
            ("checks", "write"),
            ("contents", "read"),
            ("metadata", "read"),
            ("organization_self_hosted_runners", "write"),
        ];
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            public_url: None,
            clock: Clock::default(),
            app_id: 1001,
            app_slug: "stint".to_owned(),
            app_key_pem: None,
            permissions: permissions.map(|(name, level)| (name.to_owned(), level.to_owned())).into(),
            personal_token: None,
            owners: Vec::new(),
            repositories: Vec::new(),
            runner_groups: Vec::new(),
            webhook: None,
            chaos: Chaos::default(),
            limits: RateLimits::default(),
            timing: Timing::default(),
            assignment: Assignment::default(),
            add_self_hosted_label: false,
            enterprise_version: None,
        }
    }
}

/// An account that has the App installed.
#[derive(Clone, Debug)]
pub struct OwnerSpec {
    /// Its login.
    pub login: String,
    /// Whether it is an organization; a user has runners on repositories only.
    pub organization: bool,
}

impl OwnerSpec {
    /// An organization.
    pub fn organization(login: &str) -> Self {
        Self { login: login.to_owned(), organization: true }
    }

    /// A user.
    pub fn user(login: &str) -> Self {
        Self { login: login.to_owned(), organization: false }
    }
}

/// A runner group of every organization.
#[derive(Clone, Debug)]
pub struct RunnerGroupSpec {
    /// Its id; 1 replaces the default group.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether public repositories may use it.
    pub allows_public_repositories: bool,
    /// The repositories (`owner/name`) that may use it; absent: all.
    pub repositories: Option<Vec<String>>,
}

/// GitHub's limits; the defaults are the documented ones for a small installation.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// Requests an hour and installation.
    pub core_per_hour: u32,
    /// Registrations that may be made at once.
    pub registration_burst: u32,
    /// Registrations that come back each minute.
    pub registration_per_minute: u32,
    /// Registrations per scope in five minutes.
    pub registrations_per_scope: u32,
    /// Requests at the same time.
    pub concurrent: u32,
    /// Points a minute (GET 1, others 5), the secondary limit.
    pub points_per_minute: u32,
    /// The status of an answer that a limit refuses: GitHub uses 403 and 429.
    pub status: u16,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            core_per_hour: 5_000,
            registration_burst: 180,
            registration_per_minute: 166,
            registrations_per_scope: 1_500,
            concurrent: 100,
            points_per_minute: 900,
            status: 403,
        }
    }
}

impl RateLimits {
    /// Limits that no test reaches.
    pub fn unlimited() -> Self {
        const MANY: u32 = 1_000_000_000;
        Self {
            core_per_hour: MANY,
            registration_burst: MANY,
            registration_per_minute: MANY,
            registrations_per_scope: MANY,
            concurrent: MANY,
            points_per_minute: MANY,
            status: 403,
        }
    }
}

/// How runners and jobs age.
#[derive(Clone, Debug)]
pub struct Timing {
    /// An agent that has not polled for this long is offline.
    pub offline_after: Duration,
    /// A job whose runner is offline for this long has failed.
    pub lost_after: Duration,
    /// A job that was assigned and not fetched within this time is queued again.
    pub assigned_timeout: Duration,
    /// A registered JIT runner whose agent never connected is removed after this.
    pub unconnected_purge: Option<Duration>,
    /// A connected runner without a job is removed after this.
    pub idle_purge: Option<Duration>,
    /// A cancelled job whose agent does not end it is ended after this.
    pub cancel_grace: Duration,
    /// A job that stays queued for this long has failed.
    pub queue_timeout: Duration,
    /// An installation token lives this long.
    pub token_lifetime: Duration,
    /// Deliveries are kept this long.
    pub delivery_retention: Duration,
    /// A receiver has this long to answer a delivery.
    pub delivery_timeout: Duration,
    /// How often the above is looked at.
    pub tick: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            offline_after: Duration::from_secs(60),
            lost_after: Duration::from_secs(600),
            assigned_timeout: Duration::from_secs(60),
            unconnected_purge: Some(Duration::from_secs(120)),
            idle_purge: None,
            cancel_grace: Duration::from_secs(300),
            queue_timeout: Duration::from_secs(24 * 3600),
            token_lifetime: Duration::from_secs(3600),
            delivery_retention: Duration::from_secs(3 * 24 * 3600),
            delivery_timeout: Duration::from_secs(10),
            tick: Duration::from_millis(100),
        }
    }
}

/// Which queued job an idle runner gets, and which idle runner a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// The oldest of both.
    #[default]
    OldestFirst,
    /// The newest of both, which makes runners change hands.
    NewestFirst,
    /// Any, the same for the same seed and order of events.
    Seeded(u64),
}
