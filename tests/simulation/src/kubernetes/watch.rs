//! Watches: a body that goes on, a JSON line for each event, as late as the client's lag says.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::Inner;
use super::failure::Failure;
use super::kinds::Kind;
use super::object::{Stored, set};
use super::request::WatchOptions;
use super::state::{Change, State};

/// How often a watch that wants it is told how far it has seen.
const BETWEEN_BOOKMARKS: Duration = Duration::from_secs(60);

struct Watch {
    server: Arc<Inner>,
    who: String,
    kind: &'static Kind,
    options: WatchOptions,
    /// The version up to which this client has seen everything.
    seen: u64,
    /// Lines to send before anything else.
    first: VecDeque<Bytes>,
    ends: Option<Instant>,
    bookmark: Option<Instant>,
    breaks: u64,
    restarts: u64,
    over: bool,
}

enum Step {
    Send(Bytes),
    /// Nothing to send before this.
    Wait(Option<Instant>),
    /// A last line, and the end.
    Last(Bytes),
    End,
    Break,
}

/// The events of a kind from now on.
pub(super) fn open(
    server: &Arc<Inner>,
    who: &str,
    kind: &'static Kind,
    options: WatchOptions,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let now = Instant::now();
    let mut state = server.state();
    let mut first = VecDeque::new();
    let mut seen = options.version;
    let mut over = false;
    let table = state.table(kind);
    if options.version == 0 {
        let objects = table.objects.values().filter(|object| options.selector.selects(&object.value));
        first.extend(objects.map(|object| line("ADDED", &object.text())));
        seen = state.version;
    } else if options.version < table.floor {
        let message = format!("too old resource version: {} ({})", options.version, table.floor);
        first.push_back(error(&Failure::expired(message)));
        over = true;
    }
    let restarts = state.restarts;
    let client = state.client(who);
    // A watch that begins with everything is past what it was to miss.
    if client.expired.remove(&kind.at) && options.version != 0 && !over {
        first.push_back(error(&Failure::expired(format!("too old resource version: {}", options.version))));
        over = true;
    }
    let breaks = client.breaks;
    drop(state);
    let watch = Watch {
        server: server.clone(),
        who: who.to_owned(),
        kind,
        seen,
        first,
        ends: options.timeout.map(|timeout| now + timeout),
        bookmark: options.bookmarks.then(|| now + BETWEEN_BOOKMARKS),
        options,
        breaks,
        restarts,
        over,
    };
    futures::stream::unfold(watch, |mut watch| async move {
        let next = watch.next().await?;
        Some((next, watch))
    })
}

impl Watch {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let woken = self.server.state().table(self.kind).woken.clone();
            let woken = woken.notified();
            tokio::pin!(woken);
            // From here on nothing is missed.
            woken.as_mut().enable();
            let server = self.server.clone();
            let step = self.step(&mut server.state());
            match step {
                Step::Send(line) => return Some(Ok(line)),
                Step::Last(line) => {
                    self.over = true;
                    return Some(Ok(line));
                }
                Step::End => return None,
                Step::Break => {
                    self.over = true;
                    return Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                }
                Step::Wait(None) => woken.await,
                Step::Wait(Some(until)) => tokio::select! {
                    biased;
                    () = woken => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    fn step(&mut self, state: &mut State) -> Step {
        if let Some(line) = self.first.pop_front() {
            return Step::Send(line);
        }
        if self.over || state.restarts != self.restarts {
            return Step::End;
        }
        let client = state.client(&self.who);
        if client.breaks != self.breaks {
            return Step::Break;
        }
        if client.expired.remove(&self.kind.at) {
            return Step::Last(error(&Failure::expired(format!("too old resource version: {}", self.seen))));
        }
        let now = Instant::now();
        if self.ends.is_some_and(|ends| ends <= now) {
            return Step::End;
        }
        let table = state.table(self.kind);
        if self.seen < table.floor {
            let message = format!("too old resource version: {} ({})", self.seen, table.floor);
            return Step::Last(error(&Failure::expired(message)));
        }
        let mut at = table.changes.partition_point(|change| change.version <= self.seen);
        while let Some(change) = table.changes.get(at) {
            let due = change.at + self.server.lag.of(&self.who, self.kind.kind);
            if due > now {
                return Step::Wait(earliest([Some(due), self.ends]));
            }
            self.seen = change.version;
            if let Some(line) = self.event(change) {
                return Step::Send(line);
            }
            at += 1;
        }
        // All events are seen, so all that happened to other kinds is of no concern. A client that has seen a later
        // version than the server has reached is told nothing until then.
        if self.bookmark.is_some_and(|at| at <= now) {
            self.bookmark = Some(now + BETWEEN_BOOKMARKS);
            if state.version >= self.seen {
                self.seen = state.version;
                return Step::Send(self.bookmark_line());
            }
        }
        Step::Wait(earliest([self.bookmark, self.ends]))
    }

    /// A change as those see it who see only what is selected.
    fn event(&self, change: &Change) -> Option<Bytes> {
        let selected = |object: &&Arc<Stored>| self.options.selector.selects(&object.value);
        let before = change.before.as_ref().filter(selected);
        let after = change.after.as_ref().filter(selected);
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(line("ADDED", &after.text())),
            (Some(_), Some(after)) => Some(line("MODIFIED", &after.text())),
            (Some(before), None) => {
                let mut last = before.value.clone();
                set(&mut last, "resourceVersion", json!(change.version.to_string()));
                Some(line("DELETED", last.to_string().as_bytes()))
            }
        }
    }

    fn bookmark_line(&self) -> Bytes {
        let object = json!({
            "apiVersion": self.kind.api_version(), "kind": self.kind.kind,
            "metadata": {"resourceVersion": self.seen.to_string()},
        });
        line("BOOKMARK", object.to_string().as_bytes())
    }
}

fn earliest<const N: usize>(moments: [Option<Instant>; N]) -> Option<Instant> {
    moments.into_iter().flatten().min()
}

fn error(failure: &Failure) -> Bytes {
    line("ERROR", failure.status().to_string().as_bytes())
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(kind.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
