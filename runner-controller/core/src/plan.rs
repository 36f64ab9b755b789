//! One planning pass: what is known goes in, what to do comes out.
//!
//! Level-triggered: a pass looks at all there is and nothing else, so that a lost or repeated event changes when
//! something happens, never what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::admission::Usage;
use crate::job::{Job, JobKey, JobReport, JobState, Standing};
use crate::labels::{self, Matched};
use crate::lifecycle::{Machine, Next, Occupation, Runner, Step, Surroundings, counts_as_attempt};
use crate::pairing::{self, JobView, Pairing, Wants};
use crate::placement;
use crate::reason::Reason;
use crate::setup::{Class, PlaceKind, Scope, Setup, Size, saturating_add};

/// How long after a runner's end its job's end may take to arrive before the source is asked.
const READ_AFTER_END: SignedDuration = SignedDuration::from_secs(15);
/// How often the source is asked about one job at most.
const READ_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// The longest pause between two runners for one job.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(10);
/// A source fails a job that waited for a day (GitHub); its record need not outlive that by more than the ttl.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// All that a planning pass looks at.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The configuration, resolved.
    pub setup: Setup,
    /// Every job that is stored.
    pub jobs: Vec<Job>,
    /// Every runner that is recorded.
    pub runners: Vec<Runner>,
    /// Machines by runner name.
    pub machines: HashMap<String, Machine>,
    /// Names reserved in the `Admission` object.
    pub reserved: BTreeSet<String>,
    /// Runners and jobs (by name and key) on which an action is under way, or that a failed action holds until a
    /// moment.
    pub held: HashMap<String, Hold>,
}

/// Why a runner or job is left alone for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// An action is under way.
    InFlight,
    /// The last action failed; not before this moment.
    Until(Timestamp),
}

/// What a pass decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do. Actions on different runners and jobs are independent.
    pub actions: Vec<Action>,
    /// Why each job that waits, is refused or was given up is so.
    pub reasons: BTreeMap<JobKey, Reason>,
    /// When the next pass is due at the latest, if time alone can change the plan.
    pub wake_at: Option<Timestamp>,
}

/// Something to do to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reserve a runner and write its record.
    Start(Box<NewRunner>),
    /// Take the next step in a runner's life.
    Step {
        /// Name of the runner.
        runner: String,
        /// The step.
        step: Step,
        /// The reason to tear it down, where that is new.
        because: Option<Reason>,
    },
    /// Write what is to be known of a job.
    Report {
        /// The job.
        job: JobKey,
        /// What to write.
        report: JobReport,
    },
    /// Ask the job's source how it stands.
    ReadJob {
        /// The job.
        job: JobKey,
    },
    /// Delete the job's record.
    Expire {
        /// The job.
        job: JobKey,
    },
    /// Give back a reservation that no record followed.
    Unreserve {
        /// Name of the runner.
        runner: String,
    },
}

/// A runner to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRunner {
    /// Its name.
    pub name: String,
    /// The job that it is started for.
    pub job: JobKey,
    /// Which of the job's runners it is.
    pub ordinal: u32,
    /// Where it registers.
    pub scope: Scope,
    /// Its class and size.
    pub matched: Matched,
    /// The labels that it registers with.
    pub labels: Vec<String>,
    /// Its resources.
    pub size: Size,
    /// Where it runs.
    pub place: String,
    /// What that place is.
    pub kind: PlaceKind,
}

/// Decides what to do now. Deterministic: the same snapshot and moment give the same plan, in whatever order jobs and
/// runners stand.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut pass = Pass { snapshot, now, plan: Plan::default() };
    let views: Vec<JobView<'_>> = pass.views();
    let pairing = pairing::pair(&views, &snapshot.runners);
    pass.upkeep(&pairing);
    pass.jobs(&views, &pairing);
    pass.plan
}

/// The name of a job's runner with this number: the installation's id and a hash, within what pods, container groups
/// and GitHub allow together (facts: at most 63 with the namespace, lower case, no dots).
pub fn runner_name(installation: &str, job: &JobKey, ordinal: u32) -> String {
    let digest = Sha256::digest(format!("{}\n{}\n{}\n{ordinal}", job.source, job.id, job.attempt));
    let hash: String = hex::encode(digest).chars().take(16).collect();
    format!("{installation}-{hash}")
}

struct Pass<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    plan: Plan,
}

