//! Makes a failing plan smaller: takes faults, jobs and peculiarities of jobs out for as long as the same invariant
//! still does not hold.

use anyhow::Result;

use crate::scenario::Scenario;
use crate::world::Outcome;

/// How many runs shrinking may take.
const RUNS: usize = 150;

/// A plan and what came of it.
pub struct Failure {
    /// The smallest plan found.
    pub scenario: Scenario,
    /// What came of it.
    pub outcome: Outcome,
}

impl Failure {
    /// Shrinks a plan that failed.
    ///
    /// # Errors
    /// When no runtime can be had.
    pub fn shrunk(scenario: &Scenario, outcome: Outcome) -> Result<Self> {
        let mut best = Self { scenario: scenario.clone(), outcome };
        let Some(invariant) = best.outcome.violations.first().map(|first| first.invariant) else {
            return Ok(best);
        };
        let mut runs = 0;
        loop {
            let mut smaller = None;
            for candidate in smaller_ones(&best.scenario) {
                runs += 1;
                if runs > RUNS {
                    return Ok(best);
                }
                let outcome = candidate.run()?;
                if outcome.violations.iter().any(|violation| violation.invariant == invariant) {
                    smaller = Some(Self { scenario: candidate, outcome });
                    break;
                }
            }
            match smaller {
                Some(smaller) => best = smaller,
                None => return Ok(best),
            }
        }
    }

    /// The story of the failure.
    pub fn tell(&self) -> String {
        let violations: Vec<String> = self
            .outcome
            .violations
            .iter()
            .map(|violation| format!("{} does not hold: {}", violation.invariant, violation.text))
            .collect();
        let Outcome { story, .. } = &self.outcome;
        format!("{}\n{}\n{story}", violations.join("\n"), self.scenario.tell())
    }
}

/// The plan with one thing less, the largest steps first.
fn smaller_ones(plan: &Scenario) -> Vec<Scenario> {
    let mut smaller = Vec::new();
    for part in [2, 1] {
        let size = if part == 2 { plan.jobs.len() / 2 } else { 1 };
        if size == 0 || size >= plan.jobs.len() {
            continue;
        }
        for from in (0..plan.jobs.len()).step_by(size) {
            let mut less = plan.clone();
            less.jobs.drain(from..(from + size).min(plan.jobs.len()));
            smaller.push(less);
        }
    }
    for at in 0..plan.faults.len() {
        let mut less = plan.clone();
        less.faults.remove(at);
        smaller.push(less);
    }
    for (at, job) in plan.jobs.iter().enumerate() {
        if job.cancelled.is_some() || job.approved.is_some() || job.again || job.skipped {
            let mut less = plan.clone();
            if let Some(job) = less.jobs.get_mut(at) {
                (job.cancelled, job.approved, job.again, job.skipped) = (None, None, false, false);
            }
            smaller.push(less);
        }
    }
    smaller
}
