//! The simulation's models, the controller against them, and what only a simulation can test.

mod determinism;
mod every_write;
mod kubernetes;
