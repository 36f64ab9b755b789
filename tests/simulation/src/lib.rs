//! The controller's own code against models of what it talks to, deterministic: one thread, virtual time, no sockets.
//!
//! Models hold what the outside does, never what the controller should do.

pub mod kubernetes;
