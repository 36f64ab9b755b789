//! What Stint tells of itself: log lines, metrics, and the masking of secrets in text that others wrote.
//!
//! Nothing here decides anything or reaches the outside. Labels of metrics come from enums or from names that admins
//! gave, never from a job.

mod logging;
mod metrics;
pub mod redact;
mod words;

pub use self::logging::{LogFormat, LoggingError, init_logging};
pub use self::metrics::Metrics;
pub use self::words::{DeliveryOutcome, Peer, RunnerState};
