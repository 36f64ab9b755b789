//! Subscriptions of service hooks, their notifications, and what becomes of a subscription whose receiver fails.
//!
//! As Microsoft describes: 408, 502, 503 and 504 are tried again up to eight times; 410 disables at once; any other error, and
//! a transient one that does not pass, puts the subscription on probation. Then the failed notification alone is tried
//! again, and every new event is lost, until one attempt succeeds or the last one has failed, which disables it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use emulator_common::ids::guid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::events::Event;
use crate::options::Options;
use crate::payload::time;

/// The newest notifications that are kept; older ones that are completed are forgotten.
const KEPT: usize = 20_000;

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookStatus {
    /// It hears events.
    Enabled,
    /// Its receiver has failed: new events are lost.
    OnProbation,
    /// Someone has switched it off.
    DisabledByUser,
    /// Its receiver has failed for too long, or said 410.
    DisabledBySystem,
}

/// A subscription to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionSpec {
    /// The publisher; only `pipelines` has events here.
    pub publisher_id: String,
    /// What it hears.
    pub event_type: String,
    /// The version of the events' resource; absent: the newest.
    #[serde(default)]
    pub resource_version: Option<String>,
    /// Who is told; only `webHooks` is known here.
    pub consumer_id: String,
    /// How; only `httpRequest` is known here.
    pub consumer_action_id: String,
    /// Which events: `projectId`, `pipelineId`, `stageNameId`, and for jobs, stages and runs `…StateId` and `…ResultId`.
    #[serde(default)]
    pub publisher_inputs: BTreeMap<String, String>,
    /// Where to: `url`, `httpHeaders`, `basicAuthUsername`, `basicAuthPassword`, `resourceDetailsToSend` and the like.
    #[serde(default)]
    pub consumer_inputs: BTreeMap<String, String>,
}

impl SubscriptionSpec {
    /// A subscription to `event_type` of all projects, sent to `url`.
    pub fn webhook(event_type: &str, url: &str) -> Self {
        Self {
            publisher_id: "pipelines".to_owned(),
            event_type: event_type.to_owned(),
            consumer_id: "webHooks".to_owned(),
            consumer_action_id: "httpRequest".to_owned(),
            consumer_inputs: [("url".to_owned(), url.to_owned())].into(),
            ..Self::default()
        }
    }

    /// One of its publisher's inputs.
    #[must_use]
    pub fn filtered(mut self, name: &str, value: &str) -> Self {
        self.publisher_inputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// One of its consumer's inputs.
    #[must_use]
    pub fn consumer(mut self, name: &str, value: &str) -> Self {
        self.consumer_inputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Whether the subscription hears the event.
    fn hears(&self, event: &Event) -> bool {
        let wants = |name: &str, fits: &dyn Fn(&str) -> bool| {
            self.publisher_inputs.get(name).is_none_or(|wanted| wanted.is_empty() || fits(wanted))
        };
        let stage = event.stage.as_deref().unwrap_or_default();
        let result = event.result.map(crate::spec::JobResult::word).unwrap_or_default();
        self.event_type == event.event_type
            && wants("projectId", &|id| id.eq_ignore_ascii_case(&event.project_id))
            && wants("pipelineId", &|id| id == event.pipeline_id.to_string())
            && wants("stageNameId", &|name| name.eq_ignore_ascii_case(stage))
            && wants(&format!("{}StateId", event.filter), &|state| state.eq_ignore_ascii_case(event.state))
            && wants(&format!("{}ResultId", event.filter), &|wanted| wanted.eq_ignore_ascii_case(result))
    }
}

/// A subscription as tests see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionView {
    /// Its id.
    pub id: String,
    /// What it was made from.
    pub spec: SubscriptionSpec,
    /// Where it stands.
    pub status: HookStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub modified_at: Timestamp,
    /// Events that it has not been told of since it was on probation or disabled.
    pub lost: u64,
}

/// A notification as tests see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationView {
    /// Its number.
    pub id: u64,
    /// Its subscription.
    pub subscription_id: String,
    /// Its event's type.
    pub event_type: String,
    /// When the event happened.
    pub created_at: Timestamp,
    /// How often it was sent.
    pub attempts: u32,
    /// The status of the last answer; absent where there was none.
    pub last_status: Option<u16>,
    /// When it is sent next; absent while it is being sent, and once it is completed.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it will not be sent again.
    pub completed: bool,
    /// Whether it was received.
    pub succeeded: bool,
    /// What is sent.
    pub body: Value,
}

#[derive(Debug)]
struct Notification {
    view: NotificationView,
    on_probation: bool,
    /// Waits that have been used up of the current list.
    waits: usize,
}

/// Subscriptions and notifications.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) subscriptions: BTreeMap<String, SubscriptionView>,
    notifications: BTreeMap<u64, Notification>,
    /// Those that are not completed.
    open: BTreeSet<u64>,
    retries: Vec<Duration>,
    probation: Vec<Duration>,
    next_notification: u64,
}

