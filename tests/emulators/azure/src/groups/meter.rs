//! The meter: what Azure would bill for each group, reckoned from the very timestamps that ARM shows.
//!
//! Billed is the time from the start of the first image pull (or, after a stop, of the restart) until the whole group
//! stops. Seconds: the difference rounded up, once per stretch. vCPU: the group's sum rounded up to whole cores. Memory: as
//! requested. Prices: East US, Linux, 2026 (facts/aci.md), whatever the region. Written apart from Stint's own billing, so
//! that the two can be held against each other.

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Group;

/// What one group has cost, or costs up to now while it is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeterRow {
    /// Name of the group.
    pub group: String,
    /// Its resource group.
    pub resource_group: String,
    /// Its subscription.
    pub subscription: String,
    /// Its region.
    pub region: String,
    /// Its ARM id.
    pub id: String,
    /// Distinguishes groups that had the same name one after the other.
    pub number: u64,
    /// The tag `UID`, in which azure-aci notes the pod's.
    pub uid: Option<String>,
    /// Start of the first image pull; absent when none began, in which case nothing is billed.
    pub started_at: Option<Timestamp>,
    /// When the whole group stopped last; absent while it is billed.
    pub stopped_at: Option<Timestamp>,
    /// Sum over all stretches of running.
    pub billed_seconds: i64,
    /// Whole cores.
    pub vcpu: Decimal,
    /// GB as requested.
    pub memory_gb: Decimal,
    /// Whether Spot prices apply.
    pub spot: bool,
    /// US dollars.
    pub cost: Decimal,
}

/// Dollars per hour, (regular, Spot).
const VCPU_HOUR: (Decimal, Decimal) =
    (Decimal::from_parts(405, 0, 0, false, 4), Decimal::from_parts(1215, 0, 0, false, 5));
const GB_HOUR: (Decimal, Decimal) =
    (Decimal::from_parts(445, 0, 0, false, 5), Decimal::from_parts(1335, 0, 0, false, 6));

/// The bill of one group at `now`.
pub(crate) fn row(group: &Group, now: Timestamp) -> MeterRow {
    let billed_seconds = group
        .billed
        .iter()
        .map(|(started, stopped)| seconds(stopped.unwrap_or(now).duration_since(*started)))
        .sum();
    let spot = group.requested.spot;
    let price = |(regular, on_spot): (Decimal, Decimal)| if spot { on_spot } else { regular };
    let vcpu = Decimal::from(group.requested.whole_cores());
    let memory_gb = group.requested.memory_gb;
    let per_hour = vcpu * price(VCPU_HOUR) + memory_gb * price(GB_HOUR);
    MeterRow {
        group: group.name.clone(),
        resource_group: group.resource_group.clone(),
        subscription: group.subscription.clone(),
        region: group.location.clone(),
        id: group.arm_id(),
        number: group.number,
        uid: group.tags.get("UID").cloned(),
        started_at: group.billed.first().map(|(started, _)| *started),
        stopped_at: group.billed.last().and_then(|(_, stopped)| *stopped),
        billed_seconds,
        vcpu,
        memory_gb,
        spot,
        cost: per_hour * Decimal::from(billed_seconds) / Decimal::from(3600),
    }
}

/// Whole seconds, rounded up; never negative, even when the clock was set back.
fn seconds(difference: SignedDuration) -> i64 {
    difference.as_secs().saturating_add(i64::from(difference.subsec_nanos() > 0)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_second_counts_whole() {
        assert_eq!(seconds(SignedDuration::from_millis(0)), 0);
        assert_eq!(seconds(SignedDuration::from_millis(1)), 1);
        assert_eq!(seconds(SignedDuration::from_millis(1000)), 1);
        assert_eq!(seconds(SignedDuration::from_millis(1001)), 2);
        assert_eq!(seconds(SignedDuration::from_millis(-1500)), 0);
    }

    #[test]
    fn prices_are_east_us() {
        assert_eq!(VCPU_HOUR.0.to_string(), "0.0405");
        assert_eq!(VCPU_HOUR.1.to_string(), "0.01215");
        assert_eq!(GB_HOUR.0.to_string(), "0.00445");
        assert_eq!(GB_HOUR.1.to_string(), "0.001335");
    }
}
