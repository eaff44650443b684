//! Declares the database as valid, after it was restored from a backup.

use super::parts::{build_service, unusable};
use super::{ServerError, cause, master_keys, open_store};
use crate::config::Config;
use crate::error::Error;
use crate::redis::{LinkError, Redis};
use crate::service::{Declared, RememberedList};
use crate::store::Store;

/// The result of a declaration.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub declared: Declared,
    /// Why Redis could not be read, if it is configured. Revocations that only Redis knows were not
    /// put back then.
    pub redis_trouble: Option<String>,
}

/// Accepts the configured database as it is. See [`crate::service::Admin::accept_database`].
pub async fn accept_database(config: &Config, keep_tokens: bool) -> Result<Accepted, ServerError> {
    let store = open_store(config).await?;
    let accepted = declare(config, &store, keep_tokens).await?;
    store.close().await;
    Ok(accepted)
}

pub(super) async fn declare(
    config: &Config,
    store: &Store,
    keep_tokens: bool,
) -> Result<Accepted, ServerError> {
    let (remembered, redis_trouble) = match remembered(config, store).await? {
        Ok(remembered) => (remembered, None),
        // The restored database is needed to serve at all, with or without Redis.
        Err(error) => (RememberedList::default(), Some(cause(error))),
    };
    // This issues no tokens, so the issuer does not matter. The service is built without Redis,
    // which can have newer revocations than this database.
    let service = build_service(config, store).await?;
    let declared = Box::pin(service.admin.accept_database(keep_tokens, &remembered)).await;
    let declared = declared.map_err(|error| unusable(config, error, ServerError::Internal))?;
    Ok(Accepted { declared, redis_trouble })
}

/// The revocations that Redis knows. The inner error means that it could not be asked.
async fn remembered(
    config: &Config,
    store: &Store,
) -> Result<crate::error::Result<RememberedList>, ServerError> {
    let Some(url) = &config.redis.url else { return Ok(Ok(RememberedList::default())) };
    let redis = Redis::new(url.clone(), &config.redis.key_prefix, config.redis.timeouts);
    match redis.check_once().await {
        Ok(()) => {
            let master_keys = master_keys::load(config, store).await?;
            Ok(RememberedList::read(redis, &master_keys).await)
        }
        Err(LinkError::Unfit(why)) => Err(ServerError::Redis(why)),
        Err(LinkError::Away(why)) => Ok(Err(Error::Unavailable(why))),
    }
}
