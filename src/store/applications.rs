//! The tables of applications.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::FromRow;

use super::folding::{folded_from, search_name};
use super::row::{RowRef, joined, last_use, limits, limits_text, micros, moment, record};
use super::{FoundResources, Session, Tx, execute, find_row, list_values, one_value};
use crate::clock::from_microsecond;
use crate::domain::{
    Application, ApplicationId, ApplicationKey, ApplicationName, ApplicationSettings, Audience,
    CredentialId, Fault, Owner, RoleId, ScopeSet, SecretEnd, TenantId, TokenLifetime, UserId,
    effective_scopes,
};
use crate::error::Result;

#[derive(FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "a row has the columns that its table has")]
pub(super) struct ApplicationRow {
    tenant_id: String,
    id: String,
    owner_user_id: Option<String>,
    owner_disabled: Option<bool>,
    display_name: String,
    description: String,
    contact_email: String,
    scopes: Option<String>,
    enabled_scopes: Option<String>,
    roles: Option<String>,
    role_scopes: Option<String>,
    owner_scopes: Option<String>,
    secret_ends: Option<String>,
    expires_at: Option<i64>,
    disabled: bool,
    disabled_by_platform: bool,
    protected: bool,
    limits: Option<String>,
    limits_lifted: bool,
    exchange_audiences: String,
    access_token_lifetime_seconds: Option<i64>,
    last_used_at: i64,
    last_used_address: Option<String>,
    search_name: String,
    epoch: i64,
    life: i64,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

/// One statement reads an application with its roles and scopes, so that they belong to the same
/// epoch. `$1` is false.
macro_rules! select {
    ($rest:literal) => {
        $crate::store::applications::select!(
            // The latest ends come first, so that the limit does not cut off valid secrets.
            "(select string_agg(x.ends, ' ') from ( \
                 select s.last_four || ':' || coalesce(s.expires_at, 0) || ':' \
                     || coalesce(c.expires_at, 0) as ends \
                   from credentials c join secrets s on s.credential_id = c.id \
                   where c.tenant_id = a.tenant_id and c.application_id = a.id \
                     and c.disabled = $1 \
                   order by case when c.expires_at is null or s.expires_at < c.expires_at \
                       then coalesce(s.expires_at, 9223372036854775807) else c.expires_at end desc, \
                     s.created_at desc limit 10) x)",
            "(select l.last_used_at from application_uses l \
                 where l.tenant_id = a.tenant_id and l.application_id = a.id)",
            "(select l.last_used_address from application_uses l \
                 where l.tenant_id = a.tenant_id and l.application_id = a.id)",
            $rest
        )
    };
    ($secret_ends:literal, $used_at:literal, $used_from:literal, $rest:literal) => {
        concat!(
            "select a.tenant_id, a.id, a.owner_user_id, a.display_name, a.description, \
             a.contact_email, a.expires_at, a.disabled, a.disabled_by_platform, a.protected, \
             a.limits, a.limits_lifted, a.exchange_audiences, a.access_token_lifetime_seconds, \
             a.search_name, a.epoch, a.life, a.revision, a.created_at, a.updated_at, \
               (select string_agg(h.scope, ' ') from application_scopes h \
                 where h.tenant_id = a.tenant_id and h.application_id = a.id) as scopes, \
               (select string_agg(h.scope, ' ') from application_scopes h \
                 join scopes s on s.tenant_id = h.tenant_id and s.name = h.scope \
                 where h.tenant_id = a.tenant_id and h.application_id = a.id \
                   and s.disabled = $1) as enabled_scopes, \
               (select string_agg(h.role_id, ' ') from application_roles h \
                 where h.tenant_id = a.tenant_id and h.application_id = a.id) as roles, \
               (select string_agg(s.name, ' ') from application_roles h \
                 join roles r on r.tenant_id = h.tenant_id and r.id = h.role_id \
                 join scopes s on s.tenant_id = h.tenant_id and s.disabled = $1 \
                 where h.tenant_id = a.tenant_id and h.application_id = a.id \
                   and (r.all_scopes or exists (select 1 from role_scopes g \
                     where g.tenant_id = r.tenant_id and g.role_id = r.id and g.scope = s.name)) \
               ) as role_scopes, \
               (select string_agg(s.name, ' ') from user_roles h \
                 join roles r on r.tenant_id = h.tenant_id and r.id = h.role_id \
                 join scopes s on s.tenant_id = h.tenant_id and s.disabled = $1 \
                 where h.tenant_id = a.tenant_id and h.user_id = a.owner_user_id \
                   and (r.all_scopes or exists (select 1 from role_scopes g \
                     where g.tenant_id = r.tenant_id and g.role_id = r.id and g.scope = s.name)) \
               ) as owner_scopes, \
               (select u.disabled from users u \
                 where u.tenant_id = a.tenant_id and u.id = a.owner_user_id) as owner_disabled, ",
            $secret_ends,
            " as secret_ends, ",
            $used_at,
            " as last_used_at, ",
            $used_from,
            " as last_used_address \
             from applications a where ",
            $rest
        )
    };
}
pub(super) use select;

impl ApplicationRow {
    /// The cursor after this row in a list with this order: the id, and the key in the database.
    pub(super) fn cursor(&self, key: ApplicationKey) -> String {
        let key = match key {
            ApplicationKey::Name => String::new(),
            ApplicationKey::DisplayName => self.search_name.clone(),
            ApplicationKey::CreateTime => self.created_at.to_string(),
            ApplicationKey::LastUseTime => self.last_used_at.to_string(),
        };
        format!("{} {key}", self.id)
    }

