//! Chance that can be repeated, and that does not depend on what else draws: what is drawn for one thing stays the same
//! when other jobs or faults are taken out of a plan, which is what makes shrinking work.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A seeded source of chance.
#[derive(Clone, Debug)]
pub struct Chance(Pcg64Mcg);

impl Chance {
    /// From a seed alone.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Of one thing, named in words.
    pub fn of(seed: u64, thing: &str) -> Self {
        // FNV-1a: stable over releases, unlike the standard library's hasher.
        let spread = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self::new(thing.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, spread))
    }

    /// Evenly from 0 up to, and without, the limit; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Evenly from the least up to, and with, the most.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(choices.len() as u64)).unwrap_or(0);
        choices.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thing_draws_does_not_depend_on_others() {
        let draws = |thing: &str| (0..4).map(|_| Chance::of(7, thing).below(1_000)).collect::<Vec<_>>();
        assert_eq!(draws("job 1"), draws("job 1"));
        assert_ne!(draws("job 1"), draws("job 2"));
    }
}
