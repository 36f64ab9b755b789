//! A crash at every single write: before it, after it with the answer lost, and after the answer.

use simulation::{Fault, Peer, Scenario, WriteFault};

/// Runs a small plan once for each of its writes and each way to crash there. All of it must converge.
fn crash_everywhere(plan: &Scenario) {
    let undisturbed = plan.run().unwrap();
    assert_eq!(undisturbed.violations, [], "{}", undisturbed.story);
    let mut failed = Vec::new();
    let mut runs = 0;
    for (peer, writes) in &undisturbed.writes {
        for nth in 1..=*writes {
            for what in WriteFault::CRASHES {
                let faults = vec![Fault::Write { peer: *peer, nth, what }];
                let outcome = Scenario { faults: faults.clone(), ..plan.clone() }.run().unwrap();
                runs += 1;
                assert_eq!(outcome.counts.crashes, 1, "{faults:?} does not crash:\n{}", outcome.journal);
                for violation in &outcome.violations {
                    failed.push(format!("{faults:?}: {violation:?}\n{}", outcome.story));
                }
                for (job, ending) in &outcome.endings {
                    if ending.conclusion != "success" || ending.record.0 != "Ended" {
                        failed
                            .push(format!("{faults:?}: job {job} ended as {ending:?}\n{}", outcome.journal));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} of {runs} runs did not converge:\n{}", failed.len(), failed.join("\n"));
    assert!(undisturbed.writes.get(&Peer::Kubernetes).is_some_and(|writes| *writes > 10));
}

#[test]
fn one_job_on_a_virtual_node_is_run_wherever_the_controller_crashes() {
    crash_everywhere(&Scenario::small(1, true, false));
}

#[test]
fn one_job_in_a_group_of_stints_own_is_run_wherever_the_controller_crashes() {
    crash_everywhere(&Scenario::small(1, false, true));
}
