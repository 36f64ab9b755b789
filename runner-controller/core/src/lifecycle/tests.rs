use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{at, group, machine, runner, secs, stuck};

const WANTED: Occupation = Occupation::Wanted;
const BUSY: Occupation = Occupation::Busy;

fn unwanted(since: i64) -> Occupation {
    Occupation::Unwanted { since: at(since) }
}

fn next(runner: &Runner, machine: Option<&Machine>, occupation: Occupation, now: i64) -> Next {
    let surplus_grace = secs(30);
    runner.next(Surroundings {
        machine,
        occupation,
        deadlines: Deadlines::default(),
        surplus_grace,
        leave_after: secs(60),
        now: at(now),
    })
}

/// `Step`, `Step because Code`, `wait` or `wait until 7`.
fn show(next: &Next) -> String {
    match next {
        Next::Do { step, because: None } => format!("{step:?}"),
        Next::Do { step, because: Some(reason) } => format!("{step:?} because {}", reason.code()),
        Next::Wait(None) => "wait".to_owned(),
        Next::Wait(Some(until)) => format!("wait until {}", until.duration_since(at(0)).as_secs()),
    }
}

fn check(runner: &Runner, machine: Option<&Machine>, occupation: Occupation, now: i64, expect: &str) {
    assert_eq!(show(&next(runner, machine, occupation, now)), expect);
}

fn new() -> Runner {
    runner("1", 1)
}

fn registering() -> Runner {
    new().with(RunnerFact::Registering(at(1)))
}

fn launching() -> Runner {
    new().registered(1).with(RunnerFact::Launching(at(2)))
}

fn launched() -> Runner {
    new().launched(2)
}

fn pending() -> Machine {
    machine(MachinePhase::Pending, 2)
}

fn running() -> Machine {
    machine(MachinePhase::Running, 20)
}

/// Its container was started again.
fn again() -> Machine {
    Machine { restarts: 1, ..running() }
}

fn read() -> RunnerFact {
    RunnerFact::Group(group(Some(15), None, 21))
}

/// A reading at this second, before anything of it ran.
fn looked(second: i64) -> RunnerFact {
    RunnerFact::Group(group(None, None, second))
}

fn failed(second: i64, why: &str) -> RunnerFact {
    RunnerFact::Group(GroupFacts { failed: Some(why.to_owned()), ..group(None, None, second) })
}

fn busy_seen(second: i64) -> RunnerFact {
    RunnerFact::BusySeen(at(second))
}

#[test]
fn a_runner_starts_step_by_step() {
    check(&new(), None, WANTED, 1, "Register");
    check(&new().registered(1), None, WANTED, 2, "Launch");
    check(&launching(), None, WANTED, 3, "Recover");
    check(&launched(), Some(&pending()), WANTED, 3, "wait until 32");
    check(&launched(), Some(&running()), WANTED, 21, "Capture { last: false }");
    check(&launched().with(read()), Some(&running()), WANTED, 21, "wait until 320");
    check(&launched().with(read()), Some(&running()), BUSY, 21, "wait");
}

#[test]
fn nothing_is_begun_for_nobody() {
    check(&new(), None, unwanted(0), 1, "wait until 30");
    check(&new().registered(1), None, unwanted(0), 2, "wait until 30");
    check(&new(), None, Occupation::Done { since: at(0) }, 2, "wait until 30");
    // What may be there is looked after all the same.
    check(&launching(), None, unwanted(0), 3, "Recover");
}

#[test]
fn an_intent_without_a_result_ends_the_runner() {
    check(&registering(), None, WANTED, 2, "Deregister because Interrupted");
    check(&registering(), None, BUSY, 2, "Deregister because Interrupted");
}

#[test]
fn what_is_certainly_over_is_torn_down_without_asking() {
    let ended = machine(MachinePhase::Ended, 50);
    let exiting = launched().with(RunnerFact::AgentExiting(at(50), Some(0)));
    for occupation in [WANTED, BUSY, unwanted(0), Occupation::Done { since: at(50) }] {
        check(&launched(), Some(&ended), occupation, 51, "Capture { last: true } because ContainerEnded");
        check(&exiting, Some(&running()), occupation, 51, "Capture { last: true } because AgentExited");
    }
}

