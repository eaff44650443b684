//! Secrets of credentials: rotated, and revealed again.

use std::time::Duration;

use jiff::Timestamp;

use super::base::Admin;
use super::checks::{check_etag, vanished};
use super::credentials::{ReachedCredential, reach};
use super::grants::given_to;
use super::updates::Shown;
use crate::domain::{
    Action, ApplicationCall, Authority, Call, Credential, CredentialName, Field, FieldChange,
    Policy, SecretRecord, Subject,
};
use crate::error::{Error, Result};
use crate::secrets::Secret;
use crate::service::audit::{Attempt, OpenTenant};
use crate::service::auth::Caller;
use crate::store::Session;

impl Admin {
    /// Gives a credential a new secret and returns it, only now. The old one works for `overlap`
    /// longer; if that is zero, its tokens are revoked too.
    pub async fn rotate_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
        overlap: Duration,
        etag: &str,
    ) -> Result<(Shown<Credential>, Secret)> {
        let tenant = &name.application.tenant;
        let attempt = Attempt::new(caller, Action::RotateCredential, tenant, name);
        Box::pin(self.sessions.audited(&attempt, async {
            // Checked before the hash is computed, and again under the lock.
            let mut reading = self.sessions.read(caller, tenant).await?;
            let rules = reading.tenant(tenant).await?.settings.policy;
            let session = &mut reading.session;
            let mut rotation = Rotation { name, etag, now: self.clock.now() };
            let seen = rotatable(session, &reading.authority, &rules, rotation).await?;
            let seen = seen.credential;
            seen.rotation_end(rotation.now, overlap)?;
            drop(reading);
            let secret = self.generate_unlike(&seen)?;
            let mut record = self.record_of(caller, &secret).await?;

            let OpenTenant { mut work, tenant, authority } = self.sessions.open(&attempt).await?;
            let policy = &tenant.settings.policy;
            rotation.now = record.created_at;
            let ReachedCredential { credential: before, application } =
                rotatable(&mut work, &authority, policy, rotation).await?;
            let older_end = before.rotation_end(record.created_at, overlap)?;
            record.version = before.next_version();
            let record = self.sealed(record, &secret, name, policy)?;
            work.add_secret(&name.credential, &record, older_end).await?;
            let before_epoch = before.epoch;
            let rotated = Credential {
                epoch: before.epoch + i64::from(overlap.is_zero()),
                record: before.record.changed(record.created_at),
                ..before
            };
            if !work.update_credential(&rotated).await? {
                return Err(vanished(name));
            }
            work.raise(Subject::Credential(name.clone()), before_epoch, rotated.epoch);
            let credential = work.find_credential(name).await?.ok_or_else(|| vanished(name))?;
            let old = rotated.secrets.first().map(|secret| format!("…{}", secret.last_four));
            let new = Some(format!("…{}", record.last_four));
            let changes = vec![FieldChange::new("secrets", old, new)];
            let detail = format!("older secrets end {older_end}");
            work.note_with(Action::RotateCredential, name, changes, detail).await?;
            work.commit().await?;
            let shown = Shown::new(credential, name, authority.may_view(&application.owner));
            Ok((shown, secret))
        }))
        .await
    }

    /// Reveals the newest secret of a credential again, with an event in the audit log.
    pub async fn reveal_credential(
        &self,
        caller: &Caller,
        name: &CredentialName,
    ) -> Result<Secret> {
        let tenant = &name.application.tenant;
        let attempt = Attempt::new(caller, Action::RevealCredential, tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let (call, policy) = (Call::RevealCredential, &tenant.settings.policy);
                let reached = reach(&mut work, &authority, call, name).await?;
                let given = given_to(&mut work, &authority, &reached.application).await?;
                let details = ApplicationCall {
                    credential: Some(name),
                    given: Some(&given),
                    ..ApplicationCall::of(&name.application, &reached.application.owner)
                };
                authority.require_state(call, policy, &details)?;
                reached.require_unexpired(policy, self.clock.now())?;
                let credential = reached.credential;
                if credential.kind.secret().is_none() {
                    return Err(Error::NotViewable(name.to_string(), "its kind has no secret"));
                }
                let hidden = |why| Error::NotViewable(name.to_string(), why);
                let newest = credential.secrets.first();
                let (record, sealed) = newest
                    .and_then(|record| Some((record, record.sealed.as_deref()?)))
                    .ok_or_else(|| hidden("when it was made, the policy showed secrets once"))?;
                let plain = self.sealer.open(&sealed_name(name, record.version), sealed)?;
                let secret = std::str::from_utf8(&plain).map(Secret::new);
                let secret = secret.map_err(|error| Error::Internal(Box::new(error)))?;
                let detail = format!("the secret …{} was shown", record.last_four);
                work.note_with(Action::RevealCredential, name, Vec::new(), detail).await?;
                work.commit().await?;
                Ok(secret)
            })
            .await
    }

    /// A secret with other last four characters than those that the credential has: they decide
    /// which hash a secret is compared with.
    fn generate_unlike(&self, credential: &Credential) -> Result<Secret> {
        let kind = credential.kind.secret().ok_or_else(|| {
            Error::invalid(
                "name",
                "is a credential without a secret: change what it is registered with by \
                 UpdateCredential",
            )
        })?;
        loop {
            let secret = self.prefixes.generate(kind, &credential.name.credential)?;
            let end = secret.last_four();
            if credential.secrets.iter().all(|old| old.last_four != end) {
                return Ok(secret);
            }
        }
    }

    /// The stored form of the first secret of a credential.
    pub(super) async fn record_of(&self, caller: &Caller, secret: &Secret) -> Result<SecretRecord> {
        Ok(SecretRecord {
            version: 1,
            hash: self.hasher.hash(caller.lane(), secret.clone()).await?,
            last_four: secret.last_four(),
            sealed: None,
            created_at: self.clock.now(),
            expires_at: None,
        })
    }

    /// The record with a sealed copy, if the policy lets secrets be viewed.
    pub(super) fn sealed(
        &self,
        record: SecretRecord,
        secret: &Secret,
        name: &CredentialName,
        policy: &Policy,
    ) -> Result<SecretRecord> {
        if !policy.secrets_viewable {
            return Ok(record);
        }
        let sealed_as = sealed_name(name, record.version);
        let sealed = self.sealer.seal(&sealed_as, secret.expose().as_bytes())?;
        Ok(SecretRecord { sealed: Some(sealed), ..record })
    }
}

/// A rotation: the credential, and the time.
#[derive(Clone, Copy)]
struct Rotation<'a> {
    name: &'a CredentialName,
    etag: &'a str,
    now: Timestamp,
}

/// The credential, if the caller may rotate it now.
async fn rotatable(
    session: &mut Session,
    authority: &Authority,
    policy: &Policy,
    Rotation { name, etag, now }: Rotation<'_>,
) -> Result<ReachedCredential> {
    let call = Call::RotateCredential;
    let reached = reach(session, authority, call, name).await?;
    check_etag(&reached.credential.record, etag, name)?;
    let application = &reached.application;
    let given = given_to(session, authority, application).await?;
    let details = ApplicationCall {
        credential: Some(name),
        protected: application.settings.protected,
        changed: &[Field::Secrets],
        kind: Some(reached.credential.kind),
        given: Some(&given),
        ..ApplicationCall::of(&name.application, &application.owner)
    };
    authority.require_state(call, policy, &details)?;
    reached.require_unexpired(policy, now)?;
    Ok(reached)
}

/// The name that a copy of a secret is sealed under: it opens in place of no other.
pub(super) fn sealed_name(name: &CredentialName, version: i64) -> String {
    format!("{name}#{version}")
}
