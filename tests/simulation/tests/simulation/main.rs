//! The simulation's models, the controller against them, and what only a simulation can test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall fail")]

mod determinism;
mod every_write;
mod kubernetes;
mod outages;
