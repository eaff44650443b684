//! Use cases of credentials.

use std::time::Duration;

use super::{List, ListRequest, Service, check_etag, check_expiry, vanished};
use crate::domain::{
    ApplicationName, Credential, CredentialId, CredentialKind, CredentialName, CredentialPatch,
    CredentialSettings, Record, SecretRecord,
};
use crate::error::{Error, Result};
use crate::secrets::{Secret, random};
use crate::store::Tx;

/// What a credential is created from.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// Whose it will be.
    pub application: ApplicationName,
    /// What it will be made of.
    pub kind: CredentialKind,
    /// What else it will be.
    pub patch: CredentialPatch,
    /// The name of the request (AIP-155).
    pub request_id: Option<String>,
}

/// A credential with the secret that is told once.
#[derive(Clone, Debug)]
pub struct WithSecret {
    /// The credential.
    pub credential: Credential,
    /// Its newest secret.
    pub secret: Secret,
}

impl Service {
    /// Creates a credential and tells its secret, this once.
    pub async fn create_credential(&self, new: NewCredential) -> Result<WithSecret> {
        let now = self.now();
        let request_id = new.request_id.as_deref();
        let settings = CredentialSettings::default().with(new.patch);
        check_expiry(settings.expires_at, now, "credential.expire_time")?;
        // Asked before the hash is paid for; asked again where it counts.
        self.application(&new.application).await?;

        let id = CredentialId::parse(&random::id(now)?).map_err(|f| f.of("credential_id"))?;
        let secret = self.prefixes.generate(new.kind, &id)?;
        let credential = Credential {
            secrets: vec![self.record_of(&secret).await?],
            name: CredentialName { application: new.application, credential: id },
            kind: new.kind,
            settings,
            epoch: 0,
            record: Record::new(now),
        };
        let application = &credential.name.application;
        let mut tx = self.lock_tenant_of(application).await?;
        if tx.find_application(application).await?.is_none() {
            return Err(Error::NotFound(application.to_string()));
        }
        if !tx.insert_credential(&credential, request_id).await? {
            return Err(already_there(&mut tx, &credential.name, request_id).await?);
        }
        tx.commit().await?;
        Ok(WithSecret { credential, secret })
    }

    /// Reads a credential, without its secret.
    pub async fn credential(&self, name: &CredentialName) -> Result<Credential> {
        let found = self.store.read().await?.find_credential(name).await?;
        found.ok_or_else(|| Error::NotFound(name.to_string()))
    }

    /// Lists an application's credentials by id.
    pub async fn list_credentials(
        &self,
        application: &ApplicationName,
        request: &ListRequest,
    ) -> Result<List<Credential>> {
        let call = format!("credentials of {application}");
        let page = self.page_request(&call, request)?;
        let mut session = self.store.read().await?;
        let credentials = session.list_credentials(application, &page).await?;
        if credentials.items.is_empty() && session.find_application(application).await?.is_none() {
            return Err(Error::NotFound(application.to_string()));
        }
        Ok(self.list(&call, credentials))
    }

    /// Changes a credential.
    pub async fn update_credential(
        &self,
        name: &CredentialName,
        patch: CredentialPatch,
        etag: &str,
    ) -> Result<Credential> {
        let now = self.now();
        let mut tx = self.lock_tenant_of(&name.application).await?;
        let before = found(&mut tx, name).await?;
        check_etag(&before.record, etag, name)?;
        if let Some(expires_at) = patch.expires_at {
            check_expiry(expires_at, now, "credential.expire_time")?;
        }
        let after = before.settings.with(patch);
        if after == before.settings {
            return Ok(before);
        }
        let credential = Credential {
            epoch: before.epoch + i64::from(before.settings.revokes(&after)),
            settings: after,
            record: before.record.changed(now),
            ..before
        };
        if !tx.update_credential(&credential).await? {
            return Err(vanished(name));
        }
        tx.commit().await?;
        Ok(credential)
    }

    /// Deletes a credential.
    pub async fn delete_credential(&self, name: &CredentialName, etag: &str) -> Result<()> {
        let mut tx = self.lock_tenant_of(&name.application).await?;
        let credential = found(&mut tx, name).await?;
        check_etag(&credential.record, etag, name)?;
        tx.delete_credential(&name.credential).await?;
        tx.commit().await
    }

    /// Gives a credential a new secret and tells it, this once. The old one goes on
    /// working for `overlap`; with none, its tokens are revoked too.
    pub async fn rotate_credential(
        &self,
        name: &CredentialName,
        overlap: Duration,
        etag: &str,
    ) -> Result<WithSecret> {
        // Checked before the hash is paid for, and again where it counts.
        let seen = self.credential(name).await?;
        check_etag(&seen.record, etag, name)?;
        seen.rotation_end(self.now(), overlap)?;
        let secret = self.generate_unlike(&seen)?;
        let mut record = self.record_of(&secret).await?;

        let mut tx = self.lock_tenant_of(&name.application).await?;
        let before = found(&mut tx, name).await?;
        check_etag(&before.record, etag, name)?;
        let older_end = before.rotation_end(record.created_at, overlap)?;
        record.version = before.next_version();
        tx.add_secret(&name.credential, &record, older_end).await?;
        let changed = Credential {
            epoch: before.epoch + i64::from(overlap.is_zero()),
            record: before.record.changed(record.created_at),
            ..before
        };
        if !tx.update_credential(&changed).await? {
            return Err(vanished(name));
        }
        let credential = found(&mut tx, name).await?;
        tx.commit().await?;
        Ok(WithSecret { credential, secret })
    }

    /// A secret that ends unlike those that the credential has: a check picks the hash by
    /// the end.
    fn generate_unlike(&self, credential: &Credential) -> Result<Secret> {
        loop {
            let secret = self.prefixes.generate(credential.kind, &credential.name.credential)?;
            let end = secret.last_four();
            if credential.secrets.iter().all(|old| old.last_four != end) {
                return Ok(secret);
            }
        }
    }

    /// What is kept of a credential's first secret.
    async fn record_of(&self, secret: &Secret) -> Result<SecretRecord> {
        Ok(SecretRecord {
            version: 1,
            hash: self.hasher.hash(secret.clone()).await?,
            last_four: secret.last_four(),
            created_at: self.now(),
            expires_at: None,
        })
    }
}

async fn found(tx: &mut Tx, name: &CredentialName) -> Result<Credential> {
    let found = tx.find_credential(name).await?;
    found.ok_or_else(|| Error::NotFound(name.to_string()))
}

/// The error for a credential that could not be added: a repeated request is told what
/// it made the first time, but not its secret.
async fn already_there(
    tx: &mut Tx,
    name: &CredentialName,
    request_id: Option<&str>,
) -> Result<Error> {
    if let Some(id) = request_id
        && let Some(made) = tx.find_credential_by_request(&name.application, id).await?
    {
        return Ok(Error::AlreadyExists(made.name.to_string()));
    }
    Ok(Error::AlreadyExists(name.to_string()))
}
