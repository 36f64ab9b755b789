//! Where a runner runs.

use crate::reason::Reason;
use crate::setup::{Class, Place, PlaceState, Setup};

/// Chooses the first of the class's places that can start a runner now.
///
/// # Errors
/// Why none can: the reason of the first one, or that there is none, or several with no order given.
pub fn choose<'a>(setup: &'a Setup, class: &Class) -> Result<&'a Place, Reason> {
    choose_with_room(setup, class, |_| Ok(()))
}

/// Chooses the first of the class's places that can start a runner now and has room under the limits.
///
/// # Errors
/// Why none can: the reason of the first one, or that there is none, or several with no order given.
pub fn choose_with_room<'a>(
    setup: &'a Setup,
    class: &Class,
    mut room_at: impl FnMut(&'a Place) -> Result<(), Reason>,
) -> Result<&'a Place, Reason> {
    let places: Vec<&Place> = match &class.places {
        Some(order) => order
            .iter()
            .map(|name| {
                setup
                    .places
                    .get(name)
                    .ok_or_else(|| Reason::PlaceUnknown { class: class.name.clone(), place: name.clone() })
            })
            .collect::<Result<_, _>>()?,
        None => match setup.places.len() {
            0 | 1 => setup.places.values().collect(),
            _ => {
                return Err(Reason::PlaceAmbiguous {
                    class: class.name.clone(),
                    places: setup.places.keys().cloned().collect(),
                });
            }
        },
    };
    let mut first: Option<Reason> = None;
    for place in places {
        match ready(place).and_then(|()| room_at(place)) {
            Ok(()) => return Ok(place),
            Err(reason) => first = first.or(Some(reason)),
        }
    }
    Err(first.unwrap_or(Reason::NoPlace))
}

fn ready(place: &Place) -> Result<(), Reason> {
    let why = match (&place.unready, place.state) {
        (Some(why), _) => why.clone(),
        (None, PlaceState::Draining) => "it is draining".to_owned(),
        (None, PlaceState::Paused) => "it is paused".to_owned(),
        (None, PlaceState::Active) => return Ok(()),
    };
    Err(Reason::PlaceNotReady { place: place.name.clone(), why })
}

#[cfg(test)]
mod tests;
