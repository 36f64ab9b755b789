//! A quota that has no room, and how that is told.

use jiff::{SignedDuration, Timestamp};

/// What a quota is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// Container groups at once.
    Groups,
    /// Cores at once.
    Cores,
    /// Groups made in a while.
    Creates(SignedDuration),
    /// Groups deleted in a while, with those that may have to be.
    Deletes(SignedDuration),
}

/// A quota that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub what: QuotaKind,
    /// So much is used.
    pub used: u64,
    /// Of so much.
    pub cap: u64,
    /// So much the runner needs.
    pub needs: u64,
    /// When time alone makes room, if it does.
    pub until: Option<Timestamp>,
}

impl Exceeded {
    /// Whether the runner alone needs more than there may be.
    pub fn never_fits(&self) -> bool {
        self.needs > self.cap
    }

    /// What is exceeded, in words. `of`: the region.
    pub fn sentence(&self, of: &str) -> String {
        let Self { what, used, cap, needs, until } = self;
        let of = if of.is_empty() { String::new() } else { format!(" in {of}") };
        if self.never_fits() {
            let allowed = match what {
                QuotaKind::Groups => format!("{cap} container groups{of} are allowed"),
                QuotaKind::Cores => format!("{cap} cores{of} are allowed"),
                QuotaKind::Creates(per) => format!("{cap} container groups may be made{of} within {per:#}"),
                QuotaKind::Deletes(per) => {
                    format!("{cap} container groups may be deleted{of} within {per:#}")
                }
            };
            return format!("{allowed}, and the runner alone needs {needs}");
        }
        let what = match what {
            QuotaKind::Groups => {
                format!("{used} of {cap} container groups{of} are in use, those of others included")
            }
            QuotaKind::Cores => format!("{used} of {cap} cores{of} are in use, those of others included"),
            QuotaKind::Creates(per) => {
                format!("{used} of {cap} container groups that may be made{of} within {per:#} were made")
            }
            QuotaKind::Deletes(per) => format!(
                "{used} of {cap} container groups that may be deleted{of} within {per:#} were or may have to be"
            ),
        };
        match until {
            Some(until) => format!("{what}; there is room again at {until}"),
            None => format!("{what}; there is room again when one ends"),
        }
    }
}
