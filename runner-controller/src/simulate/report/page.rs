//! The report as one page of HTML: figures and plots, nothing fetched, readable in light and dark.

use std::fmt::Write as _;

use super::super::history::PastJob;
use super::super::record::{Bin, Ran};
use super::super::statistics::{Change, Summary, Use, Waits, wait};
use super::plot::{About, Line, bars, escape, lines};
use super::{Report, Trial, differs, figure, span};

/// Ends of the stretches that waits are counted in, in seconds.
const STRETCHES: [(f64, &str); 10] = [
    (30.0, "30s"),
    (60.0, "1m"),
    (120.0, "2m"),
    (300.0, "5m"),
    (600.0, "10m"),
    (1800.0, "30m"),
    (3600.0, "1h"),
    (3.0 * 3600.0, "3h"),
    (12.0 * 3600.0, "12h"),
    (f64::INFINITY, "more"),
];
/// So many repositories are shown, those with the most jobs.
const REPOSITORIES: usize = 50;

const STYLE: &str = "
:root{color-scheme:light dark;--text:#1c2733;--back:#fff;--faint:#5b6875;--rule:#d5dbe1;--one:#0b62c4;--two:#b4530a}
@media (prefers-color-scheme:dark){:root{--text:#e4e9ee;--back:#14191f;--faint:#9aa7b4;--rule:#33404d;--one:#6cb2ff;--two:#ffa657}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--back);margin:2rem auto;max-width:78rem;padding:0 1rem}
h1,h2{line-height:1.2}h2{margin-top:2rem}
.sides{display:grid;gap:2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr))}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--rule);text-align:right}
th:first-child,td:first-child{text-align:left}
caption{text-align:left;font-weight:600;padding:.8rem 0 .3rem}
svg{width:100%;height:auto;font-size:11px}
svg text{fill:var(--faint)}
.grid{stroke:var(--rule)}
polyline{fill:none;stroke-width:1.6}
.one{stroke:var(--one)}.two{stroke:var(--two)}.bar{fill:var(--one)}
.key{margin-right:1.2rem}.key.one{color:var(--one)}.key.two{color:var(--two)}
.note{color:var(--faint)}
";

pub(super) fn page(report: &Report<'_>) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Stint: simulation</title>");
    let _ = write!(out, "<style>{STYLE}</style></head><body><main><h1>Simulation</h1>");
    let _ = write!(
        out,
        "<p>{} jobs replayed in virtual time through Stint's planner. Starts, Azure's quota and the order in which GitHub \
         hands jobs out are modelled.</p>",
        report.jobs.len()
    );
    let scales = Scales::of(report);
    out.push_str("<div class=\"sides\">");
    for (index, trial) in report.trials().enumerate() {
        side(&mut out, index, report.jobs, trial, &scales);
    }
    out.push_str("</div>");
    if report.second.is_some() {
        changes(&mut out, &report.difference);
    }
    out.push_str("</main></body></html>\n");
    out
}

/// Both sides have the same scales, so that they can be compared by eye.
struct Scales {
    jobs: f64,
    share: f64,
    day: f64,
}

impl Scales {
    fn of(report: &Report<'_>) -> Self {
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        Self {
            jobs: most(
                &mut report
                    .trials()
                    .flat_map(|trial| trial.ran.timeline.iter().flat_map(|bin| [bin.queued, bin.running])),
            ),
            share: most(
                &mut report
                    .trials()
                    .flat_map(|trial| distribution(report.jobs, &trial.ran))
                    .map(|(_, share)| share),
            ),
            day: most(&mut report.trials().flat_map(days).map(|(_, amount)| amount)),
        }
    }
}

fn side(out: &mut String, index: usize, jobs: &[PastJob], trial: &Trial, scales: &Scales) {
    let summary = &trial.summary;
    let _ = write!(out, "<section><h2>{}</h2>", escape(&summary.configuration));
    let _ = write!(out, "<p>{} to {}</p><ul>", escape(&summary.from), escape(&summary.to));
    for (end, count) in &summary.outcomes {
        let _ = write!(out, "<li>{count} jobs: {}</li>", escape(end));
    }
    for (end, count) in &summary.runner_ends {
        let _ = write!(out, "<li>{count} runners ended: {}</li>", escape(end));
    }
    out.push_str("</ul>");

    let values = |of: fn(&Bin) -> f64| trial.ran.timeline.iter().map(of).collect();
    let plotted = [
        Line { name: "queued", class: "two", values: values(|bin| bin.queued) },
        Line { name: "running", class: "one", values: values(|bin| bin.running) },
    ];
    let peak = trial.ran.timeline.iter().map(|bin| bin.queued_peak).max().unwrap_or(0);
    out.push_str("<h3>Jobs over time</h3>");
    out.push_str(&lines(
        &About {
            id: &format!("time-{index}"),
            title: "Jobs that wait and jobs that run, over time",
            description: &format!(
                "Averages over stretches of {}; at most {peak} jobs waited at once.",
                span(trial.ran.bin.as_millis_f64() / 1000.0)
            ),
        },
        &plotted,
        scales.jobs,
        (&summary.from, &summary.to),
    ));
    out.push_str("<h3>Waits, in percent of the jobs</h3>");
    let waits = distribution(jobs, &trial.ran);
    out.push_str(&bars(
        &About {
            id: &format!("waits-{index}"),
            title: "How long jobs waited until an agent had them",
            description: "Each bar: the percentage of jobs that waited so long, and longer than the bar before.",
        },
        &waits,
        scales.share,
    ));
    let days = days(trial);
    if !days.is_empty() {
        let currency = summary.cost.first().map_or("", |cost| cost.currency.as_str());
        let _ = write!(out, "<h3>Cost of each day, {}</h3>", escape(currency));
        out.push_str(&bars(
            &About {
                id: &format!("cost-{index}"),
                title: "What container groups cost each day",
                description: "By the day in UTC on which the meter stopped.",
            },
            &days,
            scales.day,
        ));
    }
    tables(out, summary);
    out.push_str("</section>");
}

