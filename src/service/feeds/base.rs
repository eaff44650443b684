//! What the list and the streams share.

use std::sync::Arc;

use super::watchers::Watchers;
use crate::clock::{Clock, SteadyTime};
use crate::revocation::Live;
use crate::service::audit::{AuditChain, TenantSessions};
use crate::service::lists::Pages;
use crate::service::signing::Signing;
use crate::store::Store;

/// Answers services that verify tokens themselves.
#[derive(Debug)]
pub struct Feeds {
    pub(super) store: Store,
    pub(super) clock: Clock,
    /// The time for deleting revocations.
    pub(super) steady: SteadyTime,
    pub(super) revocations: Arc<Live>,
    pub(super) signing: Arc<Signing>,
    pub(super) pages: Pages,
    pub(super) sessions: Arc<TenantSessions>,
    pub(super) chain: Arc<AuditChain>,
    pub(super) watchers: Watchers,
}

impl Feeds {
    pub(in crate::service) fn new(
        store: Store,
        clock: Clock,
        revocations: Arc<Live>,
        signing: Arc<Signing>,
        pages: Pages,
        audit: (Arc<TenantSessions>, Arc<AuditChain>),
    ) -> Self {
        let (sessions, chain) = audit;
        let (steady, watchers) = (SteadyTime::new(clock.clone()), Watchers::default());
        Self { store, clock, steady, revocations, signing, pages, sessions, chain, watchers }
    }
}
