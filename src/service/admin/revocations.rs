//! Revoking all tokens of a resource at once.

use super::base::Admin;
use super::checks::vanished;
use super::credentials::reach;
use crate::domain::{
    Action, Application, ApplicationName, Authority, Call, Credential, CredentialName,
    NewRevocation, Owner, Subject, Tenant, TenantId, UserName,
};
use crate::error::{Error, Result};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork, reached};
use crate::service::auth::Caller;
use crate::store::Affected;

const CALL: Call = Call::RevokeTokens;

/// Whose tokens are to be revoked.
#[derive(Clone, Debug)]
pub enum Revoked {
    /// All tokens of a tenant.
    Tenant(TenantId),
    /// Tokens of the applications that a user owns.
    User(UserName),
    /// Tokens of an application.
    Application(ApplicationName),
    /// Tokens issued for a credential.
    Credential(CredentialName),
    /// One token of a credential, by its id.
    Token(CredentialName, String),
}

impl Revoked {
    fn tenant(&self) -> &TenantId {
        match self {
            Self::Tenant(id) => id,
            Self::User(name) => &name.tenant,
            Self::Application(name) => &name.tenant,
            Self::Credential(name) | Self::Token(name, _) => &name.application.tenant,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Tenant(id) => id.name(),
            Self::User(name) => name.to_string(),
            Self::Application(name) => name.to_string(),
            Self::Credential(name) | Self::Token(name, _) => name.to_string(),
        }
    }
}

impl Admin {
    /// Revokes all tokens of a resource. Returns how many applications lost theirs.
    pub async fn revoke_tokens(
        &self,
        caller: &Caller,
        revoked: &Revoked,
        reason: &str,
    ) -> Result<u64> {
        let attempt = Attempt::new(caller, Action::RevokeTokens, revoked.tenant(), &revoked.name());
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let affected = match revoked {
                    Revoked::Tenant(_) => {
                        self.revoke_tenant(&mut work, &authority, tenant).await.map(|()| 0)?
                    }
                    Revoked::User(name) => revoke_user(&mut work, &authority, name, reason).await?,
                    Revoked::Application(name) => {
                        self.revoke_application(&mut work, &authority, name).await.map(|()| 0)?
                    }
                    Revoked::Credential(name) => {
                        self.revoke_credential(&mut work, &authority, name).await.map(|()| 0)?
                    }
                    Revoked::Token(name, id) => {
                        // The id does not show its tenant, so that it could be another tenant's.
                        authority.require_platform()?;
                        reach(&mut work, &authority, CALL, name).await?;
                        let expires_at = NewRevocation::end(self.clock.now());
                        let subject = Subject::Token(id.clone());
                        work.revoke(NewRevocation { subject, epoch: 0, expires_at });
                        0
                    }
                };
                let which = match revoked {
                    Revoked::Token(_, id) => format!("the token {id} was revoked"),
                    _ => "all tokens were revoked".to_owned(),
                };
                let detail = if reason.is_empty() { which } else { format!("{which}: {reason}") };
                let name = revoked.name();
                work.note_with(Action::RevokeTokens, name, Vec::new(), detail).await?;
                work.commit().await?;
                Ok(affected)
            })
            .await
    }

    async fn revoke_tenant(
        &self,
        work: &mut UnitOfWork,
        authority: &Authority,
        before: Tenant,
    ) -> Result<()> {
        authority.require_of(CALL, &Owner::Account)?;
        authority.require_of_all_users(CALL)?;
        let (epoch, record) = (before.epoch + 1, before.record.changed(self.clock.now()));
        let after = Tenant { epoch, record, ..before };
        if !work.update_tenant(&after).await? {
            return Err(vanished(&after.id));
        }
        work.raise(Subject::Tenant(after.id), epoch - 1, epoch);
        Ok(())
    }

    async fn revoke_application(
        &self,
        work: &mut UnitOfWork,
        authority: &Authority,
        name: &ApplicationName,
    ) -> Result<()> {
        let before = reached(work, authority, CALL, name).await?;
        let settings = before.settings.clone();
        let (epoch, record) = (before.epoch + 1, before.record.changed(self.clock.now()));
        let after = Application { epoch, record, ..before };
        if !work.update_application(&after, &settings).await? {
            return Err(vanished(name));
        }
        work.raise(Subject::Application(after.name), epoch - 1, epoch);
        Ok(())
    }

    async fn revoke_credential(
        &self,
        work: &mut UnitOfWork,
        authority: &Authority,
        name: &CredentialName,
    ) -> Result<()> {
        let before = reach(work, authority, CALL, name).await?.credential;
        let (epoch, record) = (before.epoch + 1, before.record.changed(self.clock.now()));
        let after = Credential { epoch, record, ..before };
        if !work.update_credential(&after).await? {
            return Err(vanished(name));
        }
        work.raise(Subject::Credential(after.name), epoch - 1, epoch);
        Ok(())
    }
}

async fn revoke_user(
    work: &mut UnitOfWork,
    authority: &Authority,
    name: &UserName,
    reason: &str,
) -> Result<u64> {
    let owner = Owner::User(name.user.clone());
    authority.require_of(CALL, &owner)?;
    if work.find_user(name).await?.is_none() {
        return Err(Error::NotFound(name.to_string()));
    }
    let why = if reason.is_empty() { "with all of its owner's" } else { reason };
    let count = work.affect(Affected::ApplicationsOf(name), why).await?;
    Ok(if authority.may_view(&owner) { count } else { 0 })
}
