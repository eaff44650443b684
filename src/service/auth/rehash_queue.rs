//! The secrets that were right, and whose hashes have another pepper than that of the primary master
//! key. Their number is bounded.

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Mutex, mpsc};

use crate::domain::{Client, CredentialId, TenantId};
use crate::secrets::Secret;

/// How many secrets wait at most.
const CAPACITY: usize = 10_000;

/// The secrets whose hashes are to move.
#[derive(Debug)]
pub(in crate::service) struct RehashQueue {
    added: mpsc::Sender<OutdatedSecret>,
    pub(super) waiting: Mutex<mpsc::Receiver<OutdatedSecret>>,
    /// Counts the hashes that were moved.
    pub(super) moved: Counter,
}

/// A secret that was right, and whose hash has another pepper.
#[derive(Debug)]
pub(super) struct OutdatedSecret {
    pub(super) tenant: TenantId,
    pub(super) credential: CredentialId,
    pub(super) version: i64,
    pub(super) secret: Secret,
}

impl Default for RehashQueue {
    fn default() -> Self {
        let (added, waiting) = mpsc::channel(CAPACITY);
        Self { added, waiting: Mutex::new(waiting), moved: Counter::default() }
    }
}

impl RehashQueue {
    /// Adds a secret that was right; `false` if there is no room.
    pub(super) fn add(&self, client: &Client, version: i64, secret: &Secret) -> bool {
        let outdated = OutdatedSecret {
            tenant: client.tenant.id.clone(),
            credential: client.name.credential,
            version,
            secret: secret.clone(),
        };
        self.added.try_send(outdated).is_ok()
    }
}
