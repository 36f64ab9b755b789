//! Objects of one kind in memory: what a watch shows, with this process's own writes laid over it.
//!
//! One map serves both, since resource versions order all states of an object: whatever is newer stays. So a decision
//! never rests on a state older than what this process itself has written.
//!
//! That order ends where the cluster's store is put back to an earlier state: versions go back, too. A watch that is taken up
//! again at a version of the lost future is answered, and shows nothing for as long as the new versions are below it. So a
//! watch that ended, however it did, is not taken up again: everything is listed anew, and the list is believed whatever
//! versions it has. Nor is a watch kept that is about to end at the server or to be given up for its silence.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// How many deleted names are remembered, so that a late event does not bring an object back.
const TOMBSTONES: usize = 4096;

/// The longest pause before a watch that failed is begun anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a watch is kept. kube asks the server to end it after 290 s, and takes it for dead 5 s later; both it takes for
/// reasons to go on where it was.
const WATCH_FOR: Duration = Duration::from_secs(270);

/// Objects of one kind, as `V`.
pub(super) struct Cache<V> {
    inner: Mutex<Inner<V>>,
    changed: Arc<Notify>,
}

struct Inner<V> {
    objects: BTreeMap<String, Entry<V>>,
    tombstones: HashMap<String, u64>,
    buried: VecDeque<String>,
    synced: bool,
    relist: Option<Relist>,
}

/// A list that is being read.
#[derive(Default)]
struct Relist {
    /// Names listed, and names written meanwhile.
    seen: HashSet<String>,
    /// Names that this process wrote meanwhile: of these the list may hold an older state.
    written: HashSet<String>,
}

struct Entry<V> {
    version: u64,
    value: V,
}

impl<V: Clone + PartialEq> Cache<V> {
    pub(super) fn new(changed: Arc<Notify>) -> Arc<Self> {
        let inner = Inner {
            objects: BTreeMap::new(),
            tombstones: HashMap::new(),
            buried: VecDeque::new(),
            synced: false,
            relist: None,
        };
        Arc::new(Self { inner: Mutex::new(inner), changed })
    }

    /// Lays an object that this process wrote over what is there, unless that is newer.
    pub(super) fn apply(&self, name: &str, version: u64, value: V) {
        if let Some(relist) = &mut self.lock().relist {
            relist.written.insert(name.to_owned());
        }
        self.show(name, version, value);
    }

    /// Takes an object up from a list that was begun after everything that is known of it, unless this process wrote it
    /// meanwhile: whatever else it replaces, the store no longer knows.
    fn listed(&self, name: &str, version: u64, value: V) {
        {
            let mut inner = self.lock();
            let written = inner.relist.as_ref().is_some_and(|relist| relist.written.contains(name));
            if !written {
                inner.tombstones.remove(name);
                if let Some(entry) = inner.objects.get_mut(name) {
                    entry.version = entry.version.min(version);
                }
            }
        }
        self.show(name, version, value);
    }

    fn show(&self, name: &str, version: u64, value: V) {
        {
            let mut inner = self.lock();
            if let Some(relist) = &mut inner.relist {
                relist.seen.insert(name.to_owned());
            }
            let buried = inner.tombstones.get(name).is_some_and(|deleted| *deleted >= version);
            let newer = inner.objects.get(name).is_some_and(|entry| entry.version > version);
            if buried || newer {
                return;
            }
            let before = inner.objects.insert(name.to_owned(), Entry { version, value: value.clone() });
            // Heartbeats, and the echo of an own write, change nothing that anybody looks at.
            if before.is_some_and(|before| before.value == value) {
                return;
            }
        }
        self.changed.notify_one();
    }

    /// Takes an object out that was deleted at this version or later; `None`: at whatever version it is known.
    pub(super) fn delete(&self, name: &str, version: Option<u64>) {
        {
            let mut inner = self.lock();
            if let Some(relist) = &mut inner.relist {
                relist.written.insert(name.to_owned());
            }
            let known = inner.objects.get(name).map(|entry| entry.version);
            let version = version.or(known).unwrap_or(0);
            if known.is_some_and(|known| known <= version) {
                inner.objects.remove(name);
            }
            inner.bury(name, version);
        }
        self.changed.notify_one();
    }

    /// The object of this name.
    pub(super) fn get(&self, name: &str) -> Option<V> {
        self.lock().objects.get(name).map(|entry| entry.value.clone())
    }

    /// All objects by name, or `None` while the first list has not been read.
    pub(super) fn all(&self) -> Option<Vec<(String, V)>> {
        let inner = self.lock();
        inner
            .synced
            .then(|| inner.objects.iter().map(|(name, entry)| (name.clone(), entry.value.clone())).collect())
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.lock().objects.len()
    }

    fn begin_list(&self) {
        self.lock().relist = Some(Relist::default());
    }

