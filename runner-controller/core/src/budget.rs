//! Budgets: how much may be spent on what in a day or month, what is spoken for, and what still fits.
//!
//! A runner counts against the budgets of the job that it was started for, at places that bill in the budget's
//! currency: first with what it is expected to cost, once it is billed with its bill. Reads no ledger: the sums are an
//! argument.

mod room;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

pub use self::room::Budgets;
pub(crate) use self::room::Governed;
use crate::billing;
use crate::limit::{Amount, Dimension, JobMatch};
use crate::setup::{Class, Place, PlaceKind, Price, Size};

/// What a runner is expected to take where neither its class nor the ledger tells.
const EXPECTED: SignedDuration = SignedDuration::from_mins(10);
/// So many of a class's latest rows tell how long its runners usually take.
pub const USUAL_OF: u32 = 100;
/// With fewer rows than this nothing is called usual.
const USUAL_FROM: usize = 5;

/// A cap on money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// Which jobs it is about.
    pub matches: JobMatch,
    /// How much may be spent in each period.
    pub amount: Decimal,
    /// ISO 4217 code. Places that bill in another currency are none of its business.
    pub currency: String,
    /// How long a period is.
    pub per: Per,
    /// Where a period's first midnight is.
    pub time_zone: TimeZone,
    /// At which percentages of the amount there is an alert.
    pub alert_at: Vec<u32>,
    /// What happens once nothing more fits.
    pub when_spent: WhenSpent,
}

/// How long a budget's period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Per {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Per::Day => "day",
            Per::Month => "month",
        }
    }
}

/// What happens once a budget has no room for what a job is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenSpent {
    /// It starts all the same.
    Warn,
    /// It does not start where that is billed under the budget; elsewhere it may.
    NoBurst,
    /// It waits.
    Hold,
}

impl WhenSpent {
    /// What that means, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            WhenSpent::Warn => "warn",
            WhenSpent::NoBurst => "no burst",
            WhenSpent::Hold => "hold",
        }
    }
}

/// From a moment (included) until another (not included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
}

impl Budget {
    /// The period in which a moment is: from local midnight to local midnight, whatever clocks do in between.
    pub fn period(&self, at: Timestamp) -> Period {
        // Only moments thousands of years away have no calendar.
        self.calendar_period(at).unwrap_or(Period { from: Timestamp::MIN, until: Timestamp::MAX })
    }

    fn calendar_period(&self, at: Timestamp) -> Result<Period, jiff::Error> {
        let start = |date: Date| date.to_zoned(self.time_zone.clone()).map(|zoned| zoned.timestamp());
        let next = |date: Date| match self.per {
            Per::Day => date.tomorrow(),
            Per::Month => date.last_of_month().tomorrow(),
        };
        let today = self.time_zone.to_datetime(at).date();
        let mut first = match self.per {
            Per::Day => today,
            Per::Month => today.first_of_month(),
        };
        let mut until = start(next(first)?)?;
        if at >= until {
            // A clock that is put back over midnight shows a day that was over already.
            first = next(first)?;
            until = start(next(first)?)?;
        }
        Ok(Period { from: start(first)?, until })
    }

    /// Whether it is about jobs with these values of their dimensions, in lower case. That of the place is not looked at.
    fn is_about(&self, values: &[String; 6]) -> bool {
        let all = Dimension::ALL.into_iter().zip(values);
        all.filter(|(dimension, _)| *dimension != Dimension::Place)
            .all(|(dimension, value)| self.matches.covers(dimension, value))
    }

    /// Whether what jobs cost at a place of this name counts against it.
    fn bills_at(&self, place: &str, kind: PlaceKind, price: &Price) -> bool {
        kind.has_group()
            && price.currency == self.currency
            && self.matches.covers(Dimension::Place, &place.to_lowercase())
    }

    /// The currencies in which those of these places bill that it matches.
    pub fn currencies<'p>(&self, places: impl IntoIterator<Item = &'p Place>) -> BTreeSet<&'p str> {
        places
            .into_iter()
            .filter(|place| place.kind.has_group())
            .filter(|place| self.matches.covers(Dimension::Place, &place.name.to_lowercase()))
            .map(|place| place.price.currency.as_str())
            .collect()
    }

    /// What of these charges counts against it.
    pub fn spent(&self, charges: &[Charge]) -> Decimal {
        let own = charges.iter().filter(|charge| {
            charge.currency == self.currency
                && self.is_about(&charge.account.values())
                && self.matches.covers(Dimension::Place, &charge.account.place.to_lowercase())
        });
        own.fold(Decimal::ZERO, |sum, charge| sum.saturating_add(charge.amount))
    }
}

/// What a runner was started for and where it ran: what budgets tell money apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// Name of the source.
    pub source: String,
    /// The account that owns the repository.
    pub owner: String,
    /// The repository, as `owner/name`.
    pub repository: String,
    /// Name of the workflow; empty where the source does not say.
    pub workflow: String,
    /// Name of the class.
    pub class: String,
    /// Name of the place.
    pub place: String,
}

