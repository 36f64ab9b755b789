//! The steps up to a running machine. Each call that cannot be repeated has its intent recorded first.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_core::billing::group_size;
use runner_core::lifecycle::{GroupFacts, Launched, Registered, RunnerFact, start_failure};
use runner_core::reason::Reason;
use runner_core::setup::PlaceKind;
use runner_core::stray::ORIGIN_LABEL;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Outcome, Outside, StepOrder, teardown_fact};
use crate::clock;
use crate::config::{ResolvedClass, ResolvedPlace};
use crate::ports::{
    CallError, CallErrorKind, CallResult, GroupOrder, INSTALLATION_TAG, PodOrder, RUNNER_TAG, Registration,
    agent,
};

impl Outside {
    /// Only what is reserved is ever started: a process that has lost the lead finds out here at the latest. A record
    /// whose reservation is gone (an older state was restored) gets it again; it has counted all the time.
    async fn reserved(&self, order: &StepOrder) -> CallResult<()> {
        if self.records.is_reserved(&order.runner.name) {
            return Ok(());
        }
        self.records.reserve(std::slice::from_ref(&order.runner.name)).await
    }

    /// Registers the runner with its source and stores what its agent needs.
    pub(super) async fn register(&self, order: &StepOrder) -> CallResult<Outcome> {
        self.reserved(order).await?;
        let runner = &order.runner;
        let provider = self.provider(&runner.job.source)?;
        let origin = self.origin().await?;
        self.records.record(&runner.name, &[RunnerFact::Registering(clock::now())]).await?;
        let whose = format!("{ORIGIN_LABEL}{origin}");
        let registration = Registration {
            scope: runner.scope.clone(),
            name: runner.name.clone(),
            // The last one asks for nothing: it tells whose the registration is.
            labels: runner.labels.iter().cloned().chain([whose]).collect(),
        };
        let credential = match provider.register(&registration).await {
            Ok(credential) => credential,
            Err(error) => {
                tracing::warn!(runner = runner.name, job = %runner.job, %error, "runner {} is not registered", runner.name);
                self.sources.note_registration_failed(&runner.job.source, &error);
                // Whoever has the name, it is not this runner's registration, and not this runner's to delete.
                let facts = match error.kind {
                    CallErrorKind::Conflict => vec![
                        teardown_fact(&Reason::NameTaken { why: error.message }),
                        RunnerFact::Deregistered(clock::now()),
                    ],
                    CallErrorKind::Unavailable
                    | CallErrorKind::Throttled(_)
                    | CallErrorKind::NotFound
                    | CallErrorKind::Refused => {
                        vec![teardown_fact(&Reason::RegistrationFailed { why: error.message })]
                    }
                };
                self.records.record(&runner.name, &facts).await?;
                return Ok(Outcome::Done);
            }
        };
        self.sources.note_registered(&runner.job.source);
        let token = new_token();
        let hash = hex::encode(Sha256::digest(token.expose_secret().as_bytes()));
        let mut files: BTreeMap<String, SecretString> = credential.files;
        if let Some(callback) = order.place.as_ref().and_then(|place| place.callback.as_ref()) {
            files.insert(agent::CALLBACK_TOKEN.to_owned(), token);
            if let Some(bundle) = &callback.ca_bundle {
                files.insert(agent::CALLBACK_CA.to_owned(), bundle.clone().into());
            }
        }
        self.records.put_credential(&runner.name, &files).await?;
        let registered = Registered { id: credential.runner_id, callback_hash: hash, at: clock::now() };
        self.records.record(&runner.name, &[RunnerFact::Registered(registered)]).await?;
        Ok(Outcome::Done)
    }

    /// Creates the runner's machine.
    pub(super) async fn launch(&self, order: &StepOrder) -> CallResult<Outcome> {
        self.reserved(order).await?;
        let runner = &order.runner;
        let (Some(class), Some(place)) = (&order.class, &order.place) else {
            let why =
                format!("class {} or place {} is no longer configured", runner.matched.class, runner.place);
            self.records.record(&runner.name, &[teardown_fact(&Reason::StartFailed { why })]).await?;
            return Ok(Outcome::Done);
        };
        if let Some(why) = self.name_is_taken(order).await {
            self.records.record(&runner.name, &[teardown_fact(&Reason::NameTaken { why })]).await?;
            return Ok(Outcome::Done);
        }
        let mut intent = vec![RunnerFact::Launching(clock::now())];
        if runner.kind.has_group() {
            // Where its group will be is recorded with the intent, so that it is found whatever becomes of the documents.
            let group = GroupFacts { id: self.address(order).id(), ..GroupFacts::default() };
            intent.push(RunnerFact::Group(group));
        }
        self.records.record(&runner.name, &intent).await?;
        match self.create_machine(order, class, place).await {
            Ok(uid) => {
                let launched = Launched { uid, at: clock::now() };
                self.records.record(&runner.name, &[RunnerFact::Launched(launched)]).await?;
                Ok(Outcome::Done)
            }
            Err(error) if matches!(error.kind, CallErrorKind::Refused | CallErrorKind::Throttled(_)) => {
                // Refused before anything was made.
                let reason = match error.kind {
                    CallErrorKind::Throttled(_) => Reason::NoCapacity { why: error.message },
                    CallErrorKind::Refused
                    | CallErrorKind::Unavailable
                    | CallErrorKind::NotFound
                    | CallErrorKind::Conflict => start_failure(error.message),
                };
                self.records.record(&runner.name, &[teardown_fact(&reason)]).await?;
                Ok(Outcome::Done)
            }
            // It may have been made all the same: `recover` looks.
            Err(error) => Err(error),
        }
    }

