//! The beginning: the built-in tenant, and the first credential that may manage.

use super::{NewCredential, Service};
use crate::domain::{
    Application, ApplicationId, ApplicationName, ApplicationSettings, Audience, CredentialKind,
    CredentialPatch, Fault, Record, ScopeId, ScopeName, ScopeSet, ScopeSettings, State, Tenant,
    TenantId, TenantSettings,
};
use crate::error::{Error, Result};
use crate::secrets::Secret;
use crate::store::Tx;

/// The application that the first admin credential belongs to.
const ADMIN: &str = "admin";

const SCOPES: [(&str, &str); 3] = [
    (ScopeName::ADMIN, "Manage everything: tenants, applications, credentials, scopes"),
    (ScopeName::MANAGE, "Act for a user of a tenant, within that user's roles"),
    (ScopeName::VERIFY, "Check the tokens and keys of every tenant"),
];

/// A credential that may manage, told once.
#[derive(Clone, Debug)]
pub struct FirstCredential {
    /// Its client id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

impl Service {
    /// Makes the built-in tenant if there is none, with the first admin credential. Of
    /// several replicas that start at once, one makes them.
    pub async fn bootstrap_if_new(&self) -> Result<Option<FirstCredential>> {
        if self.store.read().await?.find_tenant(&TenantId::system()).await?.is_some() {
            return Ok(None);
        }
        let mut tx = self.store.begin().await?;
        if !self.insert_system(&mut tx).await? {
            return Ok(None);
        }
        tx.commit().await?;
        self.bootstrap().await.map(Some)
    }

    /// Makes another admin credential, for whoever lost the first. The application it
    /// belongs to is made anew if it is gone or does not work any more.
    pub async fn bootstrap(&self) -> Result<FirstCredential> {
        let application = self.ensure_admin().await?;
        let made = self
            .create_credential(NewCredential {
                application,
                kind: CredentialKind::ClientSecret,
                patch: CredentialPatch {
                    display_name: Some("made by keyward itself".to_owned()),
                    ..CredentialPatch::default()
                },
                request_id: None,
            })
            .await?;
        Ok(FirstCredential {
            client_id: made.credential.name.credential.to_string(),
            client_secret: made.secret,
        })
    }

    /// Adds the built-in tenant and its catalogue; `false` if they are there.
    async fn insert_system(&self, tx: &mut Tx) -> Result<bool> {
        let id = TenantId::system();
        let tenant = Tenant {
            settings: TenantSettings {
                display_name: "Keyward".to_owned(),
                default_audience: Audience::parse(Audience::KEYWARD).map_err(own)?,
                ..TenantSettings::new(&id)
            },
            id,
            epoch: 0,
            record: Record::new(self.now()),
        };
        if !tx.insert_tenant(&tenant).await? {
            return Ok(false);
        }
        for (scope, description) in SCOPES {
            let settings = ScopeSettings {
                description: description.to_owned(),
                domain: "Keyward".to_owned(),
                ..ScopeSettings::default()
            };
            self.add_scope(tx, system_scope(scope)?, settings).await?;
        }
        Ok(true)
    }

    /// The admin application, working.
    async fn ensure_admin(&self) -> Result<ApplicationName> {
        let now = self.now();
        let name = ApplicationName {
            tenant: TenantId::system(),
            application: ApplicationId::parse(ADMIN).map_err(own)?,
        };
        let mut tx = self.store.begin().await?;
        if tx.lock_tenant(&name.tenant).await?.is_none() {
            self.insert_system(&mut tx).await?;
        }
        match tx.find_application(&name).await? {
            Some(admin)
                if admin.state(now) == State::Active
                    && admin.effective_scopes.contains(ScopeName::ADMIN) =>
            {
                return Ok(name);
            }
            Some(_) => tx.delete_application(&name).await?,
            None => {}
        }
        let scopes: ScopeSet = std::iter::once(system_scope(ScopeName::ADMIN)?.scope).collect();
        let application = Application {
            name,
            settings: ApplicationSettings {
                display_name: "Administration".to_owned(),
                description: "Made at the first start; its credentials may do everything"
                    .to_owned(),
                scopes: scopes.clone(),
                ..ApplicationSettings::default()
            },
            effective_scopes: scopes,
            epoch: 0,
            record: Record::new(now),
        };
        if !tx.insert_application(&application, None).await? {
            return Err(Error::AlreadyExists(application.name.to_string()));
        }
        tx.commit().await?;
        Ok(application.name)
    }
}

fn system_scope(scope: &str) -> Result<ScopeId> {
    let scope = ScopeName::parse(scope).map_err(own)?;
    Ok(ScopeId { tenant: TenantId::system(), scope })
}

/// A name of our own that our own rules refuse.
fn own(fault: Fault) -> Error {
    Error::internal(fault.0)
}
