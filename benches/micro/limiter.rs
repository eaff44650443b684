//! Decisions of the limiter in memory.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use keyward::internals::clock::Clock;
use keyward::internals::limiter::{Demand, Limiter, WindowRate};
use tokio::runtime::Builder;

pub(super) fn measure(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let limiter = Limiter::in_memory(Clock::system());
    let mut group = criterion.benchmark_group("limiter");
    for demands in [1, 3] {
        let demands: Vec<_> = (0..demands).map(demand).collect();
        let id = BenchmarkId::new("take", demands.len());
        group.bench_with_input(id, &demands, |bencher, demands| {
            bencher.iter(|| runtime.block_on(limiter.take("acme", black_box(demands))));
        });
    }
    group.finish();
}

/// A limit that is never reached.
fn demand(number: u32) -> Demand {
    Demand {
        key: format!("tenants/acme/applications/crm-{number}"),
        rate: WindowRate::new(1 << 40, Duration::from_mins(1)),
        cost: 1,
        observe_only: false,
    }
}
