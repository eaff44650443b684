//! Waiting for what happens by itself. All waits of the tests are here, and
//! `tests/it/architecture.rs` refuses them elsewhere.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take to become true. Only a failure takes that long, so it suits the
/// slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// The pause between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// Polls a condition until it is true. A test that gives up names `what` it waited for.
pub(crate) async fn until(what: impl Display, mut condition: impl AsyncFnMut() -> bool) {
    until_some(what, async || condition().await.then_some(())).await;
}

/// Like [`until`], and returns what was found.
pub(crate) async fn until_some<T>(
    what: impl Display,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let found = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    in_time(what, found).await
}

/// Like [`until`], without a runtime, for conditions that block.
#[track_caller]
pub(crate) fn until_blocking(what: impl Display, condition: impl FnMut() -> bool) {
    assert!(becomes_true(condition), "not within {PATIENCE:?}: {what}");
}

/// Polls a blocking condition. Returns false if it does not become true, for callers that then have
/// more to say, such as the log of a process.
pub(crate) fn becomes_true(mut condition: impl FnMut() -> bool) -> bool {
    #[expect(clippy::disallowed_methods, reason = "how long a test waits is not simulated")]
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        thread::sleep(INTERVAL);
    }
    false
}

/// The result of a future, unless it hangs.
pub(crate) async fn in_time<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Paces generated load: writers that must not stay in step, connections that break now and then, a
/// flood that leaves the processor to others. No assertion may depend on how long it takes, so it
/// can make a test slow but not wrong. Nothing waits for a state with it: [`until`] does.
pub(crate) async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}
