//! Chance that can be repeated: the same seed gives the same draws, on every machine and in every release.
//!
//! The generator is PCG (`Pcg64Mcg`), whose output its crate promises to keep; what is made of its numbers is written
//! here, so that no other crate's choice of algorithm can change a workload.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A seeded source of chance.
#[derive(Clone, Debug)]
pub(super) struct Chance(Pcg64Mcg);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Of one thing among many, such as one runner: what it draws does not depend on what others drew before, so that
    /// the same job has the same luck under two configurations.
    pub(super) fn of(seed: u64, thing: u64, part: u64) -> Self {
        let spread = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        Self::new(seed ^ spread(thing.wrapping_add(1)) ^ spread(spread(part.wrapping_add(1))))
    }

    /// Evenly from 0 up to, and without, 1.
    pub(super) fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly from 0 up to, and without, the limit; 0 where that is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Log-normal with this median; `spread` is the standard deviation of its logarithm.
    pub(super) fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// The index of one of these weights, as likely as it weighs. 0 where they weigh nothing.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Weights of so many things of which the first is the most frequent, by Zipf's law: 1, 1/2, 1/3, … to this power.
pub(super) fn zipf(count: usize, power: f64) -> Vec<f64> {
    (1..=count).map(|rank| (rank as f64).powf(-power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_draws_that_it_always_gave() {
        let mut chance = Chance::new(7);
        let drawn: Vec<u64> = (0..4).map(|_| chance.below(1000)).collect();
        let mut again = Chance::new(7);
        assert_eq!(drawn, (0..4).map(|_| again.below(1000)).collect::<Vec<_>>());
        assert_ne!(drawn, (0..4).map(|_| Chance::new(8).below(1000)).collect::<Vec<_>>());
    }

    #[test]
    fn half_of_what_is_log_normal_is_below_its_median() {
        let mut chance = Chance::new(1);
        let below = (0..10_000).filter(|_| chance.log_normal(60.0, 0.5) < 60.0).count();
        assert!((4_800..5_200).contains(&below), "{below}");
        assert_eq!(Chance::new(3).log_normal(60.0, 0.0), 60.0);
    }

    #[test]
    fn weights_decide_how_often() {
        let mut chance = Chance::new(2);
        let mut counts = [0; 3];
        for _ in 0..6_000 {
            counts[chance.weighted(&[3.0, 2.0, 1.0])] += 1;
        }
        assert!((2_850..3_150).contains(&counts[0]) && (850..1_150).contains(&counts[2]), "{counts:?}");
    }
}
