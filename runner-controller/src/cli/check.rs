//! `stint check`: are these documents usable, and what do they amount to?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::run::InstallationArguments;
use crate::config::origins::Origin;
use crate::config::{Problem, Resolved, directory, resolve};

/// Arguments of `stint check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Directory with the documents (*.yaml, *.yml).
    directory: PathBuf,
    /// Print every value in force and where it came from.
    #[arg(long)]
    show_defaults: bool,
    #[command(flatten)]
    installation: InstallationArguments,
}

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let (documents, secrets) = directory::read(&arguments.directory)?;
    let mut resolved = resolve(&documents, &[], &arguments.installation.resolve()?);
    for (name, source) in &resolved.sources {
        if !secrets.is_empty() && !secrets.contains_key(&source.secret_ref) {
            resolved.problems.push(Problem {
                kind: "RunnerSource",
                name: name.clone(),
                message: format!("github.secretRef: there is no Secret {} in the directory", source.secret_ref),
            });
        }
    }
    print!("{}", report(&resolved, arguments.show_defaults));
    let fine = resolved.problems.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(resolved: &Resolved, show_defaults: bool) -> String {
    let mut text = String::new();
    if show_defaults {
        let width = resolved.origins.iter().map(|origin| origin.field.len()).max().unwrap_or(0);
        let mut document = String::new();
        for Origin { kind, name, field, value, from } in &resolved.origins {
            let of = format!("{kind} {name}");
            if of != document {
                text.push_str(&of);
                text.push('\n');
                document = of;
            }
            text.push_str(&format!("  {field:width$}  {value}  ({from})\n"));
        }
    }
    for Problem { kind, name, message } in &resolved.problems {
        text.push_str(&format!("problem: {kind} {name}: {message}\n"));
    }
    let setup = &resolved.setup;
    text.push_str(&format!(
        "{} sources, {} classes, {} places, {} problems\n",
        setup.sources.len(),
        setup.classes.len(),
        setup.places.len(),
        resolved.problems.len()
    ));
    text
}
