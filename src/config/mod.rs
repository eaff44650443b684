//! The configuration: a TOML file, then environment variables (`KEYWARD_…`), then flags. Later
//! layers take precedence. All errors are found before anything is started.

mod gateway;
mod layers;
mod master_key;
mod otlp;
mod sampling;
mod sources;
mod tls;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{Faults, Layers, Setting};
pub use master_key::{KeyCommand, MasterKeySource};
pub use otlp::{OtlpConfig, OtlpProtocol};
pub use sampling::TraceSampling;
pub use sources::TrustedProxies;
pub use tls::{ClientAuth, ClientCertificates, SettingFile, TlsConfig, TlsFiles};
pub use values::duration;

use crate::domain::Networks;
use crate::gateway::GatewayOptions;
use crate::keys::SigningAlgorithm;
use crate::limiter::WindowRate;
use crate::outbound::{OutboundOptions, PlaintextHosts};
use crate::redis::{RedisUrl, Timeouts};
use crate::revocation;
use crate::secrets::{HashQueue, Prefixes};
use crate::store::{Database, MigrationMode, PoolOptions, Pooler, SchemaOptions};
use layers::Reader;
use values::{
    acquire_timeout, admin_lifetime, audit_retention, dpop_nonce, failure_window, grpc_url, issuer,
    key_prefix, listen, log_directives, log_format, path, positive, prefix, request_memory,
    rotation_period, span, switch, within,
};

#[derive(Clone, Debug)]
pub struct Config {
    /// The `iss` claim of tokens and the base of published URLs. `None`: the address of the HTTP
    /// listener.
    pub issuer: Option<String>,
    /// The base of the URLs of gRPC methods. `None`: the address of the gRPC listener.
    pub grpc_url: Option<String>,
    /// Whether each `DPoP` proof needs a nonce.
    pub dpop_nonces: bool,
    /// The default folder of the SQLite file and the master key.
    pub data_dir: PathBuf,
    /// The master key that writes.
    pub master_key: MasterKeySource,
    /// Another master key, which only opens.
    pub additional_master_key: Option<MasterKeySource>,
    pub listen: Listen,
    pub tls: TlsConfig,
    /// The proxies whose `X-Forwarded-For` header is trusted.
    pub trusted_proxies: TrustedProxies,
    pub database: DatabaseConfig,
    /// The connection between replicas.
    pub redis: RedisConfig,
    /// The format and hashing of secrets.
    pub secrets: SecretsConfig,
    pub signing_algorithm: SigningAlgorithm,
    /// How long a signing key signs. `None`: until it is rotated by hand.
    pub rotation_period: Option<Duration>,
    /// How the revocation list is synchronised.
    pub revocations: revocation::Options,
    /// Connections to other hosts, for the keys of those who sign tokens for us.
    pub outbound: OutboundOptions,
    /// How gateways are answered.
    pub gateway: GatewayOptions,
    /// Limits of requests and connections.
    pub limits: ServerLimits,
    pub telemetry: TelemetryConfig,
    /// How long audit events are kept. `None`: for ever.
    pub audit_retention: Option<Duration>,
    /// Every setting with its value (secrets are masked) and its source.
    pub settings: Vec<Setting>,
}

#[derive(Clone, Copy, Debug)]
pub struct Listen {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub ops: SocketAddr,
}

/// The database settings.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    pub url: Database,
    /// How its connections are pooled.
    pub pool: PoolOptions,
    /// How its schema is brought up to date.
    pub schema: SchemaOptions,
}

/// The Redis settings.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// `None`: there is only one replica.
    pub url: Option<RedisUrl>,
    /// The prefix of all keys and channels.
    pub key_prefix: String,
    pub timeouts: Timeouts,
}

/// The settings of secrets.
#[derive(Clone, Debug)]
pub struct SecretsConfig {
    pub prefixes: Prefixes,
    /// The bounds of the hash queue.
    pub hash_queue: HashQueue,
    /// How many wrong secrets of one client a source may send. `None`: unlimited.
    pub failure_budget: Option<WindowRate>,
    /// How many wrong secrets of all clients a source may send. `None`: unlimited.
    pub source_failure_budget: Option<WindowRate>,
    /// The lifetime of admin credentials that Keyward creates itself. `None`: unlimited.
    pub admin_lifetime: Option<Duration>,
}

