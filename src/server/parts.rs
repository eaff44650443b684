//! What a service is built of: the configuration, the database, and the master keys, which are proven
//! before anything is written.

use std::sync::Arc;

use super::{ServerError, cause, master_keys};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::limiter::Limiter;
use crate::redis::Redis;
use crate::secrets::MasterKeys;
use crate::service::{KeyAnnouncements, Service, ServiceParts};
use crate::store::Store;

/// Builds the service of a command from the configuration and an open database. Refuses to, if a
/// running server could not open what the command would write.
pub async fn build_service(config: &Config, store: &Store) -> Result<Service, ServerError> {
    let clock = Clock::system();
    let keys = master_keys::load(config, store).await?;
    let announcements = announcements(store, &clock, String::new(), &keys)?;
    let readable = announcements.require_readable().await;
    readable.map_err(|error| refused(config, error))?;
    let issuer = config.issuer.clone().unwrap_or_default();
    let parts = ServerParts { name: String::new(), issuer, grpc_url: String::new() };
    parts.build(config, store, Dependencies { clock, redis: None, keys, announcements }).await
}

/// The name of a server, for people, and the `iss` of its tokens.
pub(super) struct ServerParts {
    pub(super) name: String,
    pub(super) issuer: String,
    /// The base of the URLs of its gRPC methods.
    pub(super) grpc_url: String,
}

struct Dependencies {
    clock: Clock,
    redis: Option<Redis>,
    keys: MasterKeys,
    announcements: Arc<KeyAnnouncements>,
}

impl ServerParts {
    /// The service of a server, which is announced before anything is written with its master key.
    pub(super) async fn service(
        self,
        config: &Config,
        store: &Store,
        clock: Clock,
        redis: Option<Redis>,
    ) -> Result<Service, ServerError> {
        let keys = master_keys::load(config, store).await?;
        let announcements = announcements(store, &clock, self.name.clone(), &keys)?;
        match announcements.join().await {
            Err(Error::Unavailable(why)) => {
                // A server starts on a read-only database, where it can write nothing.
                let readable = announcements.require_readable().await;
                readable.map_err(|error| refused(config, error))?;
                tracing::warn!(cause = why, "this server cannot announce its master keys now");
            }
            joined => joined.map_err(|error| refused(config, error))?,
        }
        let built = Dependencies { clock, redis, keys, announcements: Arc::clone(&announcements) };
        let built = self.build(config, store, built).await;
        if built.is_err()
            && let Err(error) = announcements.leave().await
        {
            error.log_fault();
        }
        built
    }

    async fn build(
        self,
        config: &Config,
        store: &Store,
        dependencies: Dependencies,
    ) -> Result<Service, ServerError> {
        let Dependencies { clock, redis, keys, announcements } = dependencies;
        let parts = ServiceParts {
            limiter: match &redis {
                Some(redis) => Limiter::over(redis.clone(), clock.clone()),
                None => Limiter::in_memory(clock.clone()),
            },
            failure_budget: config.secrets.failure_budget,
            source_failure_budget: config.secrets.source_failure_budget,
            admin_lifetime: config.secrets.admin_lifetime,
            redis,
            store: store.clone(),
            master_keys: keys,
            key_announcements: announcements,
            clock,
            issuer: self.issuer,
            grpc_url: self.grpc_url,
            dpop_nonces: config.dpop_nonces,
            signing_algorithm: config.signing_algorithm,
            rotation_period: config.rotation_period,
            prefixes: config.secrets.prefixes.clone(),
            hash_queue: config.secrets.hash_queue,
            revocations: config.revocations,
        };
        let service = Box::pin(Service::new(parts)).await;
        service.map_err(|error| unusable(config, error, ServerError::SigningKeys))
    }
}

fn announcements(
    store: &Store,
    clock: &Clock,
    name: String,
    keys: &MasterKeys,
) -> Result<Arc<KeyAnnouncements>, ServerError> {
    KeyAnnouncements::new(store.clone(), clock.clone(), name, keys)
        .map(Arc::new)
        .map_err(|error| ServerError::Internal(cause(error)))
}

/// The error of a server that may not run beside others.
fn refused(config: &Config, error: Error) -> ServerError {
    match error {
        Error::MasterKeysDiffer { .. } => ServerError::WrongMasterKey(error.to_string()),
        error => unusable(config, error, ServerError::Internal),
    }
}

/// The error of a failed start. It names a database that cannot be read or written.
pub(super) fn unusable(
    config: &Config,
    error: Error,
    otherwise: fn(String) -> ServerError,
) -> ServerError {
    match error {
        Error::Unavailable(cause) => ServerError::Database {
            database: config.database.url.to_string(),
            cause: cause.to_string(),
        },
        error => otherwise(cause(error)),
    }
}