impl Account {
    /// Its values in the order of the dimensions, in lower case.
    fn values(&self) -> [String; 6] {
        [&self.source, &self.owner, &self.repository, &self.workflow, &self.class, &self.place]
            .map(|value| value.to_lowercase())
    }
}

/// What rows of the ledger that have everything in common that budgets tell apart add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// For what.
    pub account: Account,
    /// ISO 4217 code.
    pub currency: String,
    /// The sum.
    pub amount: Decimal,
}

/// What the ledger tells that budgets need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// What is billed in each budget's present period. A row belongs to the period in which its meter stopped. A budget
    /// that is missing here is one of which that is not known, as while the ledger cannot be read.
    pub spent: BTreeMap<String, Decimal>,
    /// How long runners of a class usually take, by class.
    pub usual: BTreeMap<String, SignedDuration>,
}

impl Spending {
    /// How long a runner of a class is expected to take: as its class says, else as usual, else 10 minutes.
    pub fn expected(&self, name: &str, class: Option<&Class>) -> SignedDuration {
        class
            .and_then(|class| class.expected_duration)
            .or_else(|| self.usual.get(name).copied())
            .unwrap_or(EXPECTED)
    }
}

/// How long runners of each class usually take: the median of its latest rows, where there are enough of them.
/// `latest`: classes and billed seconds, the latest first.
pub fn usual_durations(latest: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<String, SignedDuration> {
    let mut of_class: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (class, seconds) in latest {
        let own = of_class.entry(class).or_default();
        if own.len() < USUAL_OF as usize {
            own.push(seconds);
        }
    }
    let median = |(class, mut own): (String, Vec<u64>)| {
        own.sort_unstable();
        let middle = own.get(own.len() / 2).filter(|_| own.len() >= USUAL_FROM)?;
        Some((class, SignedDuration::from_secs(i64::try_from(*middle).unwrap_or(i64::MAX))))
    };
    of_class.into_iter().filter_map(median).collect()
}

/// How a budget stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Its name.
    pub budget: String,
    /// How long a period is.
    pub per: Per,
    /// The present one.
    pub period: Period,
    /// What is billed in it, if that is known.
    pub spent: Option<Decimal>,
    /// What the runners that are not billed yet are expected to cost.
    pub reserved: Decimal,
    /// What may be spent.
    pub amount: Decimal,
    /// ISO 4217 code.
    pub currency: String,
    /// At which percentages there is an alert.
    pub alert_at: Vec<u32>,
    /// What happens once nothing more fits.
    pub when_spent: WhenSpent,
}

impl Figures {
    /// How much of the amount a sum is, in whole percent, rounded down.
    pub fn percent(&self, sum: Decimal) -> u32 {
        use rust_decimal::prelude::ToPrimitive as _;
        let part = sum.saturating_mul(Decimal::ONE_HUNDRED).checked_div(self.amount);
        part.and_then(|part| part.trunc().to_u32()).unwrap_or(u32::MAX)
    }

    /// The highest percentage with an alert that what is billed has reached.
    pub fn alert(&self) -> Option<u32> {
        let reached = self.percent(self.spent?);
        self.alert_at.iter().copied().filter(|at| *at <= reached).max()
    }
}

/// Why a budget has no room for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What is billed in the present period.
    pub spent: Decimal,
    /// What the runners that are not billed yet are expected to cost.
    pub reserved: Decimal,
    /// What the job is expected to cost.
    pub needs: Decimal,
    /// What may be spent.
    pub amount: Decimal,
    /// ISO 4217 code.
    pub currency: String,
    /// When the next period begins.
    pub until: Timestamp,
}

impl Shortage {
    /// Whether the job alone is expected to cost more than may be spent at all.
    pub fn never_fits(&self) -> bool {
        self.needs > self.amount
    }

    /// What follows the budget's name in the sentence.
    pub(crate) fn sentence(&self) -> String {
        let Self { currency, until, .. } = self;
        let [amount, spent, reserved, needs] =
            [self.amount, self.spent, self.reserved, self.needs].map(money);
        if self.never_fits() {
            return format!(" allows {amount} {currency}, and the job alone is expected to cost {needs}");
        }
        format!(
            ": of {amount} {currency} until {until}, {spent} are spent and {reserved} reserved for runners, which leaves \
             too little for the {needs} that the job is expected to cost"
        )
    }
}

/// A sum of money for people, without its currency: in hundredths, or with three digits where it is small.
pub fn money(sum: Decimal) -> String {
    let rounded = if sum.abs() >= Decimal::ONE { sum.round_dp(2) } else { sum.round_sf(3).unwrap_or(sum) };
    rounded.normalize().to_string()
}

/// What so many seconds of a runner cost at a place; more than can be told counts as the most there is.
fn cost(amount: Amount, place: &Place, seconds: u64) -> Decimal {
    let size = Size {
        cpu_millis: u32::try_from(amount.cpu_millis).unwrap_or(u32::MAX),
        memory_bytes: amount.memory_bytes,
        max_runners: None,
    };
    billing::cost(size, &place.price, seconds)
}

#[cfg(test)]
mod tests;
