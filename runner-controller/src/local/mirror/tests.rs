use proptest::option::of;
use proptest::prelude::*;
use runner_core::lifecycle::RunnerFact;

use super::*;

fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (-1_000_000_000..4_000_000_000_i64, 0..1_000_000_000_i32)
        .prop_map(|(s, ns)| Timestamp::new(s, ns).unwrap())
}

fn key() -> impl Strategy<Value = JobKey> {
    (text(), text(), any::<u32>()).prop_map(|(source, id, attempt)| JobKey { source, id, attempt })
}

fn description() -> impl Strategy<Value = JobDescription> {
    let labels = prop::collection::vec(text(), 0..4);
    let optional = prop::array::uniform5(of(text()));
    (text(), text(), any::<bool>(), text(), optional, labels, of(moment())).prop_map(
        |(
            owner,
            repository,
            public,
            name,
            [workflow, url, run, head_sha, head_branch],
            labels,
            created_at,
        )| JobDescription {
            owner,
            repository,
            public,
            name,
            workflow,
            url,
            labels,
            created_at,
            run,
            head_sha,
            head_branch,
        },
    )
}

fn report() -> impl Strategy<Value = JobReport> {
    let texts = prop::array::uniform4(of(text()));
    let numbers = prop::array::uniform3(any::<u32>());
    (prop::sample::select(Standing::ALL.to_vec()), texts, numbers, of(moment()), of(moment())).prop_map(
        |(
            standing,
            [reason, class, runner, conclusion],
            [runners_started, failed, counted],
            retry_after,
            ended_at,
        )| {
            JobReport {
                standing,
                reason,
                class,
                runner,
                conclusion,
                runners_started,
                failed,
                counted,
                retry_after,
                ended_at,
            }
        },
    )
}

fn group() -> impl Strategy<Value = GroupFacts> {
    (text(), prop::array::uniform4(of(moment())), of(text())).prop_map(
        |(id, [pull_started, started, stopped, seen_at], failed)| GroupFacts {
            id,
            pull_started,
            started,
            stopped,
            seen_at,
            failed,
        },
    )
}

fn fact() -> impl Strategy<Value = RunnerFact> {
    let registered = (any::<u64>(), text(), moment());
    let teardown = (text(), text(), moment());
    prop_oneof![
        moment().prop_map(RunnerFact::Registering),
        registered.prop_map(|(id, callback_hash, at)| RunnerFact::Registered(Registered {
            id,
            callback_hash,
            at
        })),
        moment().prop_map(RunnerFact::Launching),
        (text(), moment()).prop_map(|(uid, at)| RunnerFact::Launched(Launched { uid, at })),
        moment().prop_map(RunnerFact::BusySeen),
        moment().prop_map(RunnerFact::AgentBooted),
        moment().prop_map(RunnerFact::AgentJobStarted),
        moment().prop_map(RunnerFact::AgentJobCompleted),
        (moment(), of(any::<i32>())).prop_map(|(at, code)| RunnerFact::AgentExiting(at, code)),
        teardown.prop_map(|(code, sentence, at)| RunnerFact::Teardown(Teardown { code, sentence, at })),
        group().prop_map(RunnerFact::Group),
        moment().prop_map(RunnerFact::Captured),
        moment().prop_map(RunnerFact::Deleting),
        moment().prop_map(RunnerFact::Found),
        moment().prop_map(RunnerFact::Stuck),
        moment().prop_map(RunnerFact::Gone),
        moment().prop_map(RunnerFact::Billed),
        moment().prop_map(RunnerFact::Deregistered),
    ]
}

fn runner() -> impl Strategy<Value = Runner> {
    let scope = prop_oneof![text().prop_map(Scope::Owner), text().prop_map(Scope::Repository)];
    let kind = prop::sample::select(vec![
        PlaceKind::VirtualNode,
        PlaceKind::ContainerInstances,
        PlaceKind::NodePool,
    ]);
    let size = (any::<u32>(), any::<u64>(), of(any::<u32>()));
    let facts = prop::collection::vec(fact(), 0..24);
    let names = (text(), text(), text(), text());
    (names, key(), any::<u32>(), scope, size, kind, moment(), any::<bool>(), facts).prop_map(
        |((name, class, size_name, place), job, ordinal, scope, size, kind, created_at, deleted, facts)| {
            let mut runner = Runner {
                name,
                job,
                ordinal,
                scope,
                labels: vec![class.clone(), size_name.clone()],
                matched: Matched { class, size: size_name },
                size: Size { cpu_millis: size.0, memory_bytes: size.1, max_runners: size.2 },
                place,
                kind,
                created_at,
                deleted,
                facts: RunnerFacts::default(),
            };
            facts.into_iter().for_each(|fact| runner.facts.apply(fact));
            runner
        },
    )
}

fn round_trips<T: Json + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(&T::from_json(&value.to_json().unwrap()).unwrap(), value);
}

proptest! {
    #[test]
    fn any_description_reads_back_as_written(value in description()) {
        round_trips(&value);
    }

    #[test]
    fn any_report_reads_back_as_written(value in report()) {
        round_trips(&value);
    }

    #[test]
    fn any_runner_reads_back_as_written(value in runner()) {
        round_trips(&value);
    }
}

#[test]
fn the_form_on_disk_stays_as_it_is() {
    let text = r#"{"name":"stint-1","job":{"source":"acme","id":"7","attempt":1},"ordinal":2,"scope":{"owner":"acme"},"matched":{"class":"stint","size":""},"labels":["stint"],"size":{"cpuMillis":2000,"memoryBytes":4000000000,"maxRunners":null},"place":"virtual","kind":"containerInstances","createdAt":"2026-01-02T03:04:05.000000006Z","deleted":false,"facts":{"registering":"2026-01-02T03:04:05Z","registered":{"id":9,"callbackHash":"ab","at":"2026-01-02T03:04:06Z"},"launching":null,"launched":null,"busySeen":null,"agent":{"booted":null,"jobStarted":null,"jobCompleted":null,"exiting":"2026-01-02T03:04:07Z","exitCode":-1},"teardown":{"code":"Idle","sentence":"s","at":"2026-01-02T03:04:08Z"},"group":null,"captured":null,"deleting":null,"gone":null,"billed":null,"deregistered":null}}"#;
    assert_eq!(Runner::from_json(text).unwrap().to_json().unwrap(), text);
}

#[test]
fn text_that_is_no_record_or_has_more_after_it_is_an_error() {
    for text in ["", "{}", "null", "[1]"] {
        assert!(JobReport::from_json(text).is_err(), "{text}");
    }
    let twice = JobReport::default().to_json().unwrap().repeat(2);
    assert!(JobReport::from_json(&twice).is_err());
}

#[test]
fn every_action_has_a_word_of_its_own() {
    for action in [JobAction::Queued, JobAction::Waiting, JobAction::InProgress, JobAction::Completed] {
        assert_eq!(action_of(action_word(action)), Some(action));
    }
    assert_eq!(action_of("requested"), None);
}
