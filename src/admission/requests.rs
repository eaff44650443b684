//! The memory of requests under way.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Admission, SourceState, What};
use crate::domain::{Client, Source};
use crate::error::{Error, Result};

/// What a request or stream costs beside the bytes that its client sent: the state that the
/// server keeps of it, measured at some kilobytes.
const REQUEST: usize = 4 * 1024;
/// How many bytes of a body are taken with the request itself. Most bodies are smaller, and the
/// budgets are counters that all threads share: each use of them costs more than it looks.
const FIRST_BYTES: usize = 1024;

/// A number of bytes that requests may take, and how much of it is taken.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) most: usize,
    pub(super) of_unknown: usize,
    pub(super) of_one_unknown: usize,
    pub(super) of_one_known: usize,
    pub(super) taken: AtomicUsize,
}

impl Budget {
    /// Takes bytes for a source, if it and all together may have them.
    fn take(&self, of_source: &AtomicUsize, bytes: usize, is_known: bool) -> bool {
        let (all, one) = if is_known {
            (self.most, self.of_one_known)
        } else {
            (self.of_unknown, self.of_one_unknown)
        };
        if of_source.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > one {
            of_source.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        if self.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > all {
            self.give_back(of_source, bytes);
            return false;
        }
        true
    }

    fn give_back(&self, of_source: &AtomicUsize, bytes: usize) {
        of_source.fetch_sub(bytes, Ordering::Relaxed);
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The budgets as the requests of one source see them: one for each connection, so that requests
/// on different connections do not all count the holders of one place in memory.
#[derive(Debug)]
pub struct Gate {
    admission: Admission,
    source: Arc<SourceState>,
}

/// The memory that one request holds until it is answered.
#[derive(Debug)]
pub struct RequestPermit {
    gate: Arc<Gate>,
    address: IpAddr,
    /// When it came, in seconds since the server started.
    second: u64,
    is_known: bool,
    is_authenticated: AtomicBool,
    /// What is left of the bytes that were taken with the request.
    first_bytes: AtomicUsize,
    arriving: AtomicUsize,
    callers: AtomicUsize,
    client: OnceLock<Arc<Client>>,
}

impl Admission {
    /// The budgets for requests of this source.
    pub fn gate(&self, source: Arc<SourceState>) -> Arc<Gate> {
        Arc::new(Gate { admission: self.clone(), source })
    }
}

impl Gate {
    /// Takes the memory of a request with headers of this size, from this address.
    pub fn request(self: &Arc<Self>, address: IpAddr, headers: usize) -> RequestPermit {
        let Self { admission, source } = &**self;
        let second = source.second();
        let is_known = source.is_known_at(second);
        let size = REQUEST + FIRST_BYTES + headers;
        let is_taken = admission.0.arriving.take(&source.arriving, size, is_known);
        if !is_taken {
            admission.refuse(What::Request, source.source());
        }
        RequestPermit {
            gate: Arc::clone(self),
            address,
            second,
            is_known,
            is_authenticated: AtomicBool::new(false),
            first_bytes: AtomicUsize::new(if is_taken { FIRST_BYTES } else { 0 }),
            arriving: AtomicUsize::new(if is_taken { size } else { 0 }),
            callers: AtomicUsize::new(0),
            client: OnceLock::new(),
        }
    }

    /// Whose requests these are.
    pub fn source(&self) -> Source {
        self.source.source()
    }
}

impl RequestPermit {
    /// The address that the request came from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Refuses a request for which there was no memory.
    pub fn require(&self) -> Result<()> {
        if self.arriving.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(overloaded("requests")) }
    }

    /// The caller of this request is known: what it sends from now on is taken from the
    /// callers' budget, and its source is known.
    pub fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
        self.gate.source.authenticated(self.second);
    }

    /// The same, of this client.
    pub fn identified(&self, client: &Arc<Client>) {
        self.client.get_or_init(|| Arc::clone(client));
        self.authenticated();
    }

    /// The client that asks, if that is known by now.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.get()
    }

    /// Takes memory for a part of the request. Returns how much of it came out of the budgets
    /// now: the first bytes were taken with the request.
    pub fn take(&self, bytes: usize) -> Result<usize> {
        // One task reads a request, so that no other takes these at the same time.
        let first = self.first_bytes.load(Ordering::Relaxed).min(bytes);
        if first > 0 {
            self.first_bytes.fetch_sub(first, Ordering::Relaxed);
        }
        let bytes = bytes - first;
        if bytes == 0 {
            return Ok(0);
        }
        let Gate { admission, source } = &*self.gate;
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
        admission.refuse(What::RequestBytes, source.source());
        Err(overloaded("request bytes"))
    }

    /// Gives back what parts of the request took, before it is answered.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let Gate { admission, source } = &*self.gate;
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
        let Gate { admission, source } = &*self.gate;
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
    fn full_source_keeps_no_other_out() {
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
    fn strangers_together_leave_room_for_known_sources() {
        let admission = Admission::new(4 * MIB);
        request(&admission, 250).authenticated();
        let held: Vec<_> = (1..10).flat_map(|host| fill(&admission, host)).collect();
        assert!(request(&admission, 20).require().is_err());
        let known = request(&admission, 250);
        assert!(known.require().is_ok());
        known.authenticated();
        assert_eq!(known.take(FIRST_BYTES).unwrap(), 0);
        assert!(known.take(MIB - 1).is_ok(), "what a caller sends has a budget of its own");
        assert!(known.take(MIB).is_err(), "and a bound");
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
