//! The words of a notice: a title of one line and a summary in Markdown.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::Cost;
use crate::job::{Job, JobAction, JobState};
use crate::reason::Reason;

/// What each notice says of itself.
const OF_ITSELF: &str = "Stint starts this job's runner. This check only informs: it always ends as neutral, which \
                         neither passes nor fails a commit. Do not make it a required check, since a job that starts at \
                         once has none.";

/// What a notice says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text {
    /// One line.
    pub title: String,
    /// Markdown.
    pub summary: String,
}

/// Why a job waits. `place`: its place in line, from 1, and how many wait.
pub(super) fn waiting(
    reason: &Reason,
    sentence: &str,
    place: Option<(usize, usize)>,
    since: Timestamp,
) -> Text {
    let code = reason.code();
    let title = match (reason, place) {
        (Reason::AttemptsExhausted { .. }, _) => "No further runner is started".to_owned(),
        (_, Some((place, all))) => format!("Waits for a runner: number {place} of {all} in line"),
        (_, None) => "Waits for a runner".to_owned(),
    };
    let mut rows = vec![("Reason", format!("`{code}`, explained on Stint's page `docs/errors/{code}.md`"))];
    rows.extend(place.map(|(place, all)| ("In line", format!("number {place} of {all}"))));
    rows.push(("Since", shown(since)));
    Text { title, summary: summary(&capitalized(sentence), &rows) }
}

/// A runner is on its way.
pub(super) fn starting(since: Timestamp) -> Text {
    let rows = [("Waits since", shown(since))];
    Text {
        title: "A runner is being started".to_owned(),
        summary: summary("A runner is being started.", &rows),
    }
}

/// A runner has the job.
pub(super) fn running(job: &Job) -> Text {
    let times = Times::of(job);
    let title = match times.waited() {
        Some(waited) => format!("Runs, after a wait of {}", long(waited)),
        None => "Runs".to_owned(),
    };
    let rows: Vec<_> = times.started.map(|at| ("Runs since", shown(at))).into_iter().collect();
    Text { title, summary: summary("A runner has the job.", &rows) }
}

/// The last word: how long the job waited and ran, and what it cost.
pub fn ended(job: &Job, costs: &[Cost]) -> Text {
    let times = Times::of(job);
    let mut sums: BTreeMap<&str, (Decimal, u64)> = BTreeMap::new();
    let mut lost: BTreeMap<&str, Decimal> = BTreeMap::new();
    for cost in costs {
        let (amount, seconds) = sums.entry(&cost.currency).or_default();
        *amount = amount.saturating_add(cost.amount);
        *seconds = seconds.saturating_add(cost.seconds);
        if !cost.ran {
            let lost = lost.entry(&cost.currency).or_default();
            *lost = lost.saturating_add(cost.amount);
        }
    }
    let money = |(currency, amount): (&&str, &Decimal)| format!("{} {currency}", amount.normalize());
    let amounts: BTreeMap<&str, Decimal> = sums.iter().map(|(currency, sum)| (*currency, sum.0)).collect();
    let cost = amounts.iter().map(money).collect::<Vec<_>>().join(" and ");
    let mut title: Vec<String> = Vec::new();
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(waited) = times.waited() {
        title.push(format!("waited {}", long(waited)));
        rows.push(("Waited", long(waited)));
    }
    let ran = times.ran();
    if let Some(ran) = ran {
        title.push(format!("ran {}", long(ran)));
        rows.push(("Ran", long(ran)));
    }
    if cost.is_empty() {
        rows.push(("Cost", "nothing was billed for it".to_owned()));
    } else {
        let seconds: u64 = sums.values().map(|(_, seconds)| seconds).sum();
        title.push(format!("cost {cost}"));
        rows.push(("Cost", format!("{cost}, for {seconds} s")));
    }
    if !lost.is_empty() {
        let lost = lost.iter().map(money).collect::<Vec<_>>().join(" and ");
        rows.push(("Of that", format!("{lost} for runners that were started for it and did not run it")));
    }
    let title = capitalized(&title.join(", "));
    let title = if title.is_empty() { "Is over".to_owned() } else { title };
    let first = match job.state() {
        JobState::Ended { runner: None, .. } if ran.is_none() => "The job is over, and no runner ran it.",
        JobState::Ended { .. } | JobState::Queued { .. } | JobState::Waiting | JobState::Running { .. } => {
            "The job is over."
        }
    };
    Text { title, summary: summary(first, &rows) }
}

/// When a job was queued, started and ended, as Stint heard of it.
struct Times {
    queued: Option<Timestamp>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    /// Whether a runner had it, be it known when or not.
    had_runner: bool,
}

impl Times {
    fn of(job: &Job) -> Self {
        let heard = |action: JobAction| {
            job.facts.iter().filter(move |fact| fact.action == action).map(|fact| fact.heard_at)
        };
        let held_back = heard(JobAction::Waiting).max();
        let queued = heard(JobAction::Queued).filter(|at| held_back.is_none_or(|held| *at > held)).min();
        let had_runner = job.facts.iter().any(|fact| fact.runner.is_some());
        let ended = heard(JobAction::Completed).min();
        Self { queued, started: heard(JobAction::InProgress).min(), ended, had_runner }
    }

    fn waited(&self) -> Option<SignedDuration> {
        let until = match self.started {
            Some(started) => Some(started),
            None if self.had_runner => None,
            None => self.ended,
        };
        Some(until?.duration_since(self.queued?).max(SignedDuration::ZERO))
    }

    fn ran(&self) -> Option<SignedDuration> {
        Some(self.ended?.duration_since(self.started?).max(SignedDuration::ZERO))
    }
}

fn summary(first: &str, rows: &[(&str, String)]) -> String {
    let first = if first.ends_with('.') { first.to_owned() } else { format!("{first}.") };
    let table: String = rows.iter().map(|(name, value)| format!("| {name} | {} |\n", cell(value))).collect();
    if table.is_empty() {
        return format!("{first}\n\n{OF_ITSELF}\n");
    }
    format!("{first}\n\n| | |\n|---|---|\n{table}\n{OF_ITSELF}\n")
}

/// A text that ends neither its cell nor its line.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn long(span: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(span.as_secs()))
}
