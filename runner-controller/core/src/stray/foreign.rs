//! What bears this installation's names, or serves its labels, and is another installation's.

use std::collections::BTreeMap;
use std::fmt;

use super::mark::{installation_of, is_name_of, origin_in};
use super::{FoundMachine, FoundRegistration, Known, Own};
use crate::labels::Matched;

/// The kind of document at which something foreign is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Document {
    /// `RunnerSource`.
    Source,
    /// `RunnerPlace`.
    Place,
}

impl Document {
    /// Every kind.
    pub const ALL: [Document; 2] = [Document::Source, Document::Place];

    /// Its name as a kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Document::Source => "RunnerSource",
            Document::Place => "RunnerPlace",
        }
    }
}

/// What was seen of one other installation at one source or place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// What kind of document it concerns.
    pub document: Document,
    /// That document's name.
    pub name: String,
    /// How the two are in each other's way.
    pub way: Way,
    /// The other's origin, if it shows one.
    pub origin: Option<String>,
    /// The other's id.
    pub installation: String,
    /// This installation's origin.
    pub own: String,
    /// One of the runners or groups concerned.
    pub example: String,
    /// How many there are.
    pub count: usize,
}

/// How two installations are in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Both give their runners the same names.
    SameId,
    /// Both serve a label at the same source.
    SameLabels,
}

/// Without the example and the count: the text is written to a status, and those change all the time.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foreign { document, name, way, origin, installation, own, .. } = self;
        let what = match document {
            Document::Source => "registered there",
            Document::Place => "there as container groups",
        };
        let whose = match origin {
            Some(origin) => format!("of another installation, of origin {origin}"),
            None => "without the mark of any installation".to_owned(),
        };
        write!(f, "{} {name}: runners {what} ", document.as_str())?;
        match way {
            Way::SameId => write!(
                f,
                "bear this installation's id {installation} and are {whose} (this one is {own}); they are left alone: \
                 give one of the two another --installation, or delete what nobody needs"
            ),
            Way::SameLabels => write!(
                f,
                "carry a label of this installation's classes and are {whose}, with the id {installation} (this one is \
                 {own}); either may be handed the other's jobs: name the classes of one of the two otherwise"
            ),
        }
    }
}

/// Document, its name, how they are in each other's way, and the other's origin and id.
type Key = (Document, String, Way, Option<String>, String);

/// What was seen, by whom it is of: an example, and how many there are.
pub(super) struct Sightings<'a> {
    own: Own<'a>,
    seen: BTreeMap<Key, (String, usize)>,
}

impl<'a> Sightings<'a> {
    pub(super) fn new(own: Own<'a>) -> Self {
        Self { own, seen: BTreeMap::new() }
    }

    /// A machine that bears a name of this installation's, but not its mark.
    pub(super) fn machine(&mut self, machine: &FoundMachine, known: &Known) {
        let another = machine.mark.as_ref().map(|mark| mark.origin.clone());
        // What was made before there were marks has a record instead.
        if another.is_none() && !matches!(known, Known::Nothing) {
            return;
        }
        let Some(place) = &machine.place else { return };
        let id = &self.own.setup.settings.installation;
        let example = machine.group.as_ref().map_or(&machine.runner, |group| &group.id);
        self.note((Document::Place, place.clone(), Way::SameId, another, id.clone()), example);
    }

    /// A registration that is not this installation's.
    pub(super) fn registration(&mut self, registration: &FoundRegistration) {
        let Some(id) = installation_of(&registration.name) else { return };
        let origin = origin_in(&registration.labels);
        let same_id = is_name_of(&self.own.setup.settings.installation, &registration.name);
        if !same_id && !self.serves(&registration.labels) {
            return;
        }
        let way = if same_id { Way::SameId } else { Way::SameLabels };
        let key =
            (Document::Source, registration.source.clone(), way, origin.map(str::to_owned), id.to_owned());
        self.note(key, &registration.name);
    }

    /// Whether one of these labels asks for one of this installation's classes.
    fn serves(&self, labels: &[String]) -> bool {
        let asks = |class: &crate::setup::Class| {
            class.sizes.keys().any(|size| {
                let own = Matched { class: class.name.clone(), size: size.clone() }.label();
                labels.iter().any(|label| label.eq_ignore_ascii_case(&own))
            })
        };
        self.own.setup.classes.values().any(asks)
    }

    fn note(&mut self, key: Key, example: &str) {
        let (_, count) = self.seen.entry(key).or_insert_with(|| (example.to_owned(), 0));
        *count += 1;
    }

    pub(super) fn foreign(self) -> Vec<Foreign> {
        let own = self.own.origin;
        self.seen
            .into_iter()
            .map(|((document, name, way, origin, installation), (example, count))| Foreign {
                document,
                name,
                way,
                origin,
                installation,
                own: own.to_owned(),
                example,
                count,
            })
            .collect()
    }
}
