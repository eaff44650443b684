//! Properties of the pure rules: what holds for all inputs, checked with generated ones. A failure
//! is reduced to the smallest input that still fails.

mod addresses;
mod foreign_tokens;
mod limits;
mod names;
mod paths;
mod positions;
mod revocations;
mod tokens;

use proptest::prelude::ProptestConfig;

/// The number of generated inputs. A failure is kept in no file: it becomes a unit test.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}
