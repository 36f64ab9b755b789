//! How long a planning pass takes, and what it allocates, by the number of jobs.

use std::hint::black_box;

use bench::{allocations, crowd};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use runner_core::plan::{Snapshot, plan};

#[global_allocator]
static COUNTING: allocations::Counting = allocations::Counting;

/// A crowd of so many jobs.
type Crowd = fn(usize) -> Snapshot;

fn passes(criterion: &mut Criterion) {
    let crowds: [(&str, Crowd); 2] = [("waiting", crowd::waiting), ("burst", crowd::burst)];
    for (name, crowd) in crowds {
        let mut group = criterion.benchmark_group(format!("plan/{name}"));
        for count in [100_usize, 1_000, 10_000, 50_000] {
            let all = crowd(count);
            let (plan_of_it, allocations, bytes) = allocations::of(|| plan(&all, crowd::now()));
            println!(
                "{name} {count}: {allocations} allocations ({:.1} a job), {} KiB; {} actions, {} reasons",
                allocations as f64 / count as f64,
                bytes / 1024,
                plan_of_it.actions.len(),
                plan_of_it.reasons.len()
            );
            group.throughput(Throughput::Elements(count as u64));
            group.sample_size(if count > 1_000 { 20 } else { 50 });
            group.bench_with_input(BenchmarkId::from_parameter(count), &all, |bencher, all| {
                bencher.iter(|| black_box(plan(all, crowd::now())));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
