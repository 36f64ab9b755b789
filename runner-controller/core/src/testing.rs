//! Small builders for tests: one source, one class, one place, and jobs and runners that tests add facts to.

use jiff::tz::TimeZone;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use crate::budget::{Budget, Per, WhenSpent};
use crate::job::{Findings, Job, JobAction, JobDescription, JobFact, JobKey, JobReport};
use crate::labels::{self, Matched};
use crate::lifecycle::{
    GroupFacts, Launched, Machine, MachinePhase, Registered, Runner, RunnerFact, RunnerFacts, Teardown,
};
use crate::limit::{ConcurrencyLimit, Dimension, Glob};
use crate::plan::{Snapshot, runner_name};
use crate::reason::Reason;
use crate::setup::{
    Class, Deadlines, Place, PlaceKind, PlaceState, Price, RegisterAt, Scope, Setup, Size, Source,
};

/// The moment so many seconds after the tests' beginning, 2026-01-01 00:00:00 UTC.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

pub(crate) fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

pub(crate) fn size() -> Size {
    Size { cpu_millis: 2000, memory_bytes: 4 << 30, max_runners: None }
}

/// A class with a size of this name (empty: a single size).
pub(crate) fn class(name: &str, sizes: &[&str]) -> Class {
    Class {
        name: name.to_owned(),
        sizes: sizes.iter().map(|name| ((*name).to_owned(), size())).collect(),
        custom_size: None,
        needs: BTreeSet::new(),
        labels: Vec::new(),
        max_runners: 10,
        places: None,
        deadlines: Deadlines::default(),
        max_attempts: 3,
        expected_duration: None,
    }
}

pub(crate) fn place(name: &str) -> Place {
    Place {
        name: name.to_owned(),
        kind: PlaceKind::VirtualNode,
        state: PlaceState::Active,
        unready: None,
        price: Price::default(),
        burst_after: SignedDuration::ZERO,
        quota: None,
        v2: false,
    }
}

pub(crate) fn source(name: &str, owners: &[&str]) -> Source {
    Source {
        name: name.to_owned(),
        unavailable: None,
        registrations: None,
        allow_public: false,
        notice_after: None,
        owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
        repositories: Vec::new(),
        register_at: RegisterAt::default(),
    }
}

/// Source `acme`, class `stint` of a single size, place `virtual`.
pub(crate) fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.sources.insert("acme".to_owned(), source("acme", &["acme"]));
    setup.classes.insert("stint".to_owned(), class("stint", &[""]));
    setup.places.insert("virtual".to_owned(), place("virtual"));
    setup
}

