//! Tenants in tables.

use sqlx::FromRow;

use super::row::{At, record};
use super::{Session, Tx, execute, find_row, list_rows};
use crate::domain::{
    Audience, CredentialId, Page, PageRequest, Tenant, TenantId, TenantSettings, TokenLifetime,
};
use crate::error::Result;

#[derive(FromRow)]
struct Row {
    id: String,
    display_name: String,
    default_audience: String,
    additional_audiences: String,
    access_token_lifetime_seconds: i64,
    disabled: bool,
    epoch: i64,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

/// Named, since a replica of the version before may run on a schema with more.
macro_rules! columns {
    () => {
        "id, display_name, default_audience, additional_audiences, \
         access_token_lifetime_seconds, disabled, epoch, revision, created_at, updated_at"
    };
}

impl Row {
    fn tenant(self) -> Result<Tenant> {
        let at = At { table: "tenants", key: &self.id };
        let additional = self.additional_audiences.split_whitespace().map(Audience::parse);
        Ok(Tenant {
            id: at.column("id", TenantId::parse(&self.id))?,
            settings: TenantSettings {
                default_audience: at
                    .column("default_audience", Audience::parse(&self.default_audience))?,
                additional_audiences: at.column("additional_audiences", additional.collect())?,
                access_token_lifetime: at.column(
                    "access_token_lifetime_seconds",
                    TokenLifetime::from_seconds(self.access_token_lifetime_seconds),
                )?,
                disabled: self.disabled,
                display_name: self.display_name,
            },
            epoch: self.epoch,
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

fn joined(audiences: &[Audience]) -> String {
    let each: Vec<_> = audiences.iter().map(Audience::as_str).collect();
    each.join(" ")
}

impl Session {
    /// The tenant, if it exists.
    pub async fn find_tenant(&mut self, id: &TenantId) -> Result<Option<Tenant>> {
        const SQL: &str = concat!("select ", columns!(), " from tenants where id = $1");
        let row: Option<Row> = find_row!(self, SQL, id.as_str())?;
        row.map(Row::tenant).transpose()
    }

    /// The tenant of a credential, if both exist.
    pub async fn find_tenant_of(&mut self, credential: &CredentialId) -> Result<Option<Tenant>> {
        const SQL: &str = concat!(
            "select ",
            columns!(),
            " from tenants where id = (select tenant_id from credentials where id = $1)"
        );
        let row: Option<Row> = find_row!(self, SQL, credential.as_str())?;
        row.map(Row::tenant).transpose()
    }

    /// A page of tenants, by id.
    pub async fn list_tenants(&mut self, page: &PageRequest) -> Result<Page<Tenant>> {
        const SQL: &str =
            concat!("select ", columns!(), " from tenants where id > $1 order by id limit $2");
        let rows: Vec<Row> =
            list_rows!(self, SQL, page.after.as_deref().unwrap_or_default(), page.limit())?;
        let tenants = rows.into_iter().map(Row::tenant).collect::<Result<_>>()?;
        Ok(page.page(tenants, |tenant| tenant.id.to_string()))
    }
}

impl Tx {
    /// The tenant, if it exists, locked: writers of one tenant wait for each other, so
    /// that what a transaction has read of it stays true until it commits.
    pub async fn lock_tenant(&mut self, id: &TenantId) -> Result<Option<Tenant>> {
        const SQL: &str =
            concat!("update tenants set revision = revision where id = $1 returning ", columns!());
        let row: Option<Row> = find_row!(self, SQL, id.as_str())?;
        row.map(Row::tenant).transpose()
    }

    /// Adds a tenant; `false` if there is one of this id.
    pub async fn insert_tenant(&mut self, tenant: &Tenant) -> Result<bool> {
        const SQL: &str = "insert into tenants (id, display_name, default_audience, \
            additional_audiences, access_token_lifetime_seconds, disabled, epoch, revision, \
            created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
            on conflict do nothing";
        let settings = &tenant.settings;
        execute!(
            self,
            SQL,
            tenant.id.as_str(),
            &settings.display_name,
            settings.default_audience.as_str(),
            joined(&settings.additional_audiences),
            settings.access_token_lifetime.seconds(),
            settings.disabled,
            tenant.epoch,
            tenant.record.revision,
            tenant.record.created_at.as_microsecond(),
            tenant.record.updated_at.as_microsecond()
        )
        .map(|rows| rows == 1)
    }

    /// Writes a changed tenant; `false` if it is gone or was changed meanwhile.
    pub async fn update_tenant(&mut self, tenant: &Tenant) -> Result<bool> {
        const SQL: &str = "update tenants set display_name = $1, default_audience = $2, \
            additional_audiences = $3, access_token_lifetime_seconds = $4, disabled = $5, \
            epoch = $6, revision = $7, updated_at = $8 where id = $9 and revision = $7 - 1";
        let settings = &tenant.settings;
        execute!(
            self,
            SQL,
            &settings.display_name,
            settings.default_audience.as_str(),
            joined(&settings.additional_audiences),
            settings.access_token_lifetime.seconds(),
            settings.disabled,
            tenant.epoch,
            tenant.record.revision,
            tenant.record.updated_at.as_microsecond(),
            tenant.id.as_str()
        )
        .map(|rows| rows == 1)
    }

    /// Deletes a tenant with all that is its.
    pub async fn delete_tenant(&mut self, id: &TenantId) -> Result<()> {
        const SQL: &str = "delete from tenants where id = $1";
        execute!(self, SQL, id.as_str()).map(drop)
    }
}
