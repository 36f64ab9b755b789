//! The demo's live table: redrawn in place on a terminal, printed when it changes elsewhere.

use std::collections::HashMap;
use std::io::Write as _;

use runner_core::job::{Job, Standing};

/// A job's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    job: String,
    label: String,
    standing: String,
    runner: String,
    about: String,
    /// Whether nothing more will happen to the job.
    pub(super) settled: bool,
}

impl Line {
    /// The line of a job; `groups`: states of container groups by name.
    pub(super) fn of(job: &Job, groups: &HashMap<String, String>) -> Self {
        let report = &job.report;
        let runner = report.runner.clone().unwrap_or_default();
        let about = match (&report.conclusion, &report.reason) {
            (Some(conclusion), _) => conclusion.clone(),
            (None, Some(reason)) => reason.clone(),
            (None, None) => groups.get(&runner).map(|state| format!("group {state}")).unwrap_or_default(),
        };
        Self {
            job: job.description.name.clone(),
            label: job.description.labels.last().cloned().unwrap_or_default(),
            standing: report.standing.as_str().to_owned(),
            runner,
            about,
            settled: matches!(report.standing, Standing::Ended | Standing::Refused),
        }
    }
}

/// The table.
pub(super) struct Table {
    terminal: bool,
    shown: Vec<Line>,
}

impl Table {
    /// A table that has not been drawn.
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, shown: Vec::new() }
    }

    /// Draws the lines, if they are new.
    pub(super) fn draw(&mut self, lines: &[Line]) {
        if lines == self.shown {
            return;
        }
        let mut out = std::io::stdout().lock();
        if self.terminal {
            if !self.shown.is_empty() {
                // Back to the header, and clear what was there.
                let _ = write!(out, "\x1b[{}A\x1b[J", self.shown.len() + 1);
            }
            let _ = writeln!(out, "{:<10} {:<12} {:<9} {:<22} ", "JOB", "RUNS-ON", "STATE", "RUNNER");
            for line in lines {
                let _ = writeln!(out, "{}", shown(line));
            }
        } else {
            for line in lines.iter().filter(|line| !self.shown.contains(line)) {
                let _ = writeln!(out, "{}", shown(line));
            }
        }
        let _ = out.flush();
        self.shown = lines.to_vec();
    }

    /// Ends the drawing.
    pub(super) fn end(&self) {
        say!();
    }
}

fn shown(line: &Line) -> String {
    let text = format!(
        "{:<10} {:<12} {:<9} {:<22} {}",
        line.job, line.label, line.standing, line.runner, line.about
    );
    text.trim_end().to_owned()
}
