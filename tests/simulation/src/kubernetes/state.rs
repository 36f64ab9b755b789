//! What the server holds: every object's latest state, what changed lately, and the version that orders it all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::failure::Failure;
use super::kinds::{KINDS, Kind};
use super::object::{Stored, owners, set, text_of};

/// How many changes of a kind can be watched from; a real server keeps about as many.
const KEPT_CHANGES: usize = 10_000;
/// How many lists can be read on page by page.
const KEPT_PAGES: usize = 64;

pub(super) struct State {
    /// The version of the last write.
    pub(super) version: u64,
    pub(super) tables: Vec<Table>,
    pub(super) clients: BTreeMap<String, Client>,
    /// Raised when the server is set back: watches from before end.
    pub(super) restarts: u64,
    /// Objects whose owner is gone, or was never there, and since when; in the order in which that was seen.
    pub(super) orphans: VecDeque<Orphan>,
    /// The UIDs of all objects.
    uids: BTreeSet<String>,
    /// Which objects name a UID as their owner's, by kind and name.
    owned: BTreeMap<String, BTreeSet<(usize, String)>>,
    pages: BTreeMap<u64, Page>,
    next_page: u64,
    next_uid: u64,
}

/// The objects of a kind.
pub(super) struct Table {
    pub(super) objects: BTreeMap<String, Arc<Stored>>,
    pub(super) changes: VecDeque<Change>,
    /// Nothing is known of changes up to this version.
    pub(super) floor: u64,
    /// Told when anything happens that a watch of this kind waits for.
    pub(super) woken: Arc<Notify>,
}

/// A change of an object.
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) at: Instant,
    pub(super) before: Option<Arc<Stored>>,
    pub(super) after: Option<Arc<Stored>>,
}

/// What the server knows of a client.
#[derive(Default)]
pub(super) struct Client {
    /// It cannot reach the server: until then, or until it is connected again.
    pub(super) away: Option<Option<Instant>>,
    /// Raised when its connections break.
    pub(super) breaks: u64,
    /// The kinds of which its next watch is refused.
    pub(super) expired: BTreeSet<usize>,
}

impl Client {
    /// Whether the server cannot be reached.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some_and(|until| until.is_none_or(|until| Instant::now() < until))
    }
}

/// An object without an owner.
pub(super) struct Orphan {
    pub(super) kind: &'static Kind,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) since: Instant,
}

/// What is left of a list that is read page by page, as of one version.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) version: u64,
    pub(super) rest: VecDeque<Arc<Stored>>,
}

/// All objects as of a moment; see [`super::ApiServer::restore`].
pub struct Snapshot {
    version: u64,
    objects: Vec<BTreeMap<String, Arc<Stored>>>,
}

impl State {
    pub(super) fn new() -> Self {
        let table = || Table {
            objects: BTreeMap::new(),
            changes: VecDeque::new(),
            floor: 0,
            woken: Arc::new(Notify::new()),
        };
        Self {
            version: 1,
            tables: KINDS.iter().map(|_| table()).collect(),
            clients: BTreeMap::new(),
            restarts: 0,
            orphans: VecDeque::new(),
            uids: BTreeSet::new(),
            owned: BTreeMap::new(),
            pages: BTreeMap::new(),
            next_page: 0,
            next_uid: 0,
        }
    }

    pub(super) fn table(&self, kind: &Kind) -> &Table {
        &self.tables[kind.at]
    }

    pub(super) fn get(&self, kind: &Kind, name: &str) -> Option<&Arc<Stored>> {
        self.table(kind).objects.get(name)
    }

