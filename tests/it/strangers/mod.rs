//! What strangers send takes nothing from those who are known, nor from other strangers.

mod secrets;
mod streams;

use std::time::Duration;

use tonic::Request;

/// How long something may take on a machine that runs many tests.
const PATIENCE: Duration = Duration::from_mins(2);

/// With this, a test has as many sources as it writes addresses into `x-forwarded-for`.
const BEHIND_PROXY: (&str, &str) = ("trusted_proxies", "127.0.0.1");

/// A request that a proxy passes on for this address.
fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    request
}
