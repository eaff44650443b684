//! Signing keys: the platform sees them, rotates them before their time, and revokes one after a
//! compromise. Rotation by schedule is a change of Keyward itself.

use std::time::Duration;

use jiff::Timestamp;

use super::base::Admin;
use crate::domain::{Action, NewRevocation, SigningKeyName, Subject, TenantId};
use crate::error::{Error, Result};
use crate::keys::{KeyRecord, KeyState, Schedule};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};
use crate::service::signing::{KeyStep, StepKind};

const LIST: &str = "signingKeys";

/// A signing key, and where it is in its life.
#[derive(Clone, Debug)]
pub struct SigningKeyInfo {
    pub record: KeyRecord,
    pub state: KeyState,
    /// When it stops signing, or stopped; `None`: it has no successor yet.
    pub signs_until: Option<Timestamp>,
    /// The last time at which it is published; `None`: no end is known.
    pub published_until: Option<Timestamp>,
}

/// What revoking a key did.
#[derive(Clone, Debug)]
pub struct RevokedKey {
    pub key: SigningKeyInfo,
    /// The key that signs in its place, if it was the one that signed.
    pub replacement: Option<SigningKeyInfo>,
    /// Until then every server and verifier refuses its tokens.
    pub bound: Duration,
}

impl SigningKeyInfo {
    fn new(schedule: &Schedule, record: &KeyRecord, now: Timestamp) -> Self {
        Self {
            state: schedule.state(record, now),
            signs_until: schedule.signs_until(record),
            published_until: schedule.published_until(record),
            record: record.clone(),
        }
    }

    fn find(schedule: &Schedule, kid: &str, now: Timestamp) -> Result<Self> {
        let record = schedule.find(kid).ok_or_else(|| Error::NotFound(name(kid)))?;
        Ok(Self::new(schedule, record, now))
    }
}

