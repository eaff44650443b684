//! The connections of one listener.
//!
//! A connection has three stages. It is *opening* until its protocol is known and, for HTTP/1, its
//! first request has arrived. The number of opening connections is small, and the oldest one of a
//! source is closed for a new one. It is *quiet* until its first request, and can be closed if the
//! listener is full. After its first request it is *established* and keeps its place until it ends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::refusals::RefusalLog;
use super::{RefusalKind, SourceState};
use crate::domain::Source;

/// The maximum number of connections that are being closed to make room. They still hold
/// descriptors.
pub(super) const MAX_CLOSING: usize = 64;

/// The maximum numbers of connections of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In total. A quarter is reserved for known sources.
    pub max: usize,
    /// Per source.
    pub of_source: usize,
    /// Per source, before the first request.
    pub opening_of_source: usize,
}

impl ConnectionLimits {
    /// The maximum number of descriptors that these connections need.
    pub fn descriptors(&self) -> usize {
        self.max + MAX_CLOSING
    }

    fn of_unknown(&self) -> usize {
        self.max - self.max / 4
    }

    fn opening(&self) -> usize {
        (self.max / 2).max(1)
    }
}

#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    refusals: Arc<RefusalLog>,
    held: Mutex<HeldConnections>,
}

#[derive(Debug, Default)]
struct HeldConnections {
    last: u64,
    all: usize,
    of_unknown: usize,
    of_source: HashMap<Source, usize>,
    closing: usize,
    opening: Closable,
    quiet: Closable,
}

/// Connections that can be closed to make room, by age.
#[derive(Debug, Default)]
struct Closable {
    waiting: BTreeMap<u64, Waiting>,
    of_source: HashMap<Source, VecDeque<u64>>,
}

#[derive(Debug)]
struct Waiting {
    kind: ConnectionClass,
    /// Closes the connection. It is dropped unused when the first request arrives.
    close: oneshot::Sender<()>,
}

/// How a connection is counted.
#[derive(Clone, Copy, Debug)]
struct ConnectionClass {
    source: Source,
    is_known: bool,
}

impl Closable {
    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn len_of(&self, source: Source) -> usize {
        self.of_source.get(&source).map_or(0, VecDeque::len)
    }

    fn insert(&mut self, number: u64, waiting: Waiting) {
        self.of_source.entry(waiting.kind.source).or_default().push_back(number);
        self.waiting.insert(number, waiting);
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        if let Some(numbers) = self.of_source.get_mut(&waiting.kind.source) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.of_source.remove(&waiting.kind.source);
            }
        }
        Some(waiting)
    }

    fn oldest_of(&self, source: Source) -> Option<u64> {
        self.of_source.get(&source)?.front().copied()
    }

    /// The oldest connection. Those of unknown sources come first.
    fn oldest(&self, of_known_too: bool) -> Option<u64> {
        let unknown = self.waiting.iter().find(|(_, one)| !one.kind.is_known);
        let any = || self.waiting.iter().next().filter(|_| of_known_too);
        unknown.or_else(any).map(|(number, _)| *number)
    }
}

impl HeldConnections {
    /// Closes a connection to make room. Its place is free immediately, its descriptor soon.
    fn close(&mut self, number: Option<u64>) -> Option<Source> {
        let number = number?;
        let Waiting { kind, close } =
            self.opening.remove(number).or_else(|| self.quiet.remove(number))?;
        // The connection may have ended meanwhile.
        close.send(()).ok();
        self.give_back(kind);
        self.closing += 1;
        Some(kind.source)
    }

    fn take(&mut self, kind: ConnectionClass) {
        self.all += 1;
        self.of_unknown += usize::from(!kind.is_known);
        *self.of_source.entry(kind.source).or_default() += 1;
    }

