//! What the agent says: to its standard output, and kept for the call-back's logs.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Kept for the call-back.
const TAIL_BYTES: usize = 64 << 10;

/// The agent's output; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    tail: Arc<Mutex<VecDeque<u8>>>,
}

impl Output {
    pub(crate) fn line(&self, line: &str) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(line.as_bytes());
        tail.push_back(b'\n');
        let surplus = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..surplus);
        let mut stdout = std::io::stdout().lock();
        // Nobody may be reading any more; the agent goes on.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }

    /// The last 64 KiB.
    pub(crate) fn tail(&self) -> String {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }
}
