//! Parsers of setting values.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use tracing_subscriber::EnvFilter;

use super::LogFormat;
use crate::domain::Fault;

const MIN_DURATION: Duration = Duration::from_millis(1);
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

pub(super) fn listen(value: &str) -> Result<SocketAddr, Fault> {
    value.parse().map_err(|_| Fault::new("must be an address and port like 127.0.0.1:8080"))
}

pub(super) fn within<T>(value: &str, min: T, max: T) -> Result<T, Fault>
where
    T: std::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    value
        .parse()
        .ok()
        .filter(|number| (&min..=&max).contains(&number))
        .ok_or_else(|| Fault::new(format!("must be a whole number from {min} to {max}")))
}

/// A duration as people write it: `30s`, `15m`, `1h 30m`, `30d`.
pub fn duration(value: &str) -> Result<Duration, Fault> {
    let wrong = || Fault::new("must be a duration that is not negative, like 30s, 15m or 24h");
    // jiff treats a day as a calendar day of unknown length. Here a day is 24 hours.
    let text = match value.trim().strip_suffix('d') {
        Some(days) => {
            let days: u32 = days.trim().parse().map_err(|_| wrong())?;
            return Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60));
        }
        None => value,
    };
    let span: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// A duration of at most 366 days, so that adding it to a time does not overflow.
pub(super) fn span(value: &str) -> Result<Duration, Fault> {
    duration(value).and_then(|span| {
        if span <= MAX_DURATION { Ok(span) } else { Err(Fault::new("must be at most 366d")) }
    })
}

/// A duration of at least 1 ms.
pub(super) fn positive(value: &str) -> Result<Duration, Fault> {
    span(value).and_then(|span| {
        if span >= MIN_DURATION { Ok(span) } else { Err(Fault::new("must be at least 1ms")) }
    })
}

/// How long a request waits for the database. SQLite's busy timeout is a 31-bit number of
/// milliseconds.
pub(super) fn acquire_timeout(value: &str) -> Result<Duration, Fault> {
    match span(value) {
        Ok(span) if (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&span) => {
            Ok(span)
        }
        _ => Err(Fault::new("must be a duration from 100ms to 1h")),
    }
}

/// How long a command may take that prints a master key.
pub(super) fn command_timeout(value: &str) -> Result<Duration, Fault> {
    match span(value) {
        Ok(span) if (Duration::from_millis(100)..=Duration::from_mins(5)).contains(&span) => {
            Ok(span)
        }
        _ => Err(Fault::new("must be a duration from 100ms to 5m")),
    }
}

/// The lifetime of an admin credential.
pub(super) fn admin_lifetime(value: &str) -> Result<Option<Duration>, Fault> {
    if value == "never" {
        return Ok(None);
    }
    match span(value) {
        Ok(span) if span >= Duration::from_hours(1) => Ok(Some(span)),
        _ => Err(Fault::new("must be never, or a duration from 1h to 366d")),
    }
}

/// How long a signing key signs: long enough that the next key is published well before.
pub(super) fn rotation_period(value: &str) -> Result<Option<Duration>, Fault> {
    if value == "never" || value == "0" {
        return Ok(None);
    }
    match span(value) {
        Ok(span) if span >= Duration::from_hours(1) => Ok(Some(span)),
        _ => Err(Fault::new("must be never, or a duration from 1h to 366d")),
    }
}

/// How long audit events are kept. At least a week, so that a mistake can still be noticed.
pub(super) fn audit_retention(value: &str) -> Result<Option<Duration>, Fault> {
    const MIN: Duration = Duration::from_hours(7 * 24);
    const MAX: Duration = Duration::from_hours(100 * 366 * 24);
    if value == "unlimited" {
        return Ok(None);
    }
    match duration(value) {
        Ok(span) if (MIN..=MAX).contains(&span) => Ok(Some(span)),
        _ => Err(Fault::new("must be unlimited, or a duration from 7d to 36600d")),
    }
}

pub(super) fn path(value: &str) -> Result<PathBuf, Fault> {
    if value.is_empty() || value.contains(char::is_control) {
        return Err(Fault::new("must be a path without control characters"));
    }
    Ok(value.into())
}

pub(super) fn prefix(value: &str) -> Result<String, Fault> {
    let fits = (1..=16).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then(|| value.to_owned()).ok_or_else(|| Fault::new("must be 1 to 16 letters and digits"))
}

/// The share of one source must suffice for the largest request, a profile.
pub(super) fn request_memory(value: &str) -> Result<usize, Fault> {
    within(value, 64 << 20, 64 << 30)
}

pub(super) fn key_prefix(value: &str) -> Result<String, Fault> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_:.".contains(&b);
    let fits = (1..=64).contains(&value.len()) && value.bytes().all(allowed);
    fits.then(|| value.to_owned())
        .ok_or_else(|| Fault::new("must be 1 to 64 letters, digits and - _ : ."))
}

pub(super) fn failure_window(value: &str) -> Result<Duration, Fault> {
    let max = Duration::from_hours(24);
    positive(value).and_then(|span| {
        if span <= max { Ok(span) } else { Err(Fault::new("must be at most 24h")) }
    })
}

