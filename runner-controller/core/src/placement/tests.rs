use super::*;
use crate::limit::Capped;
use crate::setup::{Need, PlaceKind};
use crate::testing::{class, place, setup, words};

fn places(names: &[&str]) -> Setup {
    let mut setup = setup();
    setup.places = names.iter().map(|name| ((*name).to_owned(), place(name))).collect();
    setup
        .places
        .entry("unready".to_owned())
        .and_modify(|place| place.unready = Some("node is gone".to_owned()));
    setup.places.entry("draining".to_owned()).and_modify(|place| place.state = PlaceState::Draining);
    setup.places.entry("paused".to_owned()).and_modify(|place| place.state = PlaceState::Paused);
    setup
}

#[test]
fn the_first_place_that_can_start_a_runner_is_chosen() {
    let check = |names: &[&str], order: Option<&str>, expect: Result<&str, &str>| {
        let setup = places(names);
        let class = Class { places: order.map(words), ..class("stint", &[""]) };
        let found = choose(&setup, &class, |_| Ok(()));
        let found = found.as_ref().map(|place| place.name.as_str()).map_err(Reason::code);
        assert_eq!(found, expect, "{names:?} {order:?}");
    };
    check(&["a"], None, Ok("a"));
    check(&[], None, Err("NoPlace"));
    check(&["a", "b"], None, Err("PlaceAmbiguous"));
    check(&["a", "b"], Some("b a"), Ok("b"));
    check(&["a", "unready"], Some("unready a"), Ok("a"));
    check(&["a", "draining", "paused"], Some("draining paused a"), Ok("a"));
    check(&["paused"], None, Err("PlaceNotReady"));
    check(&["a"], Some("c a"), Ok("a"));
    check(&["a"], Some("c"), Err("PlaceUnknown"));
    check(&["a"], Some(""), Err("NoPlace"));
}

#[test]
fn the_reason_is_that_of_the_first_place() {
    let class = Class { places: Some(words("unready paused")), ..class("stint", &[""]) };
    let reason = choose(&places(&["unready", "paused"]), &class, |_| Ok(())).unwrap_err();
    assert_eq!(reason.sentence(), "place unready cannot start a runner: node is gone");
}

#[test]
fn what_a_place_cannot_give_keeps_runners_from_it() {
    let mut setup = places(&["vms", "classic", "v2", "aci"]);
    setup.places.get_mut("vms").unwrap().kind = PlaceKind::NodePool;
    setup.places.get_mut("v2").unwrap().v2 = true;
    setup.places.get_mut("aci").unwrap().kind = PlaceKind::ContainerInstances;
    let check = |need: Need, expect: &str| {
        let suitable = ["vms", "classic", "v2", "aci"].into_iter().filter(|name| {
            let class = Class { needs: [need].into(), places: Some(words(name)), ..class("stint", &[""]) };
            match choose(&setup, &class, |_| Ok(())) {
                Ok(_) => true,
                Err(reason) => {
                    assert_eq!(reason.code(), "PlaceUnsuitable");
                    false
                }
            }
        });
        assert_eq!(suitable.collect::<Vec<_>>().join(" "), expect, "{need:?}");
    };
    check(Need::Docker, "vms");
    check(Need::Privileged, "vms");
    check(Need::Gpu, "vms");
    check(Need::Windows, "vms");
    check(Need::Node, "vms");
    check(Need::PersistentVolumes, "vms v2");
}

#[test]
fn an_unsuitable_place_is_named_only_where_there_is_no_other() {
    let mut setup = places(&["virtual", "vms"]);
    setup.places.get_mut("vms").unwrap().kind = PlaceKind::NodePool;
    let class =
        Class { needs: [Need::Docker].into(), places: Some(words("virtual vms")), ..class("stint", &[""]) };
    assert_eq!(choose(&setup, &class, |_| Ok(())).unwrap().name, "vms");
    let full = |place: &Place| Err(Reason::PlaceFull { place: place.name.clone(), until: None });
    let reason = choose(&setup, &class, full).unwrap_err();
    assert_eq!(reason, Reason::PlaceFull { place: "vms".to_owned(), until: None });
}

#[test]
fn a_place_where_the_job_is_too_dear_is_named_only_where_no_other_may_have_room() {
    let setup = places(&["virtual", "vms"]);
    let class = Class { places: Some(words("virtual vms")), ..class("stint", &[""]) };
    let too_large = |_: &Place| {
        let (limit, group) = ("x".to_owned(), String::new());
        Err(Reason::LimitReached { limit, group, what: Capped::Cpu, used: 0, cap: 1, needs: 2 })
    };
    let full = |place: &Place| Err(Reason::PlaceFull { place: place.name.clone(), until: None });
    let told = |room: &dyn Fn(&Place) -> Result<(), Reason>| choose(&setup, &class, room).unwrap_err().code();
    assert_eq!(
        told(&|place| if place.name == "virtual" { too_large(place) } else { full(place) }),
        "PlaceFull"
    );
    assert_eq!(told(&too_large), "LimitReached");
}
