//! Sources of jobs, where runners register: one folder each.
//!
//! A provider answers [`crate::ports::Provider`] and knows nothing of the other adapters; the types of its SDK stay
//! in its folder.

pub mod github;
