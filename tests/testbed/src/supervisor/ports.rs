//! Free loopback ports, reserved among all clusters of this machine.
//!
//! A port is reserved by a lock on a file named after it, which the system frees when the supervisor ends, however it ends.
//! The range lies below the one from which the system picks ports for connections, so what others do on this machine
//! seldom takes one; when it does, the supervisor starts over with others.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, bail};

use super::directory;

const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// Ports that no other cluster has.
#[derive(Debug)]
pub(super) struct Ports {
    next: u16,
    locks: Vec<File>,
}

impl Ports {
    pub(super) fn new() -> Self {
        // Supervisors that start at the same time look in different places first.
        let spread = std::process::id() % u32::from(RANGE.end - RANGE.start);
        let next = RANGE.start + u16::try_from(spread.wrapping_mul(37) % 10_000).unwrap_or_default();
        Self { next, locks: Vec::new() }
    }

    /// Reserves a port until `self` is dropped.
    pub(super) fn take(&mut self) -> Result<u16> {
        let reservations = directory::clusters().join("ports");
        fs::create_dir_all(&reservations)?;
        for _ in RANGE {
            let port = self.next;
            self.next = if port + 1 == RANGE.end { RANGE.start } else { port + 1 };
            let lock = File::create(reservations.join(port.to_string())).context("cannot reserve a port")?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                self.locks.push(lock);
                return Ok(port);
            }
        }
        bail!("no free port in {RANGE:?}")
    }
}