/// Splits an http:// or https:// URL without query and fragment into authority and path.
fn parts_of_url(value: &str) -> Result<(&str, &str), Fault> {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| Fault::new("must be an http:// or https:// URL"))?;
    if !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::new(
            "must not have spaces, and other characters must be percent-encoded",
        ));
    }
    if rest.contains(['?', '#']) {
        return Err(Fault::new("must not have a query or a fragment"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        // The URL is published with every token and answer.
        return Err(Fault::new("must not have a user or a password"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => inside.split_once(']').unwrap_or_default(),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_host = if authority.starts_with('[') {
        host.parse::<Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    if !is_host {
        return Err(Fault::new("must have a host, like https://id.example.com"));
    }
    let is_port = match port.strip_prefix(':') {
        Some(number) => {
            number.bytes().all(|b| b.is_ascii_digit()) && number.parse().is_ok_and(|n: u16| n > 0)
        }
        None => port.is_empty(),
    };
    if !is_port {
        return Err(Fault::new("must have no port, or one from 1 to 65535"));
    }
    Ok((authority, path))
}

pub(super) fn http_url(value: &str) -> Result<String, Fault> {
    parts_of_url(value).map(|_| value.to_owned())
}

/// RFC 8414: a URL without query and fragment. Its path is a prefix of served paths.
pub(super) fn issuer(value: &str) -> Result<String, Fault> {
    let (_, path) = parts_of_url(value)?;
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | ".." | ".well-known")
            && !segment.starts_with(':')
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'(),;=:@+".contains(&b))
    };
    let inside = path.strip_prefix('/').unwrap_or(path);
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if inside.split('/').all(is_segment) || path.is_empty() || path == "/" {
        Ok(value.to_owned())
    } else {
        Err(Fault::new(
            "must have a path of plain segments: without //, .., .well-known, { } * and /:",
        ))
    }
}

/// The base of the URLs of gRPC methods: no path, because none can precede those of gRPC.
pub(super) fn grpc_url(value: &str) -> Result<String, Fault> {
    without_path(value, "must have no path: gRPC methods are at /")
}

/// Scheme and authority alone.
pub(super) fn authority_url(value: &str) -> Result<String, Fault> {
    without_path(value, "must have no path: that of each request follows it")
}

fn without_path(value: &str, fault: &'static str) -> Result<String, Fault> {
    match parts_of_url(value)? {
        (_, "" | "/") => Ok(value.trim_end_matches('/').to_owned()),
        _ => Err(Fault::new(fault)),
    }
}

/// Whether nonces are required.
pub(super) fn dpop_nonce(value: &str) -> Result<bool, Fault> {
    match value {
        "off" => Ok(false),
        "required" => Ok(true),
        _ => Err(Fault::new("must be off or required")),
    }
}

pub(super) fn log_directives(value: &str) -> Result<String, Fault> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A word that is not a level would be a module name, which disables the log of all others.
    let is_known = |directive: &str| {
        let word = directive.trim();
        word.contains(['=', '[']) || LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    let wrong = || {
        Fault::new("must be error, warn, info, debug, trace, or directives like info,keyward=debug")
    };
    if !value.split(',').all(is_known) {
        return Err(wrong());
    }
    EnvFilter::try_new(value).map(|_| value.to_owned()).map_err(|_| wrong())
}

pub(super) fn switch(value: &str) -> Result<bool, Fault> {
    value.parse().map_err(|_| Fault::new("must be true or false"))
}

pub(super) fn log_format(value: &str) -> Result<LogFormat, Fault> {
    match value {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Fault::new("must be text or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("1h 30m", 5400), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "15", "-5s", "1y", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(positive("1ms").is_ok() && positive("366d").is_ok());
        assert!(positive("999us").is_err() && positive("367d").is_err());
    }

    #[test]
    fn issuer_must_be_publishable_and_servable() {
        for good in [
            "https://id.example.com",
            "https://id.example.com/",
            "http://127.0.0.1:8080",
            "https://[2001:db8::1]:8443/keyward/eu",
            "https://id.example.com/a%20b",
        ] {
            assert_eq!(issuer(good).as_deref(), Ok(good));
        }
        for bad in [
            "https://user:pw@id.test",
            "https://id.test:99999",
            "https://id.test:0",
            "https://id.test:",
            "https://id.test:+80",
            "https://:443",
            "https:///x",
            "https://[::1",
            "https://[id.test]",
            "https://id.test?x",
            "https://id.test#x",
            "https://id.test//x",
            "https://id.test/x//",
            "https://id.test/../x",
            "https://id.test/.well-known/x",
            "https://id test",
            "https://id.t\u{e9}st",
            "ftp://id.test",
        ] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_directives_are_validated() {
        for good in ["info", "WARN", "off", "info,keyward=debug", "keyward::log=info, error"] {
            assert!(log_directives(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "verbose", "info,", "=,=", "keyward=loud"] {
            assert!(log_directives(bad).is_err(), "{bad}");
        }
    }
}
