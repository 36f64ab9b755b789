//! What is in use as a pass begins: by recorded runners, by those that are being started, and by reserved names.

use std::collections::BTreeSet;

use foldhash::{HashMap, HashMapExt as _};

use super::kinds::Views;
use super::{Pass, Snapshot, runner_name};
use crate::admission::{Purpose, Usage};
use crate::limit::Amount;
use crate::pairing::JobView;
use crate::quota::Quotas;
use crate::setup::Size;

/// What is in use as a pass begins, and as it goes on.
pub(super) struct InUse<'v> {
    pub(super) usage: Usage<'v>,
    /// Names without a record that a job's next runner has, with the place of that job in the list: it is being started,
    /// or a start of it was broken off.
    pub(super) starting: HashMap<String, usize>,
}

impl<'a> Pass<'a> {
    /// What is used of Azure's quotas.
    pub(super) fn quotas(&self, views: &Views<'a>, in_use: &InUse<'_>) -> Quotas<'a> {
        let Snapshot { setup, changes, azure, runners, reserved, .. } = self.snapshot;
        // Where those go that have no record yet is not known.
        let unrecorded = reserved.iter().filter(|name| !self.by_name.contains_key(name.as_str()));
        let others = in_use.starting.keys().filter(|name| !reserved.contains(*name));
        let size = |name: &String| {
            let index = *in_use.starting.get(name)?;
            views.kind(index).and_then(|(_, kind)| kind.class).map(|(_, size)| size)
        };
        let starting: Vec<Option<Size>> = unrecorded.chain(others).map(size).collect();
        Quotas::of(setup, changes, azure, runners, &starting, self.now)
    }

    /// What is in use now.
    pub(super) fn in_use<'v>(&self, views: &'v Views<'a>) -> InUse<'v>
    where
        'a: 'v,
    {
        let starting = self.starting(views);
        let usage = self.usage(views, &starting);
        InUse { usage, starting }
    }

    fn starting(&self, views: &Views<'a>) -> HashMap<String, usize> {
        let held = self.snapshot.held.keys().filter(|name| self.is_ours(name));
        let names: BTreeSet<&String> = held
            .chain(&self.snapshot.reserved)
            .filter(|name| !self.by_name.contains_key(name.as_str()))
            .collect();
        if names.is_empty() {
            return HashMap::new();
        }
        let named = views.list.iter().enumerate().map(|(index, view)| (self.next_name(view), index));
        named.filter(|(name, _)| names.contains(name)).collect()
    }

    /// Counts what is in use: recorded runners, those being started, and reserved names that say nothing of theirs.
    fn usage<'v>(&self, views: &'v Views<'a>, starting: &HashMap<String, usize>) -> Usage<'v>
    where
        'a: 'v,
    {
        let started = |name: &str| starting.get(name).and_then(|index| views.list.get(*index));
        let unknown = |name: &&String| {
            !self.by_name.contains_key(name.as_str())
                && started(name.as_str()).is_none_or(|view| view.wants.is_err())
        };
        let reserved = self.snapshot.reserved.iter().filter(unknown).count();
        let setup = &self.snapshot.setup;
        let job = |key: &_| views.get(key).map(|view| view.job);
        let mut usage =
            Usage::count(setup, &self.snapshot.runners, job, reserved).under(self.budgets.clone());
        for view in starting.values().filter_map(|index| views.list.get(*index)) {
            let Ok(wants) = &view.wants else { continue };
            let class = setup.classes.get(&wants.matched.class);
            let size = class.and_then(|class| wants.matched.size_in(class));
            let amount = size.map_or(Amount { runners: 1, ..Amount::default() }, Amount::of);
            let profile = usage.profile(&Purpose::of_job(view.job, &wants.matched));
            // Where it was to start is not known before its record is there.
            usage.take(profile, amount, None);
        }
        usage
    }

    pub(super) fn next_name(&self, view: &JobView<'_>) -> String {
        let installation = &self.snapshot.setup.settings.installation;
        runner_name(installation, &view.job.key, self.next_ordinal(view))
    }
}
