//! The Authorization API 1.0 of OpenID AuthZEN: the question of `CheckAccess`, in the shape that API
//! gateways ask. The subject is a token or an API key, the action a method, the resource a route.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client_auth;
use super::error::{OAuthError, json as answer};
use super::form::Form;
use crate::domain::{
    AccessAnswer, AccessOutcome, AccessQuestion, Audience, NeededScopes, Possession, Principal,
    Requirement, ScopeSet, parse_address,
};
use crate::error::whole_seconds;
use crate::secrets::Secret;
use crate::service::{Caller, Service};

pub(super) const EVALUATION_PATH: &str = "/access/v1/evaluation";
pub(super) const EVALUATIONS_PATH: &str = "/access/v1/evaluations";
pub(super) const METADATA_PATH: &str = "/.well-known/authzen-configuration";

const JSON: &str = "application/json";
const CACHE: &str = "public, max-age=300";
/// A caller marks a request, and gets the mark back (section 10.1.3).
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The four parts of a question. In a request for several, they are the defaults of each.
#[derive(Clone, Default, Deserialize)]
struct EvaluationParts {
    subject: Option<Value>,
    action: Option<Value>,
    resource: Option<Value>,
    context: Option<Value>,
}

/// A request for several evaluations.
#[derive(Deserialize)]
struct EvaluationsBody {
    #[serde(flatten)]
    defaults: EvaluationParts,
    #[serde(default)]
    evaluations: Vec<EvaluationParts>,
    #[serde(default)]
    options: EvaluationsOptions,
}

#[derive(Default, Deserialize)]
struct EvaluationsOptions {
    #[serde(default)]
    evaluations_semantic: EvaluationsSemantic,
}

/// When to stop.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EvaluationsSemantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

/// The metadata of the decision point (section 9).
pub(super) async fn metadata(State(service): State<Arc<Service>>) -> Response {
    let issuer = service.issuer().trim_end_matches('/');
    let body = json!({
        "policy_decision_point": issuer,
        "access_evaluation_endpoint": format!("{issuer}{EVALUATION_PATH}"),
        "access_evaluations_endpoint": format!("{issuer}{EVALUATIONS_PATH}"),
    });
    answer(StatusCode::OK, CACHE, &body)
}

