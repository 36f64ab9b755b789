//! Documents, flags and nodes → what is in force: every default filled in, every value read, every problem named.

mod budgets;
mod classes;
mod limits;
mod places;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use runner_core::isolation::Isolation;
use runner_core::setup::{RegisterAt, Settings, Setup, Source};

use super::origins::{Collector, From};
use super::source::{GitHubSpec, IntakeSpec, PublicRepositories, RegisterAtSpec};
use super::{Documents, Installation, Intake, Problem, Resolved, ResolvedSource, RunnerSourceSpec, quantity};
use crate::ports::VirtualNodeSeen;

/// How long a job waits before it gets a check-run: about as long as a virtual node needs to start a runner.
const NOTICE_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// How often deliveries are read where nothing is sent to Stint.
const POLL_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// The least and the most of that.
const POLL_BOUNDS: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(2), SignedDuration::from_mins(5));
/// Where a source says where its runners register.
const REGISTER_AT: &str = "github.registerAt";

/// Resolves the documents. One with a problem is left out and named in `problems`; the others are used.
pub fn resolve(documents: &Documents, nodes: &[VirtualNodeSeen], installation: &Installation) -> Resolved {
    let mut resolved = Resolved {
        setup: Setup {
            settings: Settings {
                installation: installation.id.clone(),
                max_runners: installation.max_runners,
                priorities: installation.priorities.clone(),
                age_every: installation.age_every.unwrap_or(Settings::default().age_every),
                reserve_after: installation.reserve_after.unwrap_or(Settings::default().reserve_after),
                ..Settings::default()
            },
            ..Setup::default()
        },
        problems: documents.unreadable.clone(),
        ..Resolved::default()
    };
    settings(&mut resolved, installation);
    for (name, spec) in &documents.sources {
        let mut origins = Collector::new("RunnerSource", name);
        match source(name, spec, &mut origins) {
            Ok((planner, source)) => {
                resolved.setup.sources.insert(name.clone(), planner);
                resolved.sources.insert(name.clone(), Arc::new(source));
            }
            Err(message) => resolved.problem("RunnerSource", name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    for (name, spec) in &documents.classes {
        let mut origins = Collector::new("RunnerClass", name);
        match classes::class(name, spec, &mut origins) {
            Ok((planner, class)) => {
                resolved.setup.classes.insert(name.clone(), planner);
                resolved.classes.insert(name.clone(), Arc::new(class));
            }
            Err(message) => resolved.problem("RunnerClass", name, message),
        }
        resolved.origins.extend(origins.finish());
    }
    places::resolve(&mut resolved, documents, nodes, installation);
    limits::resolve(&mut resolved, documents);
    classes::find_unsuitable(&mut resolved);
    budgets::resolve(&mut resolved, documents);
    registrations(&mut resolved);
    let unknown: Vec<(String, String)> = documents
        .classes
        .iter()
        .flat_map(|(name, spec)| {
            spec.places.iter().flat_map(|places| &places.order).map(move |place| (name, place))
        })
        .filter(|(_, place)| {
            !documents.places.contains_key(*place) && !resolved.setup.places.contains_key(*place)
        })
        .map(|(name, place)| (name.clone(), place.clone()))
        .collect();
    for (name, place) in unknown {
        let message = format!(
            "places.order: there is no place {place}: correct it, or create a RunnerPlace or virtual node of that name"
        );
        resolved.problem("RunnerClass", &name, message);
    }
    resolved
}

impl Resolved {
    fn problem(&mut self, kind: &'static str, name: &str, message: String) {
        self.problems.push(Problem { kind, name: name.to_owned(), message });
    }
}

/// Says beside each source where its runners register, now that limits and budgets are known.
fn registrations(resolved: &mut Resolved) {
    let isolation = Isolation::of(&resolved.setup);
    for source in resolved.setup.sources.values().filter(|source| source.register_at == RegisterAt::Auto) {
        let apart: Vec<String> = source
            .owners
            .iter()
            .filter_map(|owner| {
                let rule = isolation.separating(&source.name, owner, None)?;
                Some(format!("at the repository for {owner} ({} {})", rule.kind, rule.name))
            })
            .collect();
        let origin = resolved.origins.iter_mut().find(|origin| {
            (origin.kind, origin.name.as_str(), origin.field.as_str())
                == ("RunnerSource", source.name.as_str(), REGISTER_AT)
        });
        if let Some(origin) = origin.filter(|_| !apart.is_empty()) {
            origin.value = format!("{}: {}", origin.value, apart.join(", "));
        }
    }
}

fn settings(resolved: &mut Resolved, installation: &Installation) {
    let (settings, default) = (&resolved.setup.settings, Settings::default());
    let mut origins = Collector::new("Installation", &installation.id);
    let from = |same: bool| if same { From::Default } else { From::Installation };
    origins.note("maxRunners", settings.max_runners, from(settings.max_runners == default.max_runners));
    let age_every = format!("{:#}", settings.age_every);
    origins.note("ageEvery", age_every, from(installation.age_every.is_none()));
    origins.note("confirmAfter", format!("{:#}", settings.confirm_after), From::Default);
    let rules = match settings.priorities.len() {
        0 => "none".to_owned(),
        1 => "1 rule".to_owned(),
        several => format!("{several} rules"),
    };
    origins.note("priorities", rules, from(settings.priorities.is_empty()));
    let reserve_after = format!("{:#}", settings.reserve_after);
    origins.note("reserveAfter", reserve_after, from(installation.reserve_after.is_none()));
    origins.note("retryBase", format!("{:#}", settings.retry_base), From::Default);
    origins.note("surplusGrace", format!("{:#}", settings.surplus_grace), From::Default);
    origins.note("ttlAfterEnd", format!("{:#}", settings.ttl_after_end), From::Default);
    resolved.origins.extend(origins.finish());
}

fn source(
    name: &str,
    spec: &RunnerSourceSpec,
    origins: &mut Collector<'_>,
) -> Result<(Source, ResolvedSource), String> {
    let github = spec.github.as_ref().ok_or("github is missing: it is the only kind of source")?;
    if github.owners.is_empty() && github.repositories.is_empty() {
        return Err("github.owners and github.repositories are both empty: name at least one".to_owned());
    }
    if let Some(bad) = github.owners.iter().find(|owner| owner.is_empty() || owner.contains(['/', ' '])) {
        return Err(format!(
            "github.owners: {bad:?} is not an organization: write its name as in github.com/NAME"
        ));
    }
    if let Some(bad) = github.repositories.iter().find(|repository| !is_repository(repository)) {
        return Err(format!("github.repositories: {bad:?} is not a repository: write it as owner/name"));
    }
    if github.secret_ref.is_empty() {
        return Err("github.secretRef is missing: name the Secret with appId, privateKey and webhookSecret"
            .to_owned());
    }
    let url = |field: &str, given: Option<&String>, schemes: &[&str], like: &str| match given {
        Some(bad) if !schemes.iter().any(|scheme| bad.starts_with(scheme)) => {
            Err(format!("{field}: {:?} is not such a URL: write it as {like}", without_userinfo(bad)))
        }
        Some(_) | None => Ok(()),
    };
    url("github.apiUrl", github.api_url.as_ref(), &["https://", "http://"], "https://HOST/api/v3")?;
    url("github.proxy", github.proxy.as_ref(), &["http://"], "http://[user:password@]host:port")?;
    origins.note("github.owners", shown_list(&github.owners), given(!github.owners.is_empty()));
    origins.note(
        "github.repositories",
        shown_list(&github.repositories),
        given(!github.repositories.is_empty()),
    );
    origins.note("github.secretRef", &github.secret_ref, From::Document);
    let api_url =
        origins.or_default("github.apiUrl", github.api_url.as_ref(), "https://api.github.com".to_owned());
    let intake = intake(github, origins)?;
    let runner_group_id = origins.or_default("github.runnerGroupId", github.runner_group_id.as_ref(), 1);
    let register_at = github.register_at.unwrap_or_default();
    // A group restricts repositories and workflows, and a repository's own runners are in none: only an admin may choose
    // to leave it.
    let (register_at, shown) = match (register_at, runner_group_id) {
        (RegisterAtSpec::Auto, 2..) => {
            (RegisterAt::Owner, "Auto: at the owner, in its runner group".to_owned())
        }
        (other, _) => (other.into(), format!("{other:?}")),
    };
    origins.note(REGISTER_AT, shown, given(github.register_at.is_some()));
    let public = github.public_repositories.unwrap_or_default();
    origins.note(
        "github.publicRepositories",
        format!("{public:?}"),
        given(github.public_repositories.is_some()),
    );
    let proxy = github.proxy.as_deref().map_or("none", without_userinfo);
    origins.note("github.proxy", proxy, given(github.proxy.is_some()));
    let bundle = if github.ca_bundle.is_some() { "set" } else { "none" };
    origins.note("github.caBundle", bundle, given(github.ca_bundle.is_some()));
    let planner = Source {
        name: name.to_owned(),
        unavailable: None,
        registrations: None,
        allow_public: public == PublicRepositories::Allow,
        notice_after: notice_after(github, origins)?,
        owners: github.owners.clone(),
        repositories: github.repositories.clone(),
        register_at,
    };
    let resolved = ResolvedSource {
        name: name.to_owned(),
        api_url,
        secret_ref: github.secret_ref.clone(),
        runner_group_id,
        proxy: github.proxy.clone(),
        ca_bundle: github.ca_bundle.clone(),
        owners: github.owners.clone(),
        repositories: github.repositories.clone(),
        intake,
    };
    Ok((planner, resolved))
}

/// How Stint hears of jobs.
fn intake(github: &GitHubSpec, origins: &mut Collector<'_>) -> Result<Intake, String> {
    let spec = github.intake.unwrap_or_default();
    let word = match spec {
        IntakeSpec::Webhook => "webhook",
        IntakeSpec::Poll => "poll",
    };
    origins.note("github.intake", word, given(github.intake.is_some()));
    let every = match &github.poll_every {
        Some(text) => quantity::duration(text).map_err(|error| format!("github.pollEvery: {error}"))?,
        None => POLL_EVERY,
    };
    if every < POLL_BOUNDS.0 || every > POLL_BOUNDS.1 {
        return Err(format!("github.pollEvery: {every:#} is out of bounds: write a time from 2s to 5m"));
    }
    match spec {
        IntakeSpec::Webhook if github.poll_every.is_some() => {
            Err("github.pollEvery is of no use without github.intake: poll: set that, or leave it out"
                .to_owned())
        }
        IntakeSpec::Webhook => Ok(Intake::Webhook),
        IntakeSpec::Poll => {
            origins.note("github.pollEvery", format!("{every:#}"), given(github.poll_every.is_some()));
            Ok(Intake::Poll(every))
        }
    }
}

/// How long a job waits before its commit shows why; `None`: it never does.
fn notice_after(github: &GitHubSpec, origins: &mut Collector<'_>) -> Result<Option<SignedDuration>, String> {
    let report = github.report.clone().unwrap_or_default();
    let check_runs = report.check_runs.unwrap_or(true);
    let after = match &report.after {
        Some(text) => quantity::duration(text).map_err(|error| format!("github.report.after: {error}"))?,
        None => NOTICE_AFTER,
    };
    origins.note("github.report.after", format!("{after:#}"), given(report.after.is_some()));
    origins.note("github.report.checkRuns", check_runs, given(report.check_runs.is_some()));
    Ok(check_runs.then_some(after))
}

fn given(is: bool) -> From {
    if is { From::Document } else { From::Default }
}

/// A proxy's URL without user and password.
fn without_userinfo(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}

fn is_repository(text: &str) -> bool {
    let fine = |part: &str| !part.is_empty() && !part.contains(['/', ' ']);
    text.split_once('/').is_some_and(|(owner, name)| fine(owner) && fine(name))
}

fn shown_list(values: &[String]) -> String {
    if values.is_empty() { "none".to_owned() } else { values.join(", ") }
}

fn shown_map(values: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    shown_list(&pairs)
}

#[cfg(test)]
mod tests;