impl Admin {
    /// Lists all signing keys, the newest first.
    pub async fn list_signing_keys(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<List<SigningKeyInfo>> {
        caller.require_platform()?;
        let page = self.pages.request(LIST, request)?;
        let mut session = self.store.read_list().await?;
        let schedule = self.signing.schedule_of(&mut session).await?;
        let now = self.clock.now();
        let newest_first = schedule.records().iter().rev();
        let after = page.after.as_deref();
        let keys: Vec<_> = newest_first
            .skip_while(|record| after.is_some_and(|after| record.kid != after))
            .skip(usize::from(after.is_some()))
            .take(page.size() + 1)
            .map(|record| SigningKeyInfo::new(&schedule, record, now))
            .collect();
        Ok(self.pages.list(LIST, page.page(keys, |key| key.record.kid.clone())))
    }

    /// Lets the next key take over early. Returns the next key.
    pub async fn rotate_signing_key(&self, caller: &Caller) -> Result<SigningKeyInfo> {
        let system = TenantId::system();
        let attempt = Attempt::new(caller, Action::RotateSigningKey, &system, LIST);
        let rotated = self.sessions.audited(&attempt, async {
            let mut work = self.open_keys(&attempt, caller).await?;
            let now = self.signing.time().await?;
            let step = self.signing.rotate(&mut work, now).await?;
            self.note_step(&mut work, Action::RotateSigningKey, &step, "").await?;
            let schedule = self.signing.schedule_in(&mut work).await?;
            work.commit().await?;
            log_step(&step);
            SigningKeyInfo::find(&schedule, &step.kid, now)
        });
        let rotated = rotated.await?;
        self.signing.count_rotation("requested");
        self.keys_changed().await;
        Ok(rotated)
    }

    /// Lets the next key take over from this one, or withdraws this one if it has not signed.
    pub async fn retire_signing_key(
        &self,
        caller: &Caller,
        key: &SigningKeyName,
    ) -> Result<SigningKeyInfo> {
        let system = TenantId::system();
        let attempt = Attempt::new(caller, Action::RetireSigningKey, &system, key);
        let retired = self.sessions.audited(&attempt, async {
            let mut work = self.open_keys(&attempt, caller).await?;
            let now = self.signing.time().await?;
            let moved = self.signing.retire(&mut work, key.kid(), now).await?;
            let detail = match &moved {
                None => "it was withdrawn before it signed".to_owned(),
                Some(step) => format!("{} {}", name(&step.kid), step.kind.words()),
            };
            work.note_with(Action::RetireSigningKey, key, Vec::new(), detail.clone()).await?;
            let schedule = self.signing.schedule_in(&mut work).await?;
            work.commit().await?;
            tracing::info!(key = key.kid(), "signing key retired: {detail}");
            SigningKeyInfo::find(&schedule, key.kid(), now)
        });
        let retired = retired.await?;
        self.keys_changed().await;
        Ok(retired)
    }

    /// Revokes a key after a compromise. When this returns, this server refuses its tokens and no
    /// longer publishes it; if it was the one that signs, another signs.
    pub async fn revoke_signing_key(
        &self,
        caller: &Caller,
        key: &SigningKeyName,
        reason: &str,
    ) -> Result<RevokedKey> {
        let system = TenantId::system();
        let attempt = Attempt::new(caller, Action::RevokeSigningKey, &system, key);
        let revoked = self.sessions.audited(&attempt, async {
            let mut work = self.open_keys(&attempt, caller).await?;
            let now = self.clock.now();
            let (changed, step) = self.signing.revoke(&mut work, key.kid(), now).await?;
            let schedule = self.signing.schedule_in(&mut work).await?;
            if changed {
                let subject = Subject::SigningKey(key.clone());
                let expires_at = NewRevocation::end(now);
                work.revoke(NewRevocation { subject, epoch: 0, expires_at });
                let mut detail = "all tokens that it signed were revoked".to_owned();
                if !reason.is_empty() {
                    detail = format!("{detail}: {reason}");
                }
                work.note_with(Action::RevokeSigningKey, key, Vec::new(), detail).await?;
                if let Some(step) = &step {
                    let why = format!("in place of {key}, which was revoked");
                    self.note_step(&mut work, Action::RotateSigningKey, step, &why).await?;
                }
                work.commit().await?;
                tracing::warn!(key = key.kid(), "signing key revoked");
                step.iter().for_each(log_step);
            }
            let replacement = step.map(|step| SigningKeyInfo::find(&schedule, &step.kid, now));
            Ok(RevokedKey {
                key: SigningKeyInfo::find(&schedule, key.kid(), now)?,
                replacement: replacement.transpose()?,
                bound: self.signing.revocation_bound(),
            })
        });
        let revoked = revoked.await?;
        if revoked.replacement.is_some() {
            self.signing.count_rotation("revoked");
        }
        self.keys_changed().await;
        Ok(revoked)
    }

    /// Reads the keys, and does what is due by schedule.
    pub async fn maintain_signing_keys(&self) -> Result<()> {
        self.signing.refresh().await?;
        self.signing.log_signer();
        let now = self.signing.time().await?;
        if !self.signing.is_maintenance_due(now).await? {
            return Ok(());
        }
        let done = Box::pin(self.maintain_in_transaction(now, false)).await;
        if done.is_err() {
            self.signing.count_rotation("failed");
        }
        done
    }

    /// Makes a key of the configured algorithm if the newest one has another. The key is published
    /// for a while before it signs. Only at the start: servers with different settings would
    /// otherwise make one key after the other.
    pub async fn follow_signing_algorithm(&self) -> Result<()> {
        if !self.signing.is_algorithm_changed() {
            return Ok(());
        }
        let now = self.signing.time().await?;
        Box::pin(self.maintain_in_transaction(now, true)).await
    }

    async fn maintain_in_transaction(&self, now: Timestamp, algorithm: bool) -> Result<()> {
        let (system, caller) = (TenantId::system(), Caller::keyward());
        let attempt = Attempt::new(&caller, Action::RotateSigningKey, &system, LIST);
        let OpenTenant { mut work, .. } = self.sessions.open(&attempt).await?;
        let mut steps = self.signing.maintain(&mut work, now).await?;
        if algorithm {
            steps.extend(self.signing.follow_algorithm(&mut work, now).await?);
        }
        if steps.is_empty() {
            // Another server was first. Nothing is written.
            self.signing.count_rotation("lost");
            return self.signing.refresh().await;
        }
        for step in &steps {
            let action = match step.kind {
                StepKind::Erased | StepKind::Removed => Action::RemoveSigningKey,
                StepKind::Withdrawn => Action::RetireSigningKey,
                _ => Action::RotateSigningKey,
            };
            self.note_step(&mut work, action, step, "").await?;
        }
        work.commit().await?;
        steps.iter().for_each(log_step);
        if steps.iter().any(|step| step.kind.is_rotation()) {
            self.signing.count_rotation("scheduled");
        }
        self.signing.refresh().await
    }

    /// A transaction that no other server changes keys beside.
    async fn open_keys(&self, attempt: &Attempt<'_>, caller: &Caller) -> Result<UnitOfWork> {
        caller.require_platform()?;
        Ok(self.sessions.open(attempt).await?.work)
    }

    async fn note_step(
        &self,
        work: &mut UnitOfWork,
        action: Action,
        step: &KeyStep,
        why: &str,
    ) -> Result<()> {
        let words = step.kind.words();
        let detail = if why.is_empty() { words } else { format!("{words}, {why}") };
        work.note_with(action, name(&step.kid), Vec::new(), detail).await
    }

    /// Reads the keys after a change, and makes a next key if there is none left. The change is made:
    /// a server that cannot read it uses the list of revocations until it can.
    async fn keys_changed(&self) {
        if let Err(error) = self.maintain_signing_keys().await {
            error.log_fault();
        }
    }
}

fn log_step(step: &KeyStep) {
    tracing::info!(key = step.kid, "signing key: {}", step.kind.words());
}

fn name(kid: &str) -> String {
    format!("signingKeys/{kid}")
}
