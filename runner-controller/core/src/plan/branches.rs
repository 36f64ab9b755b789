//! Whether a job runs the code of a protected branch: found out before it starts, where a limit or priority may turn on it.
//!
//! The source is asked once for each job, and of no more than a few jobs at once.

use super::{Action, Hold, Pass};
use crate::limit::{Dimension, JobMatch};
use crate::pairing::{JobView, Wants};

/// How many jobs' branches are being read at once.
const AT_ONCE: usize = 50;

impl<'a> Pass<'a> {
    /// Whether it is still to be found out if the job runs the code of a protected branch; asks the source where it is.
    pub(super) fn branch_is_open(&mut self, view: &JobView<'a>, wants: &Wants) -> bool {
        // Without a run there is nothing to ask about: it counts as not protected.
        if view.job.found.protected_branch.is_some() || view.job.description.run.is_none() {
            return false;
        }
        let setup = &self.snapshot.setup;
        let limits = setup.limits.values().map(|limit| &limit.matches);
        let rules = setup.settings.priorities.iter().map(|rule| &rule.matches);
        if !limits.chain(rules).any(|matches| may_turn_on_branch(matches, view, wants)) {
            return false;
        }
        let held = view.job.key.to_string();
        if self.is_held(&held) {
            if matches!(self.snapshot.held.get(&held), Some(Hold::InFlight)) {
                self.branches_asked += 1;
            }
        } else if self.branches_asked < AT_ONCE {
            self.branches_asked += 1;
            self.plan.actions.push(Action::ReadBranch { job: view.job.key.clone() });
        }
        true
    }
}

/// Whether a match asks for the branch, and is about the job as far as anything else goes. The place is not chosen yet.
fn may_turn_on_branch(matches: &JobMatch, view: &JobView<'_>, wants: &Wants) -> bool {
    if matches.protected_branch.is_none() {
        return false;
    }
    let what = &view.job.description;
    let workflow = what.workflow.as_deref().unwrap_or_default();
    [
        (Dimension::Source, view.job.key.source.as_str()),
        (Dimension::Owner, &what.owner),
        (Dimension::Repository, &what.repository),
        (Dimension::Workflow, workflow),
        (Dimension::Class, &wants.matched.class),
    ]
    .into_iter()
    .all(|(dimension, value)| matches.covers(dimension, &value.to_lowercase()))
}
