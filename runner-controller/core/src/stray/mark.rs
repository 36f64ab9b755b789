//! What a machine carries of its runner, so that its record can be written again from it alone.
//!
//! It stands in the container's environment, which Azure shows of a group and Kubernetes of a pod, and which nothing can
//! change afterwards. It holds no secret, and of a job nothing but what Stint makes of it: numbers, and names that an
//! admin gave or allowed.

use std::collections::BTreeMap;

use crate::job::JobKey;
use crate::labels::Matched;
use crate::lifecycle::Runner;
use crate::setup::{PlaceKind, Scope, Size};

/// How the label begins by which a registration shows whose it is.
pub const ORIGIN_LABEL: &str = "stint-origin-";

const ORIGIN: &str = "STINT_ORIGIN";
const SOURCE: &str = "STINT_SOURCE";
const JOB: &str = "STINT_JOB";
const CLASS: &str = "STINT_CLASS";
const SIZE: &str = "STINT_SIZE";
const RESOURCES: &str = "STINT_RESOURCES";
const PLACE: &str = "STINT_PLACE";
const SCOPE: &str = "STINT_SCOPE";
const REGISTRATION: &str = "STINT_REGISTRATION";

/// The words for what a place is.
const KINDS: [(PlaceKind, &str); 3] = [
    (PlaceKind::VirtualNode, "virtual-node"),
    (PlaceKind::ContainerInstances, "container-instances"),
    (PlaceKind::NodePool, "node-pool"),
];

/// How long the hash in a runner's name is (`plan::runner_name`).
const HASH: usize = 16;

/// What a machine carries of its runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What tells its installation from any other.
    pub origin: String,
    /// The job that it was started for.
    pub job: JobKey,
    /// Which of the job's runners it is.
    pub ordinal: u32,
    /// Its class and size.
    pub matched: Matched,
    /// Its resources.
    pub size: Size,
    /// Name of its place.
    pub place: String,
    /// What its place is.
    pub kind: PlaceKind,
    /// Where it is registered.
    pub scope: Scope,
    /// The source's id of it, and the hash of the token that its call-backs carry.
    pub registration: Option<(u64, String)>,
}

impl Mark {
    /// The mark of a runner of this installation.
    pub fn of(runner: &Runner, origin: &str) -> Self {
        let registered = runner.facts.registered.as_ref();
        Self {
            origin: origin.to_owned(),
            job: runner.job.clone(),
            ordinal: runner.ordinal,
            matched: runner.matched.clone(),
            size: runner.size,
            place: runner.place.clone(),
            kind: runner.kind,
            scope: runner.scope.clone(),
            registration: registered.map(|registered| (registered.id, registered.callback_hash.clone())),
        }
    }

    /// The environment that stands for it. What is not plain is left out, and then the mark cannot be read back.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let Self { origin, job, ordinal, matched, size, place, kind, scope, registration } = self;
        let kind = KINDS.iter().find(|(one, _)| one == kind).map_or("", |(_, word)| word);
        let scope = match scope {
            Scope::Owner(owner) => format!("owner:{owner}"),
            Scope::Repository(repository) => format!("repository:{repository}"),
        };
        let registration = registration.as_ref().map(|(id, hash)| format!("{id}/{hash}"));
        let numeric = job.id.bytes().all(|byte| byte.is_ascii_digit());
        let number = if numeric { format!("{}/{}/{ordinal}", job.id, job.attempt) } else { String::new() };
        [
            (ORIGIN, origin.clone()),
            (SOURCE, job.source.clone()),
            (JOB, number),
            (CLASS, matched.class.clone()),
            (SIZE, matched.size.clone()),
            (RESOURCES, format!("{}m/{}", size.cpu_millis, size.memory_bytes)),
            (PLACE, format!("{kind}:{place}")),
            (SCOPE, scope),
            (REGISTRATION, registration.unwrap_or_default()),
        ]
        .into_iter()
        // azure-aci drops a variable without a value.
        .filter(|(_, value)| !value.is_empty() && is_plain(value))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Reads a mark back, if the environment holds one, and all of it.
    pub fn read(environment: &BTreeMap<String, String>) -> Option<Self> {
        let get = |name: &str| environment.get(name).map(String::as_str).filter(|value| is_plain(value));
        let mut job = get(JOB)?.split('/');
        let (id, attempt, ordinal) = (job.next()?, job.next()?.parse().ok()?, job.next()?.parse().ok()?);
        let (cpu, memory) = get(RESOURCES)?.split_once("m/")?;
        let (word, place) = get(PLACE)?.split_once(':')?;
        let scope = match get(SCOPE)?.split_once(':')? {
            ("owner", owner) => Scope::Owner(owner.to_owned()),
            ("repository", repository) => Scope::Repository(repository.to_owned()),
            _ => return None,
        };
        let registration = get(REGISTRATION).and_then(|value| value.split_once('/'));
        Some(Self {
            origin: get(ORIGIN)?.to_owned(),
            job: JobKey { source: get(SOURCE)?.to_owned(), id: id.to_owned(), attempt },
            ordinal,
            matched: Matched {
                class: get(CLASS)?.to_owned(),
                size: get(SIZE).unwrap_or_default().to_owned(),
            },
            size: Size {
                cpu_millis: cpu.parse().ok()?,
                memory_bytes: memory.parse().ok()?,
                max_runners: None,
            },
            place: place.to_owned(),
            kind: KINDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)?,
            scope,
            registration: registration.and_then(|(id, hash)| Some((id.parse().ok()?, hash.to_owned()))),
        })
    }

    /// The installation that an environment names, whether or not the rest of a mark is there.
    pub fn origin_of(environment: &BTreeMap<String, String>) -> Option<&str> {
        environment.get(ORIGIN).map(String::as_str).filter(|origin| is_plain(origin))
    }
}

/// Whether a value holds nothing but what names, numbers and their separators are made of.
fn is_plain(value: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-=/:".contains(&byte);
    value.len() <= 256 && value.bytes().all(fine)
}

/// Whether this may be the name of a runner of the installation with this id.
pub fn is_name_of(installation: &str, name: &str) -> bool {
    installation_of(name) == Some(installation)
}

/// The id of the installation that would give a runner this name; `None` if none would.
pub fn installation_of(name: &str) -> Option<&str> {
    let (installation, hash) = name.split_once('-')?;
    let id = installation.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && installation.starts_with(|first: char| first.is_ascii_lowercase())
        && installation.len() <= 8;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (id && hash.len() == HASH && hash.bytes().all(hex)).then_some(installation)
}

/// The origin that a registration's labels name.
pub fn origin_in(labels: &[String]) -> Option<&str> {
    labels.iter().find_map(|label| {
        let from =
            label.get(..ORIGIN_LABEL.len()).filter(|begin| begin.eq_ignore_ascii_case(ORIGIN_LABEL))?;
        label.get(from.len()..)
    })
}
