//! The table of tenants.

use std::collections::BTreeSet;
use std::str::FromStr;

use jiff::Timestamp;
use sqlx::FromRow;
use strum::VariantNames;

use super::row::{RowRef, joined, limits, limits_text, record};
use super::{Session, Tx, execute, find_row, list_rows, one_value};
use crate::domain::fields::one_of;
use crate::domain::{
    Audience, CredentialId, CredentialKind, Fault, Field, Lifetime, OwnerKind, Page, PageRequest,
    Policy, Tenant, TenantId, TenantSettings, TokenClaims, TokenLifetime, UserDeletion,
};
use crate::error::Result;

#[derive(FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "a row has the columns that its table has")]
struct TenantRow {
    id: String,
    display_name: String,
    default_audience: String,
    additional_audiences: String,
    access_token_lifetime_seconds: i64,
    disabled: bool,
    api_credentials_disabled: bool,
    api_credentials_disabled_by_platform: bool,
    max_credentials: Option<i64>,
    allowed_owners: String,
    secrets_viewable: bool,
    fixed_fields: String,
    max_credential_lifetime_seconds: Option<i64>,
    default_limits: Option<String>,
    tenant_limits: Option<String>,
    max_limits: Option<String>,
    user_deletion: String,
    allowed_credential_kinds: String,
    require_bound_tokens: bool,
    token_claims: Option<String>,
    epoch: i64,
    life: i64,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

/// Statements name their columns, because a replica of the previous version may run on a schema
/// with more columns.
macro_rules! columns {
    () => {
        "id, display_name, default_audience, additional_audiences, \
         access_token_lifetime_seconds, disabled, api_credentials_disabled, max_credentials, \
         allowed_owners, secrets_viewable, fixed_fields, max_credential_lifetime_seconds, \
         default_limits, tenant_limits, max_limits, user_deletion, epoch, life, revision, \
          created_at, updated_at, api_credentials_disabled_by_platform, allowed_credential_kinds, \
          require_bound_tokens, token_claims"
    };
}

impl TenantRow {
    fn tenant(self) -> Result<Tenant> {
        let at = RowRef { table: "tenants", key: &self.id };
        let policy = self.policy(at)?;
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
                policy,
            },
            epoch: self.epoch,
            life: self.life,
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }

    fn policy(&self, at: RowRef<'_>) -> Result<Policy> {
        let claims = self.token_claims.as_deref().map(TokenClaims::from_json);
        let lifetime = self.max_credential_lifetime_seconds.map(Lifetime::from_seconds);
        Ok(Policy {
            api_credentials_disabled: self.api_credentials_disabled,
            api_credentials_disabled_by_platform: self.api_credentials_disabled
                && self.api_credentials_disabled_by_platform,
            max_credentials: self.max_credentials,
            allowed_owners: at
                .column("allowed_owners", words::<OwnerKind>(&self.allowed_owners))?,
            secrets_viewable: self.secrets_viewable,
            fixed_fields: at.column("fixed_fields", words::<Field>(&self.fixed_fields))?,
            max_credential_lifetime: at
                .column("max_credential_lifetime_seconds", lifetime.transpose())?,
            default_limits: limits(at, "default_limits", self.default_limits.as_deref())?,
            tenant_limits: limits(at, "tenant_limits", self.tenant_limits.as_deref())?,
            max_limits: limits(at, "max_limits", self.max_limits.as_deref())?,
            user_deletion: at
                .column("user_deletion", one_of::<UserDeletion>(&self.user_deletion))?,
            allowed_credential_kinds: at.column(
                "allowed_credential_kinds",
                words::<CredentialKind>(&self.allowed_credential_kinds),
            )?,
            require_bound_tokens: self.require_bound_tokens,
            token_claims: at.column("token_claims", claims.transpose())?.unwrap_or_default(),
        })
    }
}

fn words<E: FromStr + VariantNames + Ord>(text: &str) -> Result<BTreeSet<E>, Fault> {
    text.split_whitespace().map(one_of).collect()
}

impl Session {
    /// The tenant, if it exists.
    pub async fn find_tenant(&mut self, id: &TenantId) -> Result<Option<Tenant>> {
        const SQL: &str = concat!("select ", columns!(), " from tenants where id = $1");
        let row: Option<TenantRow> = find_row!(self, SQL, id.as_str())?;
        row.map(TenantRow::tenant).transpose()
    }

    /// The tenant of a credential, if both exist.
    pub async fn find_tenant_of(&mut self, credential: &CredentialId) -> Result<Option<Tenant>> {
        const SQL: &str = concat!(
            "select ",
            columns!(),
            " from tenants where id = (select tenant_id from credentials where id = $1)"
        );
        let row: Option<TenantRow> = find_row!(self, SQL, credential.as_str())?;
        row.map(TenantRow::tenant).transpose()
    }

    /// A page of tenants, by id.
    pub async fn list_tenants(&mut self, page: &PageRequest) -> Result<Page<Tenant>> {
        const SQL: &str =
            concat!("select ", columns!(), " from tenants where id > $1 order by id limit $2");
        let rows: Vec<TenantRow> =
            list_rows!(self, SQL, page.after.as_deref().unwrap_or_default(), page.limit())?;
        let tenants = rows.into_iter().map(TenantRow::tenant).collect::<Result<_>>()?;
        Ok(page.page(tenants, |tenant| tenant.id.to_string()))
    }
}

