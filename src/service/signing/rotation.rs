//! Changes of the signing keys in the database. Each is made in a transaction that holds the lock of
//! the tenant `system`, and decides by what it reads there: of servers that find the same change
//! due, the first makes it, and the others find that it is made. Servers of an older version do not
//! take the lock; against them, generations are unique.

use jiff::Timestamp;

use super::{Signing, sealed};
use crate::clock::later;
use crate::error::{Error, Result};
use crate::keys::schedule::{NOTICE, SuccessorDue, UNPLANNED, kept};
use crate::keys::signing::generate;
use crate::keys::{KeyRecord, KeyState, Schedule, SigningKey};
use crate::store::{SealedSigningKey, Session, StoredSigningKey, Tx};

/// A change that was made to a key.
#[derive(Clone, Debug)]
pub(in crate::service) struct KeyStep {
    pub(in crate::service) kid: String,
    pub(in crate::service) kind: StepKind,
}

/// The kinds of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum StepKind {
    /// A server of an older version made the key.
    Recorded,
    /// The next key was made, and signs from this time on.
    Made(Timestamp),
    /// The next key signs from this time on.
    Planned(Timestamp),
    /// The next key was withdrawn: the configured algorithm is another one.
    Withdrawn,
    /// The private key was erased.
    Erased,
    /// The public key is no longer published.
    Removed,
}

impl StepKind {
    /// Whether another key will sign because of this step.
    pub(in crate::service) fn is_rotation(&self) -> bool {
        matches!(self, Self::Made(at) | Self::Planned(at) if *at < UNPLANNED)
    }

    /// What happened, for the audit log and the log.
    pub(in crate::service) fn words(&self) -> String {
        match self {
            Self::Recorded => "it was made by an older version".to_owned(),
            Self::Made(at) if *at < UNPLANNED => format!("it was made, and signs from {at} on"),
            Self::Made(_) => "it was made, and is published as the next key".to_owned(),
            Self::Planned(at) => format!("it signs from {at} on"),
            Self::Withdrawn => "it was withdrawn: another algorithm is configured".to_owned(),
            Self::Erased => "its private key was erased: it no longer signs".to_owned(),
            Self::Removed => "it is no longer published: its tokens have expired".to_owned(),
        }
    }
}

impl Signing {
    /// The schedule as this session reads it.
    pub(in crate::service) async fn schedule_of(&self, session: &mut Session) -> Result<Schedule> {
        Ok(sealed::schedule(&session.list_stored_signing_keys().await?))
    }

    /// The schedule as this transaction reads it.
    pub(in crate::service) async fn schedule_in(&self, tx: &mut Tx) -> Result<Schedule> {
        self.schedule_of(tx).await
    }

    /// Whether [`maintain`](Self::maintain) would change something.
    pub(in crate::service) async fn is_maintenance_due(&self, now: Timestamp) -> Result<bool> {
        let stored = self.store.read().await?.list_needed_signing_keys().await?;
        let schedule = sealed::schedule(&stored);
        let is_due = |key: &StoredSigningKey| {
            !key.is_recorded
                || schedule.find(&key.id).is_some_and(|record| {
                    let ends = (key.sealed_private_key.is_some(), key.sealed_public_key.is_some());
                    is_ended(&schedule, record, ends, now)
                })
        };
        Ok(stored.iter().any(is_due) || schedule.successor_due(now, self.period).is_some())
    }