#[test]
fn an_exit_before_any_job_says_why() {
    let booted = launched().with(RunnerFact::AgentBooted(at(20)));
    let exited =
        |runner: &Runner, second, code| runner.clone().with(RunnerFact::AgentExiting(at(second), code));
    let job_started = booted.clone().with(RunnerFact::AgentJobStarted(at(22)));
    for (runner, occupation, reason) in [
        (exited(&booted, 25, Some(1)), WANTED, "AgentExited"),
        (exited(&booted, 25, Some(7)), WANTED, "RunnerTooOld"),
        (exited(&launched(), 25, Some(7)), unwanted(0), "RunnerTooOld"),
        // A job's own exit code is no word of its runner's.
        (exited(&job_started, 25, Some(7)), WANTED, "AgentExited"),
        (exited(&booted, 25, Some(7)), BUSY, "AgentExited"),
        // GitHub removed its registration while it was idle.
        (exited(&booted, 79, Some(1)), WANTED, "AgentExited"),
        (exited(&booted, 80, Some(1)), WANTED, "IdleRemoved"),
        (exited(&booted, 200, None), unwanted(0), "IdleRemoved"),
        (exited(&booted, 200, Some(0)), Occupation::Done { since: at(150) }, "AgentExited"),
        (exited(&job_started, 200, Some(0)), WANTED, "AgentExited"),
    ] {
        let expect = format!("Capture {{ last: true }} because {reason}");
        check(&runner, Some(&running()), occupation, 201, &expect);
    }
}

#[test]
fn a_container_that_was_started_again_is_ended_unless_its_job_runs_on() {
    for occupation in [WANTED, BUSY, unwanted(0)] {
        check(&launched(), Some(&again()), occupation, 21, "Deregister because Restarted");
        // Its source said that it is busy: it is asked again, and kept until then.
        check(&launched().with(read()).with(busy_seen(21)), Some(&again()), occupation, 22, "wait until 81");
    }
    let ended = Machine { restarts: 1, ..machine(MachinePhase::Ended, 50) };
    check(&launched(), Some(&ended), WANTED, 51, "Capture { last: true } because ContainerEnded");
}

#[test]
fn a_record_that_was_written_again_begins_nothing_and_is_asked_about() {
    let found = new()
        .with(RunnerFact::Registering(at(1)))
        .with(RunnerFact::Launching(at(1)))
        .with(RunnerFact::Launched(Launched { uid: "uid".to_owned(), at: at(1) }))
        .with(RunnerFact::Found(at(300)));
    check(&found, Some(&running()), BUSY, 301, "Capture { last: false }");
    check(&found, Some(&running()), unwanted(1), 301, "Deregister because Surplus");
    check(&found, None, WANTED, 301, "Deregister because Vanished");
    check(&found.clone().with(busy_seen(301)), None, unwanted(1), 302, "wait until 361");
    check(
        &found,
        Some(&machine(MachinePhase::Ended, 50)),
        WANTED,
        301,
        "Capture { last: true } because ContainerEnded",
    );
    let gone = found.torn_down(&Reason::Vanished, 302);
    check(&gone.with(RunnerFact::Deregistered(at(302))), None, WANTED, 303, "Capture { last: true }");
}

#[test]
fn what_may_be_busy_is_asked_about_first() {
    let failed = machine(MachinePhase::StartFailed, 5);
    let deleting = Machine { deleting: true, ..running() };
    let deleted = Runner { deleted: true, ..launched() };
    for occupation in [WANTED, BUSY] {
        check(&launched(), Some(&failed), occupation, 6, "Deregister because StartFailed");
        check(&launched(), None, occupation, 60, "Deregister because Vanished");
        check(&launched(), Some(&deleting), occupation, 60, "Deregister because Vanished");
        check(&deleted, Some(&running()), occupation, 60, "Deregister because Deleted");
    }
    check(&launched(), Some(&running()), unwanted(40), 70, "Deregister because Surplus");
    check(
        &launched(),
        Some(&running()),
        Occupation::Done { since: at(40) },
        70,
        "Deregister because Surplus",
    );
}

