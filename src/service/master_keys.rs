//! Servers announce the ids of their master keys in the database, so that none writes under a key
//! that another one lacks, and stored values move to another key only when all servers write with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::domain::ServerKeys;
use crate::error::{Error, Result};
use crate::secrets::{MasterKeys, random};
use crate::store::{Session, Store};

/// How long an announcement is valid: a server that was killed counts until then.
const LIFE: Duration = Duration::from_secs(30);
/// How long old announcements are kept.
const KEPT: Duration = Duration::from_hours(1);

/// The announcement of this server, and what it knows of the others.
#[derive(Debug)]
pub struct KeyAnnouncements {
    store: Store,
    clock: Clock,
    own: ServerKeys,
    /// Whether all servers wrote with the same key when they were last read.
    agreed: AtomicBool,
    /// Whether the last reading found a conflict, which is logged once.
    in_conflict: AtomicBool,
}

impl KeyAnnouncements {
    /// How often a server announces itself.
    pub const INTERVAL: Duration = Duration::from_secs(5);

    /// `name` is for people.
    pub fn new(store: Store, clock: Clock, name: String, keys: &MasterKeys) -> Result<Self> {
        let mut id = String::new();
        random::push_base62(&mut id, 16)?;
        let mut ids = keys.ids()?.into_iter();
        let own = ServerKeys {
            id,
            name,
            primary: ids.next().unwrap_or_default(),
            additional: ids.next(),
            seen_at: Timestamp::UNIX_EPOCH,
        };
        Ok(Self {
            store,
            clock,
            own,
            agreed: AtomicBool::new(false),
            in_conflict: AtomicBool::new(false),
        })
    }

    /// The keys of this server.
    pub fn own(&self) -> &ServerKeys {
        &self.own
    }

    /// Announces this server, unless it may not run beside the others. Nothing may be written with
    /// its key before that. Servers that start at once see each other.
    pub async fn join(&self) -> Result<()> {
        let mut tx = self.store.begin().await?;
        tx.lock_server_keys().await?;
        if self.store.is_single_process() {
            // The lock of the file shows that no other server runs.
            tx.delete_server_keys_before(Timestamp::MAX).await?;
        }
        let others = self.others(&mut tx).await?;
        refuse(&others, |other| self.own.conflict_with(other))?;
        let now = self.time(&mut tx).await?;
        tx.set_server_keys(&ServerKeys { seen_at: now, ..self.own.clone() }).await?;
        tx.commit().await?;
        self.note(&others);
        Ok(())
    }

    /// Announces this server again, and reads which keys the others hold.
    pub async fn renew(&self) -> Result<()> {
        let renewed = self.announce_and_read().await;
        match &renewed {
            Ok(others) => self.note(others),
            // Others may have come that are unknown here.
            Err(_) => self.agreed.store(false, Ordering::Release),
        }
        renewed.map(drop)
    }

    /// Withdraws the announcement: the server stops.
    pub async fn leave(&self) -> Result<()> {
        let mut tx = self.store.begin().await?;
        tx.delete_server_keys(&self.own.id).await?;
        tx.commit().await
    }

    /// Refuses what a command would write, if a running server could not open it.
    pub async fn require_readable(&self) -> Result<()> {
        let mut session = self.store.read_list().await?;
        refuse(&self.others(&mut session).await?, |other| self.own.conflict_with(other))
    }

    /// Refuses to move stored values, if a running server does not write with the key of this one.
    pub async fn require_agreement(&self) -> Result<()> {
        let mut session = self.store.read_list().await?;
        refuse(&self.others(&mut session).await?, |other| self.own.rewrap_conflict_with(other))
    }

    /// Whether all running servers write with the key of this one, as far as is known.
    pub fn is_agreed(&self) -> bool {
        self.agreed.load(Ordering::Acquire)
    }

    /// The running servers, without this one.
    pub async fn others(&self, session: &mut Session) -> Result<Vec<ServerKeys>> {
        let now = self.time(session).await?;
        let since = now.saturating_sub(LIFE).unwrap_or(Timestamp::MIN);
        let mut servers = session.list_server_keys(since).await?;
        servers.retain(|server| server.id != self.own.id);
        Ok(servers)
    }

    async fn announce_and_read(&self) -> Result<Vec<ServerKeys>> {
        let mut tx = self.store.begin().await?;
        let now = self.time(&mut tx).await?;
        tx.set_server_keys(&ServerKeys { seen_at: now, ..self.own.clone() }).await?;
        tx.delete_server_keys_before(now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN)).await?;
        let others = self.others(&mut tx).await?;
        tx.commit().await?;
        Ok(others)
    }

    fn note(&self, others: &[ServerKeys]) {
        let agreed = refuse(others, |other| self.own.rewrap_conflict_with(other)).is_ok();
        self.agreed.store(agreed, Ordering::Release);
        let conflict = refuse(others, |other| self.own.conflict_with(other)).err();
        let was_in_conflict = self.in_conflict.swap(conflict.is_some(), Ordering::AcqRel);
        if let (Some(conflict), false) = (conflict, was_in_conflict) {
            tracing::error!(
                "{conflict}; this server was away from the database for too long: restart it with \
                 both keys"
            );
        }
    }

    /// The time of the database, which all servers share.
    async fn time(&self, session: &mut Session) -> Result<Timestamp> {
        Ok(session.time().await?.unwrap_or_else(|| self.clock.now()))
    }
}

/// The first of these servers that is in the way.
fn refuse(servers: &[ServerKeys], conflict: impl Fn(&ServerKeys) -> Option<String>) -> Result<()> {
    for server in servers {
        if let Some(difference) = conflict(server) {
            return Err(Error::MasterKeysDiffer { server: server.name.clone(), difference });
        }
    }
    Ok(())
}
