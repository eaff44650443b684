//! The question that services ask about every request: may this be done? One path for
//! tokens and keys: whose it is, whether it is enough, whether it is too much.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::believed::Believed;
use super::limiting::Act;
use super::tokens::Token;
use super::{Caller, Service};
use crate::domain::{
    AccessAnswer, AccessOutcome as Outcome, AccessQuestion, Audience, Client, Counted, Endpoint,
    LimitLevel, LimitsOf, Moment, Principal, RequestPath, Requirement, UseKind, max_items,
};
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// How long an answer may be used that nothing was counted for: so much later is a
/// revocation heeded by those who do.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How long one may be used that no change will turn.
const FINAL_AGE: Duration = Duration::from_mins(1);

/// Somebody whose token or key is good.
struct Known {
    client: Arc<Client>,
    principal: Principal,
    /// What it proved itself with, unless that was a key.
    token: Option<Arc<Believed>>,
}

impl Service {
    /// Whether a token or key allows a request; counts the request, unless the question is
    /// only a peek.
    pub async fn check_access(
        &self,
        caller: &Caller,
        token: &Secret,
        question: &AccessQuestion,
    ) -> Result<AccessAnswer> {
        caller.require_verifier()?;
        let known = match self.know(caller, token, question).await? {
            Ok(known) => known,
            Err(refused) => return Ok(refused),
        };
        if !question.peek {
            self.used(&known.client, UseKind::Check, question.source);
        }
        let tenant = &known.client.tenant;
        if !known.is_for(question.audience.as_ref().unwrap_or(&tenant.settings.default_audience)) {
            return Ok(known.answer(Outcome::WrongAudience));
        }
        let mut limits = known.client.limits();
        let needed = match &question.requirement {
            Requirement::Scopes(needed) => needed.clone(),
            Requirement::Endpoint { method, path } => {
                let path = match RequestPath::parse(path) {
                    Ok(path) => path,
                    Err(fault) => {
                        let answer = known.answer(Outcome::MalformedPath);
                        return Ok(AccessAnswer { detail: fault.to_string(), ..answer });
                    }
                };
                let rules = self.endpoints(tenant).await?;
                let Some(rule) = rules.find(method, &path) else {
                    return Ok(known.answer(Outcome::UnknownEndpoint));
                };
                limits.extend(known.limits_of(rule));
                rule.needs.clone()
            }
        };
        let missing = needed.missing(&known.principal.scopes);
        if !missing.is_empty() {
            return Ok(AccessAnswer { missing, ..known.answer(Outcome::InsufficientScope) });
        }
        let max_items = max_items(&limits);
        if max_items.is_some_and(|most| question.items > most) {
            return Ok(AccessAnswer { max_items, ..known.answer(Outcome::TooManyItems) });
        }
        self.within_limits(question, known, &limits, max_items).await
    }

    async fn within_limits(
        &self,
        question: &AccessQuestion,
        known: Known,
        limits: &[LimitsOf],
        max_items: Option<i64>,
    ) -> Result<AccessAnswer> {
        let tenant = &known.client.tenant;
        let asked = if question.peek {
            let counted = [Counted::Requests, Counted::Tokens];
            self.ask_limits(Act::Peek, tenant, limits, &counted).await
        } else {
            self.ask_limits(Act::Count, tenant, limits, &[Counted::Requests]).await
        };
        // A limit of tokens does not stand in the way of a request.
        let refusing = asked
            .limits
            .iter()
            .filter(|limit| limit.exceeded && !limit.observe_only)
            .filter(|limit| limit.counted == Counted::Requests);
        let retry_after = refusing.map(|limit| limit.reset).max();
        let outcome = if retry_after.is_some() { Outcome::RateLimited } else { Outcome::Allowed };
        let counts = asked.limits.iter().any(|limit| limit.counted == Counted::Requests);
        let max_age =
            if counts || question.peek { Duration::ZERO } else { known.max_age(self.now()) };
        Ok(AccessAnswer {
            limits: asked.limits,
            max_items,
            retry_after,
            max_age,
            ..known.answer(outcome)
        })
    }

    /// Whose token or key it is; or what is answered where that is not certain.
    async fn know(
        &self,
        caller: &Caller,
        token: &Secret,
        question: &AccessQuestion,
    ) -> Result<Result<Known, AccessAnswer>> {
        if self.prefixes.looks_like_api_key(token.expose()) {
            return match self.authenticate_key(caller, token, question.source).await {
                Ok(client) => Ok(Ok(Known::by_key(client))),
                Err(Error::InvalidClient) => Ok(Err(unknown(Outcome::InvalidToken, MAX_AGE))),
                Err(Error::RateLimited { retry_after, .. }) => Ok(Err(AccessAnswer {
                    retry_after: Some(retry_after),
                    ..unknown(Outcome::TooManyFailures, Duration::ZERO)
                })),
                // One source's keys must not spoil the answers to others of the same batch.
                Err(Error::Overloaded { retry_after, .. }) => Ok(Err(AccessAnswer {
                    retry_after: Some(retry_after),
                    ..unknown(Outcome::Overloaded, Duration::ZERO)
                })),
                Err(error) => Err(error),
            };
        }
        Ok(match self.token(token.expose()).await? {
            Token::Live(believed, client) => Ok(Known::by_token(believed, client)),
            Token::Expired => Err(unknown(Outcome::Expired, FINAL_AGE)),
            Token::Revoked => Err(unknown(Outcome::Revoked, FINAL_AGE)),
            Token::Invalid => Err(unknown(Outcome::InvalidToken, MAX_AGE)),
        })
    }
}

impl Known {
    fn by_key(client: Arc<Client>) -> Self {
        let principal = Principal {
            credential: client.name.clone(),
            roles: client.roles.to_vec(),
            scopes: client.scopes.clone(),
            token_id: None,
            expires_at: client.expires_at(),
        };
        Self { client, principal, token: None }
    }

    fn by_token(token: Arc<Believed>, client: Arc<Client>) -> Self {
        let principal = Principal {
            credential: client.name.clone(),
            roles: token.roles.clone(),
            scopes: token.scopes.clone(),
            expires_at: Timestamp::from_second(token.claims.exp).ok().map(Moment::from),
            token_id: Some(token.claims.jti.clone()),
        };
        Self { client, principal, token: Some(token) }
    }

    /// Whether the token is for this audience. A key is for all that its tokens could be for.
    fn is_for(&self, audience: &Audience) -> bool {
        match &self.token {
            Some(token) => token.claims.aud.as_slice().iter().any(|one| one == audience.as_str()),
            None => self.client.tenant.settings.allows_audience(audience),
        }
    }

    /// The limits of a rule: of one application at a time.
    fn limits_of(&self, rule: &Endpoint) -> Option<LimitsOf> {
        rule.limits.map(|limits| {
            let name = format!("{} {} of {}", rule.method, rule.path, self.client.subject);
            let life = self.client.application_life;
            LimitsOf { level: LimitLevel::Endpoint, name, life, limits }
        })
    }

    fn answer(&self, outcome: Outcome) -> AccessAnswer {
        AccessAnswer {
            principal: Some(self.principal.clone()),
            max_age: if outcome == Outcome::MalformedPath { FINAL_AGE } else { MAX_AGE },
            ..unknown(outcome, MAX_AGE)
        }
    }

    /// How long it may be used that this is allowed: not beyond the end of the token.
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
    }
}
