//! Tests of the simulation, and those of the controller that it makes possible.

mod determinism;
