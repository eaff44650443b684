//! Credentials and their secrets' hashes in tables.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::FromRow;

use super::row::{At, micros, moment, record};
use super::{Session, Tx, execute, find_row, list_rows};
use crate::clock::from_microsecond;
use crate::domain::{
    ApplicationId, ApplicationName, Client, Credential, CredentialId, CredentialKind,
    CredentialName, CredentialSettings, Fault, Page, PageRequest, SecretRecord, TenantId,
};
use crate::error::Result;

#[derive(FromRow)]
struct Row {
    id: String,
    tenant_id: String,
    application_id: String,
    kind: String,
    display_name: String,
    expires_at: Option<i64>,
    disabled: bool,
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
    created_at: i64,
    expires_at: Option<i64>,
}

/// Named, since a replica of the version before may run on a schema with more.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, tenant_id, application_id, kind, display_name, expires_at, disabled, \
             epoch, revision, created_at, updated_at from credentials ",
            $rest
        )
    };
}

impl Row {
    fn credential(self, secrets: Vec<SecretRow>) -> Result<Credential> {
        let at = At { table: "credentials", key: &self.id };
        let kind = CredentialKind::parse(&self.kind)
            .ok_or_else(|| Fault::new(format!("is {:?}, no kind of credential", self.kind)));
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
            },
            secrets: secrets.into_iter().map(SecretRow::secret).collect(),
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
            created_at: from_microsecond(self.created_at),
            expires_at: moment(self.expires_at),
        }
    }
}

impl Session {
    /// The credential, if it exists.
    pub async fn find_credential(&mut self, name: &CredentialName) -> Result<Option<Credential>> {
        const SQL: &str = select!("where tenant_id = $1 and application_id = $2 and id = $3");
        let row: Option<Row> = find_row!(
            self,
            SQL,
            name.application.tenant.as_str(),
            name.application.application.as_str(),
            name.credential.as_str()
        )?;
        self.with_secrets(row).await
    }

    /// The credential that a request of this id made, if it exists.
    pub async fn find_credential_by_request(
        &mut self,
        application: &ApplicationName,
        request_id: &str,
    ) -> Result<Option<Credential>> {
        const SQL: &str =
            select!("where tenant_id = $1 and application_id = $2 and request_id = $3");
        let row: Option<Row> = find_row!(
            self,
            SQL,
            application.tenant.as_str(),
            application.application.as_str(),
            request_id
        )?;
        self.with_secrets(row).await
    }

    /// The client of this id with all that stands above it, if it exists. The client
    /// id alone tells the tenant: nobody else's word for it is taken. One that does not
    /// exist costs the same statements.
    pub async fn find_client(&mut self, id: &CredentialId) -> Result<Option<Client>> {
        const SQL: &str = select!("where id = $1");
        let row: Option<Row> = find_row!(self, SQL, id.as_str())?;
        let secrets = self.secrets_of(id.as_str()).await?;
        let application = self.find_application_of(id).await?;
        let tenant = self.find_tenant_of(id).await?;
        // Any may have been deleted since the one before was read, and it with them.
        let (Some(row), Some(application), Some(tenant)) = (row, application, tenant) else {
            return Ok(None);
        };
        Ok(Some(Client { tenant, application, credential: row.credential(secrets)? }))
    }

    /// A page of an application's credentials, by id.
    pub async fn list_credentials(
        &mut self,
        application: &ApplicationName,
        page: &PageRequest,
    ) -> Result<Page<Credential>> {
        const SECRETS: &str = "select credential_id, version, hash, last_four, created_at, \
            expires_at from secrets where credential_id in (select id from credentials \
                where tenant_id = $1 and application_id = $2 and id > $3 order by id limit $4) \
            order by version desc";
        const SQL: &str = select!(
            "where tenant_id = $1 and application_id = $2 and id > $3 order by id limit $4"
        );
        let rows: Vec<Row> = list_rows!(
            self,
            SQL,
            application.tenant.as_str(),
            application.application.as_str(),
            page.after.as_deref().unwrap_or_default(),
            page.limit()
        )?;
        let secrets: Vec<SecretRow> = list_rows!(
            self,
            SECRETS,
            application.tenant.as_str(),
            application.application.as_str(),
            page.after.as_deref().unwrap_or_default(),
            page.limit()
        )?;
        let mut of: HashMap<String, Vec<SecretRow>> = HashMap::new();
        for secret in secrets {
            of.entry(secret.credential_id.clone()).or_default().push(secret);
        }
        let credentials = rows
            .into_iter()
            .map(|row| {
                let secrets = of.remove(&row.id).unwrap_or_default();
                row.credential(secrets)
            })
            .collect::<Result<_>>()?;
        Ok(page.page(credentials, |c| c.name.credential.to_string()))
    }

