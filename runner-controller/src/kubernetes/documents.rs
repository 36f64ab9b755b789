//! Configuration documents as custom resources, and the problem that is written beside each.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use runner_core::budget::{Figures, money};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::cache::{Cache, follow};
use super::errors::call_error;
use crate::clock;
use crate::config::{
    Budget, BudgetSpec, ConcurrencyLimit, ConcurrencyLimitSpec, Documents, Problem, RunnerClass,
    RunnerClassSpec, RunnerPlace, RunnerPlaceSpec, RunnerSource, RunnerSourceSpec,
};
use crate::ports::CallResult;

/// Documents in a namespace of a cluster.
pub(super) struct DocumentsInCluster {
    cluster: Cluster,
    sources: Arc<Cache<Result<RunnerSourceSpec, String>>>,
    classes: Arc<Cache<Result<RunnerClassSpec, String>>>,
    places: Arc<Cache<Result<RunnerPlaceSpec, String>>>,
    limits: Arc<Cache<Result<ConcurrencyLimitSpec, String>>>,
    budgets: Arc<Cache<Result<BudgetSpec, String>>>,
    noted: Mutex<Noted>,
    figures: Mutex<HashMap<String, (Figures, Timestamp)>>,
    _watches: [AbortOnDropHandle<()>; 5],
}

/// What was written beside each document, by its kind and name.
type Noted = HashMap<(Says, &'static str, String), Option<String>>;

/// What is written beside a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Says {
    /// What keeps it from being used.
    Problem,
    /// What people should know although it is in use.
    Advisory,
}

impl Says {
    fn status(self, text: Option<&str>) -> serde_json::Value {
        match self {
            Says::Problem => json!({"ready": if text.is_some() { "False" } else { "True" }, "problem": text}),
            Says::Advisory => json!({ "advisory": text }),
        }
    }
}

impl DocumentsInCluster {
    /// Begins to watch.
    pub(super) fn watch(cluster: &Cluster, changed: &Arc<Notify>) -> Self {
        let (sources, classes, places) =
            (Cache::new(changed.clone()), Cache::new(changed.clone()), Cache::new(changed.clone()));
        let limits = Cache::new(changed.clone());
        let budgets = Cache::new(changed.clone());
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
            follow(budgets.clone(), cluster.api(), None, |document: Result<&Budget, String>| {
                Some(document.map(|document| document.spec.clone()))
            }),
        ];
        Self {
            cluster: cluster.clone(),
            sources,
            classes,
            places,
            limits,
            budgets,
            noted: Mutex::default(),
            figures: Mutex::default(),
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
            budgets: readable("Budget", &self.budgets, &mut unreadable)?,
            unreadable,
        }))
    }

    /// Writes beside each document what keeps it from being used, or that nothing does.
    pub(super) async fn note_problems(&self, problems: &[Problem]) -> CallResult<()> {
        self.note(Says::Problem, problems).await
    }

    /// Writes beside each document what people should know of it, or that there is nothing.
    pub(super) async fn note_advisories(&self, advisories: &[Problem]) -> CallResult<()> {
        self.note(Says::Advisory, advisories).await
    }

    async fn note(&self, says: Says, problems: &[Problem]) -> CallResult<()> {
        // In order, so that the same documents are written in the same order.
        let mut wanted: BTreeMap<(&'static str, String), Option<String>> = BTreeMap::new();
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
        all("Budget", names(&self.budgets));
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(what, kind, name), _| *what != says || wanted.contains_key(&(*kind, name.clone())));
        let mut first = Ok(());
        for ((kind, name), problem) in &wanted {
            let known = self
                .noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&(says, *kind, name.clone()))
                .cloned();
            if known.as_ref() == Some(problem) {
                continue;
            }
            let patch: Patch<serde_json::Value> =
                Patch::Merge(json!({"status": says.status(problem.as_deref())}));
            let result = match *kind {
                "RunnerSource" => self.patch_status::<RunnerSource>(name, &patch).await,
                "RunnerClass" => self.patch_status::<RunnerClass>(name, &patch).await,
                "ConcurrencyLimit" => self.patch_status::<ConcurrencyLimit>(name, &patch).await,
                "Budget" => self.patch_status::<Budget>(name, &patch).await,
                _place => self.patch_status::<RunnerPlace>(name, &patch).await,
            };
            if let Err(error) = result {
                first = first.and(Err(call_error("write a document's status", &error)));
                continue;
            }
            self.noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((says, kind, name.clone()), problem.clone());
        }
        first
    }

    /// Writes beside each budget how it stands, where that has moved enough to matter.
    pub(super) async fn note_budgets(&self, figures: &[Figures]) -> CallResult<()> {
        let now = clock::now();
        let mut first = Ok(());
        for one in figures {
            let written = self.figures().get(&one.budget).cloned();
            if !written.is_none_or(|(written, at)| has_moved(&written, one, now.duration_since(at))) {
                continue;
            }
            let patch: Patch<serde_json::Value> = Patch::Merge(json!({"status": {
                "periodStart": one.period.from.to_string(),
                "spent": one.spent.map(|spent| format!("{} {}", money(spent), one.currency)),
                "reserved": format!("{} {}", money(one.reserved), one.currency),
            }}));
            let api = self.cluster.api::<Budget>();
            match api.patch_status(&one.budget, &PatchParams::default(), &patch).await {
                Ok(_) => drop(self.figures().insert(one.budget.clone(), (one.clone(), now))),
                Err(error) => first = first.and(Err(call_error("write a budget's status", &error))),
            }
        }
        self.figures().retain(|name, _| figures.iter().any(|one| one.budget == *name));
        first
    }

    /// How far a source's hooks are swept, as its document says.
    pub(super) async fn swept(&self, source: &str) -> CallResult<BTreeMap<String, Timestamp>> {
        let read = self.cluster.api::<RunnerSource>().get(source).await;
        let document = read.map_err(|error| call_error("read a RunnerSource", &error))?;
        let swept = document.status.unwrap_or_default().swept;
        // What somebody has made unreadable is read from the source again.
        Ok(swept.into_iter().filter_map(|(hook, to)| Some((hook, to.parse().ok()?))).collect())
    }

    /// Writes how far one of them is.
    pub(super) async fn note_swept(&self, source: &str, hook: &str, to: Timestamp) -> CallResult<()> {
        let patch: Patch<serde_json::Value> =
            Patch::Merge(json!({"status": {"swept": {hook: to.to_string()}}}));
        let patched =
            self.cluster.api::<RunnerSource>().patch_status(source, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| call_error("write a RunnerSource's status", &error))
    }

    /// Writes a document's status. The answer is not read: a document that cannot be read is the one that must be told so.
    async fn patch_status<K>(&self, name: &str, patch: &Patch<serde_json::Value>) -> Result<(), kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
    {
        let api = self.cluster.api::<DeserializeGuard<K>>();
        api.patch_status(name, &PatchParams::default(), patch).await.map(drop)
    }

    fn figures(&self) -> MutexGuard<'_, HashMap<String, (Figures, Timestamp)>> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a budget stands otherwise than was written so long ago: by a hundredth of its amount at once, by anything