    pub(super) fn application(self) -> Result<Application> {
        let at = RowRef { table: "applications", key: &self.id };
        let scopes = |set: Option<String>| ScopeSet::parse(&set.unwrap_or_default());
        let owner = match &self.owner_user_id {
            None => Owner::Account,
            Some(user) => Owner::User(at.column("owner_user_id", UserId::parse(user))?),
        };
        let ceiling = match owner {
            Owner::Account => None,
            Owner::User(_) => Some(at.column("owner_scopes", scopes(self.owner_scopes))?),
        };
        let roles: Result<_, Fault> =
            self.roles.iter().flat_map(|all| all.split(' ')).map(RoleId::parse).collect();
        let lifetime = self.access_token_lifetime_seconds.map(TokenLifetime::from_seconds);
        let exchange = self.exchange_audiences.split_whitespace().map(Audience::parse).collect();
        Ok(Application {
            name: ApplicationName {
                tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
                application: at.column("id", ApplicationId::parse(&self.id))?,
            },
            // A deleted owner counts as disabled.
            owner_disabled: ceiling.is_some() && self.owner_disabled.unwrap_or(true),
            owner,
            settings: ApplicationSettings {
                scopes: at.column("scopes", scopes(self.scopes))?,
                roles: at.column("roles", roles)?,
                display_name: self.display_name,
                description: self.description,
                contact_email: self.contact_email,
                expires_at: moment(self.expires_at),
                disabled: self.disabled,
                disabled_by_platform: self.disabled && self.disabled_by_platform,
                protected: self.protected,
                limits: limits(at, "limits", self.limits.as_deref())?,
                limits_lifted: self.limits_lifted,
                exchange_audiences: at.column("exchange_audiences", exchange)?,
                access_token_lifetime: at
                    .column("access_token_lifetime_seconds", lifetime.transpose())?,
            },
            effective_scopes: effective_scopes(
                at.column("enabled_scopes", scopes(self.enabled_scopes))?,
                &at.column("role_scopes", scopes(self.role_scopes))?,
                ceiling.as_ref(),
            ),
            secret_ends: self.secret_ends.iter().flat_map(|all| secret_ends(all)).collect(),
            last_use: last_use(self.last_used_at, self.last_used_address),
            epoch: self.epoch,
            life: self.life,
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

/// Parses `secret_ends` of the statement above: for each secret the last four characters, its
/// expiry and the expiry of its credential. 0 means never.
fn secret_ends(all: &str) -> impl Iterator<Item = SecretEnd> {
    all.split(' ').filter_map(|one| {
        let mut parts = one.split(':');
        let last_four = parts.next()?.to_owned();
        let ends = parts.filter_map(|end| end.parse().ok()).filter(|end| *end != 0).min();
        Some(SecretEnd { last_four, expires_at: ends.map(from_microsecond) })
    })
}

impl Session {
    /// The application, if it exists.
    pub async fn find_application(
        &mut self,
        name: &ApplicationName,
    ) -> Result<Option<Application>> {
        const SQL: &str = select!("a.tenant_id = $2 and a.id = $3");
        let row: Option<ApplicationRow> =
            find_row!(self, SQL, false, name.tenant.as_str(), name.application.as_str())?;
        row.map(ApplicationRow::application).transpose()
    }

    /// The application of a credential, if both exist. Without the ends of its secrets and its last
    /// use, because token requests do not need them.
    pub async fn find_application_of(
        &mut self,
        credential: &CredentialId,
    ) -> Result<Option<Application>> {
        const SQL: &str = select!(
            "null",
            "cast(0 as bigint)",
            "null",
            "(a.tenant_id, a.id) = \
             (select tenant_id, application_id from credentials where id = $2)"
        );
        let row: Option<ApplicationRow> = find_row!(self, SQL, false, credential.as_str())?;
        row.map(ApplicationRow::application).transpose()
    }

    /// The application that the request with this id created, if it exists.
    pub async fn find_application_by_request(
        &mut self,
        tenant: &TenantId,
        request_id: &str,
    ) -> Result<Option<Application>> {
        const SQL: &str = select!("a.tenant_id = $2 and a.request_id = $3");
        let row: Option<ApplicationRow> = find_row!(self, SQL, false, tenant.as_str(), request_id)?;
        row.map(ApplicationRow::application).transpose()
    }
}

impl Tx {
    /// Adds an application; `false` if there is one with this id or from this request.
    pub async fn insert_application(
        &mut self,
        application: &Application,
        request_id: Option<&str>,
    ) -> Result<bool> {
        const SQL: &str = "insert into applications (tenant_id, id, display_name, description, \
            contact_email, expires_at, disabled, epoch, revision, request_id, created_at, \
            updated_at, owner_user_id, protected, limits, search_name, limits_lifted, \
            disabled_by_platform, folded_from, exchange_audiences, \
            access_token_lifetime_seconds) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
            $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) \
            on conflict do nothing";
        let (settings, record) = (&application.settings, &application.record);
        let inserted = execute!(
            self,
            SQL,
            application.name.tenant.as_str(),
            application.name.application.as_str(),
            &settings.display_name,
            &settings.description,
            &settings.contact_email,
            micros(settings.expires_at),
            settings.disabled,
            application.epoch,
            record.revision,
            request_id,
            record.created_at.as_microsecond(),
            record.updated_at.as_microsecond(),
            application.owner.user().map(UserId::as_str),
            settings.protected,
            limits_text(settings.limits),
            search_name(&settings.display_name),
            settings.limits_lifted,
            settings.disabled_by_platform,
            folded_from(&settings.display_name),
            joined(&settings.exchange_audiences),
            settings.access_token_lifetime.map(TokenLifetime::seconds)
        )
        .map(|rows| rows == 1)?;
        if inserted {
            self.replace_scopes(&application.name, settings.scopes.iter()).await?;
            self.replace_roles(&application.name, &settings.roles).await?;
        }
        Ok(inserted)
    }

    /// Updates an application; `false` if it was deleted or changed by another request. Writes
    /// scopes and roles only if they differ from `before`.
    pub async fn update_application(
        &mut self,
        application: &Application,
        before: &ApplicationSettings,
    ) -> Result<bool> {
        const SQL: &str = "update applications set display_name = $1, description = $2, \
            contact_email = $3, expires_at = $4, disabled = $5, epoch = $6, revision = $7, \
            updated_at = $8, protected = $11, limits = $12, search_name = $13, \
            limits_lifted = $14, disabled_by_platform = $15, folded_from = $16, \
            exchange_audiences = $17, access_token_lifetime_seconds = $18 \
            where tenant_id = $9 and id = $10 and revision = $7 - 1";
        let (settings, record) = (&application.settings, &application.record);
        let updated = execute!(
            self,
            SQL,
            &settings.display_name,
            &settings.description,
            &settings.contact_email,
            micros(settings.expires_at),
            settings.disabled,
            application.epoch,
            record.revision,
            record.updated_at.as_microsecond(),
            application.name.tenant.as_str(),
            application.name.application.as_str(),
            settings.protected,
            limits_text(settings.limits),
            search_name(&settings.display_name),
            settings.limits_lifted,
            settings.disabled_by_platform,
            folded_from(&settings.display_name),
            joined(&settings.exchange_audiences),
            settings.access_token_lifetime.map(TokenLifetime::seconds)
        )
        .map(|rows| rows == 1)?;
        if updated && settings.scopes != before.scopes {
            self.replace_scopes(&application.name, settings.scopes.iter()).await?;
        }
        if updated && settings.roles != before.roles {
            self.replace_roles(&application.name, &settings.roles).await?;
        }
        Ok(updated)
    }

    /// Deletes an application with its credentials.
    pub async fn delete_application(&mut self, name: &ApplicationName) -> Result<()> {
        const SQL: &str = "delete from applications where tenant_id = $1 and id = $2";
        execute!(self, SQL, name.tenant.as_str(), name.application.as_str()).map(drop)
    }

    pub async fn tenant_applications(&mut self, tenant: &TenantId) -> Result<FoundResources> {
        const COUNT: &str = "select count(*) from applications where tenant_id = $1";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || id \
            from applications where tenant_id = $1 order by id limit 10";
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant.as_str())?,
            first: list_values!(self, FIRST, tenant.as_str())?,
        })
    }

