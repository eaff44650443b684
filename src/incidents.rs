//! Logs what is refused to clients: one line immediately for each kind, client and source, and one
//! line with a count when its window ends. Clients choose client ids and sources, so the number of
//! entries, in total and per source, is bounded. Secrets and tokens are never passed to this
//! module.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use strum::IntoStaticStr;

use crate::domain::{Source, is_hidden};

/// How long repetitions are counted and not logged.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// The maximum number of entries: some 200 bytes each.
const MAX_ENTRIES: usize = 4096;
/// The maximum number of entries per source. Further incidents of the source share one entry.
const MAX_OF_SOURCE: usize = 16;
/// The maximum number of displayed characters of a client's name.
const MAX_NAME: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum IncidentKind {
    /// A client secret or an API key is wrong, or its client may do nothing now.
    WrongSecret,
    /// A client certificate is none of the credential's, or its client may do nothing now.
    WrongCertificate,
    /// A bearer token is invalid.
    InvalidToken,
    /// An authenticated caller lacks permission.
    PermissionDenied,
    /// A failure budget is used up, so secrets are refused without being checked.
    LockedOut,
    /// A rate limit is used up.
    LimitReached,
}

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub struct Incident<'a> {
    pub kind: IncidentKind,
    /// A client id, or the name of a limit. Empty if unknown.
    pub client: &'a str,
    /// The client's address, if known.
    pub source: Option<IpAddr>,
    /// Details. Must not contain secrets.
    pub detail: &'a str,
}

/// Incidents with the same key are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct IncidentKey {
    kind: IncidentKind,
    client: ClientLabel,
    source: Option<Source>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ClientLabel {
    Named(Box<str>),
    Unknown,
    /// Incidents beyond a bound.
    Others,
}

#[derive(Debug)]
struct Entry {
    since: Timestamp,
    more: u64,
    last: Timestamp,
}

#[derive(Debug, Default)]
struct IncidentTable {
    entries: HashMap<IncidentKey, Entry>,
    /// The number of entries per source.
    of_source: HashMap<Source, usize>,
}

/// The incidents of the current windows.
#[derive(Debug, Default)]
pub struct Incidents(Mutex<IncidentTable>);

/// The repetitions of an incident.
#[derive(Debug, PartialEq, Eq)]
struct IncidentCount {
    kind: IncidentKind,
    client: String,
    source: String,
    more: u64,
    last: Timestamp,
}

impl ClientLabel {
    fn new(name: &str) -> Self {
        if name.is_empty() {
            return Self::Unknown;
        }
        let shown: String = name.chars().take(MAX_NAME).filter(|c| !is_hidden(*c)).collect();
        Self::Named(shown.into())
    }

    fn words(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Unknown => "unknown",
            Self::Others => "others",
        }
    }
}

impl IncidentKey {
    fn source(&self) -> String {
        self.source.map_or_else(|| "unknown".to_owned(), |source| source.to_string())
    }

    fn count(self, entry: &Entry) -> Option<IncidentCount> {
        let (kind, client, source) = (self.kind, self.client.words().to_owned(), self.source());
        (entry.more > 0).then_some(IncidentCount {
            kind,
            client,
            source,
            more: entry.more,
            last: entry.last,
        })
    }
}

impl IncidentTable {
    /// The key of an incident: its own, or a shared one if a bound is reached.
    fn key(&self, incident: &Incident<'_>) -> IncidentKey {
        let source = incident.source.map(Source::of);
        let own =
            IncidentKey { kind: incident.kind, client: ClientLabel::new(incident.client), source };
        if self.entries.contains_key(&own) {
            return own;
        }
        if self.entries.len() >= MAX_ENTRIES {
            return IncidentKey { client: ClientLabel::Others, source: None, ..own };
        }
        let of_source = source.and_then(|source| self.of_source.get(&source));
        if of_source.is_some_and(|count| *count >= MAX_OF_SOURCE) {
            return IncidentKey { client: ClientLabel::Others, ..own };
        }
        own
    }

    /// Counts an incident. Returns its key if it is the first in its window, and the count of the
    /// previous window if that has ended.
    fn note(
        &mut self,
        incident: &Incident<'_>,
        now: Timestamp,
    ) -> (Option<IncidentKey>, Option<IncidentCount>) {
        let key = self.key(incident);
        let mut ended = None;
        if let Some(entry) = self.entries.get_mut(&key) {
            if !is_over(entry.since, now) {
                entry.more += 1;
                entry.last = now;
                return (None, None);
            }
            ended = self.remove(key.clone());
        }
        if let Some(source) = key.source {
            *self.of_source.entry(source).or_default() += 1;
        }
        self.entries.insert(key.clone(), Entry { since: now, more: 0, last: now });
        (Some(key), ended)
    }

