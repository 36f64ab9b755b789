//! Workloads for the benchmarks, and a count of what they allocate. Measures nothing itself.

pub mod allocations;
pub mod crowd;
