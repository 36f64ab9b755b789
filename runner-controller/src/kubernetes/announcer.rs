//! Kubernetes Events on `RunnerJob`s: one for each change of the reason why a job has no runner.
//!
//! Best effort. The loop only puts an Event in a bounded queue and never waits; what does not fit is dropped, and nothing is
//! decided by what became of one. The job's condition says the same for good.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use runner_core::job::Standing;
use runner_core::reason::Reason;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use crate::config::RunnerJob;

/// How many Events wait to be written at most.
const QUEUE: usize = 256;
/// The pause between two of them, so that a thousand jobs do not become a thousand writes at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How long writing one may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest note that Kubernetes takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Who reports, in the form that Kubernetes asks for.
const REPORTER: &str = "stint.dev/controller";

/// Takes Events and writes them in its own time, for as long as it lives.
pub(super) struct Announcer {
    namespace: String,
    queue: mpsc::Sender<(Event, ObjectReference)>,
    _task: AbortOnDropHandle<()>,
}

impl Announcer {
    /// Begins to write what will be announced.
    pub(super) fn start(cluster: &Cluster) -> Self {
        let (queue, announced) = mpsc::channel(QUEUE);
        let reporter = Reporter { controller: REPORTER.to_owned(), instance: None };
        let recorder = Recorder::new(cluster.client.clone(), reporter);
        let task = AbortOnDropHandle::new(tokio::spawn(write(recorder, announced)));
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
        if self.queue.try_send((event(standing, reason), regarding)).is_err() {
            tracing::debug!(job = name, reason = reason.code(), "an Event is dropped: {QUEUE} wait already");
        }
    }
}

fn event(standing: Standing, reason: &Reason) -> Event {
    // What waits starts by itself; what is refused or given up does not.
    let type_ = match standing {
        Standing::Refused | Standing::GivenUp => EventType::Warning,
        Standing::Stored | Standing::Waiting | Standing::Starting | Standing::Running | Standing::Ended => {
            EventType::Normal
        }
    };
    let mut note = format!("{}; {}", reason.sentence(), reason.remedy());
    while note.len() > LONGEST_NOTE {
        note.pop();
    }
    Event {
        type_,
        reason: reason.code().to_owned(),
        note: Some(note),
        action: "Admit".to_owned(),
        secondary: None,
    }
}

async fn write(recorder: Recorder, mut announced: mpsc::Receiver<(Event, ObjectReference)>) {
    let mut in_trouble = false;
    while let Some((event, regarding)) = announced.recv().await {
        let trouble = match tokio::time::timeout(TIMEOUT, recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => None,
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
        let waits = event(Standing::Waiting, &paused);
        assert_eq!((waits.type_, waits.reason.as_str()), (EventType::Normal, "LimitPaused"));
        assert!(waits.note.unwrap_or_default().contains("kubectl edit concurrencylimit x"));
        let long = Reason::NoClassNamed { labels: vec!["é".repeat(2000)] };
        let refused = event(Standing::Refused, &long);
        assert_eq!(refused.type_, EventType::Warning);
        assert!(refused.note.unwrap_or_default().len() <= LONGEST_NOTE);
    }
}
