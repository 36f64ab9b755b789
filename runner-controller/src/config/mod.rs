//! The configuration documents and records as API types, and what they resolve to.

/// All configuration documents.
#[derive(Clone, Debug, Default)]
pub struct Documents {}

/// A class, resolved.
#[derive(Clone, Debug, Default)]
pub struct ResolvedClass {}

/// A place, resolved.
#[derive(Clone, Debug, Default)]
pub struct ResolvedPlace {}
