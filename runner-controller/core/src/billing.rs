//! What a runner cost: billed seconds and money, with where each time came from.
//!
//! Azure bills a container group from the start of its first image pull until the whole group stops, by the second,
//! with its vCPU rounded up to whole cores (Azure Container Instances documentation, FAQ; facts in decimal).

use jiff::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::lifecycle::Runner;
use crate::setup::{Price, Size};

/// Where a time in the ledger came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeSource {
    /// The container group in Azure.
    Arm,
    /// The agent's call-back.
    CallBack,
    /// Stint's own calls: when it asked, or when it found the group gone.
    Estimated,
}

impl TimeSource {
    /// Every source.
    pub const ALL: [TimeSource; 3] = [TimeSource::Arm, TimeSource::CallBack, TimeSource::Estimated];

    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            TimeSource::Arm => "arm",
            TimeSource::CallBack => "call-back",
            TimeSource::Estimated => "estimated",
        }
    }
}

/// What one container group cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// The group's resource id.
    pub group_id: String,
    /// When the meter started.
    pub started_at: Timestamp,
    /// Where that came from.
    pub started_from: TimeSource,
    /// When the meter stopped.
    pub stopped_at: Timestamp,
    /// Where that came from.
    pub stopped_from: TimeSource,
    /// By how many seconds the billed time may be off; 0 where both times came from Azure.
    pub bound_seconds: u64,
    /// Billed seconds.
    pub seconds: u64,
    /// Billed vCPU: whole cores.
    pub vcpu: u32,
    /// Billed memory in GB (10^9 bytes).
    pub memory_gb: Decimal,
    /// The cost.
    pub amount: Decimal,
    /// Its currency, an ISO 4217 code.
    pub currency: String,
}

/// The size of a group as azure-aci asks Azure for it: CPU in hundredths of a core (at least 0.01), memory in tenths
/// of a GB (at least 0.1), both rounded down.
pub fn group_size(size: Size) -> (Decimal, Decimal) {
    let cpu = Decimal::new(i64::from(size.cpu_millis / 10).max(1), 2);
    let tenths = i64::try_from(size.memory_bytes / 100_000_000).unwrap_or(i64::MAX).max(1);
    (cpu, Decimal::new(tenths, 1))
}

/// Writes the bill of a runner whose machine is gone.
///
/// `None` if no container group of it ever billed, as far as anybody saw, or where there is none: the machines of a node
/// pool are paid for whether a runner is on them or not.
pub fn bill(runner: &Runner, group_id: &str, price: &Price) -> Option<Bill> {
    if !runner.kind.has_group() {
        return None;
    }
    let facts = &runner.facts;
    let group = facts.group.as_ref();
    let launched = facts.launched.as_ref().map(|launched| launched.at);
    let gone = facts.gone?;

    // The first sign that its container ran: the meter had started by then.
    let ran = [
        group.and_then(|group| group.started.or(group.stopped)),
        facts.agent.booted,
        facts.agent.job_started,
        facts.agent.job_completed,
        facts.agent.exiting,
        facts.busy_seen,
    ]
    .into_iter()
    .flatten()
    .min();
    let (started_at, started_from) = match (group.and_then(|group| group.pull_started), ran) {
        (Some(at), _) => (at, TimeSource::Arm),
        (None, Some(ran)) => (launched.unwrap_or(ran).min(ran), TimeSource::Estimated),
        (None, None) => return None,
    };
    let (stopped_at, stopped_from) = match (group.and_then(|group| group.stopped), facts.agent.exiting) {
        (Some(at), _) => (at, TimeSource::Arm),
        (None, Some(at)) => (at, TimeSource::CallBack),
        (None, None) => (facts.deleting.unwrap_or(gone), TimeSource::Estimated),
    };
    let stopped_at = stopped_at.max(started_at);

    let start_bound = match started_from {
        TimeSource::Arm => 0,
        TimeSource::CallBack | TimeSource::Estimated => ceil_seconds(started_at, ran.unwrap_or(started_at)),
    };
    let stop_bound = match stopped_from {
        TimeSource::Arm => 0,
        TimeSource::CallBack | TimeSource::Estimated => {
            // The group was there when last seen, and was not when it was found gone.
            let seen = group.and_then(|group| group.seen_at).unwrap_or(started_at).min(stopped_at);
            ceil_seconds(seen, gone)
        }
    };

    let seconds = ceil_seconds(started_at, stopped_at);
    let (cpu, memory_gb) = group_size(runner.size);
    let vcpu = cpu.ceil().to_u32().unwrap_or(u32::MAX);
    let amount = amount(vcpu, memory_gb, price, seconds).unwrap_or(Decimal::MAX);
    Some(Bill {
        group_id: group
            .map(|group| group.id.clone())
            .filter(|id| !id.is_empty())
            .unwrap_or(group_id.to_owned()),
        started_at,
        started_from,
        stopped_at,
        stopped_from,
        bound_seconds: start_bound.saturating_add(stop_bound),
        seconds,
        vcpu,
        memory_gb,
        amount,
        currency: price.currency.clone(),
    })
}

/// What so many seconds of a runner of this size cost; more than a decimal holds counts as the most it holds.
pub(crate) fn cost(size: Size, price: &Price, seconds: u64) -> Decimal {
    let (cpu, memory_gb) = group_size(size);
    let vcpu = cpu.ceil().to_u32().unwrap_or(u32::MAX);
    amount(vcpu, memory_gb, price, seconds).unwrap_or(Decimal::MAX)
}

/// The cost of so many seconds, unless it is more than a decimal holds. Nothing but an absurd price leads there, and a
/// bill that cannot be written would keep its runner for ever.
fn amount(vcpu: u32, memory_gb: Decimal, price: &Price, seconds: u64) -> Option<Decimal> {
    let cpu = Decimal::from(vcpu).checked_mul(price.vcpu_hour)?;
    let memory = memory_gb.checked_mul(price.gb_hour)?;
    let hours = cpu.checked_add(memory)?.checked_mul(Decimal::from(seconds))?;
    Some(hours.checked_div(Decimal::from(3600))?.round_dp(8))
}

/// Whole seconds from one moment to another, a begun second counted whole; 0 if the second is not later.
pub fn ceil_seconds(from: Timestamp, to: Timestamp) -> u64 {
    let nanos = u128::try_from(to.as_nanosecond().saturating_sub(from.as_nanosecond())).unwrap_or(0);
    u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
