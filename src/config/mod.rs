//! Configuration: a TOML file, then the environment (`KEYWARD_…`), then flags; the
//! later one wins. Every fault of all three is found before anything is started.

mod layers;
mod sampling;
mod sources;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use tracing_subscriber::EnvFilter;

pub use layers::{Faults, Layers, Setting};
pub use sampling::TraceSampling;
pub use sources::TrustedProxies;

use crate::domain::Fault;
use crate::keys::SigningAlgorithm;
use crate::limiter::Rate;
use crate::redis::{RedisUrl, Timeouts};
use crate::revocation;
use crate::secrets::{MasterKey, Prefixes, Queue};
use crate::store::{Database, PoolOptions, Pooler};
use layers::Reader;

/// What is in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` of tokens and the base of every URL that is told. `None`: the address
    /// that the HTTP listener got.
    pub issuer: Option<String>,
    /// Where the SQLite file and the master key are, unless said otherwise.
    pub data_dir: PathBuf,
    /// Where the master key comes from.
    pub master_key: MasterKeySource,
    /// Where to listen.
    pub listen: Listen,
    /// The proxies that say for whom they ask.
    pub trusted_proxies: TrustedProxies,
    /// Where everything is kept.
    pub database: DatabaseConfig,
    /// What connects replicas.
    pub redis: RedisConfig,
    /// How secrets look and are hashed.
    pub secrets: SecretsConfig,
    /// How tokens are signed.
    pub signing_algorithm: SigningAlgorithm,
    /// How the list of revocations is kept up.
    pub revocations: revocation::Options,
    /// Bounds of requests and connections.
    pub limits: Limits,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Every setting with its value (secrets masked) and where it comes from.
    pub settings: Vec<Setting>,
}

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// The key itself.
    Given(MasterKey),
    /// A file with the key.
    File {
        /// The file.
        path: PathBuf,
        /// Whether somebody named it: a file that was named must be there, the default
        /// one is made at the first start.
        named: bool,
    },
}

/// The addresses to listen on.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// For gRPC.
    pub grpc: SocketAddr,
    /// For OAuth over HTTP.
    pub http: SocketAddr,
    /// For health and metrics.
    pub ops: SocketAddr,
}

/// Where everything is kept.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The database.
    pub url: Database,
    /// How connections to it are kept.
    pub pool: PoolOptions,
}

/// What connects replicas.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Which Redis; `None`: there is one replica.
    pub url: Option<RedisUrl>,
    /// What all of its keys begin with.
    pub key_prefix: String,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// How secrets look and are hashed.
#[derive(Clone, Debug)]
pub struct SecretsConfig {
    /// What they begin with.
    pub prefixes: Prefixes,
    /// How hashes wait for a core.
    pub hash_queue: Queue,
    /// How many wrong ones of one client may come from one source; `None`: any number.
    pub failure_budget: Option<Rate>,
    /// How many of all clients may come from one source; `None`: any number.
    pub source_failure_budget: Option<Rate>,
}

/// Bounds of requests and connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest that a request may take.
    pub request_timeout: Duration,
    /// How long the server goes on answering, and says that it is not ready, before it stops.
    pub drain_time: Duration,
    /// How long requests under way may take to end when the server stops.
    pub shutdown_grace: Duration,
    /// How long a connection lives, give or take a tenth.
    pub connection_age: Duration,
    /// The most connections of a listener.
    pub max_connections: usize,
    /// The most connections of one source to a listener.
    pub source_connections: usize,
    /// How long a connection may take until its first request.
    pub first_request_timeout: Duration,
    /// How much memory requests under way may take, in bytes.
    pub request_memory: usize,
    /// How long a message of a stream may wait to be read.
    pub watch_patience: Duration,
}

/// Logs and traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// What is logged, as `tracing` directives.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// Where traces go over OTLP/gRPC; `None`: nowhere.
    pub otlp_endpoint: Option<String>,
    /// Which requests are traced.
    pub trace_sampling: TraceSampling,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: a JSON object a line.
    Json,
}

