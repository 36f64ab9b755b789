//! The steps from a runner's end until nothing of it is left and its bill is written.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::admission::Purpose;
use runner_core::billing;
use runner_core::job::JobState;
use runner_core::lifecycle::{GroupFacts, Launched, RunnerFact};
use runner_core::reason::Reason;
use runner_core::setup::{PlaceKind, Price};

use super::{Outcome, Outside, StepOrder, teardown_fact};
use crate::clock;
use crate::config::pod_template::CONTAINER;
use crate::ports::{CallResult, Deregistered, Group, GroupAddress, KeptLogs, LedgerRow};

/// How long the last reading waits for Azure to show that the container has stopped.
const LAST_READING: Duration = Duration::from_secs(2);
/// Pause between two readings meanwhile.
const READING_PAUSE: Duration = Duration::from_millis(200);
/// Without any reading for so long, the group is deleted all the same, and its bill is estimated.
const CAPTURE_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// Without a deletion under way in Azure for so long, Stint sends its own.
const OWN_DELETE_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// Pause between two looks whether the group is gone.
const GONE_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a deletion of Stint's own.
const OWN_DELETE_PAUSE: Duration = Duration::from_secs(30);
/// A deletion usually takes no longer than this; after it, the group is looked at less often.
const GONE_SOON: SignedDuration = SignedDuration::from_secs(20);
/// How long after its pod's deletion a group that was never seen may still appear.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_secs(20);
/// Tag in which azure-aci keeps the pod's UID.
const UID_TAG: &str = "UID";

impl Outside {
    /// Reads the group's times, and after the runner's end its last logs, while the group is still there.
    pub(super) async fn capture(&self, order: &StepOrder, last: bool) -> CallResult<Outcome> {
        let runner = &order.runner;
        if !runner.kind.has_group() {
            self.record(order, &[RunnerFact::Captured(clock::now())]).await?;
            return Ok(Outcome::Done);
        }
        let address = self.address(order);
        let reading = if last {
            self.read_until_stopped(order, &address).await
        } else {
            self.own_group(order, &address).await
        };
        let group = match reading {
            Ok(group) => group,
            Err(error) if last && self.overdue(order) => {
                tracing::warn!(runner = runner.name, %error, "group {} cannot be read before its deletion", address.name);
                None
            }
            Err(error) => return Err(error),
        };
        if !last && group.is_none() && !order.runs {
            return Ok(Outcome::Again(GONE_PAUSE * 5));
        }
        if !last && group.is_none() {
            tracing::warn!(
                runner = runner.name,
                group = address.name,
                "runner {} runs, yet there is no group {}: do --azure-subscription and --azure-resource-group name \
                 where the virtual node creates its groups?",
                runner.name,
                address.id()
            );
            return Ok(Outcome::Again(GONE_PAUSE * 5));
        }
        let mut facts = Vec::new();
        if let Some(group) = &group {
            facts.push(RunnerFact::Group(as_read(group)));
            // Its agent can have ended before anybody looked what became of an interrupted launch. The bill is kept by this UID.
            if let (None, Some(uid)) = (&runner.facts.launched, machine_uid(runner.kind, group)) {
                facts.push(RunnerFact::Launched(Launched { uid, at: clock::now() }));
            }
        }
        if last {
            if group.is_some() {
                self.keep_logs(order, &address).await;
            }
            facts.push(RunnerFact::Captured(clock::now()));
        }
        self.record(order, &facts).await?;
        Ok(Outcome::Done)
    }

    /// Reads the group until its container shows as stopped, for a bounded time: it is about to.
    async fn read_until_stopped(
        &self,
        order: &StepOrder,
        address: &GroupAddress,
    ) -> CallResult<Option<Group>> {
        let ended = Reason::ContainerEnded.code();
        let ends = order.runner.facts.agent.exiting.is_some()
            || order.because.as_ref().is_some_and(|reason| reason.code() == ended)
            || order.runner.facts.teardown.as_ref().is_some_and(|teardown| teardown.code == ended);
        let deadline = tokio::time::Instant::now() + LAST_READING;
        loop {
            let group = self.own_group(order, address).await?;
            let stopped = group.as_ref().is_none_or(|group| group.stopped.is_some());
            if stopped || !ends || tokio::time::Instant::now() >= deadline {
                return Ok(group);
            }
            tokio::time::sleep(READING_PAUSE).await;
        }
    }

