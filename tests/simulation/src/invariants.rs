//! The invariants, stated for what Stint controls, and how each is looked at.
//!
//! - **I1** At most one live runner per job attempt for which Stint started it; not counted are those that GitHub gave
//!   to another job.
//! - **I2** Starting and live runners never exceed a limit.
//! - **I3** A group's deletion is asked for within 60 s of its container's end, and within 5 min after trouble.
//! - **I4** One ledger row per group that was metered, equal to the meter within 1 s where times came from Azure, and
//!   within its stated bound else. A group that nobody could read while it billed may have none, where it never showed
//!   a running container; faults that set the clock wrong widen bounds by the clock's error.
//! - **I5** When faults stop, everything converges, and then nothing is written. No call comes before a Retry-After.
//! - **I6** A busy runner is never deleted (looked at by `arm`, at each deletion).
//! - **I7** Every credential is gone soon after its job has ended.
//! - **I8** Every job that GitHub told of, whether or not that arrived, is on record within 2 min, or within 2 min after
//!   trouble, as far as GitHub's rate allows; and it is run, or ends with a recorded reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runner_core::billing::TimeSource;
use runner_core::lifecycle::Runner;
use serde_json::Value;
use stint::config::{self, convert};

use crate::arm::Arm;
use crate::board::Board;
use crate::github::{GitHub, Job, State};
use crate::kubernetes::ApiServer;
use crate::ledger::MemoryLedger;
use crate::scenario::Setup;

/// How soon a group's deletion is asked for after its end.
const DELETED_WITHIN: Duration = Duration::from_secs(60);
/// How soon anything that is late is done after trouble.
const AFTER_TROUBLE: Duration = Duration::from_secs(300);
/// How soon a credential is gone after the end of its job.
const CREDENTIAL_GONE_WITHIN: Duration = Duration::from_secs(180);
/// How soon there is a record of a job that GitHub told of, or tried to.
const HEARD_WITHIN: Duration = Duration::from_secs(120);
/// The Secret of the source.
pub const SOURCE_SECRET: &str = "acme-app";

/// All that is looked at.
pub struct Invariants {
    /// The faults.
    pub board: Arc<Board>,
    /// Kubernetes.
    pub server: ApiServer,
    /// GitHub.
    pub github: Arc<GitHub>,
    /// Azure.
    pub arm: Arc<Arm>,
    /// The ledger.
    pub ledger: Arc<MemoryLedger>,
    /// The configuration.
    pub setup: Setup,
}

impl Invariants {
    /// What must hold at every moment.
    pub fn check(&self) {
        let runners = self.runners();
        let jobs: BTreeMap<u64, Job> = self.github.jobs().into_iter().map(|job| (job.id, job)).collect();
        self.one_runner_per_job(&runners, &jobs);
        self.limits(&runners, &jobs);
        self.deletions();
        self.credentials(&jobs);
        self.hears_of_jobs();
    }

    fn violate(&self, invariant: &'static str, text: impl std::fmt::Display) {
        self.board.journal.violate(invariant, text);
    }

    /// All records of runners.
    fn runners(&self) -> Vec<Runner> {
        let read = |value: Value| serde_json::from_value::<config::Runner>(value);
        let records = self.server.list("Runner").into_iter().map(read);
        records.filter_map(Result::ok).map(|record| convert::runner(&record)).collect()
    }

    fn one_runner_per_job(&self, runners: &[Runner], jobs: &BTreeMap<u64, Job>) {
        // Whom GitHub gave to another job is that one's, and its own job needs another runner.
        let elsewhere = |runner: &Runner| {
            let other = |job: &Job| job.id.to_string() != runner.job.id;
            let mut given =
                jobs.values().filter(|job| job.runner.as_ref().is_some_and(|of| of.1 == runner.name));
            given.any(other)
        };
        let online: BTreeSet<String> =
            self.github.runners().into_iter().filter(|(_, online)| *online).map(|(name, _)| name).collect();
        for (what, holds) in [
            ("online", &(|runner: &Runner| online.contains(&runner.name)) as &dyn Fn(&Runner) -> bool),
            ("kept", &|runner: &Runner| !runner.ending()),
        ] {
            let mut of: BTreeMap<String, &str> = BTreeMap::new();
            for runner in runners.iter().filter(|runner| holds(runner) && !elsewhere(runner)) {
                if let Some(other) = of.insert(runner.job.to_string(), &runner.name) {
                    let text =
                        format!("runners {other} and {} of job {} are {what}", runner.name, runner.job);
                    self.violate("I1", text);
                }
            }
        }
    }