/// What is to be sent now.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) notification: u64,
    pub(crate) consumer: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Hooks {
    pub(crate) fn new(options: &Options) -> Self {
        let scaled = |list: &[Duration]| list.iter().map(|wait| options.scaled(*wait)).collect();
        Self {
            retries: scaled(&options.timing.hook_retries),
            probation: scaled(&options.timing.probation_retries),
            next_notification: 1,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    pub(crate) fn add(&mut self, spec: SubscriptionSpec, now: Timestamp) -> String {
        let id = guid();
        let status = HookStatus::Enabled;
        let made =
            SubscriptionView { id: id.clone(), spec, status, created_at: now, modified_at: now, lost: 0 };
        self.subscriptions.insert(id.clone(), made);
        id
    }

    /// Forgets a subscription and what it was still to be told; says whether it was there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.notifications.retain(|_, one| one.view.subscription_id != id);
        self.open.retain(|number| self.notifications.contains_key(number));
        self.subscriptions.remove(id).is_some()
    }

    pub(crate) fn notifications(&self) -> impl Iterator<Item = &NotificationView> {
        self.notifications.values().map(|one| &one.view)
    }

    /// Makes a notification for every subscription that hears the event.
    pub(crate) fn publish(&mut self, event: &Event, now: Timestamp) {
        for (id, subscription) in &mut self.subscriptions {
            if !subscription.spec.hears(event) {
                continue;
            }
            if subscription.status != HookStatus::Enabled {
                subscription.lost += 1;
                continue;
            }
            let number = self.next_notification;
            self.next_notification += 1;
            let view = NotificationView {
                id: number,
                subscription_id: id.clone(),
                event_type: event.event_type.to_owned(),
                created_at: now,
                attempts: 0,
                last_status: None,
                next_attempt_at: Some(now),
                completed: false,
                succeeded: false,
                body: body(subscription, number, event, now),
            };
            let made = Notification { view, on_probation: false, waits: 0 };
            self.notifications.insert(number, made);
            self.open.insert(number);
        }
        if self.notifications.len() > KEPT
            && let Some(oldest) =
                self.notifications.keys().next().copied().filter(|one| !self.open.contains(one))
        {
            self.notifications.remove(&oldest);
        }
    }

    /// What is to be sent now. First attempts of one subscription go out in the order of their events, one at a time.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<Sending> {
        let mut busy: BTreeSet<String> = self
            .open
            .iter()
            .filter_map(|number| self.notifications.get(number))
            .filter(|one| one.view.next_attempt_at.is_none())
            .map(|one| one.view.subscription_id.clone())
            .collect();
        let mut sendings = Vec::new();
        for number in &self.open {
            let Some(one) = self.notifications.get_mut(number) else { continue };
            if one.view.next_attempt_at.is_none_or(|at| at > now) || busy.contains(&one.view.subscription_id)
            {
                continue;
            }
            let Some(known) = self.subscriptions.get(&one.view.subscription_id) else { continue };
            busy.insert(one.view.subscription_id.clone());
            one.view.next_attempt_at = None;
            one.view.attempts += 1;
            let (consumer, body) = (known.spec.consumer_inputs.clone(), one.view.body.clone());
            sendings.push(Sending { notification: *number, consumer, body });
        }
        sendings
    }

    /// Notes how an attempt went; no status: there was no answer.
    pub(crate) fn settle(&mut self, number: u64, status: Option<u16>, now: Timestamp) {
        let Some(one) = self.notifications.get_mut(&number) else { return };
        if one.view.completed {
            return;
        }
        one.view.last_status = status;
        let Some(subscription) = self.subscriptions.get_mut(&one.view.subscription_id) else { return };
        let transient = matches!(status, Some(408 | 502 | 503 | 504));
        let wait = if one.on_probation {
            self.probation.get(one.waits)
        } else if transient {
            self.retries.get(one.waits)
        } else {
            None
        };
        match (status, wait) {
            (Some(200..=299), _) => {
                (one.view.completed, one.view.succeeded) = (true, true);
                self.open.remove(&number);
                if subscription.status == HookStatus::OnProbation {
                    subscription.status = HookStatus::Enabled;
                }
            }
            (Some(410), _) => self.disable(number),
            (_, Some(wait)) => {
                one.waits += 1;
                one.view.next_attempt_at = Some(now.checked_add(*wait).unwrap_or(now));
            }
            (_, None) if one.on_probation => self.disable(number),
            (_, None) => {
                let Some(wait) = self.probation.first() else { return self.disable(number) };
                one.view.next_attempt_at = Some(now.checked_add(*wait).unwrap_or(now));
                (one.on_probation, one.waits) = (true, 1);
                if subscription.status == HookStatus::Enabled {
                    subscription.status = HookStatus::OnProbation;
                }
                self.drop_others(number);
            }
        }
    }

    fn disable(&mut self, number: u64) {
        let Some(one) = self.notifications.get_mut(&number) else { return };
        one.view.completed = true;
        self.open.remove(&number);
        if let Some(subscription) = self.subscriptions.get_mut(&one.view.subscription_id) {
            subscription.status = HookStatus::DisabledBySystem;
        }
        self.drop_others(number);
    }

    /// What the subscription was still to be told is lost.
    fn drop_others(&mut self, number: u64) {
        let Some(id) = self.notifications.get(&number).map(|one| one.view.subscription_id.clone()) else {
            return;
        };
        let mut lost = 0;
        for other in self.open.clone() {
            let Some(one) = self.notifications.get_mut(&other) else { continue };
            if other != number && one.view.subscription_id == id {
                (one.view.completed, one.view.next_attempt_at) = (true, None);
                self.open.remove(&other);
                lost += 1;
            }
        }
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.lost += lost;
        }
    }
}

