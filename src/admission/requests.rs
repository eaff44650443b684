//! The memory of requests in flight.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Admission, RefusalKind, SourceState};
use crate::domain::{Client, Source};
use crate::error::{Error, Result};

/// The cost of a request or stream in addition to the bytes that its client sent: the server's
/// state, measured at a few kilobytes.
const REQUEST: usize = 4 * 1024;
/// The number of body bytes that are reserved together with the request. Most bodies are smaller,
/// and each update of a shared counter is expensive.
const FIRST_BYTES: usize = 1024;

/// The budgets from the view of one source. There is one per connection, so that requests on
/// different connections do not contend for one reference count.
#[derive(Debug)]
pub struct SourceGate {
    admission: Admission,
    source: Arc<SourceState>,
}

/// The memory of one request, until it is answered.
#[derive(Debug)]
pub struct RequestPermit {
    gate: Arc<SourceGate>,
    address: IpAddr,
    /// The other end of the connection: the client, or a trusted proxy.
    peer: IpAddr,
    /// The arrival time, in seconds since the server started.
    second: u64,
    is_known: bool,
    is_authenticated: AtomicBool,
    /// The rest of the bytes that were reserved with the request.
    first_bytes: AtomicUsize,
    arriving: AtomicUsize,
    callers: AtomicUsize,
    client: OnceLock<Arc<Client>>,
}

impl Admission {
    pub fn gate(&self, source: Arc<SourceState>) -> Arc<SourceGate> {
        Arc::new(SourceGate { admission: self.clone(), source })
    }
}

impl SourceGate {
    /// Reserves memory for a request with `headers` bytes of headers.
    pub fn request(self: &Arc<Self>, address: IpAddr, headers: usize) -> RequestPermit {
        let Self { admission, source } = &**self;
        let second = source.second();
        let is_known = source.is_known_at(second);
        let size = REQUEST + FIRST_BYTES + headers;
        let is_taken = admission.0.arriving.take(&source.arriving, size, is_known);
        if !is_taken {
            admission.refuse(RefusalKind::Request, source.source());
        }
        RequestPermit {
            gate: Arc::clone(self),
            address,
            peer: address,
            second,
            is_known,
            is_authenticated: AtomicBool::new(false),
            first_bytes: AtomicUsize::new(if is_taken { FIRST_BYTES } else { 0 }),
            arriving: AtomicUsize::new(if is_taken { size } else { 0 }),
            callers: AtomicUsize::new(0),
            client: OnceLock::new(),
        }
    }

    pub fn source(&self) -> Source {
        self.source.source()
    }
}

impl RequestPermit {
    /// The same, for a request that came through a trusted proxy at this address.
    #[must_use]
    pub fn through(mut self, peer: IpAddr) -> Self {
        self.peer = peer;
        self
    }

    /// The client's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The address of the other end of the connection, whatever the headers say.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Returns an error if there was no memory for the request.
    pub fn require(&self) -> Result<()> {
        if self.arriving.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(overloaded("requests")) }
    }

    /// Notes that the caller is authenticated. Further bytes count against the budget of
    /// authenticated callers, and the source becomes known.
    pub fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
        self.gate.source.authenticated(self.second);
    }

    /// Like [`authenticated`](Self::authenticated), and notes the client.
    pub fn identified(&self, client: &Arc<Client>) {
        self.client.get_or_init(|| Arc::clone(client));
        self.authenticated();
    }

    /// The authenticated client, if it is known yet.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.get()
    }

    /// Reserves memory for a part of the request. Returns how many bytes were taken from the
    /// budgets; the first bytes were reserved with the request.
    pub fn take(&self, bytes: usize) -> Result<usize> {
        // One task reads a request, so there are no concurrent calls.
        let first = self.first_bytes.load(Ordering::Relaxed).min(bytes);
        if first > 0 {
            self.first_bytes.fetch_sub(first, Ordering::Relaxed);
        }
        let bytes = bytes - first;
        if bytes == 0 {
            return Ok(0);
        }
        let SourceGate { admission, source } = &*self.gate;
        let is_known = self.is_known;
        let (budget, of_source, held) = if self.is_authenticated.load(Ordering::Relaxed) {
            (&admission.0.callers, &source.callers, &self.callers)
        } else {
            (&admission.0.arriving, &source.arriving, &self.arriving)
        };
        if budget.take(of_source, bytes, is_known) {
            held.fetch_add(bytes, Ordering::Relaxed);
            return Ok(bytes);
        }
        admission.refuse(RefusalKind::RequestBytes, source.source());
        Err(overloaded("request bytes"))
    }

    /// Gives back the memory of parts of the request before it is answered.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let SourceGate { admission, source } = &*self.gate;
        if self.is_authenticated.load(Ordering::Relaxed) {
            self.callers.fetch_sub(bytes, Ordering::Relaxed);
            admission.0.callers.give_back(&source.callers, bytes);
        } else {
            self.arriving.fetch_sub(bytes, Ordering::Relaxed);
            admission.0.arriving.give_back(&source.arriving, bytes);
        }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let (arriving, callers) = (*self.arriving.get_mut(), *self.callers.get_mut());
        let SourceGate { admission, source } = &*self.gate;
        admission.0.arriving.give_back(&source.arriving, arriving);
        if callers > 0 {
            admission.0.callers.give_back(&source.callers, callers);
        }
    }
}

fn overloaded(what: &'static str) -> Error {
    Error::Overloaded { what, retry_after: Duration::from_secs(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn request(admission: &Admission, host: u8) -> RequestPermit {
        let address = IpAddr::from([192, 0, 2, host]);
        admission.gate(admission.source(Source::of(address))).request(address, 100)
    }

    /// Requests of a source until one is refused.
    fn fill(admission: &Admission, host: u8) -> Vec<RequestPermit> {
        std::iter::repeat_with(|| request(admission, host))
            .take_while(|permit| permit.require().is_ok())
            .collect()
    }

    #[test]
    fn full_source_does_not_block_others() {
        let admission = Admission::new(4 * MIB);
        let held = fill(&admission, 1);
        assert!(held.len() > 50, "{}", held.len());
        assert_eq!(held[0].take(FIRST_BYTES).unwrap(), 0);
        assert!(held[0].take(1).is_ok() && held[0].take(REQUEST + FIRST_BYTES).is_err());
        assert!(request(&admission, 2).require().is_ok());
        drop(held);
        assert!(request(&admission, 1).require().is_ok(), "everything was given back");
    }

    #[test]
    fn unknown_sources_leave_room_for_known_ones() {
        let admission = Admission::new(4 * MIB);
        request(&admission, 250).authenticated();
        let held: Vec<_> = (1..10).flat_map(|host| fill(&admission, host)).collect();
        assert!(request(&admission, 20).require().is_err());
        let known = request(&admission, 250);
        assert!(known.require().is_ok());
        known.authenticated();
        assert_eq!(known.take(FIRST_BYTES).unwrap(), 0);
        assert!(known.take(MIB - 1).is_ok(), "authenticated callers have a budget of their own");
        assert!(known.take(MIB).is_err(), "which is bounded");
        drop(held);
    }

    #[test]
    fn refused_request_holds_nothing() {
        let admission = Admission::new(4 * MIB);
        let held = fill(&admission, 1);
        let refused = request(&admission, 1);
        assert!(refused.require().is_err());
        drop((held, refused));
        assert_eq!(admission.0.arriving.taken.load(Ordering::Relaxed), 0);
    }
}