    fn limits(&self, runners: &[Runner], jobs: &BTreeMap<u64, Job>) {
        let counted = |of: &dyn Fn(&Runner) -> bool| {
            runners.iter().filter(|runner| runner.counts() && of(runner)).count()
        };
        let within = |what: &str, count: usize, most: u32| {
            if count > usize::try_from(most).unwrap_or(usize::MAX) {
                self.violate("I2", format_args!("{count} runners of {what}, of which there may be {most}"));
            }
        };
        within("all", counted(&|_| true), self.setup.max_runners);
        within("class stint", counted(&|runner| runner.matched.class == "stint"), self.setup.max_of_class);
        within("all, as groups", self.arm.seen().len(), self.setup.max_runners);
        let Some(most) = self.setup.max_per_repository else { return };
        let repository = |runner: &Runner| {
            let job = runner.job.id.parse::<u64>().ok().and_then(|id| jobs.get(&id));
            job.map(|job| job.repository.clone()).unwrap_or_default()
        };
        for of in ["acme/web", "acme/lib", "acme/app"] {
            within(of, counted(&|runner| repository(runner) == of), most);
        }
    }

    fn deletions(&self) {
        let now = self.board.clock.passed();
        for (name, group) in self.arm.seen() {
            let Some(stopped) = group.stopped_after.filter(|_| group.delete_asked.is_none()) else {
                continue;
            };
            let due = self.due(stopped, DELETED_WITHIN);
            if now > due {
                self.violate(
                    "I3",
                    format_args!("group {name} ended at {stopped:?} and is not deleted at {now:?}"),
                );
            }
        }
    }

    /// By when something must be done that is due so long after it began, and otherwise within 5 min after trouble.
    fn due(&self, began: Duration, within: Duration) -> Duration {
        let trouble = self.board.last_trouble();
        let clock = Duration::from_secs(self.board.clock_error());
        let after_trouble = if trouble < began { Duration::ZERO } else { trouble + AFTER_TROUBLE + clock };
        after_trouble.max(began + within)
    }

    fn credentials(&self, jobs: &BTreeMap<u64, Job>) {
        let now = self.board.clock.passed();
        for job in jobs.values() {
            let (Some((_, runner)), Some(over_at)) = (&job.runner, job.over_at) else { continue };
            if now > self.due(over_at, CREDENTIAL_GONE_WITHIN) && self.server.get("Secret", runner).is_some()
            {
                self.violate(
                    "I7",
                    format_args!("the credential of {runner} is there, whose job ended at {over_at:?}"),
                );
            }
        }
    }

    /// Of each job that GitHub told of, or tried to, there is a record soon.
    fn hears_of_jobs(&self) {
        let now = self.board.clock.passed();
        let clock = Duration::from_secs(self.board.clock_error());
        let told = self.github.told_of();
        let trouble = self.board.last_trouble();
        let known = self.known_jobs();
        let unknown: Vec<&(u64, Duration)> = told.iter().filter(|(job, _)| !known.contains(job)).collect();
        // Two deliveries for each job, at the rate at which they are read.
        let rate = Duration::from_millis(200 * unknown.len() as u64);
        for (job, at) in &unknown {
            if self.board.records_lost().is_some_and(|lost| *at <= lost) {
                continue;
            }
            if now > (*at).max(trouble) + HEARD_WITHIN + rate + clock {
                self.violate(
                    "I8",
                    format_args!("of job {job}, told at {at:?}, there is no record at {now:?}"),
                );
            }
        }
    }

    fn known_jobs(&self) -> BTreeSet<u64> {
        let mut known = BTreeSet::new();
        self.server.each("RunnerJob", |_, job| {
            known.extend(
                job.pointer("/spec/id").and_then(Value::as_str).and_then(|id| id.parse::<u64>().ok()),
            );
        });
        known
    }

