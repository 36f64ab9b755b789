//! Log lines on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// For collectors: one JSON object a line.
    Json,
}

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("log filter {filter:?} is not understood: {problem}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logging has begun already.
    #[error("logging was set up before")]
    Again,
}

/// Begins to log. `filter` as `tracing` has it, such as `info` or `stint=debug,kube=warn`.
///
/// # Errors
/// If the filter is not understood, or logging has begun already.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let wrong = |problem: tracing_subscriber::filter::ParseError| LoggingError::Filter {
        filter: filter.to_owned(),
        problem: problem.to_string(),
    };
    let filter = EnvFilter::try_new(filter).map_err(wrong)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    }
    .map_err(|_| LoggingError::Again)
}