/// In percent of the jobs that started.
fn distribution(jobs: &[PastJob], ran: &Ran) -> Vec<(String, f64)> {
    let waits: Vec<f64> =
        jobs.iter().zip(&ran.jobs).filter_map(|(past, record)| wait(past, record)).collect();
    let mut below = 0.0;
    STRETCHES
        .iter()
        .map(|(end, name)| {
            let count =
                waits.iter().filter(|wait| (below < **wait || below == 0.0) && **wait <= *end).count();
            below = *end;
            ((*name).to_owned(), count as f64 * 100.0 / (waits.len() as f64).max(1.0))
        })
        .collect()
}

/// In the first currency there is.
fn days(trial: &Trial) -> Vec<(String, f64)> {
    let by_day = trial.summary.cost.first().into_iter().flat_map(|cost| &cost.by_day);
    by_day
        .map(|(day, amount)| {
            let short = day.split_once('-').map_or(day.as_str(), |(_, rest)| rest);
            (short.to_owned(), amount.to_string().parse().unwrap_or(0.0))
        })
        .collect()
}

fn tables(out: &mut String, summary: &Summary) {
    let head = ["", "jobs", "p50", "p90", "p99", "max", "at once"];
    let mut rows = vec![waits_row("all", &summary.all)];
    rows.extend(summary.by_class.iter().map(|(class, waits)| waits_row(&format!("class {class}"), waits)));
    let mut repositories: Vec<(&String, &Waits)> = summary.by_repository.iter().collect();
    repositories.sort_by(|a, b| b.1.jobs.cmp(&a.1.jobs).then_with(|| a.0.cmp(b.0)));
    rows.extend(repositories.into_iter().take(REPOSITORIES).map(|(name, waits)| waits_row(name, waits)));
    table(out, "Waits until an agent has the job", &head, &rows);

    let rows: Vec<Vec<String>> = summary
        .waited_for
        .iter()
        .map(|waited| vec![waited.reason.clone(), waited.jobs.to_string(), span(waited.seconds)])
        .collect();
    table(out, "What jobs waited for", &["reason", "jobs", "together"], &rows);

    let rows: Vec<Vec<String>> = summary.utilisation.iter().map(use_row).collect();
    table(out, "Utilisation", &["", "cap", "mean", "peak", "full for", "unit"], &rows);

    for cost in &summary.cost {
        let row = |what: String, amount: &rust_decimal::Decimal| vec![what, amount.round_dp(2).to_string()];
        let mut rows = vec![row("all".to_owned(), &cost.total)];
        rows.extend(cost.by_class.iter().map(|(name, amount)| row(format!("class {name}"), amount)));
        rows.extend(cost.by_place.iter().map(|(name, amount)| row(format!("place {name}"), amount)));
        let mut repositories: Vec<_> = cost.by_repository.iter().collect();
        repositories.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let most = repositories.into_iter().take(REPOSITORIES);
        rows.extend(most.map(|(name, amount)| row(name.clone(), amount)));
        table(out, "Cost", &["", &cost.currency], &rows);
    }
}

fn waits_row(name: &str, waits: &Waits) -> Vec<String> {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), span);
    vec![
        name.to_owned(),
        waits.jobs.to_string(),
        shown(waits.p50),
        shown(waits.p90),
        shown(waits.p99),
        shown(waits.max),
        format!("{:.1}%", waits.started_at_once * 100.0),
    ]
}

fn use_row(one: &Use) -> Vec<String> {
    let group = one
        .group
        .as_ref()
        .map(|group| format!(" ({group}, the fullest of {})", one.groups))
        .unwrap_or_default();
    vec![
        format!("{} {}{group}", one.what, one.name),
        one.cap.map_or_else(|| "–".to_owned(), figure),
        figure(one.mean),
        figure(one.peak),
        span(one.full_seconds),
        one.unit.to_owned(),
    ]
}

fn changes(out: &mut String, changes: &[Change]) {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), figure);
    let rows: Vec<Vec<String>> = changes
        .iter()
        .filter(|change| differs(change))
        .map(|change| {
            let sign = if change.difference.is_some_and(|by| by > 0.0) { "+" } else { "" };
            vec![
                change.what.clone(),
                shown(change.first),
                shown(change.second),
                format!("{sign}{}", shown(change.difference)),
                change.unit.clone(),
            ]
        })
        .collect();
    out.push_str("<h2>Difference</h2>");
    if rows.is_empty() {
        out.push_str("<p class=\"note\">None.</p>");
        return;
    }
    table(out, "The second less the first", &["", "first", "second", "change", "unit"], &rows);
}

fn table(out: &mut String, caption: &str, head: &[&str], rows: &[Vec<String>]) {
    let _ = write!(out, "<div class=\"scroll\"><table><caption>{}</caption><thead><tr>", escape(caption));
    for cell in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cell));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}