    fn give_back(&mut self, kind: ConnectionClass) {
        self.all -= 1;
        self.of_unknown -= usize::from(!kind.is_known);
        if let Some(count) = self.of_source.get_mut(&kind.source) {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&kind.source);
            }
        }
    }

    fn of_source(&self, source: Source) -> usize {
        self.of_source.get(&source).copied().unwrap_or_default()
    }
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, refusals: Arc<RefusalLog>) -> Arc<Self> {
        Arc::new(Self { limits, refusals, held: Mutex::default() })
    }

    /// Reserves a place for a connection, and returns it with a signal that fires if the connection
    /// must be closed to make room. A trusted proxy forwards the connections of many sources, so it
    /// has no per-source budget and counts as known. `None`: the listener is full.
    pub fn admit(
        self: &Arc<Self>,
        state: &SourceState,
        is_proxy: bool,
    ) -> Option<(ConnectionPermit, oneshot::Receiver<()>)> {
        let source = state.source();
        let kind = ConnectionClass { source, is_known: is_proxy || state.is_known() };
        let (number, receiver, close) = {
            let mut held = self.held();
            let close = self.make_room(&mut held, kind, is_proxy);
            let fits = self.has_room(&held, kind, is_proxy);
            if !fits {
                drop(held);
                self.refusals.note(RefusalKind::Connection, source);
                return None;
            }
            held.take(kind);
            held.last += 1;
            let number = held.last;
            let (sender, receiver) = oneshot::channel();
            held.opening.insert(number, Waiting { kind, close: sender });
            (number, receiver, close)
        };
        for source in close.into_iter().flatten() {
            self.refusals.note(RefusalKind::SilentConnection, source);
        }
        let permit = ConnectionPermit {
            connections: Arc::clone(self),
            number,
            kind,
            is_established: AtomicBool::new(false),
        };
        Some((permit, receiver))
    }

    /// Closes connections without a request, if a new one would find no place.
    fn make_room(
        &self,
        held: &mut HeldConnections,
        kind: ConnectionClass,
        is_proxy: bool,
    ) -> [Option<Source>; 2] {
        if held.closing >= MAX_CLOSING {
            return [None; 2];
        }
        let limits = &self.limits;
        let mut first = None;
        if !is_proxy && held.opening.len_of(kind.source) >= limits.opening_of_source {
            first = held.close(held.opening.oldest_of(kind.source));
        } else if held.opening.len() >= limits.opening() {
            first = held.close(held.opening.oldest(kind.is_known));
        }
        let mut second = None;
        if !is_proxy && held.of_source(kind.source) >= limits.of_source {
            let oldest = held.opening.oldest_of(kind.source);
            second = held.close(oldest.or_else(|| held.quiet.oldest_of(kind.source)));
        } else if held.all >= limits.max
            || (!kind.is_known && held.of_unknown >= limits.of_unknown())
        {
            let oldest = held.opening.oldest(kind.is_known);
            second = held.close(oldest.or_else(|| held.quiet.oldest(kind.is_known)));
        }
        [first, second]
    }

    fn has_room(&self, held: &HeldConnections, kind: ConnectionClass, is_proxy: bool) -> bool {
        let limits = &self.limits;
        held.all < limits.max
            && (kind.is_known || held.of_unknown < limits.of_unknown())
            && held.opening.len() < limits.opening()
            && (is_proxy
                || (held.of_source(kind.source) < limits.of_source
                    && held.opening.len_of(kind.source) < limits.opening_of_source))
    }

    fn held(&self) -> MutexGuard<'_, HeldConnections> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    connections: Arc<Connections>,
    number: u64,
    kind: ConnectionClass,
    is_established: AtomicBool,
}

impl ConnectionPermit {
    /// Notes that the connection speaks HTTP/2 and has sent no request yet.
    pub fn quiet(&self) {
        let mut held = self.connections.held();
        if let Some(waiting) = held.opening.remove(self.number) {
            held.quiet.insert(self.number, waiting);
        }
    }

    /// Whether the first request has arrived.
    pub fn is_established(&self) -> bool {
        self.is_established.load(Ordering::Relaxed)
    }

