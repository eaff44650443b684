//! Tokens.

use super::{claims, required, seconds, timestamp};
use crate::domain::{
    Audience, Confirmation, Fault, FieldErrors, GrantRequest, ScopeName, ScopeSet, TokenActor,
    TokenType,
};
use crate::error::Result;
use crate::proto::token as pb;
use crate::proto::token::exchange_token_request::Credential as ExchangeCredential;
use crate::proto::token::issue_token_request::Credential;
use crate::secrets::Secret;
use crate::service::{
    ClientCredential, ExchangeRequest, GrantType, IssuedToken, PresentedToken, TokenInfo,
    TokenRequest,
};

pub(in crate::grpc) fn issue(request: &pb::IssueTokenRequest) -> Result<TokenRequest> {
    let mut fields = FieldErrors::default();
    let presented = required(&mut fields, "credential", request.credential.as_ref());
    let wanted = wanted(&mut fields, &request.scopes, &request.audiences);
    let whole = (|| {
        let grant = GrantType::ClientCredentials(wanted?);
        Some(TokenRequest { credential: credential(presented?), grant })
    })();
    fields.finish(whole)
}

fn wanted(
    fields: &mut FieldErrors,
    scopes: &[String],
    audiences: &[String],
) -> Option<GrantRequest> {
    let scopes: Option<ScopeSet> = fields.read_each("scopes", scopes, ScopeName::parse);
    let audiences: Option<Vec<_>> = fields.read_each("audiences", audiences, Audience::parse);
    Some(GrantRequest { scopes: scopes?, audiences: audiences? })
}

pub(in crate::grpc) fn exchange(request: &pb::ExchangeTokenRequest) -> Result<TokenRequest> {
    let mut fields = FieldErrors::default();
    let credential = required(&mut fields, "credential", request.credential.as_ref());
    let wanted = wanted(&mut fields, &request.scopes, &request.audiences);
    let subject = to_exchange(
        &mut fields,
        ("subject_token", &request.subject_token),
        ("subject_token_type", &request.subject_token_type),
    );
    let has_actor = !request.actor_token.is_empty() || !request.actor_token_type.is_empty();
    let actor = has_actor.then(|| {
        to_exchange(
            &mut fields,
            ("actor_token", &request.actor_token),
            ("actor_token_type", &request.actor_token_type),
        )
    });
    let requested = match request.requested_token_type.as_str() {
        "" => Some(TokenType::AccessToken),
        uri => fields.read("requested_token_type", TokenType::parse_requested(uri)),
    };
    let whole = (|| {
        let actor = match actor {
            Some(actor) => Some(actor?),
            None => None,
        };
        let (subject, requested, wanted) = (subject?, requested?, wanted?);
        let request = ExchangeRequest { subject, actor, requested, wanted };
        let grant = GrantType::TokenExchange(Box::new(request));
        Some(TokenRequest { credential: exchanging(credential?), grant })
    })();
    fields.finish(whole)
}

/// A token with its type, from these fields.
fn to_exchange(
    fields: &mut FieldErrors,
    (token_field, token): (&str, &str),
    (type_field, uri): (&str, &str),
) -> Option<PresentedToken> {
    if token.is_empty() {
        fields.fault(token_field, "must not be empty");
    }
    let declared = fields.read(type_field, TokenType::parse(uri));
    Some(PresentedToken { token: Secret::new(token), declared: declared? })
}

/// The same ways to authenticate as for [`issue`].
fn exchanging(presented: &ExchangeCredential) -> ClientCredential {
    credential(&match presented.clone() {
        ExchangeCredential::ClientSecret(pair) => Credential::ClientSecret(pair),
        ExchangeCredential::ApiKey(key) => Credential::ApiKey(key),
        ExchangeCredential::ClientAssertion(message) => Credential::ClientAssertion(message),
        ExchangeCredential::ClientCertificate(message) => Credential::ClientCertificate(message),
    })
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

pub(in crate::grpc) fn exchanged(token: IssuedToken) -> pb::ExchangeTokenResponse {
    let issued_token_type = token.issued_type.map_or("", TokenType::uri).to_owned();
    let pb::IssueTokenResponse { access_token, token_type, expires_in, scopes } = issued(token);
    pb::ExchangeTokenResponse { access_token, token_type, expires_in, scopes, issued_token_type }
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
        actors: info.actor.iter().flat_map(|actor| actor.chain()).map(actor).collect(),
    }
}

fn actor(actor: &TokenActor) -> pb::Actor {
    pb::Actor { subject: actor.sub.clone(), client_id: actor.client_id.clone() }
}

fn confirmation(bound: Confirmation) -> pb::Confirmation {
    pb::Confirmation {
        jkt: bound.key.unwrap_or_default(),
        x5t_s256: bound.certificate.unwrap_or_default(),
    }
}
