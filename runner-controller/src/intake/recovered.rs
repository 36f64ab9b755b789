//! What Stint reads from a source itself, since no delivery brought it: lost deliveries, and jobs that nothing was told of.
//!
//! The same parsing, allow-list and store as for deliveries that arrive; a recovered one keeps its guid, so that it is
//! stored once however often it is read or sent again.

use runner_core::job::{READ_PREFIX, Told};

use super::github::{self, Delivery as Read};
use super::{IntakeRules, of_use};
use crate::ports::{CallResult, Delivery, Records, Stored};

/// What became of something that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// It is stored.
    Stored(Stored),
    /// Stint has no use for it, and why.
    Unused(String),
}

/// Stores what a delivery said that was read from its source.
///
/// # Errors
/// What the store said: it is not known to be stored.
pub async fn delivery(
    records: &dyn Records,
    rules: &IntakeRules,
    source: &str,
    delivery: &Delivery,
) -> CallResult<Recovered> {
    match read(records, rules, source, Some(&delivery.guid), &delivery.event, &delivery.payload) {
        Ok(told) => records.tell(&told).await.map(Recovered::Stored),
        Err(why) => Ok(Recovered::Unused(why)),
    }
}

/// Stores a queued job that was found at its source, unless it is stored already: then its own rules say when it is read.
/// `payload`: in the form of a delivery.
///
/// # Errors
/// What the store said: it is not known to be stored.
pub async fn queued_job(
    records: &dyn Records,
    rules: &IntakeRules,
    source: &str,
    payload: &[u8],
) -> CallResult<Recovered> {
    let mut told = match read(records, rules, source, None, "workflow_job", payload) {
        Ok(told) => told,
        Err(why) => return Ok(Recovered::Unused(why)),
    };
    if records.knows_job(&told.key) {
        return Ok(Recovered::Stored(Stored::Known));
    }
    told.fact.id = format!("{READ_PREFIX}queued-{}", told.fact.heard_at.as_millisecond());
    records.tell(&told).await.map(Recovered::Stored)
}

/// The fact that a payload tells, if it is of use.
fn read(
    records: &dyn Records,
    rules: &IntakeRules,
    source: &str,
    guid: Option<&str>,
    event: &str,
    payload: &[u8],
) -> Result<Told, String> {
    let of = rules.sources.get(source).ok_or("its source is no longer configured")?;
    let told = match github::read(Some(event), guid, payload, source, crate::clock::now())? {
        Read::Ping => return Err("it only tries the hook out".to_owned()),
        Read::Unused(why) => return Err(why.to_owned()),
        Read::Told(told) => told,
    };
    of_use(records, rules, of, &told)?;
    Ok(*told)
}
