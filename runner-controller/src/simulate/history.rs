//! Jobs to replay: what one is, and how a file of them is read.
//!
//! Two forms of the same fields: JSON Lines, an object a line, and CSV with a header row. Strict: what is not known, not
//! there or not usable is an error that names the line, the field, the value and the remedy.

use std::path::Path;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

/// The longest that a job may run, in seconds: 35 days, as long as a workflow run may take (GitHub documentation, "Actions
/// limits").
const LONGEST: f64 = 35.0 * 86_400.0;

/// The fields of a job, as files name them.
const FIELDS: [&str; 11] = [
    "id",
    "queuedAt",
    "seconds",
    "repository",
    "labels",
    "source",
    "public",
    "workflow",
    "name",
    "conclusion",
    "cancelledAt",
];

/// A job that was, or that might be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PastJob {
    /// What tells it from others, for people; a file's line number where nothing else does.
    pub id: String,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// How long it runs once an agent has it.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub duration: SignedDuration,
    /// The repository, as `owner/name`.
    pub repository: String,
    /// The labels that it asks for.
    pub labels: Vec<String>,
    /// Name of its `RunnerSource`; absent: the one that serves the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether its repository is public.
    #[serde(skip_serializing_if = "is_false")]
    pub public: bool,
    /// Name of its workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it ends if it runs; absent: `success`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<String>,
    /// When somebody cancels it, if no agent has it by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp>,
}

impl PastJob {
    /// The account that owns the repository.
    pub fn owner(&self) -> &str {
        self.repository.split_once('/').map_or("", |(owner, _)| owner)
    }
}

/// Reads a file of jobs, in the order in which they were queued. A name that ends in `.csv` says CSV; any other, JSON Lines.
///
/// # Errors
/// A file that cannot be read, or the first line, field and value that cannot be used, with the remedy.
pub fn read(path: &Path) -> anyhow::Result<Vec<PastJob>> {
    let text = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let csv = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"));
    let jobs = if csv { of_csv(&text) } else { of_json_lines(&text) };
    jobs.with_context(|| path.display().to_string())
}

/// Reads JSON Lines. Empty lines are passed over.
///
/// # Errors
/// The first line that cannot be used.
pub fn of_json_lines(text: &[u8]) -> anyhow::Result<Vec<PastJob>> {
    let mut jobs = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = index + 1;
        let fields: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            anyhow::anyhow!(
                "line {number}: not a JSON object ({error}): write one job a line, as {{\"queuedAt\": \"2026-01-05T09:00:00Z\", \
                 \"seconds\": 90, \"repository\": \"acme/web\", \"labels\": [\"stint\"]}}"
            )
        })?;
        jobs.push(job(&fields, number).map_err(|error| anyhow::anyhow!("line {number}: {error}"))?);
    }
    in_order(jobs)
}

/// Reads CSV with a header row. An empty cell is an absent value; labels are separated by `;`.
///
/// # Errors
/// The first line that cannot be used.
pub fn of_csv(text: &[u8]) -> anyhow::Result<Vec<PastJob>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let header = reader.headers().context("line 1: not usable as a CSV header")?.clone();
    for name in &header {
        anyhow::ensure!(FIELDS.contains(&name), "line 1: {}", unknown(name));
    }
    let mut jobs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| match error.position() {
            Some(at) => anyhow::anyhow!("line {}: not usable as CSV: {error}", at.line()),
            None => anyhow::anyhow!("not usable as CSV: {error}"),
        })?;
        let number = record.position().map_or(0, csv::Position::line);
        let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        let fields: Map<String, Value> =
            cells.map(|(name, cell)| (name.to_owned(), cell_value(name, cell))).collect();
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        jobs.push(job(&fields, number).map_err(|error| anyhow::anyhow!("line {number}: {error}"))?);
    }
    in_order(jobs)
}

/// Puts jobs in the order in which they were queued.
fn in_order(mut jobs: Vec<PastJob>) -> anyhow::Result<Vec<PastJob>> {
    anyhow::ensure!(!jobs.is_empty(), "it holds no job: write one a line");
    jobs.sort_by_key(|job| job.queued_at);
    Ok(jobs)
}

