//! What every request handler and the control handle share, and the one way to change the state.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use emulator_common::{Changes, Clock, Faults, Journal};
use jiff::Timestamp;
use tokio::runtime::Handle;

use crate::crypto::AppKey;
use crate::gate::Gate;
use crate::hooks::Hooks;
use crate::options::Options;
use crate::state::State;

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) key: AppKey,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) hooks: Hooks,
    pub(crate) gate: Gate,
    pub(crate) client: reqwest::Client,
    pub(crate) runtime: Handle,
    pub(crate) url: OnceLock<String>,
    state: Mutex<State>,
    pub(crate) changes: Changes,
}

impl Shared {
    /// Builds it; the address that is listened on is filled in later.
    ///
    /// # Errors
    /// The App's key cannot be used, or no HTTP client can be built.
    pub(crate) fn new(options: Options, runtime: Handle) -> anyhow::Result<Self> {
        let key = match &options.app_key_pem {
            Some(pem) => AppKey::from_pem(pem)?,
            None => AppKey::generate()?,
        };
        // Receivers under test have certificates of their own making and are never behind a proxy.
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            clock: options.clock.clone(),
            key,
            faults: Faults::default(),
            journal: Journal::default(),
            hooks: Hooks::new(options.chaos),
            gate: Gate::default(),
            client,
            runtime,
            url: OnceLock::new(),
            state: Mutex::new(State::new(String::new())),
            changes: Changes::default(),
            options,
        })
    }

    /// The address in answers.
    pub(crate) fn base(&self) -> String {
        self.options.public_url.clone().or_else(|| self.url.get().cloned()).unwrap_or_default()
    }

    /// The host name in that address.
    pub(crate) fn host(&self) -> String {
        let base = self.base();
        base.split_once("://").map_or(base.as_str(), |(_, host)| host).to_owned()
    }

    /// Reads the state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    /// Changes the state, then sends the events that the change left behind.
    pub(crate) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let (result, events) = {
            let mut state = self.lock();
            let result = change(&mut state, now);
            (result, std::mem::take(&mut state.outbox))
        };
        for event in &events {
            self.dispatch(event);
        }
        self.announce();
        result
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn announce(&self) {
        self.changes.announce();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("url", &self.url).finish_non_exhaustive()
    }
}
