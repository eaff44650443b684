//! Floods of unauthenticated requests do not affect authenticated callers or other sources.

mod secrets;
mod streams;

use tonic::Request;

/// With this setting, a test chooses its source with `x-forwarded-for`.
const BEHIND_PROXY: (&str, &str) = ("trusted_proxies", "127.0.0.1");

/// A request that a proxy forwards for this address.
fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    request
}
