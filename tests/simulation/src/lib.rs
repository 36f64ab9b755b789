//! The controller's own code against models of what it talks to, deterministic: one thread, virtual time, no sockets.
//!
//! A [`Scenario`] is drawn from a seed: jobs, configuration and faults. A run puts two replicas of the real controller
//! (core, loop, intake, the adapter to Kubernetes) before models of Kubernetes, GitHub, Azure, the virtual node and the
//! ledger, lets the faults happen, and looks at the invariants (`invariants`) all the while and once all has come to rest.
//! What only the outside does is in the models; nothing in them says what the controller should do.
//!
//! How to read a story: first what does not hold, then the smallest plan for which it does not, then the journal up to
//! that moment, each line with the time since the beginning and who does something: `a.1` is the first process of replica
//! a, `a.2` the one after its crash; `FAULT` is what the plan lets go wrong; `VIOLATED` is where an invariant broke. Run the
//! same again with `tests/run simulation --seed N`.

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

pub use fault::{Fault, Peer, Trouble, WriteFault};
pub use journal::{Counts, Violation};
pub use oracle::unexplained;
pub use scenario::{Job, Scenario};
pub use shrink::Failure;
pub use world::{Ending, Outcome};
