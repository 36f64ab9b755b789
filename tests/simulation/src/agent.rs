//! The agent in a container: reads its credential, runs at most one job, reports, and always exits 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;
use stint::ports::agent;

use crate::board::Board;
use crate::chance::Chance;
use crate::fault::{AgentFate, Trouble};
use crate::front::Front;
use crate::github::{Assigned, GitHub};
use crate::time::pause;

/// How often a call-back is tried.
const TRIES: u32 = 3;

/// What agents are made from; cheap to clone.
#[derive(Clone)]
pub struct Agents {
    /// The faults.
    pub board: Arc<Board>,
    /// Where they get jobs.
    pub github: Arc<GitHub>,
    /// Where they call back.
    pub front: Arc<Front>,
    /// Whether they do.
    pub callbacks: bool,
}

impl Agents {
    /// An agent's whole life.
    pub async fn run(self, runner: String, files: BTreeMap<String, String>) {
        let fate = self.board.agent();
        let registered = files.get(agent::JIT_CONFIG).and_then(|id| id.parse().ok());
        let token = files.get(agent::CALLBACK_TOKEN).cloned();
        let one = Agent {
            chance: Chance::of(self.board.seed, &format!("agent of {runner}")),
            agents: self,
            runner,
            token,
        };
        one.live(fate, registered).await;
    }
}

/// One agent.
struct Agent {
    agents: Agents,
    runner: String,
    token: Option<String>,
    chance: Chance,
}

impl Agent {
    async fn live(mut self, fate: Option<AgentFate>, registered: Option<u64>) {
        pause(self.chance.between(300, 3_000)).await;
        self.report("booted").await;
        match (fate, registered) {
            (Some(AgentFate::NeverOnline), _) => std::future::pending().await,
            (Some(AgentFate::EndsWithoutJob | AgentFate::VersionRefused), _) | (_, None) => {}
            (None | Some(AgentFate::HangsAfterJob | AgentFate::PicksUpLate), Some(id)) => {
                self.work(id, fate).await;
            }
        }
        self.report("exiting").await;
        self.note("exits");
    }

    async fn work(&mut self, id: u64, fate: Option<AgentFate>) {
        let github = self.agents.github.clone();
        pause(self.chance.between(500, 4_000)).await;
        if !github.connect(id) {
            return self.note("is refused: no such registration");
        }
        let Assigned::Job(job) = github.next_job(id).await else {
            return self.note("hears that its registration is gone");
        };
        let late = fate == Some(AgentFate::PicksUpLate);
        pause(if late { 75_000 } else { self.chance.between(200, 3_000) }).await;
        let Some(runs_for) = github.begin(job, id) else { return };
        self.note(&format!("runs job {job}"));
        self.report("job-started").await;
        for _ in 0..runs_for {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if !github.has(job, id) {
                break;
            }
        }
        if github.has(job, id) {
            github.finish(job, "success");
        }
        self.report("job-completed").await;
        if fate == Some(AgentFate::HangsAfterJob) {
            self.agents.board.troubled(Duration::ZERO);
            std::future::pending::<()>().await;
        }
        pause(self.chance.between(200, 1_500)).await;
    }

    fn note(&self, what: &str) {
        self.agents.board.journal.note("agent", format_args!("of {} {what}", self.runner));
    }

    /// Calls back, if it is to and can: nothing depends on it.
    async fn report(&self, event: &str) {
        let (Agents { board, front, callbacks, .. }, runner) = (&self.agents, &self.runner);
        let Some(token) = self.token.as_ref().filter(|_| *callbacks) else { return };
        let mut chance = Chance::of(board.seed, &format!("{event} of {runner}"));
        for _ in 0..TRIES {
            pause(chance.between(10, 200)).await;
            if board.is(Trouble::CallbacksCut) {
                pause(1_000).await;
                continue;
            }
            let body = json!({"event": event, "exitCode": 0, "logs": format!("{runner}: {event}")});
            let request = Request::post(format!("/agent/v1/runners/{runner}/events"))
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .body(Body::from(body.to_string()));
            let Ok(request) = request else { return };
            match front.send(&mut chance, request).await {
                Some(StatusCode::NO_CONTENT | StatusCode::GONE) => return,
                Some(_) | None => pause(1_000).await,
            }
        }
    }
}
