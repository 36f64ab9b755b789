//! What a run amounts to: waits by class and repository, how full everything was, and what it cost. Figures only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde::Serialize;

use super::history::PastJob;
use super::record::{GaugeKey, GaugeRecord, JobRecord, Outcome, Ran, STARTING};

/// The figures of one run. Times are in seconds unless a name says otherwise; money is decimal text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What was simulated: the directory of its documents.
    pub configuration: String,
    /// When the first job was queued.
    pub from: String,
    /// When the last runner was gone, or the last job was queued.
    pub to: String,
    /// How the jobs ended, by word and code of the reason.
    pub outcomes: BTreeMap<String, u64>,
    /// Waits of all jobs.
    pub all: Waits,
    /// By class and size, as the label that asks for it; `none` for jobs that matched none.
    pub by_class: BTreeMap<String, Waits>,
    /// By repository.
    pub by_repository: BTreeMap<String, Waits>,
    /// What all jobs together waited for, by code of the reason, the longest first.
    pub waited_for: Vec<WaitedFor>,
    /// How full everything was.
    pub utilisation: Vec<Use>,
    /// What it cost, in each currency.
    pub cost: Vec<Cost>,
    /// Why runners ended, by code.
    pub runner_ends: BTreeMap<String, u64>,
    /// How many passes the planner made.
    pub passes: u64,
}

/// From queued to an agent's having the job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// All jobs, those too that never started.
    pub jobs: u64,
    /// Those that an agent had; the figures below are theirs.
    pub started: u64,
    /// Half of them waited no longer.
    pub p50: Option<f64>,
    /// Nine in ten.
    pub p90: Option<f64>,
    /// 99 in a hundred.
    pub p99: Option<f64>,
    /// All.
    pub max: Option<f64>,
    /// On average.
    pub mean: Option<f64>,
    /// The part of all jobs that waited for nothing but a runner's start.
    pub started_at_once: f64,
}

/// What jobs waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitedFor {
    /// Code of the reason, or `Starting`.
    pub reason: String,
    /// How many jobs did, for any time.
    pub jobs: u64,
    /// For how long altogether.
    pub seconds: f64,
}

/// How full something was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// `installation`, `class`, `size`, `limit` or `place`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// Of a limit with groups: the group with the highest peak, of which the figures are.
    pub group: Option<String>,
    /// How many groups occurred.
    pub groups: usize,
    /// What is counted: `runners`, `vCPU` or `GiB of memory`.
    pub unit: &'static str,
    /// The most that there may be.
    pub cap: Option<f64>,
    /// On average over the whole time.
    pub mean: f64,
    /// At most.
    pub peak: f64,
    /// For how long it was full.
    pub full_seconds: f64,
}

/// What runners cost, in one currency.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// ISO 4217 code.
    pub currency: String,
    /// Altogether.
    pub total: Decimal,
    /// By class and size.
    pub by_class: BTreeMap<String, Decimal>,
    /// By repository.
    pub by_repository: BTreeMap<String, Decimal>,
    /// By place.
    pub by_place: BTreeMap<String, Decimal>,
    /// By day in UTC, on which the meter stopped.
    pub by_day: BTreeMap<String, Decimal>,
}

/// Sums a run up.
pub fn summary(configuration: &str, jobs: &[PastJob], ran: &Ran) -> Summary {
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = Sample::default();
    let mut by_class: BTreeMap<String, Sample> = BTreeMap::new();
    let mut by_repository: BTreeMap<String, Sample> = BTreeMap::new();
    let mut waited_for: BTreeMap<&str, (u64, SignedDuration)> = BTreeMap::new();
    for (past, record) in jobs.iter().zip(&ran.jobs) {
        let word = record.outcome.as_str();
        let outcome = record.outcome.code().map_or_else(|| word.to_owned(), |code| format!("{word} {code}"));
        *outcomes.entry(outcome).or_default() += 1;
        all.add(past, record);
        by_class
            .entry(record.class.clone().unwrap_or_else(|| "none".to_owned()))
            .or_default()
            .add(past, record);
        by_repository.entry(past.repository.clone()).or_default().add(past, record);
        for (code, time) in &record.waited {
            let (jobs, sum) = waited_for.entry(code).or_insert((0, SignedDuration::ZERO));
            *jobs += 1;
            *sum = sum.saturating_add(*time);
        }
    }
    let mut waited_for: Vec<WaitedFor> = waited_for
        .into_iter()
        .map(|(reason, (jobs, time))| WaitedFor { reason: reason.to_owned(), jobs, seconds: seconds(time) })
        .collect();
    waited_for.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.reason.cmp(&b.reason)));
    let waits = |samples: BTreeMap<String, Sample>| {
        samples.into_iter().map(|(name, sample)| (name, sample.waits())).collect()
    };
    Summary {
        configuration: configuration.to_owned(),
        from: ran.from.to_string(),
        to: ran.to.to_string(),
        outcomes,
        all: all.waits(),
        by_class: waits(by_class),
        by_repository: waits(by_repository),
        waited_for,
        utilisation: utilisation(&ran.gauges),
        cost: cost(jobs, ran),
        runner_ends: ran.runner_ends.clone(),
        passes: ran.passes,
    }
}

