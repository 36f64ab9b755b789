use proptest::prelude::*;

use super::*;
use crate::lifecycle::RunnerFact;
use crate::reason::Reason;
use crate::testing::{at, group, place, runner, secs, setup, size};

/// Place `virtual` under a quota of so many changes within 100 seconds, and else of Azure's defaults.
fn under(changes: u64) -> Setup {
    let mut setup = setup();
    let rate = ChangeRate { count: changes, per: secs(100) };
    let quota = Quota { name: "westeurope".to_owned(), groups: None, cores: None, changes: vec![rate] };
    setup.quotas.insert("sub/westeurope".to_owned(), quota);
    let quota = Some("sub/westeurope".to_owned());
    setup.places.insert("virtual".to_owned(), Place { quota, ..place("virtual") });
    setup
}

fn room(setup: &Setup, changes: &Changes, azure: AzureUse, runners: &[Runner], now: i64) -> String {
    let azure = HashMap::from([("sub/westeurope".to_owned(), azure)]);
    let quotas = Quotas::of(setup, changes, &azure, runners, &[], at(now));
    match quotas.room(setup.places.get("virtual").unwrap(), size()) {
        Ok(()) => "room".to_owned(),
        Err(exceeded) => exceeded.sentence("westeurope"),
    }
}

fn started(id: u32, second: i64) -> Runner {
    runner(&id.to_string(), 1).launched(second).with(RunnerFact::Group(group(Some(second), None, second)))
}

fn ended(id: u32, second: i64, gone: i64) -> Runner {
    started(id, second).torn_down(&Reason::ContainerEnded, gone).settled(gone)
}

#[test]
fn what_is_made_counts_from_when_azure_showed_it() {
    let setup = under(2);
    let check = |runners: &[Runner], now: i64, expect: &str| {
        assert_eq!(room(&setup, &Changes::default(), AzureUse::default(), runners, now), expect);
    };
    let made = "2 of 2 container groups that may be made in westeurope within 1m 40s were made";
    check(&[started(1, 0)], 50, "room");
    check(
        &[started(1, 0), started(2, 50)],
        50,
        &format!("{made}; there is room again at 2026-01-01T00:01:40Z"),
    );
    // Nobody knows when the virtual node asks for it.
    let asked = runner("2", 1).launched(0);
    check(&[started(1, 90), asked], 120, &format!("{made}; there is room again at 2026-01-01T00:03:10Z"));
    let deletes =
        "2 of 2 container groups that may be deleted in westeurope within 1m 40s were or may have to be";
    check(&[started(1, 0), started(2, 50)], 150, &format!("{deletes}; there is room again when one ends"));
    check(
        &[ended(1, 0, 60), started(2, 50)],
        150,
        &format!("{deletes}; there is room again at 2026-01-01T00:02:40Z"),
    );
    check(&[ended(1, 0, 60), started(2, 50)], 160, "room");
}

#[test]
fn what_stands_counts_with_that_of_others() {
    let setup = under(1000);
    let runners: Vec<Runner> = (0..3).map(|id| started(id, 0)).collect();
    let check = |groups: Option<(u64, u64)>, cores: Option<(u64, u64)>, expect: &str| {
        let standing = |of: Option<(u64, u64)>| of.map(|(limit, others)| Standing { limit, others });
        let azure = AzureUse { groups: standing(groups), cores: standing(cores) };
        assert_eq!(room(&setup, &Changes::default(), azure, &runners, 9), expect, "{groups:?} {cores:?}");
    };
    let ends = "in westeurope are in use, those of others included; there is room again when one ends";
    check(None, None, "room");
    check(Some((10, 6)), None, "room");
    check(Some((10, 7)), None, &format!("10 of 10 container groups {ends}"));
    check(None, Some((10, 2)), "room");
    check(None, Some((10, 3)), &format!("9 of 10 cores {ends}"));
    let mut capped = setup.clone();
    capped.quotas.get_mut("sub/westeurope").unwrap().groups = Some(3);
    assert!(room(&capped, &Changes::default(), AzureUse::default(), &runners, 9).starts_with("3 of 3"));
}

#[test]
fn a_runner_that_is_more_than_the_quota_is_told_so() {
    let mut setup = under(1000);
    let check = |setup: &Setup, runners: &[Runner], expect: &str| {
        assert_eq!(room(setup, &Changes::default(), AzureUse::default(), runners, 9), expect);
    };
    setup.quotas.get_mut("sub/westeurope").unwrap().cores = Some(1);
    let told = "1 cores in westeurope are allowed, and the runner alone needs 2";
    check(&setup, &[], told);
    setup.quotas.get_mut("sub/westeurope").unwrap().groups = Some(1);
    check(&setup, &[started(1, 0)], told);
    let mut setup = under(0);
    let made = "0 container groups may be made in westeurope within 1m 40s, and the runner alone needs 1";
    check(&setup, &[started(1, 0)], made);
    setup.quotas.get_mut("sub/westeurope").unwrap().groups = Some(0);
    check(&setup, &[], "0 container groups in westeurope are allowed, and the runner alone needs 1");
}

