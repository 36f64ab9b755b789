//! The steps from a runner's end until nothing of it is left and its bill is written.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::lifecycle::{GroupFacts, Launched, RunnerFact};
use runner_core::reason::Reason;
use runner_core::setup::PlaceKind;
use runner_core::stray::Mark;

use super::{Outcome, Outside, StepOrder, teardown_fact};
use crate::clock;
use crate::config::pod_template::CONTAINER;
use crate::ports::{CallResult, Group, GroupAddress, KeptLogs};

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
/// A deletion that takes longer than this is told to people.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(5);
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
            let group = self.groups.get(&address).await?;
            if let Some(group) = &group
                && let Some(why) = self.another_owner(order, group).await?
            {
                // Its pod stands for another one's container, in which no agent of this runner's ever starts.
                self.record(order, &[teardown_fact(&Reason::NameTaken { why })]).await?;
                return Ok(Outcome::Done);
            }
            Ok(group)
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
    pub(super) async fn own_group(
        &self,
        order: &StepOrder,
        address: &GroupAddress,
    ) -> CallResult<Option<Group>> {
        let Some(group) = self.groups.get(address).await? else { return Ok(None) };
        if let Some(why) = self.another_owner(order, &group).await? {
            tracing::error!(runner = order.runner.name, group = address.name, "{why}; it is left alone");
            return Ok(None);
        }
        Ok(Some(group))
    }

    /// Whose group it is, if it is not the runner's: tags and environment say so, since a name can be had twice.
    async fn another_owner(&self, order: &StepOrder, group: &Group) -> CallResult<Option<String>> {
        let uid = order.runner.facts.launched.as_ref().map(|launched| launched.uid.as_str());
        // Asked only where there is a mark to compare with: what is to be torn down does not wait for the origin.
        if let Some(origin) = Mark::origin_of(&group.env) {
            match self.origin().await {
                Ok(own) if origin != own => {
                    let why = format!(
                        "group {} is another installation's, of origin {origin}; this one is {own}",
                        group.name
                    );
                    return Ok(Some(why));
                }
                Ok(_) => {}
                // Its name was asked for before it was made, and the answer to that is on record.
                Err(error) if uid.is_some() => {
                    tracing::warn!(
                        runner = order.runner.name,
                        group = group.name,
                        %error,
                        "whose mark group {} bears cannot be told; its UID decides: {error}",
                        group.name
                    );
                }
                Err(error) => return Err(error),
            }
        }
        let tag = group.tags.get(UID_TAG).map(String::as_str);
        let another =
            order.runner.kind == PlaceKind::VirtualNode && tag.zip(uid).is_some_and(|(tag, uid)| tag != uid);
        Ok(another.then(|| format!("group {} is tagged with the UID of another pod", group.name)))
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
        if runner.facts.stuck.is_none() && passed(asked, STUCK_AFTER) {
            tracing::error!(
                runner = runner.name,
                group = group.id,
                state = group.provisioning_state,
                "group {} is still there {} minutes after its deletion was asked for; it goes on being asked for, and the \
                 runner counts and is not billed until the group is gone",
                address.name,
                STUCK_AFTER.as_mins()
            );
            self.record(order, &[RunnerFact::Stuck(clock::now())]).await?;
        }
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

    /// Whether a group that nobody saw running may still come: azure-aci may have been about to create it when its pod was
    /// deleted, and groups that are deleted while they are provisioned have been shown again, running (azure-aci#378). So a
    /// single 404 does not yet say that there is none.
    fn may_still_come(&self, order: &StepOrder) -> bool {
        let facts = &order.runner.facts;
        let ran =
            facts.group.as_ref().is_some_and(|group| group.started.is_some() || group.stopped.is_some())
                || facts.agent.booted.is_some();
        let asked = facts.deleting.unwrap_or(order.runner.created_at);
        !ran && !passed(asked, SETTLED_AFTER)
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
pub fn as_read(group: &Group) -> GroupFacts {
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
