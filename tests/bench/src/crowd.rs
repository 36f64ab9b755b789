//! A crowd of waiting jobs: twenty owners, two hundred repositories, two classes, six limits.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use runner_core::job::{Findings, Job, JobAction, JobDescription, JobFact, JobKey, JobReport};
use runner_core::lifecycle::{GroupFacts, Launched, Machine, MachinePhase, Registered, RunnerFact};
use runner_core::limit::{Caps, ConcurrencyLimit, Dimension, Glob, JobMatch};
use runner_core::plan::{Action, NewRunner, Snapshot, plan};
use runner_core::setup::{
    Class, Deadlines, Place, PlaceKind, PlaceState, Price, RegisterAt, Settings, Setup, Size, Source,
};

/// The moment of the pass that is measured.
pub fn now() -> Timestamp {
    after(600)
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .saturating_add(SignedDuration::from_secs(1_767_225_600 + seconds))
        .unwrap_or_default()
}

/// So many jobs that were queued within ten minutes, none of them looked at yet; there is room for 500 runners.
pub fn burst(count: usize) -> Snapshot {
    Snapshot { setup: setup(), jobs: (0..count).map(|id| job(id, count)).collect(), ..Snapshot::default() }
}

/// So many jobs that wait while 500 others run, all looked at before: what a pass mostly finds.
pub fn waiting(count: usize) -> Snapshot {
    let mut all = burst(count + 500);
    for _ in 0..2 {
        let plan = plan(&all, now());
        let mut reports: BTreeMap<JobKey, JobReport> = BTreeMap::new();
        for action in plan.actions {
            match action {
                Action::Start(new) => start(&mut all, &new),
                Action::Report { job, report } => {
                    reports.insert(job, report);
                }
                Action::Step { .. }
                | Action::ReadJob { .. }
                | Action::ReadBranch { .. }
                | Action::Expire { .. }
                | Action::Unreserve { .. } => {}
            }
        }
        for job in &mut all.jobs {
            if let Some(report) = reports.remove(&job.key) {
                job.report = report;
            }
        }
    }
    all
}

fn start(all: &mut Snapshot, new: &NewRunner) {
    let mut runner = new.clone().record(now());
    let registered = Registered { id: 1, callback_hash: String::new(), at: now() };
    for fact in [
        RunnerFact::Registering(now()),
        RunnerFact::Registered(registered),
        RunnerFact::Launching(now()),
        RunnerFact::Launched(Launched { uid: new.name.clone(), at: now() }),
        RunnerFact::AgentBooted(now()),
        RunnerFact::AgentJobStarted(now()),
        RunnerFact::Group(GroupFacts { pull_started: Some(now()), ..GroupFacts::default() }),
    ] {
        runner.facts.apply(fact);
    }
    all.runners.push(runner);
    let machine = Machine {
        uid: new.name.clone(),
        phase: MachinePhase::Running,
        since: now(),
        scheduled: true,
        why: None,
        deleting: false,
        restarts: 0,
    };
    all.machines.insert(new.name.clone(), machine);
    if let Some(job) = all.jobs.iter_mut().find(|job| job.key == new.job) {
        job.facts.push(fact("started", JobAction::InProgress, now(), Some(new.name.clone())));
    }
}

fn job(id: usize, of: usize) -> Job {
    let (owner, repository) = (id % 20, id % 200);
    let queued = after(i64::try_from(id * 599 / of).unwrap_or_default());
    Job {
        key: JobKey { source: "acme".to_owned(), id: format!("{:011}", 47_000_000_000 + id), attempt: 1 },
        description: JobDescription {
            owner: format!("owner-{owner}"),
            repository: format!("owner-{owner}/repository-{repository}"),
            public: false,
            name: format!("test ({id})"),
            workflow: Some("CI".to_owned()),
            url: None,
            labels: vec![if id.is_multiple_of(7) { "big" } else { "small" }.to_owned()],
            created_at: Some(queued),
            run: Some(id.to_string()),
            head_sha: Some(format!("{id:040x}")),
            head_branch: Some("main".to_owned()),
        },
        stored_at: queued,
        facts: vec![fact("hook", JobAction::Queued, queued, None)],
        report: JobReport::default(),
        found: Findings::default(),
    }
}

fn fact(id: &str, action: JobAction, heard_at: Timestamp, runner: Option<String>) -> JobFact {
    JobFact { id: id.to_owned(), action, heard_at, runner, conclusion: None }
}

fn setup() -> Setup {
    let mut setup =
        Setup { settings: Settings { max_runners: 500, ..Settings::default() }, ..Setup::default() };
    let source = Source {
        name: "acme".to_owned(),
        unavailable: None,
        registrations: None,
        allow_public: false,
        notice_after: None,
        owners: (0..20).map(|owner| format!("owner-{owner}")).collect(),
        repositories: Vec::new(),
        register_at: RegisterAt::default(),
    };
    setup.sources.insert(source.name.clone(), source);
    for (name, cores) in [("small", 2), ("big", 8)] {
        let size = Size { cpu_millis: cores * 1000, memory_bytes: u64::from(cores) << 31, max_runners: None };
        let class = Class {
            name: name.to_owned(),
            sizes: BTreeMap::from([(String::new(), size)]),
            custom_size: None,
            needs: BTreeSet::new(),
            labels: Vec::new(),
            max_runners: 1000,
            places: None,
            deadlines: Deadlines::default(),
            max_attempts: 3,
            expected_duration: None,
        };
        setup.classes.insert(name.to_owned(), class);
    }
    let place = Place {
        name: "virtual".to_owned(),
        kind: PlaceKind::VirtualNode,
        state: PlaceState::Active,
        unready: None,
        price: Price::default(),
        burst_after: SignedDuration::ZERO,
        quota: None,
        v2: false,
    };
    setup.places.insert(place.name.clone(), place);
    let by = |dimension: &[Dimension]| dimension.iter().copied().collect();
    let about = |dimension: Dimension, pattern: &str| JobMatch {
        patterns: BTreeMap::from([(dimension, vec![Glob::new(pattern)])]),
        ..JobMatch::default()
    };
    let runners = |most: u64| Caps { runners: Some(most), ..Caps::default() };
    let cores = |most: u64| Caps { cpu_millis: Some(most * 1000), ..Caps::default() };
    let limits = [
        ConcurrencyLimit { caps: cores(4000), ..ConcurrencyLimit::default() },
        ConcurrencyLimit {
            group_by: by(&[Dimension::Owner]),
            caps: runners(100),
            ..ConcurrencyLimit::default()
        },
        ConcurrencyLimit {
            group_by: by(&[Dimension::Repository]),
            caps: runners(20),
            ..ConcurrencyLimit::default()
        },
        ConcurrencyLimit {
            group_by: by(&[Dimension::Class]),
            caps: cores(900),
            ..ConcurrencyLimit::default()
        },
        ConcurrencyLimit {
            matches: about(Dimension::Owner, "owner-1*"),
            caps: runners(300),
            ..ConcurrencyLimit::default()
        },
        ConcurrencyLimit {
            matches: about(Dimension::Place, "virt*"),
            group_by: by(&[Dimension::Place]),
            caps: runners(450),
            ..ConcurrencyLimit::default()
        },
    ];
    for (number, limit) in limits.into_iter().enumerate() {
        let name = format!("limit-{number}");
        setup.limits.insert(name.clone(), ConcurrencyLimit { name, ..limit });
    }
    setup
}
