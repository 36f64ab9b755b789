//! `plan` as a whole: single passes, properties of any pass, and whole worlds in simulated time.

mod branches;
mod budgets;
mod fairness;
mod limits;
mod pairs;
mod passes;
mod properties;
mod simulation;
mod stories;
mod world;
