//! What a run is made from: jobs, configuration and faults, all drawn from one seed.

use std::fmt::Write as _;

use crate::chance::Chance;
use crate::fault::{AgentFate, Fault, GroupFate, Peer, Trouble, WriteFault};
use crate::github::AGAIN_AFTER;

/// A run's plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The seed, from which everything is drawn that is not said here, such as how long calls take.
    pub seed: u64,
    /// The configuration.
    pub setup: Setup,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// The configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// How many runners there may be at once.
    pub max_runners: u32,
    /// How many of the class `stint`.
    pub max_of_class: u32,
    /// How many at once for each repository, where that is limited.
    pub max_per_repository: Option<u32>,
    /// Whether groups are made without a cluster's virtual node.
    pub without_node: bool,
    /// Whether agents call back.
    pub callbacks: bool,
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its number, which is GitHub's id of it.
    pub number: u64,
    /// The second at which it is queued.
    pub arrives: u64,
    /// For how many seconds it runs.
    pub runs_for: u64,
    /// Its repository.
    pub repository: &'static str,
    /// What it asks for.
    pub labels: &'static [&'static str],
    /// It is cancelled so many seconds after it was queued, unless it is over.
    pub cancelled: Option<u64>,
    /// An approval holds it back for so many seconds.
    pub approved: Option<u64>,
    /// It is skipped: it ends without ever being queued.
    pub skipped: bool,
    /// It is run again once it is over.
    pub again: bool,
}

/// Labels that jobs ask for; some cover others, and one is nobody's.
const LABELS: [&[&str]; 7] = [
    &["stint"],
    &["self-hosted", "stint"],
    &["self-hosted", "linux", "stint"],
    &["big-s"],
    &["big-l", "linux"],
    &["big-l", "fast"],
    &["self-hosted", "nobodys"],
];
/// Repositories, all of one owner.
pub const REPOSITORIES: [&str; 3] = ["acme/web", "acme/lib", "acme/app"];

impl Scenario {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed, "plan");
        let setup = Setup {
            max_runners: u32::try_from(chance.between(2, 8)).unwrap_or(2),
            max_of_class: u32::try_from(chance.between(1, 5)).unwrap_or(1),
            max_per_repository: chance.percent(40).then(|| u32::try_from(chance.between(1, 3)).unwrap_or(1)),
            without_node: chance.percent(25),
            callbacks: chance.percent(60),
        };
        let count = chance.between(1, 10);
        let jobs = (1..=count).map(|number| job(number, &mut chance)).collect();
        let mut scenario = Self { seed, setup, jobs, faults: Vec::new() };
        scenario.faults = faults(&scenario, &mut chance);
        scenario
    }

    /// One job, or two, and nothing that goes wrong.
    pub fn small(jobs: u64, callbacks: bool, without_node: bool) -> Self {
        let setup =
            Setup { max_runners: 4, max_of_class: 4, max_per_repository: None, without_node, callbacks };
        let job = |number| Job {
            number,
            arrives: 5 + number,
            runs_for: 20,
            repository: "acme/web",
            labels: LABELS[0],
            cancelled: None,
            approved: None,
            skipped: false,
            again: false,
        };
        Self { seed: 1, setup, jobs: (1..=jobs).map(job).collect(), faults: Vec::new() }
    }

    /// The same without anything that goes wrong.
    pub fn without_faults(&self) -> Self {
        Self { faults: Vec::new(), ..self.clone() }
    }

    /// The second after which nothing new begins.
    pub fn ends(&self) -> u64 {
        let jobs = self.jobs.iter().map(|job| {
            let last = if job.again { AGAIN_AFTER } else { 0 };
            job.arrives + last.max(job.approved.unwrap_or(0)).max(job.cancelled.unwrap_or(0)) + job.runs_for
        });
        let ends = jobs.chain(self.faults.iter().map(Fault::ends)).max().unwrap_or(0);
        // Webhooks of the last moment may be under way for as long as any.
        let late = |fault: &Fault| if let Fault::Webhooks { late, .. } = fault { *late } else { 0 };
        ends + self.faults.iter().map(late).max().unwrap_or(0)
    }

    /// The plan in words.
    pub fn tell(&self) -> String {
        let mut told = String::new();
        let setup = &self.setup;
        let _ok = writeln!(told, "seed {}, {setup:?}", self.seed);
        for job in &self.jobs {
            let Job { number, arrives, runs_for, repository, labels, .. } = job;
            let _ok = write!(
                told,
                "  job {number} of {repository} asks for {labels:?} at second {arrives}, runs {runs_for} s"
            );
            for (what, said) in [("cancelled", job.cancelled), ("approved", job.approved)] {
                if let Some(after) = said {
                    let _ok = write!(told, ", {what} after {after} s");
                }
            }
            let _ok = writeln!(
                told,
                "{}{}",
                if job.skipped { ", skipped" } else { "" },
                if job.again { ", run again" } else { "" }
            );
        }
        for fault in &self.faults {
            let _ok = writeln!(told, "  {fault}");
        }
        told
    }
}