/// How long a job waited for its agent, if one had it.
pub(super) fn wait(past: &PastJob, record: &JobRecord) -> Option<f64> {
    record.started_at.map(|started| seconds(started.duration_since(past.queued_at)))
}

#[derive(Default)]
struct Sample {
    jobs: u64,
    at_once: u64,
    waits: Vec<f64>,
}

impl Sample {
    fn add(&mut self, past: &PastJob, record: &JobRecord) {
        self.jobs += 1;
        self.waits.extend(wait(past, record));
        let at_once = record.waited.iter().all(|(code, _)| *code == STARTING);
        self.at_once += u64::from(at_once && record.outcome == Outcome::Ran);
    }

    fn waits(mut self) -> Waits {
        self.waits.sort_by(f64::total_cmp);
        let count = self.waits.len();
        Waits {
            jobs: self.jobs,
            started: count as u64,
            p50: percentile(&self.waits, 50),
            p90: percentile(&self.waits, 90),
            p99: percentile(&self.waits, 99),
            max: self.waits.last().copied(),
            mean: (count > 0).then(|| round(self.waits.iter().sum::<f64>() / count as f64)),
            started_at_once: round(self.at_once as f64 / (self.jobs as f64).max(1.0)),
        }
    }
}

/// The least of the sorted values that so many in a hundred do not exceed (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn utilisation(gauges: &[GaugeRecord]) -> Vec<Use> {
    let mut uses: Vec<Use> = Vec::new();
    for gauge in gauges {
        let (what, name, group, unit) = match &gauge.key {
            GaugeKey::Installation => ("installation", String::new(), None, "runners"),
            GaugeKey::Class(name) => ("class", name.clone(), None, "runners"),
            GaugeKey::Size(label) => ("size", label.clone(), None, "runners"),
            GaugeKey::Limit(name, group, unit) => {
                let group: Vec<&str> =
                    group.iter().map(|value| if value.is_empty() { "unknown" } else { value }).collect();
                ("limit", name.clone(), (!group.is_empty()).then(|| group.join(", ")), *unit)
            }
            GaugeKey::Place(name) => ("place", name.clone(), None, "runners"),
        };
        let figure = |value: f64| round(value / per_unit(unit));
        let one = Use {
            what,
            name,
            group,
            groups: 1,
            unit,
            cap: gauge.cap.map(|cap| figure(cap as f64)),
            mean: figure(gauge.mean),
            peak: figure(gauge.peak as f64),
            full_seconds: seconds(gauge.full),
        };
        let alike =
            |other: &&mut Use| (other.what, &other.name, other.unit) == (one.what, &one.name, one.unit);
        match uses.iter_mut().find(alike) {
            Some(known) => {
                let groups = known.groups + 1;
                if (one.peak, one.mean) > (known.peak, known.mean) {
                    *known = one;
                }
                known.groups = groups;
            }
            None => uses.push(one),
        }
    }
    uses
}

/// How much of what gauges count is one of its unit.
fn per_unit(unit: &str) -> f64 {
    match unit {
        "vCPU" => 1000.0,
        "GiB of memory" => (1_u64 << 30) as f64,
        _ => 1.0,
    }
}

fn cost(jobs: &[PastJob], ran: &Ran) -> Vec<Cost> {
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    for record in &ran.bills {
        let bill = &record.bill;
        let cost = costs.entry(&bill.currency).or_default();
        cost.currency.clone_from(&bill.currency);
        let repository = jobs.get(record.job).map(|job| job.repository.clone()).unwrap_or_default();
        let day = bill.stopped_at.to_zoned(TimeZone::UTC).date().to_string();
        cost.total = add(cost.total, bill.amount);
        for (sums, key) in [
            (&mut cost.by_class, &record.class),
            (&mut cost.by_repository, &repository),
            (&mut cost.by_place, &record.place),
            (&mut cost.by_day, &day),
        ] {
            let sum = sums.entry(key.clone()).or_default();
            *sum = add(*sum, bill.amount);
        }
    }
    costs.into_values().collect()
}

fn add(a: Decimal, b: Decimal) -> Decimal {
    a.checked_add(b).unwrap_or(Decimal::MAX)
}

