//! The simulation's models, and the controller against them.

mod kubernetes;
