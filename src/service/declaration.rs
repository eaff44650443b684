//! An operator declares that the database as it is, is the truth: after a backup was restored, or
//! after a failover that lost the last moments.

use super::attempts::Attempt;
use super::{Caller, Service};
use crate::domain::{Action, TenantId};
use crate::error::{Error, Result};
use crate::revocation::cursor::successor;

/// What a declaration did.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The list of revocations that was replaced.
    pub before: String,
    /// How many revocations it had.
    pub revocations: i64,
    /// The list that follows it.
    pub after: String,
    /// How many tenants' tokens were revoked.
    pub tenants: u64,
}

impl Service {
    /// Declares the database as it is to be the truth: every server that follows it takes its
    /// list of revocations over, though it knew more. Tokens that were made before are revoked,
    /// unless they are to be kept: those that were revoked after the backup would be good again,
    /// wherever no server or verifier runs on that knows it. A token is good only with the epochs
    /// that its client has, so that none can be raised then.
    pub async fn accept_database(&self, keep_tokens: bool) -> Result<Declared> {
        let system = TenantId::system();
        let (caller, name) = (Caller::keyward(), system.name());
        let attempt = Attempt::new(&caller, Action::AcceptDatabase, &system, &name);
        let mut ledger = self.begin(&attempt).await?;
        let now = self.now();
        if !keep_tokens {
            // Of applications and credentials too: servers keep in force what they know to be
            // revoked, and that must not catch tokens that are made from now on.
            ledger.raise_all_epochs(now).await?;
        }
        if ledger.lock_tenant(&system).await?.is_none() {
            return Err(Error::NotFound(name));
        }
        let feed = ledger.revocation_feed().await?;
        let after = successor(&feed.id, now);
        let tokens = if keep_tokens { "tokens were kept" } else { "all tokens were revoked" };
        let detail = format!(
            "the database with the list of revocations {} up to number {} was declared to be the \
             truth, as {after}; {tokens}",
            feed.id, feed.last_number
        );
        ledger.note_with(Action::AcceptDatabase, &name, Vec::new(), detail).await?;
        ledger.rename_revocation_feed(&after).await?;
        let tenants = if keep_tokens { 0 } else { ledger.revoke_all_tenants(now).await? };
        ledger.commit().await?;
        Ok(Declared { before: feed.id, revocations: feed.last_number, after, tenants })
    }
}
