use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::at;

const PERIOD: SignedDuration = SignedDuration::from_secs(60);
/// Long after the epoch, so that the window begins after it.
const BASE: i64 = 1_000_000;

fn attempt(id: u64, guid: &str, second: i64, delivered: bool) -> Attempt {
    let action = Some(JobAction::Queued);
    Attempt { id, guid: guid.to_owned(), at: at(BASE + second), delivered, action }
}

fn lost(id: u64, guid: &str, second: i64) -> Attempt {
    attempt(id, guid, second, false)
}

fn brought(id: u64, guid: &str, second: i64) -> Attempt {
    attempt(id, guid, second, true)
}

/// A sweep that has read these attempts, the list's only page, at a moment.
fn listed(wanted: Wanted, attempts: &[Attempt], second: i64) -> Sweep {
    let mut sweep = Sweep::new(wanted, None);
    sweep.begin(at(BASE + second));
    sweep.listed(attempts.to_vec(), None, at(BASE + second));
    sweep
}

fn due(sweep: &Sweep, second: i64) -> Vec<String> {
    sweep.due(at(BASE + second)).into_iter().map(|due| due.guid).collect()
}

#[test]
fn a_delivery_is_lost_that_no_attempt_brought() {
    let of = |action| Attempt { action, ..lost(9, "other", 0) };
    for (attempts, expect) in [
        (vec![], vec![]),
        (vec![lost(1, "a", 0)], vec!["a"]),
        (vec![brought(1, "a", 0)], vec![]),
        (vec![lost(2, "a", 5), lost(1, "a", 0)], vec!["a"]),
        (vec![brought(2, "a", 5), lost(1, "a", 0)], vec![]),
        (vec![lost(2, "a", 5), brought(1, "a", 0)], vec![]),
        (vec![of(None)], vec![]),
    ] {
        assert_eq!(due(&listed(Wanted::Lost, &attempts, 100), 100), expect, "{attempts:?}");
    }
}

#[test]
fn where_all_are_wanted_those_that_were_brought_are_read_too_and_at_once() {
    let sweep = listed(Wanted::All, &[brought(2, "b", 99), lost(1, "a", 98)], 100);
    assert_eq!(due(&sweep, 100), ["a", "b"]);
}

#[test]
fn a_lost_one_is_left_to_others_for_a_moment_by_either_clock() {
    for (made, from) in [(0, 30), (-5_000, -4_970), (5_000, 40)] {
        // Seen at 10 s by our clock, whatever the source's says.
        let sweep = listed(Wanted::Lost, &[lost(1, "a", made)], 10);
        assert_eq!(due(&sweep, from - 1), Vec::<String>::new(), "made at {made}");
        assert_eq!(due(&sweep, from), ["a"], "made at {made}");
    }
}

#[test]
fn jobs_that_may_still_be_queued_come_first_and_what_is_a_day_old_last() {
    let news = |id, guid, second, action| Attempt { action: Some(action), ..lost(id, guid, second) };
    let attempts = [
        news(6, "ended", -100, JobAction::Completed),
        lost(5, "young", -100),
        news(4, "began", -200, JobAction::InProgress),
        news(3, "held", -300, JobAction::Waiting),
        lost(2, "old", -90_000),
        lost(1, "older", -100_000),
    ];
    let sweep = listed(Wanted::Lost, &attempts, 0);
    assert_eq!(due(&sweep, 0), ["held", "young", "began", "ended", "older", "old"]);
}

#[test]
fn the_latest_attempt_is_the_one_that_is_read() {
    let sweep = listed(Wanted::Lost, &[lost(8, "a", 50), lost(3, "a", 0)], 100);
    assert_eq!(sweep.due(at(BASE + 100)), [Due { guid: "a".to_owned(), id: 8 }]);
}

