//! A workload as real installations have it: working days and nights, weekends, workflow runs that queue one job or a
//! matrix of many at once, a few busy repositories and many quiet ones, short jobs and a long tail.
//!
//! The same seed and settings give the same jobs.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use runner_core::labels::Matched;
use runner_core::setup::Setup;

use super::chance::{Chance, zipf};
use super::history::PastJob;

/// How busy each hour of a working day is, in UTC, against the busiest; made so that mornings and afternoons are full, noon
/// is a little less so, and nights hold what is scheduled.
const HOURS: [f64; 24] = [
    0.10, 0.08, 0.08, 0.07, 0.08, 0.12, 0.25, 0.50, 0.80, 0.95, 1.00, 0.95, 0.80, 0.90, 1.00, 0.95, 0.85,
    0.65, 0.45, 0.35, 0.28, 0.22, 0.16, 0.12,
];
/// How busy a day of the weekend is against a working day.
const WEEKEND: f64 = 0.25;
/// How many jobs a workflow run queues at once, and how likely that is; what lies between two bounds is as likely as any
/// other of it.
const BURSTS: [((u64, u64), f64); 4] = [((1, 1), 0.50), ((2, 5), 0.30), ((6, 20), 0.15), ((21, 60), 0.05)];
/// Of each workflow: its name, its share of the runs, and the median of its jobs in seconds.
const WORKFLOWS: [(&str, f64, f64); 4] =
    [("ci", 0.60, 180.0), ("lint", 0.20, 45.0), ("integration", 0.15, 480.0), ("release", 0.05, 420.0)];
/// Spread of the durations of a workflow's jobs.
const SPREAD: f64 = 0.8;
/// No job runs longer.
const LONGEST_SECONDS: f64 = 6.0 * 3600.0;

/// What is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generator {
    /// The seed.
    pub seed: u64,
    /// How many jobs.
    pub jobs: usize,
    /// Over how many days.
    pub days: u32,
    /// The first moment. Days and hours are those of UTC.
    pub from: Timestamp,
    /// Repositories, as `owner/name`, the busiest first.
    pub repositories: Vec<String>,
    /// Labels that jobs ask for, the most frequent first.
    pub labels: Vec<Vec<String>>,
}

impl Generator {
    /// For the owners, repositories and classes of a configuration. Sources that serve whole accounts get invented
    /// repositories.
    pub fn of(setup: &Setup, seed: u64, jobs: usize, days: u32, from: Timestamp) -> Self {
        let named = setup.sources.values().flat_map(|source| source.repositories.clone());
        let owners: Vec<&String> = setup.sources.values().flat_map(|source| &source.owners).collect();
        // Each owner has its own, and the busiest ones of all owners come first.
        let invented = (1..=12).flat_map(|number| {
            owners.iter().map(move |owner| format!("{owner}/service-{number}")).collect::<Vec<_>>()
        });
        let labels = setup.classes.values().flat_map(|class| {
            let mut sizes: Vec<_> = class.sizes.iter().collect();
            // The smallest is asked for most often.
            sizes.sort_by_key(|(_, size)| (size.cpu_millis, size.memory_bytes));
            sizes.into_iter().map(|(name, _)| {
                let matched = Matched { class: class.name.clone(), size: name.clone() };
                vec![matched.label()]
            })
        });
        Self {
            seed,
            jobs,
            days,
            from,
            repositories: named.chain(invented).collect(),
            labels: labels.collect(),
        }
    }

    /// The jobs, in the order in which they are queued. None where there is no repository, no label or no day.
    pub fn generate(&self) -> Vec<PastJob> {
        if self.repositories.is_empty() || self.labels.is_empty() || self.days == 0 {
            return Vec::new();
        }
        let mut chance = Chance::new(self.seed);
        let hours = self.hours();
        let weights = Weights {
            repositories: zipf(self.repositories.len(), 1.1),
            labels: zipf(self.labels.len(), 1.0),
            workflows: WORKFLOWS.iter().map(|(_, weight, _)| *weight).collect(),
            bursts: BURSTS.iter().map(|(_, weight)| *weight).collect(),
        };
        let mut jobs: Vec<PastJob> = Vec::with_capacity(self.jobs);
        while jobs.len() < self.jobs {
            let left = self.jobs - jobs.len();
            let run = self.run(&hours, &weights, left, &mut chance);
            jobs.extend(run);
        }
        jobs.sort_by_key(|job| job.queued_at);
        for (index, job) in jobs.iter_mut().enumerate() {
            job.id = (index + 1).to_string();
        }
        jobs
    }

