//! Signing keys.

use super::{seconds, timestamp};
use crate::domain::text::long_text;
use crate::domain::{FieldErrors, SigningKeyName};
use crate::error::Result;
use crate::keys::KeyState;
use crate::proto::admin as pb;
use crate::proto::admin::signing_key::State;
use crate::service::{RevokedKey, SigningKeyInfo};

const MAX_REASON: usize = 256;

/// The key to revoke, and the reason.
pub(in crate::grpc) fn revoked(
    request: &pb::RevokeSigningKeyRequest,
) -> Result<(SigningKeyName, &str)> {
    let mut fields = FieldErrors::default();
    let name = fields.read("name", SigningKeyName::parse(&request.name));
    fields.read("reason", long_text(&request.reason, MAX_REASON));
    fields.finish(name.map(|name| (name, request.reason.as_str())))
}

pub(in crate::grpc) fn message(key: SigningKeyInfo) -> pb::SigningKey {
    let record = key.record;
    let planned = record.planned();
    pb::SigningKey {
        name: format!("signingKeys/{}", record.kid),
        algorithm: record.algorithm,
        state: state(key.state).into(),
        create_time: Some(timestamp(record.created_at)),
        activate_time: planned.map(timestamp),
        retire_time: key.signs_until.map(timestamp),
        remove_time: key.published_until.map(timestamp),
        revoke_time: record.revoked_at.map(timestamp),
    }
}

fn state(state: KeyState) -> State {
    match state {
        KeyState::Next => State::Next,
        KeyState::Active => State::Active,
        KeyState::Retiring => State::Retiring,
        KeyState::Removed => State::Removed,
        KeyState::Revoked => State::Revoked,
    }
}

pub(in crate::grpc) fn revocation(revoked: RevokedKey) -> pb::RevokeSigningKeyResponse {
    pb::RevokeSigningKeyResponse {
        signing_key: Some(message(revoked.key)),
        replacement: revoked.replacement.map(message),
        revocation_bound: Some(seconds(revoked.bound)),
    }
}
