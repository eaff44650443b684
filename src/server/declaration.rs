//! Declares the database as valid, after it was restored from a backup.

use super::{ServerError, build_service, master_key, open_store, unusable};
use crate::clock::Clock;
use crate::config::Config;
use crate::redis::{LinkError, Redis};
use crate::service::{Declared, RememberedList};
use crate::store::Store;

/// Accepts the configured database as it is. See [`crate::service::Admin::accept_database`].
pub async fn accept_database(config: &Config, keep_tokens: bool) -> Result<Declared, ServerError> {
    let store = open_store(config).await?;
    let declared = declare(config, &store, keep_tokens).await?;
    store.close().await;
    Ok(declared)
}

pub(super) async fn declare(
    config: &Config,
    store: &Store,
    keep_tokens: bool,
) -> Result<Declared, ServerError> {
    let remembered = remembered(config, store).await?;
    // This issues no tokens, so the issuer does not matter. The service is built without Redis,
    // which can have newer revocations than this database.
    let service = build_service(config, store, Clock::system(), String::new(), None).await?;
    let declared = Box::pin(service.admin.accept_database(keep_tokens, &remembered)).await;
    declared.map_err(|error| unusable(config, error, ServerError::Internal))
}

/// The revocations that Redis knows. A Redis that does not answer does not stop the declaration:
/// the restored database is needed to serve at all.
async fn remembered(config: &Config, store: &Store) -> Result<RememberedList, ServerError> {
    let Some(url) = &config.redis.url else { return Ok(RememberedList::default()) };
    let redis = Redis::new(url.clone(), &config.redis.key_prefix, config.redis.timeouts);
    let read = match redis.check_once().await {
        Ok(()) => RememberedList::read(redis, &master_key(config, store).await?).await,
        Err(LinkError::Unfit(why)) => return Err(ServerError::Redis(why)),
        Err(LinkError::Away(cause)) => Err(crate::error::Error::Unavailable(cause)),
    };
    read.or_else(|error| {
        tracing::warn!(
            cause = super::cause(error),
            "Redis cannot be read: revocations that only Redis knows are not put back"
        );
        Ok(RememberedList::default())
    })
}
