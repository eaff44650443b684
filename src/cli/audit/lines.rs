//! The lines of an export: events with their hashes, and signed places.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::clock::from_microsecond;
use crate::domain::audit_check::identity;
use crate::domain::{ChainHash, ChainedRecord, PlaceKind, SignedPlace, TenantId};
use crate::proto::admin as pb;

/// A line of an export.
pub(super) enum ExportLine {
    /// The events of the file begin after this one. Not signed.
    Start {
        tenant: TenantId,
        number: i64,
        hash: ChainHash,
    },
    Event {
        tenant: TenantId,
        record: ChainedRecord,
    },
    Signed(SignedPlace),
}

/// A signed place in JSON.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PlaceJson {
    tenant: String,
    number: i64,
    hash: String,
    time: String,
    public_key: String,
    signature: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct StartJson {
    tenant: String,
    number: i64,
    hash: String,
}

/// Every line but that of an event.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum OtherLine {
    Start(StartJson),
    Head(PlaceJson),
    Checkpoint(PlaceJson),
}

const EVENT: &str = "{\"event\":";
const HASH: &str = ",\"hash\":";

/// An event as a line. It has exactly the bytes that the hash covers.
pub(super) fn event_line(record: &str, hash: Option<ChainHash>) -> String {
    let hash = hash.map_or_else(|| "null".to_owned(), |hash| format!("\"{hash}\""));
    format!("{EVENT}{record}{HASH}{hash}}}\n")
}

/// A signed place as a line.
pub(super) fn place_line(place: &SignedPlace) -> Result<String, Failure> {
    let json = PlaceJson {
        tenant: place.tenant.to_string(),
        number: place.number,
        hash: place.hash.to_string(),
        time: format!("{:.6}", place.at),
        public_key: key_text(&place.public_key),
        signature: URL_SAFE_NO_PAD.encode(&place.signature),
    };
    other_line(&match place.kind {
        PlaceKind::Head => OtherLine::Head(json),
        PlaceKind::Checkpoint => OtherLine::Checkpoint(json),
    })
}

/// The unsigned start of an export as a line.
pub(super) fn start_line(tenant: &str, number: i64, hash: ChainHash) -> Result<String, Failure> {
    let start = StartJson { tenant: tenant.to_owned(), number, hash: hash.to_string() };
    other_line(&OtherLine::Start(start))
}

fn other_line(line: &OtherLine) -> Result<String, Failure> {
    Ok(format!("{}\n", serde_json::to_string(line).map_err(Failure::new)?))
}

/// A public key in text.
pub(super) fn key_text(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Parses a public key.
pub(super) fn key(text: &str) -> Result<Vec<u8>, String> {
    let key = URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).ok();
    key.filter(|key| key.len() == 32)
        .ok_or_else(|| "must be 32 bytes in base64url, as `keyward audit head` prints".to_owned())
}

impl ExportLine {
    /// Parses a line without its line feed.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        if let Some(rest) = line.strip_prefix(EVENT) {
            return event(rest).ok_or_else(|| "is not an event with its hash".to_owned());
        }
        let other: OtherLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match other {
            OtherLine::Start(start) => Ok(Self::Start {
                tenant: TenantId::parse(&start.tenant).map_err(|fault| fault.0)?,
                number: start.number,
                hash: start.hash.parse().map_err(|fault: crate::domain::Fault| fault.0)?,
            }),
            OtherLine::Head(json) => place(PlaceKind::Head, &json).map(Self::Signed),
            OtherLine::Checkpoint(json) => place(PlaceKind::Checkpoint, &json).map(Self::Signed),
        }
    }
}

fn event(rest: &str) -> Option<ExportLine> {
    let (record, hash) = rest.rsplit_once(HASH)?;
    let hash = match hash.strip_suffix('}')? {
        "null" => None,
        hash => Some(hash.strip_prefix('"')?.strip_suffix('"')?.parse().ok()?),
    };
    let (tenant, number) = identity(record)?;
    let record = ChainedRecord { number, record: record.to_owned(), hash };
    Some(ExportLine::Event { tenant, record })
}

fn place(kind: PlaceKind, json: &PlaceJson) -> Result<SignedPlace, String> {
    let at: Timestamp = json.time.parse().map_err(|error: jiff::Error| error.to_string())?;
    Ok(SignedPlace {
        kind,
        tenant: TenantId::parse(&json.tenant).map_err(|fault| fault.0)?,
        number: json.number,
        hash: json.hash.parse().map_err(|fault: crate::domain::Fault| fault.0)?,
        at,
        public_key: key(&json.public_key)?,
        signature: URL_SAFE_NO_PAD.decode(&json.signature).map_err(|error| error.to_string())?,
    })
}

/// A signed place of the server.
pub(super) fn place_of(kind: PlaceKind, message: &pb::AuditHead) -> Result<SignedPlace, Failure> {
    let time = message.time.unwrap_or_default();
    let micros = time.seconds.saturating_mul(1_000_000) + i64::from(time.nanos / 1000);
    Ok(SignedPlace {
        kind,
        tenant: TenantId::parse(&message.tenant).map_err(|_| invalid())?,
        number: message.number,
        hash: ChainHash::from_bytes(&message.hash).ok_or_else(invalid)?,
        at: from_microsecond(micros),
        public_key: message.public_key.clone(),
        signature: message.signature.clone(),
    })
}

/// The server's answer makes no sense.
pub(super) fn invalid() -> Failure {
    Failure::new("the server's answer is not valid: does it have the same version?")
}
