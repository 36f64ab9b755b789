//! Truth from the source: deliveries that nobody received, and queued jobs that nobody told of.
//!
//! Runs beside the loop of the replica that acts, one task for each source. What is lost and what comes next is decided
//! by [`runner_core::sweep`]; what is read is stored by intake's own code, so that reading it twice is harmless. Makes no
//! decision about runners.

mod adoption;
mod hooks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::sweep::{AGAIN, SETTLE};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::adoption::Adoption;
use self::hooks::Hooks;
use crate::clock;
use crate::config::{Resolved, ResolvedSource};
use crate::execute::Outside;
use crate::ports::CallError;

/// The pause after a call that failed.
const PAUSE: SignedDuration = SignedDuration::from_secs(15);

/// The least time between two passes.
const SOON: SignedDuration = SignedDuration::from_secs(1);

/// Looks after every source that the documents name, for ever. Dropping it stops all.
pub(super) async fn run(outside: Arc<Outside>, mut resolved: watch::Receiver<Option<Arc<Resolved>>>) {
    let mut running: BTreeMap<String, (Arc<ResolvedSource>, AbortOnDropHandle<()>)> = BTreeMap::new();
    loop {
        let now = resolved.borrow_and_update().clone();
        if let Some(now) = now {
            running.retain(|name, (source, _)| now.sources.get(name) == Some(source));
            for (name, source) in &now.sources {
                running.entry(name.clone()).or_insert_with(|| {
                    let of = OfSource::new(outside.clone(), source.clone());
                    (source.clone(), AbortOnDropHandle::new(tokio::spawn(of.run())))
                });
            }
        }
        if resolved.changed().await.is_err() {
            return;
        }
    }
}

/// What is looked after at one source.
struct OfSource {
    outside: Arc<Outside>,
    source: Arc<ResolvedSource>,
    hooks: Hooks,
    adoption: Adoption,
    complaints: Complaints,
}

impl OfSource {
    fn new(outside: Arc<Outside>, source: Arc<ResolvedSource>) -> Self {
        Self {
            hooks: Hooks::of(&source),
            adoption: Adoption::default(),
            complaints: Complaints::default(),
            outside,
            source,
        }
    }

    async fn run(mut self) {
        let mut put_off = self.outside.put_off.clone();
        put_off.mark_unchanged();
        let mut hurry = false;
        // When what intake put off will surely show in the list of deliveries, and not be left to others any more.
        let mut look_again: Option<Timestamp> = None;
        loop {
            let began = clock::now();
            look_again = look_again.filter(|at| *at > began);
            let next = self.pass(hurry).await;
            let next = look_again.map_or(next, |again| next.min(again)).max(add(began, SOON));
            let told = async {
                if put_off.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = told => {
                    let now = clock::now();
                    look_again = Some(add(now, SETTLE));
                    until(add(began, AGAIN)).await;
                    hurry = true;
                }
                () = until(next) => hurry = look_again.is_some_and(|at| at <= clock::now()),
            }
        }
    }

    /// Does what is due. Answers when there is more.
    async fn pass(&mut self, hurry: bool) -> Timestamp {
        let name = self.source.name.clone();
        let provider = match self.outside.sources.provider(&name) {
            Ok(provider) => provider,
            // Said where runners are registered.
            Err(error) => return after(&error),
        };
        if !self.is_listened_to() {
            return add(clock::now(), SOON);
        }
        let swept = self.hooks.pass(&self.outside, &*provider, hurry, &mut self.complaints).await;
        let adopted = self.adoption.pass(&self.outside, &self.source, &*provider, &mut self.complaints).await;
        swept.min(adopted)
    }

    /// Whether intake goes by the same document by now: what it does not list is of no use to it.
    fn is_listened_to(&self) -> bool {
        let rules = self.outside.sources.rules().borrow().clone();
        let source = &self.source;
        rules
            .sources
            .get(&source.name)
            .is_some_and(|known| known.owners == source.owners && known.repositories == source.repositories)
    }
}

impl Drop for OfSource {
    fn drop(&mut self) {
        self.outside.metrics.set_swept(&self.source.name, None);
    }
}

/// What was said in the log, by what it is about, so that it is said once.
#[derive(Default)]
struct Complaints(BTreeMap<&'static str, String>);

impl Complaints {
    /// Whether this is news; notes it.
    fn is_news(&mut self, about: &'static str, text: &str) -> bool {
        self.0.insert(about, text.to_owned()).is_none_or(|known| known != text)
    }

    fn settled(&mut self, about: &'static str) {
        self.0.remove(about);
    }
}

/// When to try again after a call that failed.
fn after(error: &CallError) -> Timestamp {
    let pause = error.pause().and_then(|pause| SignedDuration::try_from(pause).ok()).unwrap_or(PAUSE);
    add(clock::now(), pause)
}

fn add(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

async fn until(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(clock::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}
