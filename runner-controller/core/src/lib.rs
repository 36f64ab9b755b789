//! The decisions of Stint, pure: facts in, actions out.
//!
//! Nothing here does I/O, reads a clock, draws a random number or looks at the environment; `now` is always an
//! argument. The modules stand in the order in which a job meets them.

pub mod job;
pub mod setup;
pub mod labels;
pub mod reason;
pub mod lifecycle;
pub mod pairing;
pub mod admission;
pub mod placement;
pub mod billing;
pub mod plan;

#[cfg(test)]
pub(crate) mod testing;
