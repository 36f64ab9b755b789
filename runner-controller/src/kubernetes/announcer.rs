//! Kubernetes Events on `RunnerJob`s: one for each change of the reason why a job has no runner.
//!
//! Best effort. The loop only puts an Event in a bounded queue and never waits; what does not fit is dropped, and nothing is
//! decided by what became of one. The job's condition says the same for good.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use runner_core::job::Standing;
use runner_core::reason::Reason;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use crate::clock;
use crate::config::RunnerJob;

/// How many Events wait to be written at most.
const QUEUE: usize = 256;
/// The pause between two of them, so that a thousand jobs do not become a thousand writes at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How long writing one may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For how long the same said again of the same job is counted in one Event.
const SERIES: SignedDuration = SignedDuration::from_mins(6);
/// The longest note that Kubernetes takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Who reports, in the form that Kubernetes asks for.
const REPORTER: &str = "stint.dev/controller";

/// Takes Events and writes them in its own time, for as long as it lives.
pub(super) struct Announcer {
    namespace: String,
    queue: mpsc::Sender<Event>,
    _task: AbortOnDropHandle<()>,
}

impl Announcer {
    /// Begins to write what will be announced.
    pub(super) fn start(cluster: &Cluster) -> Self {
        let (queue, announced) = mpsc::channel(QUEUE);
        let task = AbortOnDropHandle::new(tokio::spawn(write(cluster.api(), announced)));
        Self { namespace: cluster.namespace.clone(), queue, _task: task }
    }

    /// Announces why a job has no runner.
    pub(super) fn announce(&self, name: &str, uid: &str, standing: Standing, reason: &Reason) {
        let regarding = ObjectReference {
            api_version: Some(RunnerJob::api_version(&()).into_owned()),
            kind: Some(RunnerJob::kind(&()).into_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        if self.queue.try_send(event(standing, reason, regarding, clock::now())).is_err() {
            tracing::debug!(job = name, reason = reason.code(), "an Event is dropped: {QUEUE} wait already");
        }
    }
}

fn event(standing: Standing, reason: &Reason, regarding: ObjectReference, now: Timestamp) -> Event {
    // What waits starts by itself; what is refused or given up does not.
    let kind = match standing {
        Standing::Refused | Standing::GivenUp => "Warning",
        Standing::Stored | Standing::Waiting | Standing::Starting | Standing::Running | Standing::Ended => {
            "Normal"
        }
    };
    let mut note = format!("{}; {}", reason.sentence(), reason.remedy());
    while note.len() > LONGEST_NOTE {
        note.pop();
    }
    let job = regarding.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{job}.{:x}", now.as_nanosecond())),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(kind.to_owned()),
        reason: Some(reason.code().to_owned()),
        note: Some(note),
        action: Some("Admit".to_owned()),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(REPORTER.to_owned()),
        regarding: Some(regarding),
        ..Event::default()
    }
}

/// Events written lately: what is said again soon is counted instead.
#[derive(Default)]
struct Written(HashMap<(Option<String>, Option<String>), (Event, Timestamp)>);

impl Written {
    /// What to write for an Event: itself, or the earlier one, counted once more.
    fn counted(&mut self, event: Event, now: Timestamp) -> Event {
        self.0.retain(|_, (_, last)| now.duration_since(*last) < SERIES);
        let Some((known, _)) = self.0.get(&Self::key(&event)) else { return event };
        let count = known.series.as_ref().map_or(2, |series| series.count.saturating_add(1));
        Event { series: Some(EventSeries { count, last_observed_time: MicroTime(now) }), ..known.clone() }
    }

    fn keep(&mut self, event: Event, now: Timestamp) {
        self.0.insert(Self::key(&event), (event, now));
    }

    fn key(event: &Event) -> (Option<String>, Option<String>) {
        (event.regarding.as_ref().and_then(|job| job.uid.clone()), event.reason.clone())
    }
}

/// kube's own recorder would do, but for the clock, which it reads itself.
async fn write(events: Api<Event>, mut announced: mpsc::Receiver<Event>) {
    let mut in_trouble = false;
    let mut written = Written::default();
    while let Some(event) = announced.recv().await {
        let now = clock::now();
        let event = written.counted(event, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        let publish = async {
            if event.series.is_some() {
                events.patch(&name, &PatchParams::default(), &Patch::Merge(&event)).await
            } else {
                events.create(&PostParams::default(), &event).await
            }
        };
        let trouble = match tokio::time::timeout(TIMEOUT, publish).await {
            Ok(Ok(_)) => {
                written.keep(event, now);
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {TIMEOUT:?}")),
        };
        if let Some(error) = trouble.as_ref().filter(|_| !in_trouble) {
            tracing::warn!(error, "Events cannot be written, and are dropped until they can: {error}");
        }
        in_trouble = trouble.is_some();
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_warns_of_what_does_not_start_by_itself_and_fits_its_note() {
        let paused = Reason::LimitPaused { limit: "x".to_owned() };
        let of = |standing, reason: &Reason| {
            event(standing, reason, ObjectReference::default(), Timestamp::UNIX_EPOCH)
        };
        let waits = of(Standing::Waiting, &paused);
        assert_eq!((waits.type_.as_deref(), waits.reason.as_deref()), (Some("Normal"), Some("LimitPaused")));
        assert!(waits.note.unwrap_or_default().contains("kubectl edit concurrencylimit x"));
        let long = Reason::NoClassNamed { labels: vec!["é".repeat(2000)] };
        let refused = of(Standing::Refused, &long);
        assert_eq!(refused.type_.as_deref(), Some("Warning"));
        assert!(refused.note.unwrap_or_default().len() <= LONGEST_NOTE);
    }

    #[test]
    fn what_is_said_again_soon_is_counted_and_later_said_anew() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let said = |uid: &str, seconds: i64| {
            let job = ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() };
            let reason = Reason::LimitPaused { limit: "x".to_owned() };
            event(Standing::Waiting, &reason, job, at(seconds))
        };
        let mut written = Written::default();
        let mut check = |uid: &str, seconds: i64, expect: Option<i32>| {
            let event = written.counted(said(uid, seconds), at(seconds));
            assert_eq!(event.series.as_ref().map(|series| series.count), expect, "{uid} at {seconds}");
            written.keep(event, at(seconds));
        };
        check("a", 0, None);
        check("b", 1, None);
        check("a", 100, Some(2));
        check("a", 400, Some(3));
        check("a", 760, None);
    }
}