impl<'a> Pass<'a> {
    /// Jobs with what follows from facts and configuration, in the order of their keys.
    fn views(&self) -> Vec<JobView<'a>> {
        let mut views: Vec<JobView<'a>> = self
            .snapshot
            .jobs
            .iter()
            .map(|job| JobView { job, state: job.state(), wants: self.wants(job) })
            .collect();
        views.sort_by(|a, b| a.job.key.cmp(&b.job.key));
        views
    }

    fn wants(&self, job: &Job) -> Result<Wants, Reason> {
        let setup = &self.snapshot.setup;
        let what = &job.description;
        let source = setup
            .sources
            .get(&job.key.source)
            .ok_or_else(|| Reason::SourceMissing { source: job.key.source.clone() })?;
        let scope = source.scope_of(&what.owner, &what.repository).ok_or_else(|| Reason::RepositoryNotServed {
            source: source.name.clone(),
            repository: what.repository.clone(),
        })?;
        let matched = labels::match_class(setup, &what.labels)?;
        if what.public && !source.allow_public {
            return Err(Reason::PublicRepository {
                source: source.name.clone(),
                repository: what.repository.clone(),
            });
        }
        Ok(Wants { matched, scope })
    }

    /// The next step of every runner, and reservations without a record.
    fn upkeep(&mut self, pairing: &Pairing<'_>) {
        let mut runners: Vec<&Runner> = self.snapshot.runners.iter().collect();
        runners.sort_by(|a, b| a.name.cmp(&b.name));
        let failed_counted: HashMap<&JobKey, u32> =
            self.snapshot.jobs.iter().map(|job| (&job.key, job.report.counted)).collect();
        for runner in &runners {
            if self.is_held(&runner.name) {
                continue;
            }
            let surroundings = Surroundings {
                machine: self.snapshot.machines.get(&runner.name),
                occupation: pairing
                    .occupations
                    .get(runner.name.as_str())
                    .copied()
                    .unwrap_or(Occupation::Unwanted { since: runner.created_at }),
                deadlines: self
                    .snapshot
                    .setup
                    .classes
                    .get(&runner.matched.class)
                    .map(|class| class.deadlines)
                    .unwrap_or_default(),
                surplus_grace: self.snapshot.setup.settings.surplus_grace,
                now: self.now,
            };
            match runner.next(surroundings) {
                Next::Do { step: Step::Release, because: None }
                    if failed_counted.get(&runner.job).is_some_and(|counted| *counted < runner.ordinal) =>
                {
                    // The job's record must remember the runner before its own record goes.
                }
                Next::Do { step, because } => {
                    self.plan.actions.push(Action::Step { runner: runner.name.clone(), step, because });
                }
                Next::Wait(until) => self.wake(until),
            }
        }
        let recorded: HashSet<&str> = runners.iter().map(|runner| runner.name.as_str()).collect();
        for name in &self.snapshot.reserved {
            if !recorded.contains(name.as_str()) && !self.is_held(name) {
                self.plan.actions.push(Action::Unreserve { runner: name.clone() });
            }
        }
    }

    /// Every job's report; runners for those that wait and may have one.
    fn jobs(&mut self, views: &[JobView<'_>], pairing: &Pairing<'_>) {
        let mut of_job: HashMap<&JobKey, Vec<&Runner>> = HashMap::new();
        let mut by_name: HashMap<&str, &Runner> = HashMap::new();
        for runner in &self.snapshot.runners {
            of_job.entry(&runner.job).or_default().push(runner);
            by_name.insert(&runner.name, runner);
        }
        let recorded = |name: &String| by_name.contains_key(name.as_str());
        let loose = self.snapshot.reserved.iter().filter(|name| !recorded(name)).count();
        let mut usage = Usage::count(&self.snapshot.setup, &self.snapshot.runners, loose);

        let mut waiting: Vec<(Timestamp, &JobView<'_>, JobReport)> = Vec::new();
        for view in views {
            let own = of_job.get(&view.job.key).map_or(&[][..], Vec::as_slice);
            let mut report = self.carried_over(view, own, pairing);
            match &view.state {
                JobState::Ended { conclusion, runner, at } => {
                    report.standing = Standing::Ended;
                    report.conclusion.clone_from(conclusion);
                    report.runner = runner.clone().or(report.runner);
                    report.ended_at = Some(*at);
                    self.report(view, report, None);
                    let keep_until = saturating_add(*at, self.snapshot.setup.settings.ttl_after_end);
                    self.expire(view, own, keep_until);
                }
                JobState::Running { runner } => {
                    report.standing = Standing::Running;
                    report.runner.clone_from(runner);
                    self.read_if_silent(view, own, runner.as_deref().and_then(|name| by_name.get(name).copied()));
                    self.report(view, report, None);
                }
                JobState::Waiting => {
                    report.standing = Standing::Waiting;
                    self.report(view, report, Some(Reason::AwaitingApproval));
                }
                JobState::Queued { since, .. } => match (&view.wants, pairing.covered.get(&view.job.key)) {
                    (Err(reason), _) => {
                        report.standing = Standing::Refused;
                        self.report(view, report, Some(reason.clone()));
                        let keep_until = saturating_add(
                            saturating_add(view.job.stored_at, LONGEST_WAIT),
                            self.snapshot.setup.settings.ttl_after_end,
                        );
                        self.expire(view, own, keep_until);
                    }
                    (Ok(_), Some(runner)) => {
                        report.standing = Standing::Starting;
                        report.runner = Some((*runner).to_owned());
                        self.read_if_silent(view, own, by_name.get(*runner).copied());
                        self.report(view, report, None);
                    }
                    (Ok(_), None) => waiting.push((*since, view, report)),
                },
            }
        }
        waiting.sort_by(|a, b| (a.0, &a.1.job.key).cmp(&(b.0, &b.1.job.key)));
        for (_, view, report) in waiting {
            self.admit(view, report, &mut usage);
        }
    }

    /// Starts a runner for a job that waits, or says why not.
    fn admit(&mut self, view: &JobView<'_>, mut report: JobReport, usage: &mut Usage<'_>) {
        match self.may_start(view, &report, usage) {
            Ok(new) => {
                usage.take(&new.matched);
                report.standing = Standing::Starting;
                report.runner = Some(new.name.clone());
                self.plan.actions.push(Action::Start(Box::new(new)));
                // What is reported follows from the runner's record, once that is there.
            }
            Err(reason) => {
                let exhausted = matches!(reason, Reason::AttemptsExhausted { .. });
                report.standing = if exhausted { Standing::GivenUp } else { Standing::Waiting };
                if exhausted && report.ended_at.is_none() {
                    report.ended_at = Some(self.now);
                }
                self.report(view, report, Some(reason));
            }
        }
    }

    fn may_start(&mut self, view: &JobView<'_>, report: &JobReport, usage: &Usage<'_>) -> Result<NewRunner, Reason> {
        let setup = &self.snapshot.setup;
        let job = view.job;
        let wants = view.wants.clone()?;
        let Some(class) = setup.classes.get(&wants.matched.class) else { return Err(Reason::NoPlace) };
        let Some(size) = class.sizes.get(&wants.matched.size) else { return Err(Reason::NoPlace) };
        if report.failed >= class.max_attempts {
            return Err(Reason::AttemptsExhausted { started: report.failed, limit: class.max_attempts });
        }
        if let Some(until) = report.retry_after.filter(|until| *until > self.now) {
            self.wake(Some(until));
            return Err(Reason::RetryPause { until, started: report.failed, limit: class.max_attempts });
        }
        if let JobState::Queued { confirmed_at, .. } = view.state
            && job.needs_confirmation(confirmed_at, setup.settings.confirm_after, self.now)
        {
            self.read(view);
            return Err(Reason::ConfirmingWithSource);
        }
        if let Some(source) = setup.sources.get(&job.key.source)
            && let Some(why) = &source.unavailable
        {
            return Err(Reason::SourceUnavailable { source: source.name.clone(), why: why.clone() });
        }
        usage.room(&wants.matched)?;
        let place = placement::choose(setup, class)?;
        let ordinal = report.runners_started.saturating_add(1);
        let name = runner_name(&setup.settings.installation, &job.key, ordinal);
        Ok(self.new_runner(name, job, ordinal, wants, class, *size, (place.name.clone(), place.kind)))
    }

    #[expect(clippy::too_many_arguments, reason = "one value per part of the new record")]
    fn new_runner(
        &self,
        name: String,
        job: &Job,
        ordinal: u32,
        wants: Wants,
        class: &Class,
        size: Size,
        (place, kind): (String, PlaceKind),
    ) -> NewRunner {
        NewRunner {
            name,
            job: job.key.clone(),
            ordinal,
            scope: wants.scope,
            labels: labels::registered_labels(class, &wants.matched),
            matched: wants.matched,
            size,
            place,
            kind,
        }
    }

    /// The stored report with what its runners add: how many there were, how many failed, and when the next may come.
    fn carried_over(&self, view: &JobView<'_>, own: &[&Runner], pairing: &Pairing<'_>) -> JobReport {
        let stored = &view.job.report;
        let mut report = JobReport {
            class: view.wants.as_ref().ok().map(|wants| wants.matched.label()),
            runners_started: stored.runners_started,
            failed: stored.failed,
            counted: stored.counted,
            retry_after: stored.retry_after,
            ended_at: stored.ended_at,
            runner: stored.runner.clone(),
            ..JobReport::default()
        };
        let mut own: Vec<&&Runner> = own.iter().collect();
        own.sort_by_key(|runner| runner.ordinal);
        for runner in own {
            report.runners_started = report.runners_started.max(runner.ordinal);
            let Some(teardown) = &runner.facts.teardown else { continue };
            if runner.ordinal <= report.counted {
                continue;
            }
            report.counted = runner.ordinal;
            let had_job = matches!(
                pairing.occupations.get(runner.name.as_str()),
                Some(Occupation::Busy | Occupation::Done { .. })
            ) || runner.facts.agent.job_started.is_some();
            if !had_job && counts_as_attempt(&teardown.code) {
                report.failed = report.failed.saturating_add(1);
                let doublings = report.failed.saturating_sub(1).min(16);
                let pause = self.snapshot.setup.settings.retry_base.saturating_mul(1_i32 << doublings);
                report.retry_after = Some(saturating_add(teardown.at, pause.min(LONGEST_RETRY)));
            }
        }
        report
    }

    /// Asks the source about a job whose runner has said or shown that it is over, or took a job, while nothing more
    /// was heard: an event may be lost.
    fn read_if_silent(&mut self, view: &JobView<'_>, own: &[&Runner], has_it: Option<&Runner>) {
        let heard = view.job.last_fact_at();
        let ours = |runner: &Runner| {
            let agent = &runner.facts.agent;
            agent
                .job_completed
                .into_iter()
                .chain(agent.exiting)
                .chain(agent.job_started.filter(|_| matches!(view.state, JobState::Queued { .. })))
                .chain(runner.facts.teardown.as_ref().map(|teardown| teardown.at))
                .min()
        };
        let sign = has_it.into_iter().chain(own.iter().copied()).filter_map(ours).min();
        let due = match (sign, &view.state) {
            (Some(sign), _) if heard <= sign => saturating_add(sign, READ_AFTER_END),
            (Some(_), _) => saturating_add(heard, READ_EVERY),
            // Its runner was ours and its record is gone.
            (None, JobState::Running { runner: Some(name) }) if has_it.is_none() && self.is_ours(name) => {
                saturating_add(heard, READ_EVERY)
            }
            (None, _) => return,
        };
        if self.now >= due {
            self.read(view);
        } else {
            self.wake(Some(due));
        }
    }

    fn is_ours(&self, runner: &str) -> bool {
        runner
            .strip_prefix(self.snapshot.setup.settings.installation.as_str())
            .is_some_and(|rest| rest.starts_with('-'))
    }

    fn read(&mut self, view: &JobView<'_>) {
        if !self.is_held(&view.job.key.to_string()) {
            self.plan.actions.push(Action::ReadJob { job: view.job.key.clone() });
        }
    }

    fn expire(&mut self, view: &JobView<'_>, own: &[&Runner], keep_until: Timestamp) {
        if self.now < keep_until {
            self.wake(Some(keep_until));
        } else if own.is_empty() && !self.is_held(&view.job.key.to_string()) {
            self.plan.actions.push(Action::Expire { job: view.job.key.clone() });
        }
    }

    fn report(&mut self, view: &JobView<'_>, mut report: JobReport, reason: Option<Reason>) {
        report.reason = reason.as_ref().map(|reason| reason.code().to_owned());
        if let Some(reason) = reason {
            self.plan.reasons.insert(view.job.key.clone(), reason);
        }
        if matches!(report.standing, Standing::Waiting | Standing::Refused | Standing::GivenUp) {
            report.runner = None;
        }
        if report != view.job.report && !self.is_held(&view.job.key.to_string()) {
            self.plan.actions.push(Action::Report { job: view.job.key.clone(), report });
        }
    }

    fn is_held(&mut self, name: &str) -> bool {
        match self.snapshot.held.get(name).copied() {
            Some(Hold::InFlight) => true,
            Some(Hold::Until(until)) if until > self.now => {
                self.wake(Some(until));
                true
            }
            Some(Hold::Until(_)) | None => false,
        }
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.plan.wake_at = match (self.plan.wake_at, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(test)]
mod tests;
