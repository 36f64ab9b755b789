//! The simulation's models, and the controller against them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall fail")]

mod kubernetes;