impl Config {
    /// Reads all layers; every fault is told at once.
    pub fn read(layers: Layers) -> Result<Self, Faults> {
        let mut reader = Reader::new(layers);
        let r = &mut reader;
        let issuer = r.optional("issuer", issuer);
        let data_dir = r.get("data_dir", "keyward-data", path);
        let (failure_budget, source_failure_budget) = failure_budgets(r);
        let config = Self {
            issuer,
            master_key: master_key(r, &data_dir),
            listen: Listen {
                grpc: r.get("grpc.listen", "127.0.0.1:50051", parsed),
                http: r.get("http.listen", "127.0.0.1:8080", parsed),
                ops: r.get("ops.listen", "127.0.0.1:9464", parsed),
            },
            trusted_proxies: r.get("trusted_proxies", "", TrustedProxies::parse),
            database: DatabaseConfig {
                url: database(r, &data_dir),
                pool: PoolOptions {
                    max_connections: r
                        .get("database.max_connections", "16", |v| within(v, 3, 1000)),
                    acquire_timeout: r.get("database.acquire_timeout", "10s", positive),
                },
            },
            redis: RedisConfig {
                url: r.url("redis.url", RedisUrl::parse),
                key_prefix: r.get("redis.key_prefix", "keyward", key_prefix),
                timeouts: Timeouts {
                    connect: r.get("redis.connect_timeout", "1s", positive),
                    response: r.get("redis.response_timeout", "250ms", positive),
                },
            },
            secrets: SecretsConfig {
                prefixes: Prefixes {
                    client_secret: r.get("secrets.client_secret_prefix", "kws", prefix),
                    api_key: r.get("secrets.api_key_prefix", "kwk", prefix),
                },
                hash_queue: Queue {
                    length: r.get("secrets.hash_queue", "512", |v| within(v, 1, 100_000)),
                    longest_wait: r.get("secrets.hash_wait", "10s", positive),
                },
                failure_budget,
                source_failure_budget,
            },
            signing_algorithm: r.get("tokens.signing_algorithm", "ES256", SigningAlgorithm::parse),
            revocations: revocation::Options {
                poll_interval: r.get("revocations.poll_interval", "1s", positive),
                max_staleness: r.get("revocations.max_staleness", "5s", positive),
            },
            limits: Limits {
                request_timeout: r.get("limits.request_timeout", "30s", positive),
                drain_time: r.get("limits.drain_time", "5s", duration),
                shutdown_grace: r.get("limits.shutdown_grace", "20s", duration),
                connection_age: r.get("limits.connection_age", "30m", positive),
                max_connections: r.get("limits.max_connections", "4096", |v| within(v, 1, 1 << 20)),
                source_connections: r
                    .get("limits.source_connections", "1024", |v| within(v, 1, 1 << 20)),
                first_request_timeout: r.get("limits.first_request_timeout", "10s", positive),
                request_memory: r.get("limits.request_memory", "67108864", request_memory),
                watch_patience: r.get("limits.watch_patience", "10s", positive),
            },
            telemetry: TelemetryConfig {
                log: r.get("telemetry.log", "info", log_directives),
                log_format: r.get("telemetry.log_format", "text", log_format),
                otlp_endpoint: r.optional("telemetry.otlp_endpoint", http_url),
                trace_sampling: r.get("telemetry.trace_sampling", "always", TraceSampling::parse),
            },
            data_dir,
            settings: Vec::new(),
        };
        if config.secrets.prefixes.client_secret == config.secrets.prefixes.api_key {
            r.fault("secrets.api_key_prefix", "must differ from secrets.client_secret_prefix");
        }
        if config.revocations.max_staleness <= config.revocations.poll_interval {
            r.fault("revocations.max_staleness", "must be longer than revocations.poll_interval");
        }
        let settings = reader.finish()?;
        Ok(Self { settings, ..config })
    }
}

fn master_key(r: &mut Reader, data_dir: &std::path::Path) -> MasterKeySource {
    let given = r.secret("master_key", MasterKey::parse);
    let file = r.optional("master_key_file", path);
    match (given, file) {
        (Some(key), None) => MasterKeySource::Given(key),
        (None, Some(path)) => MasterKeySource::File { path, named: true },
        (None, None) => MasterKeySource::File { path: data_dir.join("master.key"), named: false },
        (Some(key), Some(_)) => {
            r.fault("master_key_file", "is set, and master_key too; set one of them");
            MasterKeySource::Given(key)
        }
    }
}

