//! What issuing, introspecting and revoking tokens share.

use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::service::audit::TenantSessions;
use crate::service::auth::Auth;
use crate::service::clients::ClientCache;
use crate::service::limits::RateLimits;
use crate::service::signing::Signing;
use crate::service::usage::UsageCounter;
use crate::store::Store;

/// Issues, introspects and revokes access tokens.
#[derive(Debug)]
pub struct Tokens {
    pub(in crate::service) issuer: String,
    pub(in crate::service) store: Store,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) auth: Arc<Auth>,
    pub(in crate::service) clients: Arc<ClientCache>,
    pub(in crate::service) limits: Arc<RateLimits>,
    pub(in crate::service) sessions: Arc<TenantSessions>,
    pub(in crate::service) signing: Arc<Signing>,
    pub(in crate::service) usage: Arc<UsageCounter>,
    pub(in crate::service) issued: IssuedTokens,
}

/// Counts tokens that were issued, by grant. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct IssuedTokens {
    pub client_credentials: Counter,
    pub token_exchange: Counter,
}

/// A time from a claim.
pub(super) fn second(claim: i64) -> Result<Timestamp> {
    Timestamp::from_second(claim).map_err(|error| Error::Internal(Box::new(error)))
}
