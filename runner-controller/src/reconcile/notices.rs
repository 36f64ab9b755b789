//! Notices: what commits show of their jobs is brought up to date beside the loop.
//!
//! Only the replica that acts does it. What to say is core's to decide; here it is carried out, a few at a time and not
//! more often than GitHub likes content to be made. A failure is tried again later and stops nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use runner_core::forecast::Waiting;
use runner_core::job::{Finding, Job, JobKey, JobState};
use runner_core::notice::{self, Cost, Due, Known, Said, Stage};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::execute::Outside;
use crate::observe::View;
use crate::ports::{CallError, CallErrorKind, CallResult, CheckRun, LedgerRow, Published};

/// How often it is looked what is due.
const EVERY: SignedDuration = SignedDuration::from_secs(1);
/// How many are published at once.
const AT_ONCE: usize = 4;
/// How many calls are made for a source in a minute and in an hour. GitHub asks for at most 80 and 500 that make content
/// (GitHub documentation, "Rate limits for the REST API"), and shuts out all calls of whoever makes more.
const PER_MINUTE: usize = 30;
const PER_HOUR: usize = 400;
/// The first pause after a failure; doubled for each further one of the job.
const FIRST: SignedDuration = SignedDuration::from_secs(5);
/// The longest pause; also that of a source that refuses, since somebody may grant what is missing.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// The notices of the replica that acts.
#[derive(Default)]
pub(super) struct Notices {
    looked: Option<Timestamp>,
    memory: Arc<Mutex<Memory>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Memory {
    said: HashMap<JobKey, Said>,
    under_way: HashSet<JobKey>,
    /// Jobs of which nothing is said before a moment, and how often that failed.
    held: HashMap<JobKey, (Timestamp, u32)>,
    sources: HashMap<String, Pace>,
}

/// How often something was published for a source.
#[derive(Default)]
struct Pace {
    calls: VecDeque<Timestamp>,
    /// Nothing is published before this.
    paused: Option<Timestamp>,
    /// Why not, as last logged.
    complaint: Option<String>,
}

impl Pace {
    /// When the next call may be made.
    fn next(&mut self, now: Timestamp) -> Timestamp {
        let before = |at: &Timestamp, span| now.duration_since(*at) >= span;
        while self.calls.front().is_some_and(|at| before(at, SignedDuration::from_hours(1))) {
            self.calls.pop_front();
        }
        // With the oldest of so many calls out of the span, there is room for another.
        let room_after = |most: usize, span| {
            let oldest = self.calls.len().checked_sub(most).and_then(|index| self.calls.get(index));
            oldest.map(|at| add(*at, span))
        };
        let minute = room_after(PER_MINUTE, SignedDuration::from_mins(1));
        let hour = room_after(PER_HOUR, SignedDuration::from_hours(1));
        minute.into_iter().chain(hour).chain(self.paused).max().unwrap_or(now).max(now)
    }
}

impl Notices {
    /// Begins what is due; it goes on beside the loop. Answers when to look again if time alone can change that.
    pub(super) fn keep(
        &mut self,
        outside: &Arc<Outside>,
        view: &View,
        waiting: &Waiting,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if let Some(last) = self.looked.filter(|last| now.duration_since(*last) < EVERY) {
            return Some(add(last, EVERY));
        }
        self.looked = Some(now);
        let snapshot = &view.snapshot;
        let mut memory = self.lock();
        memory.forget(&snapshot.jobs, now);
        let known = Known {
            setup: &snapshot.setup,
            jobs: &snapshot.jobs,
            runners: &snapshot.runners,
            reasons: &waiting.reasons,
            line: &waiting.line,
            said: &memory.said,
        };
        let busy = |key: &JobKey| {
            memory.under_way.contains(key) || memory.held.get(key).is_some_and(|(until, _)| *until > now)
        };
        let free = AT_ONCE.saturating_sub(memory.under_way.len());
        // More than are free: some may be of a source that has to wait.
        let (due, wake) = notice::due(known, busy, PER_HOUR, now);
        let mut wakes: Vec<Timestamp> = wake.into_iter().collect();
        wakes.extend(memory.held.values().map(|(until, _)| *until).filter(|until| *until > now));
        let named: HashSet<&JobKey> = due.iter().map(|one| &one.job).collect();
        let jobs = snapshot.jobs.iter().filter(|job| named.contains(&job.key));
        let jobs: HashMap<JobKey, &Job> = jobs.map(|job| (job.key.clone(), job)).collect();
        let mut begun = 0;
        for one in due {
            if begun == free {
                wakes.push(add(now, EVERY));
                break;
            }
            let Some(job) = jobs.get(&one.job) else { continue };
            let pace = memory.sources.entry(one.job.source.clone()).or_default();
            let next = pace.next(now);
            if next > now {
                wakes.push(next.max(add(now, EVERY)));
                continue;
            }
            pace.calls.push_back(now);
            memory.under_way.insert(one.job.clone());
            begun += 1;
            self.spawn(outside.clone(), (*job).clone(), one);
        }
        wakes.into_iter().min()
    }

