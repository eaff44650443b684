//! Credentials.

use jiff::Timestamp;

use super::base::Admin;
use super::checks::{check_etag, check_expiry, vanished};
use super::grants::given_to;
use super::updates::Shown;
use crate::domain::credential::require_unexpired;
use crate::domain::{
    Action, Application, ApplicationCall, ApplicationId, ApplicationName, Authority, Call,
    Credential, CredentialFilter, CredentialId, CredentialKind, CredentialName, CredentialPatch,
    CredentialSettings, FieldChange, Moment, Owners, Policy, Record, Subject, TenantId,
};
use crate::error::{Error, Result};
use crate::secrets::{Secret, random};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork, reached};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};
use crate::store::{Session, Tx};

/// What a credential is created from.
#[derive(Clone, Debug)]
pub struct NewCredential {
    pub application: ApplicationName,
    pub kind: CredentialKind,
    pub patch: CredentialPatch,
    /// The name of the request (AIP-155).
    pub request_id: Option<String>,
}

/// A new credential with its secret, which is shown once. `None`: its kind has no secret.
#[derive(Clone, Debug)]
pub struct MadeCredential {
    pub credential: Credential,
    pub secret: Option<Secret>,
}

impl Admin {
    /// Creates a credential and returns its secret, if it has one, only now.
    pub async fn create_credential(
        &self,
        caller: &Caller,
        new: NewCredential,
    ) -> Result<MadeCredential> {
        let now = self.clock.now();
        let id = CredentialId::parse(&random::id(now)?).map_err(|f| f.of("credential_id"))?;
        let name = CredentialName { application: new.application, credential: id };
        let application = &name.application;
        let tenant = &application.tenant;
        // The audit event of a refusal names what the caller knows.
        let attempt = Attempt::new(caller, Action::CreateCredential, tenant, application);
        self.sessions
            .audited(&attempt, async {
                let mut settings = CredentialSettings::default().with(new.patch);
                settings.registration =
                    self.registrations.of_new(new.kind, settings.registration)?;
                // Checked before the hash is computed, and again under the lock.
                let mut reading = self.sessions.read(caller, tenant).await?;
                let seen = reading.tenant(tenant).await?.settings.policy;
                let end = (settings.expires_at, now);
                check_new(
                    &mut reading.session,
                    &reading.authority,
                    application,
                    &seen,
                    (new.kind, end),
                )
                .await?;
                check_expiry(settings.expires_at, now, "credential.expire_time")?;
                drop(reading);

                let secret = match new.kind.secret() {
                    None => None,
                    Some(kind) => {
                        let secret = self.prefixes.generate(kind, &name.credential)?;
                        let record = self.record_of(caller, &secret).await?;
                        Some((secret, record))
                    }
                };
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let policy = &tenant.settings.policy;
                check_new(&mut work, &authority, application, policy, (new.kind, end)).await?;
                let expires_at = settings.expires_at.or_else(|| policy.latest_end(now));
                let disabled = Some(settings.disabled);
                settings.disabled_by_platform = authority.switch(&name, false, disabled)?;
                let (secret, record) = secret.unzip();
                let record = match (&secret, record) {
                    (Some(secret), Some(record)) => {
                        Some(self.sealed(record, secret, &name, policy)?)
                    }
                    _ => None,
                };
                let credential = Credential {
                    secrets: record.into_iter().collect(),
                    name: name.clone(),
                    kind: new.kind,
                    settings: CredentialSettings { expires_at, ..settings },
                    last_use: None,
                    epoch: 0,
                    record: Record::new(now),
                };
                let request_id = new.request_id.map(|id| authority.request_key(&id));
                insert(&mut work, &credential, request_id.as_deref()).await?;
                work.commit().await?;
                Ok(MadeCredential { credential, secret })
            })
            .await
    }

