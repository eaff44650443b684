//! The question that services ask about every request: is it allowed? Tokens and API keys take one
//! path: whose is it, has it the scopes, is it within the limits. Services ask with `CheckAccess`,
//! gateways in the ways that they know; the question is the same.

mod upstream;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::domain::{
    AccessAnswer, AccessOutcome as Outcome, AccessQuestion, AppliedLimits, Audience, BindingFault,
    Client, Confirmation, Counted, Endpoint, LimitLevel, Moment, Possession, Principal,
    RequestPath, Requirement, UseKind, max_items,
};
use crate::error::{Error, Result};
use crate::secrets::Secret;
use crate::service::auth::{Auth, Caller, TokenState, VerifiedToken};
use crate::service::clients::ClientCache;
use crate::service::limits::{Act, RateLimits};
use crate::service::signing::Signing;
use crate::service::usage::UsageCounter;

/// How long an answer may be used if nothing was counted for it: callers that cache answers apply
/// a revocation so much later.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How long an answer may be used that no change can reverse.
const FINAL_AGE: Duration = Duration::from_mins(1);

/// The holder of a token or key that is accepted.
struct Known {
    client: Arc<Client>,
    principal: Principal,
    /// The token; `None` for a key.
    token: Option<Arc<VerifiedToken>>,
}

/// An answer, with the holder if the request is allowed.
type Decided = (AccessAnswer, Option<Known>);

/// Answers whether requests are allowed.
#[derive(Debug)]
pub struct AccessChecks {
    pub(super) issuer: String,
    pub(super) clock: Clock,
    pub(super) auth: Arc<Auth>,
    pub(super) clients: Arc<ClientCache>,
    pub(super) limits: Arc<RateLimits>,
    pub(super) signing: Arc<Signing>,
    pub(super) usage: Arc<UsageCounter>,
}

impl AccessChecks {
    /// Whether a token or key allows a request; counts the request, unless the question is
    /// only a peek.
    pub async fn check(
        &self,
        caller: &Caller,
        token: &Secret,
        question: &AccessQuestion,
    ) -> Result<AccessAnswer> {
        Ok(self.decide(caller, token, question).await?.0)
    }

    /// Like [`check`](Self::check). If the request is allowed, there is also a token for this
    /// audience, which a gateway sends to the service in place of the client's credential.
    pub async fn check_for_upstream(
        &self,
        caller: &Caller,
        token: &Secret,
        question: &AccessQuestion,
        audience: Option<&Audience>,
    ) -> Result<(AccessAnswer, Option<Secret>)> {
        let (answer, known) = self.decide(caller, token, question).await?;
        let upstream = match known.zip(audience) {
            Some((known, audience)) => Some(self.upstream_token(&known, audience).await?),
            None => None,
        };
        Ok((answer, upstream))
    }

    async fn decide(
        &self,
        caller: &Caller,
        token: &Secret,
        question: &AccessQuestion,
    ) -> Result<Decided> {
        caller.require_verifier()?;
        let now = self.clock.now();
        let known = match self.identify(caller, token, question, now).await? {
            Ok(known) => known,
            Err(refused) => return Ok((refused, None)),
        };
        if !question.peek {
            self.usage.count(&known.client, UseKind::Check, now, question.source);
        }
        let tenant = &known.client.tenant;
        if !known.is_for(question.audience.as_ref().unwrap_or(&tenant.settings.default_audience)) {
            return Ok((known.answer(Outcome::WrongAudience), None));
        }
        let mut limits = known.client.limits();
        let needed = match &question.requirement {
            Requirement::Scopes(needed) => needed.clone(),
            Requirement::Endpoint { method, path } => {
                let path = match RequestPath::parse(path) {
                    Ok(path) => path,
                    Err(fault) => {
                        let answer = known.answer(Outcome::MalformedPath);
                        return Ok((AccessAnswer { detail: fault.to_string(), ..answer }, None));
                    }
                };
                let rules = self.clients.endpoints(tenant).await?;
                let Some(rule) = rules.find(method, &path) else {
                    return Ok((known.answer(Outcome::UnknownEndpoint), None));
                };
                limits.extend(known.limits_of(rule));
                rule.needs.clone()
            }
        };
        let missing = needed.missing(&known.principal.scopes);
        if !missing.is_empty() {
            let answer = known.answer(Outcome::InsufficientScope);
            return Ok((AccessAnswer { missing, ..answer }, None));
        }
        let max_items = max_items(&limits);
        if max_items.is_some_and(|max| question.items > max) {
            let answer = known.answer(Outcome::TooManyItems);
            return Ok((AccessAnswer { max_items, ..answer }, None));
        }
        self.within_limits(question, known, &limits, max_items).await
    }