/// One figure under two configurations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// Its unit.
    pub unit: String,
    /// Under the first configuration.
    pub first: Option<f64>,
    /// Under the second.
    pub second: Option<f64>,
    /// The second less the first, where there are both.
    pub difference: Option<f64>,
}

/// What differs between two runs of the same jobs: every figure of waits, ends, use and cost.
pub fn difference(first: &Summary, second: &Summary) -> Vec<Change> {
    let (before, after) = (figures(first), figures(second));
    let keys: BTreeSet<&(u8, String, String)> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .map(|key| {
            // What is counted, and did not occur, occurred no time.
            let absent = COUNTS.contains(&key.0).then_some(0.0);
            let figure = |figures: &Figures| figures.get(key).copied().or(absent);
            let (one, other) = (figure(&before), figure(&after));
            let difference = one.zip(other).map(|(one, other)| round(other - one));
            Change { what: key.1.clone(), unit: key.2.clone(), first: one, second: other, difference }
        })
        .collect()
}

/// Figures by their place in a report, name and unit.
type Figures = BTreeMap<(u8, String, String), f64>;

/// The places of figures that are counts or sums.
const COUNTS: [u8; 4] = [2, 3, 5, 6];

/// Every figure to compare.
fn figures(summary: &Summary) -> Figures {
    let mut figures = Figures::new();
    let mut put = |order: u8, what: String, unit: &str, value: Option<f64>| {
        if let Some(value) = value {
            figures.insert((order, what, unit.to_owned()), value);
        }
    };
    let groups = [("class", &summary.by_class), ("repository", &summary.by_repository)];
    let named = groups
        .into_iter()
        .flat_map(|(kind, waits)| waits.iter().map(move |(name, waits)| (format!("{kind} {name}"), waits)));
    for (order, (name, waits)) in [("all".to_owned(), &summary.all)]
        .into_iter()
        .chain(named)
        .enumerate()
        .map(|(at, one)| (at.min(1), one))
    {
        let order = u8::try_from(order).unwrap_or(1);
        put(order, format!("wait of {name}, p50"), "s", waits.p50);
        put(order, format!("wait of {name}, p90"), "s", waits.p90);
        put(order, format!("wait of {name}, p99"), "s", waits.p99);
        put(order, format!("wait of {name}, max"), "s", waits.max);
        put(
            order,
            format!("wait of {name}, started at once"),
            "%",
            Some(round(waits.started_at_once * 100.0)),
        );
    }
    for (outcome, count) in &summary.outcomes {
        put(2, format!("jobs: {outcome}"), "jobs", Some(*count as f64));
    }
    for waited in &summary.waited_for {
        put(3, format!("waited for {}", waited.reason), "h", Some(round(waited.seconds / 3600.0)));
    }
    for one in &summary.utilisation {
        let name =
            if one.name.is_empty() { one.what.to_owned() } else { format!("{} {}", one.what, one.name) };
        put(4, format!("use of {name}, mean"), one.unit, Some(one.mean));
        put(4, format!("use of {name}, peak"), one.unit, Some(one.peak));
    }
    for cost in &summary.cost {
        let money = |amount: &Decimal| amount.to_string().parse().ok().map(round);
        put(5, "cost".to_owned(), &cost.currency, money(&cost.total));
        for (class, amount) in &cost.by_class {
            put(5, format!("cost of class {class}"), &cost.currency, money(amount));
        }
        for (place, amount) in &cost.by_place {
            put(5, format!("cost at place {place}"), &cost.currency, money(amount));
        }
    }
    for (code, count) in &summary.runner_ends {
        put(6, format!("runners ended: {code}"), "runners", Some(*count as f64));
    }
    figures
}

fn seconds(time: SignedDuration) -> f64 {
    time.as_millis_f64() / 1000.0
}

/// To four decimals: more than anybody reads, and little enough that sums print the same.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let seen: Vec<Option<f64>> = [1, 50, 90, 99, 100].map(|percent| percentile(&values, percent)).into();
        assert_eq!(seen, [Some(1.0), Some(5.0), Some(9.0), Some(10.0), Some(10.0)]);
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn of_a_limit_with_groups_the_fullest_is_shown() {
        let gauge = |group: &str, peak: u64, mean: f64| GaugeRecord {
            key: GaugeKey::Limit("per".to_owned(), vec![group.to_owned()], "vCPU"),
            cap: Some(8000),
            peak,
            mean,
            full: SignedDuration::ZERO,
        };
        let uses = utilisation(&[gauge("a", 2000, 10.0), gauge("b", 4000, 500.0), gauge("c", 4000, 400.0)]);
        assert_eq!(uses.len(), 1);
        let one = &uses[0];
        assert_eq!((one.group.as_deref(), one.groups), (Some("b"), 3));
        assert_eq!((one.cap, one.peak, one.mean), (Some(8.0), 4.0, 0.5));
    }
}
