//! Webhooks: signed, sent once, and by the plan lost, late or repeated. GitHub sends none again by itself, but shows what it
//! tried.

use std::sync::Arc;

use axum::body::Body;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use super::hook::Sent;
use super::{GitHub, Job, State, WEBHOOK_SECRET};
use crate::chance::Chance;
use crate::fault::Trouble;
use crate::time::pause;

impl GitHub {
    /// Tells of a job, as it is now.
    pub(super) fn tell(self: &Arc<Self>, id: u64, action: &'static str) {
        let Some(job) = self.job(id) else { return };
        let number = {
            let mut inner = self.lock();
            inner.deliveries += 1;
            inner.deliveries
        };
        let state = match &job.state {
            State::Over(conclusion) => format!("{action} ({conclusion})"),
            State::HeldBack | State::Queued | State::Assigned(_) | State::Running(_) => action.to_owned(),
        };
        self.board.journal.note("GitHub", format_args!("job {id} is {state}"));
        let body: Arc<str> = payload(&job, action).to_string().into();
        let mut chance = Chance::of(self.board.seed, &format!("webhook {id} {action} {number}"));
        let (lost, twice, late) = self.board.webhooks();
        let (lost, twice) = (chance.percent(lost), chance.percent(twice));
        let times = if twice && !lost { 2 } else { 1 };
        for time in 0..times {
            let mut delay = chance.between(20, 800);
            if late > 0 && (time > 0 || chance.percent(40)) {
                delay += 1_000 * chance.below(late);
            }
            let (github, body, chance) = (self.clone(), body.clone(), chance.clone());
            tokio::spawn(async move {
                pause(delay).await;
                github.deliver((id, action), number, lost, body, chance).await;
            });
        }
    }

    async fn deliver(
        &self,
        (job, action): (u64, &'static str),
        number: u64,
        lost: bool,
        body: Arc<str>,
        mut chance: Chance,
    ) {
        let (at, began) = (self.board.clock.now(), self.board.clock.passed());
        let guid = format!("{number:08x}-0000-4000-8000-000000000000");
        let down = self.board.is(Trouble::ReceiverDown);
        let answer = if lost || down {
            self.board.journal.fault(format_args!("the webhook {action} of job {job} reaches nobody"));
            None
        } else {
            self.send(&guid, &body, &mut chance).await
        };
        match answer {
            Some(StatusCode::OK | StatusCode::CREATED) => {
                self.board.journal.note("Stint", format_args!("has stored that job {job} is {action}"));
            }
            Some(status) => {
                self.board.journal.note("Stint", format_args!("answers {status} to {action} of job {job}"));
            }
            None if lost || down => {}
            None => {
                self.board.journal.note("Stint", format_args!("does not answer to {action} of job {job}"));
            }
        }
        let id = {
            let mut inner = self.lock();
            inner.attempts += 1;
            inner.attempts
        };
        let status = answer.map_or(0, |status| status.as_u16());
        self.note_sent(Sent { id, guid, at, action, job, status, body }, began);
    }

    async fn send(&self, guid: &str, body: &str, chance: &mut Chance) -> Option<StatusCode> {
        let mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).ok()?;
        let tag = hex::encode(mac.chain_update(body.as_bytes()).finalize().into_bytes());
        let request = Request::post("/webhooks/acme")
            .header("content-type", "application/json")
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", guid)
            .header("x-hub-signature-256", format!("sha256={tag}"))
            .body(Body::from(body.to_owned()))
            .ok()?;
        self.front.send(chance, request).await
    }
}

/// What a delivery says of a job.
pub(super) fn payload(job: &Job, action: &str) -> Value {
    let (status, conclusion) = match &job.state {
        State::HeldBack => ("waiting", None),
        State::Queued | State::Assigned(_) => ("queued", None),
        State::Running(_) => ("in_progress", None),
        State::Over(conclusion) => ("completed", Some(*conclusion)),
    };
    let runner = job.runner.as_ref().filter(|_| matches!(job.state, State::Running(_) | State::Over(_)));
    let cancelled_before = runner.is_none() && conclusion.is_some();
    json!({
        "action": action,
        "workflow_job": {
            "id": job.id,
            "run_id": job.run(),
            "run_attempt": job.attempt,
            "name": format!("job {}", job.id),
            "workflow_name": "CI",
            "head_branch": "main",
            "head_sha": format!("{:040x}", job.id),
            "html_url": format!("https://github.example/{}/actions/runs/{}", job.repository, job.id),
            "status": status,
            "conclusion": conclusion,
            "labels": job.labels,
            "created_at": job.created_at.to_string(),
            "runner_id": runner.map(|(id, _)| *id).or(cancelled_before.then_some(0)),
            "runner_name": runner.map(|(_, name)| name.as_str()).or(cancelled_before.then_some("")),
        },
        "repository": {
            "full_name": job.repository,
            "private": true,
            "owner": {"login": job.repository.split('/').next()},
        },
    })
}
