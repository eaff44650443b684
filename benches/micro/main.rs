//! `cargo bench --bench micro`: what a request is made of, one piece at a time, each beside
//! the part of it that cannot be left out. `-- --help` tells of criterion's options, and a
//! word runs only what has it in its name: `-- limiter`.

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
