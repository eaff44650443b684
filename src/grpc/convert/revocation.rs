//! Revocations.

use super::{precise, timestamp};
use crate::domain::text::{long_text, text};
use crate::domain::{
    ApplicationName, CredentialName, Fault, FieldErrors, NewRevocation, Revocation, Subject,
    TenantId, UserName,
};
use crate::error::Result;
use crate::proto::access as pb;
use crate::proto::access::revocation::Revoked as RevokedMessage;
use crate::proto::token::RevokeTokensRequest;
use crate::revocation::Cursor;
use crate::service::{News, Revoked};

/// The tokens to revoke, and the reason.
pub(in crate::grpc) fn revoked(request: &RevokeTokensRequest) -> Result<(Revoked, &str)> {
    let mut fields = FieldErrors::default();
    let whose = fields.read("name", whose(&request.name));
    fields.read("reason", long_text(&request.reason, NewRevocation::MAX_REASON));
    let revoked = match (whose, request.token_id.as_str()) {
        (whose, "") => whose,
        (Some(Revoked::Credential(name)), id) => fields
            .read("token_id", text(id, 1, Subject::MAX_TOKEN_ID))
            .map(|id| Revoked::Token(name, id)),
        (Some(_), _) => {
            fields.fault("name", "must be that of a credential, if there is a token_id");
            None
        }
        (None, _) => None,
    };
    fields.finish(revoked.map(|revoked| (revoked, request.reason.as_str())))
}

fn whose(name: &str) -> Result<Revoked, Fault> {
    match name.split('/').collect::<Vec<_>>()[..] {
        ["tenants", _] => TenantId::from_name(name).map(Revoked::Tenant),
        ["tenants", _, "users", _] => UserName::parse(name).map(Revoked::User),
        ["tenants", _, "applications", _] => ApplicationName::parse(name).map(Revoked::Application),
        ["tenants", _, "applications", _, "credentials", _] => {
            CredentialName::parse(name).map(Revoked::Credential)
        }
        _ => Err(Fault::new("must be the name of a tenant, user, application or credential")),
    }
}

pub(in crate::grpc) fn cursor(cursor: &str) -> Result<Option<Cursor>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    Cursor::parse(cursor).map(Some).map_err(|fault| fault.of("cursor"))
}

pub(in crate::grpc) fn message(revocation: Revocation) -> pb::Revocation {
    pb::Revocation {
        number: revocation.number,
        revoked: Some(match revocation.subject {
            Subject::Token(id) => RevokedMessage::TokenId(id),
            Subject::Credential(name) => RevokedMessage::ClientId(name.credential.to_string()),
            Subject::Client(id) => RevokedMessage::ClientId(id.to_string()),
            Subject::Application(name) => RevokedMessage::Subject(name.to_string()),
            Subject::Tenant(id) => RevokedMessage::Tenant(id.to_string()),
            Subject::SigningKey(name) => RevokedMessage::KeyId(name.kid().to_owned()),
        }),
        epoch: revocation.epoch,
        revoke_time: Some(timestamp(revocation.revoked_at)),
        expire_time: Some(timestamp(revocation.expires_at)),
    }
}

pub(in crate::grpc) fn news(news: News) -> pb::WatchRevocationsResponse {
    pb::WatchRevocationsResponse {
        revocations: news.revocations.into_iter().map(message).collect(),
        cursor: news.cursor.to_string(),
        snapshot: news.snapshot,
        staleness: news.staleness.map(precise),
    }
}
