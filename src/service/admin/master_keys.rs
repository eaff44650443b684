//! Moves what is stored to the primary master key, and tells which master keys are still needed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strum::VariantArray;

use super::base::Admin;
use super::secrets::sealed_name;
use crate::domain::{Action, ServerKeys, TenantId};
use crate::error::{Error, Result};
use crate::secrets::MasterKeys;
use crate::service::audit::{Attempt, AuditChain};
use crate::service::auth::Caller;
use crate::service::signing::{private_name, public_name};
use crate::store::{SealedColumn, SealedItem, SealedValue, Session};

/// How many values one transaction seals again. Writers of these rows wait for it.
const BATCH: usize = 100;
/// How many batches one call does.
const BATCHES: usize = 10;
const CALL: &str = "rewrap";

/// A master key, and what needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterKeyUse {
    /// Empty: a key of audit signatures that this server does not have.
    pub id: String,
    pub is_primary: bool,
    pub is_held: bool,
    pub sealed_values: i64,
    pub secret_hashes: i64,
    pub audit_signatures: i64,
    pub is_removable: bool,
}

/// Which master keys are needed, and which ones servers have.
#[derive(Clone, Debug)]
pub struct MasterKeyStatus {
    /// The primary one first.
    pub keys: Vec<MasterKeyUse>,
    /// This server first.
    pub servers: Vec<ServerKeys>,
}

/// What a part of a rewrap did.
#[derive(Clone, Debug, Default)]
pub struct Rewrapped {
    pub moved: i64,
    /// Values that others were changing, or that cannot be opened.
    pub skipped: i64,
    /// Where to go on; empty: it is done.
    pub next_page_token: String,
}

/// The parts of a rewrap, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Column(SealedColumn),
    Audit,
    Redis,
}

impl Stage {
    fn all() -> impl Iterator<Item = Self> {
        let columns = SealedColumn::VARIANTS.iter().map(|column| Self::Column(*column));
        columns.chain([Self::Audit, Self::Redis])
    }
}

/// How far a rewrap is: a stage, and the last row that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RewrapCursor {
    stage: usize,
    version: i64,
    key: String,
}

impl RewrapCursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (stage, version) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { stage, version, key: parts.next()?.to_owned() })
    }

    fn text(&self) -> String {
        format!("{} {} {}", self.stage, self.version, self.key)
    }

    fn next_stage(&self) -> Self {
        Self { stage: self.stage + 1, ..Self::default() }
    }
}

/// The name that a value is sealed under.
fn name_of(item: &SealedItem) -> String {
    match item {
        SealedItem::Secret(name, version) => sealed_name(name, *version),
        SealedItem::SigningKey(kid) => private_name(kid),
        SealedItem::PublicKey(kid) => public_name(kid),
    }
}

/// The ids of master keys, each with the public key of audit logs that is derived from it.
pub fn held_master_keys(keys: &MasterKeys) -> Result<Vec<(String, Vec<u8>)>> {
    keys.each(|key| Ok((key.id()?, AuditChain::key_of(key)?.public().to_vec())))
}

/// Counts what needs each master key. `held` are the ids of the keys that are there, the primary one
/// first, each with the public key of audit logs that is derived from it.
pub async fn master_key_uses(
    session: &mut Session,
    held: &[(String, Vec<u8>)],
    now: Timestamp,
) -> Result<Vec<MasterKeyUse>> {
    let mut uses: BTreeMap<String, MasterKeyUse> = BTreeMap::new();
    let primary = held.first().map(|(id, _)| id.clone()).unwrap_or_default();
    for (id, _) in held {
        uses.entry(id.clone()).or_default().is_held = true;
    }
    for column in SealedColumn::VARIANTS {
        for found in session.count_sealed(*column).await? {
            uses.entry(found.key).or_default().sealed_values += found.values;
        }
    }
    for found in session.count_hashes(now).await? {
        // A hash that names no key is verified with the primary one.
        let id = if found.key.is_empty() { primary.clone() } else { found.key };
        uses.entry(id).or_default().secret_hashes += found.values;
    }
    for (public, count) in session.count_signed_places().await? {
        let id = held.iter().find(|(_, key)| *key == public).map(|(id, _)| id.clone());
        uses.entry(id.unwrap_or_default()).or_default().audit_signatures += count;
    }
    let mut uses: Vec<_> = uses
        .into_iter()
        .map(|(id, found)| MasterKeyUse { is_primary: id == primary, id, ..found })
        .collect();
    for found in &mut uses {
        let needed = found.sealed_values + found.secret_hashes + found.audit_signatures;
        found.is_removable = !found.is_primary && needed == 0;
    }
    uses.sort_by_key(|found| !found.is_primary);
    Ok(uses)
}

