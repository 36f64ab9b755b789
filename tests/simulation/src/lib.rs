//! The controller's own code against models of what it talks to, deterministic: one thread, virtual time, no sockets.

pub mod kubernetes;

mod agent;
mod arm;
mod board;
mod chance;
mod cluster;
mod fault;
mod front;
mod github;
mod invariants;
mod journal;
mod ledger;
mod oracle;
mod process;
mod replicas;
mod scenario;
mod shrink;
mod time;
mod virtual_node;
mod world;

pub use fault::{Fault, Peer, WriteFault};
pub use journal::{Counts, Violation};
pub use oracle::unexplained;
pub use scenario::Scenario;
pub use shrink::Failure;
pub use world::{Ending, Outcome};
