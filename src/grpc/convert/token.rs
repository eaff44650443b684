//! Tokens.

use super::{claims, required, seconds, timestamp};
use crate::domain::{
    Audience, Confirmation, Fault, FieldErrors, GrantRequest, ScopeName, ScopeSet,
};
use crate::error::Result;
use crate::proto::token as pb;
use crate::proto::token::issue_token_request::Credential;
use crate::secrets::Secret;
use crate::service::{ClientCredential, GrantType, IssuedToken, TokenInfo, TokenRequest};

pub(in crate::grpc) fn issue(request: &pb::IssueTokenRequest) -> Result<TokenRequest> {
    let mut fields = FieldErrors::default();
    let presented = required(&mut fields, "credential", request.credential.as_ref());
    let scopes: Option<ScopeSet> = fields.read_each("scopes", &request.scopes, ScopeName::parse);
    let audiences: Option<Vec<_>> =
        fields.read_each("audiences", &request.audiences, Audience::parse);
    let whole = (|| {
        let wanted = GrantRequest { scopes: scopes?, audiences: audiences? };
        let grant = GrantType::ClientCredentials(wanted);
        Some(TokenRequest { credential: credential(presented?), grant })
    })();
    fields.finish(whole)
}

fn credential(credential: &Credential) -> ClientCredential {
    match credential {
        Credential::ApiKey(key) => ClientCredential::api_key(Secret::new(key.as_str())),
        Credential::ClientSecret(pair) => ClientCredential::client_secret(
            pair.client_id.clone(),
            Secret::new(pair.client_secret.as_str()),
        ),
        Credential::ClientAssertion(message) => ClientCredential::Assertion {
            client_id: message.client_id.clone(),
            assertion: Secret::new(message.assertion.as_str()),
        },
        Credential::ClientCertificate(message) => {
            ClientCredential::Certificate { client_id: message.client_id.clone() }
        }
    }
}

/// The token that a request is about.
pub(in crate::grpc) fn presented(token: String) -> Result<Secret> {
    let token = Secret::new(token);
    if token.expose().is_empty() {
        return Err(Fault::new("must not be empty").of("token"));
    }
    Ok(token)
}

pub(in crate::grpc) fn issued(token: IssuedToken) -> pb::IssueTokenResponse {
    pb::IssueTokenResponse {
        access_token: token.access_token.into_exposed(),
        token_type: Confirmation::token_type(token.confirmation.as_ref()).to_owned(),
        expires_in: Some(seconds(token.expires_in)),
        scopes: token.scopes.to_strings(),
    }
}

pub(in crate::grpc) fn info(info: Option<TokenInfo>) -> pb::IntrospectTokenResponse {
    let Some(info) = info else {
        return pb::IntrospectTokenResponse::default();
    };
    pb::IntrospectTokenResponse {
        active: true,
        scopes: info.scopes.to_strings(),
        client_id: info.client_id,
        subject: info.subject,
        tenant: info.tenant,
        audiences: info.audiences,
        issuer: info.issuer,
        issue_time: info.issued_at.map(timestamp),
        expire_time: info.expires_at.map(timestamp),
        roles: info.roles,
        token_id: info.token_id.unwrap_or_default(),
        confirmation: info.confirmation.map(confirmation),
        token_claims: claims::message(&info.token_claims),
    }
}

fn confirmation(bound: Confirmation) -> pb::Confirmation {
    pb::Confirmation {
        jkt: bound.key.unwrap_or_default(),
        x5t_s256: bound.certificate.unwrap_or_default(),
    }
}
