//! Configuration documents as custom resources, and the problem that is written beside each.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::cache::{Cache, follow};
use super::errors::call_error;
use crate::config::{
    ConcurrencyLimit, ConcurrencyLimitSpec, Documents, Problem, RunnerClass, RunnerClassSpec, RunnerPlace,
    RunnerPlaceSpec, RunnerSource, RunnerSourceSpec,
};
use crate::ports::CallResult;

/// Documents in a namespace of a cluster.
pub(super) struct DocumentsInCluster {
    cluster: Cluster,
    sources: Arc<Cache<Result<RunnerSourceSpec, String>>>,
    classes: Arc<Cache<Result<RunnerClassSpec, String>>>,
    places: Arc<Cache<Result<RunnerPlaceSpec, String>>>,
    limits: Arc<Cache<Result<ConcurrencyLimitSpec, String>>>,
    noted: Mutex<HashMap<(&'static str, String), Option<String>>>,
    _watches: [AbortOnDropHandle<()>; 4],
}

impl DocumentsInCluster {
    /// Begins to watch.
    pub(super) fn watch(cluster: &Cluster, changed: &Arc<Notify>) -> Self {
        let (sources, classes, places) =
            (Cache::new(changed.clone()), Cache::new(changed.clone()), Cache::new(changed.clone()));
        let limits = Cache::new(changed.clone());
        let watches = [
            follow(sources.clone(), cluster.api(), None, |document: Result<&RunnerSource, String>| {
                Some(document.map(|document| document.spec.clone()))
            }),
            follow(classes.clone(), cluster.api(), None, |document: Result<&RunnerClass, String>| {
                Some(document.map(|document| document.spec.clone()))
            }),
            follow(places.clone(), cluster.api(), None, |document: Result<&RunnerPlace, String>| {
                Some(document.map(|document| document.spec.clone()))
            }),
            follow(limits.clone(), cluster.api(), None, |document: Result<&ConcurrencyLimit, String>| {
                Some(document.map(|document| document.spec.clone()))
            }),
        ];
        Self {
            cluster: cluster.clone(),
            sources,
            classes,
            places,
            limits,
            noted: Mutex::default(),
            _watches: watches,
        }
    }

    /// All documents as last seen, or `None` while not every list has been read once.
    pub(super) fn read(&self) -> Option<Arc<Documents>> {
        fn readable<V: Clone + PartialEq>(
            kind: &'static str,
            cache: &Cache<Result<V, String>>,
            unreadable: &mut Vec<Problem>,
        ) -> Option<BTreeMap<String, V>> {
            let mut documents = BTreeMap::new();
            for (name, document) in cache.all()? {
                match document {
                    Ok(spec) => drop(documents.insert(name, spec)),
                    Err(message) => {
                        unreadable.push(Problem { kind, name, message: format!("spec: {message}") })
                    }
                }
            }
            Some(documents)
        }
        let mut unreadable = Vec::new();
        Some(Arc::new(Documents {
            sources: readable("RunnerSource", &self.sources, &mut unreadable)?,
            classes: readable("RunnerClass", &self.classes, &mut unreadable)?,
            places: readable("RunnerPlace", &self.places, &mut unreadable)?,
            limits: readable("ConcurrencyLimit", &self.limits, &mut unreadable)?,
            unreadable,
        }))
    }

    /// Writes beside each document what keeps it from being used, or that nothing does.
    pub(super) async fn note_problems(&self, problems: &[Problem]) -> CallResult<()> {
        let mut wanted: HashMap<(&'static str, String), Option<String>> = HashMap::new();
        let mut all = |kind: &'static str, names: Vec<String>| {
            for name in names {
                let of_it: Vec<&str> = problems
                    .iter()
                    .filter(|problem| problem.kind == kind && problem.name == name)
                    .map(|problem| problem.message.as_str())
                    .collect();
                let text = (!of_it.is_empty()).then(|| of_it.join("; "));
                wanted.insert((kind, name), text);
            }
        };
        fn names<V: Clone + PartialEq>(cache: &Cache<V>) -> Vec<String> {
            cache.all().unwrap_or_default().into_iter().map(|(name, _)| name).collect()
        }
        all("RunnerSource", names(&self.sources));
        all("RunnerClass", names(&self.classes));
        all("RunnerPlace", names(&self.places));
        all("ConcurrencyLimit", names(&self.limits));
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|document, _| wanted.contains_key(document));
        let mut first = Ok(());
        for ((kind, name), problem) in &wanted {
            let known = self
                .noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&(*kind, name.clone()))
                .cloned();
            if known.as_ref() == Some(problem) {
                continue;
            }
            let ready = if problem.is_some() { "False" } else { "True" };
            let patch: Patch<serde_json::Value> =
                Patch::Merge(json!({"status": {"ready": ready, "problem": problem}}));
            let params = PatchParams::default();
            let result = match *kind {
                "RunnerSource" => {
                    self.cluster.api::<RunnerSource>().patch_status(name, &params, &patch).await.map(drop)
                }
                "RunnerClass" => {
                    self.cluster.api::<RunnerClass>().patch_status(name, &params, &patch).await.map(drop)
                }
                "ConcurrencyLimit" => {
                    let api = self.cluster.api::<ConcurrencyLimit>();
                    api.patch_status(name, &params, &patch).await.map(drop)
                }
                _place => {
                    self.cluster.api::<RunnerPlace>().patch_status(name, &params, &patch).await.map(drop)
                }
            };
            if let Err(error) = result {
                first = first.and(Err(call_error("write a document's status", &error)));
                continue;
            }
            self.noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((kind, name.clone()), problem.clone());
        }
        first
    }
}
