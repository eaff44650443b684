//! The composition root of the process: opens the configured database and Redis, builds the
//! interfaces on one service, listens, and shuts down gracefully.

mod backup;
mod connections;
mod declaration;
mod descriptors;
mod doctor;
mod files;
mod listening;
mod master_keys;
mod metrics_push;
mod ops;
mod parts;
mod redis_rights;
mod replicas;
mod schema;
mod scrape;
mod shutdown;
mod starting;
mod tls;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, ConnectionLimits};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::grpc::{self, Grpc, Streaming};
use crate::http;
use crate::redis::Redis;
use crate::service::{FirstCredential, KeyAnnouncements, Service, Signing};
use crate::store::{Database, SchemaProgress, Store};
use crate::telemetry::{Observed, Reports};

pub use backup::{Backup, Manifest, Restore, Restored};
use connections::{AcceptLoops, Stopping};
pub use declaration::{Accepted, accept_database};
pub use descriptors::raise_limit;
pub use doctor::{Finding, Level, examine};
pub use files::write_private;
use listening::{address, listen, routed};
pub use parts::build_service;
use parts::{ServerParts, unusable};
use schema::open_store_with;
pub use schema::{check_schema, migrate, open_store};
use scrape::Scrape;
use starting::OpsRouter;
use tls::ListenerTls;

/// How often the gRPC health service checks readiness.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// How often new audit events are added to the hash chain.
const SEAL_INTERVAL: Duration = Duration::from_millis(500);
/// How often names from an earlier version are case-folded.
const FOLD_INTERVAL: Duration = Duration::from_secs(10);
/// How often last uses from an earlier version are copied beside names.
const COPY_INTERVAL: Duration = Duration::from_secs(10);
/// How often rows of tokens that have ended are deleted: revocations, changes, one-time tokens.
const PURGE_INTERVAL: Duration = Duration::from_mins(10);
/// How often credential usage is written, and on SQLite the limit counters. A crash loses this
/// interval and the duration of a write, at most 5 s.
const WRITE_INTERVAL: Duration = Duration::from_secs(2);
/// How often credentials that expire soon are counted.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(1);
/// How often expired limit counters are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A directory cannot be created.
    #[error("cannot create the directory {path}: {error}")]
    Directory {
        /// Which one.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The master key cannot be read.
    #[error("the master key cannot be read: {0}")]
    MasterKey(String),
    /// The master keys do not open what is stored, or another server has other ones.
    #[error("the master key does not fit this database: {0}")]
    WrongMasterKey(String),
    /// The database cannot be opened.
    #[error("the database {database} cannot be used: {cause}")]
    Database {
        /// Which one.
        database: String,
        /// Why.
        cause: String,
    },
    /// This version of Keyward cannot use the schema of the database.
    #[error("the database {database} cannot be used: {cause}")]
    Schema {
        /// Which one.
        database: String,
        /// Why.
        cause: String,
    },
    /// Another server uses the SQLite file.
    #[error(
        "another keyward serves from {}: SQLite is for one server alone, several replicas \
         need PostgreSQL (database.url)",
        .path.display()
    )]
    Shared {
        /// The file.
        path: PathBuf,
    },
    /// Redis answers, but its version, configuration or permissions are unsuitable.
    #[error("the Redis of redis.url cannot be used: {0}")]
    Redis(String),
    /// The stored signing keys cannot be read or are corrupt.
    #[error("the signing keys cannot be used: {0}")]
    SigningKeys(String),
    /// The server cannot listen on an address.
    #[error("cannot listen on {address} ({setting}): {error}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// The setting that has it.
        setting: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The certificate files of a listener cannot be used.
    #[error("{0}")]
    Tls(String),
    /// Metrics cannot be sent to the collector.
    #[error("telemetry.otlp_endpoint cannot be used: {0}")]
    Otlp(String),
    /// The settings of connections to other hosts cannot be used.
    #[error("{0}")]
    Outbound(String),
    /// A backup cannot be made or restored.
    #[error("{0}")]
    Backup(String),
    /// An internal error.
    #[error("{0}")]
    Internal(String),
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The address of the gRPC listener.
    pub grpc: SocketAddr,
    /// The address of the HTTP listener.
    pub http: SocketAddr,
    /// The address of the operations listener.
    pub ops: SocketAddr,
    /// The service behind the interfaces.
    pub service: Arc<Service>,
    /// The first admin credential, if this start created the built-in tenant.
    pub first_credential: Option<FirstCredential>,
    store: Store,
    redis: Option<Redis>,
    /// The lock of a SQLite file, which keeps other servers from using it.
    _alone: Option<File>,
    /// The readiness that the gRPC health service reports.
    is_ready: watch::Sender<bool>,
    stopping: Stopping,
    tasks: TaskTracker,
    drain_time: Duration,
    grace: Duration,
    audit_retention: Option<Duration>,
}