    /// How busy each hour of the time is.
    fn hours(&self) -> Vec<f64> {
        let count = i64::from(self.days) * 24;
        let weight = |hour: i64| {
            let at = later(self.from, SignedDuration::from_hours(hour)).to_zoned(TimeZone::UTC);
            let weekend =
                matches!(at.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday);
            let of_day = usize::try_from(at.hour()).ok().and_then(|hour| HOURS.get(hour)).copied();
            of_day.unwrap_or(1.0) * if weekend { WEEKEND } else { 1.0 }
        };
        (0..count).map(weight).collect()
    }

    /// The jobs that one workflow run queues, at most so many.
    fn run(&self, hours: &[f64], weights: &Weights, most: usize, chance: &mut Chance) -> Vec<PastJob> {
        let hour = i64::try_from(chance.weighted(hours)).unwrap_or(0);
        let second = i64::try_from(chance.below(3600)).unwrap_or(0);
        let queued_at = later(self.from, SignedDuration::from_secs(hour * 3600 + second));
        let repository = self.repositories.get(chance.weighted(&weights.repositories));
        let labels = self.labels.get(chance.weighted(&weights.labels));
        let (workflow, _, median) =
            WORKFLOWS.get(chance.weighted(&weights.workflows)).copied().unwrap_or(("ci", 1.0, 180.0));
        let (least, largest) = BURSTS.get(chance.weighted(&weights.bursts)).map_or((1, 1), |(size, _)| *size);
        let size = usize::try_from(least + chance.below(largest - least + 1)).unwrap_or(1).min(most);
        (0..size)
            .map(|index| {
                let seconds = chance.log_normal(median, SPREAD).clamp(5.0, LONGEST_SECONDS).round();
                let fails = chance.unit() < 0.08;
                PastJob {
                    id: String::new(),
                    queued_at,
                    duration: SignedDuration::from_secs(seconds as i64),
                    repository: repository.cloned().unwrap_or_default(),
                    labels: labels.cloned().unwrap_or_default(),
                    source: None,
                    public: false,
                    workflow: Some(workflow.to_owned()),
                    name: Some(if size == 1 { "build".to_owned() } else { format!("build ({})", index + 1) }),
                    conclusion: Some(if fails { "failure" } else { "success" }.to_owned()),
                    cancelled_at: None,
                }
            })
            .collect()
    }
}

struct Weights {
    repositories: Vec<f64>,
    labels: Vec<f64>,
    workflows: Vec<f64>,
    bursts: Vec<f64>,
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn generator(seed: u64, jobs: usize) -> Generator {
        Generator {
            seed,
            jobs,
            days: 14,
            // A Monday.
            from: "2026-01-05T00:00:00Z".parse().unwrap(),
            repositories: vec!["acme/web".to_owned(), "acme/api".to_owned(), "acme/old".to_owned()],
            labels: vec![vec!["stint-small".to_owned()], vec!["stint-large".to_owned()]],
        }
    }

    #[test]
    fn a_seed_gives_the_same_jobs_and_another_one_others() {
        let jobs = generator(7, 500).generate();
        assert_eq!(jobs.len(), 500);
        assert_eq!(jobs, generator(7, 500).generate());
        assert_ne!(jobs, generator(8, 500).generate());
    }

    #[test]
    fn days_are_busier_than_nights_and_weekdays_than_weekends() {
        let jobs = generator(7, 20_000).generate();
        let count = |test: &dyn Fn(&jiff::Zoned) -> bool| {
            jobs.iter().filter(|job| test(&job.queued_at.to_zoned(TimeZone::UTC))).count()
        };
        let (day, night) = (count(&|at| (9..17).contains(&at.hour())), count(&|at| at.hour() < 5));
        let weekend = count(&|at| at.weekday().to_monday_zero_offset() >= 5);
        assert!(day > 5 * night, "{day} by day, {night} by night");
        assert!((1_000..3_000).contains(&weekend), "{weekend} of 20000 at weekends");
    }

    #[test]
    fn bursts_reach_sixty_and_the_first_of_each_list_is_the_most_frequent() {
        let jobs = generator(7, 20_000).generate();
        let mut runs: BTreeMap<(Timestamp, &str), usize> = BTreeMap::new();
        for job in &jobs {
            *runs.entry((job.queued_at, job.repository.as_str())).or_default() += 1;
        }
        let largest = runs.values().max().copied().unwrap();
        assert!((50..=130).contains(&largest), "{largest}");
        let of = |name: &str| jobs.iter().filter(|job| job.repository == name).count();
        assert!(of("acme/web") > of("acme/api") && of("acme/api") > of("acme/old"));
        let large = jobs.iter().filter(|job| job.labels == ["stint-large"]).count();
        assert!(large * 2 < jobs.len(), "{large}");
    }

    #[test]
    fn without_labels_or_repositories_there_is_nothing() {
        assert!(Generator { labels: Vec::new(), ..generator(1, 5) }.generate().is_empty());
        assert!(Generator { repositories: Vec::new(), ..generator(1, 5) }.generate().is_empty());
    }
}