#[test]
fn a_runner_that_its_source_calls_busy_is_kept_for_a_minute() {
    let busy = launched().with(read()).with(busy_seen(100));
    let failed = machine(MachinePhase::StartFailed, 5);
    check(&busy, Some(&failed), WANTED, 101, "wait until 160");
    check(&busy, Some(&failed), WANTED, 160, "Deregister because StartFailed");
    check(&busy, None, BUSY, 101, "wait until 160");
    check(&busy, Some(&running()), unwanted(40), 101, "wait until 160");
    check(&busy, Some(&running()), unwanted(40), 160, "Deregister because Surplus");
    // An end is an end.
    check(
        &busy,
        Some(&machine(MachinePhase::Ended, 100)),
        BUSY,
        101,
        "Capture { last: true } because ContainerEnded",
    );
}

#[test]
fn a_machine_may_be_missing_for_a_moment_after_its_creation() {
    check(&launched(), None, WANTED, 31, "wait until 32");
    check(&launched(), None, WANTED, 32, "Deregister because Vanished");
}

#[test]
fn each_stage_has_its_deadline() {
    let unscheduled = Machine { scheduled: false, ..pending() };
    let read = || launched().with(read());
    let booted = || read().with(RunnerFact::AgentBooted(at(25)));
    check(&launched(), Some(&unscheduled), WANTED, 121, "wait until 122");
    check(&launched(), Some(&unscheduled), WANTED, 122, "Deregister because NotScheduled");
    let looked = launched().with(looked(900));
    check(&looked, Some(&pending()), WANTED, 901, "wait until 902");
    check(&looked, Some(&pending()), WANTED, 902, "Deregister because NotRunning");
    check(&read(), Some(&running()), WANTED, 319, "wait until 320");
    check(&read(), Some(&running()), WANTED, 320, "Deregister because NotOnline");
    check(&booted(), Some(&running()), WANTED, 324, "wait until 325");
    check(&booted(), Some(&running()), WANTED, 325, "Deregister because Idle");
    // None of them ends a runner that has a job.
    for machine in [&unscheduled, &pending(), &running()] {
        check(&booted(), Some(machine), BUSY, 1_000_000, "wait");
    }
}

#[test]
fn the_group_of_a_machine_that_does_not_run_yet_is_looked_at_now_and_then() {
    let located = launched().with(RunnerFact::Group(GroupFacts { seen_at: None, ..group(None, None, 0) }));
    for unread in [launched(), located] {
        check(&unread, Some(&pending()), WANTED, 31, "wait until 32");
        check(&unread, Some(&pending()), WANTED, 32, "Capture { last: false }");
    }
    let seen = launched().with(looked(33));
    check(&seen, Some(&pending()), WANTED, 33, "wait until 63");
    check(&seen, Some(&pending()), WANTED, 63, "Capture { last: false }");
    // Not where it is known to have a job or not to be needed, nor where no node has the pod.
    check(&seen, Some(&pending()), BUSY, 63, "wait");
    check(&seen, Some(&pending()), unwanted(60), 63, "wait until 90");
    check(&seen, Some(&pending()), Occupation::Done { since: at(60) }, 63, "wait until 90");
    check(&seen, Some(&Machine { scheduled: false, ..pending() }), WANTED, 63, "wait until 122");
    // A group of Stint's own making is watched by reading it.
    let own = Runner { kind: PlaceKind::ContainerInstances, ..launched() };
    check(&own, Some(&pending()), WANTED, 63, "wait until 902");
}

#[test]
fn a_pod_that_no_node_of_its_pool_can_take_is_given_up_in_time() {
    let pooled = || launched().pooled();
    check(&pooled(), Some(&stuck(2)), WANTED, 61, "wait until 62");
    check(&pooled(), Some(&stuck(2)), WANTED, 62, "Deregister because Unschedulable");
    check(&pooled(), Some(&stuck(2)), BUSY, 62, "wait");
    check(&pooled(), Some(&stuck(2)), unwanted(40), 62, "wait until 70");
    check(&pooled(), Some(&Machine { why: None, ..stuck(2) }), WANTED, 62, "wait until 122");
    check(&pooled(), Some(&Machine { scheduled: true, ..stuck(2) }), WANTED, 122, "wait until 902");
    // A virtual node mostly takes any pod, but not where its selector or taints changed.
    check(&launched(), Some(&stuck(2)), WANTED, 62, "Deregister because Unschedulable");
}

