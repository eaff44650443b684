//! Token exchange (RFC 8693): an access token or API key of an application, or the platform's token
//! of its workload, is exchanged by an application of its tenant for a token with fewer scopes, for
//! other audiences, or with a shorter life. The new token never allows more than the presented one,
//! and ends with it.

use std::sync::Arc;

use jiff::Timestamp;

use super::base::{Tokens, second};
use super::binding;
use super::draft::TokenDraft;
use crate::domain::{
    Client, Confirmation, ExchangeCeiling, Fault, GrantRequest, ScopeSet, TokenActor, TokenParent,
    TokenType,
};
use crate::error::Result;
use crate::secrets::Secret;
use crate::service::auth::AcceptedToken;
use crate::service::context::RequestContext;

/// The parameters of an exchange (RFC 8693, section 2.1).
#[derive(Clone, Debug)]
pub struct ExchangeRequest {
    /// Whose access it is.
    pub subject: PresentedToken,
    /// Who acts, if it is not the subject itself.
    pub actor: Option<PresentedToken>,
    /// The wanted type.
    pub requested: TokenType,
    pub wanted: GrantRequest,
}

/// A token, with the type that the client says it has.
#[derive(Clone, Debug)]
pub struct PresentedToken {
    pub token: Secret,
    pub declared: TokenType,
}

/// A parameter with a token.
#[derive(Clone, Copy, Debug)]
enum ExchangeParameter {
    Subject,
    Actor,
}

/// What is known of a presented token or key.
struct TokenOrigin {
    /// The client whose access it is.
    client: Arc<Client>,
    sub: String,
    client_id: String,
    roles: Vec<String>,
    scopes: ScopeSet,
    /// When it ends. `None`: never.
    expires_at: Option<Timestamp>,
    confirmation: Option<Confirmation>,
    act: Option<Box<TokenActor>>,
    /// What it rests on, itself included.
    parents: Vec<TokenParent>,
}

impl TokenOrigin {
    /// The client's own access, with what the client authenticates with. That ends then, if the
    /// client does not end before.
    fn of(client: Arc<Client>, end: Option<Timestamp>, now: Timestamp) -> Self {
        // As long as a token that the client itself gets.
        let longest = client.token_end(now);
        Self {
            sub: client.subject.to_string(),
            client_id: client.name.credential.to_string(),
            roles: client.role_ids(),
            scopes: client.scopes.clone(),
            expires_at: Some(end.map_or(longest, |end| end.min(longest))),
            confirmation: None,
            act: None,
            parents: vec![TokenParent::client(&client.revocation_keys())],
            client,
        }
    }
}

impl ExchangeParameter {
    fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject_token",
            Self::Actor => "actor_token",
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Subject => "subject_token_type",
            Self::Actor => "actor_token_type",
        }
    }
}

impl Tokens {
    /// What the client gets for the presented token, or an error. A wrong token is an
    /// `invalid_request` (RFC 8693, section 2.2.2), whatever is wrong with it.
    pub(super) async fn exchanged(
        &self,
        context: &RequestContext<'_>,
        client: &Arc<Client>,
        request: ExchangeRequest,
        now: Timestamp,
    ) -> Result<TokenDraft> {
        let ExchangeRequest { subject, actor, requested, wanted } = request;
        // First what needs no look at the tokens: a client that may not exchange them learns
        // nothing about them.
        let targets = client.exchange_targets(wanted.audiences)?;
        let subject =
            self.origin(context, client, ExchangeParameter::Subject, subject, now).await?;
        let actor = match actor {
            Some(actor) => {
                Some(self.origin(context, client, ExchangeParameter::Actor, actor, now).await?)
            }
            None => None,
        };
        if actor.as_ref().is_some_and(|actor| actor.act.is_some()) {
            let fault = Fault::new("must not have an actor of its own: its claim act");
            return Err(fault.of(ExchangeParameter::Actor.name()));
        }
        let ends = [subject.expires_at, actor.as_ref().and_then(|actor| actor.expires_at)];
        let ceiling = ExchangeCeiling {
            scopes: &subject.scopes,
            expires_at: ends.into_iter().flatten().min(),
        };
        let grant = client.grant_exchange(targets, wanted.scopes, &ceiling, now)?;
        let origins = [Some(&subject), actor.as_ref()].into_iter().flatten();
        let bound = origins.filter_map(|origin| origin.confirmation.as_ref());
        let confirmation = binding::of_new_token(context, client, bound)?;
        let (act, of_actor) = match actor {
            Some(TokenOrigin { sub, client_id, parents, .. }) => {
                (Some(Box::new(TokenActor { sub, client_id, act: subject.act })), parents)
            }
            None => (subject.act, Vec::new()),
        };
        let own = TokenParent::client(&client.revocation_keys());
        let parents = TokenParent::of_exchange(subject.parents, of_actor, own)
            .map_err(|fault| fault.of(ExchangeParameter::Subject.name()))?;
        Ok(TokenDraft {
            sub: subject.sub,
            roles: subject.roles,
            epochs: None,
            grant,
            confirmation,
            act,
            parents: Some(parents.into()),
            subject: Some(subject.client),
            requested: Some(requested),
        })
    }

    /// What a presented token is, decides how it is checked; the declared type must agree.
    async fn origin(
        &self,
        context: &RequestContext<'_>,
        by: &Arc<Client>,
        parameter: ExchangeParameter,
        PresentedToken { token, declared }: PresentedToken,
        now: Timestamp,
    ) -> Result<TokenOrigin> {
        declared
            .require(self.auth.kind_of(&token))
            .map_err(|fault| fault.of(parameter.type_name()))?;
        let origin = match self.auth.presented(context, by, &token, now).await? {
            Some(AcceptedToken::Token(token, client)) => {
                let claims = &token.claims;
                TokenOrigin {
                    sub: claims.sub.clone(),
                    client_id: claims.client_id.clone(),
                    roles: claims.roles.clone(),
                    scopes: token.scopes.clone(),
                    expires_at: Some(second(claims.exp)?),
                    confirmation: claims.cnf.as_deref().cloned(),
                    act: claims.act.clone(),
                    parents: token.as_parents(),
                    client,
                }
            }
            Some(AcceptedToken::Key(client)) => TokenOrigin::of(client, None, now),
            Some(AcceptedToken::Federated(client, end)) => TokenOrigin::of(client, Some(end), now),
            None => {
                let fault = Fault::new(
                    "must be an access token, API key or federated token of the client's tenant that \
                     is accepted now",
                );
                return Err(fault.of(parameter.name()));
            }
        };
        // An exchange is a use: a stolen token must not become one that is not bound.
        binding::require_parent(|| context.possession(), origin.confirmation.as_ref())
            .map_err(|fault| Fault::new(format!("is refused: {}", fault.into_str())))
            .map_err(|fault| fault.of(parameter.name()))?;
        Ok(origin)
    }
}
