//! A process's way to Kubernetes: latency, partitions and crashes around the API server's client, and what becomes of
//! each write.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;

use crate::board::Board;
use crate::fault::{Peer, Trouble, WriteFault};
use crate::kubernetes::{Lag, Verb, Verdict, WriteFaults, WriteSeen};
use crate::process::Process;
use crate::time::pause;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// How long a call takes to fail that reaches nobody.
const UNREACHABLE: Duration = Duration::from_secs(5);

/// The client of one process.
#[derive(Clone)]
pub struct Gated {
    client: kube::Client,
    process: Arc<Process>,
}

impl Gated {
    /// A client that lives and dies with the process.
    pub fn client(client: kube::Client, process: Arc<Process>, namespace: &str) -> kube::Client {
        kube::Client::new(Self { client, process }, namespace)
    }
}

impl tower::Service<Request<Body>> for Gated {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { client, process } = self.clone();
        Box::pin(async move {
            process.goes_on().await;
            pause(process.latency()).await;
            process.goes_on().await;
            if !process.reaches(Peer::Kubernetes) {
                tokio::time::sleep(UNREACHABLE).await;
                process.goes_on().await;
                return Err("the API server could not be reached".into());
            }
            let answer = client.send(request).await;
            process.goes_on().await;
            let (parts, body) = answer?.into_parts();
            let frames = body.into_data_stream().then(move |frame| {
                let process = process.clone();
                async move {
                    process.goes_on().await;
                    let frame: Bytes = frame.map_err(|error| BoxError::from(error.to_string()))?;
                    if process.reaches(Peer::Kubernetes) {
                        Ok(hyper::body::Frame::data(frame))
                    } else {
                        Err(BoxError::from("the connection to the API server broke"))
                    }
                }
            });
            Ok(Response::from_parts(parts, http_body_util::StreamBody::new(frames).boxed_unsync()))
        })
    }
}

/// What becomes of the writes of all processes.
pub struct Writes {
    board: Arc<Board>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    processes: BTreeMap<String, Arc<Process>>,
    /// Crashes that are due once a write was carried out, or answered.
    due: BTreeMap<(String, String), WriteFault>,
}

impl Writes {
    /// Of no process yet.
    pub fn new(board: Arc<Board>) -> Self {
        Self { board, state: Mutex::default() }
    }

    /// Adds a process.
    pub fn add(&self, process: Arc<Process>) {
        self.lock().processes.insert(process.name.clone(), process);
    }

    fn process(&self, who: &str) -> Option<Arc<Process>> {
        self.lock().processes.get(who).cloned()
    }

    fn due(&self, who: &str, write: &WriteSeen, wanted: WriteFault) -> bool {
        let mut state = self.lock();
        let key = (who.to_owned(), words(write));
        let due = state.due.get(&key) == Some(&wanted);
        if due {
            state.due.remove(&key);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write in words.
fn words(write: &WriteSeen) -> String {
    let verb = match write.verb {
        Verb::Create => "creates",
        Verb::Replace => "replaces",
        Verb::Patch => "patches",
        Verb::Delete => "deletes",
    };
    let what = match (write.kind, write.verb) {
        ("Runner" | "RunnerJob", Verb::Patch) => facts(write),
        _ => String::new(),
    };
    format!("{verb} {} {}{what}", write.kind, write.name)
}

/// Which facts a patch sets.
fn facts(write: &WriteSeen) -> String {
    let of = |part: &str| {
        let fields = write.body.get(part).and_then(serde_json::Value::as_object);
        fields.map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let state = write.body.pointer("/status/state").and_then(serde_json::Value::as_str).unwrap_or_default();
    let mut named = of("status");
    named.extend(of("spec"));
    format!(" ({} {state})", named.join(", "))
}

#[async_trait]
impl WriteFaults for Writes {
    async fn verdict(&self, who: &str, write: &WriteSeen) -> Verdict {
        let Some(process) = self.process(who) else { return Verdict::Allow };
        // Events tell people something, and nothing rests on them.
        if write.kind == "Event" {
            return Verdict::Allow;
        }
        let fault = self.board.write(Peer::Kubernetes, &words(write));
        match fault {
            None => Verdict::Allow,
            Some(WriteFault::CrashBefore) => {
                process.kill();
                process.goes_on().await;
                Verdict::LoseBefore
            }
            Some(WriteFault::Unavailable) => Verdict::FailBefore(503),
            Some(WriteFault::AnswerLost) => Verdict::CommitThenLose,
            Some(WriteFault::Throttled(seconds)) => {
                Verdict::Throttle(u32::try_from(seconds).unwrap_or(u32::MAX))
            }
            Some(WriteFault::Conflict) => Verdict::Conflict,
            Some(crash @ (WriteFault::CrashAnswerLost | WriteFault::CrashAfter)) => {
                self.lock().due.insert((who.to_owned(), words(write)), crash);
                Verdict::Allow
            }
        }
    }

    async fn committed(&self, who: &str, write: &WriteSeen, code: u16) {
        if write.kind == "Event" {
            return;
        }
        let refused = if code >= 300 { format!(": {code}") } else { String::new() };
        self.board.journal.wrote(who, format_args!("{}{refused}", words(write)));
        if self.due(who, write, WriteFault::CrashAnswerLost)
            && let Some(process) = self.process(who)
        {
            process.kill();
            process.goes_on().await;
        }
    }

    fn answered(&self, who: &str, write: &WriteSeen, _code: u16) {
        if self.due(who, write, WriteFault::CrashAfter)
            && let Some(process) = self.process(who)
        {
            process.kill();
        }
    }
}

/// How late watches are.
pub struct Late(pub Arc<Board>);

impl Lag for Late {
    fn of(&self, _who: &str, _kind: &str) -> Duration {
        let lag = |trouble| if let Trouble::WatchLag(millis) = trouble { Some(millis) } else { None };
        Duration::from_millis(self.0.now().find_map(lag).unwrap_or(5))
    }
}
