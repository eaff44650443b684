//! The tables of users.

use sqlx::FromRow;

use super::row::{RowRef, record};
use super::{Session, Tx, execute, find_row, list_rows};
use crate::domain::{Page, PageRequest, RoleId, TenantId, User, UserId, UserName, UserSettings};
use crate::error::Result;

#[derive(FromRow)]
struct UserRow {
    tenant_id: String,
    id: String,
    display_name: String,
    roles: Option<String>,
    disabled: bool,
    disabled_by_platform: bool,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select u.tenant_id, u.id, u.display_name, u.disabled, u.disabled_by_platform, \
             u.revision, u.created_at, u.updated_at, (select string_agg(h.role_id, ' ') from user_roles h \
               where h.tenant_id = u.tenant_id and h.user_id = u.id) as roles \
             from users u where ",
            $rest
        )
    };
}

impl UserRow {
    fn user(self) -> Result<User> {
        let at = RowRef { table: "users", key: &self.id };
        let roles = self.roles.iter().flat_map(|all| all.split(' ')).map(RoleId::parse).collect();
        Ok(User {
            name: UserName {
                tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
                user: at.column("id", UserId::parse(&self.id))?,
            },
            settings: UserSettings {
                display_name: self.display_name,
                roles: at.column("roles", roles)?,
                disabled: self.disabled,
                disabled_by_platform: self.disabled && self.disabled_by_platform,
            },
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

impl Session {
    /// The user, if it exists.
    pub async fn find_user(&mut self, name: &UserName) -> Result<Option<User>> {
        const SQL: &str = select!("u.tenant_id = $1 and u.id = $2");
        let row: Option<UserRow> = find_row!(self, SQL, name.tenant.as_str(), name.user.as_str())?;
        row.map(UserRow::user).transpose()
    }

    /// A page of a tenant's users, by id.
    pub async fn list_users(
        &mut self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<User>> {
        const SQL: &str = select!("u.tenant_id = $1 and u.id > $2 order by u.id limit $3");
        let after = page.after.as_deref().unwrap_or_default();
        let rows: Vec<UserRow> = list_rows!(self, SQL, tenant.as_str(), after, page.limit())?;
        let users = rows.into_iter().map(UserRow::user).collect::<Result<_>>()?;
        Ok(page.page(users, |user| user.name.user.to_string()))
    }
}

impl Tx {
    /// Adds a user; `false` if the tenant already has a user with this id.
    pub async fn insert_user(&mut self, user: &User) -> Result<bool> {
        const SQL: &str = "insert into users (tenant_id, id, display_name, disabled, revision, \
            created_at, updated_at, disabled_by_platform) values ($1, $2, $3, $4, $5, $6, $7, $8) \
            on conflict do nothing";
        self.write_user(SQL, user).await
    }

    /// Updates a user; `false` if the user was deleted or changed by another request.
    pub async fn update_user(&mut self, user: &User) -> Result<bool> {
        const SQL: &str = "update users set display_name = $3, disabled = $4, revision = $5, \
            created_at = $6, updated_at = $7, disabled_by_platform = $8 \
            where tenant_id = $1 and id = $2 and revision = $5 - 1";
        self.write_user(SQL, user).await
    }

    pub async fn delete_user(&mut self, name: &UserName) -> Result<()> {
        const SQL: &str = "delete from users where tenant_id = $1 and id = $2";
        execute!(self, SQL, name.tenant.as_str(), name.user.as_str()).map(drop)
    }

    /// Runs a statement with all columns of a user, in the order of the table, and replaces the
    /// user's roles.
    async fn write_user(&mut self, sql: &'static str, user: &User) -> Result<bool> {
        const DELETE: &str = "delete from user_roles where tenant_id = $1 and user_id = $2";
        const INSERT: &str =
            "insert into user_roles (tenant_id, user_id, role_id) values ($1, $2, $3)";
        let (tenant, id) = (user.name.tenant.as_str(), user.name.user.as_str());
        let written = execute!(
            self,
            sql,
            tenant,
            id,
            &user.settings.display_name,
            user.settings.disabled,
            user.record.revision,
            user.record.created_at.as_microsecond(),
            user.record.updated_at.as_microsecond(),
            user.settings.disabled_by_platform
        )
        .map(|rows| rows == 1)?;
        if written {
            execute!(self, DELETE, tenant, id).map(drop)?;
            for role in &user.settings.roles {
                execute!(self, INSERT, tenant, id, role.as_str()).map(drop)?;
            }
        }
        Ok(written)
    }
}
