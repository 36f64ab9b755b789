use super::*;
use crate::budget::Shortage;
use crate::job::{Finding, JobAction};
use crate::limit::Capped;
use crate::testing::{at, job, key, runner, secs, setup};

fn on() -> Setup {
    let mut setup = setup();
    setup.sources.get_mut("acme").unwrap().notice_after = Some(secs(60));
    setup
}

fn full(used: u32) -> Reason {
    Reason::ClassFull { class: "stint".to_owned(), running: used, limit: 3 }
}

fn begun(mut job: Job) -> Job {
    job.found.add(Finding::NoticeBegun(at(60)));
    job.found.add(Finding::NoticeId("77".to_owned()));
    job
}

/// What is looked at, with room to change it.
struct World {
    setup: Setup,
    jobs: Vec<Job>,
    runners: Vec<Runner>,
    reasons: BTreeMap<JobKey, Arc<Reason>>,
    line: Vec<JobKey>,
    said: HashMap<JobKey, Said>,
}

impl World {
    /// These jobs, all of which wait for the same reason, in line in this order.
    fn waiting(jobs: Vec<Job>) -> Self {
        Self {
            setup: on(),
            reasons: jobs.iter().map(|job| (job.key.clone(), Arc::new(full(3)))).collect(),
            line: jobs.iter().map(|job| job.key.clone()).collect(),
            runners: Vec::new(),
            said: HashMap::new(),
            jobs,
        }
    }

    fn due(&self, now: i64) -> (Vec<Due>, Option<Timestamp>) {
        let World { setup, jobs, runners, reasons, line, said } = self;
        due(Known { setup, jobs, runners, reasons, line, said }, |_| false, 10, at(now))
    }

    /// What is due now, as `id stage`; and in how many seconds from the beginning to look again.
    fn told(&self, now: i64) -> (Vec<String>, Option<i64>) {
        let (due, wake) = self.due(now);
        let words = due.iter().map(|due| format!("{} {:?}", due.job.id, due.stage));
        (words.collect(), wake.map(|wake| wake.duration_since(at(0)).as_secs()))
    }

    /// Remembers all that is due now as said.
    fn say(&mut self, now: i64) -> usize {
        let (due, _) = self.due(now);
        let count = due.len();
        for due in due {
            let Due { job, stage, code, text } = due;
            let found = &mut self.jobs.iter_mut().find(|one| one.key == job).unwrap().found;
            found.add(Finding::NoticeBegun(at(now)));
            if stage == Stage::Ended {
                found.add(Finding::NoticeEnded(at(now)));
            }
            let text = text.unwrap_or(Text { title: String::new(), summary: String::new() });
            self.said.insert(job, Said { stage, code, text, at: at(now) });
        }
        count
    }
}

#[test]
fn a_job_that_has_waited_long_enough_is_told_of_once() {
    let mut world = World::waiting(vec![job("1").queued(0)]);
    assert_eq!(world.told(59), (vec![], Some(60)));
    assert_eq!(world.told(60), (vec!["1 Waiting".to_owned()], None));
    world.say(60);
    assert_eq!(world.told(1000), (vec![], None), "nothing has changed");
}

#[test]
fn nothing_is_said_without_a_commit_a_reason_for_all_or_the_admins_consent() {
    let told = |change: &dyn Fn(&mut World)| {
        let mut world = World::waiting(vec![job("1").queued(0)]);
        change(&mut world);
        world.told(500).0
    };
    assert_eq!(told(&|_| {}), ["1 Waiting"]);
    assert!(told(&|world| world.jobs[0].description.head_sha = None).is_empty());
    assert!(told(&|world| world.setup.sources.get_mut("acme").unwrap().notice_after = None).is_empty());
    assert!(told(&|world| world.reasons.clear()).is_empty(), "its runner is on its way");
    assert!(
        told(&|world| drop(
            world.reasons.insert(key("1"), Arc::new(Reason::NoClassNamed { labels: vec!["gpu".to_owned()] }))
        ))
        .is_empty(),
        "it may be meant for other runners"
    );
    assert!(told(&|world| world.jobs[0].found.add(Finding::NoticeEnded(at(1)))).is_empty());
}

#[test]
fn another_reason_is_told_a_minute_later_and_mere_figures_seldom() {
    let mut world = World::waiting(vec![job("1").queued(0)]);
    assert_eq!(world.say(1000), 1);
    world.reasons.insert(key("1"), Arc::new(full(2)));
    assert_eq!(world.told(1100), (vec![], Some(1250)), "a quarter of the wait");
    assert_eq!(world.told(1250).0, ["1 Waiting"]);
    world.reasons.insert(key("1"), Arc::new(Reason::NoPlace));
    assert_eq!(world.told(1059), (vec![], Some(1060)));
    assert_eq!(world.told(1060).0, ["1 Waiting"]);
    world.reasons.clear();
    let (due, _) = world.due(1060);
    assert_eq!(due[0].text.as_ref().unwrap().title, "A runner is being started");
}

#[test]
fn the_place_in_line_is_that_of_the_planner() {
    let world = World::waiting(vec![job("2").queued(0), job("1").queued(0)]);
    let titles: Vec<String> = world.due(60).0.into_iter().map(|due| due.text.unwrap().title).collect();
    assert_eq!(
        titles,
        ["Waits for a runner: number 2 of 2 in line", "Waits for a runner: number 1 of 2 in line"]
    );
}

