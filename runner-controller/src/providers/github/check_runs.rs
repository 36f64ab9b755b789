//! Check-runs: what a commit shows of a job.
//!
//! A check-run is `queued` while the job waits, `in_progress` while it runs, and ends as `neutral`, which GitHub counts
//! neither as a failure nor against a merge, whether the check is required or not (GitHub documentation, "About status
//! checks"). GitHub lets Apps alone write them. One is found again by its `external_id`, the job's key.

use http::{Method, StatusCode};
use runner_core::notice::Stage;
use runner_core::setup::Scope;

use super::access::Access;
use super::errors::Call;
use super::{encode, repository_path, wire};
use crate::ports::{CallError, CallErrorKind, CallResult, CheckRun, Published};

const REMEDY: &str = "needs the repository permission Checks: write; grant it to the App, or set \
                      github.report.checkRuns: false at the RunnerSource";
/// Check-runs on one page, the most that GitHub gives.
const PAGE: usize = 100;
/// Pages that are read of the check-runs of one name at one commit; GitHub keeps 1,000.
const MAX_PAGES: usize = 10;
/// The most characters of a check-run's name.
const MAX_NAME: usize = 200;

/// Makes or changes the check-run of a job.
pub(super) async fn publish(access: &Access, notice: &CheckRun) -> CallResult<Published> {
    if !access.is_app() {
        let problem = "publish check-run: a token cannot, only a GitHub App can: use an App, or set \
                       github.report.checkRuns: false at the RunnerSource";
        return Err(CallError::new(CallErrorKind::Refused, problem));
    }
    let scope = Scope::Repository(notice.repository.clone());
    let base = repository_path(&notice.repository)?;
    let id = match &notice.id {
        Some(id) => Some(id.parse().map_err(|_| {
            CallError::new(CallErrorKind::Refused, format!("publish check-run: its id {id:?} is no number"))
        })?),
        None if notice.look => find(access, &scope, &base, notice).await?,
        None => None,
    };
    let (method, path) = match id {
        Some(id) => (Method::PATCH, format!("{base}/check-runs/{id}")),
        // Nothing is made only to be over.
        None if notice.stage == Stage::Ended => return Ok(Published::Nowhere),
        None => (Method::POST, format!("{base}/check-runs")),
    };
    let body = serde_json::to_vec(&written(notice, id.is_none()))
        .map_err(|error| CallError::new(CallErrorKind::Refused, format!("publish check-run: {error}")))?;
    let answer = access.send(&scope, Call::new("publish check-run", method, path, Some(body))).await?;
    match answer.status {
        status if status.is_success() => {
            let made: wire::CheckRun = answer.read()?;
            Ok(Published::As(made.id.to_string()))
        }
        // Its commit was removed, as after a force-push; or it was itself.
        StatusCode::UNPROCESSABLE_ENTITY => Ok(Published::Nowhere),
        StatusCode::NOT_FOUND if id.is_some() => Ok(Published::Nowhere),
        _ => Err(answer.error(REMEDY)),
    }
}

/// The id of the check-run that carries the job's key.
async fn find(access: &Access, scope: &Scope, base: &str, notice: &CheckRun) -> CallResult<Option<u64>> {
    let key = notice.job.to_string();
    let (sha, name) = (encode(&notice.sha), encode(&name(notice)));
    for page in 1..=MAX_PAGES {
        let path = format!(
            "{base}/commits/{sha}/check-runs?check_name={name}&filter=all&per_page={PAGE}&page={page}"
        );
        let answer = access.send(scope, Call::get("list check-runs", path)).await?;
        let list: wire::CheckRuns = match answer.status {
            StatusCode::OK => answer.read()?,
            StatusCode::UNPROCESSABLE_ENTITY => return Ok(None),
            _ => return Err(answer.error(REMEDY)),
        };
        if let Some(found) = list.check_runs.iter().find(|run| run.external_id.as_ref() == Some(&key)) {
            return Ok(Some(found.id));
        }
        if list.check_runs.len() < PAGE {
            break;
        }
    }
    Ok(None)
}

fn written(notice: &CheckRun, new: bool) -> wire::WrittenCheckRun<'_> {
    let (status, conclusion) = match notice.stage {
        Stage::Waiting => ("queued", None),
        Stage::Running => ("in_progress", None),
        Stage::Ended => ("completed", Some("neutral")),
    };
    wire::WrittenCheckRun {
        name: new.then(|| name(notice)),
        head_sha: new.then_some(&notice.sha),
        external_id: new.then(|| notice.job.to_string()),
        details_url: notice.url.as_deref(),
        status,
        conclusion,
        // GitHub takes whole seconds.
        completed_at: conclusion.and(notice.ended_at).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        output: wire::CheckOutput { title: &notice.text.title, summary: &notice.text.summary },
    }
}

fn name(notice: &CheckRun) -> String {
    notice.name.chars().take(MAX_NAME).collect()
}
