//! Sources of jobs: one folder each.

pub mod github;
