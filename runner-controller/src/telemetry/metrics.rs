//! The metrics, in one registry, under the names that docs and dashboards use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use runner_core::budget::Figures;
use runner_core::stray::Foreign;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::words::{DeliveryOutcome, Peer, RunnerState};

/// A label: a name that an admin gave, or a word of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Name(name.into())
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0.as_ref(), encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    source: Name,
    event: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    standing: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitingLabels {
    reason: &'static str,
    class: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunnerLabels {
    class: Name,
    place: Name,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    peer: &'static str,
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BilledLabels {
    class: Name,
    place: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CostLabels {
    class: Name,
    place: Name,
    currency: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForeignLabels {
    kind: &'static str,
    name: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RateLabels {
    source: Name,
    resource: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: Name,
}

/// How a call's histogram is made.
#[derive(Clone)]
struct CallBuckets;

impl MetricConstructor<Histogram> for CallBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
    }
}

/// All metrics. Shared by reference; every method may be called from any task.
pub struct Metrics {
    registry: Registry,
    deliveries: Family<DeliveryLabels, Counter>,
    jobs: Family<JobLabels, Gauge>,
    waiting: Family<WaitingLabels, Gauge>,
    oldest: Family<ReasonLabels, Gauge>,
    runners: Family<RunnerLabels, Gauge>,
    plan: Histogram,
    actions: Family<ActionLabels, Counter>,
    calls: Family<CallLabels, Histogram, CallBuckets>,
    teardown: Histogram,
    billed: Family<BilledLabels, Counter>,
    cost: Family<CostLabels, Counter<f64, AtomicU64>>,
    leader: Gauge<i64, AtomicI64>,
    strays: Gauge<i64, AtomicI64>,
    machines_recorded: Counter,
    foreign: Family<ForeignLabels, Gauge>,
    stuck: Gauge<i64, AtomicI64>,
    rate: Family<RateLabels, Gauge>,
    recovered: Family<SourceLabels, Counter>,
    adopted: Family<SourceLabels, Counter>,
    swept: Family<SourceLabels, Gauge>,
    budget_spent: Family<BudgetLabels, Gauge<f64, AtomicU64>>,
    budget_reserved: Family<BudgetLabels, Gauge<f64, AtomicU64>>,
    budget_amount: Family<BudgetLabels, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("stint"),
            deliveries: Family::default(),
            jobs: Family::default(),
            waiting: Family::default(),
            oldest: Family::default(),
            runners: Family::default(),
            plan: Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]),
            actions: Family::default(),
            calls: Family::new_with_constructor(CallBuckets),
            teardown: Histogram::new([1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0]),
            billed: Family::default(),
            cost: Family::default(),
            leader: Gauge::default(),
            strays: Gauge::default(),
            machines_recorded: Counter::default(),
            foreign: Family::default(),
            stuck: Gauge::default(),
            rate: Family::default(),
            recovered: Family::default(),
            adopted: Family::default(),
            swept: Family::default(),
            budget_spent: Family::default(),
            budget_reserved: Family::default(),
            budget_amount: Family::default(),
        };
        // The registry appends the unit of time itself only where it is told one, and `_total` to every counter.
        let registry = &mut metrics.registry;
        registry.register(
            "deliveries",
            "Webhook deliveries, by what became of them",
            metrics.deliveries.clone(),
        );
        registry.register("jobs", "Jobs on record, by where they stand", metrics.jobs.clone());
        let help = "Jobs without a runner, by why they have none; class is none where they name none";
        registry.register("jobs_waiting", help, metrics.waiting.clone());
        let help = "How long the oldest of them has waited";
        registry.register("jobs_waiting_oldest_seconds", help, metrics.oldest.clone());
        registry.register("runners", "Runners whose machine is not confirmed gone", metrics.runners.clone());
        registry.register("plan_seconds", "Time to plan one pass", metrics.plan.clone());
        registry.register(
            "actions",
            "Planned actions, by how their execution ended",
            metrics.actions.clone(),
        );
        registry.register("call_seconds", "Time of calls to the outside", metrics.calls.clone());
        let help = "From a container's end until its group was confirmed gone";
        registry.register("teardown_seconds", help, metrics.teardown.clone());
        registry.register("billed_seconds", "Seconds in the ledger", metrics.billed.clone());
        registry.register("cost", "Money in the ledger; the ledger itself is exact", metrics.cost.clone());
        registry.register(
            "stray_groups",
            "Container groups with a name of this installation's, but neither a record nor its mark: left alone",
            metrics.strays.clone(),
        );
        let help = "Runners whose record was lost and written again, from what their machine shows";
        registry.register("adopted_runners", help, metrics.machines_recorded.clone());
        let help =
            "Runners of other installations that bear this one's names or labels, by where they were seen";
        registry.register("foreign_runners", help, metrics.foreign.clone());
        let help = "Runners whose machine is still there 5 minutes after its deletion was asked for";
        registry.register("runners_stuck", help, metrics.stuck.clone());
        registry.register("leader", "1 in the replica that acts", metrics.leader.clone());
        let help = "Calls left of a rate limit, as GitHub last said";
        registry.register("github_rate_remaining", help, metrics.rate.clone());
        let help = "Deliveries that were read from their source, since none of its attempts arrived";
        registry.register("deliveries_recovered", help, metrics.recovered.clone());
        let help = "Queued jobs that were found at their source, since nothing was told of them";
        registry.register("jobs_adopted", help, metrics.adopted.clone());
        let help = "When the last complete sweep over a source's deliveries began, in seconds since 1970; its age \
                    is the time since. In the replica that acts";
        registry.register("deliveries_swept_timestamp_seconds", help, metrics.swept.clone());
        let help = "Billed in a budget's present day or month; absent while that is not known";
        registry.register("budget_spent", help, metrics.budget_spent.clone());
        let help = "What runners that are not billed yet are expected to cost under a budget";
        registry.register("budget_reserved", help, metrics.budget_reserved.clone());
        let help = "What may be spent in a budget's day or month";
        registry.register("budget_amount", help, metrics.budget_amount.clone());
        metrics
    }

    /// The metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// Only if the text cannot be written to memory.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A delivery came. `source`: the name of a configured source; `None` where the delivery names another.
    pub fn delivery(&self, source: Option<&str>, event: &'static str, outcome: DeliveryOutcome) {
        let source = source.unwrap_or("unknown").into();
        self.deliveries.get_or_create(&DeliveryLabels { source, event, outcome: outcome.as_str() }).inc();
    }

    /// How many jobs stand where. Replaces what was set before.
    pub fn set_jobs(&self, counts: impl IntoIterator<Item = (runner_core::job::Standing, usize)>) {
        self.jobs.clear();
        for (standing, count) in counts {
            let labels = JobLabels { standing: standing.as_str() };
            self.jobs.get_or_create(&labels).inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Jobs without a runner, one item each, as (code of the reason, class, how long it has waited). Replaces what was
    /// set before.
    pub fn set_waiting<'a>(&self, jobs: impl IntoIterator<Item = (&'static str, Option<&'a str>, Duration)>) {
        let (mut counts, mut oldest) = (BTreeMap::new(), BTreeMap::new());
        for (reason, class, waited) in jobs {
            *counts.entry((reason, class.unwrap_or("none"))).or_insert(0_i64) += 1;
            let longest = oldest.entry(reason).or_insert(waited);
            *longest = waited.max(*longest);
        }
        self.waiting.clear();
        for ((reason, class), count) in counts {
            self.waiting.get_or_create(&WaitingLabels { reason, class: class.into() }).set(count);
        }
        self.oldest.clear();
        for (reason, waited) in oldest {
            let seconds = i64::try_from(waited.as_secs()).unwrap_or(i64::MAX);
            self.oldest.get_or_create(&ReasonLabels { reason }).set(seconds);
        }
    }

    /// Runners, one item each, as (class, place, state). Replaces what was set before.
    pub fn set_runners<'a>(&self, runners: impl IntoIterator<Item = (&'a str, &'a str, RunnerState)>) {
        self.runners.clear();
        for (class, place, state) in runners {
            let labels = RunnerLabels { class: class.into(), place: place.into(), state: state.as_str() };
            self.runners.get_or_create(&labels).inc();
        }
    }

    /// A pass was planned.
    pub fn planned(&self, took: Duration) {
        self.plan.observe(took.as_secs_f64());
    }

    /// An action was executed. `outcome`: `done`, or the kind of its error.
    pub fn action(&self, action: &'static str, outcome: &'static str) {
        self.actions.get_or_create(&ActionLabels { action, outcome }).inc();
    }

    /// A call to the outside ended.
    pub fn call(&self, peer: Peer, call: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { peer: peer.as_str(), call }).observe(took.as_secs_f64());
    }

    /// A group was confirmed gone, this long after its container ended.
    pub fn torn_down(&self, took: Duration) {
        self.teardown.observe(took.as_secs_f64());
    }

    /// A new row was committed to the ledger.
    pub fn billed(&self, class: &str, place: &str, seconds: u64, amount: Decimal, currency: &str) {
        self.billed.get_or_create(&BilledLabels { class: class.into(), place: place.into() }).inc_by(seconds);
        let labels = CostLabels { class: class.into(), place: place.into(), currency: currency.into() };
        // A counter must not fall: a correction that is negative shows in the ledger alone.
        let amount = amount.to_f64().filter(|amount| *amount >= 0.0).unwrap_or(0.0);
        self.cost.get_or_create(&labels).inc_by(amount);
    }

    /// A runner's record was lost, and written again.
    pub fn machine_recorded(&self) {
        self.machines_recorded.inc();
    }

    /// What is in this installation's way. Replaces what was set before.
    pub fn set_foreign(&self, all: &[Foreign]) {
        self.foreign.clear();
        for one in all {
            let labels = ForeignLabels { kind: one.document.as_str(), name: one.name.as_str().into() };
            self.foreign.get_or_create(&labels).inc_by(i64::try_from(one.count).unwrap_or(i64::MAX));
        }
    }

    /// How many runners' machines do not go.
    pub fn set_stuck(&self, stuck: usize) {
        self.stuck.set(i64::try_from(stuck).unwrap_or(i64::MAX));
    }

    /// Container groups with a name of this installation's and neither a record nor its mark.
    pub fn set_strays(&self, strays: i64) {
        self.strays.set(strays);
    }

    /// Whether this replica acts.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// How budgets stand, each in its currency. Replaces what was set before.
    pub fn set_budgets(&self, all: &[Figures]) {
        for family in [&self.budget_spent, &self.budget_reserved, &self.budget_amount] {
            family.clear();
        }
        for one in all {
            let labels = BudgetLabels { budget: one.budget.as_str().into() };
            let sums = [
                (&self.budget_spent, one.spent),
                (&self.budget_reserved, Some(one.reserved)),
                (&self.budget_amount, Some(one.amount)),
            ];
            for (family, sum) in sums {
                if let Some(sum) = sum.and_then(|sum| sum.to_f64()) {
                    family.get_or_create(&labels).set(sum);
                }
            }
        }
    }

    /// Deliveries of a source were recovered.
    pub fn recovered(&self, source: &str, count: u64) {
        self.recovered.get_or_create(&SourceLabels { source: source.into() }).inc_by(count);
    }

    /// Jobs of a source were adopted.
    pub fn adopted(&self, source: &str, count: u64) {
        self.adopted.get_or_create(&SourceLabels { source: source.into() }).inc_by(count);
    }

    /// When a source's last complete sweep began; `None`: this replica sweeps it no longer.
    pub fn set_swept(&self, source: &str, at: Option<Timestamp>) {
        let labels = SourceLabels { source: source.into() };
        match at {
            Some(at) => drop(self.swept.get_or_create(&labels).set(at.as_second())),
            None => drop(self.swept.remove(&labels)),
        }
    }

    /// What is left of a rate limit. `resource` is GitHub's own word, of which there are few.
    pub fn set_github_rate(&self, source: &str, resource: &str, remaining: u64) {
        let labels = RateLabels { source: source.into(), resource: resource.into() };
        self.rate.get_or_create(&labels).set(i64::try_from(remaining).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_names_that_dashboards_use() {
        let metrics = Metrics::new();
        metrics.delivery(None, "workflow_job", DeliveryOutcome::UnknownSource);
        metrics.set_jobs([(runner_core::job::Standing::Waiting, 2)]);
        metrics.set_runners([("stint", "aci", RunnerState::Busy), ("stint", "aci", RunnerState::Busy)]);
        metrics.set_waiting([
            ("ClassFull", Some("stint"), Duration::from_secs(5)),
            ("ClassFull", Some("stint"), Duration::from_secs(7)),
            ("ClassFull", Some("other"), Duration::from_secs(6)),
            ("NoClassNamed", None, Duration::from_secs(90)),
        ]);
        metrics.planned(Duration::from_millis(3));
        metrics.action("register", "done");
        metrics.call(Peer::Provider, "register", Duration::from_millis(200));
        metrics.torn_down(Duration::from_secs(7));
        metrics.billed("stint", "aci", 61, Decimal::new(125, 3), "USD");
        metrics.set_leader(true);
        metrics.recovered("acme", 3);
        metrics.adopted("acme", 2);
        metrics.set_swept("acme", Timestamp::from_second(1_700_000_000).ok());
        metrics.set_swept("gone", Timestamp::from_second(1_700_000_000).ok());
        metrics.set_swept("gone", None);
        metrics.set_github_rate("acme", "core", 4999);
        let budget = runner_core::budget::Figures {
            budget: "team".to_owned(),
            per: runner_core::budget::Per::Day,
            period: runner_core::budget::Period { from: jiff::Timestamp::MIN, until: jiff::Timestamp::MAX },
            spent: Some(Decimal::new(25, 1)),
            reserved: Decimal::new(125, 3),
            amount: Decimal::from(10),
            currency: "USD".to_owned(),
            alert_at: Vec::new(),
            when_spent: runner_core::budget::WhenSpent::Hold,
        };
        metrics.set_budgets(&[budget.clone(), Figures { budget: "new".to_owned(), spent: None, ..budget }]);
        let text = metrics.render().unwrap();
        for line in [
            r#"stint_deliveries_total{source="unknown",event="workflow_job",outcome="unknown_source"} 1"#,
            r#"stint_jobs{standing="Waiting"} 2"#,
            r#"stint_jobs_waiting{reason="ClassFull",class="stint"} 2"#,
            r#"stint_jobs_waiting{reason="ClassFull",class="other"} 1"#,
            r#"stint_jobs_waiting{reason="NoClassNamed",class="none"} 1"#,
            r#"stint_jobs_waiting_oldest_seconds{reason="ClassFull"} 7"#,
            r#"stint_jobs_waiting_oldest_seconds{reason="NoClassNamed"} 90"#,
            r#"stint_runners{class="stint",place="aci",state="busy"} 2"#,
            "stint_plan_seconds_count 1",
            r#"stint_actions_total{action="register",outcome="done"} 1"#,
            r#"stint_call_seconds_count{peer="provider",call="register"} 1"#,
            "stint_teardown_seconds_sum 7.0",
            r#"stint_billed_seconds_total{class="stint",place="aci"} 61"#,
            r#"stint_cost_total{class="stint",place="aci",currency="USD"} 0.125"#,
            "stint_leader 1",
            r#"stint_deliveries_recovered_total{source="acme"} 3"#,
            r#"stint_jobs_adopted_total{source="acme"} 2"#,
            r#"stint_deliveries_swept_timestamp_seconds{source="acme"} 1700000000"#,
            r#"stint_budget_spent{budget="team"} 2.5"#,
            r#"stint_budget_reserved{budget="team"} 0.125"#,
            r#"stint_budget_amount{budget="new"} 10.0"#,
            r#"stint_github_rate_remaining{source="acme",resource="core"} 4999"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains(r#"source="gone""#), "another replica sweeps it now");
        assert!(!text.contains(r#"stint_budget_spent{budget="new"}"#), "what is not known is not 0");
    }

    #[test]
    fn gauges_forget_what_is_not_set_again() {
        let metrics = Metrics::new();
        metrics.set_runners([("old", "aci", RunnerState::Idle)]);
        metrics.set_runners([("new", "aci", RunnerState::Idle)]);
        metrics.set_waiting([("NoPlace", Some("old"), Duration::ZERO)]);
        metrics.set_waiting([]);
        assert!(!metrics.render().unwrap().contains("old"));
    }

    #[test]
    fn concurrent_counts_add_up() {
        let metrics = Arc::new(Metrics::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| metrics.action("launch", "done")));
            }
        });
        assert!(
            metrics.render().unwrap().contains(r#"stint_actions_total{action="launch",outcome="done"} 4000"#)
        );
    }
}
