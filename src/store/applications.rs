//! Applications in tables.

use sqlx::FromRow;

use super::row::{At, micros, moment, record};
use super::{Session, Tx, execute, find_row, list_rows, list_values, one_value};
use crate::domain::{
    Application, ApplicationId, ApplicationName, ApplicationSettings, CredentialId, Page,
    PageRequest, ScopeSet, TenantId,
};
use crate::error::Result;

#[derive(FromRow)]
struct Row {
    tenant_id: String,
    id: String,
    display_name: String,
    description: String,
    contact_email: String,
    scopes: Option<String>,
    effective_scopes: Option<String>,
    expires_at: Option<i64>,
    disabled: bool,
    epoch: i64,
    revision: i64,
    created_at: i64,
    updated_at: i64,
}

/// One statement reads an application with its scopes, so that they belong to the
/// epoch beside them.
macro_rules! select {
    ($($rest:literal),+) => {
        concat!(
            "select a.tenant_id, a.id, a.display_name, a.description, a.contact_email, a.expires_at, \
             a.disabled, a.epoch, a.revision, a.created_at, a.updated_at, \
               (select string_agg(h.scope, ' ') from application_scopes h \
                 where h.tenant_id = a.tenant_id and h.application_id = a.id) as scopes, \
               (select string_agg(h.scope, ' ') from application_scopes h \
                 join scopes s on s.tenant_id = h.tenant_id and s.name = h.scope \
                 where h.tenant_id = a.tenant_id and h.application_id = a.id \
                   and s.disabled = $1) as effective_scopes \
             from applications a where ",
            $($rest),+
        )
    };
}

impl Row {
    fn application(self) -> Result<Application> {
        let at = At { table: "applications", key: &self.id };
        let scopes = |set: Option<String>| ScopeSet::parse(&set.unwrap_or_default());
        Ok(Application {
            name: ApplicationName {
                tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
                application: at.column("id", ApplicationId::parse(&self.id))?,
            },
            settings: ApplicationSettings {
                scopes: at.column("scopes", scopes(self.scopes))?,
                display_name: self.display_name,
                description: self.description,
                contact_email: self.contact_email,
                expires_at: moment(self.expires_at),
                disabled: self.disabled,
            },
            effective_scopes: at.column("effective_scopes", scopes(self.effective_scopes))?,
            epoch: self.epoch,
            record: record(self.revision, self.created_at, self.updated_at),
        })
    }
}

impl Session {
    /// The application, if it exists.
    pub async fn find_application(
        &mut self,
        name: &ApplicationName,
    ) -> Result<Option<Application>> {
        const SQL: &str = select!("a.tenant_id = $2 and a.id = $3");
        let row: Option<Row> =
            find_row!(self, SQL, false, name.tenant.as_str(), name.application.as_str())?;
        row.map(Row::application).transpose()
    }

    /// The application of a credential, if both exist.
    pub async fn find_application_of(
        &mut self,
        credential: &CredentialId,
    ) -> Result<Option<Application>> {
        const SQL: &str = select!(
            "(a.tenant_id, a.id) = \
             (select tenant_id, application_id from credentials where id = $2)"
        );
        let row: Option<Row> = find_row!(self, SQL, false, credential.as_str())?;
        row.map(Row::application).transpose()
    }

    /// The application that a request of this id made, if it exists.
    pub async fn find_application_by_request(
        &mut self,
        tenant: &TenantId,
        request_id: &str,
    ) -> Result<Option<Application>> {
        const SQL: &str = select!("a.tenant_id = $2 and a.request_id = $3");
        let row: Option<Row> = find_row!(self, SQL, false, tenant.as_str(), request_id)?;
        row.map(Row::application).transpose()
    }

    /// A page of a tenant's applications, by id.
    pub async fn list_applications(
        &mut self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Application>> {
        const SQL: &str = select!("a.tenant_id = $2 and a.id > $3 order by a.id limit $4");
        let rows: Vec<Row> = list_rows!(
            self,
            SQL,
            false,
            tenant.as_str(),
            page.after.as_deref().unwrap_or_default(),
            page.limit()
        )?;
        let applications = rows.into_iter().map(Row::application).collect::<Result<_>>()?;
        Ok(page.page(applications, |a| a.name.application.to_string()))
    }
}

impl Tx {
    /// Adds an application; `false` if there is one of this id or of this request.
    pub async fn insert_application(
        &mut self,
        application: &Application,
        request_id: Option<&str>,
    ) -> Result<bool> {
        const SQL: &str = "insert into applications (tenant_id, id, display_name, description, \
            contact_email, expires_at, disabled, epoch, revision, request_id, created_at, \
            updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
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
            record.updated_at.as_microsecond()
        )
        .map(|rows| rows == 1)?;
        if inserted {
            self.replace_scopes(&application.name, settings.scopes.iter()).await?;
        }
        Ok(inserted)
    }

    /// Writes a changed application; `false` if it is gone or was changed meanwhile.
    /// Its scopes are written only if they are new.
    pub async fn update_application(
        &mut self,
        application: &Application,
        new_scopes: bool,
    ) -> Result<bool> {
        const SQL: &str = "update applications set display_name = $1, description = $2, \
            contact_email = $3, expires_at = $4, disabled = $5, epoch = $6, revision = $7, \
            updated_at = $8 where tenant_id = $9 and id = $10 and revision = $7 - 1";
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
            application.name.application.as_str()
        )
        .map(|rows| rows == 1)?;
        if updated && new_scopes {
            self.replace_scopes(&application.name, settings.scopes.iter()).await?;
        }
        Ok(updated)
    }

    /// Deletes an application with its credentials.
    pub async fn delete_application(&mut self, name: &ApplicationName) -> Result<()> {
        const SQL: &str = "delete from applications where tenant_id = $1 and id = $2";
        execute!(self, SQL, name.tenant.as_str(), name.application.as_str()).map(drop)
    }

    /// How many applications a tenant has, and the first few of them.
    pub async fn tenant_applications(&mut self, tenant: &TenantId) -> Result<(i64, Vec<String>)> {
        const COUNT: &str = "select count(*) from applications where tenant_id = $1";
        const FIRST: &str = "select id from applications where tenant_id = $1 order by id limit 10";
        let count: i64 = one_value!(self, COUNT, tenant.as_str())?;
        let first: Vec<String> = list_values!(self, FIRST, tenant.as_str())?;
        let prefix = format!("{}/applications/", tenant.name());
        Ok((count, first.iter().map(|id| format!("{prefix}{id}")).collect()))
    }
}