    async fn with_secrets(&mut self, row: Option<Row>) -> Result<Option<Credential>> {
        let Some(row) = row else {
            return Ok(None);
        };
        let secrets = self.secrets_of(&row.id).await?;
        row.credential(secrets).map(Some)
    }

    async fn secrets_of(&mut self, credential: &str) -> Result<Vec<SecretRow>> {
        const SQL: &str = "select credential_id, version, hash, last_four, created_at, expires_at \
            from secrets where credential_id = $1 order by version desc";
        list_rows!(self, SQL, credential)
    }
}

impl Tx {
    /// Adds a credential with its secrets; `false` if this request has made one.
    pub async fn insert_credential(
        &mut self,
        credential: &Credential,
        request_id: Option<&str>,
    ) -> Result<bool> {
        const SQL: &str = "insert into credentials (id, tenant_id, application_id, kind, \
            display_name, expires_at, disabled, epoch, revision, request_id, created_at, \
            updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
            on conflict do nothing";
        let (name, settings, record) = (&credential.name, &credential.settings, &credential.record);
        let inserted = execute!(
            self,
            SQL,
            name.credential.as_str(),
            name.application.tenant.as_str(),
            name.application.application.as_str(),
            credential.kind.as_str(),
            &settings.display_name,
            micros(settings.expires_at),
            settings.disabled,
            credential.epoch,
            record.revision,
            request_id,
            record.created_at.as_microsecond(),
            record.updated_at.as_microsecond()
        )
        .map(|rows| rows == 1)?;
        if inserted {
            for secret in &credential.secrets {
                self.insert_secret(&name.credential, secret).await?;
            }
        }
        Ok(inserted)
    }

    /// Writes a changed credential; `false` if it is gone or was changed meanwhile.
    pub async fn update_credential(&mut self, credential: &Credential) -> Result<bool> {
        const SQL: &str = "update credentials set display_name = $1, expires_at = $2, \
            disabled = $3, epoch = $4, revision = $5, updated_at = $6 \
            where id = $7 and revision = $5 - 1";
        let (settings, record) = (&credential.settings, &credential.record);
        execute!(
            self,
            SQL,
            &settings.display_name,
            micros(settings.expires_at),
            settings.disabled,
            credential.epoch,
            record.revision,
            record.updated_at.as_microsecond(),
            credential.name.credential.as_str()
        )
        .map(|rows| rows == 1)
    }

    /// Puts a new secret in front of those there are: they end at `older_end` at the
    /// latest, and those that have ended at `now` go.
    pub async fn add_secret(
        &mut self,
        credential: &CredentialId,
        secret: &SecretRecord,
        older_end: Timestamp,
    ) -> Result<()> {
        const END: &str = "update secrets set expires_at = $2 \
            where credential_id = $1 and (expires_at is null or expires_at > $2)";
        const PURGE: &str = "delete from secrets where credential_id = $1 and expires_at <= $2";
        execute!(self, END, credential.as_str(), older_end.as_microsecond()).map(drop)?;
        execute!(self, PURGE, credential.as_str(), secret.created_at.as_microsecond()).map(drop)?;
        self.insert_secret(credential, secret).await
    }

    /// Deletes a credential with its secrets' hashes.
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
            created_at, expires_at) values ($1, $2, $3, $4, $5, $6)";
        execute!(
            self,
            SQL,
            credential.as_str(),
            secret.version,
            &secret.hash,
            &secret.last_four,
            secret.created_at.as_microsecond(),
            micros(secret.expires_at)
        )
        .map(drop)
    }
}
