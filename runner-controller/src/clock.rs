//! The one place where the controller reads the clock.

#[cfg(not(feature = "simulation"))]
use jiff::Timestamp;

/// Now, in UTC.
#[cfg(not(feature = "simulation"))]
#[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(feature = "simulation")]
pub use self::simulated::{now, set};

/// A clock that a simulation sets, for the thread that the simulation runs on.
#[cfg(feature = "simulation")]
mod simulated {
    use std::cell::RefCell;

    use jiff::Timestamp;

    type Clock = Box<dyn Fn() -> Timestamp>;

    thread_local! {
        static CLOCK: RefCell<Option<Clock>> = const { RefCell::new(None) };
    }

    /// Now, in UTC: what this thread's clock says, if it was given one.
    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    pub fn now() -> Timestamp {
        CLOCK.with_borrow(|clock| clock.as_ref().map_or_else(Timestamp::now, |clock| clock()))
    }

    /// Gives this thread a clock of its own.
    pub fn set(clock: impl Fn() -> Timestamp + 'static) {
        CLOCK.set(Some(Box::new(clock)));
    }
}
