//! The controller: adapters to the outside, and the loop observe → plan → execute → record around `runner-core`.
//!
//! Modules stand in the order of the flow: a delivery arrives at [`intake`], the loop in [`reconcile`] observes,
//! plans and executes, and the [`ledger`] keeps what a runner cost. [`ports`] says what the loop needs of the
//! adapters; the adapters never import each other.

pub mod azure;
pub mod cli;
pub mod clock;
pub mod config;
pub mod execute;
pub mod intake;
pub mod kubernetes;
pub mod ledger;
pub mod local;
pub mod observe;
pub mod ports;
pub mod providers;
pub mod reconcile;
pub mod simulate;
pub mod sqlite;
pub mod telemetry;
pub mod web;
