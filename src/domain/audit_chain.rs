//! The hash chain of a tenant's audit log: the form in which an event is hashed, the hash, and the
//! signed places of a chain.
//!
//! The hash of an event is SHA-256 of the hash before it (32 zero bytes for the first event) and of
//! the event's record: its stored values in one JSON form, which is the same on both databases.

use std::fmt::{self, Write};
use std::str::FromStr;

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::Serialize;

use super::{Fault, FieldChange, TenantId};
use crate::error::Result;

/// A hash of the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The hash before the first event.
    pub const START: Self = Self([0; 32]);

    /// The hash of the event that follows the one with this hash.
    #[must_use]
    pub fn next(self, record: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        context.update(record.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// The hash from 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for ChainHash {
    /// Lower-case hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

impl FromStr for ChainHash {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::new("must be 64 characters of lower-case hex");
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high).zip(digit(*low)).map(|(h, l)| (h << 4) | l).ok_or_else(wrong)?;
        }
        Ok(Self(hash))
    }
}

/// The stored values of an event, as the database has them. They need not be valid: they may
/// have been changed by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub tenant: String,
    pub number: i64,
    /// Microseconds since the Unix epoch.
    pub at: i64,
    pub service: String,
    pub user: Option<String>,
    pub address: Option<String>,
    pub action: String,
    pub resource: String,
    pub refused: bool,
    pub detail: String,
    /// The text of the column: JSON, unless it was changed by hand.
    pub changes: String,
}

#[derive(Serialize)]
struct EventRecord<'a> {
    tenant: &'a str,
    number: i64,
    at: i64,
    service: &'a str,
    user: Option<&'a str>,
    address: Option<&'a str>,
    action: &'a str,
    resource: &'a str,
    refused: bool,
    detail: &'a str,
}

impl StoredEvent {
    /// The JSON that is hashed and exported. Different stored values have different records.
    pub fn record(&self) -> Result<String> {
        let record = EventRecord {
            tenant: &self.tenant,
            number: self.number,
            at: self.at,
            service: &self.service,
            user: self.user.as_deref(),
            address: self.address.as_deref(),
            action: &self.action,
            resource: &self.resource,
            refused: self.refused,
            detail: &self.detail,
        };
        let mut json = serde_json::to_string(&record).map_err(internal)?;
        json.pop();
        // The stored text itself is the last member, if it has the form that Keyward writes. Any
        // other text is a string: it could contain line feeds, or not be JSON.
        let parsed: Result<Vec<FieldChange>, _> = serde_json::from_str(&self.changes);
        let written = parsed.ok().and_then(|changes| serde_json::to_string(&changes).ok());
        let changes = match written {
            Some(written) if written == self.changes => written,
            _ => serde_json::to_string(&self.changes).map_err(internal)?,
        };
        json.push_str(",\"changes\":");
        json.push_str(&changes);
        json.push('}');
        Ok(json)
    }
}

fn internal(error: serde_json::Error) -> crate::error::Error {
    crate::error::Error::Internal(Box::new(error))
}

/// What a signed place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// The newest event of the chain.
    Head,
    /// The last event that was deleted because of its age.
    Checkpoint,
}

impl PlaceKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A place in the chain of a tenant, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPlace {
    pub kind: PlaceKind,
    pub tenant: TenantId,
    /// The number of the event.
    pub number: i64,
    /// The hash of the event.
    pub hash: ChainHash,
    /// When it was signed.
    pub at: Timestamp,
    /// Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
    /// 64 bytes.
    pub signature: Vec<u8>,
}

impl SignedPlace {
    /// The text that is signed.
    pub fn text(
        kind: PlaceKind,
        tenant: &TenantId,
        number: i64,
        hash: ChainHash,
        at: Timestamp,
    ) -> String {
        let mut text = String::new();
        let kind = kind.as_str();
        write!(text, "keyward audit {kind}\n{tenant}\n{number}\n{hash}\n{at:.6}\n").ok();
        text
    }

    /// The text that this place signs.
    pub fn signed_text(&self) -> String {
        Self::text(self.kind, &self.tenant, self.number, self.hash, self.at)
    }
}