impl Tx {
    /// Locks a tenant and returns it, if it exists. Writers of one tenant wait for each other, so
    /// what a transaction reads of the tenant does not change before its commit.
    pub async fn lock_tenant(&mut self, id: &TenantId) -> Result<Option<Tenant>> {
        const SQL: &str =
            concat!("update tenants set revision = revision where id = $1 returning ", columns!());
        let row: Option<TenantRow> = find_row!(self, SQL, id.as_str())?;
        row.map(TenantRow::tenant).transpose()
    }

    /// Locks several tenants in the order of their ids, so that transactions cannot deadlock.
    pub async fn lock_tenants(&mut self, ids: &BTreeSet<&TenantId>) -> Result<()> {
        const SQL: &str = "select count(*) from (select id from tenants \
            where id = any(string_to_array($1, ' ')) order by id for no key update) x";
        if !self.is_postgres() {
            // SQLite has one writer at a time, so this transaction is the only one.
            return Ok(());
        }
        let ids = joined(ids.iter().map(|id| id.as_str()));
        one_value!(self, SQL, ids).map(|_: i64| ())
    }

    /// Adds a tenant; `false` if there is one with this id.
    pub async fn insert_tenant(&mut self, tenant: &Tenant) -> Result<bool> {
        const SQL: &str = "insert into tenants (id, display_name, default_audience, \
            additional_audiences, access_token_lifetime_seconds, disabled, epoch, revision, \
            created_at, updated_at, api_credentials_disabled, max_credentials, allowed_owners, \
            secrets_viewable, fixed_fields, max_credential_lifetime_seconds, default_limits, \
            tenant_limits, user_deletion, max_limits, api_credentials_disabled_by_platform, \
            allowed_credential_kinds, require_bound_tokens, token_claims) values \
            ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
            $20, $21, $22, $23, $24) on conflict do nothing";
        self.write_tenant(SQL, tenant).await
    }

    /// Sets the first epoch of a new tenant. Returns its life, which a trigger has set and which
    /// tells it from deleted tenants with the same name.
    pub async fn set_first_epoch(&mut self, id: &TenantId, epoch: i64) -> Result<i64> {
        const SQL: &str = "update tenants set epoch = $2 where id = $1 returning life";
        one_value!(self, SQL, id.as_str(), epoch)
    }

    /// Updates a tenant; `false` if it was deleted or changed by another request.
    pub async fn update_tenant(&mut self, tenant: &Tenant) -> Result<bool> {
        const SQL: &str = "update tenants set display_name = $2, default_audience = $3, \
            additional_audiences = $4, access_token_lifetime_seconds = $5, disabled = $6, \
            epoch = $7, revision = $8, created_at = $9, updated_at = $10, \
            api_credentials_disabled = $11, max_credentials = $12, allowed_owners = $13, \
            secrets_viewable = $14, fixed_fields = $15, max_credential_lifetime_seconds = $16, \
            default_limits = $17, tenant_limits = $18, user_deletion = $19, \
            max_limits = $20, api_credentials_disabled_by_platform = $21, \
            allowed_credential_kinds = $22, require_bound_tokens = $23, token_claims = $24 \
            where id = $1 and revision = $8 - 1";
        self.write_tenant(SQL, tenant).await
    }

    /// Runs a statement with all columns of a tenant, in the order of the table.
    async fn write_tenant(&mut self, sql: &'static str, tenant: &Tenant) -> Result<bool> {
        let settings = &tenant.settings;
        let policy = &settings.policy;
        execute!(
            self,
            sql,
            tenant.id.as_str(),
            &settings.display_name,
            settings.default_audience.as_str(),
            joined(settings.additional_audiences.iter().map(Audience::as_str)),
            settings.access_token_lifetime.seconds(),
            settings.disabled,
            tenant.epoch,
            tenant.record.revision,
            tenant.record.created_at.as_microsecond(),
            tenant.record.updated_at.as_microsecond(),
            policy.api_credentials_disabled,
            policy.max_credentials,
            joined(&policy.allowed_owners),
            policy.secrets_viewable,
            joined(&policy.fixed_fields),
            policy.max_credential_lifetime.map(Lifetime::seconds),
            limits_text(policy.default_limits),
            limits_text(policy.tenant_limits),
            policy.user_deletion.into_str(),
            limits_text(policy.max_limits),
            policy.api_credentials_disabled_by_platform,
            joined(&policy.allowed_credential_kinds),
            policy.require_bound_tokens,
            Some(&policy.token_claims).filter(|claims| !claims.is_empty()).map(TokenClaims::json)
        )
        .map(|rows| rows == 1)
    }

    /// Gives a tenant a new revision after a change of its data in another table.
    pub async fn touch_tenant(&mut self, id: &TenantId, now: Timestamp) -> Result<()> {
        const SQL: &str =
            "update tenants set revision = revision + 1, updated_at = $2 where id = $1";
        execute!(self, SQL, id.as_str(), now.as_microsecond()).map(drop)
    }

    /// Deletes a tenant with all its resources.
    pub async fn delete_tenant(&mut self, id: &TenantId) -> Result<()> {
        const SQL: &str = "delete from tenants where id = $1";
        execute!(self, SQL, id.as_str()).map(drop)
    }
}
