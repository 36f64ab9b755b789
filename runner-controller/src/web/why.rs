//! `GET /api/v1/why?of=…`: why a job waits, what would have to change, and about how long it takes.
//!
//! Figures are computed when they are asked for; the records hold only codes. Where many jobs are meant, none is forecast.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use runner_core::forecast::{Forecaster, PlaceInLine, Waiting};
use runner_core::job::{Job, JobState};
use runner_core::reason::gist;
use serde::{Deserialize, Serialize};

use super::api::ApiState;
use super::{line, unavailable};
use crate::clock;

/// Of how many jobs the wait is forecast: each forecast looks at all jobs, and whoever means more of them is asked which.
const FORECAST: usize = 5;
/// How many jobs are told of, those that wait and the newest before the others.
pub(crate) const MOST: usize = 100;

/// Whom somebody asks about.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    of: String,
}

/// What is said of one job: as the API answers it, and as the command that asks reads it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub(crate) key: String,
    pub(crate) repository: String,
    pub(crate) workflow: Option<String>,
    pub(crate) name: String,
    pub(crate) standing: String,
    pub(crate) since: String,
    pub(crate) reason: Option<String>,
    pub(crate) why: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) in_line: Option<InLine>,
    pub(crate) wait: Option<String>,
    pub(crate) page: Option<String>,
    pub(crate) runner: Option<String>,
    pub(crate) conclusion: Option<String>,
    pub(crate) url: Option<String>,
}

/// Where it stands in line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InLine {
    pub(crate) rank: usize,
    pub(crate) of: usize,
    pub(crate) what: String,
}

impl From<PlaceInLine> for InLine {
    fn from(place: PlaceInLine) -> Self {
        Self { rank: place.rank, of: place.of, what: place.what }
    }
}

pub(super) async fn why(State(state): State<ApiState>, Query(question): Query<Question>) -> Response {
    let of = question.of.trim();
    if of.is_empty() {
        let what = "of: empty; name a RunnerJob, the source's id of a job, its address or its name";
        return line(StatusCode::BAD_REQUEST, what);
    }
    let Some(observed) = state.records.observe() else {
        return unavailable("the records are still being read", Some(5));
    };
    let mut meant = meant_by(of, &observed.jobs);
    if meant.is_empty() {
        let text = format!(
            "no job is stored by {of:?}: name a RunnerJob, the source's id of a job, its address or its name; `stint jobs` \
             lists them, and GitHub's list of deliveries shows what reached Stint"
        );
        return line(StatusCode::NOT_FOUND, text);
    }
    only_first(&mut meant);
    let waiting = state.waiting.borrow().clone();
    let now = clock::now();
    Json(answers(&meant, &observed.jobs, &waiting, now)).into_response()
}

/// Those that still wait or run first, the newest of them first, and no more than [`MOST`].
fn only_first(meant: &mut Vec<&Job>) {
    let over = |job: &Job| matches!(job.state(), JobState::Ended { .. });
    meant.sort_by_cached_key(|job| (over(job), std::cmp::Reverse(job.stored_at), job.key.clone()));
    meant.truncate(MOST);
}

fn answers(meant: &[&Job], jobs: &[Job], waiting: &Waiting, now: Timestamp) -> Vec<Answer> {
    let forecaster = (meant.len() <= FORECAST).then(|| Forecaster::new(jobs, waiting, now));
    let answer = |job: &&Job| {
        let report = &job.report;
        let found = waiting.reasons.get(&job.key);
        // A replica that does not act, or that has just begun to, knows the code alone.
        let code = found.map(|reason| reason.code().to_owned()).or_else(|| report.reason.clone());
        let said = forecaster.as_ref().and_then(|forecaster| forecaster.forecast(&job.key));
        let (place, wait) = said.map_or((None, None), |said| (said.place, Some(said.wait.to_string())));
        Answer {
            key: job.key.to_string(),
            repository: job.description.repository.clone(),
            workflow: job.description.workflow.clone(),
            name: job.description.name.clone(),
            standing: report.standing.as_str().to_owned(),
            since: format!("{:.0}", job.state_since()),
            why: found
                .map(|reason| reason.sentence())
                .or_else(|| code.as_deref().and_then(gist).map(|gist| gist.trim_end_matches('.').to_owned())),
            remedy: found.map(|reason| reason.remedy()),
            in_line: place.map(InLine::from),
            wait,
            page: code.as_ref().map(|code| format!("docs/errors/{code}.md")),
            reason: code,
            runner: report.runner.clone(),
            conclusion: report.conclusion.clone(),
            url: job.description.url.clone(),
        }
    };
    meant.iter().map(answer).collect()
}

