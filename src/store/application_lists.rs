//! Lists of applications: a page of a tenant's applications, and the applications of an owner.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::application_pages::{ListQuery, PagePosition};
use super::applications::ApplicationRow;
use super::row::RowRef;
use super::{Session, list_values, one_value};
use crate::domain::{
    Application, ApplicationFilter, ApplicationName, Page, PageRequest, RoleId, ScopeName,
    ScopeSet, TenantId, UserId,
};
use crate::error::{Error, Result};

impl Session {
    /// A page of a tenant's applications.
    pub async fn list_applications(
        &mut self,
        tenant: &TenantId,
        filter: &ApplicationFilter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<Page<Application>> {
        let after = page.after.as_deref().map(PagePosition::parse).transpose()?;
        let limit = page.size() + 1;
        let list = ListQuery { tenant, filter, after: after.as_ref(), limit, now };
        let rows = self.application_rows(list).await?;
        let rows = page.page(rows, |row| row.cursor(filter.order.key));
        let items =
            rows.items.into_iter().map(ApplicationRow::application).collect::<Result<_>>()?;
        Ok(Page { items, keys: rows.keys, next: rows.next })
    }

    /// The applications and credentials that a user owns: the number of each, and the first names.
    pub async fn owned_by(&mut self, tenant: &TenantId, owner: &UserId) -> Result<OwnedResources> {
        const APPLICATIONS: &str =
            "select count(*) from applications where tenant_id = $1 and owner_user_id = $2";
        const CREDENTIALS: &str = "select count(*) from credentials c \
            join applications a on a.tenant_id = c.tenant_id and a.id = c.application_id \
            where a.tenant_id = $1 and a.owner_user_id = $2";
        const FIRST_APPLICATIONS: &str = "select 'tenants/' || tenant_id || '/applications/' || id \
            from applications where tenant_id = $1 and owner_user_id = $2 order by id limit 100";
        const FIRST_CREDENTIALS: &str = "select 'tenants/' || a.tenant_id || '/applications/' \
                || a.id || '/credentials/' || c.id \
            from applications a \
            join credentials c on a.tenant_id = c.tenant_id and a.id = c.application_id \
            where a.tenant_id = $1 and a.owner_user_id = $2 order by a.id, c.id limit 100";
        let (tenant, owner) = (tenant.as_str(), owner.as_str());
        Ok(OwnedResources {
            application_count: one_value!(self, APPLICATIONS, tenant, owner)?,
            credential_count: one_value!(self, CREDENTIALS, tenant, owner)?,
            applications: list_values!(self, FIRST_APPLICATIONS, tenant, owner)?,
            credentials: list_values!(self, FIRST_CREDENTIALS, tenant, owner)?,
        })
    }

    /// The scopes and roles that were granted to the applications of a user.
    pub async fn grants_to_applications_of(
        &mut self,
        tenant: &TenantId,
        owner: &UserId,
    ) -> Result<(ScopeSet, BTreeSet<RoleId>)> {
        const SCOPES: &str = "select distinct h.scope from application_scopes h \
            join applications a on a.tenant_id = h.tenant_id and a.id = h.application_id \
            where a.tenant_id = $1 and a.owner_user_id = $2";
        const ROLES: &str = "select distinct h.role_id from application_roles h \
            join applications a on a.tenant_id = h.tenant_id and a.id = h.application_id \
            where a.tenant_id = $1 and a.owner_user_id = $2";
        let at = RowRef { table: "applications", key: owner.as_str() };
        let (tenant, owner) = (tenant.as_str(), owner.as_str());
        let scopes: Vec<String> = list_values!(self, SCOPES, tenant, owner)?;
        let roles: Vec<String> = list_values!(self, ROLES, tenant, owner)?;
        let scopes = scopes.iter().map(|scope| ScopeName::parse(scope)).collect();
        let roles = roles.iter().map(|role| RoleId::parse(role)).collect();
        Ok((at.column("scopes", scopes)?, at.column("roles", roles)?))
    }

    /// Whether one of the applications of a user may exchange tokens.
    pub async fn has_exchanging_application(
        &mut self,
        tenant: &TenantId,
        owner: &UserId,
    ) -> Result<bool> {
        const SQL: &str = "select count(*) from applications \
            where tenant_id = $1 and owner_user_id = $2 and exchange_audiences <> ''";
        let found: i64 = one_value!(self, SQL, tenant.as_str(), owner.as_str())?;
        Ok(found > 0)
    }

    /// The names of all applications of a user.
    pub async fn applications_of(
        &mut self,
        tenant: &TenantId,
        owner: &UserId,
    ) -> Result<Vec<ApplicationName>> {
        const SQL: &str =
            "select id from applications where tenant_id = $1 and owner_user_id = $2 order by id";
        let ids: Vec<String> = list_values!(self, SQL, tenant.as_str(), owner.as_str())?;
        let names = ids.iter().map(|id| {
            let name = format!("{}/applications/{id}", tenant.name());
            ApplicationName::parse(&name).map_err(|fault| Error::internal(fault.0))
        });
        names.collect()
    }
}

/// The resources that a user owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedResources {
    /// The number of applications.
    pub application_count: i64,
    /// The number of credentials.
    pub credential_count: i64,
    /// The names of the first applications.
    pub applications: Vec<String>,
    /// The names of the first credentials.
    pub credentials: Vec<String>,
}
