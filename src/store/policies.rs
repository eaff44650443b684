//! What a tenant has that a policy would not allow any more.

use super::{Found, Session, list_values, one_value};
use crate::domain::{Lifetime, OwnerKind, TenantId};
use crate::error::Result;

impl Session {
    /// The credentials that work longer than a policy lets them.
    pub async fn credentials_beyond(&mut self, tenant: &TenantId, most: Lifetime) -> Result<Found> {
        const COUNT: &str = "select count(*) from credentials where tenant_id = $1 \
            and (expires_at is null or expires_at > created_at + $2)";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || application_id \
            || '/credentials/' || id from credentials where tenant_id = $1 \
            and (expires_at is null or expires_at > created_at + $2) order by id limit 10";
        let (tenant, most) = (tenant.as_str(), most.seconds() * 1_000_000);
        Ok(Found {
            count: one_value!(self, COUNT, tenant, most)?,
            first: list_values!(self, FIRST, tenant, most)?,
        })
    }

    /// The applications that an owner of this kind has.
    pub async fn applications_owned_by(
        &mut self,
        tenant: &TenantId,
        kind: OwnerKind,
    ) -> Result<Found> {
        const COUNT: &str = "select count(*) from applications \
            where tenant_id = $1 and (owner_user_id is null) = $2";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || id \
            from applications where tenant_id = $1 and (owner_user_id is null) = $2 \
            order by id limit 10";
        let (tenant, account) = (tenant.as_str(), kind == OwnerKind::Account);
        Ok(Found {
            count: one_value!(self, COUNT, tenant, account)?,
            first: list_values!(self, FIRST, tenant, account)?,
        })
    }
}
