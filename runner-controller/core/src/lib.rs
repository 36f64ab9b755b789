//! The decisions of Stint, pure: facts in, actions out.
//!
//! Nothing here does I/O, reads a clock, draws a random number or looks at the environment; `now` is always an
//! argument. The modules stand in the order in which a job meets them.

pub mod admission;
pub mod billing;
pub mod budget;
pub mod forecast;
pub mod health;
pub mod isolation;
pub mod job;
pub mod labels;
pub mod lifecycle;
pub mod limit;
pub mod notice;
pub mod pairing;
pub mod placement;
pub mod plan;
pub mod quota;
pub mod reason;
pub mod setup;
pub mod stray;
pub mod sweep;

#[cfg(test)]
pub(crate) mod testing;
