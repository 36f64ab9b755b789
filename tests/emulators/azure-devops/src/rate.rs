//! How much of the service one identity consumes: units (TSTU) that add up over a sliding window.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::options::Options;

/// What one identity has consumed.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    spent: VecDeque<(Timestamp, f64)>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// How long it is held up first.
    pub(crate) delay: Duration,
    /// Whether it is refused.
    pub(crate) blocked: bool,
    /// Seconds that the client is asked to wait.
    pub(crate) retry_after: Option<u64>,
    /// What the headers say; absent while consumption is low.
    pub(crate) standing: Option<Standing>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// When all of it will be forgotten, in seconds since 1970.
    pub(crate) reset: i64,
}

impl Usage {
    /// Adds `units`.
    pub(crate) fn spend(&mut self, units: f64, now: Timestamp) {
        self.spent.push_back((now, units));
    }

    /// What becomes of a request that costs `units`; one that is refused costs nothing.
    pub(crate) fn draw(&mut self, units: f64, options: &Options, now: Timestamp) -> Verdict {
        let limits = &options.limits;
        let window = options.scaled(limits.window);
        let oldest = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        while self.spent.front().is_some_and(|(at, _)| *at < oldest) {
            self.spent.pop_front();
        }
        let before: f64 = self.spent.iter().map(|(_, units)| units).sum();
        let blocked = before >= limits.blocked_from;
        if !blocked {
            self.spend(units, now);
        }
        let used = if blocked { before } else { before + units };
        let over =
            (used - limits.delayed_from) / (limits.blocked_from - limits.delayed_from).max(f64::EPSILON);
        let delay = if over > 0.0 && !blocked {
            options.scaled(limits.longest_delay.mul_f64(over.min(1.0)))
        } else {
            Duration::ZERO
        };
        let retry_after = if blocked {
            Some(self.seconds_until_below(limits.delayed_from, window, now))
        } else {
            (!delay.is_zero()).then(|| seconds(delay))
        };
        let last = self.spent.back().map_or(now, |(at, _)| *at);
        let reset = last.checked_add(window).unwrap_or(now).as_second();
        let standing = (used >= limits.delayed_from * limits.headers_from).then(|| Standing {
            limit: whole(limits.delayed_from),
            remaining: whole(limits.delayed_from - used),
            reset,
        });
        Verdict { delay, blocked, retry_after, standing }
    }

    fn seconds_until_below(&self, limit: f64, window: Duration, now: Timestamp) -> u64 {
        let mut left: f64 = self.spent.iter().map(|(_, units)| units).sum();
        for (at, units) in &self.spent {
            left -= units;
            if left < limit {
                let free = at.checked_add(window).unwrap_or(now);
                return seconds(free.duration_since(now).try_into().unwrap_or(Duration::ZERO));
            }
        }
        seconds(window)
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0 || duration.is_zero())
}

/// A count of units for a header.
fn whole(units: f64) -> u64 {
    Duration::try_from_secs_f64(units.max(0.0)).map_or(0, |as_seconds| as_seconds.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn consumption_is_delayed_then_refused_and_forgotten_after_the_window() {
        let options = Options::default();
        let mut usage = Usage::default();
        for (second, units, delay, blocked, retry_after, remaining) in [
            (0, 100.0, 0, false, None, None),
            (10, 60.0, 0, false, None, Some(40)),
            (20, 140.0, 15_000, false, Some(15), Some(0)),
            (30, 100.0, 30_000, false, Some(30), Some(0)),
            // Blocked until the third has been forgotten, which leaves 100; costs nothing itself.
            (40, 150.0, 0, true, Some(280), Some(0)),
            (321, 1.0, 0, false, None, None),
        ] {
            let verdict = usage.draw(units, &options, at(second));
            let standing = verdict.standing.map(|standing| standing.remaining);
            assert_eq!(
                (verdict.delay.as_millis(), verdict.blocked, verdict.retry_after, standing),
                (delay, blocked, retry_after, remaining),
                "after {second} s"
            );
        }
    }
}