    fn end_list(&self) {
        {
            let mut inner = self.lock();
            if let Some(Relist { seen, .. }) = inner.relist.take() {
                inner.objects.retain(|name, _| seen.contains(name));
            }
            inner.synced = true;
        }
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Inner<V> {
    fn bury(&mut self, name: &str, version: u64) {
        let deleted = self.tombstones.entry(name.to_owned()).or_insert_with(|| {
            self.buried.push_back(name.to_owned());
            version
        });
        *deleted = (*deleted).max(version);
        while self.buried.len() > TOMBSTONES {
            if let Some(oldest) = self.buried.pop_front() {
                self.tombstones.remove(&oldest);
            }
        }
    }
}

/// An object's version as a number, as Kubernetes defines its order (KEP-5504: comparable resource versions).
pub(super) fn version_of(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Keeps a cache in step with a kind for as long as the handle lives. `convert` is also given objects that cannot be read,
/// with why: one of them must not keep all others from being seen.
pub(super) fn follow<K, V>(
    cache: Arc<Cache<V>>,
    api: Api<DeserializeGuard<K>>,
    selector: Option<String>,
    convert: impl Fn(Result<&K, String>) -> Option<V> + Send + 'static,
) -> AbortOnDropHandle<()>
where
    K: Resource<DynamicType: Clone + Debug> + Clone + Debug + DeserializeOwned + Send + 'static,
    V: Clone + PartialEq + Send + 'static,
{
    let config = watcher::Config { label_selector: selector, ..watcher::Config::default() };
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut backoff = DefaultBackoff::default();
        loop {
            let mut events = watcher::watcher(api.clone(), config.clone()).boxed();
            let mut list_at = None;
            let error = loop {
                let next = match list_at {
                    Some(list_at) => timeout_at(list_at, events.try_next()).await,
                    None => Ok(events.try_next().await),
                };
                match next {
                    Ok(Ok(Some(event))) => {
                        if matches!(event, Event::InitDone) {
                            backoff.reset();
                            list_at = Some(Instant::now() + WATCH_FOR);
                        }
                        take(&cache, event, &convert);
                    }
                    Ok(Ok(None)) => return,
                    Ok(Err(error)) => break Some(error),
                    Err(_elapsed) => break None,
                }
            };
            let Some(error) = error else { continue };
            tracing::warn!(%error, kind = std::any::type_name::<K>(), "a watch failed; everything is listed anew");
            let pause = backoff.next().unwrap_or(LONGEST_PAUSE);
            tokio::time::sleep(pause).await;
        }
    }))
}

fn take<K: Resource, V: Clone + PartialEq>(
    cache: &Cache<V>,
    event: Event<DeserializeGuard<K>>,
    convert: &impl Fn(Result<&K, String>) -> Option<V>,
) {
    let listed = matches!(event, Event::InitApply(_));
    match event {
        Event::Init => cache.begin_list(),
        Event::InitDone => cache.end_list(),
        Event::InitApply(object) | Event::Apply(object) => {
            let Some(name) = object.meta().name.clone() else { return };
            let version = version_of(&object);
            let read = object.0.as_ref().map_err(|unreadable| unreadable.error.clone());
            if let Err(error) = &read {
                tracing::error!(
                    kind = std::any::type_name::<K>(),
                    name,
                    error,
                    "an object cannot be read: {error}"
                );
            }
            match convert(read) {
                Some(value) if listed => cache.listed(&name, version, value),
                Some(value) => cache.show(&name, version, value),
                // It counts as not there, so that it stops nothing else.
                None => cache.delete(&name, Some(version)),
            }
        }
        Event::Delete(object) => {
            if let Some(name) = &object.meta().name {
                cache.delete(name, Some(version_of(&object)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Arc<Cache<&'static str>> {
        let cache = Cache::new(Arc::new(Notify::new()));
        cache.end_list();
        cache
    }

    #[test]
    fn an_own_write_outlasts_the_older_event_that_follows_it() {
        let cache = cache();
        cache.apply("a", 7, "written");
        cache.apply("a", 5, "seen");
        assert_eq!(cache.get("a"), Some("written"));
    }

    #[test]
    fn a_late_event_does_not_bring_a_deleted_object_back() {
        let cache = cache();
        cache.apply("a", 5, "seen");
        cache.delete("a", Some(9));
        cache.apply("a", 8, "late");
        assert_eq!(cache.get("a"), None);
        cache.apply("a", 12, "made anew");
        assert_eq!(cache.get("a"), Some("made anew"));
    }

    #[test]
    fn a_new_list_drops_what_it_does_not_hold_but_not_what_was_written_meanwhile() {
        let cache = cache();
        cache.apply("gone", 5, "old");
        cache.begin_list();
        cache.listed("kept", 6, "listed");
        cache.apply("own", 9, "written while listing");
        cache.end_list();
        assert_eq!(cache.get("gone"), None);
        assert_eq!(cache.get("kept"), Some("listed"));
        assert_eq!(cache.get("own"), Some("written while listing"));
    }

    #[test]
    fn a_new_list_is_believed_although_all_its_versions_are_older() {
        let cache = cache();
        cache.apply("a", 70, "before the store was put back");
        cache.apply("b", 71, "deleted by then");
        cache.delete("b", Some(72));
        cache.begin_list();
        cache.listed("a", 5, "as it was");
        cache.listed("b", 6, "there again");
        cache.end_list();
        assert_eq!(cache.get("a"), Some("as it was"));
        assert_eq!(cache.get("b"), Some("there again"));
        cache.show("a", 8, "and has become");
        assert_eq!(cache.get("a"), Some("and has become"));
    }

    #[test]
    fn what_is_written_or_deleted_while_a_list_is_read_outlasts_it() {
        let cache = cache();
        cache.apply("deleted", 7, "seen");
        cache.begin_list();
        cache.apply("own", 9, "written while listing");
        cache.delete("deleted", Some(10));
        cache.listed("own", 5, "listed");
        cache.listed("deleted", 7, "listed");
        cache.end_list();
        assert_eq!(cache.get("own"), Some("written while listing"));
        assert_eq!(cache.get("deleted"), None);
    }

    #[test]
    fn nothing_is_shown_before_the_first_list_is_complete() {
        let cache: Arc<Cache<&str>> = Cache::new(Arc::new(Notify::new()));
        cache.begin_list();
        cache.listed("a", 1, "listed");
        assert!(cache.all().is_none());
        cache.end_list();
        assert_eq!(cache.all().map(|all| all.len()), Some(1));
    }
}