#[test]
fn the_cursor_stays_before_a_lost_one_until_that_is_settled() {
    let attempts = [brought(3, "c", 1_000), lost(2, "b", 500), brought(1, "a", 0)];
    let mut sweep = listed(Wanted::Lost, &attempts, 1_010);
    assert_eq!((sweep.cursor(), sweep.outstanding()), (Some(at(BASE + 500)), 1));
    sweep.settle("b");
    assert_eq!((sweep.cursor(), sweep.outstanding()), (Some(at(BASE + 500)), 0));
    sweep.begin(at(BASE + 1_020));
    sweep.listed(attempts.to_vec(), None, at(BASE + 1_020));
    assert_eq!((sweep.cursor(), due(&sweep, 1_020)), (Some(at(BASE + 1_000) - LATE), vec![]));
}

#[test]
fn an_attempt_that_appears_late_in_the_list_is_found() {
    let mut sweep = listed(Wanted::Lost, &[brought(2, "b", 1_000)], 1_001);
    sweep.begin(at(BASE + 1_060));
    let attempts = vec![lost(3, "a", 900), brought(2, "b", 1_000)];
    sweep.listed(attempts, None, at(BASE + 1_060));
    assert_eq!(due(&sweep, 1_060), ["a"]);
}

#[test]
fn a_clock_of_ours_that_is_ahead_does_not_carry_the_cursor_past_what_is_to_come() {
    let sweep = listed(Wanted::Lost, &[brought(1, "a", 0)], 600);
    assert_eq!(sweep.cursor(), Some(at(BASE) - LATE));
    assert_eq!(listed(Wanted::Lost, &[], 600).cursor(), None);
}

#[test]
fn the_list_is_read_back_to_the_cursor_and_no_further() {
    let mut sweep = Sweep::new(Wanted::Lost, Some(at(BASE)));
    sweep.begin(at(BASE + 500));
    assert_eq!(sweep.page(), Some(&Page::Newest));
    let now = at(BASE + 500);
    sweep.listed(vec![brought(9, "d", 400), brought(8, "c", 1)], Some("v2".to_owned()), now);
    assert_eq!(sweep.page(), Some(&Page::Older("v2".to_owned())));
    // Out of order, as where an attempt took long; older ones do not stop the list before LATE has passed.
    sweep.listed(vec![brought(7, "b", -100), lost(6, "a", 30)], Some("v3".to_owned()), now);
    assert_eq!(sweep.page(), Some(&Page::Older("v3".to_owned())));
    sweep.listed(vec![lost(5, "z", -121)], Some("v4".to_owned()), now);
    assert_eq!((sweep.page(), sweep.swept_at()), (None, Some(now)));
    assert_eq!(due(&sweep, 500), ["a"], "what was made before the cursor is accounted for");
}

#[test]
fn while_one_stays_open_only_what_is_new_is_listed_again() {
    let mut sweep = listed(Wanted::Lost, &[brought(2, "b", 50_000), lost(1, "a", 0)], 50_000);
    assert_eq!(sweep.cursor(), Some(at(BASE)));
    let now = at(BASE + 50_060);
    sweep.begin(now);
    sweep.listed(vec![brought(3, "c", 50_050), brought(2, "b", 50_000)], Some("v2".to_owned()), now);
    assert_eq!(sweep.page(), Some(&Page::Older("v2".to_owned())));
    // What stands before the end of the last list is known.
    sweep.listed(vec![brought(9, "z", 49_000)], Some("v3".to_owned()), now);
    assert_eq!(sweep.page(), None);
    assert_eq!((sweep.cursor(), due(&sweep, 50_060)), (Some(at(BASE)), vec!["a".to_owned()]));
    // A new process has only the cursor.
    let mut anew = Sweep::new(Wanted::Lost, sweep.cursor());
    anew.begin(now);
    anew.listed(vec![brought(9, "z", 49_000)], Some("v3".to_owned()), now);
    assert_eq!(anew.page(), Some(&Page::Older("v3".to_owned())));
}

