//! Deadlines: a unary call that takes too long is answered with `DEADLINE_EXCEEDED`. Tonic's own
//! timeout would answer CANCELLED.

use std::time::Duration;

use axum::http::{HeaderMap, Response};
use tonic::Status;
use tonic::body::Body;

use crate::error::Error;

/// Answers within the limit. The answer to a streaming call starts at once, so that the limit does
/// not end streams.
pub(super) async fn enforce(
    limit: Duration,
    answer: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Status::from(Error::DeadlineExceeded).into_http())
}

/// The time limit of a request: the caller's `grpc-timeout`, but at most `max`.
pub(super) fn limit(headers: &HeaderMap, max: Duration) -> Result<Duration, Status> {
    Ok(requested(headers)?.map_or(max, |requested| requested.min(max)))
}

/// The `grpc-timeout` header: at most eight digits and a unit.
fn requested(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let count: u64 = digits.parse().ok()?;
        match unit {
            "H" => Some(Duration::from_secs(count * 3600)),
            "M" => Some(Duration::from_secs(count * 60)),
            "S" => Some(Duration::from_secs(count)),
            "m" => Some(Duration::from_millis(count)),
            "u" => Some(Duration::from_micros(count)),
            "n" => Some(Duration::from_nanos(count)),
            _ => None,
        }
    });
    match parsed {
        Some(limit) => Ok(Some(limit)),
        None => {
            Err(Error::invalid("grpc-timeout", "must be up to 8 digits and H M S m u or n").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value.parse().unwrap());
        requested(&headers).ok().flatten()
    }

    #[test]
    fn grpc_timeout_is_parsed_in_every_unit() {
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("5n"), Some(Duration::from_nanos(5)));
        for bad in ["", "S", "5", "5s", "-5S", "123456789S", "5 S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
