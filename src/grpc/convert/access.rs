//! Access.

use super::{precise, seconds, timestamp};
use crate::certificates::thumbprint;
use crate::domain::{
    AccessAnswer, AccessOutcome, AccessQuestion, Audience, Counted, Fault, FieldErrors, LimitLevel,
    LimitStatus, NeededScopes, Possession, PresentedProof, Principal, Requirement, ScopeName,
    parse_address,
};
use crate::error::Result;
use crate::proto::access as pb;
use crate::proto::access::check_access_request::Requirement as RequirementMessage;
use crate::proto::access::check_access_response::Outcome as OutcomeMessage;
use crate::proto::access::limit_status::{Counted as CountedMessage, Level as LevelMessage};
use crate::secrets::Secret;

/// The requests of a batch.
pub(in crate::grpc) fn questions(
    request: pb::BatchCheckAccessRequest,
) -> Result<Vec<(Secret, AccessQuestion)>> {
    const MAX: usize = AccessQuestion::MAX_BATCH;
    if request.requests.len() > MAX {
        let fault = Fault::new(format!("must have at most {MAX} elements"));
        return Err(fault.of("requests"));
    }
    let each = request.requests.into_iter().enumerate();
    each.map(|(n, request)| question(request, &format!("requests[{n}]."))).collect()
}

/// One request. Errors name its fields with this prefix.
pub(in crate::grpc) fn question(
    request: pb::CheckAccessRequest,
    prefix: &str,
) -> Result<(Secret, AccessQuestion)> {
    let mut fields = FieldErrors::default();
    let at = |field: &str| format!("{prefix}{field}");
    let token = Secret::new(request.token);
    if token.expose().is_empty() {
        fields.fault(at("token"), "must not be empty");
    }
    let requirement = match request.requirement {
        None => {
            fields.fault(at("requirement"), "must be set: `scopes` or `endpoint`");
            None
        }
        Some(RequirementMessage::Scopes(scopes)) => needed(&mut fields, &at("scopes"), &scopes),
        Some(RequirementMessage::Endpoint(endpoint)) => {
            Some(Requirement::Endpoint { method: endpoint.method, path: endpoint.path })
        }
    };
    if request.items < 0 {
        fields.fault(at("items"), "must not be negative");
    }
    let audience = optional(&request.audience, Audience::parse);
    let audience = fields.read(at("audience"), audience);
    let source = optional(&request.source_address, |address| {
        parse_address(address).ok_or_else(|| Fault::new("must be an IP address"))
    });
    let source = fields.read(at("source_address"), source);
    let possession = request.possession.unwrap_or_default();
    let certificate = optional(&possession.certificate_thumbprint, thumbprint);
    let certificate = fields.read(at("possession.certificate_thumbprint"), certificate);
    let proof = possession.dpop.and_then(|dpop| proof(&mut fields, &at("possession.dpop"), dpop));
    let whole = (|| {
        Some(AccessQuestion {
            requirement: requirement?,
            items: request.items,
            audience: audience?,
            source: source?,
            peek: request.peek,
            possession: Possession { key: None, certificate: certificate? },
            proof,
        })
    })();
    fields.finish(whole).map(|question| (token, question))
}

/// The proof that came with a token. `None` if a field is missing, which is recorded.
fn proof(fields: &mut FieldErrors, field: &str, message: pb::DpopProof) -> Option<PresentedProof> {
    let pb::DpopProof { proof, http_method, url } = message;
    let mut whole = true;
    for (name, value) in [("proof", &proof), ("http_method", &http_method), ("url", &url)] {
        if value.is_empty() {
            fields.fault(format!("{field}.{name}"), "must not be empty");
            whole = false;
        }
    }
    whole.then_some(PresentedProof { proof: Some(proof), method: http_method, url })
}

fn needed(
    fields: &mut FieldErrors,
    field: &str,
    message: &pb::RequiredScopes,
) -> Option<Requirement> {
    const MAX: usize = AccessQuestion::MAX_SCOPES;
    if message.all_of.len() + message.any_of.len() > MAX {
        fields.fault(field, format!("must have at most {MAX} scopes"));
        return None;
    }
    let all_of = fields.read_each(&format!("{field}.all_of"), &message.all_of, ScopeName::parse);
    let any_of = fields.read_each(&format!("{field}.any_of"), &message.any_of, ScopeName::parse);
    Some(Requirement::Scopes(NeededScopes { all_of: all_of?, any_of: any_of? }))
}

fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

pub(in crate::grpc) fn answer(access: AccessAnswer) -> pb::CheckAccessResponse {
    let message = access.message();
    pb::CheckAccessResponse {
        allowed: access.outcome == AccessOutcome::Allowed,
        outcome: outcome(access.outcome).into(),
        message,
        principal: access.principal.map(principal),
        missing_scopes: access.missing,
        limits: access.limits.into_iter().map(limit).collect(),
        retry_after: access.retry_after.map(precise),
        max_age: Some(precise(access.max_age)),
        max_items: access.max_items.unwrap_or_default(),
        dpop_nonce: access.nonce.unwrap_or_default(),
    }
}

fn outcome(outcome: AccessOutcome) -> OutcomeMessage {
    match outcome {
        AccessOutcome::Allowed => OutcomeMessage::Allowed,
        AccessOutcome::InvalidToken => OutcomeMessage::InvalidToken,
        AccessOutcome::Expired => OutcomeMessage::Expired,
        AccessOutcome::Revoked => OutcomeMessage::Revoked,
        AccessOutcome::WrongAudience => OutcomeMessage::WrongAudience,
        AccessOutcome::MalformedPath => OutcomeMessage::MalformedPath,
        AccessOutcome::UnknownEndpoint => OutcomeMessage::UnknownEndpoint,
        AccessOutcome::InsufficientScope => OutcomeMessage::InsufficientScope,
        AccessOutcome::TooManyItems => OutcomeMessage::TooManyItems,
        AccessOutcome::RateLimited => OutcomeMessage::RateLimited,
        AccessOutcome::Overloaded => OutcomeMessage::Overloaded,
        AccessOutcome::NotPossessed => OutcomeMessage::NotPossessed,
        AccessOutcome::TooManyFailures => OutcomeMessage::TooManyFailures,
    }
}

fn principal(principal: Principal) -> pb::Principal {
    let application = &principal.credential.application;
    pb::Principal {
        tenant: application.tenant.name(),
        application: application.to_string(),
        credential: principal.credential.to_string(),
        roles: principal.roles.iter().map(ToString::to_string).collect(),
        scopes: principal.scopes.to_strings(),
        token_id: principal.token_id.unwrap_or_default(),
        expire_time: principal.expires_at.map(timestamp),
        exchanged_by: principal.exchanged_by.unwrap_or_default(),
    }
}

fn limit(status: LimitStatus) -> pb::LimitStatus {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let counted = match status.counted {
        Counted::Requests => CountedMessage::Requests,
        Counted::Tokens => CountedMessage::Tokens,
    };
    let level = match status.level {
        LimitLevel::Credential => LevelMessage::Credential,
        LimitLevel::Application => LevelMessage::Application,
        LimitLevel::Tenant => LevelMessage::Tenant,
        LimitLevel::Endpoint => LevelMessage::Endpoint,
    };
    pb::LimitStatus {
        level: level.into(),
        name: status.name,
        counted: counted.into(),
        limit: whole(status.limit),
        window: Some(seconds(status.window)),
        remaining: whole(status.remaining),
        reset: Some(precise(status.reset)),
        exceeded: status.exceeded,
        observe_only: status.observe_only,
    }
}