fn database(r: &mut Reader, data_dir: &std::path::Path) -> Database {
    let default = Database::Sqlite(data_dir.join("keyward.db"));
    let pooler = r.get("database.pooler", "none", Pooler::parse);
    r.url("database.url", Database::parse).unwrap_or(default).behind(pooler)
}

fn parsed(value: &str) -> Result<SocketAddr, Fault> {
    value.parse().map_err(|_| Fault::new("must be an address and port, as 127.0.0.1:8080"))
}

fn within<T>(value: &str, least: T, most: T) -> Result<T, Fault>
where
    T: std::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    value
        .parse()
        .ok()
        .filter(|number| (&least..=&most).contains(&number))
        .ok_or_else(|| Fault::new(format!("must be a whole number from {least} to {most}")))
}

/// A span of time as people write it: `30s`, `15m`, `1h 30m`, `30d`.
pub fn duration(value: &str) -> Result<Duration, Fault> {
    let wrong = || Fault::new("must be a span of time that is not negative, as 30s, 15m or 24h");
    // Calendar days are ambiguous to jiff; here a day is 24 hours.
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

/// A span of time in which something can happen.
fn positive(value: &str) -> Result<Duration, Fault> {
    duration(value).and_then(|span| {
        if span.is_zero() { Err(Fault::new("must be more than nothing")) } else { Ok(span) }
    })
}

#[expect(clippy::unnecessary_wraps, reason = "one of the parsers that a setting can have")]
fn path(value: &str) -> Result<PathBuf, Fault> {
    Ok(value.into())
}

fn prefix(value: &str) -> Result<String, Fault> {
    let fits = (1..=16).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then(|| value.to_owned()).ok_or_else(|| Fault::new("must be 1 to 16 letters and digits"))
}

/// One large request, a profile, must fit into the part that one source may take.
fn request_memory(value: &str) -> Result<usize, Fault> {
    within(value, 64 << 20, 64 << 30)
}

/// Of one client from one source, and of all clients from one source.
fn failure_budgets(r: &mut Reader) -> (Option<Rate>, Option<Rate>) {
    let of_client = r.get("secrets.wrong_secrets", "20", |v| within(v, 0, 1_000_000));
    let of_source = r.get("secrets.wrong_secrets_of_source", "200", |v| within(v, 0, 1_000_000));
    let window = r.get("secrets.wrong_secrets_window", "1m", failure_window);
    let budget = |most| (most > 0).then(|| Rate::new(most, window));
    (budget(of_client), budget(of_source))
}

fn key_prefix(value: &str) -> Result<String, Fault> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_:.".contains(&b);
    let fits = (1..=64).contains(&value.len()) && value.bytes().all(allowed);
    fits.then(|| value.to_owned())
        .ok_or_else(|| Fault::new("must be 1 to 64 letters, digits and - _ : ."))
}

fn failure_window(value: &str) -> Result<Duration, Fault> {
    let most = Duration::from_hours(24);
    positive(value).and_then(|span| {
        if span <= most { Ok(span) } else { Err(Fault::new("must be at most 24h")) }
    })
}

fn http_url(value: &str) -> Result<String, Fault> {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let well_formed = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && value.parse::<axum::http::Uri>().is_ok();
    well_formed
        .then(|| value.to_owned())
        .ok_or_else(|| Fault::new("must be an http:// or https:// URL"))
}

/// RFC 8414: a URL without query and fragment.
fn issuer(value: &str) -> Result<String, Fault> {
    http_url(value).and_then(|url| {
        if url.contains(['?', '#', '{', '}', '*']) || url.contains("/:") {
            let what = "must have no query and no fragment, and a path without { } * and /:";
            Err(Fault::new(what))
        } else {
            Ok(url)
        }
    })
}

fn log_directives(value: &str) -> Result<String, Fault> {
    EnvFilter::try_new(value)
        .map(|_| value.to_owned())
        .map_err(|error| Fault::new(format!("must be a level or tracing directives: {error}")))
}

fn log_format(value: &str) -> Result<LogFormat, Fault> {
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
    fn spans_of_time_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("1h 30m", 5400), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "15", "-5s", "1y", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