    /// The runner's group, if the group of that name is its own.
    async fn own_group(&self, order: &StepOrder, address: &GroupAddress) -> CallResult<Option<Group>> {
        let Some(group) = self.groups.get(address).await? else { return Ok(None) };
        if order.runner.kind == PlaceKind::ContainerInstances {
            return Ok(Some(group));
        }
        let uid = order.runner.facts.launched.as_ref().map(|launched| launched.uid.as_str());
        match (group.tags.get(UID_TAG).map(String::as_str), uid) {
            (Some(tag), Some(uid)) if tag != uid => {
                tracing::error!(
                    runner = order.runner.name,
                    group = address.name,
                    "group {} is tagged with the UID of another pod; it is left alone",
                    address.name
                );
                Ok(None)
            }
            _ => Ok(Some(group)),
        }
    }

    fn overdue(&self, order: &StepOrder) -> bool {
        order.ending_since().is_some_and(|since| passed(since, CAPTURE_WITHIN))
    }

    async fn keep_logs(&self, order: &StepOrder, address: &GroupAddress) {
        let runner = &order.runner;
        // What the agent sent says more than the 16 KB that Azure keeps of a stopped container.
        if runner.facts.agent.exiting.is_some()
            && self.ledger.logs(&runner.name).await.is_ok_and(|kept| !kept.is_empty())
        {
            return;
        }
        let text = match self.groups.logs(address, CONTAINER).await {
            Ok(text) if text.is_empty() => return,
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(runner = runner.name, %error, "the last logs of {} cannot be read", runner.name);
                return;
            }
        };
        let logs = KeptLogs {
            runner: runner.name.clone(),
            job: runner.job.clone(),
            kept_at: clock::now(),
            origin: "arm".to_owned(),
            text: crate::telemetry::redact::shapes(&text),
        };
        if let Err(error) = self.ledger.keep_logs(&logs).await {
            tracing::warn!(runner = runner.name, %error, "the last logs of {} cannot be kept", runner.name);
        }
    }

    /// Deletes the runner's machine and its credential.
    pub(super) async fn delete_machine(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        match runner.kind {
            PlaceKind::VirtualNode | PlaceKind::NodePool => {
                if let Some(pods) = &self.pods {
                    pods.delete(runner).await?;
                }
            }
            PlaceKind::ContainerInstances => self.groups.delete(&self.address(order)).await?,
        }
        self.records.delete_credential(&runner.name).await?;
        self.record(order, &[RunnerFact::Deleting(clock::now())]).await?;
        Ok(Outcome::Done)
    }

    /// Asks whether the pod of a runner without a group is gone: its node says so by letting the object go.
    async fn confirm_pod_gone(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        let found = match &self.pods {
            Some(pods) => pods.find(runner).await?,
            None => None,
        };
        let own = runner.facts.launched.as_ref().map(|launched| launched.uid.as_str());
        let asked = runner.facts.deleting.unwrap_or(runner.created_at);
        if own.is_none() {
            // A creation whose answer was lost may take effect after the deletion.
            match (&found, &self.pods) {
                (Some(_), Some(pods)) => pods.delete(runner).await?,
                (Some(_), None) => {}
                (None, _) if !passed(asked, SETTLED_AFTER) => return Ok(Outcome::Again(GONE_PAUSE * 2)),
                (None, _) => {}
            }
        }
        if found.as_deref().is_some_and(|uid| own.is_none_or(|own| own == uid)) {
            let long = passed(asked, GONE_SOON);
            return Ok(Outcome::Again(if long { GONE_PAUSE * 5 } else { GONE_PAUSE }));
        }
        self.record(order, &[RunnerFact::Gone(clock::now())]).await?;
        Ok(Outcome::Done)
    }

    /// Asks Azure whether the group is gone, and deletes it where nothing else does.
    pub(super) async fn confirm_gone(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        if !runner.kind.has_group() {
            return self.confirm_pod_gone(order).await;
        }
        let address = self.address(order);
        let Some(group) = self.own_group(order, &address).await? else {
            if self.may_still_come(order) {
                return Ok(Outcome::Again(GONE_PAUSE * 2));
            }
            self.record(order, &[RunnerFact::Gone(clock::now())]).await?;
            let ended =
                runner.facts.agent.exiting.or(runner.facts.group.as_ref().and_then(|group| group.stopped));
            if let Some(took) = ended.and_then(|at| Duration::try_from(clock::now().duration_since(at)).ok())
            {
                self.metrics.torn_down(took);
            }
            return Ok(Outcome::Done);
        };
        let asked = runner.facts.deleting.unwrap_or(runner.created_at);
        if group.provisioning_state != "Deleting" && passed(asked, OWN_DELETE_AFTER) {
            tracing::warn!(
                runner = runner.name,
                group = address.name,
                state = group.provisioning_state,
                "nothing deletes group {}; Stint does",
                address.name
            );
            self.groups.delete(&address).await?;
            // Deletions count against a quota of Azure's: not one a second.
            return Ok(Outcome::Again(OWN_DELETE_PAUSE));
        }
        let long = passed(asked, GONE_SOON);
        Ok(Outcome::Again(if long { GONE_PAUSE * 5 } else { GONE_PAUSE }))
    }

    /// Whether a group that nobody ever saw may still be created: azure-aci may have been about to when its pod was
    /// deleted, so that a single 404 does not yet say that there is none.
    fn may_still_come(&self, order: &StepOrder) -> bool {
        let facts = &order.runner.facts;
        let seen =
            facts.group.as_ref().is_some_and(|group| group.seen_at.is_some()) || facts.agent.booted.is_some();
        let asked = facts.deleting.unwrap_or(order.runner.created_at);
        order.runner.kind == PlaceKind::VirtualNode && !seen && !passed(asked, SETTLED_AFTER)
    }

    /// Commits the runner's ledger row.
    pub(super) async fn bill(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        let price = order.place.as_ref().map_or_else(Price::default, |place| place.place.price.clone());
        let group = if runner.kind.has_group() { self.address(order).id() } else { String::new() };
        if let Some(bill) = billing::bill(runner, &group, &price) {
            let about = order.ran.as_ref().or(order.own.as_ref());
            let conclusion = order.ran.as_ref().and_then(|job| match job.state() {
                JobState::Ended { conclusion, .. } => conclusion,
                JobState::Queued { .. } | JobState::Waiting | JobState::Running { .. } => None,
            });
            let purpose = Purpose::of_runner(runner, order.own.as_ref());
            let row = LedgerRow {
                machine_uid: runner
                    .facts
                    .launched
                    .as_ref()
                    .map(|launched| launched.uid.clone())
                    .unwrap_or_default(),
                runner: runner.name.clone(),
                started_for: runner.job.clone(),
                for_owner: purpose.owner.to_owned(),
                for_repository: purpose.repository.to_owned(),
                for_workflow: purpose.workflow.to_owned(),
                for_class: purpose.matched.class.clone(),
                job: order.ran.as_ref().map(|job| job.key.clone()),
                repository: about.map(|job| job.description.repository.clone()).unwrap_or_default(),
                job_name: about.map(|job| job.description.name.clone()).unwrap_or_default(),
                class: runner.matched.label(),
                place: runner.place.clone(),
                ended_because: runner
                    .facts
                    .teardown
                    .as_ref()
                    .map(|teardown| teardown.code.clone())
                    .unwrap_or_default(),
                conclusion,
                bill,
            };
            let new = self.ledger.commit(&row).await?;
            self.spending.catch_up(&*self.ledger).await;
            if new {
                let LedgerRow { class, place, bill, .. } = &row;
                self.metrics.billed(class, place, bill.seconds, bill.amount, &bill.currency);
                tracing::info!(
                    runner = runner.name,
                    job = %runner.job,
                    seconds = row.bill.seconds,
                    amount = %row.bill.amount,
                    "runner {} is billed: {} s, {} {}",
                    runner.name,
                    row.bill.seconds,
                    row.bill.amount,
                    row.bill.currency
                );
            }
        }
        self.record(order, &[RunnerFact::Billed(clock::now())]).await?;
        Ok(Outcome::Done)
    }

    /// Deletes the runner's registration; where its source says that it is busy, the runner stays.
    pub(super) async fn deregister(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        if !self.sources.is_configured(&runner.job.source)
            && (runner.ending() || !self.still_runs(order).await?)
        {
            // Nobody can be asked any more, and nothing of it runs.
            tracing::warn!(
                runner = runner.name,
                source = runner.job.source,
                "source {} is no longer configured; the registration of {} is left to it",
                runner.job.source,
                runner.name
            );
            let mut facts = vec![RunnerFact::Deregistered(clock::now())];
            facts.extend(order.because.as_ref().map(teardown_fact));
            self.record(order, &facts).await?;
            return Ok(Outcome::Done);
        }
        let provider = self.provider(&runner.job.source)?;
        let id = runner.facts.registered.as_ref().map(|registered| registered.id);
        match provider.deregister(&runner.scope, &runner.name, id).await? {
            Deregistered::Gone => {
                let mut facts = vec![RunnerFact::Deregistered(clock::now())];
                facts.extend(order.because.as_ref().map(teardown_fact));
                self.record(order, &facts).await?;
                Ok(Outcome::Done)
            }
            Deregistered::Busy => {
                tracing::info!(runner = runner.name, "runner {} is busy and stays", runner.name);
                self.records.record(&runner.name, &[RunnerFact::BusySeen(clock::now())]).await?;
                Ok(Outcome::Done)
            }
        }
    }

    /// Whether anything of a runner runs, as whoever runs it says: a job may be on it.
    async fn still_runs(&self, order: &StepOrder) -> CallResult<bool> {
        let runner = &order.runner;
        if runner.kind.has_group() {
            let group = self.own_group(order, &self.address(order)).await?;
            return Ok(group.is_some_and(|group| group.stopped.is_none()));
        }
        match &self.pods {
            Some(pods) => Ok(pods.find(runner).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Lets the runner's record go. Its reservation follows in the next pass.
    pub(super) async fn release(&self, order: &StepOrder) -> CallResult<Outcome> {
        let runner = &order.runner;
        self.records.delete_credential(&runner.name).await?;
        self.records.release(&runner.name).await?;
        tracing::info!(runner = runner.name, job = %runner.job, "runner {} is gone", runner.name);
        Ok(Outcome::Done)
    }
}

/// What a group shows now. What an earlier reading showed and this one does not stays known: facts merge so.
fn as_read(group: &Group) -> GroupFacts {
    GroupFacts {
        id: group.id.clone(),
        pull_started: group.pull_started,
        started: group.started,
        stopped: group.stopped,
        seen_at: Some(clock::now()),
        failed: (group.provisioning_state == "Failed").then(|| {
            group.message.clone().unwrap_or_else(|| "Azure could not provision the group".to_owned())
        }),
    }
}

/// The UID of the machine behind a group, as the group itself tells it.
fn machine_uid(kind: PlaceKind, group: &Group) -> Option<String> {
    match kind {
        PlaceKind::ContainerInstances => Some(group.id.clone()),
        PlaceKind::VirtualNode | PlaceKind::NodePool => group.tags.get(UID_TAG).cloned(),
    }
}

fn passed(since: Timestamp, allowed: SignedDuration) -> bool {
    clock::now().duration_since(since) >= allowed
}
