use super::*;
use crate::setup::Size;
use crate::testing::{class, runner, setup, size};

fn limited(total: u32, of_class: u32, of_size: Option<u32>) -> Setup {
    let mut setup = setup();
    setup.settings.max_runners = total;
    let mut sized = class("big", &["s", "l"]);
    sized.max_runners = of_class;
    for size in sized.sizes.values_mut() {
        *size = Size { max_runners: of_size, ..*size };
    }
    setup.classes.insert("big".to_owned(), sized);
    setup
}

fn matched(size: &str) -> Matched {
    Matched { class: "big".to_owned(), size: size.to_owned() }
}

/// Which limit stands in the way of one more `big-s`, with `small` and `large` runners there and names reserved.
fn room(setup: &Setup, small: u32, large: u32, reserved: usize) -> Option<&'static str> {
    let runners: Vec<Runner> = (0..small)
        .map(|number| (number, "s"))
        .chain((small..small + large).map(|number| (number, "l")))
        .map(|(number, size)| Runner { matched: matched(size), ..runner("1", number) })
        .collect();
    let mut usage = Usage::count(setup, &runners, |_| None, reserved);
    room_for(&mut usage, &matched("s")).err().map(|reason| reason.code())
}

fn purpose(matched: &Matched) -> Purpose<'_> {
    Purpose {
        source: "acme",
        owner: "acme",
        repository: "acme/web",
        workflow: "",
        protected_branch: false,
        matched,
    }
}

fn room_for<'a>(usage: &mut Usage<'a>, matched: &'a Matched) -> Result<(), Reason> {
    let profile = usage.profile(&purpose(matched));
    usage.room(profile, Amount::of(size()))
}

#[test]
fn each_limit_stands_in_the_way_once_it_is_reached() {
    let check = |setup: &Setup, (small, large, reserved), expect: Option<&str>| {
        assert_eq!(
            room(setup, small, large, reserved),
            expect,
            "{small} small, {large} large, {reserved} reserved"
        );
    };
    let setup = limited(5, 4, Some(2));
    check(&setup, (0, 0, 0), None);
    check(&setup, (1, 2, 0), None);
    check(&setup, (2, 0, 0), Some("SizeFull"));
    check(&setup, (1, 3, 0), Some("ClassFull"));
    check(&setup, (1, 0, 4), Some("InstallationFull"));
    check(&setup, (1, 2, 1), None);
    check(&limited(5, 4, None), (3, 0, 0), None);
    check(&limited(0, 4, None), (0, 0, 0), Some("InstallationFull"));
    check(&limited(5, 0, None), (0, 0, 0), Some("ClassFull"));
    check(&limited(5, 5, Some(0)), (0, 0, 0), Some("SizeFull"));
}

#[test]
fn what_is_taken_counts_at_once() {
    let setup = limited(50, 10, Some(1));
    let (small, large) = (matched("s"), matched("l"));
    let mut usage = Usage::new(&setup, 0);
    assert_eq!(room_for(&mut usage, &small), Ok(()));
    let profile = usage.profile(&purpose(&small));
    usage.take(profile, Amount::of(size()), None);
    let full = Reason::SizeFull { label: "big-s".to_owned(), running: 1, limit: 1 };
    assert_eq!(room_for(&mut usage, &small), Err(full));
    assert_eq!(room_for(&mut usage, &large), Ok(()));
}

#[test]
fn a_runner_counts_until_its_machine_is_gone_or_can_never_be() {
    let setup = limited(1, 1, None);
    let big = |runner: Runner| Runner { matched: matched("s"), ..runner };
    let full = |runner: Runner| {
        let runners = [big(runner)];
        let mut usage = Usage::count(&setup, &runners, |_| None, 0);
        let profile = usage.profile(&purpose(&runners[0].matched));
        usage.room(profile, Amount::of(size())).is_err()
    };
    assert!(full(runner("1", 1)));
    assert!(full(runner("1", 1).registered(1)));
    assert!(full(runner("1", 1).launched(1)));
    assert!(full(runner("1", 1).launched(1).torn_down(&Reason::Idle, 2)));
    assert!(!full(runner("1", 1).launched(1).torn_down(&Reason::Idle, 2).settled(3)));
    assert!(!full(runner("1", 1).registered(1).torn_down(&Reason::Surplus, 2)));
}
