//! What the use cases of all resources share.

use std::sync::Arc;
use std::time::Duration;

use super::registration::RegistrationRules;
use crate::clock::Clock;
use crate::secrets::{Hasher, Prefixes, Sealer};
use crate::service::audit::{AuditChain, TenantSessions};
use crate::service::lists::Pages;
use crate::service::master_keys::KeyAnnouncements;
use crate::service::signing::Signing;
use crate::store::Store;

/// Manages tenants and everything that they have.
#[derive(Debug)]
pub struct Admin {
    pub(in crate::service) store: Store,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) prefixes: Prefixes,
    pub(in crate::service) hasher: Arc<Hasher>,
    pub(in crate::service) sealer: Arc<Sealer>,
    pub(in crate::service) pages: Pages,
    pub(in crate::service) signing: Arc<Signing>,
    pub(in crate::service) sessions: Arc<TenantSessions>,
    pub(in crate::service) keys: Arc<KeyAnnouncements>,
    pub(in crate::service) audit: Arc<AuditChain>,
    pub(in crate::service) registrations: RegistrationRules,
    /// The lifetime of the admin credentials that Keyward creates itself; `None`: no end.
    pub(in crate::service) credential_lifetime: Option<Duration>,
}