#[test]
fn what_has_no_group_is_deleted_without_a_reading_of_one() {
    let pooled = || launched().pooled();
    check(&pooled(), Some(&running()), BUSY, 50, "wait");
    check(&pooled(), Some(&pending()), WANTED, 63, "wait until 902");
    let ended = pooled().torn_down(&Reason::ContainerEnded, 60);
    check(&ended, Some(&machine(MachinePhase::Ended, 60)), BUSY, 60, "DeleteMachine");
    check(&ended.with(RunnerFact::Deleting(at(61))), None, BUSY, 61, "ConfirmGone");
}

#[test]
fn the_group_of_a_running_machine_is_read_ever_less_often_until_its_pull_is_known() {
    let capture = "Capture { last: false }";
    let running = &machine(MachinePhase::Running, 20);
    for unread in [launched(), launched().with(looked(19))] {
        check(&unread, Some(running), BUSY, 20, capture);
    }
    let seen = |second| launched().with(looked(second));
    check(&seen(20), Some(running), BUSY, 20, "wait until 50");
    check(&seen(20), Some(running), BUSY, 50, capture);
    check(&seen(120), Some(running), BUSY, 120, "wait until 220");
    check(&seen(100_000), Some(running), BUSY, 100_000, "wait until 103600");
    check(&seen(20).with(read()), Some(running), BUSY, 21, "wait");
    // Its times may come from a clock that is ahead.
    check(&launched(), Some(&machine(MachinePhase::Running, 25)), BUSY, 21, "wait until 25");
}

#[test]
fn a_group_that_cannot_be_provisioned_ends_its_pending_runner_once_its_source_agrees() {
    let broken = launched().with(failed(33, "InaccessibleImage"));
    for occupation in [WANTED, BUSY, unwanted(33)] {
        check(&broken, Some(&pending()), occupation, 34, "Deregister because StartFailed");
        let denied = broken.clone().with(busy_seen(35));
        check(&denied, Some(&pending()), occupation, 95, "Deregister because StartFailed");
    }
    check(&broken.clone().with(busy_seen(35)), Some(&pending()), BUSY, 36, "wait until 95");
    check(&broken.clone().with(busy_seen(35)), Some(&pending()), WANTED, 63, "Capture { last: false }");
    let full = launched().with(failed(33, "ServiceUnavailable: try again"));
    check(&full, Some(&pending()), WANTED, 34, "Deregister because NoCapacity");
    // It came to run after all, or a later reading says nothing of a failure.
    check(&broken.clone().with(read()), Some(&running()), BUSY, 34, "wait");
    check(&broken.clone().with(looked(63)), Some(&pending()), WANTED, 64, "wait until 93");
    // An older reading, or none, takes nothing back.
    let unread = RunnerFact::Group(GroupFacts { seen_at: None, ..group(None, None, 0) });
    for fact in [looked(20), unread] {
        check(&broken.clone().with(fact), Some(&pending()), WANTED, 64, "Deregister because StartFailed");
    }
}

#[test]
fn a_quota_a_rate_and_a_full_region_are_no_fault_of_the_runner() {
    let check = |why: &str, expect: &str| assert_eq!(start_failure(why.to_owned()).code(), expect, "{why}");
    check("ContainerGroupQuotaReached: Resource type 'Microsoft.ContainerInstance/...'", "NoCapacity");
    check("ContainerGroupQuotaExceeded", "NoCapacity");
    check("api call failed: 429 TooManyRequests", "NoCapacity");
    check("Code=\"ServiceUnavailable\" Message=\"The requested resource is not available\"", "NoCapacity");
    check("ContainerGroupTransitioning", "StartFailed");
    check("InaccessibleImage", "StartFailed");
    check("toomanyrequests: You have reached your pull rate limit", "StartFailed");
    check("", "StartFailed");
}

