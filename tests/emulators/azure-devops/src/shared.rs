//! What every request handler and the control handle share, and the one way to change the state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use emulator_common::{Changes, Clock, Faults, Journal};
use jiff::Timestamp;
use tokio::runtime::Handle;

use crate::options::{Identity, Options};
use crate::rate::Usage;
use crate::state::State;

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) changes: Changes,
    pub(crate) client: reqwest::Client,
    pub(crate) runtime: Handle,
    pub(crate) url: OnceLock<String>,
    identities: Mutex<Vec<Identity>>,
    usage: Mutex<HashMap<String, Usage>>,
    state: Mutex<State>,
}

impl Shared {
    /// Builds it; the address that is listened on is filled in later.
    ///
    /// # Errors
    /// Two pools have the same name, a project's name cannot be one, or no HTTP client can be built.
    pub(crate) fn new(options: Options, runtime: Handle) -> anyhow::Result<Self> {
        // Receivers under test have certificates of their own making and are never behind a proxy.
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let state = State::new(String::new(), &options, options.clock.now())?;
        Ok(Self {
            clock: options.clock.clone(),
            faults: Faults::default(),
            journal: Journal::default(),
            changes: Changes::default(),
            client,
            runtime,
            url: OnceLock::new(),
            identities: Mutex::new(options.identities.clone()),
            usage: Mutex::new(HashMap::new()),
            state: Mutex::new(state),
            options,
        })
    }

    /// The address in answers, with the organization.
    pub(crate) fn base(&self) -> String {
        let listens = || self.url.get().cloned().unwrap_or_default();
        let server = self.options.public_url.clone().unwrap_or_else(listens);
        format!("{server}/{}", self.options.organization)
    }

    /// Reads the state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&lock(&self.state))
    }

    /// Changes the state, then sends the notifications that are due.
    pub(crate) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let (result, due) = {
            let mut state = lock(&self.state);
            let result = change(&mut state, now);
            (result, state.hooks.due(now))
        };
        for sending in due {
            self.send(sending);
        }
        self.changes.announce();
        result
    }

    pub(crate) fn identities(&self) -> MutexGuard<'_, Vec<Identity>> {
        lock(&self.identities)
    }

    /// What an identity has consumed.
    pub(crate) fn with_usage<T>(&self, identity: &str, with: impl FnOnce(&mut Usage) -> T) -> T {
        with(lock(&self.usage).entry(identity.to_owned()).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("url", &self.url).finish_non_exhaustive()
    }
}