    /// Does what is due: records keys of older servers, makes or plans the next key, erases private keys that
    /// no longer sign, and public keys that are no longer published. Can be interrupted after any
    /// step, and repeated.
    pub(in crate::service) async fn maintain(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<Vec<KeyStep>> {
        let stored = tx.list_stored_signing_keys().await?;
        let schedule = sealed::schedule(&stored);
        let mut steps = Vec::new();
        let step = |key: &StoredSigningKey, kind| KeyStep { kid: key.id.clone(), kind };
        for key in stored.iter().filter(|key| !key.is_recorded) {
            self.record(tx, key).await?;
            steps.push(step(key, StepKind::Recorded));
        }
        match (schedule.successor_due(now, self.period), schedule.next(now)) {
            (Some(SuccessorDue::Make(at)), _) => {
                steps.extend(self.make_next(tx, &schedule, now, at).await?);
            }
            (Some(SuccessorDue::Plan(at)), Some(next)) => {
                steps.push(self.bring_forward(tx, next, at).await?);
            }
            (Some(SuccessorDue::Plan(_)), None) | (None, _) => {}
        }
        for key in &stored {
            let Some(record) = schedule.find(&key.id) else { continue };
            if key.sealed_private_key.is_some()
                && is_ended(&schedule, record, (true, false), now)
                && tx.erase_signing_key(&key.id).await?
            {
                steps.push(step(key, StepKind::Erased));
            }
            if is_ended(&schedule, record, (false, true), now)
                && tx.unpublish_signing_key(&key.id).await?
            {
                steps.push(step(key, StepKind::Removed));
            }
        }
        Ok(steps)
    }

    /// Makes a key of the configured algorithm if the newest one has another. It takes the place of
    /// the next key.
    pub(in crate::service) async fn follow_algorithm(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<Vec<KeyStep>> {
        let schedule = self.schedule_in(tx).await?;
        let usable = |key: &&KeyRecord| {
            matches!(schedule.state(key, now), KeyState::Next | KeyState::Active)
        };
        let newest = schedule.records().iter().rev().find(usable);
        if newest.is_some_and(|key| key.algorithm == self.algorithm.into_str()) {
            return Ok(Vec::new());
        }
        let Some(made) = self.make_next(tx, &schedule, now, later(now, NOTICE)).await? else {
            // A server of an older version made one meanwhile.
            return Ok(Vec::new());
        };
        let mut steps = vec![made];
        if let Some(next) = schedule.next(now) {
            self.withdraw(tx, &next.kid, now).await?;
            steps.push(KeyStep { kid: next.kid.clone(), kind: StepKind::Withdrawn });
        }
        Ok(steps)
    }

    /// Whether the newest key has another algorithm than the configured one.
    pub(in crate::service) fn is_algorithm_changed(&self) -> bool {
        self.keys().newest_algorithm() != Some(self.algorithm)
    }

    /// Lets the next key take over as early as verifiers know it. Makes one if there is none.
    pub(in crate::service) async fn rotate(&self, tx: &mut Tx, now: Timestamp) -> Result<KeyStep> {
        let schedule = self.schedule_in(tx).await?;
        let Some(next) = schedule.next(now) else {
            let made = self.make_next(tx, &schedule, now, later(now, NOTICE)).await?;
            // A server of an older version made one meanwhile.
            return made
                .ok_or_else(|| Error::Unavailable("another server rotates the keys".into()));
        };
        let earliest = Schedule::earliest(next, now);
        if next.activates_at <= earliest {
            return Err(Error::RotationPending {
                key: format!("signingKeys/{}", next.kid),
                signs_at: next.activates_at,
            });
        }
        self.bring_forward(tx, next, earliest).await
    }

    /// Lets the next key take over from the active one, or withdraws the next key. Returns what was
    /// moved.
    pub(in crate::service) async fn retire(
        &self,
        tx: &mut Tx,
        kid: &str,
        now: Timestamp,
    ) -> Result<Option<KeyStep>> {
        let name = format!("signingKeys/{kid}");
        let schedule = self.schedule_in(tx).await?;
        let key = schedule.find(kid).ok_or_else(|| Error::NotFound(name.clone()))?;
        match schedule.state(key, now) {
            KeyState::Next => self.withdraw(tx, kid, now).await.map(|()| None),
            KeyState::Active => {
                let next = schedule.next(now);
                let earliest = next.map(|next| (next, Schedule::earliest(next, now)));
                let ready = earliest.filter(|(next, _)| next.known_from() <= now);
                let Some((next, earliest)) = ready else {
                    let ready_at = next.map(KeyRecord::known_from);
                    return Err(Error::NoSuccessor { key: name, ready_at });
                };
                let at = earliest.min(next.activates_at);
                self.bring_forward(tx, next, at).await.map(Some)
            }
            state => Err(Error::KeyEnded { key: name, state: state.as_str() }),
        }
    }

    /// Revokes a key. If it was the one that signs, another signs at once. Returns whether the key
    /// was changed, and the step that replaced it.
    pub(in crate::service) async fn revoke(
        &self,
        tx: &mut Tx,
        kid: &str,
        now: Timestamp,
    ) -> Result<(bool, Option<KeyStep>)> {
        let schedule = self.schedule_in(tx).await?;
        let key = schedule.find(kid);
        let key = key.ok_or_else(|| Error::NotFound(format!("signingKeys/{kid}")))?;
        if key.revoked_at.is_some() {
            return Ok((false, None));
        }
        self.ensure_recorded(tx, kid).await?;
        tx.revoke_signing_key(kid, now).await?;
        let after = self.schedule_in(tx).await?;
        if after.active(now).is_some() {
            return Ok((true, None));
        }
        // Compromise is the exception to the notice: no other key may sign. As a rule the next key
        // has been published for long.
        let replacement = if let Some(next) = after.next(now) {
            self.bring_forward(tx, next, now).await?
        } else {
            let made = self.make_next(tx, &after, now, now).await?;
            made.ok_or_else(|| Error::Unavailable("another server rotates the keys".into()))?
        };
        Ok((true, Some(replacement)))
    }

    /// Makes the first key of a database. Replicas whose clocks are behind sign with it too.
    pub(super) async fn make_first(&self) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let (now, at) = (self.clock.now(), Timestamp::UNIX_EPOCH);
        // If another replica was faster, its key serves as well.
        if self.make_next(&mut tx, &Schedule::default(), now, at).await?.is_some() {
            tx.commit().await?;
        }
        Ok(())
    }

    /// Adds the next key; `None` if another server has added one of this generation.
    async fn make_next(
        &self,
        tx: &mut Tx,
        schedule: &Schedule,
        now: Timestamp,
        activates_at: Timestamp,
    ) -> Result<Option<KeyStep>> {
        let generation = schedule.records().iter().map(|key| key.generation).max();
        let generation = generation.unwrap_or_default() + 1;
        let algorithm = self.algorithm;
        let pkcs8 = generate(algorithm)?;
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8, generation, activates_at)?;
        let id = key.public.jwk.kid.clone();
        let row = SealedSigningKey {
            generation,
            sealed_private_key: sealed::seal_private(&self.sealer, &id, &pkcs8)?,
            id: id.clone(),
            algorithm: algorithm.to_string(),
            created_at: now,
            activates_at,
        };
        if !tx.insert_signing_key(&row).await? {
            return Ok(None);
        }
        let record = StoredSigningKey {
            generation,
            id: id.clone(),
            algorithm: row.algorithm,
            created_at: now,
            activates_at,
            retired_at: None,
            revoked_at: None,
            sealed_private_key: None,
            sealed_public_key: Some(sealed::seal_public(&self.sealer, &key.public)?),
            is_recorded: false,
        };
        tx.record_signing_key(&record).await?;
        Ok(Some(KeyStep { kid: id, kind: StepKind::Made(activates_at) }))
    }

