//! What budgets have left in one planning pass, as runners are started in it. Forgets everything after the pass.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::{Budget, Figures, Period, Shortage, Spending, WhenSpent, cost};
use crate::admission::Purpose;
use crate::billing::{self, ceil_seconds};
use crate::job::{Job, JobKey};
use crate::lifecycle::Runner;
use crate::limit::Amount;
use crate::plan::Snapshot;
use crate::reason::Reason;
use crate::setup::{Place, PlaceKind, Price, Setup};

/// Every budget, with what is spent of it and what is spoken for.
#[derive(Clone, Debug, Default)]
pub struct Budgets<'a> {
    all: Vec<Purse<'a>>,
    known: Option<(&'a Setup, &'a Spending)>,
}

#[derive(Clone, Debug)]
struct Purse<'a> {
    budget: &'a Budget,
    period: Period,
    spent: Option<Decimal>,
    reserved: Decimal,
}

/// What of a purpose budgets ask for: the places of its class where it costs under any, in order, each with those.
#[derive(Clone, Debug, Default)]
pub(crate) struct Governed<'a> {
    expected: SignedDuration,
    at: Vec<(&'a Place, Vec<usize>)>,
}

impl<'a> Budgets<'a> {
    /// What is spent, by the ledger, and reserved for runners that are recorded and not billed yet.
    pub fn of(snapshot: &'a Snapshot, now: Timestamp) -> Self {
        let setup = &snapshot.setup;
        if setup.budgets.is_empty() {
            return Self::default();
        }
        let purse = |budget: &'a Budget| Purse {
            budget,
            period: budget.period(now),
            spent: snapshot.spending.spent.get(&budget.name).copied(),
            reserved: Decimal::ZERO,
        };
        let mut budgets = Self {
            all: setup.budgets.values().map(purse).collect(),
            known: Some((setup, &snapshot.spending)),
        };
        let jobs: HashMap<&JobKey, &Job> = snapshot.jobs.iter().map(|job| (&job.key, job)).collect();
        for runner in snapshot.runners.iter().filter(|runner| runner.may_be_billed()) {
            // As it will be billed: where its place is no longer configured, at Azure's own price.
            let price = setup.places.get(&runner.place).map(|place| place.price.clone()).unwrap_or_default();
            let values = Purpose::of_runner(runner, jobs.get(&runner.job).copied()).values();
            let governing = budgets.at(&values, &runner.place, runner.kind, &price);
            if governing.is_empty() {
                continue;
            }
            let class = setup.classes.get(&runner.matched.class);
            let expected = snapshot.spending.expected(&runner.matched.class, class);
            let seconds = seconds_of(expected).max(seconds_run(runner, now));
            let sum = billing::cost(runner.size, &price, seconds);
            budgets.reserve(&governing, sum);
        }
        budgets
    }

    /// What budgets ask of a purpose with these values of its dimensions, in lower case, at places of its class.
    pub(crate) fn governed(&self, class: &str, values: &[String; 6], places: &[&'a str]) -> Governed<'a> {
        let Some((setup, spending)) = self.known else { return Governed::default() };
        let found = places.iter().filter_map(|name| setup.places.get(*name));
        let at = found
            .map(|place| (place, self.at(values, &place.name, place.kind, &place.price)))
            .filter(|(_, all)| !all.is_empty());
        Governed { expected: spending.expected(class, setup.classes.get(class)), at: at.collect() }
    }

    /// The budgets that what costs at a place counts against.
    fn at(&self, values: &[String; 6], place: &str, kind: PlaceKind, price: &Price) -> Vec<usize> {
        let all = self.all.iter().map(|purse| purse.budget).enumerate();
        all.filter(|(_, budget)| budget.bills_at(place, kind, price) && budget.is_about(values))
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether no budget holds a runner back wherever it might run: one that does has no room for it at any of the
    /// places where it would count, not even the cheapest.
    pub(crate) fn room(&self, governed: &Governed<'a>, amount: Amount) -> Result<(), Reason> {
        let mut cheapest: HashMap<usize, Decimal> = HashMap::new();
        for (place, all) in &governed.at {
            let sum = cost(amount, place, seconds_of(governed.expected));
            for index in all.iter().filter(|index| self.does(**index, WhenSpent::Hold)) {
                cheapest.entry(*index).and_modify(|least| *least = sum.min(*least)).or_insert(sum);
            }
        }
        let mut all: Vec<(usize, Decimal)> = cheapest.into_iter().collect();
        all.sort_unstable();
        all.into_iter().try_for_each(|(index, sum)| self.fits(index, sum))
    }

    /// Whether budgets let a runner start at a place.
    pub(crate) fn room_at(&self, governed: &Governed<'a>, amount: Amount, place: &str) -> Result<(), Reason> {
        let Some((place, all)) = governed.at.iter().find(|(one, _)| one.name == place) else { return Ok(()) };
        let sum = cost(amount, place, seconds_of(governed.expected));
        all.iter()
            .filter(|index| !self.does(**index, WhenSpent::Warn))
            .try_for_each(|index| self.fits(*index, sum))
    }

    /// Reserves what one more runner is expected to cost. Without a place: wherever that is most.
    pub(crate) fn take(&mut self, governed: &Governed<'a>, amount: Amount, place: Option<&str>) {
        let mut most: HashMap<usize, Decimal> = HashMap::new();
        for (one, all) in &governed.at {
            if place.is_none_or(|place| place == one.name) {
                let sum = cost(amount, one, seconds_of(governed.expected));
                for index in all {
                    most.entry(*index).and_modify(|most| *most = sum.max(*most)).or_insert(sum);
                }
            }
        }
        for (index, sum) in most {
            self.reserve(&[index], sum);
        }
    }

    /// The next moment at which a budget that something may wait for begins anew.
    pub(crate) fn next_period(&self) -> Option<Timestamp> {
        self.all
            .iter()
            .filter(|purse| purse.budget.when_spent != WhenSpent::Warn)
            .map(|purse| purse.period.until)
            .min()
    }

    /// How every budget stands, by name.
    pub fn figures(&self) -> Vec<Figures> {
        let figures = |purse: &Purse<'_>| Figures {
            budget: purse.budget.name.clone(),
            per: purse.budget.per,
            period: purse.period,
            spent: purse.spent,
            reserved: purse.reserved,
            amount: purse.budget.amount,
            currency: purse.budget.currency.clone(),
            alert_at: purse.budget.alert_at.clone(),
            when_spent: purse.budget.when_spent,
        };
        self.all.iter().map(figures).collect()
    }

    fn reserve(&mut self, budgets: &[usize], sum: Decimal) {
        for index in budgets {
            if let Some(purse) = self.all.get_mut(*index) {
                purse.reserved = purse.reserved.saturating_add(sum);
            }
        }
    }

    fn does(&self, index: usize, what: WhenSpent) -> bool {
        self.all.get(index).is_some_and(|purse| purse.budget.when_spent == what)
    }

    fn fits(&self, index: usize, needs: Decimal) -> Result<(), Reason> {
        let Some(purse) = self.all.get(index) else { return Ok(()) };
        let budget = purse.budget.name.clone();
        let Some(spent) = purse.spent else { return Err(Reason::BudgetUnknown { budget }) };
        let amount = purse.budget.amount;
        if spent.saturating_add(purse.reserved).saturating_add(needs) <= amount {
            return Ok(());
        }
        let figures = Shortage {
            spent,
            reserved: purse.reserved,
            needs,
            amount,
            currency: purse.budget.currency.clone(),
            until: purse.period.until,
        };
        Err(Reason::BudgetSpent { budget, figures: Box::new(figures) })
    }
}

/// For how long a runner's meter may have run by now.
fn seconds_run(runner: &Runner, now: Timestamp) -> u64 {
    let facts = &runner.facts;
    let group = facts.group.as_ref();
    let started = group
        .and_then(|group| group.pull_started)
        .into_iter()
        .chain(facts.launched.as_ref().map(|launched| launched.at))
        .min();
    let stopped = group.and_then(|group| group.stopped).or(facts.agent.exiting).or(facts.gone);
    started.map_or(0, |started| ceil_seconds(started, stopped.unwrap_or(now)))
}

fn seconds_of(duration: SignedDuration) -> u64 {
    u64::try_from(duration.as_secs()).unwrap_or(0)
}
