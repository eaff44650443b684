//! What a caller attempts.

use crate::domain::{Action, Actor, TenantId};
use crate::service::auth::Caller;

/// A change that a caller attempts.
#[derive(Clone, Debug)]
pub(in crate::service) struct Attempt<'a> {
    pub(super) caller: &'a Caller,
    pub(super) action: Action,
    pub(super) tenant: TenantId,
    pub(super) resource: String,
}

impl<'a> Attempt<'a> {
    pub(in crate::service) fn new(
        caller: &'a Caller,
        action: Action,
        tenant: &TenantId,
        resource: &(impl ToString + ?Sized),
    ) -> Self {
        Self { caller, action, tenant: tenant.clone(), resource: resource.to_string() }
    }

    pub(super) fn actor(&self) -> Actor {
        self.caller.actor()
    }
}