/// Rotates the signing keys that are due. If that fails it is tried again, and the keys that there are
/// can be used meanwhile.
async fn maintain_signing_keys(service: &Service) {
    if let Err(error) = Box::pin(service.admin.maintain_signing_keys()).await {
        tracing::warn!(cause = cause(error), "signing keys cannot be rotated now");
    }
}

impl Server {
    /// Starts a server. Binds the listeners first, so that a port in use leaves the database
    /// unchanged.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, ServerError> {
        let grpc = listen(config.listen.grpc, "grpc.listen").await?;
        let http = listen(config.listen.http, "http.listen").await?;
        let ops = listen(config.listen.ops, "ops.listen").await?;
        let (grpc_at, http_at, ops_at) = (address(&grpc)?, address(&http)?, address(&ops)?);

        let tls = tls::Listeners::load(&config.tls, &clock)
            .map_err(|error| ServerError::Tls(error.to_string()))?;

        let issuer = config.issuer.clone().unwrap_or_else(|| {
            if !http_at.ip().is_loopback() {
                tracing::warn!("issuer is not set: tokens contain the address of the listener");
            }
            listener_url(http_at, tls.http.is_some())
        });
        let admission = Admission::new(config.limits.request_memory);
        let places = descriptors::ListenerPlaces::of(config);
        let limits = |places: ConnectionLimits, tls: &Option<Arc<ListenerTls>>| {
            let places = admission.connections(places);
            connections::ListenerLimits::new(config, &admission, places).with_tls(tls.as_ref())
        };
        let (stopping, tasks) = (Stopping::default(), TaskTracker::new());
        let serving = AcceptLoops { stopping: stopping.clone(), tasks: tasks.clone() };
        // Closes the listener if the start fails.
        let failed_start = stopping.stop.clone().drop_guard();
        let progress = SchemaProgress::default();
        let ops_router = OpsRouter::new(progress.clone());
        serving.serve(ops, ops_router.clone().handler(), limits(places.operations, &tls.ops));

        let store = open_store_with(config, &progress).await?;
        let alone = match &config.database.url {
            Database::Sqlite(file) => Some(replicas::lock_database(file)?),
            Database::Postgres(_) => None,
        };
        files::warn_if_readable(&config.data_dir);
        let redis = replicas::connect(config).await?;
        let grpc_url = grpc_url(config, grpc_at, tls.grpc.is_some());
        let name = format!("{} ({grpc_at})", master_keys::host_name());
        let parts = ServerParts { name, issuer, grpc_url };
        let (own_clock, redis_link) = (clock.clone(), redis.clone());
        let service = Arc::new(parts.service(config, &store, own_clock, redis_link).await?);
        let first_credential = Box::pin(service.admin.bootstrap_if_new())
            .await
            .map_err(|error| unusable(config, error, ServerError::Internal))?;
        // After that, because the events of keys are in the audit log of the built-in tenant.
        Box::pin(service.admin.follow_signing_algorithm())
            .await
            .map_err(|error| unusable(config, error, ServerError::SigningKeys))?;
        maintain_signing_keys(&service).await;

