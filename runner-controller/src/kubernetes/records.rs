//! Records and documents as custom resources of one namespace.
//!
//! Facts of jobs and runners are written by JSON merge patch of the fields they set, so that two writers of different
//! facts never overwrite each other. Reservations are replaced whole, by compare-and-swap on the resource version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use runner_core::budget::Figures;
use runner_core::job::{Finding, JobKey, JobReport, READ_PREFIX, Standing, Told};
use runner_core::lifecycle::{Runner as CoreRunner, RunnerFact};
use runner_core::plan::NewRunner;
use runner_core::quota::Past;
use runner_core::reason::Reason;
use runner_core::stray::Foundling;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::announcer::Announcer;
use super::cache::{Cache, follow, version_of};
use super::documents::DocumentsInCluster;
use super::errors::{call_error, delete};
use super::reservations::Reservations;
use super::seen::{SeenJob, SeenRunner};
use super::{Cluster, INSTALLATION_LABEL, found};
use crate::clock;
use crate::config::{Documents, Problem, Runner, RunnerJob, conditions, convert};
use crate::ports::{CallError, CallErrorKind, CallResult, Observed, Records, Stored};

/// Records and documents in a namespace of a cluster.
pub struct KubernetesRecords {
    pub(super) cluster: Cluster,
    jobs: Arc<Cache<SeenJob>>,
    pub(super) runners: Arc<Cache<SeenRunner>>,
    documents: DocumentsInCluster,
    reservations: Reservations,
    announcer: Announcer,
    changed: Arc<Notify>,
    most_jobs: usize,
    _watches: Vec<AbortOnDropHandle<()>>,
}

impl KubernetesRecords {
    /// Begins to watch. `most_jobs`: no new job is stored beyond this number.
    pub fn watch(cluster: Cluster, most_jobs: usize) -> Self {
        let changed = Arc::new(Notify::new());
        let (jobs, runners) = (Cache::new(changed.clone()), Cache::new(changed.clone()));
        let watches = vec![
            follow(jobs.clone(), cluster.api(), None, |job: Result<&RunnerJob, String>| {
                job.ok().map(SeenJob::of)
            }),
            follow(runners.clone(), cluster.api(), None, |runner: Result<&Runner, String>| {
                runner.ok().map(SeenRunner::of)
            }),
        ];
        Self {
            jobs,
            runners,
            documents: DocumentsInCluster::watch(&cluster, &changed),
            reservations: Reservations::of(&cluster),
            announcer: Announcer::start(&cluster),
            cluster,
            changed,
            most_jobs,
            _watches: watches,
        }
    }

