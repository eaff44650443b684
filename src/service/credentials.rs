//! Use cases of credentials.

use jiff::Timestamp;

use super::applications::found as application_found;
use super::attempts::{Attempt, Ledger, Open};
use super::{Caller, List, ListRequest, Service, check_etag, check_expiry, vanished};
use crate::domain::credential::require_unexpired;
use crate::domain::{
    Action, ApplicationId, ApplicationName, Authority, Credential, CredentialFilter, CredentialId,
    CredentialKind, CredentialName, CredentialPatch, CredentialSettings, FieldChange, Moment,
    Owners, Policy, Record, ScopeSet, Subject, TenantId, Verb,
};
use crate::error::{Error, Result};
use crate::secrets::{Secret, random};
use crate::store::{Session, Tx};

/// What a credential is created from.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// Whose it will be.
    pub application: ApplicationName,
    /// What it will be made of.
    pub kind: CredentialKind,
    /// What else it will be.
    pub patch: CredentialPatch,
    /// The name of the request (AIP-155).
    pub request_id: Option<String>,
}

/// A credential with the secret that is told once.
#[derive(Clone, Debug)]
pub struct WithSecret {
    /// The credential.
    pub credential: Credential,
    /// Its newest secret.
    pub secret: Secret,
}

impl Service {
    /// Creates a credential and tells its secret, this once.
    pub async fn create_credential(
        &self,
        caller: &Caller,
        new: NewCredential,
    ) -> Result<WithSecret> {
        let now = self.now();
        let id = CredentialId::parse(&random::id(now)?).map_err(|f| f.of("credential_id"))?;
        let name = CredentialName { application: new.application, credential: id };
        let application = &name.application;
        let tenant = &application.tenant;
        // A refusal is about a name that somebody knows.
        let attempt = Attempt::new(caller, Action::CreateCredential, tenant, application);
        self.audited(&attempt, async {
            let settings = CredentialSettings::default().with(new.patch);
            // Asked before the hash is paid for, and again where it counts.
            let mut reading = self.reading(caller, tenant).await?;
            let seen = reading.tenant(tenant).await?.settings.policy;
            let session = &mut reading.session;
            check_new(session, &reading.authority, application, &seen, now).await?;
            check_expiry(settings.expires_at, now, "credential.expire_time")?;
            seen.credential_end(settings.expires_at, now)?;
            drop(reading);

            let secret = self.prefixes.generate(new.kind, &name.credential)?;
            let record = self.record_of(caller, &secret).await?;
            let Open { mut ledger, tenant, authority } = self.open(&attempt).await?;
            let policy = &tenant.settings.policy;
            check_new(&mut ledger, &authority, application, policy, now).await?;
            let expires_at = policy.credential_end(settings.expires_at, now)?;
            let credential = Credential {
                secrets: vec![self.sealed(record, &secret, &name, policy)?],
                name: name.clone(),
                kind: new.kind,
                settings: CredentialSettings { expires_at, ..settings },
                last_use: None,
                epoch: 0,
                record: Record::new(now),
            };
            let request_id = new.request_id.as_deref();
            insert(&mut ledger, &credential, request_id).await?;
            ledger.commit().await?;
            Ok(WithSecret { credential, secret })
        })
        .await
    }

    /// Reads a credential, without its secret.
    pub async fn credential(&self, caller: &Caller, name: &CredentialName) -> Result<Credential> {
        let mut reading = self.reading(caller, &name.application.tenant).await?;
        let Reached { credential, .. } =
            reach(&mut reading.session, &reading.authority, Verb::View, name).await?;
        Ok(credential)
    }

    /// Lists the credentials of an application, or of all in a tenant that the caller may
    /// view, by id.
    pub async fn list_credentials(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        application: Option<&ApplicationId>,
        filter: CredentialFilter,
        request: &ListRequest,
    ) -> Result<List<Credential>> {
        let mut reading = self.reading(caller, tenant).await?;
        let latest = reading.tenant(tenant).await?.settings.policy.max_credential_lifetime;
        let session = &mut reading.session;
        let owners = match application {
            None => reading.authority.viewable()?,
            Some(id) => {
                let name = ApplicationName { tenant: tenant.clone(), application: id.clone() };
                let application = application_found(session, &name).await?;
                reading.authority.require_on(Verb::View, &application.owner)?;
                Owners { account: true, users: true, user: None }
            }
        };
        let filter = CredentialFilter { owners, ..filter };
        let call = format!("credentials of {tenant} {application:?} {filter:?}");
        let page = self.page_request(&call, request)?;
        let credentials =
            session.list_credentials(tenant, application, &filter, latest, &page).await?;
        Ok(self.list(&call, credentials))
    }