    async fn within_limits(
        &self,
        question: &AccessQuestion,
        known: Known,
        limits: &[AppliedLimits],
        max_items: Option<i64>,
    ) -> Result<Decided> {
        let tenant = &known.client.tenant;
        let asked = if question.peek {
            let counted = [Counted::Requests, Counted::Tokens];
            self.limits.ask(Act::Peek, tenant, limits, &counted).await
        } else {
            self.limits.ask(Act::Count, tenant, limits, &[Counted::Requests]).await
        };
        // A limit of tokens refuses no request.
        let refusing = asked
            .limits
            .iter()
            .filter(|limit| limit.exceeded && !limit.observe_only)
            .filter(|limit| limit.counted == Counted::Requests);
        let retry_after = refusing.map(|limit| limit.reset).max();
        let outcome = if retry_after.is_some() { Outcome::RateLimited } else { Outcome::Allowed };
        let counts = asked.limits.iter().any(|limit| limit.counted == Counted::Requests);
        let max_age = if counts || question.peek || question.proof.is_some() {
            // The same proof is not accepted again.
            Duration::ZERO
        } else {
            known.max_age(self.clock.now())
        };
        let answer = AccessAnswer {
            limits: asked.limits,
            max_items,
            retry_after,
            max_age,
            ..known.answer(outcome)
        };
        Ok((answer, (outcome == Outcome::Allowed).then_some(known)))
    }

    /// The answer if the sender did not prove to have what the token is bound to. A proof is spent
    /// when all else is right, and not by a peek.
    async fn unproven(
        &self,
        token: &Secret,
        bound: Option<&Confirmation>,
        question: &AccessQuestion,
        now: Timestamp,
    ) -> Result<Option<AccessAnswer>> {
        let dpop = self.auth.dpop();
        let proof = question.proof.as_ref().map(|proof| dpop.check(proof, Some(token), now));
        let proof = match proof.transpose() {
            Ok(proof) => proof,
            Err(error) => return refused_proof(error).map(Some),
        };
        let key = proof.as_ref().map(|proof| proof.key.clone());
        let shown = Possession { key, ..question.possession.clone() };
        if let Err(fault) = Confirmation::require(bound, &shown) {
            return Ok(Some(not_possessed(fault.into_str())));
        }
        match proof.filter(|_| !question.peek) {
            None => Ok(None),
            Some(proof) => match dpop.spend(proof, true).await {
                Ok(()) => Ok(None),
                Err(error) => refused_proof(error).map(Some),
            },
        }
    }

    /// The holder of a token or key, or the answer if there is none.
    async fn identify(
        &self,
        caller: &Caller,
        token: &Secret,
        question: &AccessQuestion,
        now: Timestamp,
    ) -> Result<Result<Known, AccessAnswer>> {
        if self.auth.is_api_key(token) {
            if question.proof.is_some() {
                return Ok(Err(not_possessed(BindingFault::NotBoundToKey.into_str())));
            }
            return match self.auth.key(caller, token, question.source, now).await {
                Ok(client) => Ok(Ok(Known::by_key(client))),
                Err(Error::InvalidClient) => Ok(Err(unknown(Outcome::InvalidToken, MAX_AGE))),
                Err(Error::RateLimited { retry_after, .. }) => Ok(Err(AccessAnswer {
                    retry_after: Some(retry_after),
                    ..unknown(Outcome::TooManyFailures, Duration::ZERO)
                })),
                // The keys of one source must not fail the other answers of a batch.
                Err(Error::Overloaded { retry_after, .. }) => Ok(Err(AccessAnswer {
                    retry_after: Some(retry_after),
                    ..unknown(Outcome::Overloaded, Duration::ZERO)
                })),
                Err(error) => Err(error),
            };
        }
        let text = token;
        Ok(match self.auth.tokens().state(text.expose(), now).await? {
            TokenState::Live(token, client) => {
                match self.unproven(text, token.claims.cnf.as_deref(), question, now).await? {
                    None => Ok(Known::by_token(token, client)),
                    Some(refused) => Err(refused),
                }
            }
            TokenState::Expired => Err(unknown(Outcome::Expired, FINAL_AGE)),
            TokenState::Revoked => Err(unknown(Outcome::Revoked, FINAL_AGE)),
            TokenState::Invalid => Err(unknown(Outcome::InvalidToken, MAX_AGE)),
        })
    }
}

