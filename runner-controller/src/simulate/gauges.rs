//! How full everything is that has a cap, and each place, over time: what the planner may not exceed, counted on its own.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use runner_core::limit::{Amount, Capped, ConcurrencyLimit, Dimension};
use runner_core::plan::NewRunner;
use runner_core::setup::PlaceKind;

use super::history::PastJob;
use super::record::{Bin, GaugeKey, GaugeRecord};
use super::scenario::Scenario;

/// All gauges of one run.
#[derive(Debug)]
pub(super) struct Gauges {
    gauges: Vec<Gauge>,
    by_key: HashMap<GaugeKey, usize>,
}

#[derive(Debug)]
struct Gauge {
    key: GaugeKey,
    cap: Option<u64>,
    used: u64,
    peak: u64,
    /// Used, times milliseconds.
    area: u128,
    full: SignedDuration,
    since: Timestamp,
}

/// What a runner adds to which gauge.
pub(super) type Share = (usize, u64);

impl Gauges {
    pub(super) fn new(scenario: &Scenario, from: Timestamp) -> Self {
        let mut gauges = Self { gauges: Vec::new(), by_key: HashMap::new() };
        let setup = &scenario.setup;
        gauges.of(GaugeKey::Installation, Some(setup.settings.max_runners.into()), from);
        for class in setup.classes.values() {
            gauges.of(GaugeKey::Class(class.name.clone()), Some(class.max_runners.into()), from);
        }
        for place in setup.places.values() {
            let cap = match place.kind {
                PlaceKind::NodePool => scenario.pools.get(&place.name).copied(),
                PlaceKind::VirtualNode | PlaceKind::ContainerInstances => {
                    Some(scenario.quota.groups).filter(|most| *most != u32::MAX)
                }
            };
            gauges.of(GaugeKey::Place(place.name.clone()), cap.map(u64::from), from);
        }
        gauges
    }

    /// Counts a new runner, and says against what.
    pub(super) fn take(
        &mut self,
        scenario: &Scenario,
        new: &NewRunner,
        job: &PastJob,
        now: Timestamp,
    ) -> Vec<Share> {
        let setup = &scenario.setup;
        let class = new.matched.class.as_str();
        let mut shares = vec![
            (self.of(GaugeKey::Installation, None, now), 1),
            (self.of(GaugeKey::Class(class.to_owned()), None, now), 1),
        ];
        let of_size = setup
            .classes
            .get(class)
            .and_then(|class| class.sizes.get(&new.matched.size))
            .and_then(|size| size.max_runners);
        if let Some(most) = of_size {
            shares.push((self.of(GaugeKey::Size(new.matched.label()), Some(most.into()), now), 1));
        }
        let amount = Amount::of(new.size);
        let workflow = job.workflow.as_deref().unwrap_or_default();
        let values = [&new.job.source, job.owner(), &job.repository, workflow, class, &new.place];
        for limit in setup.limits.values().filter(|limit| covers(limit, &values)) {
            let group = group(limit, &values);
            for what in Capped::ALL {
                if let Some(cap) = limit.caps.get(what) {
                    let key = GaugeKey::Limit(limit.name.clone(), group.clone(), what.unit());
                    shares.push((self.of(key, Some(cap), now), amount.get(what)));
                }
            }
        }
        for (gauge, amount) in &shares {
            self.change(*gauge, now, |used| used.saturating_add(*amount));
        }
        shares
    }

    /// Counts a runner that has its room at a place.
    pub(super) fn take_place(&mut self, place: &str, now: Timestamp) -> Share {
        let share = (self.of(GaugeKey::Place(place.to_owned()), None, now), 1);
        self.change(share.0, now, |used| used.saturating_add(1));
        share
    }

    /// Whether nothing more goes into what this measures.
    pub(super) fn is_full(&self, key: &GaugeKey) -> bool {
        let gauge = self.by_key.get(key).and_then(|gauge| self.gauges.get(*gauge));
        gauge.is_some_and(|gauge| gauge.cap.is_some_and(|cap| gauge.used >= cap))
    }

    /// A runner counts no more.
    pub(super) fn free(&mut self, shares: &[Share], now: Timestamp) {
        for (gauge, amount) in shares {
            self.change(*gauge, now, |used| used.saturating_sub(*amount));
        }
    }

    /// What came of it.
    pub(super) fn finish(mut self, from: Timestamp, to: Timestamp) -> Vec<GaugeRecord> {
        let length = to.duration_since(from).as_millis_f64().max(1.0);
        for gauge in 0..self.gauges.len() {
            self.change(gauge, to, |used| used);
        }
        let mut records: Vec<GaugeRecord> = self
            .gauges
            .into_iter()
            .map(|gauge| GaugeRecord {
                key: gauge.key,
                cap: gauge.cap,
                peak: gauge.peak,
                mean: gauge.area as f64 / length,
                full: gauge.full,
            })
            .collect();
        records.sort_by(|a, b| a.key.cmp(&b.key));
        records
    }