/// Limits of requests and connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// The maximum duration of a request.
    pub request_timeout: Duration,
    /// How long a stopping server keeps accepting requests while it reports that it is not ready.
    pub drain_time: Duration,
    /// How long requests in flight may take to finish after the drain time.
    pub shutdown_grace: Duration,
    /// The maximum age of a connection; ten percent random variation.
    pub connection_age: Duration,
    /// The maximum number of connections of a listener.
    pub max_connections: usize,
    /// The maximum number of connections of one source to a listener.
    pub source_connections: usize,
    /// How long a connection may wait until its first request.
    pub first_request_timeout: Duration,
    /// The memory for requests in flight, in bytes.
    pub request_memory: usize,
    /// How long a message of a stream may wait to be read by the client.
    pub watch_patience: Duration,
}

/// The settings of logs and traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// The `tracing` directives of the log.
    pub log: String,
    pub log_format: LogFormat,
    /// If true, each request is logged.
    pub access_log: bool,
    /// The collector of traces and metrics. `None`: no traces.
    pub otlp: Option<OtlpConfig>,
    pub trace_sampling: TraceSampling,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads all layers. Reports all errors at once.
    pub fn read(layers: Layers) -> Result<Self, Faults> {
        let mut reader = Reader::new(layers);
        let r = &mut reader;
        let issuer = r.optional("issuer", issuer);
        let grpc_url = r.optional("grpc.public_url", grpc_url);
        let data_dir = r.get("data_dir", "keyward-data", path);
        let (master_key, additional_master_key) = master_key::sources(r, &data_dir);
        let (failure_budget, source_failure_budget) = failure_budgets(r);
        let listen = Listen {
            grpc: r.get("grpc.listen", "127.0.0.1:50051", listen),
            http: r.get("http.listen", "127.0.0.1:8080", listen),
            ops: r.get("ops.listen", "127.0.0.1:9464", listen),
        };
        let config = Self {
            issuer,
            grpc_url,
            dpop_nonces: r.get("dpop.nonce", "off", dpop_nonce),
            master_key,
            additional_master_key,
            tls: TlsConfig::read(r, &listen),
            listen,
            trusted_proxies: r.get("trusted_proxies", "", TrustedProxies::parse),
            database: DatabaseConfig {
                url: database(r, &data_dir),
                pool: PoolOptions {
                    max_connections: r
                        .get("database.max_connections", "16", |v| within(v, 3, 1000)),
                    acquire_timeout: r.get("database.acquire_timeout", "10s", acquire_timeout),
                },
                schema: SchemaOptions {
                    mode: r.get("database.migrate", "auto", MigrationMode::parse),
                    max_wait: r.get("database.migrate_timeout", "10m", positive),
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
                hash_queue: HashQueue {
                    length: r.get("secrets.hash_queue", "512", |v| within(v, 1, 100_000)),
                    longest_wait: r.get("secrets.hash_wait", "10s", positive),
                },
                failure_budget,
                source_failure_budget,
                admin_lifetime: r.get("secrets.admin_credential_lifetime", "30d", admin_lifetime),
            },
            signing_algorithm: r.get("tokens.signing_algorithm", "ES256", SigningAlgorithm::parse),
            rotation_period: r.get("keys.rotation_period", "30d", rotation_period),
            revocations: revocation::Options {
                poll_interval: r.get("revocations.poll_interval", "1s", positive),
                max_staleness: r.get("revocations.max_staleness", "5s", positive),
            },
            outbound: OutboundOptions {
                allowed_networks: r.get("outbound.allowed_networks", "", Networks::parse),
                plaintext_hosts: r.get("outbound.plaintext_hosts", "", PlaintextHosts::parse),
                ca_file: r.optional("outbound.ca_file", path),
            },
            gateway: gateway::options(r),
            limits: ServerLimits {
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
                otlp: OtlpConfig::read(r),
                trace_sampling: r.get("telemetry.trace_sampling", "always", TraceSampling::parse),
            },
            audit_retention: r.get("audit.retention", "unlimited", audit_retention),
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

fn database(r: &mut Reader, data_dir: &std::path::Path) -> Database {
    let default = Database::Sqlite(data_dir.join("keyward.db"));
    let pooler = r.get("database.pooler", "none", Pooler::parse);
    r.url("database.url", Database::parse).unwrap_or(default).behind(pooler)
}

/// The budgets for one client, and for all clients, of one source.
fn failure_budgets(r: &mut Reader) -> (Option<WindowRate>, Option<WindowRate>) {
    let of_client = r.get("secrets.wrong_secrets", "20", |v| within(v, 0, 1_000_000));
    let of_source = r.get("secrets.wrong_secrets_of_source", "200", |v| within(v, 0, 1_000_000));
    let window = r.get("secrets.wrong_secrets_window", "1m", failure_window);
    let budget = |max| (max > 0).then(|| WindowRate::new(max, window));
    (budget(of_client), budget(of_source))
}