/// The answer for a proof that is not accepted. What could not be decided stays an error.
fn refused_proof(error: Error) -> Result<AccessAnswer> {
    match error {
        Error::InvalidDpopProof { fault, .. } => Ok(not_possessed(fault)),
        Error::UseDpopNonce { nonce, .. } => {
            let detail = "the DPoP proof needs the nonce in dpop_nonce";
            Ok(AccessAnswer { nonce: Some(nonce), ..not_possessed(detail) })
        }
        error => Err(error),
    }
}

/// The answer for a sender that did not prove to have what the token is bound to.
fn not_possessed(detail: impl Into<String>) -> AccessAnswer {
    AccessAnswer { detail: detail.into(), ..unknown(Outcome::NotPossessed, Duration::ZERO) }
}

impl Known {
    fn by_key(client: Arc<Client>) -> Self {
        let principal = Principal {
            credential: client.name.clone(),
            roles: client.roles.to_vec(),
            scopes: client.scopes.clone(),
            token_id: None,
            expires_at: client.expires_at(),
            exchanged_by: None,
        };
        Self { client, principal, token: None }
    }

    fn by_token(token: Arc<VerifiedToken>, client: Arc<Client>) -> Self {
        let principal = Principal {
            credential: client.name.clone(),
            roles: token.roles.clone(),
            scopes: token.scopes.clone(),
            expires_at: Timestamp::from_second(token.claims.exp).ok().map(Moment::from),
            token_id: Some(token.claims.jti.clone()),
            exchanged_by: token
                .claims
                .parents()
                .last()
                .map(|holder| format!("{}/credentials/{}", holder.sub, holder.client_id)),
        };
        Self { client, principal, token: Some(token) }
    }

    /// Whether the token is for this audience. A key is for every audience of its tokens.
    fn is_for(&self, audience: &Audience) -> bool {
        match &self.token {
            Some(token) => token.claims.aud.as_slice().iter().any(|one| one == audience.as_str()),
            None => self.client.tenant.settings.allows_audience(audience),
        }
    }

    /// The limits of a rule, which each application has for itself.
    fn limits_of(&self, rule: &Endpoint) -> Option<AppliedLimits> {
        rule.limits.map(|limits| {
            let name = format!("{} {} of {}", rule.method, rule.path, self.client.subject);
            let life = self.client.application_life;
            AppliedLimits { level: LimitLevel::Endpoint, name, life, limits }
        })
    }

    fn answer(&self, outcome: Outcome) -> AccessAnswer {
        AccessAnswer {
            principal: Some(self.principal.clone()),
            max_age: if outcome == Outcome::MalformedPath { FINAL_AGE } else { MAX_AGE },
            ..unknown(outcome, MAX_AGE)
        }
    }

    /// How long this answer may be used: not beyond the end of the token.
    fn max_age(&self, now: Timestamp) -> Duration {
        let left = self.principal.expires_at.map(|end| end.timestamp().duration_since(now));
        left.map_or(MAX_AGE, |left: SignedDuration| left.unsigned_abs().min(MAX_AGE))
    }
}

fn unknown(outcome: Outcome, max_age: Duration) -> AccessAnswer {
    AccessAnswer {
        outcome,
        detail: String::new(),
        principal: None,
        missing: Vec::new(),
        limits: Vec::new(),
        max_items: None,
        retry_after: None,
        max_age,
        nonce: None,
    }
}