    /// Who has the name of the runner's container group already, if anybody does: a restored state of the records makes the
    /// same name again, and another installation of the same id may. azure-aci takes whatever has the name for the pod's own,
    /// and deletes it with the pod; so nothing is created then. Where Azure cannot be asked, it is hoped for the best.
    async fn name_is_taken(&self, order: &StepOrder) -> Option<String> {
        if !order.runner.kind.has_group() {
            return None;
        }
        match self.groups.get(&self.address(order)).await {
            Ok(found) => found.map(|group| format!("there is a container group {}", group.id)),
            Err(error) => {
                tracing::warn!(
                    runner = order.runner.name,
                    %error,
                    "whether the name of runner {} is free cannot be asked",
                    order.runner.name
                );
                None
            }
        }
    }

    async fn create_machine(
        &self,
        order: &StepOrder,
        class: &Arc<ResolvedClass>,
        place: &Arc<ResolvedPlace>,
    ) -> CallResult<String> {
        match order.runner.kind {
            PlaceKind::VirtualNode | PlaceKind::NodePool => {
                let pods = self.pods.as_ref().ok_or_else(|| no_cluster(&order.runner.place))?;
                let order = PodOrder {
                    runner: order.runner.clone(),
                    class: class.clone(),
                    place: place.clone(),
                    origin: self.origin().await?.to_owned(),
                };
                pods.create(&order).await
            }
            PlaceKind::ContainerInstances => {
                let address = self.address(order);
                let group = self.group_order(order, class, place).await?;
                self.groups.create(&address, &group).await?;
                self.group_machines.note_created(&order.runner.name, &address.id());
                Ok(address.id())
            }
        }
    }

    async fn group_order(
        &self,
        order: &StepOrder,
        class: &ResolvedClass,
        place: &ResolvedPlace,
    ) -> CallResult<GroupOrder> {
        let runner = &order.runner;
        if !class.image_pull_secrets.is_empty() || class.pod_template.is_some() {
            return Err(CallError::new(
                CallErrorKind::Refused,
                format!(
                    "class {}: imagePullSecrets and podTemplate need a cluster; place {} has none",
                    class.name, place.place.name
                ),
            ));
        }
        Ok(GroupOrder {
            region: place.region.clone(),
            tags: BTreeMap::from([
                (INSTALLATION_TAG.to_owned(), self.installation.id.clone()),
                (RUNNER_TAG.to_owned(), runner.name.clone()),
            ]),
            image: class.image.clone(),
            size: group_size(runner.size),
            env: agent::environment(runner, self.origin().await?, place.callback.as_ref()),
            files: self.records.credential(&runner.name).await?,
            mount_path: agent::DIRECTORY.to_owned(),
            registries: Vec::new(),
        })
    }

    /// Looks whether a machine exists that was about to be created when a call failed or the process ended.
    pub(super) async fn recover(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        let found = match runner.kind {
            PlaceKind::VirtualNode | PlaceKind::NodePool => {
                let pods = self.pods.as_ref().ok_or_else(|| no_cluster(&runner.place))?;
                pods.find(runner).await?
            }
            PlaceKind::ContainerInstances => {
                let address = self.address(order);
                let group = self.groups.get(&address).await?;
                group.is_some().then(|| address.id())
            }
        };
        let fact = match found {
            Some(uid) => {
                self.group_machines.note_created(&runner.name, &uid);
                RunnerFact::Launched(Launched { uid, at: clock::now() })
            }
            None => teardown_fact(&Reason::Interrupted { call: "created its machine".to_owned() }),
        };
        self.records.record(&runner.name, &[fact]).await?;
        Ok(Outcome::Done)
    }
}

fn no_cluster(place: &str) -> CallError {
    CallError::new(
        CallErrorKind::Refused,
        format!("the runners of place {place} are pods, which need a cluster"),
    )
}

/// 256 random bits, in hexadecimal.
fn new_token() -> SecretString {
    let bytes: [u8; 32] = rand::random();
    hex::encode(bytes).into()
}
