//! The report for a terminal.

use std::fmt::Write as _;

use super::super::statistics::{Change, Summary, Use, Waits};
use super::{Report, differs, figure, span};

/// So many repositories are shown, those with the most jobs; `summary.json` holds all.
const REPOSITORIES: usize = 15;
/// Figures of repositories are not among the differences that are shown, and others only where they differ.
const LEFT_OUT: &str = "wait of repository ";

pub(super) fn table(report: &Report<'_>) -> String {
    let mut text = String::new();
    for trial in report.trials() {
        one(&mut text, &trial.summary);
    }
    if report.second.is_some() {
        changes(&mut text, &report.difference);
    }
    text
}

fn one(text: &mut String, summary: &Summary) {
    let Summary { configuration, from, to, all, .. } = summary;
    let _ = writeln!(text, "{configuration}: {} jobs, {from} to {to}", all.jobs);
    let ends: Vec<String> = summary.outcomes.iter().map(|(end, count)| format!("{count} {end}")).collect();
    let _ = writeln!(text, "jobs ended: {}", ends.join(", "));
    let runners: u64 = summary.runner_ends.values().sum();
    let ends: Vec<String> = summary.runner_ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
    let _ = writeln!(text, "runners: {runners}, ended: {}", ends.join(", "));
    let never = all.jobs - all.started;
    if never > 0 {
        let jobs = if never == 1 { "1 job".to_owned() } else { format!("{never} jobs") };
        let _ = writeln!(text, "note: {jobs} never started; docs/errors has a page for each reason");
    }

    let _ = writeln!(
        text,
        "\n{:<40} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "WAITS UNTIL AN AGENT HAS THE JOB", "JOBS", "P50", "P90", "P99", "MAX", "AT ONCE"
    );
    waits(text, "all", all);
    for (class, of_class) in &summary.by_class {
        waits(text, &format!("class {class}"), of_class);
    }
    let mut repositories: Vec<(&String, &Waits)> = summary.by_repository.iter().collect();
    repositories.sort_by(|a, b| b.1.jobs.cmp(&a.1.jobs).then_with(|| a.0.cmp(b.0)));
    for (repository, of_repository) in repositories.iter().take(REPOSITORIES) {
        waits(text, &format!("repository {repository}"), of_repository);
    }
    if repositories.len() > REPOSITORIES {
        let _ = writeln!(text, "… {} more repositories", repositories.len() - REPOSITORIES);
    }

    let _ = writeln!(text, "\n{:<40} {:>8} {:>10} {:>10}", "WAITED FOR", "JOBS", "TOGETHER", "EACH");
    for waited in &summary.waited_for {
        let each = waited.seconds / (waited.jobs as f64).max(1.0);
        let _ = writeln!(
            text,
            "{:<40} {:>8} {:>10} {:>10}",
            waited.reason,
            waited.jobs,
            span(waited.seconds),
            span(each)
        );
    }

    let _ = writeln!(
        text,
        "\n{:<56} {:>8} {:>8} {:>8} {:>8} {:>10}  UNIT",
        "UTILISATION", "CAP", "MEAN", "PEAK", "OF CAP", "FULL FOR"
    );
    for one in &summary.utilisation {
        used(text, one);
    }

    let _ = writeln!(text, "\n{:<40} {:>16}", "COST", "AMOUNT");
    for cost in &summary.cost {
        let currency = &cost.currency;
        let mut line = |what: &str, amount: &rust_decimal::Decimal| {
            let _ = writeln!(text, "{what:<40} {:>12} {currency}", amount.round_dp(2).to_string());
        };
        line("all", &cost.total);
        for (class, amount) in &cost.by_class {
            line(&format!("class {class}"), amount);
        }
        for (place, amount) in &cost.by_place {
            line(&format!("place {place}"), amount);
        }
        let mut repositories: Vec<_> = cost.by_repository.iter().collect();
        repositories.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        for (repository, amount) in repositories.iter().take(REPOSITORIES) {
            line(&format!("repository {repository}"), amount);
        }
    }
    if summary.cost.is_empty() {
        text.push_str("nothing is billed\n");
    }
    text.push('\n');
}

fn waits(text: &mut String, name: &str, waits: &Waits) {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), span);
    let _ = writeln!(
        text,
        "{name:<40} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7.1}%",
        waits.jobs,
        shown(waits.p50),
        shown(waits.p90),
        shown(waits.p99),
        shown(waits.max),
        waits.started_at_once * 100.0
    );
}

fn used(text: &mut String, one: &Use) {
    let group = match (&one.group, one.groups) {
        (Some(group), groups) => format!(" ({group}, fullest of {groups})"),
        (None, _) => String::new(),
    };
    let name =
        if one.name.is_empty() { one.what.to_owned() } else { format!("{} {}{group}", one.what, one.name) };
    let cap = one.cap.map_or_else(|| "-".to_owned(), figure);
    let of_cap = one
        .cap
        .filter(|cap| *cap > 0.0)
        .map_or_else(|| "-".to_owned(), |cap| format!("{:.0}%", one.peak / cap * 100.0));
    let _ = writeln!(
        text,
        "{name:<56} {cap:>8} {:>8} {:>8} {of_cap:>8} {:>10}  {}",
        figure(one.mean),
        figure(one.peak),
        span(one.full_seconds),
        one.unit
    );
}

fn changes(text: &mut String, changes: &[Change]) {
    let _ = writeln!(text, "{:<52} {:>10} {:>10} {:>10}  UNIT", "DIFFERENCE", "FIRST", "SECOND", "CHANGE");
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let differ: Vec<&Change> =
        changes.iter().filter(|change| differs(change) && !change.what.starts_with(LEFT_OUT)).collect();
    if differ.is_empty() {
        text.push_str("none\n");
    }
    for change in differ {
        let by = change.difference.map_or_else(
            || "-".to_owned(),
            |by| format!("{}{}", if by > 0.0 { "+" } else { "" }, figure(by)),
        );
        let _ = writeln!(
            text,
            "{:<52} {:>10} {:>10} {by:>10}  {}",
            change.what,
            shown(change.first),
            shown(change.second),
            change.unit
        );
    }
}