pub(crate) fn words(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn key(id: &str) -> JobKey {
    JobKey { source: "acme".to_owned(), id: id.to_owned(), attempt: 1 }
}

pub(crate) fn fact(id: &str, action: JobAction, heard: i64, runner: Option<&str>) -> JobFact {
    let conclusion = (action == JobAction::Completed).then(|| "success".to_owned());
    JobFact { id: id.to_owned(), action, heard_at: at(heard), runner: runner.map(str::to_owned), conclusion }
}

/// A job of `acme/web` that asks for `stint`, without any fact yet.
pub(crate) fn job(id: &str) -> Job {
    Job {
        key: key(id),
        description: JobDescription {
            created_at: None,
            owner: "acme".to_owned(),
            repository: "acme/web".to_owned(),
            public: false,
            name: format!("job {id}"),
            workflow: None,
            url: None,
            labels: words("stint"),
            run: Some("9".to_owned()),
            head_sha: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            head_branch: Some("main".to_owned()),
        },
        stored_at: at(0),
        facts: Vec::new(),
        report: JobReport::default(),
        found: Findings::default(),
    }
}

impl Job {
    pub(crate) fn told(mut self, action: JobAction, heard: i64, runner: Option<&str>) -> Job {
        let id = format!("hook-{}", self.facts.len());
        self.facts.push(fact(&id, action, heard, runner));
        self
    }

    pub(crate) fn queued(self, heard: i64) -> Job {
        self.told(JobAction::Queued, heard, None)
    }

    pub(crate) fn running(self, heard: i64, runner: &str) -> Job {
        self.told(JobAction::InProgress, heard, Some(runner))
    }

    pub(crate) fn read(mut self, action: JobAction, heard: i64) -> Job {
        let id = format!("read-{}", self.facts.len());
        self.facts.push(fact(&id, action, heard, None));
        self
    }

    pub(crate) fn asking(mut self, labels: &str) -> Job {
        self.description.labels = words(labels);
        self
    }
}

/// The runner of this number that was started for a job, as `setup()` has it, without any fact yet.
pub(crate) fn runner(id: &str, ordinal: u32) -> Runner {
    let matched = Matched { class: "stint".to_owned(), size: String::new() };
    Runner {
        name: runner_name("stint", &key(id), ordinal),
        job: key(id),
        ordinal,
        scope: Scope::Owner("acme".to_owned()),
        labels: labels::registered_labels(&class("stint", &[""]), &matched),
        matched,
        size: size(),
        place: "virtual".to_owned(),
        kind: PlaceKind::VirtualNode,
        created_at: at(0),
        deleted: false,
        facts: RunnerFacts::default(),
    }
}

impl Runner {
    /// In the node pool of `two_places()`.
    pub(crate) fn pooled(self) -> Runner {
        Runner { place: "vms".to_owned(), kind: PlaceKind::NodePool, ..self }
    }

    pub(crate) fn with(mut self, fact: RunnerFact) -> Runner {
        self.facts.apply(fact);
        self
    }

    pub(crate) fn registered(self, second: i64) -> Runner {
        let registered = Registered { id: 7, callback_hash: String::new(), at: at(second) };
        self.with(RunnerFact::Registering(at(second))).with(RunnerFact::Registered(registered))
    }

    /// Registered, and its machine created.
    pub(crate) fn launched(self, second: i64) -> Runner {
        let uid = format!("uid-{}", self.name);
        self.registered(second)
            .with(RunnerFact::Launching(at(second)))
            .with(RunnerFact::Launched(Launched { uid, at: at(second) }))
    }

    pub(crate) fn torn_down(self, reason: &Reason, second: i64) -> Runner {
        self.with(RunnerFact::Teardown(teardown(reason, at(second))))
    }

    /// Its machine is gone, billed for, and its source knows it no longer.
    pub(crate) fn settled(self, second: i64) -> Runner {
        [
            RunnerFact::Captured(at(second)),
            RunnerFact::Deleting(at(second)),
            RunnerFact::Gone(at(second)),
            RunnerFact::Billed(at(second)),
            RunnerFact::Deregistered(at(second)),
        ]
        .into_iter()
        .fold(self, Runner::with)
    }
}

pub(crate) fn teardown(reason: &Reason, at: Timestamp) -> Teardown {
    Teardown { code: reason.code().to_owned(), sentence: reason.sentence(), at }
}

pub(crate) fn group(pull: Option<i64>, stopped: Option<i64>, seen: i64) -> GroupFacts {
    GroupFacts {
        id: "/group".to_owned(),
        pull_started: pull.map(at),
        started: None,
        stopped: stopped.map(at),
        seen_at: Some(at(seen)),
        failed: None,
    }
}

pub(crate) fn machine(phase: MachinePhase, since: i64) -> Machine {
    Machine {
        uid: "uid".to_owned(),
        phase,
        scheduled: true,
        since: at(since),
        why: None,
        deleting: false,
        restarts: 0,
    }
}

/// A pod that no node of its pool can take.
pub(crate) fn stuck(since: i64) -> Machine {
    let why = Some("Unschedulable: 0/2 nodes are available".to_owned());
    Machine { scheduled: false, why, ..machine(MachinePhase::Pending, since) }
}

/// `setup()` with a node pool `vms` beside the virtual node; class `stint` goes to them in this order.
pub(crate) fn two_places(order: &str) -> Setup {
    let mut setup = setup();
    setup.places.insert("vms".to_owned(), Place { kind: PlaceKind::NodePool, ..place("vms") });
    for class in setup.classes.values_mut() {
        class.places = Some(words(order));
    }
    setup
}

/// What `plan` looks at, of these jobs and runners under `setup()`.
pub(crate) fn snapshot(jobs: Vec<Job>, runners: Vec<Runner>) -> Snapshot {
    Snapshot { setup: setup(), jobs, runners, ..Snapshot::default() }
}

/// A limit on all jobs that caps nothing yet.
pub(crate) fn limit(name: &str) -> ConcurrencyLimit {
    ConcurrencyLimit { name: name.to_owned(), ..ConcurrencyLimit::default() }
}

impl ConcurrencyLimit {
    pub(crate) fn about(mut self, dimension: Dimension, patterns: &str) -> Self {
        let globs = words(patterns).iter().map(|pattern| Glob::new(pattern)).collect();
        self.matches.patterns.insert(dimension, globs);
        self
    }

    pub(crate) fn by(mut self, dimensions: &[Dimension]) -> Self {
        self.group_by = dimensions.iter().copied().collect();
        self
    }

    pub(crate) fn on_branches(mut self, protected: bool) -> Self {
        self.matches.protected_branch = Some(protected);
        self
    }

    pub(crate) fn most(mut self, runners: u64) -> Self {
        self.caps.runners = Some(runners);
        self
    }

    pub(crate) fn cores(mut self, cores: u64) -> Self {
        self.caps.cpu_millis = Some(cores * 1000);
        self
    }

    pub(crate) fn weighing(mut self, name: &str, weight: u32) -> Self {
        self.weights.insert(name.to_owned(), weight);
        self
    }
}

/// A sum of money.
pub(crate) fn sum(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A budget on all jobs, of so much a day in UTC, that holds once it is spent.
pub(crate) fn budget(name: &str, amount: &str) -> Budget {
    Budget {
        name: name.to_owned(),
        matches: limit("").matches,
        amount: sum(amount),
        currency: "USD".to_owned(),
        per: Per::Day,
        time_zone: TimeZone::UTC,
        alert_at: vec![50, 80, 100],
        when_spent: WhenSpent::Hold,
    }
}

/// A runner as limits see it, counted here apart from `admission`, so that tests compare the two.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) values: [String; 6],
    pub(crate) protected_branch: bool,
    pub(crate) size: Size,
}

impl Counted {
    pub(crate) fn new(job: &Job, class: &str, place: &str, size: Size) -> Self {
        let what = &job.description;
        let workflow = what.workflow.as_deref().unwrap_or_default();
        let values = [&job.key.source, &what.owner, &what.repository, workflow, class, place];
        let protected_branch = job.found.protected_branch.unwrap_or_default();
        Self { values: values.map(str::to_lowercase), protected_branch, size }
    }

    fn value(&self, dimension: Dimension) -> &str {
        let index = Dimension::ALL.iter().position(|one| *one == dimension).unwrap();
        &self.values[index]
    }

    /// Whether it comes under a limit.
    pub(crate) fn under(&self, limit: &ConcurrencyLimit) -> bool {
        let patterns = &limit.matches.patterns;
        limit.matches.protected_branch.is_none_or(|wanted| wanted == self.protected_branch)
            && patterns
                .iter()
                .all(|(dimension, globs)| globs.iter().any(|glob| glob.matches(self.value(*dimension))))
    }

    /// Whether two that come under a limit share a counter of it.
    fn with(&self, other: &Counted, limit: &ConcurrencyLimit) -> bool {
        limit.group_by.iter().all(|dimension| self.value(*dimension) == other.value(*dimension))
    }
}

/// The limits that the new ones come under and that all together exceed.
pub(crate) fn exceeded(setup: &Setup, all: &[Counted], new: &[Counted]) -> Vec<String> {
    let mut found = Vec::new();
    for limit in setup.limits.values() {
        for one in new.iter().filter(|one| one.under(limit)) {
            let group: Vec<&Counted> =
                all.iter().filter(|other| other.under(limit) && other.with(one, limit)).collect();
            let runners = group.len() as u64;
            let cpu: u64 = group.iter().map(|other| u64::from(other.size.cpu_millis)).sum();
            let memory: u64 = group.iter().map(|other| other.size.memory_bytes).sum();
            let over = |used: u64, cap: Option<u64>| cap.is_some_and(|cap| used > cap);
            if limit.paused
                || over(runners, limit.caps.runners)
                || over(cpu, limit.caps.cpu_millis)
                || over(memory, limit.caps.memory_bytes)
            {
                found.push(format!("{}: {runners} runners, {cpu} cpu, {memory} memory", limit.name));
            }
        }
    }
    found
}