    fn of(&mut self, key: GaugeKey, cap: Option<u64>, now: Timestamp) -> usize {
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        let index = self.gauges.len();
        self.by_key.insert(key.clone(), index);
        let full = SignedDuration::ZERO;
        self.gauges.push(Gauge { key, cap, used: 0, peak: 0, area: 0, full, since: now });
        index
    }

    fn change(&mut self, gauge: usize, now: Timestamp, change: impl FnOnce(u64) -> u64) {
        let Some(gauge) = self.gauges.get_mut(gauge) else { return };
        let passed = now.duration_since(gauge.since);
        let millis = u128::try_from(passed.as_millis()).unwrap_or(0);
        gauge.area = gauge.area.saturating_add(millis.saturating_mul(gauge.used.into()));
        if gauge.cap.is_some_and(|cap| gauge.used >= cap) {
            gauge.full = gauge.full.saturating_add(passed);
        }
        gauge.since = now;
        gauge.used = change(gauge.used);
        gauge.peak = gauge.peak.max(gauge.used);
    }
}

/// Whether a limit is about a runner with these values, in the order of [`Dimension::ALL`].
fn covers(limit: &ConcurrencyLimit, values: &[&str; 6]) -> bool {
    Dimension::ALL.into_iter().zip(values).all(|(dimension, value)| {
        let globs = limit.matches.patterns.get(&dimension);
        globs.is_none_or(|globs| globs.iter().any(|glob| glob.matches(value)))
    })
}

fn group(limit: &ConcurrencyLimit, values: &[&str; 6]) -> Vec<String> {
    let by: &BTreeSet<Dimension> = &limit.group_by;
    Dimension::ALL
        .into_iter()
        .zip(values)
        .filter(|(dimension, _)| by.contains(dimension))
        .map(|(_, value)| value.to_lowercase())
        .collect()
}

/// How many jobs wait and run, in stretches of the same length.
#[derive(Debug)]
pub(super) struct Timeline {
    from: Timestamp,
    width: SignedDuration,
    since: Timestamp,
    queued: u64,
    running: u64,
    /// Averages are sums of counts times milliseconds until the end.
    bins: Vec<Bin>,
}

impl Timeline {
    /// From a moment on, in about so many stretches up to another; it goes on after that.
    pub(super) fn new(from: Timestamp, to: Timestamp, stretches: i32) -> Self {
        let whole = to.duration_since(from).as_secs().max(1);
        let width = (whole / i64::from(stretches.max(1))).max(10);
        // Lengths that people know.
        let known = [10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
        let width = known.into_iter().find(|known| *known >= width).unwrap_or(width);
        Self {
            from,
            width: SignedDuration::from_secs(width),
            since: from,
            queued: 0,
            running: 0,
            bins: vec![Bin::default()],
        }
    }

    pub(super) fn change(&mut self, now: Timestamp, queued: i64, running: i64) {
        self.pass_to(now);
        self.queued = self.queued.saturating_add_signed(queued);
        self.running = self.running.saturating_add_signed(running);
        self.peaks();
    }

    pub(super) fn finish(mut self, to: Timestamp) -> (Vec<Bin>, SignedDuration) {
        // Jobs may be given up long after the last runner is gone.
        let to = to.max(self.since);
        self.pass_to(to);
        let width = self.width.as_millis_f64();
        let count = self.bins.len();
        let rest = to.duration_since(self.from).as_millis_f64() - width * (count.saturating_sub(1)) as f64;
        for (index, bin) in self.bins.iter_mut().enumerate() {
            let length = if index + 1 == count { rest.clamp(1.0, width) } else { width };
            bin.queued /= length;
            bin.running /= length;
        }
        (self.bins, self.width)
    }

    fn pass_to(&mut self, now: Timestamp) {
        while self.since < now {
            let bin = self.bins.len();
            let count = i32::try_from(bin).unwrap_or(i32::MAX);
            let end = self.from.saturating_add(self.width.saturating_mul(count)).unwrap_or(Timestamp::MAX);
            let until = now.min(end);
            let millis = until.duration_since(self.since).as_millis_f64();
            if let Some(bin) = self.bins.last_mut() {
                bin.queued += millis * self.queued as f64;
                bin.running += millis * self.running as f64;
            }
            self.since = until;
            if until == end {
                self.bins.push(Bin::default());
                self.peaks();
            }
        }
    }

    fn peaks(&mut self) {
        if let Some(bin) = self.bins.last_mut() {
            bin.queued_peak = bin.queued_peak.max(self.queued);
            bin.running_peak = bin.running_peak.max(self.running);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_timeline_averages_over_each_stretch() {
        let mut timeline = Timeline::new(at(0), at(20), 2);
        timeline.change(at(5), 2, 0);
        timeline.change(at(10), -1, 1);
        timeline.change(at(15), -1, 0);
        let (bins, width) = timeline.finish(at(18));
        assert_eq!(width, SignedDuration::from_secs(10));
        let seen: Vec<(f64, u64, f64, u64)> =
            bins.iter().map(|bin| (bin.queued, bin.queued_peak, bin.running, bin.running_peak)).collect();
        // The second stretch begins as the first one ends, with two waiting, and is 8 seconds long.
        assert_eq!(seen, [(1.0, 2, 0.0, 0), (0.625, 2, 1.0, 1)]);
    }
}
