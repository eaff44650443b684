//! What is refused to clients, in the log: one line at once for each kind, client and source, and
//! one that counts the same when its window is over. Strangers choose client ids and sources, so
//! both the table and the lines of one source are bounded. Secrets and tokens never come here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::domain::{Source, is_hidden};

/// How long the same is only counted.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// How many entries the table has: some 200 bytes each.
const MAX_ENTRIES: usize = 4096;
/// How many of them one source has. The rest of what it does is counted as one.
const MAX_OF_SOURCE: usize = 16;
/// How much of a client's name is shown.
const MAX_NAME: usize = 160;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentKind {
    /// A client secret or an API key was wrong, or of a client that may do nothing now.
    WrongSecret,
    /// A bearer token was not valid.
    InvalidToken,
    /// A known caller asked for what it may not do.
    PermissionDenied,
    /// A budget of wrong secrets is used up: what is presented is refused unread.
    LockedOut,
    /// A limit of requests or tokens is used up.
    LimitReached,
}

impl IncidentKind {
    fn name(self) -> &'static str {
        match self {
            Self::WrongSecret => "wrong_secret",
            Self::InvalidToken => "invalid_token",
            Self::PermissionDenied => "permission_denied",
            Self::LockedOut => "locked_out",
            Self::LimitReached => "limit_reached",
        }
    }
}

/// Something that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Incident<'a> {
    /// What.
    pub kind: IncidentKind,
    /// Whose: a client id, or the name of a limit; empty if that is not known.
    pub client: &'a str,
    /// From where, if that is known.
    pub source: Option<IpAddr>,
    /// What more there is to say: no secret.
    pub detail: &'a str,
}

/// What makes two incidents the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: IncidentKind,
    client: Client,
    source: Option<Source>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    Named(Box<str>),
    Unknown,
    /// Those beyond a bound.
    Others,
}

#[derive(Debug)]
struct Entry {
    since: Timestamp,
    more: u64,
    last: Timestamp,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// How many entries each source has.
    of_source: HashMap<Source, usize>,
}

/// The incidents of the last minute.
#[derive(Debug, Default)]
pub struct Incidents(Mutex<Table>);

/// A line that counts what had none of its own.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    kind: IncidentKind,
    client: String,
    source: String,
    more: u64,
    last: Timestamp,
}

impl Client {
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

impl Key {
    fn source(&self) -> String {
        self.source.map_or_else(|| "unknown".to_owned(), |source| source.to_string())
    }

    fn count(self, entry: &Entry) -> Option<Count> {
        let (kind, client, source) = (self.kind, self.client.words().to_owned(), self.source());
        (entry.more > 0).then_some(Count {
            kind,
            client,
            source,
            more: entry.more,
            last: entry.last,
        })
    }
}

impl Table {
    /// The key to count an incident under: its own, or a common one where a bound is reached.
    fn key(&self, incident: &Incident<'_>) -> Key {
        let source = incident.source.map(Source::of);
        let own = Key { kind: incident.kind, client: Client::new(incident.client), source };
        if self.entries.contains_key(&own) {
            return own;
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Key { client: Client::Others, source: None, ..own };
        }
        let of_source = source.and_then(|source| self.of_source.get(&source));
        if of_source.is_some_and(|count| *count >= MAX_OF_SOURCE) {
            return Key { client: Client::Others, ..own };
        }
        own
    }

    /// Counts an incident. Its key, if it is the first; and the count that ends by it.
    fn note(&mut self, incident: &Incident<'_>, now: Timestamp) -> (Option<Key>, Option<Count>) {
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

    fn remove(&mut self, key: Key) -> Option<Count> {
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

    /// Ends what is over at this moment; all of it, if there is none.
    fn end(&mut self, now: Option<Timestamp>) -> Vec<Count> {
        let over = |entry: &Entry| now.is_none_or(|now| is_over(entry.since, now));
        let ended = self.entries.iter().filter(|(_, entry)| over(entry));
        let ended: Vec<_> = ended.map(|(key, _)| key.clone()).collect();
        ended.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

/// Whether a window is over. A clock that was set back ends it too.
fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now < since || now.duration_since(since) >= WINDOW
}

impl Incidents {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an incident: logs it, or counts it. Whether it is the first of its window.
    pub fn note(&self, incident: Incident<'_>, now: Timestamp) -> bool {
        let (first, ended) = self.table().note(&incident, now);
        ended.as_ref().map(log_count);
        let Some(key) = first else {
            return false;
        };
        tracing::warn!(
            target: "keyward::refused",
            kind = key.kind.name(),
            client = key.client.words(),
            source = key.source(),
            detail = incident.detail,
            "refused"
        );
        true
    }

    /// Logs the counts whose window is over.
    pub fn sweep(&self, now: Timestamp) {
        let ended = self.table().end(Some(now));
        ended.iter().for_each(log_count);
    }

    /// Logs all counts: for a server that stops.
    pub fn finish(&self) {
        let ended = self.table().end(None);
        ended.iter().for_each(log_count);
    }
}

fn log_count(count: &Count) {
    let Count { kind, client, source, more, last } = count;
    tracing::warn!(
        target: "keyward::refused",
        kind = kind.name(),
        client,
        source,
        more,
        %last,
        "refused more times"
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

    fn note(table: &mut Table, (client, source): &(String, Option<IpAddr>), second: i64) -> bool {
        let kind = IncidentKind::WrongSecret;
        let incident = Incident { kind, client, source: *source, detail: "" };
        table.note(&incident, at(second)).0.is_some()
    }

    #[test]
    fn same_incident_is_one_line_and_a_count() {
        let mut table = Table::default();
        assert!(note(&mut table, &wrong("a", 1), 0));
        assert!((1..30).all(|n| !note(&mut table, &wrong("a", 1), n)));
        assert!(note(&mut table, &wrong("b", 1), 1), "another client");
        assert!(note(&mut table, &wrong("a", 2), 1), "another source");
        assert!(table.end(Some(at(59))).is_empty(), "its window is not over");
        let counts = table.end(Some(at(60)));
        assert_eq!(counts.len(), 1);
        assert_eq!((counts[0].more, counts[0].last), (29, at(29)));
        assert!(note(&mut table, &wrong("a", 1), 61), "a new window");
        assert!(note(&mut table, &wrong("a", 1), 10), "a clock that was set back");
    }

    #[test]
    fn one_source_with_many_client_ids_has_few_lines() {
        let mut table = Table::default();
        let lines = (0..10_000).filter(|n| note(&mut table, &wrong(&n.to_string(), 7), 0)).count();
        assert_eq!(lines, MAX_OF_SOURCE + 1);
        assert!(note(&mut table, &wrong("a", 8), 0), "others are not touched");
        let more: u64 = table.end(None).iter().map(|count| count.more).sum();
        assert_eq!(more, 10_000 - lines as u64, "nothing is lost");
        assert!(table.entries.is_empty() && table.of_source.is_empty());
    }

    #[test]
    fn table_is_bounded_whatever_comes() {
        let mut table = Table::default();
        for host in 0..20_000 {
            note(&mut table, &wrong("a", host), 0);
        }
        assert_eq!(table.entries.len(), MAX_ENTRIES + 1);
        assert!(table.of_source.len() <= MAX_ENTRIES);
        let long = "x".repeat(100_000);
        assert_eq!(Client::new(&long).words().len(), MAX_NAME);
        assert_eq!(Client::new("a\nb\u{202e}").words(), "ab", "no line of its own making");
    }
}
