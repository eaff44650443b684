//! `cargo bench --bench micro`: the steps of a request, each compared with its unavoidable part.
//! `-- --help` shows criterion's options, and a word selects benchmarks: `-- limiter`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod limiter;
mod revocations;
mod secrets;
mod tokens;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    tokens::measure(&mut criterion);
    limiter::measure(&mut criterion);
    revocations::measure(&mut criterion);
    secrets::measure(&mut criterion);
    criterion.final_summary();
}