impl Admin {
    /// Which master keys stored values need, and which ones the running servers have.
    pub async fn master_key_status(&self, caller: &Caller) -> Result<MasterKeyStatus> {
        caller.require_platform()?;
        let mut session = self.store.read_list().await?;
        let own = self.keys.own();
        let ids = std::iter::once(&own.primary).chain(&own.additional).cloned();
        let held: Vec<_> = ids.zip(self.audit.accepted().iter().cloned()).collect();
        let mut keys = master_key_uses(&mut session, &held, self.clock.now()).await?;
        let others = self.keys.others(&mut session).await?;
        for found in &mut keys {
            found.is_removable &= others.iter().all(|server| server.primary != found.id);
        }
        let own = ServerKeys { seen_at: self.clock.now(), ..own.clone() };
        Ok(MasterKeyStatus { keys, servers: [vec![own], others].concat() })
    }

    /// Seals a part of what is stored again with the primary master key.
    pub async fn rewrap_values(&self, caller: &Caller, page_token: &str) -> Result<Rewrapped> {
        let (system, key) = (TenantId::system(), self.keys.own().primary.clone());
        let resource = format!("masterKeys/{key}");
        let attempt = Attempt::new(caller, Action::RewrapValues, &system, &resource);
        let rewrapped = self.sessions.audited(&attempt, async {
            caller.require_platform()?;
            let cursor = self.pages.cursor(CALL, page_token)?;
            let cursor = if let Some(text) = cursor {
                RewrapCursor::parse(&text).ok_or(Error::InvalidPageToken)?
            } else {
                self.keys.require_agreement().await?;
                let mut work = self.sessions.open(&attempt).await?.work;
                let detail = "stored values are sealed again with this master key".to_owned();
                work.note_with(Action::RewrapValues, &resource, Vec::new(), detail).await?;
                work.commit().await?;
                RewrapCursor::default()
            };
            Box::pin(self.rewrap_from(cursor)).await
        });
        rewrapped.await
    }

    async fn rewrap_from(&self, mut cursor: RewrapCursor) -> Result<Rewrapped> {
        let mut done = Rewrapped::default();
        for _ in 0..BATCHES {
            // A server may have come that still writes with another key.
            self.keys.require_agreement().await?;
            let Some(stage) = Stage::all().nth(cursor.stage) else {
                return Ok(done);
            };
            let last = match stage {
                Stage::Column(column) => self.rewrap_batch(column, &cursor, &mut done).await?,
                Stage::Audit => self.sign_batch(&cursor, &mut done).await?,
                Stage::Redis => {
                    self.sessions.revocations.rewrite_projection().await?;
                    None
                }
            };
            cursor = last.unwrap_or_else(|| cursor.next_stage());
        }
        if Stage::all().nth(cursor.stage).is_some() {
            done.next_page_token = self.pages.token(CALL, &cursor.text());
        }
        Ok(done)
    }

    /// Seals a batch of values of a column again. Returns where to go on in it.
    async fn rewrap_batch(
        &self,
        column: SealedColumn,
        cursor: &RewrapCursor,
        done: &mut Rewrapped,
    ) -> Result<Option<RewrapCursor>> {
        let mut session = self.store.read_list().await?;
        let max = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let after = (cursor.key.as_str(), cursor.version);
        let values = session.list_sealed(column, self.sealer.key_id(), after, max).await?;
        drop(session);
        let Some(last) = values.last() else { return Ok(None) };
        let (key, version) = last.item.key();
        let next = RewrapCursor { stage: cursor.stage, version, key: key.to_owned() };
        let mut tx = self.store.begin().await?;
        for value in &values {
            let Some(new) = self.rewrapped(value) else {
                done.skipped += 1;
                continue;
            };
            if !tx.lock_sealed(&value.item).await? {
                done.skipped += 1;
                continue;
            }
            // If another value is there now, it was written with the primary key.
            done.moved += i64::from(tx.replace_sealed(value, &new).await?);
        }
        tx.commit().await?;
        Ok((values.len() == BATCH).then_some(next))
    }

    /// The value, sealed with the primary key; `None` if it cannot be opened, which is logged.
    fn rewrapped(&self, value: &SealedValue) -> Option<String> {
        match self.sealer.rewrap(&name_of(&value.item), &value.sealed) {
            Ok(new) => new,
            Err(error) => {
                error.log_fault();
                None
            }
        }
    }

    /// Signs a batch of heads and checkpoints of audit logs again.
    async fn sign_batch(
        &self,
        cursor: &RewrapCursor,
        done: &mut Rewrapped,
    ) -> Result<Option<RewrapCursor>> {
        let signed = self.audit.sign_again(&cursor.key, BATCH).await?;
        done.moved += signed.moved;
        done.skipped += signed.skipped;
        Ok(signed.last.map(|last| RewrapCursor {
            stage: cursor.stage,
            version: 0,
            key: last.to_string(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_through_its_text() {
        let cursor = RewrapCursor { stage: 1, version: -7, key: "a key".to_owned() };
        assert_eq!(RewrapCursor::parse(&cursor.text()), Some(cursor.clone()));
        let start = RewrapCursor::default();
        assert_eq!(RewrapCursor::parse(&start.text()), Some(start));
        assert_eq!(cursor.next_stage(), RewrapCursor { stage: 2, ..RewrapCursor::default() });
        for bad in ["", "1", "1 2", "x 1 a", "1 x a"] {
            assert_eq!(RewrapCursor::parse(bad), None, "{bad}");
        }
    }
}
