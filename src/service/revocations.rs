//! Use cases of revocations: all tokens of something at once, and the list for services that
//! check tokens themselves.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::applications::reached;
use super::attempts::{Attempt, Ledger, Open};
use super::credentials::reach;
use super::{Caller, List, ListRequest, Service, vanished};
use crate::domain::{
    Action, Application, ApplicationName, Authority, Call, Credential, CredentialName,
    NewRevocation, Owner, Page, Revocation, Subject, Tenant, TenantId, UserName,
};
use crate::error::{Error, Result};
use crate::revocation::Cursor;
use crate::store::Affected;

const CALL: Call = Call::RevokeTokens;

/// How long what has lapsed is kept: for replicas and verifiers whose clocks are behind, or
/// that were away for a while.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// Whose tokens are to be revoked.
#[derive(Clone, Debug)]
pub enum Revoked {
    /// All of a tenant.
    Tenant(TenantId),
    /// Those of the applications that a user owns.
    User(UserName),
    /// Those of an application.
    Application(ApplicationName),
    /// Those made with a credential.
    Credential(CredentialName),
    /// One made with a credential, by its id.
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

/// A page of the list of revocations.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// The page.
    pub list: List<Arc<Revocation>>,
    /// Where the list goes on; on the last page only.
    pub cursor: Option<Cursor>,
}

impl Service {
    /// Revokes all tokens there are of something; how many applications lost theirs.
    pub async fn revoke_tokens(
        &self,
        caller: &Caller,
        revoked: &Revoked,
        reason: &str,
    ) -> Result<u64> {
        let attempt = Attempt::new(caller, Action::RevokeTokens, revoked.tenant(), &revoked.name());
        self.audited(&attempt, async {
            let Open { mut ledger, tenant, authority } = self.open(&attempt).await?;
            let affected = match revoked {
                Revoked::Tenant(_) => {
                    self.revoke_tenant(&mut ledger, &authority, tenant).await.map(|()| 0)?
                }
                Revoked::User(name) => revoke_user(&mut ledger, &authority, name, reason).await?,
                Revoked::Application(name) => {
                    self.revoke_application(&mut ledger, &authority, name).await.map(|()| 0)?
                }
                Revoked::Credential(name) => {
                    self.revoke_credential(&mut ledger, &authority, name).await.map(|()| 0)?
                }
                Revoked::Token(name, id) => {
                    // Whose the id is, nobody can tell: it may be another tenant's.
                    authority.require_platform()?;
                    reach(&mut ledger, &authority, CALL, name).await?;
                    let expires_at = NewRevocation::end(self.now());
                    let subject = Subject::Token(id.clone());
                    ledger.revoke(NewRevocation { subject, epoch: 0, expires_at });
                    0
                }
            };
            let which = match revoked {
                Revoked::Token(_, id) => format!("the token {id} was revoked"),
                _ => "all tokens were revoked".to_owned(),
            };
            let detail = if reason.is_empty() { which } else { format!("{which}: {reason}") };
            let name = revoked.name();
            ledger.note_with(Action::RevokeTokens, name, Vec::new(), detail).await?;
            ledger.commit().await?;
            Ok(affected)
        })
        .await
    }

    async fn revoke_tenant(
        &self,
        ledger: &mut Ledger,
        authority: &Authority,
        before: Tenant,
    ) -> Result<()> {
        authority.require_of(CALL, &Owner::Account)?;
        authority.require_of_all_users(CALL)?;
        let (epoch, record) = (before.epoch + 1, before.record.changed(self.now()));
        let after = Tenant { epoch, record, ..before };
        if !ledger.update_tenant(&after).await? {
            return Err(vanished(&after.id));
        }
        ledger.raise(Subject::Tenant(after.id), epoch - 1, epoch);
        Ok(())
    }

    async fn revoke_application(
        &self,
        ledger: &mut Ledger,
        authority: &Authority,
        name: &ApplicationName,
    ) -> Result<()> {
        let before = reached(ledger, authority, CALL, name).await?;
        let settings = before.settings.clone();
        let (epoch, record) = (before.epoch + 1, before.record.changed(self.now()));
        let after = Application { epoch, record, ..before };
        if !ledger.update_application(&after, &settings).await? {
            return Err(vanished(name));
        }
        ledger.raise(Subject::Application(after.name), epoch - 1, epoch);
        Ok(())
    }

    async fn revoke_credential(
        &self,
        ledger: &mut Ledger,
        authority: &Authority,
        name: &CredentialName,
    ) -> Result<()> {
        let before = reach(ledger, authority, CALL, name).await?.credential;
        let (epoch, record) = (before.epoch + 1, before.record.changed(self.now()));
        let after = Credential { epoch, record, ..before };
        if !ledger.update_credential(&after).await? {
            return Err(vanished(name));
        }
        ledger.raise(Subject::Credential(after.name), epoch - 1, epoch);
        Ok(())
    }

    /// Refuses an acting user who may not revoke tokens of this application.
    pub(super) async fn require_revoker(
        &self,
        authority: &Authority,
        application: &ApplicationName,
    ) -> Result<()> {
        let mut session = self.store.read().await?;
        reached(&mut session, authority, Call::RevokeToken, application).await.map(drop)
    }

    /// Lists what is revoked, in the order in which it was.
    pub async fn list_revocations(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<RevocationList> {
        const CALL: &str = "revocations";
        caller.require_verifier()?;
        let page = self.page_request(CALL, request)?;
        self.revocations.ensure_fresh().await?;
        let after = page.after.as_deref().map(str::parse).transpose();
        let after: i64 = after.map_err(|_| Error::InvalidPageToken)?.unwrap_or_default();
        let index = self.revocations.index();
        let part = index.held(after, page.size());
        let cursor = (!part.more).then_some(Cursor { feed: part.feed, number: part.last });
        let keys = part.revocations.iter().map(|row| row.number.to_string()).collect();
        let page = Page { items: part.revocations, keys, more: part.more };
        let list = self.list(CALL, page);
        Ok(RevocationList { list, cursor })
    }

    /// Forgets revocations of what has ended by itself. What is forgotten cannot be had back, so
    /// neither a clock that was set ahead nor a machine whose clock is ahead of the database's
    /// decides it.
    pub async fn purge_revocations(&self) -> Result<()> {
        let database = self.store.read().await?.time().await?;
        let steady = self.steady.now();
        let now = database.map_or(steady, |database| database.min(steady));
        let end = now.saturating_sub(MARGIN).unwrap_or(Timestamp::MIN);
        self.revocations.forget(end);
        loop {
            let mut tx = self.store.begin().await?;
            let done = tx.purge_revocations(end).await?;
            tx.commit().await?;
            if done {
                return Ok(());
            }
        }
    }
}

async fn revoke_user(
    ledger: &mut Ledger,
    authority: &Authority,
    name: &UserName,
    reason: &str,
) -> Result<u64> {
    let owner = Owner::User(name.user.clone());
    authority.require_of(CALL, &owner)?;
    if ledger.find_user(name).await?.is_none() {
        return Err(Error::NotFound(name.to_string()));
    }
    let why = if reason.is_empty() { "with all of its owner's" } else { reason };
    let count = ledger.affect(Affected::ApplicationsOf(name), why).await?;
    Ok(if authority.sees(&owner) { count } else { 0 })
}
