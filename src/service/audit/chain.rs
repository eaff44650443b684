//! The hash chains of audit logs. Events are added to the chain in the background, in the order of
//! their numbers, and the new head is signed.
//!
//! In the background, because then writers of events do no more work, and events of servers of an
//! older version, which know no chain, are added by the next newer server. Numbers follow the order
//! of commits: each event gets the largest committed number of its tenant plus one, in a transaction
//! that has locked the tenant, and a second event with the same number would violate the primary
//! key. So an event that is visible has no predecessor that is still to be committed.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::domain::{ChainHash, PlaceKind, SignedPlace, TenantId};
use crate::error::{Error, Result};
use crate::keys::AuditKey;
use crate::keys::audit::is_signed;
use crate::secrets::{MasterKey, MasterKeys};
use crate::store::Store;

/// How many events one transaction adds to a chain.
const BATCH: i64 = 500;
/// How many transactions one tenant gets before the others have their turn.
const BATCHES_OF_TENANT: usize = 4;
/// How many transactions one round has.
const BATCHES: usize = 20;
/// How many tenants are read at a time.
const TENANTS: i64 = 200;

/// Adds events to the chains, and signs their heads.
#[derive(Debug)]
pub struct AuditChain {
    pub(super) store: Store,
    pub(super) clock: Clock,
    /// The key that signs.
    pub(super) key: AuditKey,
    /// The public keys by which a head is accepted.
    pub(super) accepted: Vec<Vec<u8>>,
    /// The tenant whose turn is next, if a round ended before it.
    turn: Mutex<String>,
    /// Tenants whose chains cannot go on, which is logged once.
    broken: Mutex<BTreeSet<TenantId>>,
    lag: Gauge<f64, AtomicU64>,
    /// Counts the rounds that added events.
    rounds: watch::Sender<u64>,
}

impl AuditChain {
    pub(in crate::service) fn new(
        store: Store,
        clock: Clock,
        master_keys: &MasterKeys,
    ) -> Result<Arc<Self>> {
        let mut keys = master_keys.each(Self::key_of)?;
        let accepted = keys.iter().map(|key| key.public().to_vec()).collect();
        let (turn, lag, rounds) = (Mutex::default(), Gauge::default(), watch::Sender::new(0));
        let (key, broken) = (keys.remove(0), Mutex::default());
        Ok(Arc::new(Self { store, clock, key, accepted, turn, broken, lag, rounds }))
    }

    /// The key that a master key signs with.
    pub(in crate::service) fn key_of(master: &MasterKey) -> Result<AuditKey> {
        AuditKey::from_seed(&*master.derive("audit heads")?)
    }

    /// The age in seconds of the oldest event that is not in a chain.
    pub fn lag(&self) -> &Gauge<f64, AtomicU64> {
        &self.lag
    }

    /// Changes when this server has added events.
    pub(in crate::service) fn news(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// Adds events to the chains: as many as one round has. Returns whether all are added.
    pub async fn seal(&self) -> Result<bool> {
        let after = self.turn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tenants = self.store.read_list().await?.unsealed_tenants(&after, TENANTS).await?;
        let (mut batches, mut complete) = (0, tenants.len() < 200 && after.is_empty());
        let mut turn = String::new();
        for tenant in &tenants {
            if batches >= BATCHES {
                (turn, complete) = (tenant.to_string(), false);
                break;
            }
            for n in 1.. {
                batches += 1;
                match self.seal_batch(tenant).await {
                    Ok(false) => {}
                    Ok(true) => break,
                    Err(error) if matches!(error, Error::Unavailable(_)) => return Err(error),
                    // The chains of other tenants must not wait for this one.
                    Err(error) => {
                        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                        if broken.insert(tenant.clone()) {
                            error.log_fault();
                        }
                        break;
                    }
                }
                if n == BATCHES_OF_TENANT {
                    complete = false;
                    break;
                }
            }
        }
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        if batches > 0 {
            self.rounds.send_modify(|round| *round += 1);
        }
        let since = self.store.read_list().await?.unsealed_since().await?;
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        let lag = since.map_or(0.0, |since| {
            (self.clock.now().as_microsecond().saturating_sub(since)) as f64 / 1e6
        });
        self.lag.set(lag.max(0.0));
        Ok(complete)
    }

    /// The number and hash of a place that one of this server's keys signed; the start if there is
    /// none.
    pub(super) fn own(&self, place: Option<SignedPlace>) -> Result<(i64, ChainHash)> {
        let Some(place) = place else { return Ok((0, ChainHash::START)) };
        if self.accepted.contains(&place.public_key) && is_signed(&place) {
            return Ok((place.number, place.hash));
        }
        Err(Error::internal(format!(
            "the {} of the audit log of {} is not signed with a key of this server: it was \
             changed, or the master key was; run `keyward audit verify {}`",
            place.kind.as_str(),
            place.tenant,
            place.tenant
        )))
    }

    /// Adds a batch of a tenant's events. Returns whether there are no more, or another server is
    /// adding them.
    async fn seal_batch(&self, tenant: &TenantId) -> Result<bool> {
        let mut tx = self.store.begin().await?;
        if !tx.lock_chain(tenant).await? {
            return Ok(true);
        }
        let head = tx.signed_place(PlaceKind::Head, tenant).await?;
        // To continue from a forged head would sign what was changed with it.
        let (last, mut hash) = self.own(head)?;
        let events = tx.chained_events(tenant, last, i64::MAX, BATCH).await?;
        let Some(first) = events.first().map(|chained| chained.event.number) else {
            tx.mark_sealed(tenant, last).await?;
            tx.commit().await?;
            return Ok(true);
        };
        let mut hashes = Vec::with_capacity(events.len());
        let mut through = last;
        for (number, chained) in (first..).zip(&events) {
            if chained.event.number != number {
                break;
            }
            hash = hash.next(&chained.event.record()?);
            hashes.push(hash);
            through = number;
        }
        if first != last + 1 {
            // The chain goes on: a verification names the events that are missing.
            tracing::error!(
                %tenant,
                after = last,
                before = first,
                "audit events are missing: run `keyward audit verify`"
            );
        }
        tx.insert_chain(tenant, first, &hashes).await?;
        if tx.chain_hash(tenant, through).await? != Some(hash) {
            return Err(Error::internal(format!(
                "the audit chain of {tenant} has another hash for event {through} than its head: \
                 run `keyward audit verify {tenant}`"
            )));
        }
        let now = self.clock.now();
        let head = self.key.sign(PlaceKind::Head, tenant, through, hash, now);
        tx.set_signed_place(&head).await?;
        tx.mark_sealed(tenant, through).await?;
        tx.commit().await?;
        Ok(i64::try_from(events.len()).unwrap_or(BATCH) < BATCH && hashes.len() == events.len())
    }
}
