//! A bed for end-to-end tests: emulated GitHub and Azure over real HTTP, a real control plane with the real virtual node,
//! and the real `stint` process between them.

mod agent;
mod asks;
mod bed;
pub mod interposer;
mod ledger;
mod stint;

pub use agent::Agent;
pub use bed::{Bed, BedOptions, INSTALLATION, NAMESPACE, RESOURCE_GROUP, SUBSCRIPTION};
pub use ledger::LedgerRow;
pub use stint::{Stint, program};