    /// A UID that no object had before, not even before the server was set back.
    pub(super) fn new_uid(&mut self) -> String {
        self.next_uid += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.next_uid)
    }

    /// Gives an object what every object of its kind has.
    pub(super) fn complete(&mut self, kind: &Kind, value: &mut Value) {
        if text_of(value, "uid").is_empty() {
            let uid = self.new_uid();
            set(value, "uid", json!(uid));
        }
        if text_of(value, "creationTimestamp").is_empty() {
            set(value, "creationTimestamp", json!(in_seconds(0)));
        }
        if kind.namespaced {
            set(value, "namespace", json!(super::NAMESPACE));
        }
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), json!(kind.api_version()));
            fields.insert("kind".to_owned(), json!(kind.kind));
        }
    }

    /// Stores a state of an object.
    pub(super) fn store(&mut self, kind: &'static Kind, name: &str, value: Value) -> Arc<Stored> {
        self.version += 1;
        let stored = Arc::new(Stored::new(value, self.version));
        let before = self.tables[kind.at].objects.insert(name.to_owned(), stored.clone());
        if let Some(before) = &before {
            self.forget(kind, name, before);
        }
        self.note(kind, name, &stored);
        self.changed(kind, before, Some(stored.clone()));
        stored
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, kind: &'static Kind, name: &str) -> Option<Arc<Stored>> {
        let before = self.tables[kind.at].objects.remove(name)?;
        self.version += 1;
        self.forget(kind, name, &before);
        self.changed(kind, Some(before.clone()), None);
        for (at, name) in self.owned.get(before.uid()).cloned().unwrap_or_default() {
            self.orphan(&KINDS[at], &name);
        }
        Some(before)
    }

    /// Notes who an object is and whom it belongs to.
    fn note(&mut self, kind: &'static Kind, name: &str, object: &Stored) {
        self.uids.insert(object.uid().to_owned());
        let owners = owners(&object.value);
        let orphan = !owners.is_empty() && !owners.iter().any(|uid| self.uids.contains(uid));
        for owner in owners {
            self.owned.entry(owner).or_default().insert((kind.at, name.to_owned()));
        }
        if orphan {
            self.orphan(kind, name);
        }
    }

    fn forget(&mut self, kind: &Kind, name: &str, object: &Stored) {
        self.uids.remove(object.uid());
        for owner in owners(&object.value) {
            if let Some(owned) = self.owned.get_mut(&owner) {
                owned.remove(&(kind.at, name.to_owned()));
                if owned.is_empty() {
                    self.owned.remove(&owner);
                }
            }
        }
    }

    fn changed(&mut self, kind: &Kind, before: Option<Arc<Stored>>, after: Option<Arc<Stored>>) {
        let table = &mut self.tables[kind.at];
        table.changes.push_back(Change { version: self.version, at: Instant::now(), before, after });
        if table.changes.len() > KEPT_CHANGES
            && let Some(oldest) = table.changes.pop_front()
        {
            table.floor = oldest.version;
        }
        table.woken.notify_waiters();
    }

    fn orphan(&mut self, kind: &'static Kind, name: &str) {
        let Some(uid) = self.get(kind, name).map(|object| object.uid().to_owned()) else { return };
        self.orphans.push_back(Orphan { kind, name: name.to_owned(), uid, since: Instant::now() });
    }

    /// Deletes what has had no owner for so long. Returns when the next of them is due.
    pub(super) fn collect(&mut self, after: std::time::Duration) -> Option<Instant> {
        while let Some(first) = self.orphans.front() {
            let due = first.since + after;
            if due > Instant::now() {
                return Some(due);
            }
            let Some(orphan) = self.orphans.pop_front() else { break };
            let Some(object) = self.get(orphan.kind, &orphan.name).cloned() else { continue };
            let owned = owners(&object.value).iter().any(|uid| self.uids.contains(uid));
            if object.uid() == orphan.uid && !owned {
                let options = json!({"preconditions": {"uid": orphan.uid}});
                // An object that is not what it was a line ago cannot be: nothing runs in between.
                drop(self.delete(orphan.kind, &orphan.name, &options));
            }
        }
        None
    }

    /// Keeps what is left of a list, and returns its token.
    pub(super) fn keep_page(&mut self, page: Page) -> String {
        self.next_page += 1;
        self.pages.insert(self.next_page, page);
        while self.pages.len() > KEPT_PAGES {
            self.pages.pop_first();
        }
        self.next_page.to_string()
    }

    /// What is left of a list.
    pub(super) fn page(&self, token: &str) -> Result<Page, Failure> {
        let number: u64 = token
            .parse()
            .map_err(|_| Failure::bad_request(format!("continue key is not valid: {token:?}")))?;
        self.pages.get(&number).cloned().ok_or_else(|| {
            let message = "The provided continue parameter is too old to display a consistent list result.";
            Failure::expired(message.to_owned())
        })
    }

    pub(super) fn client(&mut self, who: &str) -> &mut Client {
        if !self.clients.contains_key(who) {
            self.clients.insert(who.to_owned(), Client::default());
        }
        self.clients.entry(who.to_owned()).or_default()
    }

    pub(super) fn wake_all(&self) {
        for table in &self.tables {
            table.woken.notify_waiters();
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let objects = self.tables.iter().map(|table| table.objects.clone()).collect();
        Snapshot { version: self.version, objects }
    }

    /// Sets the server back. `raised`: by how much its versions go on above the snapshot's.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, raised: u64) {
        self.version = snapshot.version + raised;
        for (table, objects) in self.tables.iter_mut().zip(&snapshot.objects) {
            table.objects.clone_from(objects);
            table.changes.clear();
            table.floor = self.version;
        }
        self.pages.clear();
        self.restarts += 1;
        self.orphans.clear();
        self.owned.clear();
        let all = || {
            KINDS
                .iter()
                .zip(&snapshot.objects)
                .flat_map(|(kind, objects)| objects.iter().map(move |it| (kind, it)))
        };
        // All UIDs first, since an owner may come after what it owns.
        self.uids = all().map(|(_, (_, object))| object.uid().to_owned()).collect();
        for (kind, (name, object)) in all() {
            self.note(kind, name, object);
        }
        self.wake_all();
    }
}

/// So many seconds from now, as Kubernetes writes it.
pub(super) fn in_seconds(seconds: u64) -> String {
    let now = stint::clock::now();
    let then = now.as_second().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
    jiff::Timestamp::from_second(then).unwrap_or(now).to_string()
}
