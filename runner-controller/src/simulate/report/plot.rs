//! Plots as SVG text: each with a title and a description for those who do not see it, colours from the page.

use std::fmt::Write as _;

/// A plot's inner width and height, and the room for its labels.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 10.0;

/// One line of a plot.
pub(super) struct Line<'a> {
    /// Its name, for the legend.
    pub(super) name: &'a str,
    /// The page's class for its colour.
    pub(super) class: &'static str,
    /// Values at even distances.
    pub(super) values: Vec<f64>,
}

/// What a plot says of itself.
pub(super) struct About<'a> {
    /// Unique on its page.
    pub(super) id: &'a str,
    /// Its title.
    pub(super) title: &'a str,
    /// What it shows, in a sentence.
    pub(super) description: &'a str,
}

/// Text as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Controls have no place in HTML.
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// Lines over a common axis. `most`: the end of the vertical axis; `ends`: what the horizontal one begins and ends with.
pub(super) fn lines(about: &About<'_>, lines: &[Line<'_>], most: f64, ends: (&str, &str)) -> String {
    let mut svg = open(about);
    let most = scale(&mut svg, most);
    for line in lines {
        let steps = line.values.len().saturating_sub(1).max(1) as f64;
        let points: Vec<String> = line
            .values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                format!("{:.1},{:.1}", LEFT + WIDTH * index as f64 / steps, height_of(*value, most))
            })
            .collect();
        let _ = write!(svg, "<polyline class=\"{}\" points=\"{}\"/>", line.class, points.join(" "));
    }
    let base = TOP + HEIGHT + 16.0;
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{base}\">{}</text><text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>",
        escape(ends.0),
        LEFT + WIDTH,
        escape(ends.1)
    );
    svg.push_str("</svg>");
    for line in lines {
        let _ = write!(svg, "<span class=\"key {}\">{}</span>", line.class, escape(line.name));
    }
    svg
}

/// Bars with their names. `most`: the end of the vertical axis.
pub(super) fn bars(about: &About<'_>, values: &[(String, f64)], most: f64) -> String {
    let mut svg = open(about);
    let most = scale(&mut svg, most);
    let step = WIDTH / (values.len() as f64).max(1.0);
    // Names that would overlap are left out; each bar tells its own.
    let every = values.len().div_ceil(12).max(1);
    for (index, (name, value)) in values.iter().enumerate() {
        let (x, y) = (LEFT + step * index as f64, height_of(*value, most));
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {}</title></rect>",
            x + step * 0.1,
            step * 0.8,
            TOP + HEIGHT - y,
            escape(name),
            super::figure(*value)
        );
        if index % every == 0 {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x + step / 2.0,
                TOP + HEIGHT + 16.0,
                escape(name)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

fn open(about: &About<'_>) -> String {
    let About { id, title, description } = about;
    let (id, width, height) = (escape(id), LEFT + WIDTH + 12.0, TOP + HEIGHT + BOTTOM);
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>\
         <desc id=\"{id}-d\">{}</desc>",
        escape(title),
        escape(description)
    )
}

/// Draws the vertical axis, and answers where it ends: at a number that people like.
fn scale(svg: &mut String, most: f64) -> f64 {
    let power = 10_f64.powf(most.max(1e-6).log10().floor());
    let end = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|end| *end >= most);
    let end = end.unwrap_or(most).max(1e-6);
    for part in [0.0, 0.5, 1.0] {
        let y = height_of(end * part, end);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            y + 4.0,
            super::figure(end * part)
        );
    }
    end
}

fn height_of(value: f64, most: f64) -> f64 {
    TOP + HEIGHT * (1.0 - (value / most).clamp(0.0, 1.0))
}
