//! What every emulator of an outside service needs: a server, scripted faults, a journal of requests, a clock.
//!
//! This crate knows nothing of the service that is emulated. An emulator builds an axum router, hands it to
//! [`instrument`] together with its [`Faults`] and [`Journal`], and serves the result with [`serve`]:
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use emulator_common::{Fault, Faults, Journal, ServeOptions, instrument, serve};
//! let (faults, journal) = (Faults::default(), Journal::default());
//! let router = axum::Router::new().route("/hello", axum::routing::get(|| async { "hello" }));
//! let server = serve(instrument(router, &faults, &journal), ServeOptions::default()).await?;
//! faults.add(Fault::on("GET", "/hel*").times(1).drop_answer());
//! println!("{} has answered {} requests", server.url, journal.count("GET", "/hello"));
//! # Ok(())
//! # }
//! ```

mod changes;
pub mod clock;
pub mod faults;
mod glob;
pub mod ids;
pub mod journal;
pub mod server;

pub use changes::Changes;
pub use clock::Clock;
pub use faults::{Fault, FaultAction, FaultState, Faults};
pub use glob::glob_matches;
pub use journal::{Journal, Outcome, RequestEntry};
pub use server::{CutConnection, ServeOptions, ServerHandle, Tls, serve};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

/// Puts an emulator's router behind its faults and its journal, and adds the control routes
/// `/_emulator/faults` and `/_emulator/requests`.
///
/// Requests under `/_emulator` are neither recorded nor subject to faults, so that a test can always end a fault.
/// The body limit of axum is lifted: the emulated service states its own.
pub fn instrument(router: Router, faults: &Faults, journal: &Journal) -> Router {
    let emulated = router
        .layer(from_fn_with_state(faults.clone(), faults::apply))
        .layer(from_fn_with_state(journal.clone(), journal::record))
        .layer(DefaultBodyLimit::disable());
    // As the fallback rather than merged, for a merge would lose the layers around the emulator's own fallback.
    faults::control_routes(faults.clone())
        .merge(journal::control_routes(journal.clone()))
        .fallback_service(emulated)
}

/// Whether a request steers the emulator rather than being part of what it emulates.
fn is_control(path: &str) -> bool {
    path.starts_with("/_emulator/")
}
