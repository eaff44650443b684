//! The tables of credentials and their secrets.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, FromRow};

use super::row::{RowRef, last_use, limits, limits_text, micros, moment, record};
use super::{FoundResources, Session, Tx, execute, find_row, list_rows, list_values, one_value};
use crate::clock::from_microsecond;
use crate::domain::{
    ApplicationId, ApplicationName, Client, Credential, CredentialFilter, CredentialId,
    CredentialKind, CredentialName, CredentialSettings, Fault, Lifetime, Page, PageRequest,
    Registration, SecretRecord, TenantId, UserId,
};
use crate::error::Result;

#[derive(FromRow)]
struct CredentialRow {
    id: String,
    tenant_id: String,
    application_id: String,
    kind: String,
    display_name: String,
    expires_at: Option<i64>,
    disabled: bool,
    disabled_by_platform: bool,
    limits: Option<String>,
    registration: Option<String>,
    certificate_bound_tokens: bool,
    last_used_at: i64,
    last_used_address: Option<String>,
    epoch: i64,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

#[derive(FromRow)]
struct SecretRow {
    credential_id: String,
    version: i64,
    hash: String,
    last_four: String,
    sealed: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
}

/// Statements name their columns, because a replica of the previous version may run on a schema
/// with more columns.
macro_rules! columns {
    () => {
        "c.id, c.tenant_id, c.application_id, c.kind, c.display_name, c.expires_at, c.disabled, \
         c.disabled_by_platform, c.limits, c.registration, c.certificate_bound_tokens, \
         c.last_used_at, c.last_used_address, c.epoch, c.revision, c.created_at, c.updated_at"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("select ", columns!(), " from credentials c ", $rest)
    };
}

impl CredentialRow {
    fn credential(self, secrets: Vec<SecretRow>) -> Result<Credential> {
        let at = RowRef { table: "credentials", key: &self.id };
        let kind = self.kind.parse::<CredentialKind>().map_err(|_| {
            Fault::new(format!("is {:?}, which is not a kind of credential", self.kind))
        });
        let registration = self.registration.as_deref().map(Registration::from_json);
        Ok(Credential {
            name: CredentialName {
                application: ApplicationName {
                    tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
                    application: at
                        .column("application_id", ApplicationId::parse(&self.application_id))?,
                },
                credential: at.column("id", CredentialId::parse(&self.id))?,
            },
            kind: at.column("kind", kind)?,
            settings: CredentialSettings {
                display_name: self.display_name,
                expires_at: moment(self.expires_at),
                disabled: self.disabled,
                disabled_by_platform: self.disabled && self.disabled_by_platform,
                limits: limits(at, "limits", self.limits.as_deref())?,
                registration: at.column("registration", registration.transpose())?,
                certificate_bound_tokens: self.certificate_bound_tokens,
            },
            secrets: secrets.into_iter().map(SecretRow::secret).collect(),
            last_use: last_use(self.last_used_at, self.last_used_address),
            epoch: self.epoch,
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

impl SecretRow {
    fn secret(self) -> SecretRecord {
        SecretRecord {
            version: self.version,
            hash: self.hash,
            last_four: self.last_four,
            sealed: self.sealed,
            created_at: from_microsecond(self.created_at),
            expires_at: self.expires_at.map(from_microsecond),
        }
    }
}

impl Session {
    /// The credential, if it exists.
    pub async fn find_credential(&mut self, name: &CredentialName) -> Result<Option<Credential>> {
        const SQL: &str = select!("where c.tenant_id = $1 and c.application_id = $2 and c.id = $3");
        let row: Option<CredentialRow> = find_row!(
            self,
            SQL,
            name.application.tenant.as_str(),
            name.application.application.as_str(),
            name.credential.as_str()
        )?;
        self.with_secrets(row).await
    }

    /// The credential that the request with this id created, if it exists.
    pub async fn find_credential_by_request(
        &mut self,
        application: &ApplicationName,
        request_id: &str,
    ) -> Result<Option<Credential>> {
        const SQL: &str =
            select!("where c.tenant_id = $1 and c.application_id = $2 and c.request_id = $3");
        let row: Option<CredentialRow> = find_row!(
            self,
            SQL,
            application.tenant.as_str(),
            application.application.as_str(),
            request_id
        )?;
        self.with_secrets(row).await
    }

    /// The client with this id, its application and its tenant, if it exists. Only the id of the
    /// client determines the tenant. An unknown id runs the same statements, so that timing does
    /// not reveal which ids exist.
    pub async fn find_client(&mut self, id: &CredentialId) -> Result<Option<Client>> {
        const SQL: &str = select!("where c.id = $1");
        let row: Option<CredentialRow> = find_row!(self, SQL, id.as_str())?;
        let secrets = self.secrets_of(id.as_str()).await?;
        let application = self.find_application_of(id).await?;
        let tenant = self.find_tenant_of(id).await?;
        // Each of them may have been deleted between the reads.
        let (Some(row), Some(application), Some(tenant)) = (row, application, tenant) else {
            return Ok(None);
        };
        Ok(Some(Client::new(tenant, application, &row.credential(secrets)?)))
    }

    /// The hash of a version of a credential's secret, if it exists.
    pub async fn find_secret_hash(
        &mut self,
        credential: &CredentialId,
        version: i64,
    ) -> Result<Option<String>> {
        const SQL: &str = "select hash from secrets where credential_id = $1 and version = $2";
        let hash: Option<(String,)> = find_row!(self, SQL, credential.as_str(), version)?;
        Ok(hash.map(|(hash,)| hash))
    }

    /// A page of the credentials of an application or a tenant, by id. `max_lifetime` is the limit
    /// of the tenant's policy.
    pub async fn list_credentials(
        &mut self,
        tenant: &TenantId,
        application: Option<&ApplicationId>,
        filter: &CredentialFilter,
        max_lifetime: Option<Lifetime>,
        page: &PageRequest,
    ) -> Result<Page<Credential>> {
        // The condition is left out for a tenant, so that the database uses the matching index.
        let one = if application.is_some() { "c.application_id = $2" } else { "$2 = $2" };
        let wanted = format!(
            "from credentials c \
             join applications a on a.tenant_id = c.tenant_id and a.id = c.application_id \
             where c.tenant_id = $1 and {one} \
               and ((a.owner_user_id is null and $3) or (a.owner_user_id is not null and $4) \
                 or a.owner_user_id = $5) \
               and (($6 is null and $7 is null) \
                 or c.expires_at < $6 or a.expires_at < $6 or c.created_at + $8 < $6 \
                 or (c.created_at < $7 and c.last_used_at < $7)) \
               and c.id > $9 order by c.id limit $10"
        );
        macro_rules! read {
            ($sql:expr) => {
                list_rows!(
                    self,
                    AssertSqlSafe($sql),
                    tenant.as_str(),
                    application.map_or("", ApplicationId::as_str),
                    filter.owners.account,
                    filter.owners.users,
                    filter.owners.user.as_ref().map_or("", UserId::as_str),
                    micros(filter.expire_before),
                    micros(filter.unused_since),
                    max_lifetime.map(|lifetime| lifetime.seconds() * 1_000_000),
                    page.after.as_deref().unwrap_or_default(),
                    page.limit()
                )?
            };
        }
        let rows: Vec<CredentialRow> = read!(format!("select {} {wanted}", columns!()));
        let secrets: Vec<SecretRow> = read!(format!(
            "select credential_id, version, hash, last_four, sealed, created_at, expires_at \
             from secrets where credential_id in (select c.id {wanted}) order by version desc"
        ));
        let mut secrets_by_credential: HashMap<String, Vec<SecretRow>> = HashMap::new();
        for secret in secrets {
            secrets_by_credential.entry(secret.credential_id.clone()).or_default().push(secret);
        }
        let credentials = rows
            .into_iter()
            .map(|row| {
                let secrets = secrets_by_credential.remove(&row.id).unwrap_or_default();
                row.credential(secrets)
            })
            .collect::<Result<_>>()?;
        Ok(page.page(credentials, |c| c.name.credential.to_string()))
    }

    /// The credentials of an application.
    pub async fn credentials_of(
        &mut self,
        application: &ApplicationName,
    ) -> Result<FoundResources> {
        const COUNT: &str =
            "select count(*) from credentials where tenant_id = $1 and application_id = $2";
        const FIRST: &str = "select 'tenants/' || tenant_id || '/applications/' || application_id \
            || '/credentials/' || id from credentials \
            where tenant_id = $1 and application_id = $2 order by id limit 10";
        let (tenant, id) = (application.tenant.as_str(), application.application.as_str());
        Ok(FoundResources {
            count: one_value!(self, COUNT, tenant, id)?,
            first: list_values!(self, FIRST, tenant, id)?,
        })
    }

    pub async fn count_credentials(&mut self, tenant: &TenantId) -> Result<i64> {
        const SQL: &str = "select count(*) from credentials where tenant_id = $1";
        one_value!(self, SQL, tenant.as_str())
    }

    async fn with_secrets(&mut self, row: Option<CredentialRow>) -> Result<Option<Credential>> {
        let Some(row) = row else {
            return Ok(None);
        };
        let secrets = self.secrets_of(&row.id).await?;
        row.credential(secrets).map(Some)
    }

    async fn secrets_of(&mut self, credential: &str) -> Result<Vec<SecretRow>> {
        const SQL: &str = "select credential_id, version, hash, last_four, sealed, created_at, \
            expires_at from secrets where credential_id = $1 order by version desc";
        list_rows!(self, SQL, credential)
    }
}

impl Tx {
    /// Adds a credential with its secrets; `false` if this request has already created one.
    pub async fn insert_credential(
        &mut self,
        credential: &Credential,
        request_id: Option<&str>,
    ) -> Result<bool> {
        const SQL: &str = "insert into credentials (id, tenant_id, application_id, kind, \
            display_name, expires_at, disabled, epoch, revision, request_id, created_at, \
            updated_at, limits, disabled_by_platform, registration, certificate_bound_tokens) \
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
            on conflict do nothing";
        let (name, settings, record) = (&credential.name, &credential.settings, &credential.record);
        let inserted = execute!(
            self,
            SQL,
            name.credential.as_str(),
            name.application.tenant.as_str(),
            name.application.application.as_str(),
            credential.kind.into_str(),
            &settings.display_name,
            micros(settings.expires_at),
            settings.disabled,
            credential.epoch,
            record.revision,
            request_id,
            record.created_at.as_microsecond(),
            record.updated_at.as_microsecond(),
            limits_text(settings.limits),
            settings.disabled_by_platform,
            settings.registration.as_ref().map(Registration::to_json),
            settings.certificate_bound_tokens
        )
        .map(|rows| rows == 1)?;
        if inserted {
            self.set_federated(credential).await?;
            for secret in &credential.secrets {
                self.insert_secret(&name.credential, secret).await?;
            }
        }
        Ok(inserted)
    }

    /// Updates a credential; `false` if it was deleted or changed by another request.
    pub async fn update_credential(&mut self, credential: &Credential) -> Result<bool> {
        const SQL: &str = "update credentials set display_name = $1, expires_at = $2, \
            disabled = $3, epoch = $4, revision = $5, updated_at = $6, limits = $8, \
            disabled_by_platform = $9, registration = $10, certificate_bound_tokens = $11 \
            where id = $7 and revision = $5 - 1";
        let (settings, record) = (&credential.settings, &credential.record);
        let updated = execute!(
            self,
            SQL,
            &settings.display_name,
            micros(settings.expires_at),
            settings.disabled,
            credential.epoch,
            record.revision,
            record.updated_at.as_microsecond(),
            credential.name.credential.as_str(),
            limits_text(settings.limits),
            settings.disabled_by_platform,
            settings.registration.as_ref().map(Registration::to_json),
            settings.certificate_bound_tokens
        )
        .map(|rows| rows == 1)?;
        if updated {
            self.set_federated(credential).await?;
        }
        Ok(updated)
    }

    /// Adds a new secret. The older ones expire at `older_end` at the latest. Those that have
    /// expired when the new one is created are deleted.
    pub async fn add_secret(
        &mut self,
        credential: &CredentialId,
        secret: &SecretRecord,
        older_end: Timestamp,
    ) -> Result<()> {
        const END: &str = "update secrets set expires_at = $2 \
            where credential_id = $1 and (expires_at is null or expires_at > $2)";
        const UNSEAL: &str = "update secrets set sealed = null where credential_id = $1";
        const PURGE: &str = "delete from secrets where credential_id = $1 and expires_at <= $2";
        execute!(self, END, credential.as_str(), older_end.as_microsecond()).map(drop)?;
        // Only the newest secret can be viewed again.
        execute!(self, UNSEAL, credential.as_str()).map(drop)?;
        execute!(self, PURGE, credential.as_str(), secret.created_at.as_microsecond()).map(drop)?;
        self.insert_secret(credential, secret).await
    }

    /// Replaces the hash of a secret, if it is still `old`; `false` if it is not.
    pub async fn replace_secret_hash(
        &mut self,
        credential: &CredentialId,
        version: i64,
        old: &str,
        new: &str,
    ) -> Result<bool> {
        const SQL: &str = "update secrets set hash = $4 \
            where credential_id = $1 and version = $2 and hash = $3";
        execute!(self, SQL, credential.as_str(), version, old, new).map(|rows| rows == 1)
    }

    /// Deletes the sealed copies of a tenant's secrets, and returns how many.
    pub async fn destroy_sealed_secrets(&mut self, tenant: &TenantId) -> Result<u64> {
        const SQL: &str = "update secrets set sealed = null where sealed is not null \
            and credential_id in (select id from credentials where tenant_id = $1)";
        execute!(self, SQL, tenant.as_str())
    }

    /// Deletes a credential with its secrets.
    pub async fn delete_credential(&mut self, id: &CredentialId) -> Result<()> {
        const SQL: &str = "delete from credentials where id = $1";
        execute!(self, SQL, id.as_str()).map(drop)
    }

    async fn insert_secret(
        &mut self,
        credential: &CredentialId,
        secret: &SecretRecord,
    ) -> Result<()> {
        const SQL: &str = "insert into secrets (credential_id, version, hash, last_four, \
            created_at, expires_at, sealed) values ($1, $2, $3, $4, $5, $6, $7)";
        execute!(
            self,
            SQL,
            credential.as_str(),
            secret.version,
            &secret.hash,
            &secret.last_four,
            secret.created_at.as_microsecond(),
            secret.expires_at.map(Timestamp::as_microsecond),
            secret.sealed.as_deref()
        )
        .map(drop)
    }
}