/// The jobs that somebody means by this: by record, by the source's id, by address or by name, whichever finds any first.
fn meant_by<'a>(of: &str, jobs: &'a [Job]) -> Vec<&'a Job> {
    let address = Address::parse(of);
    let ways: [&dyn Fn(&Job) -> bool; 4] = [
        &|job| job.key.to_string() == of,
        &|job| job.key.id == of,
        &|job| address.as_ref().is_some_and(|address| address.is_of(job)),
        &|job| job.description.name.to_lowercase() == of.to_lowercase(),
    ];
    ways.iter()
        .map(|way| jobs.iter().filter(|job| way(job)).collect::<Vec<_>>())
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// An address at the source, as copied from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    /// Host and path, in lower case, without what comes after.
    path: String,
    /// As `owner/name`, in lower case.
    repository: Option<String>,
    /// The source's id of the job.
    job: Option<String>,
    /// The source's id of the run, and the attempt where the address names one.
    run: Option<(String, Option<u32>)>,
}

impl Address {
    /// Reads an address: of a job (GitHub: `…/actions/runs/RUN/job/JOB`, the older `…/runs/JOB`, the API's
    /// `…/actions/jobs/JOB`), of a run or of one of its attempts, with or without a query and a fragment.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.split_once("://").map(|(_, rest)| rest)?;
        let path = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_lowercase();
        let parts: Vec<&str> = path.split('/').collect();
        let number = |at: usize| {
            parts.get(at).filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let word = |at: usize, words: &[&str]| parts.get(at).is_some_and(|part| words.contains(part));
        let repository = |before: usize| {
            let (owner, name) = (parts.get(before.checked_sub(2)?)?, parts.get(before.checked_sub(1)?)?);
            Some(format!("{owner}/{name}"))
        };
        let mut address = Self { path: path.clone(), repository: None, job: None, run: None };
        // The last one, and not of the first two parts after the host: a repository may be called `actions`.
        let from = |word: &str| parts.iter().enumerate().skip(3).rfind(|(_, part)| **part == word);
        if let Some((at, _)) = from("actions") {
            address.repository = repository(at);
            if word(at + 1, &["jobs"]) {
                address.job = number(at + 2).map(|id| (*id).to_owned());
            } else if word(at + 1, &["runs"]) {
                let attempt = number(at + 4).filter(|_| word(at + 3, &["attempts"]));
                address.run = number(at + 2)
                    .map(|run| ((*run).to_owned(), attempt.and_then(|attempt| attempt.parse().ok())));
                let job = if word(at + 3, &["job", "jobs"]) { at + 4 } else { at + 6 };
                if word(job - 1, &["job", "jobs"]) {
                    address.job = number(job).map(|id| (*id).to_owned());
                }
            }
        } else if let Some((at, _)) = from("runs") {
            address.repository = repository(at);
            address.job = number(at + 1).map(|id| (*id).to_owned());
        }
        Some(address)
    }

    fn is_of(&self, job: &Job) -> bool {
        let own = job.description.url.as_deref().and_then(Self::parse);
        if own.as_ref().is_some_and(|own| own.path == self.path) {
            return true;
        }
        let same_repository = self.repository.as_deref() == Some(&job.description.repository.to_lowercase());
        match (&self.job, &self.run) {
            (Some(id), _) => same_repository && *id == job.key.id,
            (None, Some((run, attempt))) => {
                let own = own.and_then(|own| own.run).map(|(run, _)| run);
                same_repository
                    && own.as_ref() == Some(run)
                    && attempt.is_none_or(|attempt| attempt == job.key.attempt)
            }
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests;