#[test]
fn what_was_released_is_remembered_and_outlives_the_process() {
    let setup = under(2);
    let mut changes = Changes::default();
    changes.note(&setup, &[started(1, 0), started(2, 1)], at(10));
    changes.note(&setup, &[ended(1, 0, 60), started(2, 1)], at(60));
    changes.note(&setup, &[started(2, 1)], at(61));
    let mut again = Changes::of_past(changes.past().clone());
    for changes in [&mut changes, &mut again] {
        changes.note(&setup, &[started(2, 1)], at(62));
        let room = |now| room(&setup, changes, AzureUse::default(), &[started(2, 1)], now);
        assert!(room(99).contains("were made; there is room again at 2026-01-01T00:01:40Z"), "{}", room(99));
        assert!(
            room(101).contains("may have to be; there is room again at 2026-01-01T00:02:40Z"),
            "{}",
            room(101)
        );
        assert_eq!(room(160), "room");
    }
    changes.note(&setup, &[], at(1000));
    changes.note(&setup, &[], at(2000));
    assert!(changes.past().is_empty(), "what no rate asks for is forgotten");
}

#[test]
fn a_place_that_is_away_for_a_moment_changes_no_count() {
    let mut setup = under(5);
    setup
        .places
        .insert("other".to_owned(), Place { name: "other".to_owned(), ..setup.places["virtual"].clone() });
    let mut away = setup.clone();
    away.places.remove("virtual");
    let runners = [started(1, 0), ended(2, 0, 8), started(3, 0)];
    let mut changes = Changes::default();
    for (second, setup) in [(10, &setup), (20, &away), (30, &away), (40, &setup)] {
        changes.note(setup, &runners, at(second));
        assert!(changes.past().is_empty(), "at {second}: {:?}", changes.past());
        let quotas = Quotas::of(setup, &changes, &HashMap::new(), &runners, &[], at(second));
        let used = &quotas.by_name["sub/westeurope"];
        let counts = (used.groups, used.creates.len(), used.deletes.len(), used.undeleted);
        assert_eq!(counts, (2, 3, 1, 2), "at {second}");
        assert_eq!(stands(setup, &changes, "sub/westeurope", &runners).0, 2, "at {second}");
    }
    changes.note(&away, &runners[2..], at(50));
    changes.note(&setup, &runners[2..], at(60));
    let past: Vec<&Change> = changes.past().values().flat_map(BTreeMap::values).collect();
    assert_eq!(
        past.iter()
            .map(|change| (change.creates, change.deletes))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (2, 2)
    );
}

proptest! {
    /// Whatever runners come and go, and even if all that are left are deleted at once, Azure never sees more creates or
    /// deletes in any stretch than it allows.
    #[test]
    fn neither_creates_nor_deletes_exceed_their_rate(
        count in 1..6_u64,
        lives in prop::collection::vec((0..40_i64, 1..150_i64), 1..60),
    ) {
        let setup = under(count);
        let mut changes = Changes::default();
        let (mut creates, mut deletes): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
        let mut live: Vec<(Runner, i64)> = Vec::new();
        let mut wanted = lives.iter().enumerate();
        let mut next = wanted.next();
        let mut since = 0;
        for now in 0..1500 {
            let over: Vec<Runner> = live.extract_if(.., |(_, end)| *end <= now).map(|(runner, _)| runner).collect();
            let gone: Vec<Runner> = over
                .into_iter()
                .map(|runner| runner.torn_down(&Reason::ContainerEnded, now).settled(now))
                .collect();
            deletes.extend(gone.iter().map(|_| now));
            let runners: Vec<Runner> = live.iter().map(|(runner, _)| runner.clone()).chain(gone).collect();
            changes.note(&setup, &runners, at(now));
            changes.note(&setup, &live.iter().map(|(runner, _)| runner.clone()).collect::<Vec<_>>(), at(now));
            while let Some((id, (pause, life))) = next
                && now >= since + pause
            {
                let runners: Vec<Runner> = live.iter().map(|(runner, _)| runner.clone()).collect();
                if room(&setup, &changes, AzureUse::default(), &runners, now) != "room" {
                    break;
                }
                creates.push(now);
                live.push((started(u32::try_from(id).unwrap(), now), now + life));
                since = now;
                next = wanted.next();
            }
            let within = |all: &[i64]| all.iter().filter(|at| now - **at < 100).count();
            prop_assert!(within(&creates) <= usize::try_from(count).unwrap());
            prop_assert!(within(&deletes) + live.len() <= usize::try_from(count).unwrap(), "at {}", now);
        }
    }
}

#[test]
fn those_that_are_being_started_count() {
    let setup = under(2);
    let starting = [Some(size()), None];
    let quotas = Quotas::of(&setup, &Changes::default(), &HashMap::new(), &[], &starting, at(0));
    let exceeded = quotas.room(setup.places.get("virtual").unwrap(), size()).unwrap_err();
    assert_eq!((exceeded.what, exceeded.used), (QuotaKind::Creates(secs(100)), 2));
}
