//! Resources of a tenant that a new policy would not allow.

use std::collections::BTreeSet;

use super::{FoundResources, Session, list_values, one_value};
use crate::domain::{CredentialKind, Lifetime, OwnerKind, TenantId};
use crate::error::Result;

impl Session {
    /// The credentials with a longer lifetime than the policy allows.
    pub async fn credentials_exceeding(
        &mut self,
        tenant: &TenantId,
        max: Lifetime,
    ) -> Result<FoundResources> {
        const COUNT: &str = "select count(*) from credentials where tenant_id = $1 \
            and (expires_at is null or expires_at > created_at + $2)";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || application_id \
            || '/credentials/' || id from credentials where tenant_id = $1 \
            and (expires_at is null or expires_at > created_at + $2) order by id limit 10";
        let (tenant, max) = (tenant.as_str(), max.seconds() * 1_000_000);
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, max)?,
            first: list_values!(self, FIRST, tenant, max)?,
        })
    }

    /// The credentials of a kind that is none of these.
    pub async fn credentials_of_other_kinds(
        &mut self,
        tenant: &TenantId,
        kinds: &BTreeSet<CredentialKind>,
    ) -> Result<FoundResources> {
        // A kind is part of no other, so that a search in the list finds only whole kinds.
        const COUNT: &str = "select count(*) from credentials where tenant_id = $1 \
            and replace($2, ' ' || kind || ' ', '') = $2";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || application_id \
            || '/credentials/' || id from credentials where tenant_id = $1 \
            and replace($2, ' ' || kind || ' ', '') = $2 order by id limit 10";
        let words: Vec<_> = kinds.iter().map(ToString::to_string).collect();
        // Two spaces between words, so that each has one of its own on both sides.
        let list = format!(" {} ", words.join("  "));
        let (tenant, list) = (tenant.as_str(), list.as_str());
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, list)?,
            first: list_values!(self, FIRST, tenant, list)?,
        })
    }

    /// The applications with an owner of this kind.
    pub async fn applications_owned_by(
        &mut self,
        tenant: &TenantId,
        kind: OwnerKind,
    ) -> Result<FoundResources> {
        const COUNT: &str = "select count(*) from applications \
            where tenant_id = $1 and (owner_user_id is null) = $2";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || id \
            from applications where tenant_id = $1 and (owner_user_id is null) = $2 \
            order by id limit 10";
        let (tenant, account) = (tenant.as_str(), kind == OwnerKind::Account);
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, account)?,
            first: list_values!(self, FIRST, tenant, account)?,
        })
    }
}