#[test]
fn one_that_fails_waits_longer_each_time_and_behind_the_others() {
    let completed = Attempt { action: Some(JobAction::Completed), ..lost(2, "b", 0) };
    let mut sweep = listed(Wanted::Lost, &[completed, lost(1, "a", 0)], 100);
    let mut second = 100;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        sweep.failed("a", at(BASE + second));
        let pause = (1..).find(|pause| due(&sweep, second + pause).contains(&"a".to_owned())).unwrap();
        pauses.push(pause);
        second += pause;
        assert_eq!(due(&sweep, second), ["b", "a"], "news comes before what fails");
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    sweep.settle("b");
    sweep.failed("a", at(BASE + second));
    let next = sweep.next(SignedDuration::from_hours(48), at(BASE + second));
    assert_eq!(next, at(BASE + second) + RETRY_AT_MOST);
}

#[test]
fn one_that_its_source_does_not_know_is_given_up_after_minutes() {
    let mut sweep = listed(Wanted::Lost, &[lost(1, "a", 0)], 100);
    let gone = 100 + GONE_AFTER.as_secs();
    assert!(!sweep.missing("a", at(BASE + 100)));
    assert!(!sweep.missing("a", at(BASE + gone - 1)));
    assert_eq!(sweep.outstanding(), 1);
    assert!(sweep.missing("a", at(BASE + gone)));
    assert_eq!(sweep.outstanding(), 0);
}

#[test]
fn an_empty_page_ends_the_list_only_where_no_next_one_is_named() {
    let mut sweep = Sweep::new(Wanted::Lost, None);
    let now = at(BASE + 100);
    sweep.begin(now);
    sweep.listed(vec![], Some("v2".to_owned()), now);
    assert_eq!(sweep.page(), Some(&Page::Older("v2".to_owned())));
    sweep.listed(vec![lost(1, "a", 0)], Some("v3".to_owned()), now);
    sweep.listed(vec![], Some("v3".to_owned()), now);
    assert_eq!(sweep.page(), None, "a page that names itself is the last");
    assert_eq!(due(&sweep, 100), ["a"]);
}

#[test]
fn nothing_outside_the_window_is_read() {
    let first = WINDOW.as_secs();
    let sweep = listed(Wanted::Lost, &[lost(2, "in", -first + 100), lost(1, "out", -first - 1)], 0);
    assert_eq!(due(&sweep, 0), ["in"]);
    // One that could not be read for so long is given up: its source has forgotten it.
    let mut sweep = sweep;
    sweep.begin(at(BASE + 200));
    sweep.listed(vec![brought(3, "new", 190)], None, at(BASE + 200));
    assert_eq!((due(&sweep, 200), sweep.cursor()), (vec![], Some(at(BASE + 190) - LATE)));
    let first = FIRST_READ.as_secs();
    let sweep = listed(Wanted::All, &[brought(2, "in", -first), brought(1, "out", -first - 1)], 0);
    assert_eq!(due(&sweep, 0), ["in"]);
}

#[test]
fn the_next_look_comes_when_something_can_be_done() {
    let next = |sweep: &Sweep| sweep.next(PERIOD, at(BASE + 100)).duration_since(at(BASE)).as_secs();
    assert_eq!(next(&Sweep::new(Wanted::Lost, None)), 100, "at once");
    assert_eq!(next(&listed(Wanted::Lost, &[brought(1, "a", 0)], 100)), 160, "after the period");
    assert_eq!(next(&listed(Wanted::Lost, &[lost(1, "a", 95)], 100)), 125, "once a lost one has settled");
    let mut sweep = listed(Wanted::Lost, &[lost(1, "a", 0)], 100);
    let lists = |sweep: &Sweep| sweep.list_at(PERIOD, at(BASE + 100)).duration_since(at(BASE)).as_secs();
    assert_eq!((next(&sweep), lists(&sweep)), (30, 160), "what is due is read before the list is, again");
    sweep.settle("a");
    assert_eq!(next(&sweep), 105, "soon after something was recovered");
    let mut sweep = listed(Wanted::Lost, &[], 100);
    sweep.begin(at(BASE + 160));
    assert_eq!(next(&sweep), 100, "while the list is being read");
}

