//! The emulator of Azure DevOps, over HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first surprise")]

mod access;
mod agents;
mod assignment;
mod builds;
mod endings;
mod hooks;
mod requests;
mod shapes;
mod support;
mod vendor;
