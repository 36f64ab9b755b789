//! What people get of a simulation: a table, JSON, one CSV row for each job, and a page with plots.
//!
//! Writes figures that are there, and reckons none but those of plots. Whatever came from input is escaped.

mod csv_jobs;
mod page;
mod plot;
mod table;

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::history::PastJob;
use super::record::Ran;
use super::statistics::{Change, Summary, difference, summary};

/// One configuration's run, with its figures.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The figures.
    pub summary: Summary,
    /// All that came of it.
    pub ran: Ran,
}

/// The jobs and what came of them, under one configuration or two.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The jobs.
    pub jobs: &'a [PastJob],
    /// Under the first configuration.
    pub first: Trial,
    /// Under the second, if there is one.
    pub second: Option<Trial>,
    /// What differs.
    pub difference: Vec<Change>,
}

/// The report as JSON.
#[derive(Serialize)]
struct Json<'a> {
    simulated: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<&'a Summary>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    difference: &'a [Change],
}

impl<'a> Report<'a> {
    /// Of runs, each with the name of its configuration.
    pub fn new(jobs: &'a [PastJob], first: (&str, Ran), second: Option<(&str, Ran)>) -> Self {
        let trial = |(name, ran): (&str, Ran)| Trial { summary: summary(name, jobs, &ran), ran };
        let (first, second) = (trial(first), second.map(trial));
        let difference =
            second.as_ref().map_or_else(Vec::new, |second| difference(&first.summary, &second.summary));
        Self { jobs, first, second, difference }
    }

    /// The trials, one or two.
    fn trials(&self) -> impl Iterator<Item = &Trial> {
        [&self.first].into_iter().chain(&self.second)
    }

    /// As a table for a terminal.
    pub fn table(&self) -> String {
        table::table(self)
    }

    /// As JSON.
    ///
    /// # Errors
    /// A figure that JSON cannot hold, which none is.
    pub fn json(&self) -> anyhow::Result<String> {
        let second = self.second.as_ref().map(|second| &second.summary);
        let json = Json { simulated: &self.first.summary, compared: second, difference: &self.difference };
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    /// As one page of HTML, which asks nothing of any other address.
    pub fn page(&self) -> String {
        page::page(self)
    }

    /// Writes `summary.json`, `jobs.csv` (and `jobs-compared.csv`) and `report.html` into a directory, which is made if
    /// there is none.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("--out {}: it cannot be created", directory.display()))?;
        let write = |name: &str, text: &[u8]| {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
        };
        write("summary.json", self.json()?.as_bytes())?;
        write("report.html", self.page().as_bytes())?;
        for (trial, name) in self.trials().zip(["jobs.csv", "jobs-compared.csv"]) {
            write(name, &csv_jobs::of(self.jobs, &trial.ran)?)?;
        }
        Ok(())
    }
}

/// A length of time for people: `35s`, `2m05s`, `3h07m`.
fn span(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..100 => format!("{whole}s"),
        100..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// Whether a figure differs by so much that it shows.
fn differs(change: &Change) -> bool {
    change.difference.is_none_or(|by| by.abs() >= 0.005)
}

/// A figure without needless decimals.
fn figure(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