    async fn create_job(&self, name: &str, told: &Told) -> CallResult<Option<RunnerJob>> {
        if self.jobs.len() >= self.most_jobs {
            return Err(CallError::new(
                CallErrorKind::Refused,
                format!(
                    "{} jobs are stored, which is the most that --max-stored-jobs allows",
                    self.most_jobs
                ),
            ));
        }
        let mut record = RunnerJob::new(name, convert::job_spec(told));
        record.metadata.labels =
            Some(BTreeMap::from([(INSTALLATION_LABEL.to_owned(), self.cluster.installation.clone())]));
        match self.cluster.api::<RunnerJob>().create(&PostParams::default(), &record).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) => {
                let error = call_error("create RunnerJob", &error);
                if error.kind == CallErrorKind::Conflict { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn patch_job_status(&self, job: &JobKey, status: serde_json::Value) -> CallResult<()> {
        let name = job.to_string();
        let patch = Patch::Merge(json!({ "status": status }));
        let stored = self
            .cluster
            .api::<RunnerJob>()
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .map_err(|error| call_error("write a RunnerJob's status", &error))?;
        self.jobs.apply(&name, version_of(&stored), SeenJob::of(&stored));
        Ok(())
    }
}

#[async_trait]
impl Records for KubernetesRecords {
    fn observe(&self) -> Option<Observed> {
        Some(Observed {
            jobs: self.jobs.all()?.into_iter().map(|(_, seen)| seen.job).collect(),
            runners: self.runners.all()?.into_iter().map(|(_, seen)| seen.runner).collect(),
            reserved: self.reservations.all(),
        })
    }

    fn remembered(&self) -> Past {
        self.reservations.remembered()
    }

    fn remember(&self, past: &Past) {
        self.reservations.remember(past);
    }

    fn documents(&self) -> Option<Arc<Documents>> {
        self.documents.read()
    }

    fn runner(&self, name: &str) -> Option<CoreRunner> {
        self.runners.get(name).map(|seen| seen.runner)
    }

    fn knows_job(&self, key: &JobKey) -> bool {
        self.jobs.get(&key.to_string()).is_some()
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn ledger_in_use(&self) -> CallResult<Option<String>> {
        self.reservations.ledger_in_use().await
    }

    async fn take_over(&self, holder: &str, ledger: &str, adopt: bool) -> CallResult<()> {
        self.reservations.take_over(holder, ledger, adopt).await
    }

    async fn tell(&self, told: &Told) -> CallResult<Stored> {
        let name = told.key.to_string();
        let (id, fact) = convert::fact_record(&told.fact);
        let known = self.jobs.get(&name).map(|seen| seen.job);
        let told_before = known.as_ref().is_some_and(|job| job.facts.iter().any(|known| known.id == id));
        if told_before {
            return Ok(Stored::Known);
        }
        if known.is_none()
            && let Some(stored) = self.create_job(&name, told).await?
        {
            self.jobs.apply(&name, version_of(&stored), SeenJob::of(&stored));
            return Ok(Stored::NewJob);
        }
        let mut facts = serde_json::Map::new();
        // Of readings that say the same, the first and the last are enough.
        let mut alike: Vec<_> = known
            .iter()
            .flat_map(|job| &job.facts)
            .filter(|known| known.id.starts_with(READ_PREFIX) && id.starts_with(READ_PREFIX))
            .filter(|known| known.action == told.fact.action)
            .collect();
        alike.sort_by_key(|known| known.heard_at);
        facts.extend(alike.into_iter().skip(1).map(|known| (known.id.clone(), serde_json::Value::Null)));
        let value = serde_json::to_value(&fact)
            .map_err(|error| CallError::new(CallErrorKind::Refused, format!("fact {id}: {error}")))?;
        facts.insert(id, value);
        let patch = Patch::Merge(json!({"spec": {"facts": facts}}));
        let stored = self
            .cluster
            .api::<RunnerJob>()
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .map_err(|error| call_error("add a fact to a RunnerJob", &error))?;
        self.jobs.apply(&name, version_of(&stored), SeenJob::of(&stored));
        Ok(Stored::Added)
    }

    fn announce(&self, job: &JobKey, standing: Standing, reason: &Reason) {
        let name = job.to_string();
        if let Some(seen) = self.jobs.get(&name) {
            self.announcer.announce(&name, &seen.uid, standing, reason);
        }
    }

    async fn report(&self, job: &JobKey, report: &JobReport) -> CallResult<()> {
        let known = self.jobs.get(&job.to_string()).and_then(|seen| seen.admitted);
        let mut status = convert::report_patch(report);
        let conditions = conditions::of(report, known, clock::now());
        if let (Some(fields), Ok(conditions)) = (status.as_object_mut(), serde_json::to_value(conditions)) {
            fields.insert("conditions".to_owned(), conditions);
        }
        self.patch_job_status(job, status).await
    }

    async fn note(&self, job: &JobKey, finding: &Finding) -> CallResult<()> {
        if let Some(known) = self.jobs.get(&job.to_string()) {
            let mut after = known.job.found.clone();
            after.add(finding.clone());
            if after == known.job.found {
                return Ok(());
            }
        }
        match self.patch_job_status(job, convert::finding_patch(finding)).await {
            Err(error) if error.kind == CallErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    async fn expire(&self, job: &JobKey) -> CallResult<()> {
        let name = job.to_string();
        delete(&self.cluster.api::<RunnerJob>(), &name, &DeleteParams::background()).await?;
        self.jobs.delete(&name, None);
        Ok(())
    }

    async fn reserve(&self, runners: &[String]) -> CallResult<()> {
        self.reservations.swap(|reserved| reserved.extend(runners.iter().cloned())).await
    }

    fn is_reserved(&self, runner: &str) -> bool {
        self.reservations.holds(runner)
    }

    async fn unreserve(&self, runners: &[String]) -> CallResult<()> {
        self.reservations
            .swap(|reserved| {
                for name in runners {
                    reserved.remove(name);
                }
            })
            .await
    }

    async fn create_runner(&self, new: &NewRunner, at: Timestamp) -> CallResult<()> {
        self.write_runner(&new.name, convert::runner_spec(new, at)).await
    }

    async fn adopt(&self, foundling: &Foundling) -> CallResult<()> {
        self.write_found(foundling).await
    }

    async fn credentials(&self) -> CallResult<Vec<String>> {
        found::credentials(&self.cluster).await
    }

    async fn identity(&self) -> CallResult<String> {
        found::identity(&self.cluster).await
    }

    async fn record(&self, runner: &str, facts: &[RunnerFact]) -> CallResult<()> {
        let Some(known) = self.runners.get(runner) else {
            return Err(CallError::new(CallErrorKind::NotFound, format!("there is no Runner {runner}")));
        };
        let change = convert::status_patch(&known.runner.facts, facts)
            .map_err(|error| CallError::new(CallErrorKind::Refused, format!("Runner {runner}: {error}")))?;
        let Some(change) = change else { return Ok(()) };
        let mut patch = json!({"status": change});
        // An intent is compared and swapped: of two processes that both hold themselves to be the one that acts, one
        // makes the call.
        let intent =
            |fact: &RunnerFact| matches!(fact, RunnerFact::Registering(_) | RunnerFact::Launching(_));
        if facts.iter().any(intent)
            && let Some(patch) = patch.as_object_mut()
        {
            patch.insert("metadata".to_owned(), json!({"resourceVersion": known.version}));
        }
        let patch = Patch::Merge(patch);
        let stored = self
            .cluster
            .api::<Runner>()
            .patch_status(runner, &PatchParams::default(), &patch)
            .await
            .map_err(|error| call_error("write a Runner's status", &error))?;
        self.runners.apply(runner, version_of(&stored), SeenRunner::of(&stored));
        Ok(())
    }

    async fn put_credential(&self, runner: &str, files: &BTreeMap<String, SecretString>) -> CallResult<()> {
        let Some(owner) = self.runners.get(runner) else {
            return Err(CallError::new(CallErrorKind::NotFound, format!("there is no Runner {runner}")));
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(runner.to_owned()),
                labels: Some(self.cluster.labels(runner)),
                owner_references: Some(vec![OwnerReference {
                    api_version: Runner::api_version(&()).into_owned(),
                    kind: Runner::kind(&()).into_owned(),
                    name: runner.to_owned(),
                    uid: owner.uid,
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            string_data: Some(
                files.iter().map(|(file, text)| (file.clone(), text.expose_secret().to_owned())).collect(),
            ),
            ..Secret::default()
        };
        self.cluster
            .api::<Secret>()
            .create(&PostParams::default(), &secret)
            .await
            .map_err(|error| call_error("create a runner's Secret", &error))?;
        Ok(())
    }

    async fn delete_credential(&self, runner: &str) -> CallResult<()> {
        delete(&self.cluster.api::<Secret>(), runner, &DeleteParams::background()).await
    }

    async fn credential(&self, runner: &str) -> CallResult<BTreeMap<String, SecretString>> {
        self.secret(runner).await.map(|values| values.into_iter().collect())
    }

    async fn release(&self, runner: &str) -> CallResult<()> {
        let Some(known) = self.runners.get(runner) else { return Ok(()) };
        let api = self.cluster.api::<Runner>();
        let preconditions = Preconditions { uid: Some(known.uid), ..Preconditions::default() };
        delete(
            &api,
            runner,
            &DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() },
        )
        .await?;
        // Deleted by now, if not for the finalizer, which therefore goes last: as long as the record shows, its
        // registrations and groups are looked after.
        let patch: Patch<serde_json::Value> = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let version = match api.patch(runner, &PatchParams::default(), &patch).await {
            Ok(last) => Some(version_of(&last)),
            Err(error) => {
                let error = call_error("drop a Runner's finalizer", &error);
                if error.kind != CallErrorKind::NotFound {
                    return Err(error);
                }
                None
            }
        };
        self.runners.delete(runner, version);
        Ok(())
    }

    async fn secret(&self, name: &str) -> CallResult<HashMap<String, SecretString>> {
        let secret = self
            .cluster
            .api::<Secret>()
            .get(name)
            .await
            .map_err(|error| call_error(&format!("read Secret {name}"), &error))?;
        let mut values = HashMap::new();
        for (key, bytes) in secret.data.unwrap_or_default() {
            if let Ok(text) = String::from_utf8(bytes.0) {
                values.insert(key, SecretString::from(text));
            }
        }
        Ok(values)
    }

    async fn note_problems(&self, problems: &[Problem]) -> CallResult<()> {
        self.documents.note_problems(problems).await
    }

    async fn swept(&self, source: &str) -> CallResult<BTreeMap<String, Timestamp>> {
        self.documents.swept(source).await
    }

    async fn note_swept(&self, source: &str, hook: &str, to: Timestamp) -> CallResult<()> {
        self.documents.note_swept(source, hook, to).await
    }

    async fn note_advisories(&self, advisories: &[Problem]) -> CallResult<()> {
        self.documents.note_advisories(advisories).await
    }

    async fn note_budgets(&self, figures: &[Figures]) -> CallResult<()> {
        self.documents.note_budgets(figures).await
    }
}
