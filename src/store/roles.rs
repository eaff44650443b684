//! The tables of roles.

use sqlx::FromRow;

use super::row::{RowRef, record};
use super::{FoundResources, Session, Tx, execute, find_row, list_rows, list_values, one_value};
use crate::domain::{
    Page, PageRequest, Permissions, Role, RoleId, RoleName, RoleSettings, ScopeSet, TenantId,
    UserId,
};
use crate::error::Result;

#[derive(FromRow)]
struct RoleRow {
    tenant_id: String,
    id: String,
    display_name: String,
    description: String,
    permissions: String,
    scopes: Option<String>,
    all_scopes: bool,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select r.tenant_id, r.id, r.display_name, r.description, r.permissions, r.all_scopes, \
             r.revision, r.created_at, r.updated_at, \
               (select string_agg(g.scope, ' ') from role_scopes g \
                 where g.tenant_id = r.tenant_id and g.role_id = r.id) as scopes \
             from roles r where ",
            $rest
        )
    };
}

impl RoleRow {
    fn role(self) -> Result<Role> {
        let at = RowRef { table: "roles", key: &self.id };
        Ok(Role {
            name: RoleName {
                tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
                role: at.column("id", RoleId::parse(&self.id))?,
            },
            settings: RoleSettings {
                display_name: self.display_name,
                description: self.description,
                permissions: at.column("permissions", Permissions::parse(&self.permissions))?,
                scopes: at.column("scopes", ScopeSet::parse(&self.scopes.unwrap_or_default()))?,
                all_scopes: self.all_scopes,
            },
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

impl Session {
    /// The role, if it exists.
    pub async fn find_role(&mut self, name: &RoleName) -> Result<Option<Role>> {
        const SQL: &str = select!("r.tenant_id = $1 and r.id = $2");
        let row: Option<RoleRow> = find_row!(self, SQL, name.tenant.as_str(), name.role.as_str())?;
        row.map(RoleRow::role).transpose()
    }

    /// A page of a tenant's roles, by id.
    pub async fn list_roles(
        &mut self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Role>> {
        const SQL: &str = select!("r.tenant_id = $1 and r.id > $2 order by r.id limit $3");
        let after = page.after.as_deref().unwrap_or_default();
        let rows: Vec<RoleRow> = list_rows!(self, SQL, tenant.as_str(), after, page.limit())?;
        let roles = rows.into_iter().map(RoleRow::role).collect::<Result<_>>()?;
        Ok(page.page(roles, |role| role.name.role.to_string()))
    }

    /// All roles of a tenant, by id.
    pub async fn roles(&mut self, tenant: &TenantId) -> Result<Vec<Role>> {
        const SQL: &str = select!("r.tenant_id = $1 order by r.id");
        let rows: Vec<RoleRow> = list_rows!(self, SQL, tenant.as_str())?;
        rows.into_iter().map(RoleRow::role).collect()
    }

    /// The roles of a user, by id.
    pub async fn roles_of(&mut self, tenant: &TenantId, user: &UserId) -> Result<Vec<Role>> {
        const SQL: &str = select!(
            "r.tenant_id = $1 and r.id in \
             (select role_id from user_roles where tenant_id = $1 and user_id = $2) order by r.id"
        );
        let rows: Vec<RoleRow> = list_rows!(self, SQL, tenant.as_str(), user.as_str())?;
        rows.into_iter().map(RoleRow::role).collect()
    }

    /// The users and applications that hold a role.
    pub async fn role_holders(&mut self, name: &RoleName) -> Result<FoundResources> {
        const COUNT: &str = "select \
            (select count(*) from user_roles where tenant_id = $1 and role_id = $2) + \
            (select count(*) from application_roles where tenant_id = $1 and role_id = $2)";
        const FIRST: &str = "select holder from (\
              select 'tenants/' || tenant_id || '/users/' || user_id as holder \
                from user_roles where tenant_id = $1 and role_id = $2 \
              union all \
              select 'tenants/' || tenant_id || '/applications/' || application_id as holder \
                from application_roles where tenant_id = $1 and role_id = $2) holders \
            order by holder limit 10";
        let (tenant, role) = (name.tenant.as_str(), name.role.as_str());
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, role)?,
            first: list_values!(self, FIRST, tenant, role)?,
        })
    }
}

impl Tx {
    /// Adds a role; `false` if the tenant already has a role with this id.
    pub async fn insert_role(&mut self, role: &Role) -> Result<bool> {
        const SQL: &str = "insert into roles (tenant_id, id, display_name, description, \
            permissions, all_scopes, revision, created_at, updated_at) \
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing";
        self.write_role(SQL, role).await
    }

    /// Updates a role; `false` if it was deleted or changed by another request.
    pub async fn update_role(&mut self, role: &Role) -> Result<bool> {
        const SQL: &str = "update roles set display_name = $3, description = $4, \
            permissions = $5, all_scopes = $6, revision = $7, created_at = $8, updated_at = $9 \
            where tenant_id = $1 and id = $2 and revision = $7 - 1";
        self.write_role(SQL, role).await
    }

    /// Deletes a role. Foreign keys remove it from users and applications.
    pub async fn delete_role(&mut self, name: &RoleName) -> Result<()> {
        const SQL: &str = "delete from roles where tenant_id = $1 and id = $2";
        execute!(self, SQL, name.tenant.as_str(), name.role.as_str()).map(drop)
    }

    /// Runs a statement with all columns of a role, in the order of the table, and replaces the
    /// role's scopes.
    async fn write_role(&mut self, sql: &'static str, role: &Role) -> Result<bool> {
        const DELETE: &str = "delete from role_scopes where tenant_id = $1 and role_id = $2";
        const INSERT: &str =
            "insert into role_scopes (tenant_id, role_id, scope) values ($1, $2, $3)";
        let (tenant, id) = (role.name.tenant.as_str(), role.name.role.as_str());
        let written = execute!(
            self,
            sql,
            tenant,
            id,
            &role.settings.display_name,
            &role.settings.description,
            role.settings.permissions.to_string(),
            role.settings.all_scopes,
            role.record.revision,
            role.record.created_at.as_microsecond(),
            role.record.updated_at.as_microsecond()
        )
        .map(|rows| rows == 1)?;
        if written {
            execute!(self, DELETE, tenant, id).map(drop)?;
            for scope in role.settings.scopes.iter() {
                execute!(self, INSERT, tenant, id, scope.as_str()).map(drop)?;
            }
        }
        Ok(written)
    }
}