pub(super) async fn evaluation(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, OAuthError> {
    let (head, body) = Form::read(request, &service, JSON).await?;
    let caller = verifier(&service, &head).await?;
    let parts: EvaluationParts = parsed(&body)?;
    let decision = single(&service, &caller, &parts).await?;
    Ok(marked(&head, answer(StatusCode::OK, "no-store", &decision)))
}

pub(super) async fn evaluations(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, OAuthError> {
    const MAX: usize = AccessQuestion::MAX_BATCH;
    let (head, body) = Form::read(request, &service, JSON).await?;
    let caller = verifier(&service, &head).await?;
    let EvaluationsBody { defaults, evaluations, options } = parsed(&body)?;
    if evaluations.is_empty() {
        // As if it were asked for one (section 7.1), the shape of the answer included.
        let decision = single(&service, &caller, &defaults).await?;
        return Ok(marked(&head, answer(StatusCode::OK, "no-store", &decision)));
    }
    if evaluations.len() > MAX {
        let text = format!("evaluations must have at most {MAX} elements");
        return Err(OAuthError::invalid_request(text));
    }
    let mut decisions = Vec::with_capacity(evaluations.len());
    for each in evaluations {
        let parts = EvaluationParts {
            subject: each.subject.or_else(|| defaults.subject.clone()),
            action: each.action.or_else(|| defaults.action.clone()),
            resource: each.resource.or_else(|| defaults.resource.clone()),
            context: each.context.or_else(|| defaults.context.clone()),
        };
        let decision = match question(&parts) {
            Ok((token, question)) => {
                decision(&service.access.check(&caller, &token, &question).await?)
            }
            // One that is malformed does not fail the others (section 7.2.1).
            Err(message) => json!({
                "decision": false,
                "context": { "error": { "status": 400, "message": message } },
            }),
        };
        let allowed = decision["decision"] == true;
        decisions.push(decision);
        let stops_at = match options.evaluations_semantic {
            EvaluationsSemantic::ExecuteAll => None,
            EvaluationsSemantic::DenyOnFirstDeny => Some(false),
            EvaluationsSemantic::PermitOnFirstPermit => Some(true),
        };
        if stops_at == Some(allowed) {
            break;
        }
    }
    let body = json!({ "evaluations": decisions });
    Ok(marked(&head, answer(StatusCode::OK, "no-store", &body)))
}

/// The caller, which must be one that may verify.
async fn verifier(service: &Service, head: &Form) -> Result<Caller, OAuthError> {
    let credential = client_auth::caller(head)?;
    let caller = client_auth::authenticate(service, head, credential).await?;
    caller.require_verifier()?;
    Ok(caller)
}

async fn single(
    service: &Service,
    caller: &Caller,
    parts: &EvaluationParts,
) -> Result<Value, OAuthError> {
    let (token, question) = question(parts).map_err(OAuthError::invalid_request)?;
    Ok(decision(&service.access.check(caller, &token, &question).await?))
}

fn marked(head: &Form, mut response: Response) -> Response {
    if let Some(id) = head.headers.get(REQUEST_ID) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    response
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, OAuthError> {
    // The error of the parser could show a part of a token.
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text =
            format!("the body is not a request as expected, at line {line}, column {column}");
        OAuthError::invalid_request(text)
    })
}

/// The token and the question, or what is wrong with the first wrong member.
fn question(parts: &EvaluationParts) -> Result<(Secret, AccessQuestion), String> {
    let subject = object(parts.subject.as_ref(), "subject")?;
    let action = object(parts.action.as_ref(), "action")?;
    let resource = object(parts.resource.as_ref(), "resource")?;
    let empty = Map::new();
    let context = match &parts.context {
        None => &empty,
        context => object(context.as_ref(), "context")?,
    };
    if text(subject, "subject", "type")? != "token" {
        return Err("subject.type must be token".to_owned());
    }
    text(subject, "subject", "id")?;
    let properties = object(subject.get("properties"), "subject.properties")?;
    let token = text(properties, "subject.properties", "token")?;
    let requirement = match text(resource, "resource", "type")? {
        "route" => Requirement::Endpoint {
            method: text(action, "action", "name")?.to_owned(),
            path: text(resource, "resource", "id")?.to_owned(),
        },
        "scope" => {
            let scopes = text(resource, "resource", "id")?;
            let all_of =
                ScopeSet::parse(scopes).map_err(|fault| format!("resource.id {}", fault.0))?;
            text(action, "action", "name")?;
            Requirement::Scopes(NeededScopes { all_of, any_of: ScopeSet::default() })
        }
        _ => return Err("resource.type must be route or scope".to_owned()),
    };
    let items = match context.get("items") {
        None => 0,
        Some(items) => items
            .as_i64()
            .filter(|items| *items >= 0)
            .ok_or("context.items must be a whole number that is not negative")?,
    };
    let source = optional(context, "source_address")?
        .map(|text| parse_address(text).ok_or("context.source_address must be an IP address"))
        .transpose()?;
    let audience = optional(context, "audience")?.map(Audience::parse).transpose();
    let audience = audience.map_err(|fault| format!("context.audience {}", fault.0))?;
    let question = AccessQuestion {
        requirement,
        items,
        audience,
        source,
        peek: false,
        possession: Possession::default(),
        proof: None,
    };
    Ok((Secret::new(token), question))
}

fn object<'a>(value: Option<&'a Value>, name: &str) -> Result<&'a Map<String, Value>, String> {
    value.and_then(Value::as_object).ok_or_else(|| format!("{name} must be an object"))
}

fn text<'a>(of: &'a Map<String, Value>, name: &str, member: &str) -> Result<&'a str, String> {
    let text = of.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("{name}.{member} must be a text that is not empty"))
}

fn optional<'a>(context: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, String> {
    match context.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("context.{member} must be a text")),
    }
}

fn decision(answer: &AccessAnswer) -> Value {
    let mut context = json!({ "outcome": answer.outcome.into_str(), "reason": answer.message() });
    if let Some(principal) = &answer.principal {
        context["principal"] = principal_of(principal);
    }
    if !answer.missing.is_empty() {
        context["missing_scopes"] = json!(answer.missing);
    }
    if let Some(wait) = answer.retry_after {
        context["retry_after"] = json!(whole_seconds(wait).max(1));
    }
    json!({ "decision": answer.outcome == AccessOutcome::Allowed, "context": context })
}

fn principal_of(principal: &Principal) -> Value {
    let application = &principal.credential.application;
    let roles: Vec<_> = principal.roles.iter().map(ToString::to_string).collect();
    json!({
        "tenant": application.tenant.name(),
        "application": application.to_string(),
        "credential": principal.credential.to_string(),
        "roles": roles,
        "scopes": principal.scopes.to_strings(),
    })
}