    /// Reads a credential, without its secret.
    pub async fn credential(&self, caller: &Caller, name: &CredentialName) -> Result<Credential> {
        let mut reading = self.sessions.read(caller, &name.application.tenant).await?;
        let session = &mut reading.session;
        let ReachedCredential { credential, .. } =
            reach(session, &reading.authority, Call::GetCredential, name).await?;
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
        let mut reading = self.sessions.read(caller, tenant).await?;
        let latest = reading.tenant(tenant).await?.settings.policy.max_credential_lifetime;
        let session = &mut reading.session;
        let owners = match application {
            None => reading.authority.viewable()?,
            Some(id) => {
                let name = ApplicationName { tenant: tenant.clone(), application: id.clone() };
                reached(session, &reading.authority, Call::ListCredentials, &name).await?;
                Owners { account: true, users: true, user: None }
            }
        };
        let filter = CredentialFilter { owners, ..filter };
        let call = format!("credentials of {tenant} {application:?} {filter:?}");
        let page = self.pages.request(&call, request)?;
        let credentials =
            session.list_credentials(tenant, application, &filter, latest, &page).await?;
        Ok(self.pages.list(&call, credentials))
    }

    /// Changes a credential, and shows it to callers that may view it.
    pub async fn update_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
        patch: CredentialPatch,
        etag: &str,
    ) -> Result<Shown<Credential>> {
        const CALL: Call = Call::UpdateCredential;
        let now = self.clock.now();
        let tenant = &name.application.tenant;
        let attempt = Attempt::new(caller, Action::UpdateCredential, tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let ReachedCredential { credential: before, application } =
                    reach(&mut work, &authority, CALL, name).await?;
                let may_view = authority.may_view(&application.owner);
                check_etag(&before.record, etag, name)?;
                let policy = &tenant.settings.policy;
                let new_end = patch.expires_at.is_named();
                let (wanted, may_revive) = (patch.disabled, patch.may_revive());
                let registers = patch.registration.is_some();
                let patch = CredentialPatch {
                    registration: patch
                        .registration
                        .map(|new| self.registrations.checked(before.kind, new))
                        .transpose()?,
                    ..patch
                };
                let mut fields = patch.fields();
                let mut after = before.settings.with(patch);
                let by_platform = before.settings.disabled_by_platform;
                after.disabled_by_platform = authority.switch(name, by_platform, wanted)?;
                let created = before.record.created_at;
                let end = new_end.then_some((after.expires_at, created));
                if new_end {
                    after.expires_at = after.expires_at.or_else(|| policy.latest_end(created));
                }
                let unchanged = after == before.settings;
                if unchanged && may_view {
                    return Ok(Shown::new(before, name, may_view));
                }
                if new_end {
                    check_expiry(after.expires_at, now, "credential.expire_time")?;
                }
                // For a caller that may not view it, everything that the update names counts as
                // changed.
                if may_view {
                    fields = before.settings.changed(&after).collect();
                }
                let revives = if may_view { before.settings.revives(&after) } else { may_revive };
                let given = if revives {
                    Some(given_to(&mut work, &authority, &application).await?)
                } else {
                    None
                };
                let registers =
                    registers && (!may_view || before.settings.registration != after.registration);
                let details = ApplicationCall {
                    credential: Some(name),
                    protected: application.settings.protected,
                    kind: registers.then_some(before.kind),
                    changed: &fields,
                    end,
                    given: given.as_ref(),
                    ..ApplicationCall::of(&name.application, &application.owner)
                };
                authority.require_state(CALL, policy, &details)?;
                if unchanged {
                    return Ok(Shown::new(before, name, may_view));
                }
                let changes = FieldChange::between(&before.settings, &after);
                let before_epoch = before.epoch;
                let credential = Credential {
                    epoch: before.epoch + i64::from(before.settings.revokes(&after)),
                    settings: after,
                    record: before.record.changed(now),
                    ..before
                };
                if !work.update_credential(&credential).await? {
                    return Err(vanished(name));
                }
                work.raise(Subject::Credential(name.clone()), before_epoch, credential.epoch);
                work.note(Action::UpdateCredential, name, changes).await?;
                work.commit().await?;
                Ok(Shown::new(credential, name, may_view))
            })
            .await
    }

    pub async fn delete_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
        etag: &str,
    ) -> Result<()> {
        let tenant = &name.application.tenant;
        let attempt = Attempt::new(caller, Action::DeleteCredential, tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let call = Call::DeleteCredential;
                let ReachedCredential { credential, application } =
                    reach(&mut work, &authority, call, name).await?;
                check_etag(&credential.record, etag, name)?;
                let details = ApplicationCall {
                    protected: application.settings.protected,
                    ..ApplicationCall::of(&name.application, &application.owner)
                };
                authority.require_state(call, &tenant.settings.policy, &details)?;
                work.delete_credential(&name.credential).await?;
                let epoch = credential.epoch;
                work.raise(Subject::Credential(name.clone()), epoch, epoch + 1);
                let changes = FieldChange::of_gone(&credential.settings);
                work.note(Action::DeleteCredential, name, changes).await?;
                work.commit().await
            })
            .await
    }
}

