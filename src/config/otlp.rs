//! Where traces and metrics are sent. The standard variables of OpenTelemetry (`OTEL_EXPORTER_OTLP_…`)
//! are a part of the environment: they take precedence over the file, and `KEYWARD_…` over them.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::layers::Reader;
use super::values::{duration, http_url};
use crate::domain::Fault;

/// The settings that have a standard variable.
pub(super) const STANDARD_VARIABLES: [(&str, &str); 4] = [
    ("telemetry.otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ("telemetry.otlp_protocol", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ("telemetry.otlp_headers", "OTEL_EXPORTER_OTLP_HEADERS"),
    ("telemetry.otlp_timeout", TIMEOUT_VARIABLE),
];
/// It is a number of milliseconds.
const TIMEOUT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_hours(1);
/// The maximum number of headers.
const MAX_HEADERS: usize = 32;

/// The collector of traces and metrics.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// The base of the URL: over HTTP, `/v1/traces` and `/v1/metrics` are added.
    pub endpoint: String,
    pub protocol: OtlpProtocol,
    pub headers: OtlpHeaders,
    /// The maximum duration of an export, with all its attempts.
    pub timeout: Duration,
    /// How often metrics are sent. `None`: never, they are only served.
    pub metrics_interval: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    Grpc,
    HttpProtobuf,
}

/// Headers of each export. Their values are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OtlpHeaders(HeaderMap);

impl OtlpHeaders {
    pub fn map(&self) -> &HeaderMap {
        &self.0
    }

    /// Parses `name=value` pairs, separated by commas. Values are percent-encoded.
    fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = || {
            Fault::new(format!(
                "must be at most {MAX_HEADERS} headers like api-key=secret,tenant=acme, with \
                 percent-encoded values"
            ))
        };
        let mut headers = HeaderMap::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
            let name = name.trim().to_ascii_lowercase();
            let is_own = ["content-type", "content-length", "host", "te"].contains(&name.as_str());
            if is_own || name.starts_with("grpc-") || name.ends_with("-bin") {
                return Err(wrong());
            }
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
            if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                return Err(wrong());
            }
            let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
        }
        if headers.is_empty() || headers.len() > MAX_HEADERS {
            return Err(wrong());
        }
        Ok(Self(headers))
    }
}

impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpHeaders({} headers)", self.0.len())
    }
}

impl OtlpConfig {
    /// `None` without an endpoint.
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let endpoint = r.optional("telemetry.otlp_endpoint", http_url);
        let protocol = r.get("telemetry.otlp_protocol", "grpc", protocol);
        let headers = r.secret("telemetry.otlp_headers", OtlpHeaders::parse);
        let timeout = r.get("telemetry.otlp_timeout", "10s", timeout);
        let metrics_interval = r.get("telemetry.otlp_metrics_interval", "never", interval);
        if endpoint.is_none() && metrics_interval.is_some() {
            r.fault("telemetry.otlp_metrics_interval", "needs telemetry.otlp_endpoint");
        }
        let headers = headers.unwrap_or_default();
        Some(Self { endpoint: endpoint?, protocol, headers, timeout, metrics_interval })
    }
}

/// The value of a standard variable as Keyward writes it. Empty means not set.
pub(super) fn standard_value(variable: &str, value: &str) -> Option<String> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match variable {
        _ if value.is_empty() => None,
        TIMEOUT_VARIABLE if is_number => Some(format!("{value}ms")),
        _ => Some(value.to_owned()),
    }
}

fn protocol(value: &str) -> Result<OtlpProtocol, Fault> {
    match value {
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http/protobuf" => Ok(OtlpProtocol::HttpProtobuf),
        _ => Err(Fault::new("must be grpc or http/protobuf")),
    }
}

fn timeout(value: &str) -> Result<Duration, Fault> {
    match duration(value) {
        Ok(span) if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&span) => Ok(span),
        _ => Err(Fault::new("must be a duration from 100ms to 1m")),
    }
}

fn interval(value: &str) -> Result<Option<Duration>, Fault> {
    if value == "never" {
        return Ok(None);
    }
    match duration(value) {
        Ok(span) if (MIN_INTERVAL..=MAX_INTERVAL).contains(&span) => Ok(Some(span)),
        _ => Err(Fault::new("must be never, or a duration from 1s to 1h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs_with_percent_encoded_values() {
        let headers = OtlpHeaders::parse("Api-Key=a%20b%2Cc%3D , tenant = acme,").unwrap();
        assert_eq!(headers.map()["api-key"], "a b,c=");
        assert_eq!(headers.map()["tenant"], "acme");
        assert!(!format!("{headers:?}").contains("acme"), "values are secrets");
        for bad in ["", ",", "a", "=b", "a b=c", "a=%0a", "a=\u{e9}", "host=a", "grpc-timeout=1S"] {
            assert!(OtlpHeaders::parse(bad).is_err(), "{bad}");
        }
        let many = (0..=MAX_HEADERS).map(|n| format!("a{n}=b")).collect::<Vec<_>>().join(",");
        assert!(OtlpHeaders::parse(&many).is_err());
    }

    #[test]
    fn standard_timeout_is_in_milliseconds() {
        let standard = |value| standard_value(TIMEOUT_VARIABLE, value);
        assert_eq!(standard("2500").as_deref(), Some("2500ms"));
        assert_eq!(timeout("2500ms"), Ok(Duration::from_millis(2500)));
        assert_eq!(standard(" "), None);
        assert_eq!(standard_value("OTEL_EXPORTER_OTLP_PROTOCOL", "4"), Some("4".to_owned()));
    }

    #[test]
    fn durations_are_bounded() {
        assert_eq!(interval("never"), Ok(None));
        assert_eq!(interval("1m"), Ok(Some(Duration::from_mins(1))));
        for bad in ["", "0s", "999ms", "61m", "10"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
        for bad in ["99ms", "61s", "never"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