    /// Changes a credential.
    pub async fn update_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
        patch: CredentialPatch,
        etag: &str,
    ) -> Result<Credential> {
        let now = self.now();
        let tenant = &name.application.tenant;
        let attempt = Attempt::new(caller, Action::UpdateCredential, tenant, name);
        self.audited(&attempt, async {
            let Open { mut ledger, tenant, authority } = self.open(&attempt).await?;
            let reached = reach(&mut ledger, &authority, Verb::Edit, name).await?;
            let before = reached.credential;
            check_etag(&before.record, etag, name)?;
            let policy = &tenant.settings.policy;
            let new_end = patch.expires_at.is_some();
            let mut after = before.settings.with(patch);
            if new_end {
                after.expires_at =
                    policy.credential_end(after.expires_at, before.record.created_at)?;
            }
            if after == before.settings {
                return Ok(before);
            }
            if new_end {
                check_expiry(after.expires_at, now, "credential.expire_time")?;
            }
            check_protection(reached.protected, name)?;
            policy.require_enabled()?;
            policy.require_changeable(before.settings.changed(&after))?;
            let changes = FieldChange::between(&before.settings, &after);
            let before_epoch = before.epoch;
            let credential = Credential {
                epoch: before.epoch + i64::from(before.settings.revokes(&after)),
                settings: after,
                record: before.record.changed(now),
                ..before
            };
            if !ledger.update_credential(&credential).await? {
                return Err(vanished(name));
            }
            ledger.raise(Subject::Credential(name.clone()), before_epoch, credential.epoch);
            ledger.note(Action::UpdateCredential, name, changes).await?;
            ledger.commit().await?;
            Ok(credential)
        })
        .await
    }

    /// Deletes a credential.
    pub async fn delete_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
        etag: &str,
    ) -> Result<()> {
        let tenant = &name.application.tenant;
        let attempt = Attempt::new(caller, Action::DeleteCredential, tenant, name);
        self.audited(&attempt, async {
            let Open { mut ledger, authority, .. } = self.open(&attempt).await?;
            let reached = reach(&mut ledger, &authority, Verb::Delete, name).await?;
            let credential = reached.credential;
            check_etag(&credential.record, etag, name)?;
            check_protection(reached.protected, name)?;
            ledger.delete_credential(&name.credential).await?;
            let epoch = credential.epoch;
            ledger.raise(Subject::Credential(name.clone()), epoch, epoch + 1);
            let changes = FieldChange::of_gone(&credential.settings);
            ledger.note(Action::DeleteCredential, name, changes).await?;
            ledger.commit().await
        })
        .await
    }
}

/// A credential that the caller may do something with.
pub(super) struct Reached {
    /// The credential.
    pub(super) credential: Credential,
    /// Whether its application is protected.
    pub(super) protected: bool,
    /// What its application can use.
    pub(super) scopes: ScopeSet,
    /// When its application ends.
    pub(super) application_end: Option<Moment>,
}

impl Reached {
    /// Refuses a secret that could not work, since the credential or its application has expired.
    pub(super) fn require_unexpired(&self, policy: &Policy, now: Timestamp) -> Result<()> {
        self.credential.require_unexpired(policy, now)?;
        require_unexpired(&self.credential.name.application, self.application_end, now)
    }
}

/// The credential, if the caller may do this with those of its application.
pub(super) async fn reach(
    session: &mut Session,
    authority: &Authority,
    verb: Verb,
    name: &CredentialName,
) -> Result<Reached> {
    let missing = || Error::NotFound(name.to_string());
    let application = session.find_application(&name.application).await?.ok_or_else(missing)?;
    authority.require_on(verb, &application.owner)?;
    let credential = session.find_credential(name).await?.ok_or_else(missing)?;
    Ok(Reached {
        credential,
        protected: application.settings.protected,
        scopes: application.effective_scopes,
        application_end: application.settings.expires_at,
    })
}

/// Refuses a change of a protected application's credential.
pub(super) fn check_protection(protected: bool, name: &CredentialName) -> Result<()> {
    if protected { Err(Error::Protected(name.application.to_string())) } else { Ok(()) }
}

/// Whether the application may get one credential more.
async fn check_new(
    session: &mut Session,
    authority: &Authority,
    application: &ApplicationName,
    policy: &Policy,
    now: Timestamp,
) -> Result<()> {
    let found = application_found(session, application).await?;
    authority.require_on(Verb::Create, &found.owner)?;
    policy.require_enabled()?;
    policy.require_owner(&found.owner)?;
    require_unexpired(application, found.settings.expires_at, now)?;
    // Who gets the secret could use all of it.
    authority.require_scopes(&found.effective_scopes)?;
    // One that is protected may get its first: it could never be rid of another.
    if found.settings.protected && session.credentials_of(application).await?.count > 0 {
        return Err(Error::Protected(application.to_string()));
    }
    if policy.max_credentials.is_some() {
        policy.require_room(session.count_credentials(&application.tenant).await?)?;
    }
    Ok(())
}

/// Writes a new credential, with its event.
pub(super) async fn insert(
    ledger: &mut Ledger,
    credential: &Credential,
    request_id: Option<&str>,
) -> Result<()> {
    let name = &credential.name;
    if !ledger.insert_credential(credential, request_id).await? {
        return Err(already_there(ledger, name, request_id).await?);
    }
    let kind = Some(credential.kind.as_str().to_owned());
    let mut changes = vec![FieldChange::new("kind", None, kind)];
    changes.extend(FieldChange::of_new(&credential.settings));
    ledger.note(Action::CreateCredential, name, changes).await
}

/// The error for a credential that could not be added: a repeated request is told what
/// it made the first time, but not its secret.
async fn already_there(
    tx: &mut Tx,
    name: &CredentialName,
    request_id: Option<&str>,
) -> Result<Error> {
    if let Some(id) = request_id
        && let Some(made) = tx.find_credential_by_request(&name.application, id).await?
    {
        return Ok(Error::AlreadyExists(made.name.to_string()));
    }
    Ok(Error::AlreadyExists(name.to_string()))
}
