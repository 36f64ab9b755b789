//! `Budget`: how much may be spent on what in a day or month.

#![expect(clippy::duplicated_attributes, reason = "every printer column of a kind names its own type")]

use jiff::tz::TimeZoneDatabase;
use kube::{CustomResource, KubeSchema};
use runner_core::budget::{Budget as Core, Per, WhenSpent};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit::MatchSpec;

/// The currency where a document names none: that of the default price.
pub(super) const CURRENCY: &str = "USD";
/// The zone where a document names none.
pub(super) const TIME_ZONE: &str = "UTC";
/// The alerts where a document names none.
pub(super) const ALERT_AT: [u32; 3] = [50, 80, 100];

/// How much may be spent on what in a day or month.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "Budget",
    namespaced,
    category = "stint",
    derive = "PartialEq",
    status = "BudgetStatus",
    doc = "How much may be spent on what in a day or month. All budgets that match a job apply together; one that is spent ends nothing.",
    printcolumn(name = "Amount", type_ = "string", json_path = ".spec.amount"),
    printcolumn(name = "Per", type_ = "string", json_path = ".spec.per"),
    printcolumn(name = "When-Spent", type_ = "string", json_path = ".spec.whenSpent"),
    printcolumn(name = "Spent", type_ = "string", json_path = ".status.spent"),
    printcolumn(name = "Reserved", type_ = "string", json_path = ".status.reserved"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.problem"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("double(self.amount) > 0.0").message("amount must be more than 0; to start nothing, use a ConcurrencyLimit with paused: true"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetSpec {
    /// Which jobs it is about. Default: all.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchSpec>,
    /// How much may be spent in each day or month. A decimal number in quotes.
    #[schemars(length(max = 20), regex(pattern = "^[0-9]+([.][0-9]+)?$"))]
    pub amount: String,
    /// ISO 4217 code of the amount; the budget governs places whose price is in it. Default: USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3), regex(pattern = "^[A-Z]{3}$"))]
    pub currency: Option<String>,
    /// Whether the amount is for each calendar day or month. What a runner costs counts when it ends.
    pub per: PerSpec,
    /// IANA time zone in whose midnight a day or month begins, as `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Percentages of the amount at which there is an alert. Default: 50, 80 and 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), inner(range(min = 1, max = 1000)))]
    pub alert_at: Option<Vec<u32>>,
    /// What happens once a job's expected cost does not fit: Warn starts it all the same, NoBurst lets it run on node pools
    /// alone, Hold lets it wait. Default: Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_spent: Option<WhenSpentSpec>,
}

/// How long a budget's period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PerSpec {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

/// What happens once a job's expected cost does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenSpentSpec {
    /// It starts all the same; there are alerts.
    #[default]
    Warn,
    /// It does not start where that is billed; on a node pool it may.
    NoBurst,
    /// It waits.
    Hold,
}

/// What Stint found of a budget, and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatus {
    /// `True` where the document is in use, `False` where a problem keeps it from being used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The problem, in one line with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When the present day or month began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_start: Option<String>,
    /// What is billed in it. Absent while the ledger cannot be read. Written when it has moved by a hundredth of the
    /// amount, and otherwise at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<String>,
    /// What the runners that are not billed yet are expected to cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<String>,
}

impl From<PerSpec> for Per {
    fn from(spec: PerSpec) -> Self {
        match spec {
            PerSpec::Day => Per::Day,
            PerSpec::Month => Per::Month,
        }
    }
}

impl From<WhenSpentSpec> for WhenSpent {
    fn from(spec: WhenSpentSpec) -> Self {
        match spec {
            WhenSpentSpec::Warn => WhenSpent::Warn,
            WhenSpentSpec::NoBurst => WhenSpent::NoBurst,
            WhenSpentSpec::Hold => WhenSpent::Hold,
        }
    }
}

/// The planner's view of a budget. Zones come from the database that is part of the program, whatever the machine has.
///
/// # Errors
/// The field, the value and the remedy.
pub(super) fn resolve(name: &str, spec: &BudgetSpec) -> Result<Core, String> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let amount = spec.amount.parse::<Decimal>().ok().filter(|_| digits(&spec.amount)).ok_or_else(|| {
        format!("amount: {:?} is not an amount: write it as a decimal number, as \"250.00\"", spec.amount)
    })?;
    if amount <= Decimal::ZERO {
        return Err(format!(
            "amount: {} must be more than 0; to start nothing, use a ConcurrencyLimit with paused: true",
            spec.amount
        ));
    }
    let currency = spec.currency.clone().unwrap_or_else(|| CURRENCY.to_owned());
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(format!(
            "currency: {currency:?} is not a currency: write its ISO 4217 code, as USD or EUR"
        ));
    }
    let zone = spec.time_zone.as_deref().unwrap_or(TIME_ZONE);
    let time_zone = TimeZoneDatabase::bundled().get(zone).map_err(|_| {
        format!("timeZone: {zone:?} is not a time zone: write its IANA name, as Europe/Berlin or UTC")
    })?;
    let mut alert_at = spec.alert_at.clone().unwrap_or_else(|| ALERT_AT.to_vec());
    alert_at.sort_unstable();
    alert_at.dedup();
    if let Some(bad) = alert_at.iter().find(|percent| !(1..=1000).contains(*percent)) {
        return Err(format!("alertAt: {bad} is not a percentage of the amount: write 1 to 1000"));
    }
    let matches = spec.matches.clone().unwrap_or_default();
    if matches.protected_branch.is_some() {
        return Err("match.protectedBranch cannot be used in a Budget, since the ledger does not tell of branches: remove \
                    it, or use a ConcurrencyLimit"
            .to_owned());
    }
    Ok(Core {
        name: name.to_owned(),
        matches: matches.resolve(),
        amount,
        currency,
        per: spec.per.into(),
        time_zone,
        alert_at,
        when_spent: spec.when_spent.unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests;
