//! The log lines of all tests of one program, which must show no secret.

use std::sync::{Mutex, OnceLock};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static ONCE: OnceLock<()> = OnceLock::new();

struct Sink;

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps all lines of whatever level from now on. For the whole program: what is scoped to a thread misses lines whose
/// first test ran without it.
pub fn begin() {
    ONCE.get_or_init(|| {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(|| Sink);
        tracing::subscriber::set_global_default(lines.finish()).unwrap();
    });
}

/// All lines so far.
pub fn lines() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned()
}
