//! The list of revocations, for services that verify tokens themselves.

use jiff::{SignedDuration, Timestamp};

use super::base::Feeds;
use crate::domain::{Page, Revocation};
use crate::error::{Error, Result};
use crate::revocation::Cursor;
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};

/// How long a revocation is kept after its tokens have ended: for replicas and verifiers whose
/// clocks are behind, or that were disconnected for a while.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// A page of the list of revocations.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// The page.
    pub list: List<Revocation>,
    /// Where the list goes on; on the last page only.
    pub cursor: Option<Cursor>,
}

impl Feeds {
    /// Lists what is revoked, in the order of revocation.
    pub async fn list_revocations(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<RevocationList> {
        const CALL: &str = "revocations";
        caller.require_verifier()?;
        let page = self.pages.request(CALL, request)?;
        self.revocations.ensure_fresh().await?;
        let after = page.after.as_deref().map(str::parse).transpose();
        let after: i64 = after.map_err(|_| Error::InvalidPageToken)?.unwrap_or_default();
        let index = self.revocations.index();
        let part = index.held(after, page.size());
        let cursor = (!part.more).then_some(Cursor { feed: part.feed, number: part.last });
        let keys: Vec<_> = part.revocations.iter().map(|row| row.number.to_string()).collect();
        let next = keys.last().filter(|_| part.more).cloned();
        let page = Page { items: part.revocations, keys, next };
        let list = self.pages.list(CALL, page);
        Ok(RevocationList { list, cursor })
    }

    /// Deletes revocations of tokens that have ended by themselves. A deleted revocation is lost, so
    /// neither a clock that was set ahead nor one that is ahead of the database's decides this.
    pub async fn purge(&self) -> Result<()> {
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