fn job(number: u64, chance: &mut Chance) -> Job {
    // Half of them in bursts.
    let arrives = if chance.percent(50) { 30 + 120 * chance.below(4) } else { 5 + chance.below(600) };
    Job {
        number,
        arrives,
        runs_for: chance.between(3, 200),
        repository: chance.one_of(&REPOSITORIES).copied().unwrap_or("acme/web"),
        labels: chance.one_of(&LABELS).copied().unwrap_or(LABELS[0]),
        cancelled: chance.percent(15).then(|| chance.below(240)),
        approved: chance.percent(12).then(|| chance.between(5, 400)),
        skipped: chance.percent(4),
        again: chance.percent(8),
    }
}

fn faults(scenario: &Scenario, chance: &mut Chance) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..chance.below(4) {
        // Kubernetes sees by far the most writes.
        let peer = *chance
            .one_of(&[Peer::Kubernetes, Peer::Kubernetes, Peer::GitHub, Peer::Arm, Peer::Ledger])
            .unwrap_or(&Peer::Kubernetes);
        let most = if peer == Peer::Kubernetes {
            30 * scenario.jobs.len() as u64
        } else {
            2 * scenario.jobs.len() as u64
        };
        let nth = chance.between(1, most.max(2));
        let what = match chance.below(8) {
            0 | 1 => WriteFault::CrashBefore,
            2 => WriteFault::CrashAnswerLost,
            3 => WriteFault::CrashAfter,
            4 => WriteFault::Unavailable,
            5 => WriteFault::AnswerLost,
            6 => WriteFault::Throttled(chance.between(1, 90)),
            _ => WriteFault::Conflict,
        };
        faults.push(Fault::Write { peer, nth, what });
    }
    for _ in 0..chance.below(3) {
        let (what, most) = trouble(chance);
        faults.push(Fault::While { what, from: chance.below(600), lasts: chance.between(5, most) });
    }
    if chance.percent(25) {
        faults.push(Fault::Killed { at: chance.below(600) });
    }
    if chance.percent(15) {
        faults.push(Fault::WatchesExpire { at: chance.below(600) });
    }
    for _ in 0..chance.below(3) {
        faults.push(Fault::Group {
            nth: chance.between(1, 2 * scenario.jobs.len() as u64),
            fate: group_fate(chance),
        });
    }
    if chance.percent(40) {
        faults.push(Fault::Agent {
            nth: chance.between(1, 2 * scenario.jobs.len() as u64),
            fate: agent_fate(chance),
        });
    }
    if chance.percent(30) {
        let late = if chance.percent(50) { chance.below(600) } else { 0 };
        faults.push(Fault::Webhooks { lost: 30, twice: 20, late });
    }
    if let Some(job) = chance.one_of(&scenario.jobs).map(|job| job.number).filter(|_| chance.percent(12)) {
        faults.push(Fault::Stolen { job, after: chance.below(60) });
    }
    faults
}

fn trouble(chance: &mut Chance) -> (Trouble, u64) {
    match chance.below(12) {
        0 => (Trouble::Partition(Peer::Kubernetes), 600),
        1 => (Trouble::Partition(Peer::GitHub), 600),
        2 => (Trouble::Partition(Peer::Arm), 600),
        3 => (Trouble::Partition(Peer::Ledger), 600),
        4 => (Trouble::LeaderCutOff, 300),
        5 => (Trouble::ReceiverDown, 3600),
        6 => (Trouble::CallbacksCut, 600),
        7 => (Trouble::NodeAway, 300),
        8 => (Trouble::WatchLag(chance.between(500, 30_000)), 300),
        9 => (Trouble::Quota(chance.below(3)), 600),
        10 => {
            let by = i64::try_from(chance.between(5, 600)).unwrap_or(5);
            (Trouble::Clock(if chance.percent(50) { by } else { -by }), 600)
        }
        _ if chance.percent(50) => (Trouble::TwoLeaders, 60),
        _ => (Trouble::Paused, 90),
    }
}

fn group_fate(chance: &mut Chance) -> GroupFate {
    match chance.below(10) {
        0 => GroupFate::SaidToFail,
        1 => GroupFate::NotProvisioned,
        2 => GroupFate::NotPulled,
        3 => GroupFate::TakenUpLate(chance.between(5, 60)),
        4 => GroupFate::Vanishes(chance.below(60)),
        5 => GroupFate::Restarts(chance.below(60)),
        6 => GroupFate::OutlivesItsDeletion,
        7 => GroupFate::StuckDeleting(chance.between(30, 400)),
        8 => GroupFate::DeletionForgotten,
        _ => GroupFate::PullForgotten,
    }
}

fn agent_fate(chance: &mut Chance) -> AgentFate {
    match chance.below(5) {
        0 => AgentFate::NeverOnline,
        1 => AgentFate::EndsWithoutJob,
        2 => AgentFate::HangsAfterJob,
        3 => AgentFate::VersionRefused,
        _ => AgentFate::PicksUpLate,
    }
}
