//! Signs heads and checkpoints of audit logs again, after a change of the master key. Without it, a
//! log without new events would need the old key for ever.

use super::chain::AuditChain;
use crate::domain::{PlaceKind, TenantId};
use crate::error::{Error, Result};
use crate::store::Tx;

/// What signing a batch of places again did.
#[derive(Debug, Default)]
pub(in crate::service) struct SignedAgain {
    pub(in crate::service) moved: i64,
    /// Logs that another server was adding to, or whose signature is wrong.
    pub(in crate::service) skipped: i64,
    /// The last tenant, if there may be more.
    pub(in crate::service) last: Option<TenantId>,
}

impl AuditChain {
    /// The public keys by which a head is accepted, that of the primary master key first.
    pub(in crate::service) fn accepted(&self) -> &[Vec<u8>] {
        &self.accepted
    }

    /// Signs the places of up to `max` tenants after this id again.
    pub(in crate::service) async fn sign_again(
        &self,
        after: &str,
        max: usize,
    ) -> Result<SignedAgain> {
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let mut session = self.store.read_list().await?;
        let tenants = session.tenants_signed_by_others(self.key.public(), after, limit).await?;
        drop(session);
        let mut done = SignedAgain::default();
        for tenant in &tenants {
            let mut tx = self.store.begin().await?;
            match self.sign_places(&mut tx, tenant).await {
                Ok(Some(moved)) => {
                    tx.commit().await?;
                    done.moved += moved;
                }
                Ok(None) => done.skipped += 1,
                Err(error) if matches!(error, Error::Unavailable(_)) => return Err(error),
                // A signature that is wrong stays wrong: a verification must find it.
                Err(error) => {
                    error.log_fault();
                    done.skipped += 1;
                }
            }
        }
        done.last = tenants.last().filter(|_| tenants.len() == max).cloned();
        Ok(done)
    }

    async fn sign_places(&self, tx: &mut Tx, tenant: &TenantId) -> Result<Option<i64>> {
        if !tx.lock_chain(tenant).await? {
            return Ok(None);
        }
        let mut moved = 0;
        for kind in [PlaceKind::Head, PlaceKind::Checkpoint] {
            let Some(place) = tx.signed_place(kind, tenant).await? else { continue };
            if place.public_key == self.key.public() {
                continue;
            }
            let (number, hash) = self.own(Some(place))?;
            let place = self.key.sign(kind, tenant, number, hash, self.clock.now());
            tx.set_signed_place(&place).await?;
            moved += 1;
        }
        Ok(Some(moved))
    }
}
