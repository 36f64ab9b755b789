//! How many more runners each source lets register: no more are started, so that its limit is never run into.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use jiff::Timestamp;

use super::Pass;
use super::in_use::InUse;
use super::kinds::Views;
use crate::reason::Reason;

/// What is left at the sources that have told of a limit.
#[derive(Default)]
pub(super) struct Left<'a>(HashMap<&'a str, Room>);

struct Room {
    left: u64,
    /// Why nothing more starts, once nothing is left.
    spent: Arc<Reason>,
    again: Timestamp,
}

impl<'a> Pass<'a> {
    /// What is left, less those that are about to register.
    pub(super) fn registrations(&self, views: &Views<'a>, in_use: &InUse<'_>) -> Left<'a> {
        let mut left: HashMap<&'a str, Room> = HashMap::new();
        for (name, source) in &self.snapshot.setup.sources {
            let Some(told) = source.registrations else { continue };
            let spent = Reason::RegistrationsSpent { source: name.clone(), until: told.reset };
            let room = Room {
                left: if told.reset > self.now { told.left } else { told.limit },
                spent: Arc::new(spent),
                again: told.reset,
            };
            left.insert(name.as_str(), room);
        }
        if left.is_empty() {
            return Left(left);
        }
        let recorded = self.snapshot.runners.iter().filter(|runner| {
            let facts = &runner.facts;
            facts.registered.is_none() && facts.teardown.is_none() && !runner.deleted
        });
        let recorded = recorded.map(|runner| runner.job.source.as_str());
        let starting = in_use.starting.values().filter_map(|index| views.list.get(*index));
        for source in recorded.chain(starting.map(|view| view.job.key.source.as_str())) {
            if let Some(room) = left.get_mut(source) {
                room.left = room.left.saturating_sub(1);
            }
        }
        Left(left)
    }

    /// Whether one more runner may register at a source, or why not.
    pub(super) fn may_register(&mut self, source: &str) -> Result<(), Arc<Reason>> {
        match self.registrations.0.get(source) {
            Some(room) if room.left == 0 => {
                let (spent, again) = (room.spent.clone(), room.again);
                // After the reset, those that are about to register make room as they do.
                self.wake(Some(again).filter(|again| *again > self.now));
                Err(spent)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts one more runner that is about to register.
    pub(super) fn registers(&mut self, source: &str) {
        if let Some(room) = self.registrations.0.get_mut(source) {
            room.left = room.left.saturating_sub(1);
        }
    }
}
