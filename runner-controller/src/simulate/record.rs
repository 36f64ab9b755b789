//! What a simulation leaves: each job's end, each bill, how full everything was, and how it went over time. Plain data.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use runner_core::billing::Bill;

/// The word for the time in which a job's runner starts, among the codes of reasons.
pub const STARTING: &str = "Starting";

/// All that came of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// One for each job, in the order of the jobs.
    pub jobs: Vec<JobRecord>,
    /// One for each container group that billed, in the order of their ends.
    pub bills: Vec<BillRecord>,
    /// How full everything was that has a cap, and each place.
    pub gauges: Vec<GaugeRecord>,
    /// How many jobs waited and ran, over time.
    pub timeline: Vec<Bin>,
    /// How long one bin is.
    pub bin: SignedDuration,
    /// How many runners ended for each reason, by code.
    pub runner_ends: BTreeMap<String, u64>,
    /// When the first job was queued.
    pub from: Timestamp,
    /// When the last runner was gone, or the last job was queued.
    pub to: Timestamp,
    /// How many passes the planner made.
    pub passes: u64,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its end.
    pub outcome: Outcome,
    /// When an agent had it.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Timestamp,
    /// Class and size that it matched, as the label that asks for it.
    pub class: Option<String>,
    /// Where it ran.
    pub place: Option<String>,
    /// How many runners were started for it.
    pub runners: u32,
    /// How long it waited for each reason, by code, and for its runner's start, in the order in which they came up.
    pub waited: Vec<(&'static str, SignedDuration)>,
}

/// How a job ended. Each has exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// An agent had it, and it ran to its end.
    Ran,
    /// It was cancelled before an agent had it.
    Cancelled,
    /// No runner is ever started for such a job: the code says why.
    Refused(&'static str),
    /// As many runners as allowed were started for it, and none took it.
    GivenUp(&'static str),
    /// It still waited when its source gave it up after a day: the code says for what.
    NeverStarted(&'static str),
}

impl Outcome {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ran => "ran",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused(_) => "refused",
            Outcome::GivenUp(_) => "givenUp",
            Outcome::NeverStarted(_) => "neverStarted",
        }
    }

    /// Code of the reason, where there is one.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Outcome::Ran | Outcome::Cancelled => None,
            Outcome::Refused(code) | Outcome::GivenUp(code) | Outcome::NeverStarted(code) => Some(code),
        }
    }
}

/// A bill, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillRecord {
    /// The bill.
    pub bill: Bill,
    /// Name of the runner.
    pub runner: String,
    /// Index of the job that it ran, else of the one it was started for.
    pub job: usize,
    /// Whether it ran one.
    pub ran: bool,
    /// Class and size, as the label that asks for it.
    pub class: String,
    /// Place.
    pub place: String,
    /// Code of the reason for its end.
    pub ended_because: String,
}

/// What a gauge measures.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GaugeKey {
    /// Runners of the installation.
    Installation,
    /// Runners of a class.
    Class(String),
    /// Runners of one size, by its label.
    Size(String),
    /// What one group of a ConcurrencyLimit uses: its name, the group's values, and the word for what is capped.
    Limit(String, Vec<String>, &'static str),
    /// Runners at a place.
    Place(String),
}

/// How full something was.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeRecord {
    /// What.
    pub key: GaugeKey,
    /// The most that there may be; `None`: as many as come.
    pub cap: Option<u64>,
    /// The most that there was at once.
    pub peak: u64,
    /// How much there was on average over the whole time.
    pub mean: f64,
    /// For how long it was full.
    pub full: SignedDuration,
}

/// What was so during a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Jobs without an agent, on average.
    pub queued: f64,
    /// The most of them at once.
    pub queued_peak: u64,
    /// Jobs that ran, on average.
    pub running: f64,
    /// The most of them at once.
    pub running_peak: u64,
}
