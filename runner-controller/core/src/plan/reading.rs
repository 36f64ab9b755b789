//! When a job's source is asked how the job stands, since an event may be lost or late.
//!
//! Each answer is a fact with its own id, so nothing here asks often: once after a runner's sign, and else at
//! intervals that grow.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Hold, Pass, held_reading};
use crate::job::{JobState, READ_AFTER_SIGN};
use crate::lifecycle::Runner;
use crate::pairing::JobView;
use crate::setup::saturating_add;

/// How often the source is asked about a job whose runner is over, until it says so of the job too.
const READ_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How often the source is asked about a job that runs, or is held back, without any sign of an end.
const READ_SILENT_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// A source fails a job that waited for a day (GitHub); then it is asked.
pub(super) const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

impl<'a> Pass<'a> {
    /// The runners of a queued job that are over while its source was not asked since: any of them may have run it.
    pub(super) fn silent(&self, view: &JobView<'a>) -> Vec<&'a Runner> {
        if !matches!(view.state, JobState::Queued { .. }) || view.wants.is_err() {
            return Vec::new();
        }
        let meant = view.job.report.runner.as_deref().and_then(|name| self.by_name.get(name).copied());
        self.own(view)
            .iter()
            .copied()
            .chain(meant)
            .filter(|runner| runner.end_sign().is_some_and(|sign| !view.job.read_since(sign)))
            .collect()
    }

    /// From when the source is to be asked about a queued job before another runner is started for it, if it is.
    pub(super) fn ask_from(&self, view: &JobView<'a>) -> Option<Timestamp> {
        let sign = self.silent(view).into_iter().filter_map(Runner::end_sign).max()?;
        Some(saturating_add(sign, READ_AFTER_SIGN))
    }

    /// Asks about a queued job that a runner stands for, once any runner shows that it may have taken it.
    pub(super) fn read_covered(&mut self, view: &JobView<'a>, runner: &str) {
        let taken = self.by_name.get(runner).and_then(|runner| runner.start_sign());
        let taken = taken.filter(|sign| !view.job.read_since(*sign));
        let due = taken.map(|sign| saturating_add(sign, READ_AFTER_SIGN)).max(self.ask_from(view));
        if let Some(due) = due {
            self.read_from(view, due);
        }
    }

    /// Asks about a running job: soon after its runner is over, else seldom.
    pub(super) fn read_running(&mut self, view: &JobView<'a>, runner: Option<&str>) {
        let heard = view.job.last_fact_at();
        let sign = match runner {
            Some(name) => self.by_name.get(name).and_then(|runner| runner.end_sign()),
            None => self.own(view).iter().filter_map(|runner| runner.end_sign()).min(),
        };
        let released = runner.is_some_and(|name| self.is_ours(name) && !self.by_name.contains_key(name));
        let due = match sign {
            Some(sign) if heard <= sign => saturating_add(sign, READ_AFTER_SIGN),
            Some(_) => saturating_add(heard, READ_EVERY),
            None if released => saturating_add(heard, READ_EVERY),
            None => saturating_add(heard, READ_SILENT_EVERY),
        };
        self.read_from(view, due);
    }

    /// Asks about a job that its source holds back: a `queued` that was lost, or came before its `waiting`, would
    /// leave it so for ever. The interval doubles.
    pub(super) fn read_held_back(&mut self, view: &JobView<'a>) {
        let heard = view.job.last_fact_at();
        let age = heard.duration_since(view.job.state_since());
        self.read_from(view, saturating_add(heard, age.clamp(READ_EVERY, READ_SILENT_EVERY)));
    }

    /// Asks about a job that gets no runner, refused or given up: it may have been cancelled, run by somebody else's
    /// runner, or failed by its source, without a word. Once a day, until its record goes, since nothing starts by it.
    pub(super) fn read_unserved(&mut self, view: &JobView<'a>) {
        let due = saturating_add(view.job.last_fact_at(), LONGEST_WAIT);
        // The answer would bring a record back that is about to go.
        if due.max(self.now) < self.long_over(view) {
            self.read_from(view, due);
        }
    }

    /// From when the source is to be asked about a job for which all else is ready, if it is: its `queued` is old, or
    /// it had a runner, which took another job; then the job may have run on that one's.
    pub(super) fn confirm_from(&self, view: &JobView<'a>) -> Option<Timestamp> {
        let JobState::Queued { confirmed_at, .. } = view.state else { return None };
        if view.job.needs_confirmation(confirmed_at, self.snapshot.setup.settings.confirm_after, self.now) {
            return Some(self.now);
        }
        let earlier = self.own(view).iter().rev().find(|runner| runner.may_have_run())?;
        let asked = view.job.read_since(earlier.created_at);
        (!asked).then(|| saturating_add(earlier.created_at, READ_AFTER_SIGN))
    }

    /// Asks about a job from a moment on. Answers whether that is done or under way.
    pub(super) fn read_from(&mut self, view: &JobView<'a>, due: Timestamp) -> bool {
        if self.now >= due {
            return self.read(view);
        }
        self.wake(Some(due));
        false
    }

    /// Asks about a job now. Answers whether that is done or under way.
    fn read(&mut self, view: &JobView<'a>) -> bool {
        let key = &view.job.key;
        if !self.snapshot.setup.sources.contains_key(&key.source) {
            return false;
        }
        let held = held_reading(key);
        if self.is_held(&held) {
            return matches!(self.snapshot.held.get(&held), Some(Hold::InFlight));
        }
        self.plan.actions.push(Action::ReadJob { job: key.clone() });
        true
    }

    pub(super) fn is_ours(&self, runner: &str) -> bool {
        runner
            .strip_prefix(self.snapshot.setup.settings.installation.as_str())
            .is_some_and(|rest| rest.starts_with('-'))
    }
}