    /// Withdraws the next key: it never signs.
    async fn withdraw(&self, tx: &mut Tx, kid: &str, now: Timestamp) -> Result<()> {
        self.ensure_recorded(tx, kid).await?;
        tx.retire_signing_key(kid, now).await?;
        tx.erase_signing_key(kid).await.map(drop)
    }

    async fn bring_forward(&self, tx: &mut Tx, next: &KeyRecord, to: Timestamp) -> Result<KeyStep> {
        self.ensure_recorded(tx, &next.kid).await?;
        if !tx.move_signing_key(&next.kid, next.activates_at, to).await? {
            return Err(Error::Unavailable("another server changes the keys".into()));
        }
        Ok(KeyStep { kid: next.kid.clone(), kind: StepKind::Planned(to) })
    }

    /// Records a key that a server of an older version made.
    async fn ensure_recorded(&self, tx: &mut Tx, kid: &str) -> Result<()> {
        let stored = tx.list_stored_signing_keys().await?;
        match stored.iter().find(|key| key.id == kid && !key.is_recorded) {
            Some(key) => self.record(tx, key).await,
            None => Ok(()),
        }
    }

    async fn record(&self, tx: &mut Tx, key: &StoredSigningKey) -> Result<()> {
        let signer = sealed::signing_key(&self.sealer, key)?;
        let public = signer.map(|signer| sealed::seal_public(&self.sealer, &signer.public));
        let row = StoredSigningKey { sealed_public_key: public.transpose()?, ..key.clone() };
        tx.record_signing_key(&row).await.map(drop)
    }
}

/// Whether a private or public key that is still stored is no longer needed.
fn is_ended(
    schedule: &Schedule,
    record: &KeyRecord,
    (private, public): (bool, bool),
    now: Timestamp,
) -> bool {
    // A server that has not read yet that a key was withdrawn must find it: it would publish a key
    // that is missing in the database.
    let is_read = record.retired_at.is_none_or(|at| later(at, kept()) < now);
    let is_removed =
        || is_read && matches!(schedule.state(record, now), KeyState::Removed | KeyState::Revoked);
    (private && schedule.may_erase(record, now)) || (public && is_removed())
}