        let scrape = Scrape::new(&service, &store, (redis.as_ref(), &admission), |metrics| {
            tls.register(metrics);
            metrics_push::register(config, metrics);
        });
        let (is_ready, health) = watch::channel(true);
        let stop = stopping.stop.clone();
        let streaming = Streaming { patience: config.limits.watch_patience, stop };
        let timeout = config.limits.request_timeout;
        let gateways = Arc::new(config.gateway.clone());
        let grpc_handler = Grpc::new(&service, health, timeout, &streaming, &gateways)
            .map_err(|error| ServerError::Internal(error.to_string()))?;
        let http_router = http::router(Arc::clone(&service), config.tls.http_methods(), &gateways);
        let server = Self {
            grpc: grpc_at,
            http: http_at,
            ops: ops_at,
            first_credential,
            store,
            redis,
            _alone: alone,
            is_ready,
            stopping,
            tasks,
            drain_time: config.limits.drain_time,
            grace: config.limits.shutdown_grace,
            audit_retention: config.audit_retention,
            service,
        };
        let methods = grpc::methods().map_err(|error| ServerError::Internal(error.to_string()))?;
        let reports = Reports {
            metrics: Arc::clone(scrape.metrics()),
            incidents: Arc::clone(server.service.incidents()),
            clock: clock.clone(),
            access_log: config.telemetry.access_log,
            traces: config.telemetry.otlp.is_some(),
        };
        let observed = Observed::grpc(methods, reports.clone());
        let grpc_handler = move |request| observed.begin(&request).of(grpc_handler.answer(request));
        serving.serve(grpc, grpc_handler, limits(places.public, &tls.grpc).for_grpc());
        let observed = Observed::http(reports);
        let answer = from_fn(move |request, next| {
            observed.begin(&request).of(http::answer(request, next, timeout))
        });
        serving.serve(http, routed(http_router.layer(answer)), limits(places.public, &tls.http));
        let drain = server.stopping.drain.clone();
        ops_router.start(ops::router(&server.service, scrape.clone(), drain));
        server.tasks.spawn(tls.keep_current(server.stopping.stop.clone()));
        server.start_background_tasks();
        let stop = server.stopping.stop.clone();
        if let Some(push) = metrics_push::start(config, scrape, clock, stop)? {
            server.tasks.spawn(push);
        }
        failed_start.disarm();
        Ok(server)
    }

    /// The connection to Redis, if it is configured.
    #[cfg(feature = "internals")]
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }

    /// Starts the background tasks.
    fn start_background_tasks(&self) {
        // A new key is published long before its first use, so this is often enough.
        self.every(Signing::RELOAD_INTERVAL, |service| async move {
            service.admin.maintain_signing_keys().await
        });
        self.every(WRITE_INTERVAL, |service| async move { service.usage.write().await });
        self.every(WRITE_INTERVAL, |service| async move { service.refusals.write().await });
        self.every(WRITE_INTERVAL, |service| async move { service.limits.save().await });
        self.every(
            FOLD_INTERVAL,
            |service| async move { service.admin.fold_names().await.map(drop) },
        );
        self.every(COPY_INTERVAL, |service| async move {
            service.admin.copy_last_uses().await.map(drop)
        });
        self.every(SEAL_INTERVAL, |service| async move { service.audit.seal().await.map(drop) });
        if let Some(retention) = self.audit_retention {
            self.every(PURGE_INTERVAL, move |service| async move {
                service.audit.purge(retention).await.map(drop)
            });
        }
        self.every(PURGE_INTERVAL, |service| async move { service.feeds.purge().await });
        self.every(PURGE_INTERVAL, |service| async move { service.purge_changes().await });
        self.every(PURGE_INTERVAL, |service| async move { service.replay.purge().await });
        self.every(KeyAnnouncements::INTERVAL, |service| async move {
            service.master_keys.renew().await
        });
        let (auth, stopped) = (Arc::clone(&self.service.auth), self.stopping.stop.clone());
        self.tasks.spawn(async move { auth.move_hashes(stopped).await });
        self.every(EXPIRY_INTERVAL, |service| async move { service.expiry.refresh().await });
        self.every(SWEEP_INTERVAL, |service| async move {
            service.sweep();
            Ok(())
        });
        let stop = &self.stopping.stop;
        let (live, stopped) = (Arc::clone(self.service.revocations()), stop.clone());
        self.tasks.spawn(async move { live.follow(stopped).await });
        let (live, stopped) = (Arc::clone(self.service.revocations()), stop.clone());
        self.tasks.spawn(async move { live.publish_changes(stopped).await });
        let (signing, stopped) = (Arc::clone(&self.service.signing), stop.clone());
        self.tasks.spawn(async move { signing.follow_revocations(stopped).await });
        if let Some(redis) = self.redis.clone() {
            let limiter = self.service.limiter().clone();
            self.tasks.spawn(replicas::announce(redis.clone(), limiter, stop.clone()));
            let stopped = stop.clone();
            self.tasks.spawn(async move { redis.run_link(stopped).await });
        }
        let (service, drain) = (Arc::clone(&self.service), self.stopping.drain.clone());
        let health = self.is_ready.clone();
        self.tasks.spawn(async move {
            while !drain.is_cancelled() {
                let is_ready = service.readiness().await.is_ready();
                // Under the lock of the channel, so that draining cannot be overwritten.
                health.send_if_modified(|shown| {
                    let changes = *shown != is_ready && !drain.is_cancelled();
                    *shown ^= changes;
                    changes
                });
                drain.run_until_cancelled(sleep(HEALTH_INTERVAL)).await;
            }
        });
    }

    /// Repeats a background task until the server stops. Logs failures.
    fn every<W, F>(&self, pause: Duration, work: W)
    where
        W: Fn(Arc<Service>) -> F + Send + 'static,
        F: Future<Output = Result<(), Error>> + Send,
    {
        let (service, stop) = (Arc::clone(&self.service), self.stopping.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(sleep(pause)).await.is_some() {
                if let Err(error) = work(Arc::clone(&service)).await {
                    tracing::warn!(cause = cause(error), "background task failed");
                }
            }
        });
    }
}

/// The URL of a listener, for servers that are configured with none.
fn listener_url(at: SocketAddr, is_tls: bool) -> String {
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{at}")
}

/// The base of the URLs of gRPC methods.
fn grpc_url(config: &Config, at: SocketAddr, is_tls: bool) -> String {
    config.grpc_url.clone().unwrap_or_else(|| listener_url(at, is_tls))
}

/// The cause for an operator. The text of an [`Error`] is for callers.
fn cause(error: Error) -> String {
    match error {
        Error::Internal(cause) | Error::Unavailable(cause) => cause.to_string(),
        error => error.to_string(),
    }
}