#[test]
fn a_surplus_runner_is_kept_for_its_grace() {
    check(&launched().with(read()), Some(&running()), unwanted(40), 69, "wait until 70");
    check(&new(), None, unwanted(0), 30, "Release because Surplus");
    check(&new().registered(1), None, unwanted(0), 30, "Deregister because Surplus");
}

#[test]
fn a_teardown_goes_step_by_step_to_the_end() {
    let walk = |mut runner: Runner| {
        let mut steps = Vec::new();
        loop {
            let Next::Do { step, because: None } = next(&runner, None, unwanted(0), 1000) else {
                panic!("{steps:?}")
            };
            steps.push(format!("{step:?}"));
            runner = match step {
                Step::Capture { .. } => runner.with(RunnerFact::Captured(at(1000))),
                Step::DeleteMachine => runner.with(RunnerFact::Deleting(at(1000))),
                Step::ConfirmGone => runner.with(RunnerFact::Gone(at(1000))),
                Step::Bill => runner.with(RunnerFact::Billed(at(1000))),
                Step::Deregister => runner.with(RunnerFact::Deregistered(at(1000))),
                Step::Release => return steps.join(", "),
                Step::Register | Step::Launch | Step::Recover => panic!("{step:?} in a teardown"),
            };
        }
    };
    let machine = "Capture { last: true }, DeleteMachine, ConfirmGone, Bill";
    assert_eq!(walk(new().torn_down(&Reason::Surplus, 1)), "Release");
    assert_eq!(walk(registering().torn_down(&Reason::Surplus, 1)), "Deregister, Release");
    assert_eq!(walk(launching().torn_down(&Reason::Surplus, 1)), format!("{machine}, Deregister, Release"));
    assert_eq!(walk(launched().torn_down(&Reason::Surplus, 1)), format!("{machine}, Deregister, Release"));
    let asked = launched().torn_down(&Reason::Surplus, 1).with(RunnerFact::Deregistered(at(1)));
    assert_eq!(walk(asked), format!("{machine}, Release"));
}

#[test]
fn an_ended_runner_that_its_source_calls_busy_is_not_asked_about_in_a_loop() {
    let gone = [RunnerFact::Captured(at(9)), RunnerFact::Deleting(at(9)), RunnerFact::Gone(at(9))];
    let ended = gone.into_iter().fold(launched().torn_down(&Reason::ContainerEnded, 8), Runner::with);
    let ended = ended.with(busy_seen(100));
    check(&ended, None, BUSY, 101, "Bill");
    let ended = ended.with(RunnerFact::Billed(at(102)));
    check(&ended, None, BUSY, 103, "wait until 160");
    check(&ended, None, BUSY, 160, "Deregister");
}

#[test]
fn an_interrupted_runner_that_its_source_calls_busy_is_not_asked_about_in_a_loop() {
    let busy = registering().with(busy_seen(100));
    check(&busy, None, BUSY, 101, "wait until 160");
    check(&busy, None, BUSY, 160, "Deregister because Interrupted");
}

#[test]
fn only_what_a_runner_did_itself_counts_as_an_attempt() {
    let uncounted: Vec<&str> = Reason::CODES.into_iter().filter(|code| !counts_as_attempt(code, 1)).collect();
    assert_eq!(
        uncounted,
        [
            "IdleRemoved",
            "NoCapacity",
            "Unschedulable",
            "Interrupted",
            "RegistrationFailed",
            "NameTaken",
            "Surplus",
            "Deleted"
        ]
    );
    let counts = |ordinal| counts_as_attempt("IdleRemoved", ordinal);
    assert_eq!([1, 2, 3, 4].map(counts), [false, false, true, true]);
    let at_once: Vec<&str> = Reason::CODES.into_iter().filter(|code| !pauses_the_next(code)).collect();
    assert_eq!(at_once, ["NoCapacity", "Unschedulable", "Surplus", "Deleted"]);
}

#[test]
fn what_was_read_of_a_group_stays_known() {
    let mut facts = RunnerFacts::default();
    facts.apply(RunnerFact::Group(group(Some(15), None, 20)));
    facts.apply(RunnerFact::Group(group(Some(17), Some(80), 81)));
    facts.apply(RunnerFact::Group(GroupFacts { id: String::new(), ..group(None, None, 90) }));
    assert_eq!(facts.group, Some(group(Some(15), Some(80), 90)));
}

