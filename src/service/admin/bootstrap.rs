//! The first start: the built-in tenant, and the first credential that may manage.

use super::applications::{insert, remove};
use super::base::Admin;
use super::credentials::NewCredential;
use super::credentials::insert as add_credential;
use crate::clock::later;
use crate::domain::{
    Action, ApplicationId, ApplicationName, ApplicationSettings, Audience, Authority, Credential,
    CredentialId, CredentialKind, CredentialName, CredentialPatch, CredentialSettings, Fault,
    Moment, Owner, Record, ScopeId, ScopeName, ScopeSet, ScopeSettings, SecretKind, State,
    TenantId, TenantSettings,
};
use crate::error::{Error, Result};
use crate::secrets::{Secret, random};
use crate::service::audit::{Attempt, UnitOfWork};
use crate::service::auth::Caller;

/// The application that the first admin credential belongs to.
const ADMIN: &str = "admin";

const SCOPES: [(&str, &str); 3] = [
    (ScopeName::ADMIN, "Manage everything: tenants, applications, credentials, scopes"),
    (ScopeName::MANAGE, "Act for a user of a tenant, within that user's roles"),
    (ScopeName::VERIFY, "Check the tokens and keys of every tenant"),
];

/// A credential that may manage. Its secret is shown once.
#[derive(Clone, Debug)]
pub struct FirstCredential {
    pub client_id: String,
    pub client_secret: Secret,
    /// `None`: it does not expire.
    pub expires_at: Option<Moment>,
}

impl Admin {
    /// Creates the built-in tenant if there is none, with the first admin credential: all or
    /// nothing, since a start that failed between the two would leave a server without an
    /// administrator. Of several replicas that start at once, one creates them.
    pub async fn bootstrap_if_new(&self) -> Result<Option<FirstCredential>> {
        if self.store.read().await?.find_tenant(&TenantId::system()).await?.is_some() {
            return Ok(None);
        }
        let application = admin()?;
        let id = CredentialId::parse(&random::id(self.clock.now())?).map_err(own)?;
        let name = CredentialName { application: application.clone(), credential: id };
        let secret = self.prefixes.generate(SecretKind::ClientSecret, &id)?;
        // The hash takes long, so it is computed before the transaction makes others wait.
        let caller = Caller::keyward();
        let record = self.record_of(&caller, &secret).await?;
        let mut work = self.sessions.begin(&attempt(&caller)).await?;
        if !self.insert_system(&mut work).await? {
            return Ok(None);
        }
        self.insert_admin(&mut work, application).await?;
        let credential = Credential {
            name,
            kind: CredentialKind::ClientSecret,
            settings: CredentialSettings::default().with(self.made_by_keyward()),
            secrets: vec![record],
            last_use: None,
            epoch: 0,
            record: Record::new(self.clock.now()),
        };
        add_credential(&mut work, &credential, None).await?;
        work.commit().await?;
        Ok(Some(FirstCredential {
            client_id: id.to_string(),
            client_secret: secret,
            expires_at: credential.settings.expires_at,
        }))
    }

    /// Creates another admin credential, for an operator who lost the first. Its application is
    /// created again if it is gone or no longer works.
    pub async fn bootstrap(&self) -> Result<FirstCredential> {
        let application = self.ensure_admin().await?;
        let made = self
            .create_credential(
                &Caller::keyward(),
                NewCredential {
                    application,
                    kind: CredentialKind::ClientSecret,
                    patch: self.made_by_keyward(),
                    request_id: None,
                },
            )
            .await?;
        Ok(FirstCredential {
            client_id: made.credential.name.credential.to_string(),
            client_secret: made.secret.ok_or_else(|| Error::internal("it has no secret"))?,
            expires_at: made.credential.settings.expires_at,
        })
    }

    fn made_by_keyward(&self) -> CredentialPatch {
        let end = self.credential_lifetime.map(|lifetime| later(self.clock.now(), lifetime));
        CredentialPatch {
            display_name: Some("made by keyward itself".to_owned()),
            expires_at: end.map(Moment::from).into(),
            ..CredentialPatch::default()
        }
    }

    /// Adds the built-in tenant and its catalogue; `false` if they are there.
    async fn insert_system(&self, work: &mut UnitOfWork) -> Result<bool> {
        let id = TenantId::system();
        let settings = TenantSettings {
            display_name: "Keyward".to_owned(),
            default_audience: Audience::parse(Audience::KEYWARD).map_err(own)?,
            ..TenantSettings::new(&id)
        };
        match self.add_tenant(work, id, settings).await {
            Ok(_) => {}
            Err(Error::AlreadyExists(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        for (scope, description) in SCOPES {
            let settings = ScopeSettings {
                description: description.to_owned(),
                domain: "Keyward".to_owned(),
                ..ScopeSettings::default()
            };
            self.add_scope(work, system_scope(scope)?, settings).await?;
        }
        Ok(true)
    }

    /// The admin application. It is created again if it is missing or does not work.
    async fn ensure_admin(&self) -> Result<ApplicationName> {
        let now = self.clock.now();
        let name = admin()?;
        let caller = Caller::keyward();
        let mut work = self.sessions.begin(&attempt(&caller)).await?;
        if work.lock_tenant(&name.tenant).await?.is_none() {
            self.insert_system(&mut work).await?;
        }
        match work.find_application(&name).await? {
            Some(admin)
                if admin.state(now) == State::Active
                    && admin.effective_scopes.contains(ScopeName::ADMIN) =>
            {
                return Ok(name);
            }
            Some(mut broken) => {
                // Protected or not: this is for an operator who has no access left.
                broken.settings.protected = false;
                remove(&mut work, &broken).await?;
            }
            None => {}
        }
        self.insert_admin(&mut work, name.clone()).await?;
        work.commit().await?;
        Ok(name)
    }

    async fn insert_admin(&self, work: &mut UnitOfWork, name: ApplicationName) -> Result<()> {
        let scopes: ScopeSet = std::iter::once(system_scope(ScopeName::ADMIN)?.scope).collect();
        let settings = ApplicationSettings {
            display_name: "Administration".to_owned(),
            description: "Made at the first start; its credentials may do everything".to_owned(),
            scopes,
            ..ApplicationSettings::default()
        };
        let application = self.fresh_application(name, Owner::Account, settings);
        insert(work, &Authority::Platform, application, None).await.map(drop)
    }
}

/// The application of the admin credentials.
fn admin() -> Result<ApplicationName> {
    let application = ApplicationId::parse(ADMIN).map_err(own)?;
    Ok(ApplicationName { tenant: TenantId::system(), application })
}

/// What an operator on the machine attempts in the built-in tenant.
fn attempt(caller: &Caller) -> Attempt<'_> {
    let system = TenantId::system();
    let name = system.name();
    Attempt::new(caller, Action::CreateTenant, &system, &name)
}

fn system_scope(scope: &str) -> Result<ScopeId> {
    let scope = ScopeName::parse(scope).map_err(own)?;
    Ok(ScopeId { tenant: TenantId::system(), scope })
}

/// The error for a name of our own that our own rules refuse.
fn own(fault: Fault) -> Error {
    Error::internal(fault.0)
}
