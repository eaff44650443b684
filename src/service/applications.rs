//! Use cases of applications.

use super::{List, ListRequest, Service, check_etag, check_expiry, vanished};
use crate::domain::{
    Application, ApplicationId, ApplicationName, ApplicationPatch, ApplicationSettings, Record,
    ScopeSet, TenantId,
};
use crate::error::{Error, Result};
use crate::secrets::random;
use crate::store::Tx;

/// What an application is created from.
#[derive(Clone, Debug)]
pub struct NewApplication {
    /// Whose it will be.
    pub tenant: TenantId,
    /// Its id; `None`: one is made.
    pub id: Option<ApplicationId>,
    /// What it will be.
    pub patch: ApplicationPatch,
    /// The name of the request (AIP-155).
    pub request_id: Option<String>,
}

impl Service {
    /// Creates an application.
    pub async fn create_application(&self, new: NewApplication) -> Result<Application> {
        let now = self.now();
        let id = match new.id {
            Some(id) => id,
            None => ApplicationId::parse(&random::id(now)?).map_err(|f| f.of("application_id"))?,
        };
        let settings = ApplicationSettings::default().with(new.patch);
        check_expiry(settings.expires_at, now, "application.expire_time")?;
        let application = Application {
            name: ApplicationName { tenant: new.tenant, application: id },
            effective_scopes: settings.scopes.clone(),
            settings,
            epoch: 0,
            record: Record::new(now),
        };
        let request_id = new.request_id.as_deref();
        let mut tx = self.lock_tenant_of(&application.name).await?;
        check_scopes(&mut tx, &application.name.tenant, &application.settings.scopes).await?;
        if !tx.insert_application(&application, request_id).await? {
            return Err(already_there(&mut tx, &application.name, request_id).await?);
        }
        tx.commit().await?;
        Ok(application)
    }

    /// Reads an application.
    pub async fn application(&self, name: &ApplicationName) -> Result<Application> {
        let found = self.store.read().await?.find_application(name).await?;
        found.ok_or_else(|| Error::NotFound(name.to_string()))
    }

    /// Lists a tenant's applications by id.
    pub async fn list_applications(
        &self,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<Application>> {
        let call = format!("applications of {tenant}");
        let page = self.page_request(&call, request)?;
        let mut session = self.store.read().await?;
        let applications = session.list_applications(tenant, &page).await?;
        if applications.items.is_empty() && session.find_tenant(tenant).await?.is_none() {
            return Err(Error::NotFound(tenant.name()));
        }
        Ok(self.list(&call, applications))
    }

    /// Changes an application.
    pub async fn update_application(
        &self,
        name: &ApplicationName,
        patch: ApplicationPatch,
        etag: &str,
    ) -> Result<Application> {
        let now = self.now();
        let mut tx = self.lock_tenant_of(name).await?;
        let before = found(&mut tx, name).await?;
        check_etag(&before.record, etag, name)?;
        if let Some(expires_at) = patch.expires_at {
            check_expiry(expires_at, now, "application.expire_time")?;
        }
        let after = before.settings.with(patch);
        if after == before.settings {
            return Ok(before);
        }
        let new_scopes = after.scopes != before.settings.scopes;
        // What it holds already it may keep, disabled as it may be.
        let added = after.scopes.minus(&before.settings.scopes);
        check_scopes(&mut tx, &name.tenant, &added).await?;
        let application = Application {
            epoch: before.epoch + i64::from(before.settings.revokes(&after)),
            settings: after,
            record: before.record.changed(now),
            ..before
        };
        if !tx.update_application(&application, new_scopes).await? {
            return Err(vanished(name));
        }
        let application = found(&mut tx, name).await?;
        tx.commit().await?;
        Ok(application)
    }

    /// Deletes an application with its credentials.
    pub async fn delete_application(&self, name: &ApplicationName, etag: &str) -> Result<()> {
        let mut tx = self.lock_tenant_of(name).await?;
        let application = found(&mut tx, name).await?;
        check_etag(&application.record, etag, name)?;
        tx.delete_application(name).await?;
        tx.commit().await
    }

    /// A transaction in which nobody else changes the application's tenant.
    pub(super) async fn lock_tenant_of(&self, name: &ApplicationName) -> Result<Tx> {
        let mut tx = self.store.begin().await?;
        match tx.lock_tenant(&name.tenant).await? {
            Some(_) => Ok(tx),
            None => Err(Error::NotFound(name.tenant.name())),
        }
    }
}

async fn found(tx: &mut Tx, name: &ApplicationName) -> Result<Application> {
    let found = tx.find_application(name).await?;
    found.ok_or_else(|| Error::NotFound(name.to_string()))
}

/// Every scope of an application is an enabled entry of its tenant's catalogue.
async fn check_scopes(tx: &mut Tx, tenant: &TenantId, scopes: &ScopeSet) -> Result<()> {
    let enabled = tx
        .catalogue(tenant)
        .await?
        .into_iter()
        .filter(|scope| !scope.settings.disabled)
        .map(|scope| scope.id.scope)
        .collect();
    let unknown = scopes.without(&enabled);
    if unknown.is_empty() { Ok(()) } else { Err(Error::ScopeNotAllowed(unknown)) }
}

/// The error for an application that could not be added: a repeated request is told
/// what it made the first time.
async fn already_there(
    tx: &mut Tx,
    name: &ApplicationName,
    request_id: Option<&str>,
) -> Result<Error> {
    if let Some(id) = request_id
        && let Some(made) = tx.find_application_by_request(&name.tenant, id).await?
    {
        return Ok(Error::AlreadyExists(made.name.to_string()));
    }
    Ok(Error::AlreadyExists(name.to_string()))
}