    /// Breaks off what is under way: it is looked for, and gone on with, by whoever acts next.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        *self = Self::default();
    }

    fn spawn(&self, outside: Arc<Outside>, job: Job, due: Due) {
        let (memory, stop) = (self.memory.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let key = job.key.clone();
            let _under_way = UnderWay { memory: memory.clone(), job: key.clone() };
            let Some(result) = stop.run_until_cancelled(say(&outside, job, due)).await else { return };
            let mut memory = lock(&memory);
            match result {
                Ok(said) => {
                    memory.held.remove(&key);
                    if let Some(pace) = memory.sources.get_mut(&key.source) {
                        (pace.paused, pace.complaint) = (None, None);
                    }
                    memory.said.insert(key, said);
                }
                Err(error) => memory.failed(&key, &error, clock::now()),
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

impl Memory {
    /// Forgets jobs whose records are gone, or that had their last word.
    fn forget(&mut self, jobs: &[Job], now: Timestamp) {
        if !self.said.is_empty() || !self.held.is_empty() {
            let open: HashSet<&JobKey> =
                jobs.iter().filter(|job| job.found.notice_ended.is_none()).map(|job| &job.key).collect();
            self.said.retain(|key, _| open.contains(key));
            self.held.retain(|key, (until, _)| open.contains(key) && now < add(*until, LONGEST));
        }
    }

    fn failed(&mut self, key: &JobKey, error: &CallError, now: Timestamp) {
        let pace = self.sources.entry(key.source.clone()).or_default();
        match error.kind {
            CallErrorKind::Throttled(after) => {
                let after = after.and_then(|after| SignedDuration::try_from(after).ok());
                pace.paused = Some(add(now, after.unwrap_or(SignedDuration::from_secs(60))));
                tracing::info!(source = key.source, %error, "what commits show of jobs is not kept up to date for a while");
                return;
            }
            // Whatever is missing is missing for every job of the source.
            CallErrorKind::Refused => {
                pace.paused = Some(add(now, LONGEST));
                if pace.complaint.as_ref() != Some(&error.message) {
                    tracing::warn!(
                        source = key.source,
                        %error,
                        "commits do not show why their jobs wait; runners are not affected: {error}"
                    );
                    pace.complaint = Some(error.message.clone());
                }
                return;
            }
            CallErrorKind::Unavailable | CallErrorKind::NotFound | CallErrorKind::Conflict => {}
        }
        let failures = self.held.get(key).map_or(0, |(_, failures)| *failures).saturating_add(1);
        let pause = FIRST.saturating_mul(1_i32 << failures.saturating_sub(1).min(10)).min(LONGEST);
        tracing::warn!(job = %key, %error, "the commit of job {key} does not show how it stands yet: {error}");
        self.held.insert(key.clone(), (add(now, pause), failures));
    }
}

/// Lets others say something of a job once it was said, or was not.
struct UnderWay {
    memory: Arc<Mutex<Memory>>,
    job: JobKey,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.memory).under_way.remove(&self.job);
    }
}

/// Publishes one notice and records what became of it.
async fn say(outside: &Outside, job: Job, due: Due) -> CallResult<Said> {
    let provider = outside.sources.provider(&job.key.source)?;
    let Due { stage, code, text, .. } = due;
    let text = match text {
        Some(text) => text,
        None => notice::ended(&job, &costs(&outside.ledger.rows_of(&job.key).await?, &job.key)),
    };
    let began_before = job.found.notice_begun.is_some();
    if !began_before {
        outside.records.note(&job.key, &Finding::NoticeBegun(clock::now())).await?;
    }
    let published = provider.publish(&check_run(&job, stage, text.clone(), began_before)).await;
    // Whether one was made is not known: the next try looks for it, since this one's beginning is recorded.
    let note = match published? {
        Published::As(_) if stage == Stage::Ended => Some(Finding::NoticeEnded(clock::now())),
        Published::As(id) if job.found.notice_id.is_none() => Some(Finding::NoticeId(id)),
        Published::As(_) => None,
        Published::Nowhere => {
            tracing::info!(job = %job.key, "the commit of job {} or what it showed is gone: nothing more is shown", job.key);
            Some(Finding::NoticeEnded(clock::now()))
        }
    };
    if let Some(note) = note {
        outside.records.note(&job.key, &note).await?;
    }
    Ok(Said { stage, code, text, at: clock::now() })
}

fn check_run(job: &Job, stage: Stage, text: notice::Text, look: bool) -> CheckRun {
    let what = &job.description;
    let name = match &what.workflow {
        Some(workflow) => format!("stint: {workflow} / {}", what.name),
        None => format!("stint: {}", what.name),
    };
    CheckRun {
        job: job.key.clone(),
        repository: what.repository.clone(),
        sha: what.head_sha.clone().unwrap_or_default(),
        name,
        url: what.url.clone(),
        stage,
        text,
        ended_at: match job.state() {
            JobState::Ended { at, .. } => Some(at),
            JobState::Queued { .. } | JobState::Waiting | JobState::Running { .. } => None,
        },
        id: job.found.notice_id.clone(),
        look,
    }
}

fn costs(rows: &[LedgerRow], job: &JobKey) -> Vec<Cost> {
    rows.iter()
        .map(|row| Cost {
            amount: row.bill.amount,
            currency: row.bill.currency.clone(),
            seconds: row.bill.seconds,
            ran: row.job.as_ref() == Some(job),
        })
        .collect()
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn key() -> JobKey {
        JobKey { source: "acme".to_owned(), id: "1".to_owned(), attempt: 1 }
    }

    #[test]
    fn no_more_is_published_than_github_likes() {
        let mut pace = Pace::default();
        for _ in 0..PER_MINUTE {
            assert_eq!(pace.next(at(0)), at(0));
            pace.calls.push_back(at(0));
        }
        assert_eq!(pace.next(at(5)), at(60));
        for call in PER_MINUTE..PER_HOUR {
            pace.calls.push_back(at(60 + i64::try_from(call).unwrap() * 2));
        }
        assert_eq!(pace.next(at(1000)), at(3600));
        assert_eq!(pace.next(at(3600)), at(3600));
        assert_eq!(pace.calls.len(), PER_HOUR - PER_MINUTE);
    }

    #[test]
    fn a_refusal_pauses_the_source_and_another_failure_the_job_alone() {
        let mut memory = Memory::default();
        let error = |kind| CallError::new(kind, "no");
        memory.failed(&key(), &error(CallErrorKind::Refused), at(0));
        assert_eq!(memory.sources.get_mut("acme").unwrap().next(at(0)), at(600));
        assert!(memory.held.is_empty());
        let mut memory = Memory::default();
        let pauses: Vec<i64> = (0..9)
            .map(|_| {
                memory.failed(&key(), &error(CallErrorKind::Unavailable), at(0));
                memory.held[&key()].0.duration_since(at(0)).as_secs()
            })
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(memory.sources.get_mut("acme").unwrap().next(at(0)), at(0));
    }
}
