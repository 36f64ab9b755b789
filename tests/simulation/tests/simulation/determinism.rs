//! The same seed gives the same run, whatever order a hash map has this time.

use simulation::Scenario;

#[test]
fn the_same_seed_gives_the_same_journal_each_time() {
    for seed in [2, 5, 11, 23] {
        let plan = Scenario::of(seed);
        let (first, second) = (plan.run().unwrap(), plan.run().unwrap());
        if first.hash != second.hash {
            let differ = first.journal.lines().zip(second.journal.lines()).find(|(one, other)| one != other);
            panic!("seed {seed} differs from itself, first at {differ:?}");
        }
    }
}