/// A source: attempts with the second at which each shows in its list.
#[derive(Clone, Debug)]
struct World {
    attempts: Vec<(i64, Attempt)>,
}

impl World {
    /// A page of its list at a moment, the latest record first. Attempts between two pages do not move the later one.
    fn page(&self, second: i64, page: &Page, size: usize) -> (Vec<Attempt>, Option<String>) {
        let below = match page {
            Page::Newest => u64::MAX,
            Page::Older(id) => id.parse().unwrap(),
        };
        let shown = self.attempts.iter().rev().filter(|(shows, one)| *shows <= second && one.id <= below);
        let mut shown: Vec<Attempt> = shown.map(|(_, attempt)| attempt.clone()).collect();
        let next = shown.get(size).map(|attempt| attempt.id.to_string());
        shown.truncate(size);
        (shown, next)
    }
}

fn world() -> impl Strategy<Value = World> {
    // Guid, second at which it was made, how long it takes until it shows, whether it was delivered.
    let one = (0..12_u8, 0..4_000_i64, 0..LATE.as_secs(), proptest::bool::weighted(0.5));
    proptest::collection::vec(one, 0..40).prop_map(|mut all| {
        all.sort_by_key(|(_, made, takes, _)| made + takes);
        let attempts = all.into_iter().enumerate().map(|(id, (guid, made, takes, delivered))| {
            let id = u64::try_from(id).unwrap() + 1;
            (made + takes, attempt(id, &guid.to_string(), made, delivered))
        });
        World { attempts: attempts.collect() }
    })
}

proptest! {
    /// Whatever is read when, however small the pages, with failures to read, broken lists, restarts from the cursor and
    /// a clock that is wrong: each delivery without any success is settled, and the cursor never falls.
    #[test]
    fn no_lost_delivery_is_ever_skipped(
        world in world(),
        steps in proptest::collection::vec((1..400_i64, 1..5_usize, 0..8_u8), 0..60),
        skew in -600..600_i64,
    ) {
        let mut sweep = Sweep::new(Wanted::Lost, None);
        let mut settled: BTreeSet<String> = BTreeSet::new();
        let mut second = 0;
        // In the end all goes well for long enough.
        let calm = [(4_200, 3, 0), (3_600, 3, 0), (60, 3, 0), (60, 3, 0), (60, 3, 0)];
        for (pause, size, trouble) in steps.into_iter().chain(calm) {
            second += pause;
            let now = at(BASE + second + skew);
            let before = sweep.cursor();
            sweep.begin(now);
            let mut pages = 0;
            while let Some(page) = sweep.page().cloned() {
                pages += 1;
                if (trouble == 1 && pages == 2) || (trouble == 2 && pages == 3) {
                    break;
                }
                let (attempts, next) = world.page(second, &page, size);
                sweep.listed(attempts, next, now);
            }
            if trouble == 2 {
                sweep.break_off();
            }
            for (index, due) in sweep.due(now).into_iter().enumerate() {
                if trouble == 3 && index % 2 == 0 {
                    sweep.failed(&due.guid, now);
                    continue;
                }
                sweep.settle(&due.guid);
                settled.insert(due.guid);
            }
            prop_assert!(sweep.cursor() >= before);
            if trouble == 4 {
                sweep = Sweep::new(Wanted::Lost, sweep.cursor());
            }
        }
        let brought: BTreeSet<&str> =
            world.attempts.iter().filter(|(_, one)| one.delivered).map(|(_, one)| one.guid.as_str()).collect();
        for (_, attempt) in &world.attempts {
            prop_assert!(
                brought.contains(attempt.guid.as_str()) || settled.contains(&attempt.guid),
                "{attempt:?} was skipped"
            );
        }
        prop_assert_eq!(sweep.outstanding(), 0);
    }
}