    /// Transfers a user's applications to another user. Raises their epochs, because the new owner
    /// can have fewer scopes.
    pub async fn transfer_applications(
        &mut self,
        tenant: &TenantId,
        from: &UserId,
        to: &UserId,
        now: Timestamp,
    ) -> Result<()> {
        const SQL: &str = "update applications set owner_user_id = $4, \
            epoch = epoch + 1, revision = revision + 1, updated_at = $3 \
            where tenant_id = $1 and owner_user_id = $2";
        execute!(self, SQL, tenant.as_str(), from.as_str(), now.as_microsecond(), to.as_str())
            .map(drop)
    }

    async fn replace_roles(
        &mut self,
        application: &ApplicationName,
        roles: &BTreeSet<RoleId>,
    ) -> Result<()> {
        const DELETE: &str =
            "delete from application_roles where tenant_id = $1 and application_id = $2";
        const INSERT: &str = "insert into application_roles (tenant_id, application_id, role_id) \
            values ($1, $2, $3)";
        let (tenant, id) = (application.tenant.as_str(), application.application.as_str());
        execute!(self, DELETE, tenant, id).map(drop)?;
        for role in roles {
            execute!(self, INSERT, tenant, id, role.as_str()).map(drop)?;
        }
        Ok(())
    }
}