#[test]
fn a_fact_is_set_once() {
    let twice = launched().torn_down(&Reason::Idle, 5).torn_down(&Reason::Surplus, 6);
    assert_eq!(twice.facts.teardown.unwrap().code, "Idle");
    let twice = launched().with(busy_seen(9)).with(busy_seen(5));
    assert_eq!(twice.facts.busy_seen, Some(at(9)));
    let exit =
        launched().with(RunnerFact::AgentExiting(at(5), None)).with(RunnerFact::AgentExiting(at(6), Some(3)));
    assert_eq!((exit.facts.agent.exiting, exit.facts.agent.exit_code), (Some(at(5)), Some(3)));
}

/// A runner at any point of its life, with the facts that come before that point.
fn any_runner() -> impl Strategy<Value = Runner> {
    let agent = proptest::collection::vec(0..8_u8, 0..3);
    (0..10_usize, agent, proptest::option::of(0..400_i64), any::<bool>()).prop_map(
        |(stage, agent, busy, deleted)| {
            let (registered, launching) = (new().registered(1).facts, launching().facts);
            let life = [
                RunnerFact::Registering(at(1)),
                RunnerFact::Registered(registered.registered.unwrap()),
                RunnerFact::Launching(launching.launching.unwrap()),
                RunnerFact::Launched(launched().facts.launched.unwrap()),
                RunnerFact::Teardown(crate::testing::teardown(&Reason::Idle, at(30))),
                RunnerFact::Captured(at(31)),
                RunnerFact::Deleting(at(32)),
                RunnerFact::Gone(at(33)),
                RunnerFact::Billed(at(34)),
            ];
            let mut runner = life.into_iter().take(stage).fold(new(), Runner::with);
            for fact in agent {
                runner = runner.with(match fact {
                    0 => RunnerFact::AgentBooted(at(21)),
                    1 => RunnerFact::AgentJobStarted(at(22)),
                    2 => RunnerFact::AgentJobCompleted(at(25)),
                    3 => RunnerFact::AgentExiting(at(26), Some(0)),
                    4 => looked(24),
                    5 => failed(28, "ServiceUnavailable"),
                    6 => RunnerFact::Group(GroupFacts { seen_at: None, ..group(None, None, 0) }),
                    _ => read(),
                });
            }
            runner.deleted = deleted;
            busy.into_iter().map(busy_seen).fold(runner, Runner::with)
        },
    )
}

fn any_machine() -> impl Strategy<Value = Option<Machine>> {
    (0..5_u8, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(phase, scheduled, deleting, restarted)| {
            let phase = match phase {
                0 => return None,
                1 => MachinePhase::Pending,
                2 => MachinePhase::Running,
                3 => MachinePhase::Ended,
                _ => MachinePhase::StartFailed,
            };
            Some(Machine { scheduled, deleting, restarts: u32::from(restarted), ..machine(phase, 20) })
        },
    )
}

fn any_occupation() -> impl Strategy<Value = Occupation> {
    (0..4_u8, 0..100_i64).prop_map(|(which, since)| match which {
        0 => WANTED,
        1 => BUSY,
        2 => unwanted(since),
        _ => Occupation::Done { since: at(since) },
    })
}

