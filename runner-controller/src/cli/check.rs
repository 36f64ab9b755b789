//! `stint check`: are these documents usable, and what do they amount to?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use runner_core::isolation::Isolation;
use runner_core::setup::PlaceKind;

use super::run::InstallationArguments;
use crate::config::directory::{self, Secrets};
use crate::config::origins::Origin;
use crate::config::{DEFAULT_IMAGE, Documents, Problem, Resolved, ResolvedSource, resolve};
use crate::reconcile::sources::client;

/// Arguments of `stint check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Directory with the documents (*.yaml, *.yml).
    directory: PathBuf,
    /// Print every value in force and where it came from: document, installation (a flag or environment variable),
    /// node (read from the virtual node, once there is a cluster) or default.
    #[arg(long)]
    show_defaults: bool,
    #[command(flatten)]
    installation: InstallationArguments,
}

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let (documents, secrets) = directory::read(&arguments.directory)?;
    let mut resolved = resolve(&documents, &[], &arguments.installation.resolve()?);
    let secret_problems = in_secrets(&resolved, &secrets);
    resolved.problems.extend(secret_problems);
    if documents == Documents::default() {
        anyhow::bail!(
            "{} holds no RunnerSource, RunnerClass, RunnerPlace, ConcurrencyLimit or Budget in a *.yaml or *.yml file",
            arguments.directory.display()
        );
    }
    let mut text = if arguments.show_defaults { table(&resolved.origins) } else { String::new() };
    text.push_str(&report(&resolved));
    say!("{}", text.trim_end());
    let fine = resolved.problems.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sources whose Secret is not among those of the directory or cannot be used, if it holds any: else they are kept
/// elsewhere.
fn in_secrets(resolved: &Resolved, secrets: &Secrets) -> Vec<Problem> {
    if secrets.is_empty() {
        return Vec::new();
    }
    let problem = |source: &ResolvedSource| match secrets.get(&source.secret_ref) {
        Some(secret) => client(source, secret).err(),
        None => Some(format!(
            "github.secretRef: there is no Secret {} in the directory; add it, or correct the name",
            source.secret_ref
        )),
    };
    resolved
        .sources
        .iter()
        .filter_map(|(name, source)| {
            problem(source).map(|message| Problem { kind: "RunnerSource", name: name.clone(), message })
        })
        .collect()
}

/// Every value, aligned within its document.
fn table(origins: &[Origin]) -> String {
    let mut text = String::new();
    let same = |a: &Origin, b: &Origin| (a.kind, &a.name) == (b.kind, &b.name);
    for document in origins.chunk_by(same) {
        let field = width(document.iter().map(|origin| origin.field.as_str()));
        let from = width(document.iter().map(|origin| origin.from.as_str()));
        if let Some(Origin { kind, name, .. }) = document.first() {
            let _ = writeln!(text, "{kind} {name}");
        }
        for origin in document {
            let _ =
                writeln!(text, "  {:from$}  {:field$}  {}", origin.from.as_str(), origin.field, origin.value);
        }
        text.push('\n');
    }
    text
}

fn width<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

fn report(resolved: &Resolved) -> String {
    let mut text = String::new();
    for Problem { kind, name, message } in &resolved.problems {
        let _ = writeln!(text, "problem: {kind} {name}: {message}");
    }
    let setup = &resolved.setup;
    for place in setup.places.values() {
        // Only a cluster knows its virtual nodes.
        if let (PlaceKind::ContainerInstances, Some(why)) = (place.kind, &place.unready) {
            let _ = writeln!(text, "note: RunnerPlace {}: no runner can start there yet: {why}", place.name);
        }
    }
    for class in resolved.classes.values().filter(|class| class.image == DEFAULT_IMAGE) {
        let _ = writeln!(
            text,
            "note: RunnerClass {}: it names no image, and the default {DEFAULT_IMAGE} is not published yet",
            class.name
        );
    }
    if setup.places.is_empty() && !setup.classes.is_empty() {
        text.push_str(
            "note: no RunnerPlace is given: in a cluster, each virtual node becomes a place by itself\n",
        );
    }
    if setup.sources.is_empty() {
        text.push_str("note: no RunnerSource is usable, so no job is heard of\n");
    }
    if setup.classes.is_empty() {
        text.push_str("note: no RunnerClass is usable, so no job gets a runner\n");
    }
    for advisory in Isolation::of(setup).advisories(setup) {
        let _ = writeln!(text, "note: {} {}: {advisory}", advisory.kind, advisory.name);
    }
    let counted = [
        count(setup.sources.len(), "source", "sources"),
        count(setup.classes.len(), "class", "classes"),
        count(setup.places.len(), "place", "places"),
        count(setup.limits.len(), "limit", "limits"),
        count(setup.budgets.len(), "budget", "budgets"),
        count(resolved.problems.len(), "problem", "problems"),
    ];
    let _ = writeln!(text, "{}", counted.join(", "));
    text
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}
