//! The differential oracle: the same plan without its faults says how every job should have ended, and how many groups
//! that should have taken.

use crate::fault::{Fault, GroupFate, Trouble};
use crate::github::ATTEMPT;
use crate::scenario::Scenario;
use crate::world::Outcome;

/// What a run did otherwise than the same plan without faults, and what no fault explains.
pub fn unexplained(plan: &Scenario, with: &Outcome, without: &Outcome) -> Vec<String> {
    let mut unexplained = Vec::new();
    // A job whose machine died ends as GitHub then says.
    let deadly = plan.faults.iter().any(is_deadly);
    for (id, expected) in &without.endings {
        let Some(found) = with.endings.get(id) else {
            // A job is run again only once it is over, which a fault may have put off.
            if *id < ATTEMPT {
                unexplained.push(format!("job {id} did not arrive"));
            }
            continue;
        };
        let meddled = found.meddled || expected.meddled;
        let gave_up = found.record.0 == "GivenUp" && deadly;
        if meddled || gave_up || found.conclusion == expected.conclusion {
            continue;
        }
        if !(deadly && found.conclusion == "failure") {
            unexplained.push(format!(
                "job {id} ended as {:?} ({} {}), and as {:?} without faults",
                found.conclusion, found.record.0, found.record.1, expected.conclusion
            ));
        }
    }
    let allowed = without.groups + plan.faults.iter().map(|fault| costs(fault, plan)).sum::<u64>();
    if with.groups > allowed {
        unexplained.push(format!(
            "{} groups were made, {} without faults; these explain {allowed} at most",
            with.groups, without.groups
        ));
    }
    unexplained
}

/// Whether a job may fail, or be given up, by a fault.
fn is_deadly(fault: &Fault) -> bool {
    match fault {
        Fault::Group { fate, .. } => match fate {
            GroupFate::SaidToFail
            | GroupFate::NotProvisioned
            | GroupFate::NotPulled
            | GroupFate::Vanishes(_)
            | GroupFate::Restarts(_) => true,
            GroupFate::TakenUpLate(_)
            | GroupFate::OutlivesItsDeletion
            | GroupFate::StuckDeleting(_)
            | GroupFate::DeletionForgotten
            | GroupFate::PullForgotten => false,
        },
        Fault::Agent { .. } | Fault::Restored { .. } | Fault::Emptied { .. } => true,
        Fault::While { what, .. } => match what {
            Trouble::Quota(_) | Trouble::NodeAway | Trouble::Clock(_) => true,
            Trouble::Partition(_)
            | Trouble::LeaderCutOff
            | Trouble::ReceiverDown
            | Trouble::CallbacksCut
            | Trouble::WatchLag(_)
            | Trouble::TwoLeaders
            | Trouble::Paused => false,
        },
        Fault::Write { .. }
        | Fault::Killed { .. }
        | Fault::WatchesExpire { .. }
        | Fault::Webhooks { .. }
        | Fault::Stolen { .. } => false,
    }
}

/// How many more groups a fault may cost: one for what is under way, and after a longer one, one for each attempt at each
/// job that it may have touched.
fn costs(fault: &Fault, plan: &Scenario) -> u64 {
    let jobs = plan.jobs.len() as u64;
    match fault {
        Fault::Write { .. } | Fault::Group { .. } | Fault::Agent { .. } | Fault::Stolen { .. } => 2,
        Fault::Killed { .. }
        | Fault::WatchesExpire { .. }
        | Fault::Restored { .. }
        | Fault::Emptied { .. } => jobs,
        Fault::While { .. } | Fault::Webhooks { .. } => 2 * jobs,
    }
}