/// after a minute.
fn has_moved(written: &Figures, now: &Figures, since: SignedDuration) -> bool {
    if written == now {
        return false;
    }
    let hundredth = now.amount / Decimal::ONE_HUNDRED;
    let far = |before: Decimal, after: Decimal| (after - before).abs() >= hundredth;
    written.period != now.period
        || written.amount != now.amount
        || written.spent.is_some() != now.spent.is_some()
        || far(written.spent.unwrap_or_default(), now.spent.unwrap_or_default())
        || far(written.reserved, now.reserved)
        || since >= SignedDuration::from_mins(1)
}

#[cfg(test)]
mod tests {
    use runner_core::budget::{Per, Period, WhenSpent};

    use super::*;

    #[test]
    fn figures_are_written_when_they_have_moved_far_or_a_minute_ago() {
        let figures = |spent: Option<i64>, reserved: i64| Figures {
            budget: "b".to_owned(),
            per: Per::Day,
            period: Period { from: Timestamp::UNIX_EPOCH, until: Timestamp::MAX },
            spent: spent.map(Decimal::from),
            reserved: Decimal::from(reserved),
            amount: Decimal::from(1000),
            currency: "USD".to_owned(),
            alert_at: Vec::new(),
            when_spent: WhenSpent::Warn,
        };
        let before = figures(Some(100), 50);
        let check = |now: &Figures, seconds: i64, expect: bool| {
            let found = has_moved(&before, now, SignedDuration::from_secs(seconds));
            assert_eq!(found, expect, "{now:?} after {seconds} s");
        };
        check(&before, 9999, false);
        check(&figures(Some(109), 50), 1, false);
        check(&figures(Some(109), 50), 60, true);
        check(&figures(Some(110), 50), 1, true);
        check(&figures(Some(100), 40), 1, true);
        check(&figures(None, 50), 1, true);
        let next = Period { from: Timestamp::from_second(86_400).unwrap(), until: Timestamp::MAX };
        check(&Figures { period: next, ..before.clone() }, 1, true);
    }
}