proptest! {
    #[test]
    fn a_call_that_cannot_be_repeated_is_planned_once(
        runner in any_runner(), machine in any_machine(), occupation in any_occupation(), now in 0..2000_i64,
    ) {
        match next(&runner, machine.as_ref(), occupation, now) {
            Next::Do { step: Step::Register, .. } => prop_assert!(runner.facts.registering.is_none()),
            Next::Do { step: Step::Launch, .. } => {
                prop_assert!(runner.facts.registered.is_some() && runner.facts.launching.is_none());
            }
            Next::Do { .. } | Next::Wait(_) => {}
        }
    }

    #[test]
    fn a_machine_that_may_be_busy_is_not_touched_before_its_source_was_asked(
        runner in any_runner(), machine in any_machine(), occupation in any_occupation(), now in 0..2000_i64,
    ) {
        let over = runner.facts.agent.exiting.is_some()
            || runner.ending()
            || runner.facts.registered.is_none()
            || machine.as_ref().is_some_and(|machine| machine.phase == MachinePhase::Ended);
        if !over && let Next::Do { step, .. } = next(&runner, machine.as_ref(), occupation, now) {
            let harmless = matches!(
                step,
                Step::Register | Step::Launch | Step::Recover | Step::Capture { last: false } | Step::Deregister
            );
            prop_assert!(harmless, "{:?}", step);
        }
    }

    #[test]
    fn waiting_lasts_as_long_as_it_says(
        runner in any_runner(), machine in any_machine(), occupation in any_occupation(), now in 0..2000_i64,
    ) {
        match next(&runner, machine.as_ref(), occupation, now) {
            Next::Wait(Some(until)) => {
                prop_assert!(until > at(now));
                let last = until.duration_since(at(0)).as_secs() - 1;
                if last >= now {
                    let still = next(&runner, machine.as_ref(), occupation, last);
                    prop_assert!(matches!(still, Next::Wait(_)), "{:?}", still);
                }
            }
            Next::Wait(None) => {
                let later = next(&runner, machine.as_ref(), occupation, 10_000_000);
                prop_assert_eq!(later, Next::Wait(None));
            }
            Next::Do { .. } => {}
        }
    }
}

#[test]
fn every_step_and_every_reason_of_a_runner_is_reachable() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let machines: Vec<Option<Machine>> =
        [MachinePhase::Pending, MachinePhase::Running, MachinePhase::Ended, MachinePhase::StartFailed]
            .into_iter()
            .flat_map(|phase| {
                [true, false].map(|scheduled| Some(Machine { scheduled, ..machine(phase, 20) }))
            })
            .chain([None])
            .collect();
    let gone = |runner: Runner| runner.torn_down(&Reason::Idle, 5).settled(9);
    let mut half = vec![launched().torn_down(&Reason::Idle, 5)];
    for fact in [
        RunnerFact::Captured(at(6)),
        RunnerFact::Deleting(at(6)),
        RunnerFact::Gone(at(6)),
        RunnerFact::Billed(at(6)),
    ] {
        half.push(half.last().unwrap().clone().with(fact));
    }
    let runners = [
        new(),
        registering(),
        new().registered(1),
        launching(),
        launched(),
        launched().with(failed(21, "InaccessibleImage")),
        launched().with(failed(21, "ContainerGroupQuotaReached")),
        launched().with(RunnerFact::AgentBooted(at(21))),
        launched().with(RunnerFact::AgentExiting(at(21), None)),
        launched().with(RunnerFact::AgentExiting(at(21), Some(7))),
        launched().with(RunnerFact::AgentBooted(at(21))).with(RunnerFact::AgentExiting(at(200), Some(1))),
        Runner { deleted: true, ..launched() },
        launched().pooled(),
        gone(launched()),
    ];
    let machines: Vec<Option<Machine>> =
        machines.into_iter().chain([Some(stuck(2)), Some(again())]).collect();
    for runner in runners.iter().chain(&half) {
        for machine in &machines {
            for occupation in [WANTED, BUSY, unwanted(0)] {
                if let Next::Do { step, because } = next(runner, machine.as_ref(), occupation, 2000) {
                    seen.insert(format!("{step:?}"));
                    seen.extend(because.map(|reason| reason.code().to_owned()));
                }
            }
        }
    }
    let steps = [
        "Register",
        "Launch",
        "Recover",
        "Capture { last: false }",
        "Capture { last: true }",
        "DeleteMachine",
        "ConfirmGone",
        "Bill",
        "Deregister",
        "Release",
    ];
    // Those two are the executor's to record.
    let executors = ["RegistrationFailed", "NameTaken"];
    let reasons = Reason::CODES.into_iter().skip_while(|code| *code != "ContainerEnded");
    let expected: BTreeSet<String> = steps
        .into_iter()
        .chain(reasons.filter(|code| !executors.contains(code)))
        .map(str::to_owned)
        .collect();
    assert_eq!(seen, expected);
}