    fn remove(&mut self, key: IncidentKey) -> Option<IncidentCount> {
        let entry = self.entries.remove(&key)?;
        if let Some(source) = key.source
            && let Some(count) = self.of_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&source);
            }
        }
        key.count(&entry)
    }

    /// Removes entries whose window has ended at `now`; all entries if `now` is `None`.
    fn end(&mut self, now: Option<Timestamp>) -> Vec<IncidentCount> {
        let over = |entry: &Entry| now.is_none_or(|now| is_over(entry.since, now));
        let ended = self.entries.iter().filter(|(_, entry)| over(entry));
        let ended: Vec<_> = ended.map(|(key, _)| key.clone()).collect();
        ended.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

/// Whether a window has ended. Setting the clock back also ends it.
fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now < since || now.duration_since(since) >= WINDOW
}

impl Incidents {
    fn table(&self) -> MutexGuard<'_, IncidentTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs or counts an incident. Returns whether it is the first in its window.
    pub fn note(&self, incident: Incident<'_>, now: Timestamp) -> bool {
        let (first, ended) = self.table().note(&incident, now);
        ended.as_ref().map(log_count);
        let Some(key) = first else {
            return false;
        };
        tracing::warn!(
            target: "keyward::refused",
            kind = key.kind.into_str(),
            client = key.client.words(),
            source = key.source(),
            detail = incident.detail,
            "refused"
        );
        true
    }

    /// Logs the counts of windows that have ended.
    pub fn sweep(&self, now: Timestamp) {
        let ended = self.table().end(Some(now));
        ended.iter().for_each(log_count);
    }

    /// Logs all counts. Call it before the server stops.
    pub fn finish(&self) {
        let ended = self.table().end(None);
        ended.iter().for_each(log_count);
    }
}

fn log_count(count: &IncidentCount) {
    let IncidentCount { kind, client, source, more, last } = count;
    tracing::warn!(
        target: "keyward::refused",
        kind = kind.into_str(),
        client,
        source,
        more,
        %last,
        "refused repeatedly"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wrong(client: &str, host: u32) -> (String, Option<IpAddr>) {
        (client.to_owned(), Some(IpAddr::from(host.to_be_bytes())))
    }

    fn note(
        table: &mut IncidentTable,
        (client, source): &(String, Option<IpAddr>),
        second: i64,
    ) -> bool {
        let kind = IncidentKind::WrongSecret;
        let incident = Incident { kind, client, source: *source, detail: "" };
        table.note(&incident, at(second)).0.is_some()
    }

    #[test]
    fn repeated_incident_is_one_line_and_a_count() {
        let mut table = IncidentTable::default();
        assert!(note(&mut table, &wrong("a", 1), 0));
        assert!((1..30).all(|n| !note(&mut table, &wrong("a", 1), n)));
        assert!(note(&mut table, &wrong("b", 1), 1), "another client");
        assert!(note(&mut table, &wrong("a", 2), 1), "another source");
        assert!(table.end(Some(at(59))).is_empty(), "the window has not ended");
        let counts = table.end(Some(at(60)));
        assert_eq!(counts.len(), 1);
        assert_eq!((counts[0].more, counts[0].last), (29, at(29)));
        assert!(note(&mut table, &wrong("a", 1), 61), "a new window");
        assert!(note(&mut table, &wrong("a", 1), 10), "the clock was set back");
    }

    #[test]
    fn source_with_many_client_ids_has_few_lines() {
        let mut table = IncidentTable::default();
        let lines = (0..10_000).filter(|n| note(&mut table, &wrong(&n.to_string(), 7), 0)).count();
        assert_eq!(lines, MAX_OF_SOURCE + 1);
        assert!(note(&mut table, &wrong("a", 8), 0), "other sources are not affected");
        let more: u64 = table.end(None).iter().map(|count| count.more).sum();
        assert_eq!(more, 10_000 - lines as u64, "every incident is counted");
        assert!(table.entries.is_empty() && table.of_source.is_empty());
    }

    #[test]
    fn table_size_is_bounded() {
        let mut table = IncidentTable::default();
        for host in 0..20_000 {
            note(&mut table, &wrong("a", host), 0);
        }
        assert_eq!(table.entries.len(), MAX_ENTRIES + 1);
        assert!(table.of_source.len() <= MAX_ENTRIES);
        let long = "x".repeat(100_000);
        assert_eq!(ClientLabel::new(&long).words().len(), MAX_NAME);
        assert_eq!(
            ClientLabel::new("a\nb\u{202e}").words(),
            "ab",
            "a client cannot forge log lines"
        );
    }
}