/// A credential that the caller may do something with.
pub(super) struct ReachedCredential {
    pub(super) credential: Credential,
    pub(super) application: Application,
}

impl ReachedCredential {
    /// Refuses a secret that could not work because the credential or its application has expired.
    pub(super) fn require_unexpired(&self, policy: &Policy, now: Timestamp) -> Result<()> {
        self.credential.require_unexpired(policy, now)?;
        let end = self.application.settings.expires_at;
        require_unexpired(&self.credential.name.application, end, now)
    }
}

/// The credential, if the caller may make this call about those of its application.
pub(super) async fn reach(
    session: &mut Session,
    authority: &Authority,
    call: Call,
    name: &CredentialName,
) -> Result<ReachedCredential> {
    let missing = || Error::NotFound(name.to_string());
    let found = session.find_application(&name.application).await?;
    authority.require_on(call, name, found.as_ref().map(|application| &application.owner))?;
    let application = found.ok_or_else(missing)?;
    let credential = session.find_credential(name).await?.ok_or_else(missing)?;
    Ok(ReachedCredential { credential, application })
}

/// Whether the application may get one credential more.
async fn check_new(
    session: &mut Session,
    authority: &Authority,
    name: &ApplicationName,
    policy: &Policy,
    (kind, end): (CredentialKind, (Option<Moment>, Timestamp)),
) -> Result<()> {
    let call = Call::CreateCredential;
    let application = reached(session, authority, call, name).await?;
    let given = given_to(session, authority, &application).await?;
    // A protected application may get its first credential; it could never lose another one.
    let protected = application.settings.protected && session.credentials_of(name).await?.count > 0;
    let credentials = match policy.max_credentials {
        Some(_) => session.count_credentials(&name.tenant).await?,
        None => 0,
    };
    let details = ApplicationCall {
        protected,
        credentials,
        kind: Some(kind),
        end: Some(end),
        given: Some(&given),
        ..ApplicationCall::of(name, &application.owner)
    };
    authority.require_state(call, policy, &details)?;
    require_unexpired(name, application.settings.expires_at, end.1)
}

/// Writes a new credential, with its event.
pub(super) async fn insert(
    work: &mut UnitOfWork,
    credential: &Credential,
    request_id: Option<&str>,
) -> Result<()> {
    let name = &credential.name;
    if !work.insert_credential(credential, request_id).await? {
        return Err(already_there(work, name, request_id).await?);
    }
    let kind = Some(credential.kind.into_str().to_owned());
    let mut changes = vec![FieldChange::new("kind", None, kind)];
    changes.extend(FieldChange::of_new(&credential.settings));
    work.note(Action::CreateCredential, name, changes).await
}

/// The error for a credential that could not be added. It names what a repeated request made the
/// first time, without the secret.
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
