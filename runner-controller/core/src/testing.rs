//! Small builders for tests: one source, one class, one place, and jobs and runners that tests add facts to.

use jiff::{SignedDuration, Timestamp};

use crate::job::{Job, JobAction, JobDescription, JobFact, JobKey, JobReport};
use crate::labels::{self, Matched};
use crate::lifecycle::{
    GroupFacts, Launched, Machine, MachinePhase, Registered, Runner, RunnerFact, RunnerFacts, Teardown,
};
use crate::plan::{NewRunner, Snapshot, runner_name};
use crate::reason::Reason;
use crate::setup::{Class, Deadlines, Place, PlaceKind, PlaceState, Price, Scope, Setup, Size, Source};

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
        labels: Vec::new(),
        max_runners: 10,
        places: None,
        deadlines: Deadlines::default(),
        max_attempts: 3,
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
    }
}

pub(crate) fn source(name: &str, owners: &[&str]) -> Source {
    Source {
        name: name.to_owned(),
        unavailable: None,
        allow_public: false,
        owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
        repositories: Vec::new(),
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
        },
        stored_at: at(0),
        facts: Vec::new(),
        report: JobReport::default(),
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

/// The record that follows from an order.
pub(crate) fn record_of(new: &NewRunner, created_at: Timestamp) -> Runner {
    Runner {
        name: new.name.clone(),
        job: new.job.clone(),
        ordinal: new.ordinal,
        scope: new.scope.clone(),
        matched: new.matched.clone(),
        labels: new.labels.clone(),
        size: new.size,
        place: new.place.clone(),
        kind: new.kind,
        created_at,
        deleted: false,
        facts: RunnerFacts::default(),
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
    Machine { uid: "uid".to_owned(), phase, scheduled: true, since: at(since), why: None, deleting: false }
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
