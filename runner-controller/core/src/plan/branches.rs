//! Whether a job runs the code of a protected branch: found out before it starts, where a limit or priority may turn on it.
//!
//! The source is asked once for each job, about no more than a few jobs at once and the oldest of them first, and about
//! none while it wants no such calls.

use jiff::Timestamp;

use super::{Action, BRANCH, BRANCHES, Hold, Pass, Snapshot};
use crate::limit::{Dimension, JobMatch};
use crate::pairing::{JobView, Wants};

/// How many jobs' branches are being read at once. Each takes about three calls, of which runners need some too.
const AT_ONCE: usize = 8;

/// How much is asked about branches.
pub(super) struct Branches<'a> {
    /// About how many jobs.
    asked: usize,
    /// Sources that are not asked before a moment.
    paused: Vec<(&'a str, Timestamp)>,
}

impl<'a> Branches<'a> {
    /// What is under way and held back already.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut branches = Self { asked: 0, paused: Vec::new() };
        for (name, hold) in &snapshot.held {
            match hold {
                Hold::InFlight => branches.asked += usize::from(name.ends_with(BRANCH)),
                Hold::Until(until) => {
                    branches.paused.extend(name.strip_suffix(BRANCHES).map(|source| (source, *until)));
                }
            }
        }
        branches
    }

    /// Until when a source is not to be asked, if it is not.
    fn paused(&self, source: &str, now: Timestamp) -> Option<Timestamp> {
        let mut paused = self.paused.iter().filter(|(paused, until)| *paused == source && *until > now);
        paused.next().map(|(_, until)| *until)
    }
}

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
        if let Some(until) = self.branches.paused(&view.job.key.source, self.now) {
            self.wake(Some(until));
        } else if self.branches.asked < AT_ONCE {
            let action = Action::ReadBranch { job: view.job.key.clone() };
            if !self.is_held(&action.held_under()) {
                self.branches.asked += 1;
                self.plan.actions.push(action);
            }
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
