//! Which waiting jobs may have a runner now, under the limits on what is started.
//!
//! Counts are derived from the runners there are, never kept.

use std::collections::HashMap;

use crate::labels::Matched;
use crate::lifecycle::Runner;
use crate::reason::Reason;
use crate::setup::Setup;

/// What is in use, and what may be.
#[derive(Clone, Debug)]
pub struct Usage<'a> {
    setup: &'a Setup,
    total: u32,
    by_class: HashMap<String, u32>,
    by_size: HashMap<Matched, u32>,
}

impl<'a> Usage<'a> {
    /// Counts the runners that are there, and `reserved` names whose record is still to be written, which count
    /// against the installation alone.
    pub fn count(setup: &'a Setup, runners: &[Runner], reserved: usize) -> Self {
        let mut usage = Self {
            setup,
            total: u32::try_from(reserved).unwrap_or(u32::MAX),
            by_class: HashMap::new(),
            by_size: HashMap::new(),
        };
        for runner in runners.iter().filter(|runner| runner.counts()) {
            usage.take(&runner.matched);
        }
        usage
    }

    /// Whether one more runner of this class and size may be started.
    ///
    /// # Errors
    /// The limit that stands in the way.
    pub fn room(&self, matched: &Matched) -> Result<(), Reason> {
        let limit = self.setup.settings.max_runners;
        if self.total >= limit {
            return Err(Reason::InstallationFull { running: self.total, limit });
        }
        let Some(class) = self.setup.classes.get(&matched.class) else { return Ok(()) };
        let running = self.by_class.get(&matched.class).copied().unwrap_or(0);
        if running >= class.max_runners {
            return Err(Reason::ClassFull { class: class.name.clone(), running, limit: class.max_runners });
        }
        let of_size = self.by_size.get(matched).copied().unwrap_or(0);
        match class.sizes.get(&matched.size).and_then(|size| size.max_runners) {
            Some(limit) if of_size >= limit => {
                Err(Reason::SizeFull { label: matched.label(), running: of_size, limit })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts one more runner.
    pub fn take(&mut self, matched: &Matched) {
        self.total = self.total.saturating_add(1);
        let class = self.by_class.entry(matched.class.clone()).or_default();
        *class = class.saturating_add(1);
        let size = self.by_size.entry(matched.clone()).or_default();
        *size = size.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
