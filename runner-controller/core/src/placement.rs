//! Where a runner runs.

use crate::reason::Reason;
use crate::setup::{Class, Place, PlaceState, Setup};

/// Chooses the first of the class's places that can start a runner now. `room`: whether a place has room for it, as far
/// as is known; only places that are ready are asked.
///
/// # Errors
/// Why none can: the reason of the first one that this runner could ever run at, or else of the first that runners of the
/// class could, or that none is such a place, or that there is none, or several with no order given.
pub fn choose<'a>(
    setup: &'a Setup,
    class: &Class,
    mut room: impl FnMut(&'a Place) -> Result<(), Reason>,
) -> Result<&'a Place, Reason> {
    let (mut first, mut too_small, mut unsuitable): (Option<Reason>, Option<Reason>, Option<Reason>) =
        (None, None, None);
    for place in order(setup, class)? {
        if let Ok(place) = &place
            && let Err(reason) = suits(place, class)
        {
            unsuitable = unsuitable.or(Some(reason));
            continue;
        }
        // A virtual node that is away for good must not keep jobs from the places that come after it.
        match place.and_then(|place| ready(place).and_then(|()| room(place)).map(|()| place)) {
            Ok(place) => return Ok(place),
            Err(reason) if reason.never_fits() => too_small = too_small.or(Some(reason)),
            Err(reason) => first = first.or(Some(reason)),
        }
    }
    Err(first.or(too_small).or(unsuitable).unwrap_or(Reason::NoPlace))
}

/// The places where the class's runners may run, in order, or that there is none of the name.
fn order<'a>(setup: &'a Setup, class: &Class) -> Result<Vec<Result<&'a Place, Reason>>, Reason> {
    match &class.places {
        Some(order) => Ok(order
            .iter()
            .map(|name| {
                setup
                    .places
                    .get(name)
                    .ok_or_else(|| Reason::PlaceUnknown { class: class.name.clone(), place: name.clone() })
            })
            .collect()),
        None => match setup.places.len() {
            0 | 1 => Ok(setup.places.values().map(Ok).collect()),
            _ => Err(Reason::PlaceAmbiguous {
                class: class.name.clone(),
                places: setup.places.keys().cloned().collect(),
            }),
        },
    }
}

fn suits(place: &Place, class: &Class) -> Result<(), Reason> {
    match class.needs.iter().copied().find(|need| !place.gives(*need)) {
        Some(need) => {
            let (place, class) = (place.name.clone(), class.name.clone());
            Err(Reason::PlaceUnsuitable { place, class, need })
        }
        None => Ok(()),
    }
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
