//! Streams of a tenant's audit events in the order of their numbers, for a SIEM, an export or a
//! verification. Only events that are in the hash chain are sent.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;

use super::base::Feeds;
use super::places::Permit;
use super::watch::HEARTBEAT;
use crate::clock::Clock;
use crate::domain::{AuditCursor, Call, ChainHash, PlaceKind, SignedPlace, TenantId};
use crate::error::{Error, Result};
use crate::revocation::Live;
use crate::service::audit::TenantSessions;
use crate::service::auth::Caller;
use crate::store::{ChainedEvent, Session};

/// How many events one message has at most.
const MAX_IN_MESSAGE: i64 = 200;
/// After how many bytes of records a message has no further event. The largest event has well under
/// 1 MiB, and gRPC clients accept 4 MiB.
const MAX_BYTES: usize = 1024 * 1024;

/// A stream of audit events.
#[derive(Debug)]
pub struct AuditWatch {
    sessions: Arc<TenantSessions>,
    revocations: Arc<Live>,
    clock: Clock,
    caller: Caller,
    tenant: TenantId,
    news: watch::Receiver<u64>,
    cursor: Option<AuditCursor>,
    /// Where the stream is: the number and hash of the last event that was sent.
    place: Option<(i64, ChainHash)>,
    caught_up: bool,
    _permit: Permit,
}

/// A message of the stream.
#[derive(Debug)]
pub struct AuditNews {
    pub events: Vec<ChainedEvent>,
    /// Where the stream goes on.
    pub cursor: AuditCursor,
    /// The signed head, if all events up to it were sent.
    pub head: Option<SignedPlace>,
    /// In the first message only.
    pub start: Option<AuditStart>,
}

/// Where a stream starts.
#[derive(Debug)]
pub struct AuditStart {
    /// The number of the event before the first one.
    pub number: i64,
    /// The hash of that event.
    pub hash: ChainHash,
    pub checkpoint: Option<SignedPlace>,
}

impl Feeds {
    /// Starts a stream of a tenant's audit events, from a cursor on or from the oldest on.
    pub async fn watch_audit_events(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        cursor: Option<AuditCursor>,
    ) -> Result<AuditWatch> {
        // Errors of the caller are answered to the call, and not in the stream.
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::WatchAuditEvents)?;
        let log = reading.session.audit_log(tenant).await?;
        if !log.tenant_exists && log.last_number == 0 && log.head.is_none() {
            return Err(Error::NotFound(tenant.name()));
        }
        Ok(AuditWatch {
            sessions: Arc::clone(&self.sessions),
            revocations: Arc::clone(&self.revocations),
            clock: self.clock.clone(),
            caller: caller.clone(),
            tenant: tenant.clone(),
            news: self.chain.news(),
            cursor,
            place: None,
            caught_up: false,
            _permit: self.watchers.audit(caller)?,
        })
    }
}

impl AuditWatch {
    /// The next message; waits for it until the next heartbeat at most.
    pub async fn next(&mut self) -> Result<AuditNews> {
        if self.caught_up {
            // Events that other servers add to the chain are seen at the heartbeat.
            timeout(HEARTBEAT, self.news.changed()).await.ok();
        }
        self.news.borrow_and_update();
        // The stream ends with the caller's right to read it.
        if let Some(state) = self.caller.state() {
            self.revocations.ensure_fresh().await?;
            state.require(self.revocations.index(), self.clock.now())?;
        }
        let mut reading = self.sessions.read(&self.caller, &self.tenant).await?;
        reading.authority.require(Call::WatchAuditEvents)?;
        // Users see the events of their own tenant, not those of an earlier one with its name.
        let since = match reading.authority.user() {
            None => 0,
            Some(_) => reading.tenant(&self.tenant).await?.life - 1,
        };
        let head = reading.session.signed_place(PlaceKind::Head, &self.tenant).await?;
        let (mut place, start) = if let Some(place) = self.place {
            (place, None)
        } else {
            let start = self.start(&mut reading.session, since, head.as_ref()).await?;
            ((start.number, start.hash), Some(start))
        };
        let through = head.as_ref().map_or(0, |head| head.number);
        let session = &mut reading.session;
        let mut events =
            session.chained_events(&self.tenant, place.0, through, MAX_IN_MESSAGE).await?;
        let deleted = session.signed_place(PlaceKind::Checkpoint, &self.tenant).await?;
        if deleted.is_some_and(|checkpoint| checkpoint.number > place.0) {
            // Events were deleted that this stream has not sent.
            return Err(Error::CursorTooOld);
        }
        let is_whole = events.len() < usize::try_from(MAX_IN_MESSAGE).unwrap_or(usize::MAX);
        let count = fitting(&events);
        let all = is_whole && count == events.len();
        events.truncate(count);
        if let Some(last) = events.last() {
            place = (last.event.number, last.hash.unwrap_or(ChainHash::START));
        }
        self.place = Some(place);
        self.caught_up = all;
        let cursor = AuditCursor { number: place.0, hash: Some(place.1) };
        Ok(AuditNews { events, cursor, head: head.filter(|_| all), start })
    }

    /// The place of the cursor in the chain.
    async fn start(
        &self,
        session: &mut Session,
        since: i64,
        head: Option<&SignedPlace>,
    ) -> Result<AuditStart> {
        let checkpoint = session.signed_place(PlaceKind::Checkpoint, &self.tenant).await?;
        let deleted = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.number);
        let oldest = since.max(deleted);
        let cursor = self.cursor.unwrap_or(AuditCursor { number: oldest, hash: None });
        let last = head.map_or(0, |head| head.number);
        // A user's own tenant can be too new to be in the chain.
        if cursor.number < oldest || cursor.number > last.max(oldest) {
            return Err(Error::CursorTooOld);
        }
        let found = match &checkpoint {
            _ if cursor.number == 0 => Some(ChainHash::START),
            Some(checkpoint) if checkpoint.number == cursor.number => Some(checkpoint.hash),
            _ => session.chain_hash(&self.tenant, cursor.number).await?,
        };
        if cursor.hash.is_some() && cursor.hash != found {
            return Err(Error::CursorTooOld);
        }
        let hash = found.unwrap_or(ChainHash::START);
        Ok(AuditStart { number: cursor.number, hash, checkpoint })
    }
}

/// How many of the events fit in a message; at least one.
fn fitting(events: &[ChainedEvent]) -> usize {
    let mut bytes = 0;
    let size = |chained: &ChainedEvent| {
        let event = &chained.event;
        event.changes.len() + event.detail.len() + event.resource.len() + event.service.len()
    };
    let fit = events.iter().take_while(|chained| {
        let fits = bytes < MAX_BYTES;
        bytes += size(chained);
        fits
    });
    fit.count()
}
