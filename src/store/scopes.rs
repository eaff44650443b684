//! The table of scopes. The scopes of a tenant are its catalogue.

use sqlx::FromRow;

use super::row::{RowRef, record};
use super::{FoundResources, Session, Tx, execute, find_row, list_rows, list_values, one_value};
use crate::domain::{
    ApplicationName, Page, PageRequest, Scope, ScopeId, ScopeName, ScopeSettings, TenantId,
};
use crate::error::Result;

#[derive(FromRow)]
struct ScopeRow {
    tenant_id: String,
    name: String,
    display_name: String,
    description: String,
    domain: String,
    family: String,
    disabled: bool,
    disabled_by_platform: bool,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

/// Statements name their columns, because a replica of the previous version may run on a schema
/// with more columns.
macro_rules! columns {
    () => {
        "tenant_id, name, display_name, description, domain, family, disabled, \
         disabled_by_platform, revision, created_at, updated_at"
    };
}

macro_rules! scope_holders {
    () => {
        "from applications a where a.tenant_id = $1 and (a.id in (select application_id \
           from application_scopes where tenant_id = $1 and scope = $2) \
         or a.id in (select h.application_id from application_roles h \
           join role_scopes g on g.tenant_id = h.tenant_id and g.role_id = h.role_id \
           where h.tenant_id = $1 and g.scope = $2))"
    };
}

impl ScopeRow {
    fn scope(self) -> Result<Scope> {
        let at = RowRef { table: "scopes", key: &self.name };
        Ok(Scope {
            id: ScopeId {
                tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
                scope: at.column("name", ScopeName::parse(&self.name))?,
            },
            settings: ScopeSettings {
                display_name: self.display_name,
                description: self.description,
                domain: self.domain,
                family: self.family,
                disabled: self.disabled,
                disabled_by_platform: self.disabled && self.disabled_by_platform,
            },
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

impl Session {
    /// The scope, if it exists.
    pub async fn find_scope(&mut self, id: &ScopeId) -> Result<Option<Scope>> {
        const SQL: &str =
            concat!("select ", columns!(), " from scopes where tenant_id = $1 and name = $2");
        let row: Option<ScopeRow> = find_row!(self, SQL, id.tenant.as_str(), id.scope.as_str())?;
        row.map(ScopeRow::scope).transpose()
    }

    /// A page of a tenant's scopes, by name.
    pub async fn list_scopes(
        &mut self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Scope>> {
        const SQL: &str = concat!(
            "select ",
            columns!(),
            " from scopes where tenant_id = $1 and name > $2 order by name limit $3"
        );
        let rows: Vec<ScopeRow> = list_rows!(
            self,
            SQL,
            tenant.as_str(),
            page.after.as_deref().unwrap_or_default(),
            page.limit()
        )?;
        let scopes = rows.into_iter().map(ScopeRow::scope).collect::<Result<_>>()?;
        Ok(page.page(scopes, |scope| scope.id.scope.to_string()))
    }

    /// The whole catalogue of a tenant, by name.
    pub async fn catalogue(&mut self, tenant: &TenantId) -> Result<Vec<Scope>> {
        let mut scopes = Vec::new();
        let mut after = None;
        loop {
            let page = self.list_scopes(tenant, &PageRequest::largest(after)).await?;
            after = page.next;
            scopes.extend(page.items);
            if after.is_none() {
                return Ok(scopes);
            }
        }
    }

    /// The applications that hold the scope directly, or through a role that lists it.
    pub async fn scope_holders(&mut self, id: &ScopeId) -> Result<FoundResources> {
        const COUNT: &str = concat!("select count(*) ", scope_holders!());
        const FIRST: &str = concat!(
            "select 'tenants/' || a.tenant_id || '/applications/' || a.id ",
            scope_holders!(),
            " order by a.id limit 10"
        );
        let (tenant, scope) = (id.tenant.as_str(), id.scope.as_str());
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, scope)?,
            first: list_values!(self, FIRST, tenant, scope)?,
        })
    }
}

impl Tx {
    /// Adds a scope; `false` if the tenant already has a scope with this name.
    pub async fn insert_scope(&mut self, scope: &Scope) -> Result<bool> {
        const SQL: &str = "insert into scopes (tenant_id, name, description, domain, family, \
            disabled, revision, created_at, updated_at, display_name, disabled_by_platform) \
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing";
        let settings = &scope.settings;
        execute!(
            self,
            SQL,
            scope.id.tenant.as_str(),
            scope.id.scope.as_str(),
            &settings.description,
            &settings.domain,
            &settings.family,
            settings.disabled,
            scope.record.revision,
            scope.record.created_at.as_microsecond(),
            scope.record.updated_at.as_microsecond(),
            &settings.display_name,
            settings.disabled_by_platform
        )
        .map(|rows| rows == 1)
    }

    /// Updates a scope; `false` if it was deleted or changed by another request.
    pub async fn update_scope(&mut self, scope: &Scope) -> Result<bool> {
        const SQL: &str = "update scopes set description = $1, domain = $2, family = $3, \
            disabled = $4, revision = $5, updated_at = $6, display_name = $9, \
            disabled_by_platform = $10 \
            where tenant_id = $7 and name = $8 and revision = $5 - 1";
        let settings = &scope.settings;
        execute!(
            self,
            SQL,
            &settings.description,
            &settings.domain,
            &settings.family,
            settings.disabled,
            scope.record.revision,
            scope.record.updated_at.as_microsecond(),
            scope.id.tenant.as_str(),
            scope.id.scope.as_str(),
            &settings.display_name,
            settings.disabled_by_platform
        )
        .map(|rows| rows == 1)
    }

    /// Deletes a scope. Foreign keys remove it from applications and roles.
    pub async fn delete_scope(&mut self, id: &ScopeId) -> Result<()> {
        const SQL: &str = "delete from scopes where tenant_id = $1 and name = $2";
        execute!(self, SQL, id.tenant.as_str(), id.scope.as_str()).map(drop)
    }

    pub(super) async fn replace_scopes<'a>(
        &mut self,
        application: &ApplicationName,
        scopes: impl Iterator<Item = &'a ScopeName>,
    ) -> Result<()> {
        const DELETE: &str =
            "delete from application_scopes where tenant_id = $1 and application_id = $2";
        const INSERT: &str = "insert into application_scopes (tenant_id, application_id, scope) \
            values ($1, $2, $3)";
        execute!(self, DELETE, application.tenant.as_str(), application.application.as_str())
            .map(drop)?;
        for scope in scopes {
            execute!(
                self,
                INSERT,
                application.tenant.as_str(),
                application.application.as_str(),
                scope.as_str()
            )
            .map(drop)?;
        }
        Ok(())
    }
}