/// What a cell would be in JSON; text where it is not what its field asks for, which is then said of it.
fn cell_value(name: &str, cell: &str) -> Value {
    let text = || Value::String(cell.to_owned());
    match name {
        "seconds" => cell.parse::<f64>().ok().map_or_else(text, Value::from),
        "labels" => cell.split(';').map(str::trim).filter(|label| !label.is_empty()).collect(),
        "public" => cell.parse::<bool>().map_or_else(|_| text(), Value::Bool),
        _ => text(),
    }
}

fn unknown(name: &str) -> String {
    format!("{name:?}: there is no such field; there are {}", FIELDS.join(", "))
}

fn job(fields: &Map<String, Value>, line: usize) -> Result<PastJob, String> {
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(unknown(name));
    }
    let queued_at = moment(fields, "queuedAt")?
        .ok_or("queuedAt is missing: write when the job was queued, as \"2026-01-05T09:00:00Z\"")?;
    let cancelled_at = moment(fields, "cancelledAt")?;
    if let Some(at) = cancelled_at.filter(|at| *at < queued_at) {
        return Err(format!("cancelledAt: {at} is before queuedAt: correct it, or leave it out"));
    }
    let repository =
        text(fields, "repository")?.ok_or("repository is missing: write it as \"owner/name\"")?;
    let fine = |part: &str| !part.is_empty() && !part.contains(['/', ' ']);
    if !repository.split_once('/').is_some_and(|(owner, name)| fine(owner) && fine(name)) {
        return Err(format!("repository: {repository:?} is not a repository: write it as \"owner/name\""));
    }
    Ok(PastJob {
        id: text(fields, "id")?.unwrap_or_else(|| line.to_string()),
        queued_at,
        duration: duration(fields)?,
        repository,
        labels: labels(fields)?,
        source: text(fields, "source")?,
        public: public(fields)?,
        workflow: text(fields, "workflow")?,
        name: text(fields, "name")?,
        conclusion: text(fields, "conclusion")?,
        cancelled_at,
    })
}

fn given<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match given(fields, name) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some("") => Err(format!("{name} is empty: give it a value or leave it out")),
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(format!("{name}: {value} is not text: write it in quotes")),
        },
    }
}

fn moment(fields: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = text(fields, name)? else { return Ok(None) };
    let parsed: Result<Timestamp, _> = text.parse();
    parsed.map(Some).map_err(|_| {
        format!("{name}: {text:?} is not a moment: write it as in RFC 3339, as \"2026-01-05T09:00:00Z\"")
    })
}

fn duration(fields: &Map<String, Value>) -> Result<SignedDuration, String> {
    let value =
        given(fields, "seconds").ok_or("seconds is missing: write how long the job runs, as 90 or 90.5")?;
    let seconds = value.as_f64().filter(|seconds| (0.0..=LONGEST).contains(seconds));
    let millis = seconds.map(|seconds| (seconds * 1000.0).round());
    // In range: 35 days of milliseconds fit a double and an i64.
    millis.map(|millis| SignedDuration::from_millis(millis as i64)).ok_or_else(|| {
        format!("seconds: {value} is not how long a job runs: write 0 to {LONGEST} seconds, as 90 or 90.5")
    })
}

fn labels(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    let remedy = "write the job's runs-on, as [\"stint\"] (in CSV: stint;linux)";
    let value = given(fields, "labels").ok_or(format!("labels is missing: {remedy}"))?;
    let labels: Option<Vec<String>> = value.as_array().and_then(|labels| {
        labels
            .iter()
            .map(|label| label.as_str().filter(|label| !label.is_empty()).map(str::to_owned))
            .collect()
    });
    labels
        .filter(|labels| !labels.is_empty())
        .ok_or_else(|| format!("labels: {value} is not a list of labels: {remedy}"))
}

fn public(fields: &Map<String, Value>) -> Result<bool, String> {
    match given(fields, "public") {
        None => Ok(false),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| format!("public: {value} is neither true nor false: write one of them")),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn as_seconds<S: serde::Serializer>(duration: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
    match duration.subsec_millis() {
        0 => serializer.serialize_i64(duration.as_secs()),
        _ => serializer.serialize_f64(duration.as_millis_f64() / 1000.0),
    }
}

#[cfg(test)]
mod tests;