/// The state of a tenant's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLog {
    pub tenant: TenantId,
    pub tenant_exists: bool,
    /// The number of the newest event; 0: there is none.
    pub last_number: i64,
    pub head: Option<SignedPlace>,
    pub checkpoint: Option<SignedPlace>,
}

/// A position in the chain of a tenant, in the form `42-{hash}` or `42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// The number of the last event that was received; 0: none.
    pub number: i64,
    /// Its hash, if the reader knows it.
    pub hash: Option<ChainHash>,
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hash {
            Some(hash) => write!(f, "{}-{hash}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

impl FromStr for AuditCursor {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::new("must be the number of an event, or a cursor from a message");
        let (number, hash) = match text.split_once('-') {
            Some((number, hash)) => (number, Some(hash.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let number = number.parse().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
        Ok(Self { number, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> StoredEvent {
        StoredEvent {
            tenant: "acme".to_owned(),
            number: 7,
            at: 1_780_000_000_123_456,
            service: "tenants/system/applications/admin".to_owned(),
            user: None,
            address: Some("127.0.0.1".to_owned()),
            action: "UpdateTenant".to_owned(),
            resource: "tenants/acme".to_owned(),
            refused: false,
            detail: "a \"b\" ü\u{1}\u{2028}".to_owned(),
            changes: r#"[{"field":"display_name","before":null,"after":"1.0"}]"#.to_owned(),
        }
    }

    /// The documented form: other programs compute the hash from it.
    #[test]
    fn record_and_hash_have_the_documented_form() {
        let record = event().record().unwrap();
        assert_eq!(
            record,
            "{\"tenant\":\"acme\",\"number\":7,\"at\":1780000000123456,\
             \"service\":\"tenants/system/applications/admin\",\"user\":null,\
             \"address\":\"127.0.0.1\",\"action\":\"UpdateTenant\",\
             \"resource\":\"tenants/acme\",\"refused\":false,\
             \"detail\":\"a \\\"b\\\" ü\\u0001\u{2028}\",\
             \"changes\":[{\"field\":\"display_name\",\"before\":null,\"after\":\"1.0\"}]}"
        );
        let hash = ChainHash::START.next(&record);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().len(), 64);
        for bad in ["", "0", &"A".repeat(64), &"0".repeat(63), &"0".repeat(65), &"ü".repeat(32)] {
            assert!(bad.parse::<ChainHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn different_stored_values_have_different_records() {
        let text = |text: &str| text.to_owned();
        let changed: [&dyn Fn(&mut StoredEvent); 16] = [
            &|_| {},
            &|event| event.number = 8,
            &|event| event.at += 1,
            &|event| event.user = Some(String::new()),
            &|event| event.user = Some(text("null")),
            &|event| event.address = None,
            &|event| event.refused = true,
            &|event| event.detail = text("a \"b\" ü"),
            &|event| event.changes = text("[]"),
            &|event| event.changes = text("\"[]\""),
            &|event| event.changes = text(""),
            &|event| event.changes = text(r#"[{"field":"a","before":null,"after":"1"}]"#),
            &|event| event.changes = text(r#"[{"field":"a","before":null,"after":1.0}]"#),
            &|event| event.changes = text(r#"[{"field":"a","after":"1","before":null}]"#),
            &|event| event.changes = text(r#"[{"field":"a","after":"1"}]"#),
            &|event| event.changes = text("[\n]"),
        ];
        let mut records = std::collections::BTreeSet::new();
        for change in changed {
            let mut event = event();
            change(&mut event);
            let record = event.record().unwrap();
            assert!(!record.contains('\n'), "{record}");
            serde_json::from_str::<serde_json::Value>(&record).unwrap();
            assert!(records.insert(record), "{event:?}");
        }
    }

    #[test]
    fn cursor_is_a_number_with_or_without_a_hash() {
        let hash = ChainHash::START.next("a");
        for cursor in [
            AuditCursor { number: 0, hash: None },
            AuditCursor { number: 42, hash: None },
            AuditCursor { number: i64::MAX, hash: Some(hash) },
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for bad in ["", "-", "-1", "x", "1-", "1-2", &format!("-{hash}"), &format!("1-{hash}0")] {
            assert!(bad.parse::<AuditCursor>().is_err(), "{bad}");
        }
    }
}