    /// Notes the first request: the connection keeps its place. Returns false if the place was lost
    /// before.
    pub fn establish(&self) -> bool {
        let mut held = self.connections.held();
        let waits = held.opening.remove(self.number).or_else(|| held.quiet.remove(self.number));
        if waits.is_some() {
            self.is_established.store(true, Ordering::Relaxed);
        }
        self.is_established()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut held = self.connections.held();
        let waits = held.opening.remove(self.number).or_else(|| held.quiet.remove(self.number));
        if waits.is_some() || *self.is_established.get_mut() {
            held.give_back(self.kind);
        } else {
            held.closing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Admission;
    use super::*;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { max: 16, of_source: 8, opening_of_source: 3 };

    type Admitted = Option<(ConnectionPermit, oneshot::Receiver<()>)>;

    fn listener() -> (Admission, Arc<Connections>) {
        let admission = Admission::new(1 << 20);
        let connections = admission.connections(LIMITS);
        (admission, connections)
    }

    fn state(admission: &Admission, host: u8) -> Arc<SourceState> {
        admission.source(Source::of([192, 0, 2, host].into()))
    }

    fn established(admitted: Admitted) -> Option<ConnectionPermit> {
        admitted.map(|(permit, _)| permit).filter(ConnectionPermit::establish)
    }

    fn was_cut(close: &mut oneshot::Receiver<()>) -> bool {
        close.try_recv().is_ok()
    }

    #[test]
    fn oldest_opening_connection_of_the_source_is_closed() {
        let (admission, connections) = listener();
        let (one, other) = (state(&admission, 1), state(&admission, 2));
        let (_other, mut cut_other) = connections.admit(&other, false).unwrap();
        let mut opening: Vec<_> = (0..5).map(|_| connections.admit(&one, false).unwrap()).collect();
        let close: Vec<_> = opening.iter_mut().map(|(_, close)| was_cut(close)).collect();
        assert_eq!(close, [true, true, false, false, false]);
        assert!(!was_cut(&mut cut_other));
        assert!(!opening[0].0.establish() && opening[4].0.establish());
        drop(opening);
        assert_eq!(connections.held().closing, 0);
        assert_eq!(connections.held().all, 1);
    }

    #[test]
    fn full_source_leaves_places_for_others() {
        let (admission, connections) = listener();
        let one = state(&admission, 1);
        let held: Vec<_> =
            (0..8).filter_map(|_| established(connections.admit(&one, false))).collect();
        assert_eq!(held.len(), 8);
        assert!(connections.admit(&one, false).is_none());
        assert!(connections.admit(&one, true).is_some(), "a proxy has no per-source budget");
        assert!(connections.admit(&state(&admission, 2), false).is_some());
    }

    #[test]
    fn first_request_protects_its_connection() {
        let (admission, connections) = listener();
        let (permit, mut close) = connections.admit(&state(&admission, 1), false).unwrap();
        assert!(permit.establish());
        assert!(!was_cut(&mut close));
    }

    #[test]
    fn quiet_connection_is_closed_if_its_source_is_full() {
        let (admission, connections) = listener();
        let one = state(&admission, 1);
        let mut quiet: Vec<_> = (0..8)
            .map(|_| {
                let (permit, close) = connections.admit(&one, false).unwrap();
                permit.quiet();
                (permit, close)
            })
            .collect();
        let _next = connections.admit(&one, false).unwrap();
        let close: Vec<_> = quiet.iter_mut().map(|(_, close)| was_cut(close)).collect();
        assert_eq!(close, [true, false, false, false, false, false, false, false]);
    }

    #[test]
    fn a_quarter_of_the_places_is_reserved_for_known_sources() {
        let (admission, connections) = listener();
        let address = [192, 0, 2, 99].into();
        let known = admission.source(Source::of(address));
        admission.gate(Arc::clone(&known)).request(address, 0).authenticated();
        let mut held = Vec::new();
        for host in 1..5 {
            let state = state(&admission, host);
            held.extend((0..8).filter_map(|_| established(connections.admit(&state, false))));
        }
        assert_eq!(held.len(), 12);
        held.extend((0..8).filter_map(|_| established(connections.admit(&known, false))));
        assert_eq!(held.len(), 16);
        drop(held);
        assert_eq!(connections.held().all, 0);
        assert!(connections.held().of_source.is_empty());
    }
}
