//! A proxy of the tests' own between `stint` and each of its peers: it keeps a journal of what `stint` asks, in the order of
//! all peers together, and can do at a chosen call what an emulator cannot: act on `stint` itself before the call is carried
//! out or between that and its answer, and part `stint` alone from a peer.
//!
//! It must not change what passes through it. Faults that a peer can give by itself are the emulators' own (`Fault`).

mod call;
mod forward;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use emulator_common::{ServeOptions, ServerHandle, serve};
use tokio::sync::watch;

pub use call::{Call, Peer};
use forward::Upstream;

/// Whether calls to a peer get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They do.
    Open,
    /// They are cut at once, and so are answers that still come in, such as those of a watch.
    Refused,
    /// Nothing comes back: calls are kept waiting, and answers that still come in stand still. Calls whose caller has not given
    /// up by then are carried out once the way is open again.
    Silent,
}

/// What happens at the call that a trap waits for.
pub enum Deed {
    /// Runs this, then cuts the connection; the call is not carried out.
    Before(Hook),
    /// The call is carried out, this runs, and the connection is cut without an answer.
    Unanswered(Hook),
    /// The call is carried out and answered, and this runs before.
    Aside(Hook),
    /// The call is not carried out; this is answered.
    Instead {
        /// The status of the answer.
        status: u16,
        /// Its headers.
        headers: Vec<(&'static str, String)>,
        /// Its body.
        body: String,
    },
}

/// Something to do at a call.
pub type Hook = Box<dyn FnOnce() + Send>;

/// Which calls a trap is for.
type Filter = Box<dyn Fn(&Call) -> bool + Send>;

/// A trap that was set; it stays set until it is sprung or [`Interposer::disarm`] is called.
#[derive(Clone, Debug, Default)]
pub struct Trap {
    sprung: Arc<Mutex<Option<Call>>>,
}

impl Trap {
    /// The call that sprang it, if one has.
    pub fn sprung(&self) -> Option<Call> {
        locked(&self.sprung).clone()
    }
}

struct Armed {
    filter: Filter,
    skip: usize,
    deed: Deed,
    trap: Trap,
}

/// What the proxies of all peers share.
#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    armed: Mutex<Vec<Armed>>,
}

impl Shared {
    /// Notes a call, and answers what shall happen at it.
    fn enter(&self, call: &Call) -> (usize, Option<Deed>) {
        let number = {
            let mut calls = locked(&self.calls);
            calls.push(call.clone());
            calls.len() - 1
        };
        let mut armed = locked(&self.armed);
        let mut at = None;
        for (index, one) in armed.iter_mut().enumerate() {
            if !(one.filter)(call) {
                continue;
            }
            if one.skip > 0 {
                one.skip -= 1;
            } else {
                at = Some(index);
                break;
            }
        }
        let deed = at.map(|index| {
            let one = armed.remove(index);
            *locked(&one.trap.sprung) = Some(call.clone());
            one.deed
        });
        (number, deed)
    }

    /// Notes how a call was answered.
    fn answered(&self, number: usize, status: u16) {
        if let Some(call) = locked(&self.calls).get_mut(number) {
            call.status = Some(status);
        }
    }
}

/// The proxies, one for each peer.
pub struct Interposer {
    shared: Arc<Shared>,
    doors: BTreeMap<Peer, (ServerHandle, watch::Sender<Way>)>,
}

impl Interposer {
    /// Stands between `stint` and these peers. `authority`: the CA of those that speak TLS, as PEM.
    ///
    /// # Errors
    /// When a port cannot be bound or the certificate cannot be read.
    pub async fn start(peers: &[(Peer, &str)], authority: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut doors = BTreeMap::new();
        for (peer, url) in peers {
            let (way, watched) = watch::channel(Way::Open);
            let upstream = Upstream::new(*peer, url, authority, shared.clone(), watched)?;
            let server = serve(upstream.router(), ServeOptions::default()).await?;
            doors.insert(*peer, (server, way));
        }
        Ok(Self { shared, doors })
    }

    /// Where `stint` finds a peer.
    ///
    /// # Errors
    /// When nothing stands before this peer.
    pub fn url(&self, peer: Peer) -> Result<&str> {
        Ok(&self.door(peer)?.0.url)
    }

    /// Parts `stint` from a peer, or lets it through again.
    ///
    /// # Errors
    /// When nothing stands before this peer.
    pub fn set(&self, peer: Peer, way: Way) -> Result<()> {
        self.door(peer)?.1.send_replace(way);
        Ok(())
    }

    /// Sets a trap for the call after the next `skip` that the filter lets through.
    pub fn arm(&self, skip: usize, filter: impl Fn(&Call) -> bool + Send + 'static, deed: Deed) -> Trap {
        let trap = Trap::default();
        locked(&self.shared.armed).push(Armed { filter: Box::new(filter), skip, deed, trap: trap.clone() });
        trap
    }

    /// Takes all traps away that have not been sprung.
    pub fn disarm(&self) {
        locked(&self.shared.armed).clear();
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        locked(&self.shared.calls).clone()
    }

    /// The writes so far, in order of arrival, without what differs from runner to runner.
    pub fn kinds(&self) -> Vec<String> {
        self.calls().iter().filter(|call| call.writes()).map(Call::kind).collect()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        locked(&self.shared.calls).clear();
    }

    fn door(&self, peer: Peer) -> Result<&(ServerHandle, watch::Sender<Way>)> {
        self.doors.get(&peer).with_context(|| format!("nothing stands before {peer:?}"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
