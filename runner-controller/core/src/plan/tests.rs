//! `plan` as a whole: single passes, properties of any pass, and whole worlds in simulated time.

mod branches;
mod budgets;
mod endings;
mod fairness;
mod limits;
mod pairs;
mod passes;
mod properties;
mod registrations;
mod silence;
mod simulation;
mod stories;
mod world;

use super::{Action, NewRunner, Plan};

/// The runners that a plan starts, in its order.
fn starts(plan: &Plan) -> Vec<&NewRunner> {
    let starts = plan.actions.iter().filter_map(|action| match action {
        Action::Start(new) => Some(new.as_ref()),
        Action::Step { .. }
        | Action::Report { .. }
        | Action::ReadJob { .. }
        | Action::ReadBranch { .. }
        | Action::Expire { .. }
        | Action::Unreserve { .. } => None,
    });
    starts.collect()
}