#[test]
fn last_words_go_first_and_a_pass_is_bounded() {
    let mut world = World::waiting(vec![
        begun(job("1").queued(0)),
        job("2").queued(0),
        begun(job("3").queued(0).running(90, "r")),
        begun(job("4").queued(0).told(JobAction::Completed, 90, None)),
    ]);
    assert_eq!(world.told(100).0, ["4 Ended", "3 Running", "2 Waiting", "1 Waiting"]);
    let World { setup, jobs, runners, reasons, line, said } = &world;
    let known = Known { setup, jobs, runners, reasons, line, said };
    assert_eq!(due(known, |_| false, 2, at(100)).0.len(), 2);
    assert_eq!(due(known, |busy| busy.id == "4", 2, at(100)).0[0].job.id, "3");
    world.say(100);
    world.jobs[0] = begun(job("1").queued(0).told(JobAction::Completed, 150, None));
    world.say(200);
    assert_eq!(world.told(1000).0, Vec::<String>::new());
}

#[test]
fn a_job_that_never_waited_long_is_never_told_of() {
    let world = World::waiting(vec![
        job("1").queued(0).running(90, "r"),
        job("2").queued(0).told(JobAction::Completed, 90, None),
    ]);
    assert_eq!(world.told(100), (vec![], None));
}

#[test]
fn the_last_word_waits_for_the_bill_but_not_for_ever() {
    let ran_on = runner("1", 1).launched(80);
    let over =
        job("1").queued(0).running(90, &ran_on.name).told(JobAction::Completed, 100, Some(&ran_on.name));
    let mut world = World::waiting(vec![begun(over)]);
    assert_eq!(world.told(101).0, ["1 Ended"], "its runner's record is gone");
    world.runners = vec![ran_on.clone()];
    assert_eq!(world.told(101), (vec![], Some(1000)));
    assert_eq!(world.told(1000).0, ["1 Ended"]);
    world.runners = vec![ran_on.clone().settled(200)];
    assert_eq!(world.told(201).0, ["1 Ended"]);
    // Of its own runners that another job got, only what is torn down is waited for.
    let own = runner("1", 2).launched(80);
    for (runners, expect) in [
        (vec![own.clone()], 1),
        (vec![own.torn_down(&Reason::Idle, 90)], 0),
        (vec![runner("2", 1).launched(80).torn_down(&Reason::Idle, 90)], 1),
    ] {
        world.runners = runners;
        assert_eq!(world.told(101).0.len(), expect, "{:?}", world.runners);
    }
    world.runners = vec![ran_on.pooled()];
    assert_eq!(world.told(101).0, ["1 Ended"], "nothing is billed for machines of a pool");
    world.setup.sources.get_mut("acme").unwrap().notice_after = None;
    assert_eq!(world.told(101).0, ["1 Ended"], "what was begun is ended");
}

#[test]
fn what_belongs_to_others_is_not_told() {
    let reserved = Reason::ReservedForAnother { limit: "cpu".to_owned(), job: "acme-4711-1".to_owned() };
    let unavailable = Reason::SourceUnavailable {
        source: "acme".to_owned(),
        why: "the App is not installed on secret/app".to_owned(),
    };
    let unready = Reason::PlaceNotReady { place: "aks".to_owned(), why: "/subscriptions/1234".to_owned() };
    for (reason, word, hidden) in
        [(&reserved, "cpu", "4711"), (&unavailable, "acme", "secret"), (&unready, "aks", "1234")]
    {
        let told = told_to_all(reason).unwrap();
        assert!(told.contains(word) && !told.contains(hidden), "{told}");
    }
    let limit = Reason::LimitReached {
        limit: "l".to_owned(),
        group: "owner acme".to_owned(),
        what: Capped::Runners,
        used: 1,
        cap: 1,
        needs: 1,
    };
    assert_eq!(told_to_all(&limit), Some(limit.sentence()));
}

#[test]
fn what_is_spent_of_a_budget_is_not_told() {
    let check = |needs: i64, expect: &str| {
        let figures = Shortage {
            spent: Decimal::from(731),
            reserved: Decimal::from(47),
            needs: Decimal::from(needs),
            amount: Decimal::from(790),
            currency: "USD".to_owned(),
            until: at(0),
        };
        let reason = Reason::BudgetSpent { budget: "team".to_owned(), figures: Box::new(figures) };
        assert_eq!(told_to_all(&reason).as_deref(), Some(expect));
    };
    check(13, "budget team has no room for this job until 2026-01-01T00:00:00Z");
    check(800, "budget team has no room for this job, whatever is spent of it");
}

#[test]
fn the_words_tell_reason_place_times_and_cost() {
    let mut world = World::waiting(vec![job("1").queued(0)]);
    let waiting = world.due(60).0.remove(0).text.unwrap();
    world.jobs[0] = begun(job("1").queued(0).running(250, "r"));
    let running = world.due(251).0.remove(0).text.unwrap();
    let over = job("1").queued(0).running(250, "r").told(JobAction::Completed, 320, Some("r"));
    let cost = |cents: i64, ran| Cost {
        amount: Decimal::new(cents, 4),
        currency: "USD".to_owned(),
        seconds: 75,
        ran,
    };
    let ended = [
        ended(&over, &[cost(123, true)]),
        ended(&over, &[cost(123, true), cost(7, false)]),
        ended(&over, &[]),
        ended(&job("1").queued(0).told(JobAction::Completed, 90, None), &[]),
    ];
    let all: Vec<String> = [waiting, running]
        .into_iter()
        .chain(ended)
        .map(|text| format!("# {}\n{}", text.title, text.summary))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}
