//! Moves hashes of secrets to the pepper of the primary master key, in the background. That needs the
//! secret, so a hash moves after its secret was used. One hash is computed at a time, only for
//! secrets that were right, and only when all servers write with the same key.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::rehash_queue::OutdatedSecret;
use super::secrets::SecretVerifier;
use crate::domain::Client;
use crate::error::{FailureLog, Result};
use crate::secrets::{Lane, PresentedSecret, Secret};

/// How long a secret whose hash could not be moved is cached: then it is looked at again.
const RETRY_AFTER: Duration = Duration::from_hours(1);

impl SecretVerifier {
    /// Notes that a secret is right and its hash has another pepper. Until it has moved, the secret
    /// is cached for a shorter time.
    pub(super) fn note_outdated(
        &self,
        client: &Client,
        version: i64,
        secret: &Secret,
    ) -> Result<()> {
        if self.keys.is_agreed() && self.rehash.add(client, version, secret) {
            return Ok(());
        }
        self.verified.keep_for(client, version, secret, RETRY_AFTER)
    }

    /// Moves hashes until `stop` is cancelled.
    pub(super) async fn move_hashes(&self, stop: &CancellationToken) {
        let mut waiting = self.rehash.waiting.lock().await;
        let mut moving = FailureLog::default();
        while let Some(Some(outdated)) = stop.run_until_cancelled(waiting.recv()).await {
            let Some(moved) = stop.run_until_cancelled(self.move_hash(&outdated)).await else {
                return;
            };
            moving.note(
                &moved,
                "hashes of secrets cannot be moved to the new master key; each is tried again when \
                 its secret is used later",
                "hashes of secrets are moved to the new master key again",
            );
        }
    }

    async fn move_hash(&self, outdated: &OutdatedSecret) -> Result<()> {
        let OutdatedSecret { tenant, credential, version, secret } = outdated;
        let read = self.store.read().await?.find_secret_hash(credential, *version).await?;
        let Some(old) = read else { return Ok(()) };
        if !self.hasher.is_current(&old) {
            // A cached tag proved the secret. What is written rests on the hash itself.
            let turn = self.hasher.turn(self.hasher.reserve(Lane::Rehash)?).await?;
            if !self.hasher.verify(turn, secret.clone(), Some(old.clone()), || {}).await? {
                return Ok(());
            }
            let new = self.hasher.hash(Lane::Rehash, secret.clone()).await?;
            if !self.keys.is_agreed() {
                return Ok(());
            }
            let mut tx = self.store.begin().await?;
            let moved = tx.replace_secret_hash(credential, *version, &old, &new).await?;
            tx.commit().await?;
            if !moved {
                return Ok(());
            }
            self.rehash.moved.inc();
        }
        let presented = PresentedSecret { tenant, credential, version: *version, secret };
        self.verified.share_presented(&presented).await
    }
}
