//! An operator accepts the database as it is: after a backup was restored, or after a failover that
//! lost the last writes.

use std::collections::HashMap;

use jiff::Timestamp;

use super::base::Admin;
use crate::domain::{Action, NewRevocation, Revocation, TenantId};
use crate::error::{Error, Result};
use crate::revocation::RememberedList;
use crate::revocation::cursor::successor;
use crate::service::audit::{Attempt, UnitOfWork};
use crate::service::auth::Caller;
use crate::store::RevocationFeed;

/// What accepting the database did.
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
    /// How many revocations the database lacked, and has now.
    pub put_back: usize,
}

impl Admin {
    /// Accepts the database as it is: every server that follows it takes over its list of
    /// revocations, even if it knew more. Tokens that were issued before are revoked, unless they
    /// are to be kept: a token that was revoked after the backup would be accepted again where no
    /// server or verifier still knows of its revocation. A kept token needs the epochs of its
    /// client, so that none can be raised then.
    ///
    /// `remembered` is the list outside the database. Revocations in force that the database lacks
    /// are added to it.
    pub async fn accept_database(
        &self,
        keep_tokens: bool,
        remembered: &RememberedList,
    ) -> Result<Declared> {
        let system = TenantId::system();
        let (caller, name) = (Caller::keyward(), system.name());
        let attempt = Attempt::new(&caller, Action::AcceptDatabase, &system, &name);
        let mut work = self.sessions.begin(&attempt).await?;
        let now = self.clock.now();
        if !keep_tokens {
            // Of applications and credentials too: servers keep applying the revocations that
            // they know, and those must not match tokens that are issued from now on.
            work.raise_all_epochs(now).await?;
        }
        work.raise_all_revisions().await?;
        if work.lock_tenant(&system).await?.is_none() {
            return Err(Error::NotFound(name));
        }
        let feed = work.revocation_feed().await?;
        let after = successor(&feed.id, now);
        let missing = missing(&mut work, remembered.of_database(&feed.id), &feed, now).await?;
        let put_back = missing.len();
        for revocation in missing {
            work.revoke(revocation);
        }
        let tokens = if keep_tokens { "tokens were kept" } else { "all tokens were revoked" };
        let detail = format!(
            "the database with the list of revocations {} up to number {} was declared to be the \
             truth, as {after}; {tokens}; {put_back} revocations were put back",
            feed.id, feed.last_number
        );
        work.note_with(Action::AcceptDatabase, &name, Vec::new(), detail).await?;
        work.rename_revocation_feed(&after).await?;
        let tenants = if keep_tokens { 0 } else { work.revoke_all_tenants(now).await? };
        work.commit().await?;
        Ok(Declared { before: feed.id, revocations: feed.last_number, after, tenants, put_back })
    }
}

/// The revocations in force that the database lacks.
async fn missing(
    work: &mut UnitOfWork,
    remembered: &[Revocation],
    feed: &RevocationFeed,
    now: Timestamp,
) -> Result<Vec<NewRevocation>> {
    if remembered.is_empty() {
        return Ok(Vec::new());
    }
    let key = |row: &Revocation| (row.subject.kind(), row.subject.name(), row.epoch);
    let there = work.list_revocations(0, feed.last_number, i64::MAX).await?;
    let there: HashMap<_, _> = there.iter().map(|row| (key(row), row.expires_at)).collect();
    let lacks = |row: &&Revocation| there.get(&key(row)).is_none_or(|end| *end < row.expires_at);
    let in_force = remembered.iter().filter(|row| row.expires_at > now).filter(lacks);
    Ok(in_force
        .map(|row| NewRevocation {
            subject: row.subject.clone(),
            epoch: row.epoch,
            expires_at: row.expires_at,
        })
        .collect())
}