/// What is sent.
fn body(subscription: &SubscriptionView, number: u64, event: &Event, now: Timestamp) -> Value {
    let input = |name: &str| subscription.spec.consumer_inputs.get(name).map(String::as_str);
    let message = |wanted: Option<&str>| {
        let link = format!("<a href=\"{}\">details</a>", event.link);
        let all = json!({
            "text": event.text,
            "html": format!("{} {link}", event.text),
            "markdown": format!("{} [details]({})", event.text, event.link),
        });
        match wanted {
            Some("none") => Value::Null,
            Some(one @ ("text" | "html" | "markdown")) => json!({one: all[one]}),
            Some(_) | None => all,
        }
    };
    let resource = match input("resourceDetailsToSend") {
        Some("none") => Value::Null,
        Some("minimal") => json!({
            "run": {"id": event.resource["run"]["id"]},
            "job": {"id": event.resource["job"]["id"]},
        }),
        Some(_) | None => event.resource.clone(),
    };
    json!({
        "subscriptionId": subscription.id,
        "notificationId": number,
        "id": guid(),
        "eventType": event.event_type,
        "publisherId": "pipelines",
        "message": message(input("messagesToSend")),
        "detailedMessage": message(input("detailedMessagesToSend")),
        "resource": resource,
        "resourceVersion": subscription.spec.resource_version.as_deref().unwrap_or("5.1-preview.1"),
        "resourceContainers": event.containers,
        "createdDate": time(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EVENT_TYPES;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
    }

    /// One notification of one subscription, made at second 0.
    fn one_notification() -> Hooks {
        let mut hooks = Hooks::new(&Options::default());
        hooks.add(SubscriptionSpec::webhook(EVENT_TYPES[0], "http://localhost"), at(0));
        hooks.publish(&event(), at(0));
        hooks
    }

    fn event() -> Event {
        Event {
            event_type: EVENT_TYPES[0],
            filter: "job",
            project_id: "p".to_owned(),
            pipeline_id: 1,
            stage: None,
            state: "Waiting",
            result: None,
            text: String::new(),
            link: String::new(),
            resource: Value::Null,
            containers: Value::Null,
        }
    }

    fn status(hooks: &Hooks) -> HookStatus {
        hooks.subscriptions.values().next().unwrap().status
    }

    /// When the notification is sent next.
    fn next(hooks: &Hooks) -> Option<u64> {
        let at = hooks.notifications().next().unwrap().next_attempt_at?;
        Some(u64::try_from(at.as_second()).unwrap())
    }

    /// Lets attempts fail with `answer` while the subscription is `during`; the seconds between them.
    fn waits(hooks: &mut Hooks, answer: u16, during: &[HookStatus]) -> Vec<u64> {
        let (mut last, mut waits) = (0, Vec::new());
        while let Some(now) = next(hooks).filter(|_| during.contains(&status(hooks))) {
            if now > last {
                assert!(hooks.due(at(now - 1)).is_empty(), "not before its time");
                waits.push(now - last);
            }
            assert_eq!(hooks.due(at(now)).len(), 1);
            hooks.settle(1, Some(answer), at(now));
            last = now;
        }
        waits
    }

    #[test]
    fn unavailability_is_tried_again_ever_later_and_ends_in_probation() {
        let mut hooks = one_notification();
        assert_eq!(waits(&mut hooks, 503, &[HookStatus::Enabled]), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(status(&hooks), HookStatus::OnProbation);
    }

    #[test]
    fn probation_takes_36_hours() {
        let mut hooks = one_notification();
        let waits = waits(&mut hooks, 500, &[HookStatus::Enabled, HookStatus::OnProbation]);
        assert_eq!((waits.len(), waits.iter().sum::<u64>()), (7, 36 * 3_600));
        assert_eq!(status(&hooks), HookStatus::DisabledBySystem);
    }

    #[test]
    fn a_subscription_that_failed_for_good_is_told_nothing_more() {
        let mut hooks = one_notification();
        hooks.publish(&event(), at(0));
        assert_eq!(hooks.due(at(0)).len(), 1, "one at a time");
        hooks.settle(1, Some(410), at(0));
        hooks.publish(&event(), at(1));
        assert!(hooks.due(at(1_000_000)).is_empty());
        assert_eq!(hooks.subscriptions.values().next().unwrap().lost, 2);
    }
}
