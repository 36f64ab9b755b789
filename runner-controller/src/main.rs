//! The `stint` binary.

fn main() {}