    /// What is left and must go before all has converged.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for kind in ["Runner", "Pod", "Secret"] {
            for object in self.server.list(kind) {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                if name != SOURCE_SECRET {
                    left.push(format!("{kind} {name}"));
                }
            }
        }
        left.extend(self.arm.seen().into_keys().map(|name| format!("group {name}")));
        left.extend(self.github.runners().into_iter().map(|(name, _)| format!("registration {name}")));
        for admission in self.server.list("Admission") {
            let reserved = admission.pointer("/spec/reserved").and_then(Value::as_array);
            let names = reserved.into_iter().flatten().filter_map(Value::as_str);
            left.extend(names.map(|name| format!("reservation {name}")));
        }
        let records = self.job_records();
        let told: BTreeMap<u64, Duration> = self.github.told_of().into_iter().collect();
        let jobs: BTreeMap<u64, Job> = self.github.jobs().into_iter().map(|job| (job.id, job)).collect();
        let mut all = self.github.accepted();
        all.extend(told.keys());
        for id in all {
            let over = jobs.get(&id).is_some_and(|job| matches!(job.state, State::Over(_)));
            // Nothing tells again of one that was over when its record was lost.
            let lost = |lost| told.get(&id).is_none_or(|told| *told <= lost);
            if over && !records.contains_key(&id) && self.board.records_lost().is_some_and(lost) {
                continue;
            }
            let (state, reason) = records.get(&id).cloned().unwrap_or_default();
            let ended = if over { state == "Ended" } else { ["Refused", "GivenUp"].contains(&&*state) };
            if !ended || (!over && reason.is_empty()) {
                left.push(format!("job {id}, which is {state:?} ({reason})"));
            }
        }
        left
    }

    /// Of each stored job, where it stands and why.
    pub fn job_records(&self) -> BTreeMap<u64, (String, String)> {
        let text = |job: &Value, pointer: &str| {
            job.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let jobs = self.server.list("RunnerJob").into_iter();
        jobs.filter_map(|job| {
            let id = text(&job, "/spec/id").parse().ok()?;
            Some((id, (text(&job, "/status/state"), text(&job, "/status/reason"))))
        })
        .collect()
    }

    /// What must hold at the end.
    pub fn check_end(&self) {
        self.bills();
    }

    fn bills(&self) {
        let mut rows = self.ledger.rows();
        let clock_error = self.board.clock_error();
        for metered in self.arm.meter() {
            let found: Vec<usize> = rows
                .iter()
                .enumerate()
                .filter(|(_, row)| row.bill.group_id == metered.id)
                .filter(|(_, row)| metered.pod.as_ref().is_none_or(|pod| *pod == row.machine_uid))
                .map(|(at, _)| at)
                .collect();
            let counted = runner_core::billing::ceil_seconds(metered.from, metered.until);
            let row = match found.as_slice() {
                [] => {
                    if metered.shown {
                        self.violate(
                            "I4",
                            format_args!("{} was metered {counted} s, without a row", metered.runner),
                        );
                    }
                    continue;
                }
                [one] => rows.remove(*one),
                [_, _, ..] => {
                    self.violate("I4", format_args!("{} rows of {}", found.len(), metered.runner));
                    continue;
                }
            };
            let bill = &row.bill;
            let exact = bill.started_from == TimeSource::Arm && bill.stopped_from == TimeSource::Arm;
            let allowed = 1 + if exact { 0 } else { bill.bound_seconds + clock_error };
            if bill.seconds.abs_diff(counted) > allowed {
                self.violate(
                    "I4",
                    format_args!(
                        "{}: {} s billed ({:?} to {:?}, bound {} s), {counted} s metered",
                        row.runner, bill.seconds, bill.started_from, bill.stopped_from, bill.bound_seconds
                    ),
                );
            }
        }
        for row in rows {
            self.violate(
                "I4",
                format_args!("a row of {} s of {}, which was not metered", row.bill.seconds, row.runner),
            );
        }
    }
}
