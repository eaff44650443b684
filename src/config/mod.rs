//! Configuration: a TOML file, then the environment (`KEYWARD_…`), then flags; the
//! later one wins. Every fault of all three is found before anything is started.

mod layers;
mod sampling;
mod sources;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{Faults, Layers, Setting};
pub use sampling::TraceSampling;
pub use sources::TrustedProxies;
pub use values::duration;

use crate::keys::SigningAlgorithm;
use crate::limiter::Rate;
use crate::redis::{RedisUrl, Timeouts};
use crate::revocation;
use crate::secrets::{MasterKey, Prefixes, Queue};
use crate::store::{Database, PoolOptions, Pooler};
use layers::Reader;
use values::{
    acquire_timeout, admin_lifetime, failure_window, http_url, issuer, key_prefix, listen,
    log_directives, log_format, path, positive, prefix, request_memory, span, switch, within,
};

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
    /// How long admin credentials work that Keyward makes itself; `None`: without end.
    pub admin_lifetime: Option<Duration>,
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
    /// Whether each request has a line in the log.
    pub access_log: bool,
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
                grpc: r.get("grpc.listen", "127.0.0.1:50051", listen),
                http: r.get("http.listen", "127.0.0.1:8080", listen),
                ops: r.get("ops.listen", "127.0.0.1:9464", listen),
            },
            trusted_proxies: r.get("trusted_proxies", "", TrustedProxies::parse),
            database: DatabaseConfig {
                url: database(r, &data_dir),
                pool: PoolOptions {
                    max_connections: r
                        .get("database.max_connections", "16", |v| within(v, 3, 1000)),
                    acquire_timeout: r.get("database.acquire_timeout", "10s", acquire_timeout),
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
                admin_lifetime: r.get("secrets.admin_credential_lifetime", "30d", admin_lifetime),
            },
            signing_algorithm: r.get("tokens.signing_algorithm", "ES256", SigningAlgorithm::parse),
            revocations: revocation::Options {
                poll_interval: r.get("revocations.poll_interval", "1s", positive),
                max_staleness: r.get("revocations.max_staleness", "5s", positive),
            },
            limits: Limits {
                request_timeout: r.get("limits.request_timeout", "30s", positive),
                drain_time: r.get("limits.drain_time", "5s", span),
                shutdown_grace: r.get("limits.shutdown_grace", "20s", span),
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
                access_log: r.get("telemetry.access_log", "false", switch),
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

/// Of one client from one source, and of all clients from one source.
fn failure_budgets(r: &mut Reader) -> (Option<Rate>, Option<Rate>) {
    let of_client = r.get("secrets.wrong_secrets", "20", |v| within(v, 0, 1_000_000));
    let of_source = r.get("secrets.wrong_secrets_of_source", "200", |v| within(v, 0, 1_000_000));
    let window = r.get("secrets.wrong_secrets_window", "1m", failure_window);
    let budget = |most| (most > 0).then(|| Rate::new(most, window));
    (budget(of_client), budget(of_source))
}
